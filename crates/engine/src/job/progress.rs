//! How far a job's subtasks are: runs for what is alike, an entry only for what is special.
//!
//! ```text
//!  waiting ──Woken, or all it depends on finished──► ready ──Granted──► running ──► finished, failed, canceled
//!     ▲  ▲                                             ▲                   │              │
//!     │  └──────────────── Retried ────────────────────┼───────────────────┤              │ Again
//!     │                                                └──── HandedBack ───┘              │
//!     └───────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sheaf_model::{NodeId, Ranges, Run, RunMap, SubtaskCounts, SubtaskState, Timestamp};

use super::dependency::Dependencies;
use super::step::{Step, What};

/// Where a subtask stands; as [`SubtaskState`], but what is canceled for an operator's sake is told from what is canceled
/// because of another subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its state")]
pub enum Place {
    Waiting,
    Ready,
    Running,
    Finished,
    Failed,
    Canceled,
    /// Canceled because something it depends on did not finish.
    Skipped,
}

impl Place {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Ready,
        Self::Running,
        Self::Finished,
        Self::Failed,
        Self::Canceled,
        Self::Skipped,
    ];

    /// What it is for people.
    pub const fn state(self) -> SubtaskState {
        match self {
            Self::Waiting => SubtaskState::Waiting,
            Self::Ready => SubtaskState::Ready,
            Self::Running => SubtaskState::Running,
            Self::Finished => SubtaskState::Finished,
            Self::Failed => SubtaskState::Failed,
            Self::Canceled | Self::Skipped => SubtaskState::Canceled,
        }
    }

    /// Whether it has ended, but not well: an operator may want it again.
    pub const fn is_unfinished_end(self) -> bool {
        matches!(self, Self::Failed | Self::Canceled | Self::Skipped)
    }
}

/// How often a subtask that does not run was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// The number of its last attempt. The next one has one more, whatever became of this one.
    pub given: u32,
    /// Attempts that count against the limit: not those handed back, nor those before an operator wanted it again.
    pub counted: u32,
}

/// A subtask that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The number of its attempt.
    pub attempt: u32,
    /// Attempts before this one that count.
    pub counted: u32,
    /// Where.
    pub node: NodeId,
    /// Through the backend at this place of the job's list.
    pub backend: Option<u8>,
    /// When it was granted.
    pub since: Timestamp,
    /// It is to be stopped, and will be canceled then.
    pub stopping: bool,
}

/// The subtasks of one job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Of every subtask.
    places: RunMap<Place>,
    /// Of those that were tried and neither run nor have finished.
    tries: RunMap<Tries>,
    running: BTreeMap<u32, Running>,
    /// Waiting for so many others.
    blocked: BTreeMap<u32, u32>,
    /// Waiting until then.
    delayed: BTreeMap<u32, Timestamp>,
    /// The same, by time.
    soonest: BTreeSet<(Timestamp, u32)>,
    /// Of those that have another one than the job.
    priorities: RunMap<u8>,
    counts: [u32; 7],
    /// What is ready, by priority; none is empty.
    ready: BTreeMap<u8, Ranges>,
}

/// More or fewer subtasks on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The node.
    pub node: NodeId,
    /// Through this backend.
    pub backend: Option<u8>,
    /// So many more.
    pub by: i64,
}

impl Progress {
    /// The subtasks of a new job.
    pub fn new(count: u32, priority: u8, dependencies: Option<&Dependencies>) -> Self {
        let mut new = Self::default();
        let Some(whole) = Run::first_of(count) else { return new };
        new.places.set(whole, Place::Ready);
        new.counts[Place::Ready as usize] = count;
        new.ready.insert(priority, whole.into());
        for (subtask, needs) in dependencies.into_iter().flat_map(Dependencies::dependents) {
            new.go(Run::one(subtask), Place::Waiting, priority, &mut Vec::new());
            new.blocked.insert(subtask, needs);
        }
        new
    }

    /// How many stand there.
    pub fn count(&self, place: Place) -> u64 {
        self.counts[place as usize].into()
    }

