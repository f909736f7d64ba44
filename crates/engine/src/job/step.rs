//! Steps: what becomes of a run of subtasks. The only way in which subtasks change.

use serde::{Deserialize, Serialize};
use sheaf_model::{Actor, Exit, FailureClass, Fingerprint, JobId, NodeId, Revision, Run, Span, Timestamp};

/// What became of some subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// An attempt is granted to a node, through the backend at this place of the job's list.
    Granted(NodeId, Option<u8>),
    /// The attempt succeeded.
    Finished,
    /// The attempt failed, and the next one waits until then.
    Retried(FailureClass, Timestamp),
    /// The attempt failed, and there is no next one.
    Failed(FailureClass),
    /// The attempt was given back by its node; it does not count.
    HandedBack,
    /// The time of the next attempt has come.
    Woken,
    /// Canceled by an operator, or with the job.
    Canceled,
    /// Canceled because this one, which it depends on, did not finish.
    Skipped(u32),
    /// What runs is to be stopped, and will be canceled then.
    Stopping,
    /// An operator wants what had ended to be tried again.
    Again,
    /// These have a priority of their own now.
    Prioritized(u8),
    /// The job has this priority now, and none of its subtasks one of its own.
    AllPrioritized(u8),
    /// A node reported an attempt that is not the one that runs. Changes nothing.
    Stale,
}

/// A run of subtasks, and what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub what: What,
    /// Of these.
    pub run: Run,
    /// The attempt that it is about; 0: none.
    pub attempt: u32,
}

impl Step {
    /// What is not about an attempt.
    pub const fn of(run: Run, what: What) -> Self {
        Self { what, run, attempt: 0 }
    }

    /// The same with what follows it, if that is the same.
    fn joined(self, next: Self) -> Option<Self> {
        let adjoins = self.run.last.checked_add(1) == Some(next.run.first);
        let run = Run { first: self.run.first, last: next.run.last };
        (adjoins && self.what == next.what && self.attempt == next.attempt).then_some(Self { run, ..self })
    }
}

/// When an attempt ran, as its node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// By the node's clock.
    pub started_at: Timestamp,
    /// How long.
    pub took: Span,
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// Of this subtask.
    pub subtask: u32,
    /// How its program ended, if one ran.
    pub exit: Option<Exit>,
    /// Of the message.
    pub fingerprint: Fingerprint,
    /// At most [`MESSAGE_MAX`] bytes.
    pub message: String,
}

impl Detail {
    /// Whether it is of a report that was stale, and of no failure: those have no fingerprint.
    pub fn is_stale(&self) -> bool {
        self.fingerprint == Fingerprint::default()
    }
}

/// Longest message of a failure that is kept, in bytes.
pub const MESSAGE_MAX: usize = 4_096;

/// Everything that one command did to the subtasks of one job: a row of history, in columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transitions {
    /// The job.
    pub job: JobId,
    /// Its place in the job's history, from 0.
    pub number: u64,
    /// The command.
    pub revision: Revision,
    /// When, by the leader that proposed it.
    pub at: Timestamp,
    /// In the order in which they were made.
    pub steps: Vec<Step>,
    /// For each attempt that its node says has ended, in the order of the steps.
    pub ran: Vec<Ran>,
    /// For each attempt that failed, and each report that was stale, in the order of the steps.
    pub details: Vec<Detail>,
    /// Who caused it: the leader, the node that reported, a person. Empty: that was not kept.
    pub actor: Actor,
}

impl Transitions {
    /// Nothing yet.
    pub fn new(job: JobId, revision: Revision, at: Timestamp, actor: Actor) -> Self {
        let (number, steps, ran, details) = (0, Vec::new(), Vec::new(), Vec::new());
        Self { job, number, revision, at, steps, ran, details, actor }
    }

    /// Notes a step; what goes on where the last one ended is one with it.
    pub(crate) fn push(&mut self, step: Step) {
        match self.steps.last_mut() {
            Some(last) if last.joined(step).is_some() => last.run.last = step.run.last,
            _ => self.steps.push(step),
        }
    }

    /// How many subtasks were touched, each as often as it was.
    pub fn len(&self) -> u64 {
        self.steps.iter().map(|step| step.run.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
