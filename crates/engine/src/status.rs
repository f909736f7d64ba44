//! Answers for people, derived from the replicated state and, on the leader, from its sessions.

mod authority;
mod bucket;
mod explain;
mod job;
mod module;
mod node;
mod texts;

use sheaf_model::Moment;

use crate::sessions::Sessions;
use crate::state::State;

/// What answers are derived from.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// What the cluster agreed on.
    pub state: &'a State,
    /// What the leader heard; none on another member, whose answers then lack verdicts and load.
    pub sessions: Option<&'a Sessions>,
    /// Now, by the clock that `sessions` uses.
    pub now: Moment,
}

#[cfg(test)]
mod tests;