    /// How many stand where.
    pub fn counts(&self) -> SubtaskCounts {
        SubtaskCounts {
            waiting: self.count(Place::Waiting),
            ready: self.count(Place::Ready),
            running: self.count(Place::Running),
            finished: self.count(Place::Finished),
            failed: self.count(Place::Failed),
            canceled: self.count(Place::Canceled) + self.count(Place::Skipped),
        }
    }

    /// Where a subtask stands; none: the job has no such one.
    pub fn place(&self, subtask: u32) -> Option<Place> {
        self.places.get(subtask)
    }

    /// What stands where within `run`, in order.
    pub fn places(&self, run: Run) -> impl Iterator<Item = (Run, Place)> + '_ {
        self.places.within(run)
    }

    /// What is ready, by priority.
    pub fn ready(&self) -> &BTreeMap<u8, Ranges> {
        &self.ready
    }

    /// What runs.
    pub fn running(&self) -> &BTreeMap<u32, Running> {
        &self.running
    }

    /// Of one that does not run: how often it was tried.
    pub fn tries(&self, subtask: u32) -> Tries {
        self.tries.get(subtask).unwrap_or_default()
    }

    /// For how many others it waits.
    pub fn blocked(&self, subtask: u32) -> u32 {
        self.blocked.get(&subtask).copied().unwrap_or_default()
    }

    /// Until when it waits.
    pub fn delayed(&self, subtask: u32) -> Option<Timestamp> {
        self.delayed.get(&subtask).copied()
    }

    /// Those whose time has come by then, soonest first.
    pub fn due(&self, by: Timestamp) -> impl Iterator<Item = u32> + '_ {
        self.soonest.range(..=(by, u32::MAX)).map(|(_, subtask)| *subtask)
    }

    /// When the next one's time comes.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.soonest.first().map(|(at, _)| *at)
    }

    /// The priority it has, if another than its job's.
    pub fn own_priority(&self, subtask: u32) -> Option<u8> {
        self.priorities.get(subtask)
    }

    /// What of `run` is ready, with the number that the next attempt has.
    pub fn grantable(&self, run: Run) -> impl Iterator<Item = (Run, u32)> + '_ {
        let ready = self.places.within(run).filter(|(_, place)| *place == Place::Ready);
        ready.flat_map(move |(run, _)| self.next_attempts(run))
    }

    fn next_attempts(&self, run: Run) -> Vec<(Run, u32)> {
        let mut parts = Vec::new();
        let mut next = Some(run.first);
        for (tried, tries) in self.tries.within(run) {
            if let Some(first) = next.filter(|first| *first < tried.first) {
                parts.push((Run { first, last: tried.first - 1 }, 1));
            }
            parts.push((tried, tries.given.saturating_add(1)));
            next = tried.last.checked_add(1);
        }
        if let Some(first) = next.filter(|first| *first <= run.last) {
            parts.push((Run { first, last: run.last }, 1));
        }
        parts
    }

    /// How large the row is: runs and entries.
    pub(crate) fn runs(&self) -> usize {
        self.places.runs() + self.tries.runs() + self.running.len() + self.blocked.len() + self.delayed.len()
    }

    /// Does one step. Total: what stands elsewhere than the step expects goes where it says nevertheless.
    pub(crate) fn apply(
        &mut self,
        step: &Step,
        at: Timestamp,
        priority: u8,
        dependencies: Option<&Dependencies>,
        moved: &mut Vec<Moved>,
    ) {
        let run = step.run;
        match step.what {
            What::Granted(node, backend) => self.grant(step, (node, backend), at, priority, moved),
            What::Finished => {
                self.go(run, Place::Finished, priority, moved);
                self.tries.clear(run);
                if let Some(dependencies) = dependencies {
                    run.numbers().for_each(|subtask| self.unblock(dependencies.feeds(subtask), priority));
                }
            }
            What::Retried(_, until) => {
                self.tried(run, 1);
                self.go(run, Place::Waiting, priority, moved);
                for subtask in run.numbers() {
                    self.delayed.insert(subtask, until);
                    self.soonest.insert((until, subtask));
                }
            }
            What::Failed(_) => {
                self.tried(run, 1);
                self.go(run, Place::Failed, priority, moved);
            }
            What::HandedBack => {
                self.tried(run, 0);
                self.go(run, Place::Ready, priority, moved);
            }
            What::Woken => self.go(run, Place::Ready, priority, moved),
            What::Canceled => {
                self.tried(run, 1);
                self.go(run, Place::Canceled, priority, moved);
            }
            What::Skipped(_) => self.go(run, Place::Skipped, priority, moved),
            What::Stopping => {
                self.running.range_mut(run.numbers()).for_each(|(_, running)| running.stopping = true);
            }
            What::Again => self.again(run, priority, dependencies, moved),
            What::Prioritized(wanted) => self.prioritize(run, wanted, priority),
            What::AllPrioritized(priority) => self.prioritize_all(priority),
            What::Stale => {}
        }
    }

    /// All of them have one priority.
    pub(crate) fn prioritize_all(&mut self, priority: u8) {
        self.priorities = RunMap::default();
        let all: Ranges = self.ready.values().flat_map(Ranges::runs).collect();
        self.ready = if all.is_empty() { BTreeMap::new() } else { BTreeMap::from([(priority, all)]) };
    }

    fn grant(
        &mut self,
        step: &Step,
        (node, backend): (NodeId, Option<u8>),
        since: Timestamp,
        priority: u8,
        moved: &mut Vec<Moved>,
    ) {
        let there = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let Some(run) = Run::first_of(there).and_then(|all| all.overlap(step.run)) else { return };
        self.go(run, Place::Running, priority, moved);
        let fresh = self.tries.is_empty();
        for subtask in run.numbers() {
            let counted = if fresh { 0 } else { self.tries(subtask).counted };
            let running = Running { attempt: step.attempt, counted, node, backend, since, stopping: false };
            self.running.insert(subtask, running);
        }
        self.tries.clear(run);
        moved.push(Moved { node, backend, by: run.len().cast_signed() });
    }

    /// What runs of `run` was tried once more.
    fn tried(&mut self, run: Run, counts: u32) {
        for (subtask, running) in self.running.range(run.numbers()) {
            let counted = running.counted.saturating_add(counts);
            self.tries.set(Run::one(*subtask), Tries { given: running.attempt, counted });
        }
    }

    /// Moves what exists of `run`; entries and indexes of where it stood are gone.
    fn go(&mut self, run: Run, to: Place, priority: u8, moved: &mut Vec<Moved>) {
        let parts: Vec<(Run, Place)> = self.places.within(run).collect();
        for (part, from) in parts {
            let width = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.counts[from as usize] = self.counts[from as usize].saturating_sub(width);
            self.counts[to as usize] = self.counts[to as usize].saturating_add(width);
            match from {
                Place::Ready => self.unready(part),
                Place::Running => self.unrun(part, moved),
                Place::Waiting => self.unwait(part),
                Place::Finished | Place::Failed | Place::Canceled | Place::Skipped => {}
            }
            if to == Place::Ready {
                self.make_ready(part, priority);
            }
            self.places.set(part, to);
        }
    }

    fn unready(&mut self, run: Run) {
        self.ready.retain(|_, ranges| {
            ranges.remove(run);
            !ranges.is_empty()
        });
    }

    fn make_ready(&mut self, run: Run, priority: u8) {
        self.ready.entry(priority).or_default().insert(run);
        if self.priorities.is_empty() {
            return;
        }
        let own: Vec<(Run, u8)> = self.priorities.within(run).collect();
        for (part, own) in own {
            self.unready(part);
            self.ready.entry(own).or_default().insert(part);
        }
    }

    fn unrun(&mut self, run: Run, moved: &mut Vec<Moved>) {
        for subtask in run.numbers() {
            let Some(Running { node, backend, .. }) = self.running.remove(&subtask) else { continue };
            match moved.last_mut() {
                Some(last) if (last.node, last.backend) == (node, backend) && last.by < 0 => last.by -= 1,
                _ => moved.push(Moved { node, backend, by: -1 }),
            }
        }
    }

    fn unwait(&mut self, run: Run) {
        for subtask in run.numbers() {
            self.blocked.remove(&subtask);
            if let Some(until) = self.delayed.remove(&subtask) {
                self.soonest.remove(&(until, subtask));
            }
        }
    }

    /// One that they depended on has finished.
    fn unblock(&mut self, dependents: &[u32], priority: u8) {
        for subtask in dependents {
            let Some(needs) = self.blocked.get_mut(subtask) else { continue };
            *needs = needs.saturating_sub(1);
            if *needs == 0 {
                self.go(Run::one(*subtask), Place::Ready, priority, &mut Vec::new());
            }
        }
    }

    fn again(&mut self, run: Run, priority: u8, dependencies: Option<&Dependencies>, moved: &mut Vec<Moved>) {
        let tried: Vec<(Run, Tries)> = self.tries.within(run).collect();
        for (part, tries) in tried {
            self.tries.set(part, Tries { counted: 0, ..tries });
        }
        self.go(run, Place::Ready, priority, moved);
        for subtask in run.numbers().filter(|_| dependencies.is_some()) {
            let needs = dependencies.map(|all| all.needs(subtask)).unwrap_or_default();
            let missing = needs.iter().filter(|on| self.place(**on) != Some(Place::Finished)).count();
            if missing > 0 && self.place(subtask).is_some() {
                self.go(Run::one(subtask), Place::Waiting, priority, moved);
                self.blocked.insert(subtask, u32::try_from(missing).unwrap_or(u32::MAX));
            }
        }
    }

    fn prioritize(&mut self, run: Run, wanted: u8, default: u8) {
        let parts: Vec<(Run, Place)> = self.places.within(run).collect();
        for (part, place) in parts {
            self.priorities.set(part, wanted);
            if place == Place::Ready {
                self.unready(part);
                self.make_ready(part, default);
            }
        }
    }

    /// What contradicts itself, in words.
    pub(crate) fn contradictions(&self, count: u32) -> Vec<String> {
        let mut found = Vec::new();
        let mut wrong = |holds: bool, what: &str| {
            if !holds {
                found.push(what.to_owned());
            }
        };
        wrong(self.places.len() == u64::from(count), "not every subtask stands somewhere");
        let mut counts = [0_u64; 7];
        self.places.iter().for_each(|(run, place)| counts[place as usize] += run.len());
        wrong(
            Place::ALL.iter().all(|place| counts[*place as usize] == self.count(*place)),
            "counts differ from runs",
        );
        let ready: u64 = self.ready.values().map(Ranges::len).sum();
        wrong(ready == counts[Place::Ready as usize], "what is ready is not what is in the queue");
        let is_ready = |run| self.places.within(run).all(|(_, place)| place == Place::Ready);
        wrong(self.ready.values().flat_map(Ranges::runs).all(is_ready), "what is in the queue is not ready");
        wrong(self.running.len() as u64 == counts[Place::Running as usize], "what runs has no entry");
        let runs = |subtask: &u32| self.place(*subtask) == Some(Place::Running);
        wrong(self.running.keys().all(runs), "what has an entry does not run");
        let waits = |subtask: &u32| self.place(*subtask) == Some(Place::Waiting);
        wrong(self.blocked.keys().chain(self.delayed.keys()).all(waits), "what waits is not waiting");
        let waiting = self.blocked.len() + self.delayed.len();
        wrong(
            waiting as u64 == counts[Place::Waiting as usize],
            "what is waiting waits for nothing, or for two things",
        );
        let soonest: BTreeSet<(Timestamp, u32)> =
            self.delayed.iter().map(|(subtask, at)| (*at, *subtask)).collect();
        wrong(soonest == self.soonest, "times differ from their order");
        let numbered = self.running.values().all(|it| it.attempt > it.counted);
        wrong(
            numbered && self.tries.iter().all(|(_, it)| it.given >= it.counted),
            "more attempts count than there were",
        );
        found
    }
}
