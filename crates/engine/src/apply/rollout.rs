//! Rollouts: nodes are released to a bucket's next release, some at a time, until all are or one of them fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_model::{BucketName, NodeId, NodeStatus, Phase, Revision, Term};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{FinishRollout, Refusal, ReleaseNodes, Reply, Rollback, StopRollout};
use crate::reconcile;
use crate::registration;
use crate::state::{Bucket, Release, Rollout};

/// What becomes current and what next when a bucket goes on as `release`: all nodes at once, unless the bucket wants fewer
/// at a time and has instances that would notice.
///
/// A rollout under way gives way to the new one. Nodes that it had reached go on with what they run until it is their
/// turn again.
pub(super) fn begin(former: &Bucket, release: Release) -> (Release, Option<Rollout>) {
    let (was, is) = (&*former.newest().spec, &*release.spec);
    let noticed = reconcile::content(was) != reconcile::content(is)
        || was.node_list_rules != is.node_list_rules
        || former.next.is_some();
    let rolls = was.multi_node && is.multi_node && is.max_parallel.is_some() && !former.is_off() && noticed;
    if !rolls {
        return (release, None);
    }
    let next = Rollout { release, released: BTreeSet::new(), ran: BTreeSet::new(), stopped: None };
    (former.current.clone(), Some(next))
}

impl Bucket {
    /// Lets a rollout that stopped go on. False: none is stopped.
    pub(super) fn lift_stop(&mut self) -> bool {
        self.next.as_mut().and_then(|rollout| rollout.stopped.take()).is_some()
    }
}

impl Transaction<'_> {
    pub(super) fn release_nodes(&mut self, ask: &ReleaseNodes) -> Result<Reply, Refusal> {
        let mut bucket = self.rolling(&ask.bucket, ask.release, ask.term)?;
        let instances = self.state.instances.get(&ask.bucket);
        let runs = |node| {
            let instance = instances.and_then(|nodes| nodes.get(&node));
            instance.is_some_and(|it| !matches!(it.phase, Phase::Stopped | Phase::Failed))
        };
        let here = |node: &NodeId| self.state.nodes.get(node).is_some_and(|it| it.status != NodeStatus::Left);
        let nodes: BTreeSet<NodeId> = ask.nodes.iter().copied().filter(here).collect();
        let ran: Vec<NodeId> = nodes.iter().copied().filter(|node| runs(*node)).collect();
        let Some(rollout) = &mut bucket.next else { return Ok(Reply::Unchanged(ask.release)) };
        rollout.ran.extend(ran);
        rollout.released.extend(&nodes);
        self.put(Change::Bucket(Arc::new(bucket)));
        for node in nodes {
            self.event(Line::new("bucket.released", &ask.bucket).node(node).went("", ask.release));
        }
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn stop_rollout(&mut self, ask: &StopRollout) -> Result<Reply, Refusal> {
        let bucket = self.rolling(&ask.bucket, ask.release, ask.term)?;
        self.stop_at(bucket, ask.node, &ask.why);
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn finish_rollout(&mut self, ask: &FinishRollout) -> Result<Reply, Refusal> {
        let mut bucket = self.rolling(&ask.bucket, ask.release, ask.term)?;
        let Some(rollout) = bucket.next.take() else { return Ok(Reply::Unchanged(ask.release)) };
        let before = std::mem::replace(&mut bucket.current, rollout.release).revision;
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(Line::new("bucket.rolled_out", &ask.bucket).went(before, ask.release));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn rollback(&mut self, rollback: &Rollback) -> Result<Reply, Refusal> {
        let apply = crate::command::Apply { modules: Vec::new(), buckets: vec![rollback.put.clone()] };
        let mut checked = registration::check(self.state, &apply)?.into_iter();
        let Some(spec) = checked.next() else {
            return Err(Refusal::Stale("nothing to go back to".to_owned()));
        };
        let name = spec.name.clone();
        let Some(from) = self.state.buckets.get(&name).map(|bucket| bucket.newest().revision) else {
            return Err(Refusal::NotFound("bucket".to_owned(), name.to_string()));
        };
        let outcome = self.put_bucket(&rollback.put, spec);
        if outcome.revision < self.revision {
            return Ok(Reply::Unchanged(outcome.revision));
        }
        let why = format!("as it was at revision {}", rollback.to);
        self.event(Line::new("bucket.rolled_back", &name).went(from, self.revision).because(why));
        Ok(Reply::Done(self.revision))
    }

    /// An instance failed; if a rollout brought it, no further node is to follow.
    pub(super) fn fails_rollout(&mut self, bucket: &Bucket, node: NodeId, revision: Revision, how: &str) {
        let Some(rollout) = &bucket.next else { return };
        let brought = rollout.released.contains(&node) && revision >= rollout.release.revision;
        if brought && rollout.stopped.is_none() {
            self.stop_at(bucket.clone(), node, how);
        }
    }

    fn stop_at(&mut self, mut bucket: Bucket, node: NodeId, how: &str) {
        let why = format!("node {}: {how}", self.state.node_name(node));
        let (name, revision) = (bucket.name().clone(), bucket.newest().revision);
        if let Some(rollout) = &mut bucket.next {
            rollout.stopped = Some(why);
        }
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(
            Line::new("bucket.rollout_stopped", &name).node(node).went(revision, revision).because(how),
        );
    }

    /// The bucket, if it is being rolled out to this release and nobody has stopped that.
    fn rolling(&self, name: &BucketName, release: Revision, term: Term) -> Result<Bucket, Refusal> {
        self.in_term(term)?;
        let bucket = self.state.buckets.get(name).filter(|bucket| !bucket.is_off());
        let rolls = |rollout: &Rollout| rollout.release.revision == release && rollout.stopped.is_none();
        match bucket {
            Some(bucket) if bucket.next.as_ref().is_some_and(rolls) => Ok((**bucket).clone()),
            _ => Err(Refusal::Stale(format!("bucket {name} is not being rolled out to revision {release}"))),
        }
    }
}
