//! Who gets which subtasks: by priority, then by age of the job, to nodes that have room.
//!
//! A node has room for as many as begin at once, and for some that lie ready until others end, so that nothing stands still
//! meanwhile: for so much work that it is soon done, so of short ones for many, and of long ones for none. What lies ready
//! runs as far as limits are concerned.
//!
//! A job that cannot take what is free (no node may run it, its backends are full) holds up no other. One that finds too
//! little room on a node does: there nothing that comes after it is granted, or what is short would always be in its way.
//! Nor does anything lie ready behind what is more urgent and waits itself: for as long as more of that comes it would not begin.
//! Looking costs as much as there are jobs before the room is used up, and never depends on how many subtasks they have.

mod granted;

pub use granted::{Attempts, applied, attempts_of, late, runs, to_stop};

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{Attempt, BackendName, Incarnation, JobId, NodeId, NodeStatus, Run, Span};

use crate::command::Grant;
use crate::job::Job;
use crate::job::table::Turn;
use crate::state::State;

/// A node that takes subtasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The life of its agent.
    pub incarnation: Incarnation,
    /// How many run there at a time.
    pub slots: u32,
    /// How many more begin at once.
    pub idle: u32,
    /// So much work it takes beside what it has: the sum of how long each takes.
    pub spare: Span,
}

impl Room {
    const fn is_any(&self) -> bool {
        self.idle > 0 || self.spare.0 > 0
    }
}

/// What there is for subtasks to run on now.
pub struct Offer<'a> {
    /// By node; those not ready are left out whatever is said.
    pub nodes: BTreeMap<NodeId, Room>,
    /// Whether all three gates of a node pass for a job.
    pub may_run: &'a dyn Fn(&Job, NodeId) -> bool,
    /// How long a subtask of a job is likely to take on a node.
    pub takes: &'a dyn Fn(&Job, NodeId) -> Span,
    /// How many more each backend takes now; one that is not named: none.
    pub backends: BTreeMap<BackendName, u32>,
    /// So many subtasks at most: what fits one entry of the log.
    pub most: u32,
}

/// What to grant now, best first. Verified when applied, so deciding twice does no harm.
pub fn grant(state: &State, mut offer: Offer<'_>) -> Vec<Grant> {
    offer.nodes.retain(|node, room| {
        let ready = state.nodes.get(node).is_some_and(|it| it.status == NodeStatus::Ready);
        ready && room.is_any() && state.jobs.runner(*node) == Some(&room.incarnation)
    });
    let ahead = |(node, room): (&NodeId, &Room)| Some((*node, waits(state, *node, room.slots)?));
    let ahead: BTreeMap<NodeId, u8> = offer.nodes.iter().filter_map(ahead).collect();
    let mut lowest = None;
    let mut grants = Vec::new();
    // By job: what its own limit still allows, as a job may stand in the queue under several priorities.
    let mut rooms: BTreeMap<JobId, u32> = BTreeMap::new();
    for (priority, _, id) in state.jobs.queue() {
        if lowest.replace(priority) != Some(priority) {
            offer.nodes.retain(|node, room| {
                if ahead.get(node).is_some_and(|ahead| *ahead > priority.0) {
                    room.spare = Span(0);
                }
                room.is_any()
            });
        }
        if offer.nodes.is_empty() || offer.most == 0 {
            break;
        }
        let Some(job) = state.jobs.get(id) else { continue };
        let Some(ready) = job.progress.ready().get(&priority.0) else { continue };
        let room = rooms.entry(id).or_insert_with(|| job.room().unwrap_or(u32::MAX));
        let mut count = u32::try_from(ready.len()).unwrap_or(u32::MAX);
        let mut left = Left { runs: ready.runs(), begun: None };
        for (backend, most) in backends(job, &offer) {
            let wanted = (*room).min(most).min(offer.most).min(count);
            let granted = grant_through(job, backend.as_ref(), wanted, &mut left, &mut offer, &mut grants);
            *room -= granted;
            offer.most -= granted;
            count -= granted;
            if granted < wanted {
                let may_run = offer.may_run;
                offer.nodes.retain(|node, _| !may_run(job, *node));
            }
        }
    }
    grants
}

/// The priority at least of something that waits on a node, as more that have it or a higher one are there than run at a time;
/// as jobs have it: that a few subtasks may have one of their own makes no difference here.
fn waits(state: &State, node: NodeId, slots: u32) -> Option<u8> {
    let held = state.jobs.of_jobs_on(node);
    let held = held.filter_map(|(job, count)| Some((state.jobs.get(job)?.priority, count)));
    let mut held: Vec<(u8, u32)> = held.collect();
    held.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let mut sum = 0_u32;
    held.into_iter().find_map(|(priority, count)| {
        sum = sum.saturating_add(count);
        (sum > slots).then_some(priority)
    })
}

/// The ways that a job's attempts may go, each with how many more it takes; those with most room first.
fn backends(job: &Job, offer: &Offer<'_>) -> Vec<(Option<BackendName>, u32)> {
    if job.spec.backends.is_empty() {
        return vec![(None, u32::MAX)];
    }
    let free = |name: &BackendName| offer.backends.get(name).copied().unwrap_or_default();
    let mut all: Vec<_> = job.spec.backends.iter().map(|name| (Some(name.clone()), free(name))).collect();
    all.sort_by_key(|(_, free)| std::cmp::Reverse(*free));
    all
}

