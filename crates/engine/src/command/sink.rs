//! What can be asked about sinks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{Revision, SinkName, SinkSpec, Term};

/// See [`crate::Command::Sink`]. New variants are added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SinkCommand {
    /// Registers a sink, or changes it.
    Put(Arc<SinkSpec>),
    /// Deletes a sink.
    Delete(SinkName),
    /// How deliveries went since the last record; verified when applied.
    Record(RecordSink),
}

/// See [`SinkCommand::Record`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordSink {
    /// The sink.
    pub name: SinkName,
    /// When it was created; another: stale, as one of the same name was deleted.
    pub created: Revision,
    /// The term of the leader that delivers; another: stale.
    pub term: Term,
    /// Where its cursor is now; less than it was: stale.
    pub cursor: Revision,
    /// How many events were delivered.
    pub delivered: u64,
    /// History between these, without the first, was dropped before it was delivered.
    pub missed: Option<(Revision, Revision)>,
    /// How it went last.
    pub outcome: SinkOutcome,
}

/// How deliveries to a sink went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkOutcome {
    /// There was nothing that it wants.
    Nothing,
    /// Well.
    Delivered,
    /// Badly.
    Failed {
        /// So often in a row.
        failures: u32,
        /// The last time, for people.
        why: String,
    },
}
