//! Buckets: documents, the switch, restart, deletion.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{
    BucketName, BucketSpec, LeaveReason, NodeId, NodeStatus, Phase, PutBucket, Residue, Revision,
};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Apply, OnBucket, Outcome, OutcomeVerb, Refusal, Reply};
use crate::registration;
use crate::state::{Bucket, Release};

impl Transaction<'_> {
    pub(super) fn apply_documents(&mut self, apply: &Apply) -> Result<Reply, Refusal> {
        let checked = registration::check(self.state, apply)?;
        let mut outcomes: Vec<Outcome> = apply.modules.iter().map(|spec| self.put_module(spec)).collect();
        for (put, spec) in apply.buckets.iter().zip(checked) {
            outcomes.push(self.put_bucket(put, spec));
        }
        Ok(Reply::Applied(outcomes))
    }

    /// Registers or changes a bucket; `spec` is what was asked with the module's version fixed.
    fn put_bucket(&mut self, put: &PutBucket, spec: BucketSpec) -> Outcome {
        let name = spec.name.clone();
        let document = format!("Bucket {name}");
        let former = self.state.buckets.get(&name).cloned();
        let suspended = put.suspended.unwrap_or_else(|| former.as_ref().is_some_and(|b| b.suspended));
        let Some(former) = former else {
            let release = self.release(spec);
            self.put(Change::Release(name.clone(), release.clone()));
            self.put(Change::Bucket(Arc::new(Bucket {
                revision: self.revision,
                created: self.revision,
                restarted: Revision(0),
                current: release,
                next: None,
                suspended,
                gave_up: BTreeMap::new(),
                purge: None,
            })));
            let state = if suspended { "suspended" } else { "active" };
            self.event(Line::new("bucket.created", &name).went("", state));
            return Outcome { document, verb: OutcomeVerb::Created, revision: self.revision };
        };
        let respecified = *former.current.spec != spec;
        if !respecified && former.suspended == suspended {
            return Outcome { document, verb: OutcomeVerb::Unchanged, revision: former.revision };
        }
        if respecified {
            self.respecify(&former, spec);
        }
        if suspended != former.suspended {
            self.switch(&name, suspended);
        }
        Outcome { document, verb: OutcomeVerb::Updated, revision: self.revision }
    }

    fn release(&self, spec: BucketSpec) -> Release {
        Release {
            revision: self.revision,
            spec: Arc::new(spec),
            at: self.proposal.at,
            actor: self.proposal.actor.to_string(),
        }
    }

    fn respecify(&mut self, former: &Bucket, spec: BucketSpec) {
        let name = former.name().clone();
        let was_multi = former.current.spec.multi_node;
        let multi = spec.multi_node;
        let release = self.release(spec);
        let before = former.current.revision;
        self.put(Change::Release(name.clone(), release.clone()));
        self.put(Change::Bucket(Arc::new(Bucket {
            current: release,
            revision: self.revision,
            gave_up: BTreeMap::new(),
            ..former.clone()
        })));
        self.event(Line::new("bucket.updated", &name).went(before, self.revision));
        match (was_multi, multi) {
            (true, false) => self.end_multi_node(&name),
            (false, true) => self.mark_leaving(&name, LeaveReason::MultiNode),
            _ => {}
        }
    }

    /// Leaves behind, by name, every registered node that may run something of this bucket.
    pub(super) fn end_multi_node(&mut self, name: &BucketName) {
        let mut nodes = self.state.residues.get(name).map(|r| r.nodes.clone()).unwrap_or_default();
        let registered = self.state.nodes.values().filter(|node| node.status != NodeStatus::Left);
        nodes.extend(registered.map(|node| (node.id, self.revision)));
        if !nodes.is_empty() {
            self.put(Change::Residue(Residue { bucket: name.clone(), nodes }));
        }
    }

    /// Marks the bucket's binding, if it has one that is not leaving yet.
    pub(super) fn mark_leaving(&mut self, name: &BucketName, reason: LeaveReason) {
        let Some(binding) = self.state.bindings.get(name) else { return };
        if binding.leaving.is_some() {
            return;
        }
        let mut binding = (**binding).clone();
        let line = Line::new("bucket.leaving", name).node(binding.node).because(&reason);
        binding.leaving = Some(reason);
        let epoch = binding.epoch;
        self.put(Change::Binding(Arc::new(binding)));
        self.event(line.went(epoch, epoch));
    }

    fn switch(&mut self, name: &BucketName, suspended: bool) {
        let Some(bucket) = self.state.buckets.get(name) else { return };
        let mut bucket = (**bucket).clone();
        bucket.suspended = suspended;
        bucket.revision = self.revision;
        if !suspended {
            bucket.restarted = self.revision;
            bucket.gave_up.clear();
        }
        self.put(Change::Bucket(Arc::new(bucket)));
        if suspended {
            self.event(Line::new("bucket.suspended", name).went("active", "suspended"));
            self.mark_leaving(name, LeaveReason::Suspended);
            self.forget_ended(name);
        } else {
            self.event(Line::new("bucket.resumed", name).went("suspended", "active"));
        }
    }

    /// Drops the records of instances that are over.
    fn forget_ended(&mut self, name: &BucketName) {
        let ended: Vec<NodeId> = (self.state.instances.get(name).into_iter().flatten())
            .filter(|(_, instance)| matches!(instance.phase, Phase::Stopped | Phase::Failed))
            .map(|(node, _)| *node)
            .collect();
        for node in ended {
            self.put(Change::InstanceGone(name.clone(), node));
        }
    }

    pub(super) fn suspend(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let bucket = self.bucket(on)?;
        if bucket.suspended {
            return Ok(Reply::Unchanged(bucket.revision));
        }
        self.switch(&on.bucket, true);
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn resume(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let bucket = self.bucket(on)?;
        if !bucket.suspended && bucket.gave_up.is_empty() {
            return Ok(Reply::Unchanged(bucket.revision));
        }
        self.switch(&on.bucket, false);
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn restart(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let mut bucket = (*self.bucket(on)?).clone();
        if bucket.suspended {
            let name = &on.bucket;
            return Err(Refusal::Precondition(format!(
                "bucket {name} is suspended; sheaf bucket resume {name} starts it"
            )));
        }
        bucket.restarted = self.revision;
        bucket.revision = self.revision;
        bucket.gave_up.clear();
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(Line::new("bucket.restarted", &on.bucket));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn delete_bucket(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let bucket = self.bucket(on)?;
        let name = on.bucket.clone();
        if bucket.current.spec.multi_node {
            self.end_multi_node(&name);
        }
        self.mark_leaving(&name, LeaveReason::Deleted);
        let nodes: Vec<NodeId> =
            self.state.instances.get(&name).into_iter().flatten().map(|(node, _)| *node).collect();
        for node in nodes {
            self.put(Change::InstanceGone(name.clone(), node));
        }
        self.put(Change::BucketGone(name.clone()));
        self.event(Line::new("bucket.deleted", &name).went(bucket.current.revision, ""));
        Ok(Reply::Done(self.revision))
    }

    /// The bucket a verb is about, if it exists and is at the revision asked for.
    pub(super) fn bucket(&self, on: &OnBucket) -> Result<Arc<Bucket>, Refusal> {
        let name = &on.bucket;
        let Some(bucket) = self.state.buckets.get(name) else {
            return Err(Refusal::NotFound("bucket".to_owned(), name.to_string()));
        };
        match on.base {
            Some(base) if base != bucket.revision => Err(registration::moved_on(name, base, bucket.revision)),
            _ => Ok(bucket.clone()),
        }
    }
}
