//! What can be asked about jobs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{
    AttemptEnd, BackendName, Incarnation, Item, JobId, JobSpec, NodeId, Ranges, Run, Term, Timestamp,
};

/// See [`crate::Command::BeginSubmit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginSubmit {
    /// What the job shall be. An id of the request that is known: the same submit goes on, or is done.
    pub spec: Arc<JobSpec>,
    /// So many subtasks it may have.
    pub most: u32,
}

/// See [`crate::Command::AddItems`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddItems {
    /// The job.
    pub job: JobId,
    /// The subtask that the first of them is. A chunk that is there already is not added again.
    pub first: u32,
    /// In order.
    pub items: Arc<Vec<Item>>,
}

/// See [`crate::Command::CommitSubmit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSubmit {
    /// The job.
    pub job: JobId,
    /// How many subtasks it has.
    pub count: u32,
    /// Of all its items; see [`crate::job::submit::Digest`].
    pub digest: u64,
}

/// See [`crate::Command::Submit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitAll {
    /// What the job shall be.
    pub spec: Arc<JobSpec>,
    /// So many subtasks it may have.
    pub most: u32,
    /// All of them; of an array: none.
    pub items: Arc<Vec<Item>>,
}

/// See [`crate::Command::CollectSubmit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectSubmit {
    /// The job that it would have become.
    pub job: JobId,
    /// When it was last heard of; another: stale.
    pub at: Timestamp,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`crate::Command::TakeUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeUp {
    /// The node.
    pub node: NodeId,
    /// The life of its agent.
    pub incarnation: Incarnation,
}

/// See [`crate::Command::Grant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantAll {
    /// The term of the decision; another: stale.
    pub term: Term,
    /// What to whom.
    pub grants: Vec<Grant>,
}

/// Subtasks of one job for one node. What of it does not hold any more when it is applied is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The node.
    pub node: NodeId,
    /// The life of its agent that is meant.
    pub incarnation: Incarnation,
    /// The job.
    pub job: JobId,
    /// Through which of its backends.
    pub backend: Option<BackendName>,
    /// Which subtasks, each with the number of the attempt.
    pub subtasks: Vec<(Run, u32)>,
}

/// See [`crate::Command::RecordResults`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordResults {
    /// The node that reports.
    pub node: NodeId,
    /// By job, the attempts that ended.
    pub results: Vec<(JobId, Vec<AttemptEnd>)>,
}

/// See [`crate::Command::WakeSubtasks`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeSubtasks {
    /// Those whose time has come by then.
    pub until: Timestamp,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`crate::Command::CancelJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelJob {
    /// The job.
    pub job: JobId,
    /// Only these of its subtasks; none: the job as a whole.
    pub subtasks: Option<Ranges>,
    /// Why, for people.
    pub reason: String,
}

/// See [`crate::Command::RetryJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryJob {
    /// The job.
    pub job: JobId,
    /// Those of them that failed or were canceled; with them go those that were canceled because of them.
    pub subtasks: Ranges,
}

/// See [`crate::Command::ReprioritizeJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReprioritizeJob {
    /// The job.
    pub job: JobId,
    /// Only these of its subtasks; none: all, and the job has this priority.
    pub subtasks: Option<Ranges>,
    /// The new one.
    pub priority: u8,
}
