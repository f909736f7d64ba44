//! Jobs over the wire: what is asked, what is answered, and both ends of it.
//!
//! ```text
//!  console ── spec, items …, done ──► Client::submit_job ──► sheaf.v1.JobService ──► Serve (a JobApi) ──► control
//! ```
//!
//! Whoever changes a job may name the request: in messages `request_id`, here [`Caller::request`].

mod chunk;
mod client;
mod convert;
mod serve;
mod spec;
mod submit;
#[cfg(test)]
mod tests;
mod view;

use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{Item, JobId, JobName, JobSpec, Revision, Selector, SubtaskState};

pub use chunk::{Chunks, size};
pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::logs::LogLine;
use crate::{Answers, ApiError, Caller, Done, Filter, Page, PageOf, async_trait};

/// Longest items of one message, by [`size`]; also the longest item.
pub const CHUNK_MAX: usize = sheaf_model::job::ITEM_MAX;

/// What follows the spec of a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitPart {
    /// The next items, at most [`CHUNK_MAX`]; never empty at the server.
    Items(Vec<Item>),
    /// That was all. Always the last, and always there unless the stream ends with an error.
    Done {
        /// How many subtasks the job has; at the server, as many as there were items, or numbers in the array.
        count: u32,
    },
}

/// See `JobService.Submit`, with `validate_only`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckJob {
    /// What it would be.
    pub spec: JobSpec,
    /// How many items it would have; 0: it is an array, or nobody knows yet.
    pub items: u32,
}

/// See `JobService.Submit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The job.
    pub name: JobName,
    /// Its number; 0: it was only checked.
    pub id: JobId,
    /// How many subtasks it has.
    pub count: u32,
    /// When it became visible; 0: it was only checked.
    pub revision: Revision,
    /// It was there already, under this request's id.
    pub known: bool,
    /// For people.
    pub warnings: Vec<String>,
}

/// See `JobService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListJobs {
    /// Which part.
    pub page: PageOf,
    /// Which jobs.
    pub filter: Filter,
}

/// See `JobService.Get`.
#[derive(Clone, Debug, PartialEq)]
pub struct GotJob {
    /// What was asked for, the module's version fixed.
    pub spec: JobSpec,
    /// Where it stands.
    pub status: JobStatus,
}

/// See `JobService.Subtasks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSubtasks {
    /// Of which job.
    pub job: JobName,
    /// Which part.
    pub page: PageOf,
    /// Only those in one of these states, each once; none: in any.
    pub states: Vec<SubtaskState>,
    /// Only those that it selects.
    pub selector: Option<Selector>,
    /// Only those for which it holds: SQL over the view `subtasks`.
    pub condition: Option<String>,
}

/// See `JobService.Explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainJob {
    /// Which job.
    pub job: JobName,
    /// One subtask of it; none: the job as a whole.
    pub subtask: Option<u32>,
}

/// See `JobService.Logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLogs {
    /// Of which job.
    pub job: JobName,
    /// Of which subtask.
    pub subtask: u32,
    /// Of which attempt, from 1; 0: the last.
    pub attempt: u32,
    /// Stay until the attempt has ended.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u32>,
}

/// A change of a job that needs no more than its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnJob {
    /// Which one.
    pub job: JobName,
}

/// See `JobService.Cancel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelSubtasks {
    /// Of which job.
    pub job: JobName,
    /// Only these; none: the job as a whole.
    pub selector: Option<Selector>,
    /// Only those for which it holds: SQL over the view `subtasks`.
    pub condition: Option<String>,
    /// Why, for people; may be empty.
    pub reason: String,
    /// Say how many, change nothing.
    pub dry_run: bool,
}

/// See `JobService.Retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySubtasks {
    /// Of which job.
    pub job: JobName,
    /// Only these of those that failed or were canceled; none: all of them.
    pub selector: Option<Selector>,
    /// Only those for which it holds: SQL over the view `subtasks`.
    pub condition: Option<String>,
    /// Say how many, change nothing.
    pub dry_run: bool,
}

/// See `JobService.Reprioritize`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reprioritize {
    /// Of which job.
    pub job: JobName,
    /// Only these; none: all, and the job has this priority.
    pub selector: Option<Selector>,
    /// Only those for which it holds: SQL over the view `subtasks`.
    pub condition: Option<String>,
    /// At most [`sheaf_model::job::PRIORITY_MAX`].
    pub priority: u8,
    /// Say how many, change nothing.
    pub dry_run: bool,
}

/// What a change of some subtasks answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// As every change; asked only how many, it is unchanged.
    pub done: Done,
    /// How many were changed, or would be.
    pub subtasks: u64,
}

/// What answers `sheaf.v1.JobService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait JobApi: Send + Sync + 'static {
    /// Submits a job. The parts are checked for themselves (JSON, length, count); what comes of them together is not.
    async fn submit(
        &self,
        caller: Caller,
        spec: JobSpec,
        parts: Answers<SubmitPart>,
    ) -> Result<Submitted, ApiError>;
    /// Says whether a job would be taken; nothing is submitted.
    async fn check(&self, caller: Caller, ask: CheckJob) -> Result<Submitted, ApiError>;
    /// Jobs, the newest first.
    async fn list(&self, caller: Caller, ask: ListJobs) -> Result<Page<JobRow>, ApiError>;
    /// What was asked for and where it stands.
    async fn get(&self, caller: Caller, ask: JobName) -> Result<GotJob, ApiError>;
    /// Subtasks in the order of their numbers.
    async fn subtasks(&self, caller: Caller, ask: ListSubtasks) -> Result<Page<SubtaskRow>, ApiError>;
    /// Why it does not run, or no faster.
    async fn explain(&self, caller: Caller, ask: ExplainJob) -> Result<JobExplanation, ApiError>;
    /// As it is, then as it changes, until it is over.
    async fn watch(&self, caller: Caller, ask: JobName) -> Result<Answers<JobStatus>, ApiError>;
    /// What an attempt printed.
    async fn logs(&self, caller: Caller, ask: JobLogs) -> Result<Answers<LogLine>, ApiError>;
    /// Nothing more of it is started.
    async fn pause(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError>;
    /// It goes on.
    async fn resume(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError>;
    /// Deletes a job that is over.
    async fn delete(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError>;
    /// Ends it, or some of its subtasks.
    async fn cancel(&self, caller: Caller, ask: CancelSubtasks) -> Result<Touched, ApiError>;
    /// Has failed and canceled subtasks tried again.
    async fn retry(&self, caller: Caller, ask: RetrySubtasks) -> Result<Touched, ApiError>;
    /// Gives it, or some of its subtasks, another priority.
    async fn reprioritize(&self, caller: Caller, ask: Reprioritize) -> Result<Touched, ApiError>;
}
