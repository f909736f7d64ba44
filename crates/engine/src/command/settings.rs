//! What can be asked about the settings that hold for all nodes.

use serde::{Deserialize, Serialize};
use sheaf_model::{Revision, Setting, Term};

/// See [`crate::Command::Settings`]. New variants are added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SettingsCommand {
    /// Changes those named, in this order, and no other: two who change different ones do not undo each other.
    Change(Vec<Setting>),
    /// Every lease that was given before the lease changed last is over; verified when applied.
    Settle(SettleLease),
}

/// See [`SettingsCommand::Settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleLease {
    /// The change meant; another was made since: stale.
    pub changed: Revision,
    /// The term of the decision; another: stale.
    pub term: Term,
}
