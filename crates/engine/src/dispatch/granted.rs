//! What became of grants: what of them runs, and what nobody was told of.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{Attempt, NodeId};

use crate::command::Grant;
use crate::state::State;

/// Attempts by the node that has them.
pub type Attempts = BTreeMap<NodeId, Vec<Attempt>>;

/// Whether an attempt is granted to a node and has not ended.
pub fn runs(state: &State, node: NodeId, attempt: Attempt) -> bool {
    let running = state.jobs.get(attempt.job).and_then(|job| job.progress.running().get(&attempt.subtask));
    running.is_some_and(|it| it.node == node && it.attempt == attempt.number)
}

/// Each attempt of these grants by itself.
pub fn attempts_of(grants: &[Grant]) -> impl Iterator<Item = (NodeId, Attempt)> {
    grants.iter().flat_map(|grant| {
        let runs = grant.subtasks.iter().flat_map(|(run, number)| run.numbers().map(|it| (it, *number)));
        runs.map(|(subtask, number)| (grant.node, Attempt { job: grant.job, subtask, number }))
    })
}

/// What of these grants holds in the state.
pub fn applied(state: &State, grants: &[Grant]) -> Attempts {
    let mut all = Attempts::new();
    for (node, attempt) in attempts_of(grants).filter(|(node, attempt)| runs(state, *node, *attempt)) {
        all.entry(node).or_default().push(attempt);
    }
    all
}

/// The nodes that have something in the state that was decided and not seen to be applied: none of it was sent to anybody. It may
/// be sent only in a new session, or what has ended meanwhile would be begun twice. What is left of `unsure` may still come.
pub fn late(state: &State, unsure: &mut BTreeSet<(NodeId, Attempt)>) -> BTreeSet<NodeId> {
    unsure.extract_if(.., |(node, attempt)| runs(state, *node, *attempt)).map(|(node, _)| node).collect()
}

/// What runs and is not wanted any more: it is to be stopped.
pub fn to_stop(state: &State) -> BTreeMap<NodeId, BTreeSet<Attempt>> {
    let mut stops: BTreeMap<NodeId, BTreeSet<Attempt>> = BTreeMap::new();
    for job in state.jobs.iter() {
        let running = job.progress.running().iter();
        for (subtask, it) in running.filter(|(_, it)| it.stopping || job.canceled.is_some()) {
            let attempt = Attempt { job: job.id, subtask: *subtask, number: it.attempt };
            stops.entry(it.node).or_default().insert(attempt);
        }
    }
    stops
}
