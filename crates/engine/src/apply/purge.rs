//! Purges: what a bucket has collected is thrown away by its module, once on every node where it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::{BucketName, Call, NodeId, Phase};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{OnBucket, RecordPurge, Refusal, Reply};
use crate::state::{Bucket, Purge};

/// What is kept of a failure's text, in bytes.
pub(crate) const FAILURE_MAX: usize = 1024;

impl Transaction<'_> {
    pub(super) fn purge(&mut self, on: &OnBucket) -> Result<Reply, Refusal> {
        let mut bucket = (*self.bucket(on)?).clone();
        let name = &on.bucket;
        let refused = |why: String| Err(Refusal::Precondition(why));
        if bucket.is_off() {
            let word = bucket.switch_word();
            return refused(format!(
                "bucket {name} is {word}: nothing of it runs that could be told; sheaf bucket resume {name} starts it"
            ));
        }
        let module = bucket.current.spec.module.clone();
        if !self.state.module(&module).is_some_and(|it| it.spec.takes(Call::Purge)) {
            return refused(format!(
                "bucket {name} has nothing to purge: module {module} says nothing of {} in its life_cycle",
                Call::Purge.as_str()
            ));
        }
        let waiting = self.run_by(name);
        if waiting.is_empty() {
            return refused(format!(
                "bucket {name} runs nowhere just now; sheaf bucket explain {name} says why"
            ));
        }
        bucket.purge = Some(Purge { revision: self.revision, waiting, failed: BTreeMap::new() });
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(Line::new("bucket.purging", name));
        Ok(Reply::Done(self.revision))
    }

    /// Where something of a bucket is alive, as far as is recorded.
    fn run_by(&self, name: &BucketName) -> BTreeSet<NodeId> {
        let instances = self.state.instances.get(name).into_iter().flatten();
        let alive = instances.filter(|(_, it)| !matches!(it.phase, Phase::Stopped | Phase::Failed));
        alive.map(|(node, _)| *node).collect()
    }

    pub(super) fn record_purge(&mut self, record: &RecordPurge) -> Result<Reply, Refusal> {
        let Some(bucket) = self.state.buckets.get(&record.bucket).cloned() else {
            return Ok(Reply::Unchanged(self.revision));
        };
        let mut bucket = (*bucket).clone();
        let revision = bucket.revision;
        let Some(purge) = bucket.purge.as_mut().filter(|purge| purge.revision == record.revision) else {
            return Ok(Reply::Unchanged(revision));
        };
        if !purge.waiting.remove(&record.node) {
            return Ok(Reply::Unchanged(revision));
        }
        let mut failure = record.failure.clone();
        failure.truncate(failure.floor_char_boundary(FAILURE_MAX));
        let kind = if failure.is_empty() { "bucket.purged" } else { "bucket.purge_failed" };
        if !failure.is_empty() {
            purge.failed.insert(record.node, failure.clone());
        }
        self.put(Change::Bucket(Arc::new(bucket)));
        self.event(Line::new(kind, &record.bucket).node(record.node).because(failure));
        Ok(Reply::Done(self.revision))
    }

    /// A node is gone for good: no purge waits for it any more.
    pub(super) fn purge_without(&mut self, node: NodeId) {
        let waits =
            |bucket: &&Arc<Bucket>| bucket.purge.as_ref().is_some_and(|it| it.waiting.contains(&node));
        let waiting: Vec<Arc<Bucket>> = self.state.buckets.values().filter(waits).cloned().collect();
        for bucket in waiting {
            let mut bucket = (*bucket).clone();
            if let Some(purge) = &mut bucket.purge {
                purge.waiting.remove(&node);
                purge.failed.insert(node, "the node is gone".to_owned());
            }
            self.put(Change::Bucket(Arc::new(bucket)));
        }
    }
}

#[cfg(test)]
mod tests;