/// Gives up to `wanted` subtasks to the nodes that may run the job. How many it were.
fn grant_through(
    job: &Job,
    backend: Option<&BackendName>,
    wanted: u32,
    left: &mut Left<impl Iterator<Item = Run>>,
    offer: &mut Offer<'_>,
    grants: &mut Vec<Grant>,
) -> u32 {
    if wanted == 0 {
        return 0;
    }
    let mut granted = 0;
    for (node, share) in shares(job, wanted, offer) {
        let Some(room) = offer.nodes.get_mut(&node) else { continue };
        let runs = left.take(share);
        let count: u64 = runs.iter().map(|run| run.len()).sum();
        if count == 0 {
            continue;
        }
        room.spare.0 = room.spare.0.saturating_sub((offer.takes)(job, node).0.saturating_mul(count));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        room.idle = room.idle.saturating_sub(count);
        granted += count;
        let subtasks = runs.into_iter().flat_map(|run| job.progress.grantable(run)).collect();
        let incarnation = room.incarnation.clone();
        grants.push(Grant { node, incarnation, job: job.id, backend: backend.cloned(), subtasks });
        if !room.is_any() {
            offer.nodes.remove(&node);
        }
    }
    if let Some(name) = backend
        && let Some(free) = offer.backends.get_mut(name)
    {
        *free -= granted;
    }
    granted
}

/// How many of a job each node that may run it is to have: what begins at once before what lies ready.
fn shares(job: &Job, wanted: u32, offer: &Offer<'_>) -> Vec<(NodeId, u32)> {
    let nodes: Vec<(&NodeId, &Room)> =
        offer.nodes.iter().filter(|(node, _)| (offer.may_run)(job, **node)).collect();
    let idle: Vec<u32> = nodes.iter().map(|(_, room)| room.idle).collect();
    let begin = shared(wanted, &idle);
    let mut spare = Vec::with_capacity(nodes.len());
    for ((node, room), begin) in nodes.iter().zip(&begin) {
        let fits = room.spare.0 / (offer.takes)(job, **node).0.max(1);
        spare.push(u32::try_from(fits).unwrap_or(u32::MAX).saturating_sub(*begin));
    }
    let lie = shared(wanted - begin.iter().sum::<u32>(), &spare);
    nodes.iter().zip(begin.iter().zip(lie)).map(|((node, _), (begin, lie))| (**node, begin + lie)).collect()
}

/// Shares so many by room: each gets the part of the rest that its room is of all room left; rounded up, so that nothing
/// stays over.
fn shared(wanted: u32, rooms: &[u32]) -> Vec<u32> {
    let mut free: u64 = rooms.iter().copied().map(u64::from).sum();
    let mut left = u64::from(wanted).min(free);
    let share = |room: &u32| {
        let share = (left * u64::from(*room)).div_ceil(free.max(1));
        free -= u64::from(*room);
        left -= share;
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    rooms.iter().map(share).collect()
}

/// What of a job is ready and not yet given to anyone.
struct Left<I: Iterator<Item = Run>> {
    runs: I,
    begun: Option<Run>,
}

impl<I: Iterator<Item = Run>> Left<I> {
    /// The next so many, or as many as there are.
    fn take(&mut self, mut count: u32) -> Vec<Run> {
        let mut taken = Vec::new();
        while let Some(most) = count.checked_sub(1) {
            let Some(run) = self.begun.take().or_else(|| self.runs.next()) else { break };
            let last = run.last.min(run.first.saturating_add(most));
            taken.push(Run { first: run.first, last });
            count -= last - run.first + 1;
            self.begun = (last < run.last).then(|| Run { first: last + 1, last: run.last });
        }
        taken
    }
}

/// What stands before a turn in the queue, in order: other jobs, each once, with the priority under which they stand there.
pub fn before(state: &State, turn: Turn) -> impl Iterator<Item = (u8, &Job)> {
    let mut told = BTreeSet::from([turn.2]);
    let ahead = state.jobs.queue().take_while(move |it| *it < turn);
    ahead.filter_map(move |(priority, _, id)| {
        let job = state.jobs.get(id).filter(|_| told.insert(id))?;
        Some((priority.0, job))
    })
}

/// What a node's agent must be told of its attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Granted to it, and never given.
    pub missing: Vec<Attempt>,
    /// Given to it, or missing, and not wanted any more: it is to stop them, and to say how they ended.
    pub unwanted: Vec<Attempt>,
}

/// Compares what is granted to a node with the attempts that this life of its agent was given and has not seen recorded as
/// ended. Only a leader that a majority has confirmed *since the agent said so* may ask: a leader that does not know yet
/// that another one leads has a state that is behind, and would have an attempt begun twice that has ended for the others.
pub fn difference(state: &State, node: NodeId, given: &BTreeSet<Attempt>) -> Difference {
    let granted: BTreeMap<Attempt, bool> = (state.jobs.running_on(node))
        .filter_map(|(id, subtask)| {
            let job = state.jobs.get(id)?;
            let running = job.progress.running().get(&subtask)?;
            let attempt = Attempt { job: id, subtask, number: running.attempt };
            Some((attempt, job.canceled.is_none() && !running.stopping))
        })
        .collect();
    let missing: Vec<Attempt> = granted.keys().filter(|it| !given.contains(it)).copied().collect();
    let is_unwanted = |it: &&Attempt| granted.get(it).is_none_or(|wanted| !wanted);
    let unwanted = given.iter().chain(&missing).filter(is_unwanted).copied().collect();
    Difference { missing, unwanted }
}

#[cfg(test)]
mod tests;
