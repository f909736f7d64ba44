//! Events: lines of history.

use serde::{Deserialize, Serialize};

use crate::{Revision, Timestamp};

/// One thing that happened. Ordered by revision, then by its place among those of that revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the log.
    pub revision: Revision,
    /// Place among the events of that revision, from 0.
    pub n: u32,
    /// When the leader proposed what caused it.
    pub at: Timestamp,
    /// What happened: `SUBJECT.VERB`, e.g. `bucket.updated`, `bucket.bound`, `instance.running`, `node.lost`.
    pub kind: String,
    /// Of what: a bucket's path, a module, a node's name.
    pub subject: String,
    /// Who caused it.
    pub actor: String,
    /// The node concerned; may be empty.
    pub node: String,
    /// State before; may be empty.
    pub before: String,
    /// State after; may be empty.
    pub after: String,
    /// For people.
    pub message: String,
}
