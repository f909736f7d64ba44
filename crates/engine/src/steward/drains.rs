//! Empties nodes: one bucket after the other, each only when it can go elsewhere and the one before runs there; at the
//! deadline all that is left.

use std::cell::OnceCell;

use sheaf_model::{Binding, LeaveReason, Moment, Node, NodeId, Phase, Span};

use super::{Due, Occupancy, leave, place};
use crate::sessions::{Departed, Sessions};
use crate::state::State;

/// How long the next bucket waits at most for the one before to run elsewhere: one that cannot start must not keep a node
/// from being emptied.
const SETTLES_WITHIN: Span = Span::seconds(60);

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
        let departed = sessions.departed(node.id).filter(|departed| {
            let occupancy = || occupancy.get_or_init(|| Occupancy::count(state, sessions));
            is_on_its_way(state, sessions, node.id, departed, occupancy)
        });
        if let Some(departed) = departed {
            let until = departed.since.after(SETTLES_WITHIN);
            if now < until {
                due.wake(until);
                continue;
            }
        }
        if let Some(next) = bound.find(|binding| can_go(binding)) {
            due.commands.push(leave(sessions, next, LeaveReason::Drained));
        }
    }
}

/// Whether a bucket that left `from` is about to run elsewhere, and does not yet.
fn is_on_its_way<'a>(
    state: &State,
    sessions: &Sessions,
    from: NodeId,
    departed: &Departed,
    occupancy: impl FnOnce() -> &'a Occupancy<'a>,
) -> bool {
    let Some(bucket) = state.buckets.get(&departed.bucket) else { return false };
    if bucket.is_off() || bucket.current.spec.multi_node {
        return false;
    }
    match state.bindings.get(&departed.bucket) {
        // Back where it was: nothing is waited for there.
        Some(binding) if binding.node == from => false,
        Some(binding) => {
            let instance = state.instances.get(&departed.bucket).and_then(|nodes| nodes.get(&binding.node));
            let phase = instance.filter(|it| it.epoch == Some(binding.epoch)).map(|it| it.phase);
            matches!(phase, None | Some(Phase::Pending | Phase::Starting))
        }
        // Nobody takes it any more, if so many said so.
        None => place(sessions, bucket, occupancy(), Some(from)).is_some(),
    }
}
