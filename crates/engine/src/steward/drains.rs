//! Empties nodes: one bucket after the other, each only when it can go elsewhere; at the deadline all that is left.

use std::cell::OnceCell;

use sheaf_model::{Binding, LeaveReason, Moment, Node};

use super::{Due, Occupancy, leave, place};
use crate::sessions::Sessions;
use crate::state::State;

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, due: &mut Due) {
    let occupancy = OnceCell::new();
    let can_go = |binding: &Binding| {
        let Some(bucket) = state.buckets.get(&binding.bucket) else { return true };
        let occupancy = occupancy.get_or_init(|| Occupancy::count(state, sessions));
        place(sessions, bucket, occupancy, Some(binding.node)).is_some()
    };
    // A stand-in gives nothing up: a node that restarts is emptied when its agent is back.
    let is_emptied =
        |node: &&Node| node.drain.is_some() && node.status.is_alive() && !sessions.is_restarting(node.id);
    for node in state.nodes.values().filter(is_emptied) {
        let over = sessions.drain_over(node);
        let mut bound = state.bindings.values().filter(|binding| binding.node == node.id);
        if over.is_some_and(|over| now >= over) {
            let staying = bound.filter(|binding| binding.leaving.is_none());
            due.commands.extend(staying.map(|binding| leave(sessions, binding, LeaveReason::Drained)));
            continue;
        }
        if let Some(over) = over {
            due.wake(over);
        }
        if bound.clone().any(|binding| binding.leaving.is_some()) {
            continue; // one at a time
        }
        if let Some(next) = bound.find(|binding| can_go(binding)) {
            due.commands.push(leave(sessions, next, LeaveReason::Drained));
        }
    }
}
