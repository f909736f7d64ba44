//! A submit under way: items come in chunks, and nobody sees the job before the last.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::fingerprint::{FNV_BASIS, fnv};
use sheaf_model::{Item, JobId, JobSpec, Timestamp};

pub use crate::apply::check_job as check;

/// A hash of items in their order, whatever chunks they come in: tells whether a repeated submit is the same one. No
/// protection against who wants two to be alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(FNV_BASIS)
    }
}

impl Digest {
    /// Goes on from where one was left.
    pub const fn at(hash: u64) -> Self {
        Self(hash)
    }

    /// Adds the next item.
    #[must_use]
    pub fn and(self, item: &Item) -> Self {
        let value = item.value.as_str();
        let mut hash = fnv(self.0, &(value.len() as u64).to_le_bytes());
        hash = fnv(hash, value.as_bytes());
        hash = fnv(hash, &(item.depends_on.len() as u64).to_le_bytes());
        Self(item.depends_on.iter().fold(hash, |hash, on| fnv(hash, &on.to_le_bytes())))
    }

    /// Adds them all.
    #[must_use]
    pub fn and_all(self, items: &[Item]) -> Self {
        items.iter().fold(self, Self::and)
    }

    /// As it is kept with the job.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// A chunk of a job's items. Lives only in the store; memory keeps what depends on what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// The job.
    pub job: JobId,
    /// The subtask that the first of them is.
    pub first: u32,
    /// In order.
    pub items: Arc<Vec<Item>>,
    /// When they came.
    pub at: Timestamp,
}

/// A chunk that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// How many items.
    pub count: u32,
    /// Of its items alone.
    pub digest: u64,
}

/// A submit under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// The number of the job that it becomes.
    pub id: JobId,
    /// What was asked for, the module's version fixed.
    pub spec: Arc<JobSpec>,
    /// So many subtasks it may have.
    pub most: u32,
    /// The subtask that the next item is.
    pub next: u32,
    /// Of all items so far.
    pub digest: u64,
    /// What depends on what, so far, sorted.
    pub needs: Vec<(u32, u32)>,
    /// By the first item of each.
    pub chunks: BTreeMap<u32, Chunk>,
    /// When it was last heard of.
    pub at: Timestamp,
}

impl Submit {
    /// Adds the next chunk.
    pub(crate) fn add(&mut self, chunk: &Items) {
        let count = u32::try_from(chunk.items.len()).unwrap_or(u32::MAX);
        for (subtask, item) in (chunk.first..).zip(chunk.items.iter()) {
            self.needs.extend(item.depends_on.iter().map(|on| (subtask, *on)));
        }
        let digest = Digest::default().and_all(&chunk.items).value();
        self.chunks.insert(chunk.first, Chunk { count, digest });
        self.digest = Digest::at(self.digest).and_all(&chunk.items).value();
        self.next = chunk.first.saturating_add(count);
        self.at = chunk.at;
    }
}
