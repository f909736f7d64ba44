//! Views of jobs, to and from messages.

use sheaf_model::view::{FailedAttempts, FailureGroup, JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{JobState, SubtaskCounts, SubtaskState};

use crate::ApiError;
use crate::change::{timestamp_of_text, timestamp_text, unknown};
use crate::proto::v1;

fn state(state: JobState) -> i32 {
    match state {
        JobState::Running => v1::JobState::Running,
        JobState::Paused => v1::JobState::Paused,
        JobState::Finished => v1::JobState::Finished,
        JobState::Failed => v1::JobState::Failed,
        JobState::Canceled => v1::JobState::Canceled,
    }
    .into()
}

fn state_from(number: i32) -> Result<JobState, ApiError> {
    Ok(match v1::JobState::try_from(number) {
        Ok(v1::JobState::Running) => JobState::Running,
        Ok(v1::JobState::Paused) => JobState::Paused,
        Ok(v1::JobState::Finished) => JobState::Finished,
        Ok(v1::JobState::Failed) => JobState::Failed,
        Ok(v1::JobState::Canceled) => JobState::Canceled,
        Ok(v1::JobState::Unspecified) | Err(_) => return Err(unknown("job state", number)),
    })
}

pub(super) fn subtask_state(state: SubtaskState) -> i32 {
    match state {
        SubtaskState::Waiting => v1::SubtaskState::Waiting,
        SubtaskState::Ready => v1::SubtaskState::Ready,
        SubtaskState::Running => v1::SubtaskState::Running,
        SubtaskState::Finished => v1::SubtaskState::Finished,
        SubtaskState::Failed => v1::SubtaskState::Failed,
        SubtaskState::Canceled => v1::SubtaskState::Canceled,
    }
    .into()
}

/// None: a number without a meaning.
pub(super) fn subtask_state_from(number: i32) -> Option<SubtaskState> {
    SubtaskState::ALL.into_iter().find(|state| subtask_state(*state) == number)
}

/// A priority of an answer; what is no priority is the highest number there is.
fn priority(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl From<SubtaskCounts> for v1::SubtaskCounts {
    fn from(counts: SubtaskCounts) -> Self {
        let SubtaskCounts { waiting, ready, running, finished, failed, canceled } = counts;
        Self { waiting, ready, running, finished, failed, canceled }
    }
}

impl From<v1::SubtaskCounts> for SubtaskCounts {
    fn from(counts: v1::SubtaskCounts) -> Self {
        let v1::SubtaskCounts { waiting, ready, running, finished, failed, canceled } = counts;
        Self { waiting, ready, running, finished, failed, canceled }
    }
}

impl From<FailedAttempts> for v1::FailedAttempts {
    fn from(failed: FailedAttempts) -> Self {
        let FailedAttempts { exit, lost, timeout, backend, refused } = failed;
        Self { exit, lost, timeout, backend, refused }
    }
}

impl From<v1::FailedAttempts> for FailedAttempts {
    fn from(failed: v1::FailedAttempts) -> Self {
        let v1::FailedAttempts { exit, lost, timeout, backend, refused } = failed;
        Self { exit, lost, timeout, backend, refused }
    }
}

impl From<JobStatus> for v1::JobStatus {
    fn from(status: JobStatus) -> Self {
        let group = |it: FailureGroup| v1::FailureGroup {
            fingerprint: it.fingerprint,
            subtasks: it.subtasks,
            message: it.message,
        };
        Self {
            name: status.name,
            id: status.id,
            state: state(status.state),
            priority: status.priority.into(),
            module: status.module,
            count: status.count,
            max_running: status.max_running,
            counts: Some(status.counts.into()),
            progress: status.progress,
            rate_per_s: status.rate_per_s,
            eta: status.eta.as_deref().and_then(timestamp_of_text),
            created_at: timestamp_of_text(&status.created_at),
            started_at: status.started_at.as_deref().and_then(timestamp_of_text),
            ended_at: status.ended_at.as_deref().and_then(timestamp_of_text),
            owner: status.owner,
            labels: status.labels,
            revision: status.revision,
            failed_attempts: Some(status.failed_attempts.into()),
            failures: status.failures.into_iter().map(group).collect(),
            failure_groups: status.failure_groups,
            message: status.message,
        }
    }
}

impl TryFrom<v1::JobStatus> for JobStatus {
    type Error = ApiError;

    fn try_from(status: v1::JobStatus) -> Result<Self, ApiError> {
        let group = |it: v1::FailureGroup| FailureGroup {
            fingerprint: it.fingerprint,
            subtasks: it.subtasks,
            message: it.message,
        };
        Ok(Self {
            name: status.name,
            id: status.id,
            state: state_from(status.state)?,
            priority: priority(status.priority),
            module: status.module,
            count: status.count,
            max_running: status.max_running,
            counts: status.counts.unwrap_or_default().into(),
            progress: status.progress,
            rate_per_s: status.rate_per_s,
            eta: status.eta.as_ref().map(timestamp_text),
            created_at: status.created_at.as_ref().map(timestamp_text).unwrap_or_default(),
            started_at: status.started_at.as_ref().map(timestamp_text),
            ended_at: status.ended_at.as_ref().map(timestamp_text),
            owner: status.owner,
            labels: status.labels,
            revision: status.revision,
            failed_attempts: status.failed_attempts.unwrap_or_default().into(),
            failures: status.failures.into_iter().map(group).collect(),
            failure_groups: status.failure_groups,
            message: status.message,
        })
    }
}

impl From<JobRow> for v1::JobRow {
    fn from(row: JobRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            state: state(row.state),
            priority: row.priority.into(),
            module: row.module,
            counts: Some(row.counts.into()),
            progress: row.progress,
            created_at: timestamp_of_text(&row.created_at),
            owner: row.owner,
            labels: row.labels,
        }
    }
}

impl TryFrom<v1::JobRow> for JobRow {
    type Error = ApiError;

    fn try_from(row: v1::JobRow) -> Result<Self, ApiError> {
        Ok(Self {
            name: row.name,
            id: row.id,
            state: state_from(row.state)?,
            priority: priority(row.priority),
            module: row.module,
            counts: row.counts.unwrap_or_default().into(),
            progress: row.progress,
            created_at: row.created_at.as_ref().map(timestamp_text).unwrap_or_default(),
            owner: row.owner,
            labels: row.labels,
        })
    }
}

impl From<SubtaskRow> for v1::SubtaskRow {
    fn from(row: SubtaskRow) -> Self {
        Self {
            subtask: row.subtask,
            state: subtask_state(row.state),
            attempt: row.attempt,
            node: row.node,
            backend: row.backend,
            priority: row.priority.into(),
            started_at: row.started_at.as_deref().and_then(timestamp_of_text),
            ended_at: row.ended_at.as_deref().and_then(timestamp_of_text),
            exit_code: row.exit_code,
            message: row.message,
            fingerprint: row.fingerprint,
        }
    }
}

impl TryFrom<v1::SubtaskRow> for SubtaskRow {
    type Error = ApiError;

    fn try_from(row: v1::SubtaskRow) -> Result<Self, ApiError> {
        Ok(Self {
            subtask: row.subtask,
            state: subtask_state_from(row.state).ok_or_else(|| unknown("subtask state", row.state))?,
            attempt: row.attempt,
            node: row.node,
            backend: row.backend,
            priority: priority(row.priority),
            started_at: row.started_at.as_ref().map(timestamp_text),
            ended_at: row.ended_at.as_ref().map(timestamp_text),
            exit_code: row.exit_code,
            message: row.message,
            fingerprint: row.fingerprint,
        })
    }
}

impl From<JobExplanation> for v1::JobExplanation {
    fn from(it: JobExplanation) -> Self {
        Self {
            name: it.name,
            state: state(it.state),
            subtask: it.subtask.map(Into::into),
            why: it.why,
            nodes: it.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::JobExplanation> for JobExplanation {
    type Error = ApiError;

    fn try_from(it: v1::JobExplanation) -> Result<Self, ApiError> {
        Ok(Self {
            name: it.name,
            state: state_from(it.state)?,
            subtask: it.subtask.map(TryInto::try_into).transpose()?,
            why: it.why,
            nodes: it.nodes.into_iter().map(Into::into).collect(),
        })
    }
}
