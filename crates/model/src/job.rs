//! Jobs: finite work of many subtasks, each tried until it succeeds or may not be tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BackendName, Exit, JobName, Json, ModuleRef, NodeListRules, RequestId, Span, Timestamp};

/// Most subtasks of a job, unless the cluster says otherwise.
pub const SUBTASKS_MAX: u32 = 10_000_000;
/// Longest item in bytes of JSON, its dependencies included: it must fit one entry of the log.
pub const ITEM_MAX: usize = 512 << 10;
/// The highest priority.
pub const PRIORITY_MAX: u8 = 100;

/// A job's number: the revision of the command that began its submit. Given once, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobState {
    /// A subtask can still run, whatever has failed.
    Running,
    /// The same, but nothing new is started.
    Paused,
    /// All subtasks finished.
    Finished,
    /// All ended, and one failed or was canceled because of another that did.
    Failed,
    /// All ended after an operator, or a job it was to come after, had it or a part of it canceled.
    Canceled,
}

impl JobState {
    /// All of them, in the order in which answers count them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Paused, Self::Finished, Self::Failed, Self::Canceled];

    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether nothing of it can run any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Canceled)
    }
}

/// Where a subtask stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubtaskState {
    /// For what it depends on, or for the time of its next attempt.
    Waiting,
    /// It runs as soon as there is room for it.
    Ready,
    /// An attempt is granted to a node.
    Running,
    /// An attempt succeeded.
    Finished,
    /// Its attempts are used up, or the failure was not one to retry.
    Failed,
    /// By an operator, or because of what it depends on.
    Canceled,
}

impl SubtaskState {
    /// All of them, in the order in which answers count them.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Ready, Self::Running, Self::Finished, Self::Failed, Self::Canceled];

    /// The word in answers and selectors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// How many subtasks of a job stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its state")]
pub struct SubtaskCounts {
    pub waiting: u64,
    pub ready: u64,
    pub running: u64,
    pub finished: u64,
    pub failed: u64,
    pub canceled: u64,
}

impl SubtaskCounts {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.left() + self.finished + self.failed + self.canceled
    }

    /// Those that can still run.
    pub const fn left(&self) -> u64 {
        self.waiting + self.ready + self.running
    }

    /// How much of the job is over, in percent, rounded down; of nothing: all.
    pub const fn progress(&self) -> u64 {
        match self.total() {
            0 => 100,
            total => (total - self.left()) * 100 / total,
        }
    }
}

/// Why an attempt failed; each is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureClass {
    /// The program ended badly, or could not be started.
    Exit,
    /// Its node, or the life of the agent that ran it, is gone.
    Lost,
    /// It took longer than the job allows.
    Timeout,
    /// The backend refused or failed it.
    Backend,
    /// What it asks for is refused for good: it is never tried again.
    Refused,
}

impl FailureClass {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Exit, Self::Lost, Self::Timeout, Self::Backend, Self::Refused];
    /// Those that a job may have tried again, in order.
    pub const TRIED_AGAIN: [Self; 4] = [Self::Exit, Self::Lost, Self::Timeout, Self::Backend];

    /// The word in documents and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Backend => "backend",
            Self::Refused => "refused",
        }
    }
}

/// Whether, and when, a subtask whose attempt failed is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Counts every try, the first included; 1: never again. At least 1.
    pub max_attempts: u32,
    /// The wait before the second try; it doubles with each further one …
    pub backoff_min: Span,
    /// … up to this.
    pub backoff_max: Span,
    /// Only these are tried again.
    pub retry_on: BTreeSet<FailureClass>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff_min: Span::seconds(1),
            backoff_max: Span::seconds(60),
            retry_on: FailureClass::TRIED_AGAIN.into(),
        }
    }
}

/// The numbers that an array's subtasks stand for: from `first` on, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayRange {
    /// What the subtask 0 stands for.
    pub first: u64,
    /// None stands for more.
    pub last: u64,
    /// At least 1.
    pub step: u64,
}

impl ArrayRange {
    /// How many subtasks; 0 if the range ends before it begins.
    pub fn count(&self) -> u64 {
        match self.last.checked_sub(self.first) {
            Some(width) => (width / self.step.max(1)).saturating_add(1),
            None => 0,
        }
    }

    /// What a subtask stands for: its `SHEAF_ITEM`.
    pub fn item(&self, subtask: u32) -> u64 {
        self.first.saturating_add(u64::from(subtask).saturating_mul(self.step))
    }
}

