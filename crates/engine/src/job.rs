//! Jobs as the replicated state holds them: a job's row, how far its subtasks are, and indexes over all of them.
//!
//! ```text
//!  BeginSubmit, AddItems … ──► Submit ──CommitSubmit──► Job { Progress }
//!  Grant, Results, verbs ──► Step (a run of subtasks, what became of them) ──► Progress, Jobs' indexes
//!                                  └── all steps of a command and job ──► Change::Transitions, the history
//! ```
//!
//! A job's row is a *checkpoint*: what the job was at one revision. Its transitions since then bring it up to date, and
//! applying them again is how a restarted member does it. A new checkpoint is put when there are many of them. So the
//! cost of a transition does not depend on the size of its job, and the history is what the state is made of.
//!
//! Read in this order: [`step`], [`progress`], [`dependency`], [`submit`], [`table`].

pub mod dependency;
pub mod progress;
pub mod step;
pub mod submit;
pub mod table;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{JobId, JobSpec, JobState, Ranges, Revision, Run, SubtaskCounts, SubtaskState, Timestamp};

use progress::{Place, Progress};

/// Transitions after which a job's row is written anew, beside as many as the row has runs: writing it costs that much.
const CHECKPOINT_EVERY: u32 = 1_024;

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// What was asked for, the module's version fixed.
    pub spec: Arc<JobSpec>,
    /// How many subtasks it has.
    pub count: u32,
    /// Of all its items; see [`submit::Digest`].
    pub digest: u64,
    /// Of what is still waiting, and has none of its own.
    pub priority: u8,
    /// Nothing new of it is started.
    pub paused: bool,
    /// It is canceled as a whole, and why.
    pub canceled: Option<String>,
    /// Jobs it still waits for.
    pub after: BTreeSet<JobId>,
    /// When its last item was committed; of two jobs of one priority the one that was earlier goes first.
    pub created: Revision,
    /// When that was, for people.
    pub created_at: Timestamp,
    /// When its first attempt was granted.
    pub started_at: Option<Timestamp>,
    /// When its last subtask ended.
    pub ended_at: Option<Timestamp>,
    /// When anything but its subtasks last changed: a pause, a priority, a cancel.
    pub revision: Revision,
    /// Attempts that failed, by class.
    pub failures: [u64; 5],
    /// How far its subtasks are.
    pub progress: Progress,
    /// How many pieces of its history are contained in this row: those numbered less.
    pub history: u64,
    /// Steps since its row was written last.
    pub(crate) unsaved: u32,
    /// Under which priorities it stands in the queue, and when its next subtask is due; see [`table::Jobs`].
    pub(crate) queued: Vec<u8>,
    pub(crate) due: Option<Timestamp>,
}

/// A job as it was stored before attempts could be refused for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobV1 {
    id: JobId,
    spec: Arc<JobSpec>,
    count: u32,
    digest: u64,
    priority: u8,
    paused: bool,
    canceled: Option<String>,
    after: BTreeSet<JobId>,
    created: Revision,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    revision: Revision,
    failures: [u64; 4],
    progress: Progress,
    history: u64,
    unsaved: u32,
    queued: Vec<u8>,
    due: Option<Timestamp>,
}

impl From<JobV1> for Job {
    fn from(former: JobV1) -> Self {
        let [exit, lost, timeout, backend] = former.failures;
        Self {
            id: former.id,
            spec: former.spec,
            count: former.count,
            digest: former.digest,
            priority: former.priority,
            paused: former.paused,
            canceled: former.canceled,
            after: former.after,
            created: former.created,
            created_at: former.created_at,
            started_at: former.started_at,
            ended_at: former.ended_at,
            revision: former.revision,
            failures: [exit, lost, timeout, backend, 0],
            progress: former.progress,
            history: former.history,
            unsaved: former.unsaved,
            queued: former.queued,
            due: former.due,
        }
    }
}

impl Job {
    /// Where it stands.
    pub fn state(&self) -> JobState {
        let counts = self.progress.counts();
        match (counts.left(), self.paused) {
            (1.., true) => JobState::Paused,
            (1.., false) => JobState::Running,
            (0, _) if counts.failed > 0 || self.progress.count(Place::Skipped) > 0 => match self.canceled {
                Some(_) => JobState::Canceled,
                None => JobState::Failed,
            },
            (0, _) if counts.canceled > 0 => JobState::Canceled,
            (0, _) => JobState::Finished,
        }
    }

    /// The priority of a subtask: its own, or else the job's.
    pub fn priority_of(&self, subtask: u32) -> u8 {
        self.progress.own_priority(subtask).unwrap_or(self.priority)
    }

    /// Its subtasks by state. While it waits for other jobs none is ready.
    pub fn counts(&self) -> SubtaskCounts {
        let counts = self.progress.counts();
        if self.after.is_empty() {
            return counts;
        }
        SubtaskCounts { waiting: counts.waiting + counts.ready, ready: 0, ..counts }
    }

    /// What a place is for people: as the counts say, nothing is ready while the job waits for others.
    pub fn state_at(&self, place: Place) -> SubtaskState {
        match place {
            Place::Ready if !self.after.is_empty() => SubtaskState::Waiting,
            place => place.state(),
        }
    }

    /// Its subtasks that are in a state.
    pub fn in_state(&self, state: SubtaskState) -> Ranges {
        let whole = Run::first_of(self.count);
        let places = whole.into_iter().flat_map(|run| self.progress.places(run));
        places.filter(|(_, place)| self.state_at(*place) == state).map(|(run, _)| run).collect()
    }

    /// Its subtasks within a run that are in one of these states (none: in any) and among these, in order. What is left out
    /// costs no more than it has runs.
    pub fn subtasks<'a>(
        &'a self,
        within: Run,
        states: &'a [SubtaskState],
        among: Option<&'a Ranges>,
    ) -> impl Iterator<Item = (u32, Place)> + 'a {
        let runs: Box<dyn Iterator<Item = Run> + 'a> = match among {
            Some(among) => Box::new(among.within(within)),
            None => Box::new(std::iter::once(within)),
        };
        let places = runs.flat_map(move |run| self.progress.places(run));
        let is_wanted = move |place| states.is_empty() || states.contains(&self.state_at(place));
        let wanted = places.filter(move |(_, place)| is_wanted(*place));
        wanted.flat_map(|(run, place)| run.numbers().map(move |subtask| (subtask, place)))
    }

    /// How many more may run; none: as many as there is room for.
    pub fn room(&self) -> Option<u32> {
        let running = u32::try_from(self.progress.running().len()).unwrap_or(u32::MAX);
        self.spec.max_running.map(|most| most.saturating_sub(running))
    }

    /// Whether anything of it may be granted, if there is anything.
    pub(crate) fn is_open(&self) -> bool {
        !self.paused && self.canceled.is_none() && self.after.is_empty() && self.room() != Some(0)
    }

    /// Whether its row is to be written again.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let runs = u32::try_from(self.progress.runs()).unwrap_or(u32::MAX);
        self.unsaved > CHECKPOINT_EVERY.saturating_add(runs)
    }
}
