//! Why a bucket runs where it runs, and why not elsewhere: every node, every gate, every reason.

use sheaf_model::view::{DecisionView, Explanation, GateView, NodeExplanation};
use sheaf_model::{BucketName, GateOutcome, Node, NodeStatus};

use super::{Sight, texts};
use crate::state::Bucket;

impl Sight<'_> {
    /// `bucket explain`. Reasons are cut where they would be too long for a message together.
    pub fn explain(&self, bucket: &Bucket) -> Explanation {
        let (state, message) = self.bucket_state(bucket);
        let nodes = self.state.nodes.values().filter(|node| node.status != NodeStatus::Left);
        let mut nodes: Vec<NodeExplanation> = nodes.map(|node| self.explain_node(bucket, node)).collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        let gates = nodes.iter_mut().flat_map(|node| &mut node.gates);
        texts::fit(gates.map(|gate| &mut gate.reason), texts::MOST);
        Explanation {
            name: bucket.name().to_string(),
            state,
            nodes,
            decision: self.decision(bucket),
            message,
        }
    }

    fn explain_node(&self, bucket: &Bucket, node: &Node) -> NodeExplanation {
        let revision = bucket.release_for(node.id).revision;
        let verdict = self.sessions.and_then(|s| s.verdict(bucket.name(), revision, node.id));
        let unknown;
        let gates = match verdict {
            Some(verdict) => &verdict.gates,
            None => {
                unknown = std::array::from_fn(|_| GateOutcome::unknown(self.no_answer(node)));
                &unknown
            }
        };
        NodeExplanation {
            node: node.facts.name.to_string(),
            status: self.node_status(node).to_owned(),
            eligible: verdict.is_some_and(|verdict| verdict.eligible()) && node.status.is_alive(),
            running: self.runs_on(bucket, node.id),
            gates: GateView::all(gates),
            obstacle: self.obstacle(bucket, node),
            node_id: node.id.0,
        }
    }

    /// What keeps the bucket from a node that is alive, whatever its gates say; empty: nothing.
    pub fn obstacle(&self, bucket: &Bucket, node: &Node) -> String {
        match bucket.gave_up.get(&node.id) {
            Some(why) if node.status.is_alive() => format!(
                "its instance there gave up: {why}; it is tried there again once the bucket is changed or restarted, or by \
                 `sheaf bucket resume {}`",
                bucket.name()
            ),
            _ => self.closed(bucket.name(), bucket.current.spec.multi_node, node),
        }
    }

    /// The same of what the node's own status keeps away, also of a bucket that is not registered yet.
    pub fn closed(&self, bucket: &BucketName, multi_node: bool, node: &Node) -> String {
        if !node.status.is_alive() {
            return String::new(); // Its gates do not answer either.
        }
        if let Some(drain) = node.drain {
            return match multi_node && drain.keep_multi_node {
                true => String::new(),
                false => "the node is being drained".to_owned(),
            };
        }
        let bound = self.state.bindings.get(bucket).is_some_and(|binding| binding.node == node.id);
        match node.status {
            NodeStatus::Joining | NodeStatus::Restarting if !multi_node && !bound => {
                format!("the node is {}: nothing is placed there until it is ready", node.status.as_str())
            }
            _ => String::new(),
        }
    }

    /// Why there is no answer of this node.
    fn no_answer(&self, node: &Node) -> String {
        match self.sessions {
            None => "not known here: only the leader has the nodes' answers".to_owned(),
            Some(_) if !node.status.is_alive() => format!("the node is {}", node.status.as_str()),
            Some(sessions) if !sessions.is_connected(node.id) => "the node is not connected now".to_owned(),
            Some(sessions) if sessions.is_restarting(node.id) => "its agent is restarting".to_owned(),
            Some(_) => "not answered yet".to_owned(),
        }
    }

    fn decision(&self, bucket: &Bucket) -> Option<DecisionView> {
        let binding = self.state.bindings.get(bucket.name()).filter(|_| !bucket.current.spec.multi_node)?;
        let named = |(node, why): &(sheaf_model::NodeId, String)| {
            let name = self.state.node_name(*node);
            if why.starts_with(&name) { why.clone() } else { format!("{name}: {why}") }
        };
        Some(DecisionView {
            chosen: self.state.node_name(binding.node),
            epoch: binding.epoch.0,
            at: binding.since.to_string(),
            why: binding.decision.why.clone(),
            runners_up: binding.decision.runners_up.iter().map(named).collect(),
            chosen_id: binding.node.0,
        })
    }
}
