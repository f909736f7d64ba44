//! What applying a bucket would change, and what every node would say of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::Bucket;
use sheaf_engine::status::Sight;
use sheaf_model::session::ToNode;
use sheaf_model::view::{GateView, NodeExplanation};
use sheaf_model::{
    BucketName, GateOutcome, ModuleRef, ModuleSpec, Node, NodeId, NodeStatus, Role, Verdict, document,
};
use sheaf_wire::bucket::{Plan, PlanBucket};
use sheaf_wire::{ApiError, Caller};

use crate::Control;
use crate::propose::refused;

/// How long nodes are waited for: as long as a check may take by default, and a little.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

impl Control {
    pub(crate) async fn plan_bucket(&self, caller: &Caller, ask: PlanBucket) -> Result<Plan, ApiError> {
        let PlanBucket { put, modules } = ask;
        let is_known = |spec: &ModuleSpec| {
            let module = ModuleRef { name: spec.name.clone(), version: Some(spec.version.clone()) };
            self.see_rows(|sight| sight.state.module(&module).is_some_and(|known| *known.spec == *spec))
        };
        for module in &modules {
            // Nodes run its checks, whoever asks.
            if !is_known(module)? {
                caller.may(Role::Admin)?;
            }
        }
        let apply = sheaf_engine::Apply { modules, buckets: vec![put] };
        let warnings = self.warnings_of(&apply);
        self.check_schemas(&apply)?;
        let outcome = self.outcomes_of(&apply)?.pop();
        let outcome = outcome.ok_or_else(|| ApiError::Internal("a plan without an outcome".to_owned()))?;
        let (spec, module, differences, then) = self.see(|sight| {
            let spec = sheaf_engine::registration::check(sight.state, &apply).map_err(refused)?.pop();
            let put = apply.buckets.first();
            let (Some(spec), Some(put)) = (spec, put) else {
                return Err(ApiError::Internal("a plan without a bucket".to_owned()));
            };
            let brought = apply.modules.iter().find(|module| {
                module.name == spec.module.name && Some(&module.version) == spec.module.version.as_ref()
            });
            let known = || sight.state.module(&spec.module).map(|module| module.spec.clone());
            let module = brought.map(|module| Arc::new(module.clone())).or_else(known);
            let module =
                module.ok_or_else(|| ApiError::NotFound(format!("there is no module {}", spec.module)))?;
            let known = sight.state.buckets.get(&spec.name);
            let before = known.map(|b| document::bucket_value(&b.newest().spec, b.suspended, None));
            let suspended = put.suspended.unwrap_or_else(|| known.is_some_and(|bucket| bucket.suspended));
            let after = document::bucket_value(&spec, suspended, None);
            let differences = document::differences(&before.unwrap_or(serde_json::json!({})), &after);
            let then = Then {
                name: spec.name.clone(),
                multi_node: spec.multi_node,
                off: off_after(known.map(|known| &**known), suspended),
                gave_up_stays: known.is_some_and(|known| *known.newest().spec == spec && !known.suspended),
            };
            Ok((spec, module, differences, then))
        })??;
        let running: std::collections::BTreeSet<NodeId> = self.see_rows(|sight| {
            let nodes = sight.state.instances.get(&spec.name).into_iter().flatten();
            nodes.filter(|(_, i)| i.phase == sheaf_model::Phase::Running).map(|(node, _)| *node).collect()
        })?;
        let verdicts = self.judge(Arc::new(spec), module).await;
        let nodes = self.see(|sight| {
            let nodes = sight.state.nodes.values().filter(|node| node.status != NodeStatus::Left);
            let explained = nodes.map(|node| NodeExplanation {
                node: node.facts.name.to_string(),
                status: sight.node_status(node).to_owned(),
                eligible: verdicts.get(&node.id).is_some_and(Verdict::eligible),
                running: running.contains(&node.id),
                gates: gates(verdicts.get(&node.id)),
                obstacle: then.obstacle(sight, node),
                node_id: node.id.0,
            });
            let mut explained: Vec<NodeExplanation> = explained.collect();
            explained.sort_by(|a, b| a.node.cmp(&b.node));
            explained
        })?;
        Ok(Plan { outcome, differences, nodes, warnings })
    }

    /// Asks every connected node; those that do not answer in time are missing.
    async fn judge(
        &self,
        spec: Arc<sheaf_model::BucketSpec>,
        module: Arc<ModuleSpec>,
    ) -> BTreeMap<NodeId, Verdict> {
        let (question, asked, mut answers) = self.live.lock().ask_all(|question| ToNode::Judge {
            question,
            spec: spec.clone(),
            module: module.clone(),
            fetch: false,
        });
        let mut verdicts = BTreeMap::new();
        let collect = async {
            while verdicts.len() < asked
                && let Some((node, verdict)) = answers.recv().await
            {
                verdicts.insert(node, verdict);
            }
        };
        // Too late is an answer too: the node is shown as not having answered.
        let _ = tokio::time::timeout(ANSWER_WITHIN, collect).await;
        self.live.lock().forget(question);
        verdicts
    }
}

/// What a bucket would be once the plan is applied, as far as that keeps it from nodes whatever their gates say.
struct Then {
    name: BucketName,
    multi_node: bool,
    /// Why it would run nowhere, if so.
    off: Option<String>,
    /// Nothing would be changed that lets nodes try again that gave up.
    gave_up_stays: bool,
}

impl Then {
    fn obstacle(&self, sight: Sight<'_>, node: &Node) -> String {
        if let Some(off) = &self.off {
            return off.clone();
        }
        match sight.state.buckets.get(&self.name).filter(|_| self.gave_up_stays) {
            Some(known) => sight.obstacle(known, node),
            None => sight.closed(&self.name, self.multi_node, node),
        }
    }
}

/// Why a bucket would run nowhere after a change that leaves it suspended or not; none: it would be on. One that its module
/// stopped stays so.
fn off_after(known: Option<&Bucket>, suspended: bool) -> Option<String> {
    if suspended {
        return Some("the bucket is suspended".to_owned());
    }
    let until = known.filter(|known| !known.suspended)?.quarantined_until()?;
    Some(format!("the bucket is in quarantine until {until}"))
}

fn gates(verdict: Option<&Verdict>) -> Vec<GateView> {
    let silent = std::array::from_fn(|_| GateOutcome::unknown("not answered"));
    GateView::all(verdict.map_or(&silent, |verdict| &verdict.gates))
}
