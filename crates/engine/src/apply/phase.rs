//! Phases: what nodes say of their instances.

use std::sync::Arc;

use sheaf_model::{Instance, LeaveReason, NodeId, Phase};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{RecordPhases, Refusal, Reply};
use crate::state::Bucket;

impl Transaction<'_> {
    pub(super) fn record_phases(&mut self, record: &RecordPhases) -> Result<Reply, Refusal> {
        self.node(record.node)?;
        for instance in &record.instances {
            if instance.node == record.node {
                self.record_phase(instance);
            }
        }
        Ok(Reply::Done(self.revision))
    }

    fn record_phase(&mut self, reported: &Instance) {
        let (name, node) = (&reported.bucket, reported.node);
        let former = self.state.instances.get(name).and_then(|nodes| nodes.get(&node)).cloned();
        let bucket = self.state.buckets.get(name).cloned();
        if !self.is_current(reported, former.as_deref()) {
            return;
        }
        let mut instance = reported.clone();
        instance.cut();
        let before = former.as_ref().map_or("", |former| former.phase.as_str());
        let over = instance.phase == Phase::Stopped && !self.stays(&instance, bucket.as_deref());
        if former.as_deref() == Some(&instance) || (over && former.is_none()) {
            return;
        }
        if before != instance.phase.as_str()
            || former.as_ref().is_some_and(|f| f.restarts != instance.restarts)
        {
            let line = Line::new(kind_of(instance.phase), name).node(node);
            self.event(line.went(before, instance.phase.as_str()).because(&instance.message));
        }
        if over || bucket.is_none() {
            if former.is_some() {
                self.put(Change::InstanceGone(name.clone(), node));
            }
            return;
        }
        let failed = instance.phase == Phase::Failed;
        let message = instance.message.clone();
        let revision = instance.revision;
        let fails = failed || instance.phase == Phase::Backoff;
        self.put(Change::Instance(Arc::new(instance)));
        if let (true, Some(bucket)) = (fails, &bucket) {
            self.fails_rollout(bucket, node, revision, &message);
        }
        if failed && let Some(bucket) = self.state.buckets.get(name).cloned() {
            self.gave_up(&bucket, node, revision, message);
        }
    }

    /// Whether a report is about what holds now: a single-node one under the epoch bound to that node, a multi-node
    /// one of a bucket that is multi-node. The end of what is recorded is always of interest.
    fn is_current(&self, reported: &Instance, former: Option<&Instance>) -> bool {
        let ends_recorded =
            reported.phase == Phase::Stopped && former.is_some_and(|former| former.epoch == reported.epoch);
        let bound = self.state.bindings.get(&reported.bucket);
        let current = match reported.epoch {
            Some(epoch) => bound.is_some_and(|b| b.node == reported.node && b.epoch == epoch),
            None => {
                let bucket = self.state.buckets.get(&reported.bucket);
                bucket.is_none_or(|bucket| bucket.current.spec.multi_node)
            }
        };
        ends_recorded || current
    }

    /// A program that ended as wanted stays on record while the bucket still wants it there.
    fn stays(&self, instance: &Instance, bucket: Option<&Bucket>) -> bool {
        let Some(bucket) = bucket else { return false };
        if bucket.is_off() {
            return false;
        }
        match instance.epoch {
            None => {
                bucket.current.spec.multi_node && instance.exit.is_some_and(sheaf_model::Exit::is_success)
            }
            Some(epoch) => (self.state.bindings.get(&instance.bucket))
                .is_some_and(|binding| binding.epoch == epoch && binding.leaving.is_none()),
        }
    }

    /// The node is left out until the next update, resume or restart; a single-node bucket leaves it.
    fn gave_up(&mut self, bucket: &Bucket, node: NodeId, revision: sheaf_model::Revision, message: String) {
        if revision < bucket.basis_for(node) {
            return; // It gave up on something that was changed meanwhile.
        }
        if !bucket.gave_up.contains_key(&node) {
            let mut bucket = bucket.clone();
            bucket.gave_up.insert(node, message.clone());
            self.put(Change::Bucket(Arc::new(bucket)));
        }
        if !bucket.current.spec.multi_node {
            self.mark_leaving(bucket.name(), LeaveReason::GaveUp(message));
        }
    }
}

const fn kind_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "instance.pending",
        Phase::Starting => "instance.starting",
        Phase::Running => "instance.running",
        Phase::Stopping => "instance.stopping",
        Phase::Backoff => "instance.backoff",
        Phase::Failed => "instance.failed",
        Phase::Stopped => "instance.stopped",
    }
}
