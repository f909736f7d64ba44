//! Empties nodes: one bucket after the other, each only when it can go elsewhere; at the deadline all that is left.

use std::cell::OnceCell;

use sheaf_model::{Binding, LeaveReason, Moment};

use super::{Due, Occupancy, place};
use crate::command::{Command, Leave};
use crate::sessions::Sessions;
use crate::state::State;

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, due: &mut Due) {
    let occupancy = OnceCell::new();
    let can_go = |binding: &Binding| {
        let Some(bucket) = state.buckets.get(&binding.bucket) else { return true };
        let occupancy = occupancy.get_or_init(|| Occupancy::count(state));
        place(state, sessions, bucket, occupancy, Some(binding.node)).is_some()
    };
    for node in state.nodes.values().filter(|node| node.drain.is_some() && node.status.is_alive()) {
        let over = sessions.drain_over(node);
        let mut bound = state.bindings.values().filter(|binding| binding.node == node.id);
        if over.is_some_and(|over| now >= over) {
            let staying = bound.filter(|binding| binding.leaving.is_none());
            due.commands.extend(staying.map(|binding| leave(sessions, binding)));
            continue;
        }
        if let Some(over) = over {
            due.wake(over);
        }
        if bound.clone().any(|binding| binding.leaving.is_some()) {
            continue; // one at a time
        }
        if let Some(next) = bound.find(|binding| can_go(binding)) {
            due.commands.push(leave(sessions, next));
        }
    }
}

fn leave(sessions: &Sessions, binding: &Binding) -> Command {
    Command::Leave(Leave {
        bucket: binding.bucket.clone(),
        epoch: binding.epoch,
        reason: LeaveReason::Drained,
        term: Some(sessions.term),
    })
}
