//! Trials: a bucket that runs once, apart from the real one, to see what its module makes of it.

use serde::{Deserialize, Serialize};

use crate::{Span, Timestamp};

/// What makes a bucket a trial. It is single-node, its module is told nothing of its life but the test, and it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Deleted by the leader then, by its clock on the wall, whoever asked for it is still there or not.
    pub until: Timestamp,
    /// How many objects its module is asked for; at least 1.
    pub max_objects: u64,
    /// How long it may run.
    pub max_time: Span,
}