/// `0-49999` or `0-100:10`.
impl fmt::Display for ArrayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)?;
        if self.step == 1 { Ok(()) } else { write!(f, ":{}", self.step) }
    }
}

/// Where a job's subtasks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subtasks {
    /// Numbers; nothing is kept of each.
    Array(ArrayRange),
    /// One for each item that is submitted with the job.
    Items,
}

/// What one subtask is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What the program is given, without `depends_on`.
    pub value: Json,
    /// Subtasks of the same job that must have finished before; sorted, each once.
    pub depends_on: Vec<u32>,
}

/// What a person asks a job to be, without its items. Never changes, but for its priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Its name; no other job has it.
    pub name: JobName,
    /// What runs. In the replicated state the version is always there.
    pub module: ModuleRef,
    /// Where its subtasks come from.
    pub subtasks: Subtasks,
    /// Higher first, across all jobs; at most [`PRIORITY_MAX`].
    pub priority: u8,
    /// No more than so many subtasks at a time.
    pub max_running: Option<u32>,
    /// When an attempt failed.
    pub retry: Retry,
    /// How long an attempt may take.
    pub timeout: Option<Span>,
    /// Which nodes, by hostname and label; empty: every node.
    pub node_list_rules: NodeListRules,
    /// Each attempt goes through one of them; empty: through none.
    pub backends: Vec<BackendName>,
    /// Jobs that must have finished before.
    pub after: Vec<JobName>,
    /// Free labels for people to select by.
    pub labels: BTreeMap<String, String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Submitted again under the same id, it is the same job.
    pub request_id: Option<RequestId>,
}

impl JobSpec {
    /// A spec with every optional field as when a document leaves it out.
    pub fn new(name: JobName, module: ModuleRef, subtasks: Subtasks) -> Self {
        Self {
            name,
            module,
            subtasks,
            priority: 50,
            max_running: None,
            retry: Retry::default(),
            timeout: None,
            node_list_rules: NodeListRules::default(),
            backends: Vec::new(),
            after: Vec::new(),
            labels: BTreeMap::new(),
            owner: None,
            request_id: None,
        }
    }
}

/// Where the items of a document's job are to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemSource {
    /// There are none: the job is an array.
    Array,
    /// In the document.
    Listed(Vec<Item>),
    /// In a file of JSON lines, read by whoever submits; `-`: what is piped in.
    File(String),
}

/// A job with its items: the document of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitJob {
    /// What it shall be.
    pub spec: JobSpec,
    /// Its items.
    pub items: ItemSource,
}

/// How an attempt ended, as its node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Well.
    Finished,
    /// Badly.
    Failed(Failure),
    /// It was stopped because its subtask is canceled.
    Canceled,
    /// It was stopped, or never begun, because its node is to be left: it does not count.
    HandedBack,
    /// Its backend asks to be left alone for so long, and has not begun it: it does not count. With why, for people.
    NotNow(Span, String),
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Of what kind.
    pub class: FailureClass,
    /// How its program ended, if one ran.
    pub exit: Option<Exit>,
    /// In the program's or the node's words; the last of what it said.
    pub message: String,
}

/// An attempt, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// The subtask.
    pub subtask: u32,
    /// Which of its attempts; the first is 1.
    pub number: u32,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// Of this subtask.
    pub subtask: u32,
    /// The attempt meant; another than the one that runs: stale.
    pub attempt: u32,
    /// When it began, by its node's clock.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Span,
    /// How it ended.
    pub ending: Ending,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_counts_its_numbers() {
        let range = |first, last, step| ArrayRange { first, last, step };
        assert_eq!(range(0, 49_999, 1).count(), 50_000);
        assert_eq!((range(5, 10, 2).count(), range(5, 10, 2).item(2)), (3, 9));
        assert_eq!((range(7, 7, 1).count(), range(7, 6, 1).count()), (1, 0));
        assert_eq!(range(0, u64::MAX, 1).count(), u64::MAX);
        assert_eq!(range(0, 100, 10).to_string(), "0-100:10");
    }

    /// J3
    #[test]
    fn j3_progress_is_what_is_over() {
        let counts = SubtaskCounts { running: 1, finished: 1, ..SubtaskCounts::default() };
        assert_eq!((counts.progress(), counts.total()), (50, 2));
        assert_eq!(SubtaskCounts::default().progress(), 100);
    }
}
