//! Buckets: documents, the switch, restart, deletion.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{
    BucketName, BucketSpec, LeaveReason, NodeId, NodeStatus, Phase, PutBucket, Residue, Revision, Trial,
};

use super::{Line, Transaction, rollout};
use crate::change::Change;
use crate::command::{Apply, OnBucket, Outcome, OutcomeVerb, Refusal, Reply};
use crate::registration;
use crate::state::{Bucket, Emergency, Release};

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
    pub(super) fn put_bucket(&mut self, put: &PutBucket, spec: BucketSpec) -> Outcome {
        let name = spec.name.clone();
        let document = format!("Bucket {name}");
        let former = self.state.buckets.get(&name).cloned();
        let suspended = put.suspended.unwrap_or_else(|| former.as_ref().is_some_and(|b| b.suspended));
        let Some(former) = former else {
            self.create(spec, suspended, None);
            let state = if suspended { "suspended" } else { "active" };
            self.event(Line::new("bucket.created", &name).went("", state));
            return Outcome { document, verb: OutcomeVerb::Created, revision: self.revision };
        };
        let respecified = *former.newest().spec != spec;
        if !respecified && former.suspended == suspended {
            return Outcome { document, verb: OutcomeVerb::Unchanged, revision: former.revision };
        }
        if respecified {
            self.respecify(&former, spec);
        }
        match (former.suspended, suspended) {
            (false, true) => self.switch_off(&name, None, None),
            (true, false) => self.switch_on(&name, ""),
            (true, true) | (false, false) => {}
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
        let before = former.newest().revision;
        self.put(Change::Release(name.clone(), release.clone()));
        let (current, next) = rollout::begin(former, release);
        self.put(Change::Bucket(Arc::new(Bucket {
            current,
            next,
            revision: self.revision,
            gave_up: BTreeMap::new(),
            again: BTreeMap::new(),
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

    /// Suspends it, or puts it into quarantine: by an operator, or in an emergency by the instance on a node.
    pub(super) fn switch_off(
        &mut self,
        name: &BucketName,
        emergency: Option<Emergency>,
        node: Option<NodeId>,
    ) {
        let Some(bucket) = self.state.buckets.get(name) else { return };
        let before = bucket.switch_word();
        let mut bucket = (**bucket).clone();
        bucket.suspended = !matches!(emergency, Some(Emergency::Quarantined { .. }));
        bucket.emergency = emergency;
        bucket.revision = self.revision;
        let (after, until) = (bucket.switch_word(), bucket.quarantined_until());
        let reason = bucket.emergency.as_ref().map(|emergency| emergency.reason().to_owned());
        self.put(Change::Bucket(Arc::new(bucket)));
        let kind = if until.is_some() { "bucket.quarantined" } else { "bucket.suspended" };
        let why = match (until, &reason) {
            (Some(until), Some(reason)) => format!("until {until}: {reason}"),
            (None, Some(reason)) => reason.clone(),
            (_, None) => String::new(),
        };
        let line = Line { node, ..Line::new(kind, name).went(before, after).because(why) };
        self.event(line);
        self.mark_leaving(name, reason.map_or(LeaveReason::Suspended, LeaveReason::Emergency));
        self.forget_ended(name);
    }

    /// Lets it run again, wherever it gave up before.
    pub(super) fn switch_on(&mut self, name: &BucketName, why: &str) {
        let Some(bucket) = self.state.buckets.get(name) else { return };
        let before = bucket.switch_word();
        let mut bucket = (**bucket).clone();
        bucket.suspended = false;
        bucket.emergency = None;
        bucket.revision = self.revision;
        bucket.restarted = self.revision;
        bucket.gave_up.clear();
        bucket.again.clear();
        bucket.lift_stop();
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(Line::new("bucket.resumed", name).went(before, "active").because(why));
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

    /// A bucket that was not there before.
    pub(super) fn create(&mut self, spec: BucketSpec, suspended: bool, trial: Option<Trial>) {
        let release = self.release(spec);
        self.put(Change::Release(release.spec.name.clone(), release.clone()));
        self.put(Change::Bucket(Arc::new(Bucket {
            revision: self.revision,
            created: self.revision,
            restarted: Revision(0),
            current: release,
            next: None,
            suspended,
            gave_up: BTreeMap::new(),
            again: BTreeMap::new(),
            emergency: None,
            purge: None,
            trial,
        })));
    }

    pub(super) fn suspend(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let bucket = self.bucket(on)?;
        if bucket.suspended {
            return Ok(Reply::Unchanged(bucket.revision));
        }
        self.switch_off(&on.bucket, None, None);
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn resume(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let bucket = self.bucket(on)?;
        if bucket.is_off() {
            self.switch_on(&on.bucket, "");
        } else if !self.try_again(&bucket) {
            return Ok(Reply::Unchanged(bucket.revision));
        }
        Ok(Reply::Done(self.revision))
    }

    /// Lets nodes that gave up begin anew, and a rollout that stopped go on. False: there is neither.
    fn try_again(&mut self, bucket: &Bucket) -> bool {
        let mut bucket = bucket.clone();
        let stopped = bucket.lift_stop();
        if bucket.gave_up.is_empty() && !stopped {
            return false;
        }
        let gave_up = std::mem::take(&mut bucket.gave_up);
        bucket.again.extend(gave_up.into_keys().map(|node| (node, self.revision)));
        bucket.revision = self.revision;
        let name = bucket.name().clone();
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(Line::new("bucket.resumed", &name).went("failed", "active"));
        true
    }

    pub(super) fn restart(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let mut bucket = (*self.bucket(on)?).clone();
        if bucket.is_off() {
            let (name, word) = (&on.bucket, bucket.switch_word());
            return Err(Refusal::Precondition(format!(
                "bucket {name} is {word}; sheaf bucket resume {name} starts it"
            )));
        }
        bucket.restarted = self.revision;
        bucket.revision = self.revision;
        bucket.gave_up.clear();
        bucket.again.clear();
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
        if self.state.objects.contains_key(&name) {
            self.put(Change::ObjectsGone(name.clone()));
        }
        self.put(Change::BucketGone(name.clone()));
        self.event(Line::new("bucket.deleted", &name).went(bucket.newest().revision, ""));
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
