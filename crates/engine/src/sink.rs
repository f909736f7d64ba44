//! Sinks as the replicated state holds them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{Revision, SinkSpec, Timestamp};

pub use crate::apply::check_sink as check;

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// What was asked for.
    pub spec: Arc<SinkSpec>,
    /// When that last changed.
    pub revision: Revision,
    /// When that was, for people.
    pub at: Timestamp,
    /// When it was created: it is told of what happened since.
    pub created: Revision,
    /// Everything up to here is delivered, was not wanted, or is missed.
    pub cursor: Revision,
    /// Events delivered.
    pub delivered: u64,
    /// When a delivery last succeeded.
    pub last_success: Option<Timestamp>,
    /// Deliveries fail.
    pub failing: Option<SinkFailing>,
    /// How often history was dropped before it was delivered.
    pub missed: u64,
    /// What of it was dropped last: between these, without the first.
    pub missed_last: Option<(Revision, Revision)>,
}

/// Deliveries that fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkFailing {
    /// By the leader's clock.
    pub since: Timestamp,
    /// In a row, as of the last record.
    pub failures: u32,
    /// The last of them, for people.
    pub why: String,
}
