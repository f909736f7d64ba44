//! Questions and answers about jobs, to and from messages.

use sheaf_model::view::{JobRow, SubtaskRow};
use sheaf_model::{JobId, JobName, RequestId, Revision, Selector};

use super::spec::{answered, priority_of, write};
use super::view::{subtask_state, subtask_state_from};
use super::{
    CancelSubtasks, ExplainJob, GotJob, JobLogs, ListJobs, ListSubtasks, OnJob, Reprioritize, RetrySubtasks,
    Submitted, Touched,
};
use crate::change::page_of;
use crate::proto::v1;
use crate::{ApiError, Caller, Done, Filter, PAGE_MAX, Page};

const KEYS: &[&str] = &["name", "state", "module", "priority", "owner", "label."];
/// Longest reason in bytes.
const REASON_MAX: usize = 1000;
/// Longest condition in bytes.
const CONDITION_MAX: usize = 16 << 10;

/// A name as a question has it.
pub(super) fn name(text: &str) -> Result<JobName, ApiError> {
    JobName::new(text).map_err(|error| ApiError::invalid("name", error.problem, error.remedy))
}

fn selector(text: &str) -> Result<Option<Selector>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |error: sheaf_model::MeasureError| ApiError::invalid("selector", error.problem, error.remedy);
    text.parse().map(Some).map_err(wrong)
}

fn selected(selector: Option<&Selector>) -> String {
    selector.map(ToString::to_string).unwrap_or_default()
}

impl From<Submitted> for v1::SubmitJobResponse {
    fn from(it: Submitted) -> Self {
        Self {
            name: it.name.as_str().to_owned(),
            id: it.id.0,
            count: it.count,
            revision: it.revision.0,
            known: it.known,
            warnings: it.warnings,
        }
    }
}

impl TryFrom<v1::SubmitJobResponse> for Submitted {
    type Error = ApiError;

    fn try_from(it: v1::SubmitJobResponse) -> Result<Self, ApiError> {
        let name = JobName::new(&it.name)
            .map_err(|error| ApiError::Internal(format!("the answer names no job: {}", error.problem)))?;
        Ok(Self {
            name,
            id: JobId(it.id),
            count: it.count,
            revision: Revision(it.revision),
            known: it.known,
            warnings: it.warnings,
        })
    }
}

pub(super) fn list(message: v1::ListJobsRequest) -> Result<ListJobs, ApiError> {
    Ok(ListJobs {
        page: page_of(message.page_size, message.page_token, PAGE_MAX)?,
        filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)?,
    })
}

impl From<ListJobs> for v1::ListJobsRequest {
    fn from(ask: ListJobs) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<Page<JobRow>> for v1::ListJobsResponse {
    fn from(page: Page<JobRow>) -> Self {
        Self { jobs: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl TryFrom<v1::ListJobsResponse> for Page<JobRow> {
    type Error = ApiError;

    fn try_from(page: v1::ListJobsResponse) -> Result<Self, ApiError> {
        let rows = page.jobs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { rows, next: page.next_page_token })
    }
}

impl From<GotJob> for v1::GetJobResponse {
    fn from(got: GotJob) -> Self {
        Self { spec: Some(write(got.spec)), status: Some(got.status.into()) }
    }
}

impl TryFrom<v1::GetJobResponse> for GotJob {
    type Error = ApiError;

    fn try_from(got: v1::GetJobResponse) -> Result<Self, ApiError> {
        let status = got.status.ok_or_else(|| ApiError::Internal("the answer has no status".to_owned()))?;
        Ok(Self { spec: answered(got.spec)?, status: status.try_into()? })
    }
}

pub(super) fn subtasks(message: v1::ListSubtasksRequest) -> Result<ListSubtasks, ApiError> {
    let mut states = Vec::new();
    for (index, number) in message.states.into_iter().enumerate() {
        let Some(state) = subtask_state_from(number) else {
            let problem = format!("{number} has no meaning");
            return Err(ApiError::invalid(
                format!("states[{index}]"),
                problem,
                "1 (waiting) to 6 (canceled)",
            ));
        };
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(ListSubtasks {
        job: name(&message.name)?,
        page: page_of(message.page_size, message.page_token, PAGE_MAX)?,
        states,
        selector: selector(&message.selector)?,
        condition: condition(message.r#where)?,
    })
}

impl From<ListSubtasks> for v1::ListSubtasksRequest {
    fn from(ask: ListSubtasks) -> Self {
        Self {
            name: ask.job.as_str().to_owned(),
            page_size: ask.page.size,
            page_token: ask.page.token,
            states: ask.states.into_iter().map(subtask_state).collect(),
            selector: selected(ask.selector.as_ref()),
            r#where: ask.condition.unwrap_or_default(),
        }
    }
}

impl From<Page<SubtaskRow>> for v1::ListSubtasksResponse {
    fn from(page: Page<SubtaskRow>) -> Self {
        Self { subtasks: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl TryFrom<v1::ListSubtasksResponse> for Page<SubtaskRow> {
    type Error = ApiError;

    fn try_from(page: v1::ListSubtasksResponse) -> Result<Self, ApiError> {
        let rows = page.subtasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { rows, next: page.next_page_token })
    }
}

pub(super) fn explain(message: &v1::ExplainJobRequest) -> Result<ExplainJob, ApiError> {
    Ok(ExplainJob { job: name(&message.name)?, subtask: message.subtask })
}

impl From<ExplainJob> for v1::ExplainJobRequest {
    fn from(ask: ExplainJob) -> Self {
        Self { name: ask.job.as_str().to_owned(), subtask: ask.subtask }
    }
}

pub(super) fn logs(message: &v1::JobLogsRequest) -> Result<JobLogs, ApiError> {
    Ok(JobLogs {
        job: name(&message.name)?,
        subtask: message.subtask,
        attempt: message.attempt,
        follow: message.follow,
        tail: message.tail,
    })
}

impl From<JobLogs> for v1::JobLogsRequest {
    fn from(ask: JobLogs) -> Self {
        Self {
            name: ask.job.as_str().to_owned(),
            subtask: ask.subtask,
            attempt: ask.attempt,
            follow: ask.follow,
            tail: ask.tail,
        }
    }
}

/// What may follow WHERE; none: empty.
fn condition(text: String) -> Result<Option<String>, ApiError> {
    if text.len() > CONDITION_MAX {
        let problem = format!("a condition of {} bytes", text.len());
        return Err(ApiError::invalid("where", problem, format!("at most {CONDITION_MAX} bytes")));
    }
    Ok((!text.trim().is_empty()).then_some(text))
}

/// A change, and the id of the request for it.
pub(super) type Change<A> = (A, Option<RequestId>);

fn id(request: Option<&RequestId>) -> String {
    request.map(|id| id.0.clone()).unwrap_or_default()
}

/// The three changes that need no more than a name have messages alike.
macro_rules! on_job {
    ($($message:ident)*) => {$(
        impl v1::$message {
            pub(super) fn of(ask: &OnJob, request: Option<&RequestId>) -> Self {
                Self { name: ask.job.as_str().to_owned(), request_id: id(request) }
            }

            pub(super) fn read(self, caller: &Caller) -> Result<Change<OnJob>, ApiError> {
                Ok((OnJob { job: name(&self.name)? }, caller.request_id(self.request_id)?))
            }
        }
    )*};
}

on_job! { PauseJobRequest ResumeJobRequest DeleteJobRequest }

impl v1::CancelSubtasksRequest {
    pub(super) fn of(ask: CancelSubtasks, request: Option<&RequestId>) -> Self {
        Self {
            name: ask.job.as_str().to_owned(),
            selector: selected(ask.selector.as_ref()),
            reason: ask.reason,
            dry_run: ask.dry_run,
            request_id: id(request),
            r#where: ask.condition.unwrap_or_default(),
        }
    }

    pub(super) fn read(self, caller: &Caller) -> Result<Change<CancelSubtasks>, ApiError> {
        if self.reason.len() > REASON_MAX || self.reason.contains(char::is_control) {
            let problem = format!("a reason of {} bytes, or of several lines", self.reason.len());
            return Err(ApiError::invalid(
                "reason",
                problem,
                format!("one line of at most {REASON_MAX} bytes"),
            ));
        }
        let ask = CancelSubtasks {
            job: name(&self.name)?,
            selector: selector(&self.selector)?,
            condition: condition(self.r#where)?,
            reason: self.reason,
            dry_run: self.dry_run,
        };
        Ok((ask, caller.request_id(self.request_id)?))
    }
}

impl v1::RetrySubtasksRequest {
    pub(super) fn of(ask: &RetrySubtasks, request: Option<&RequestId>) -> Self {
        Self {
            name: ask.job.as_str().to_owned(),
            selector: selected(ask.selector.as_ref()),
            dry_run: ask.dry_run,
            request_id: id(request),
            r#where: ask.condition.clone().unwrap_or_default(),
        }
    }

    pub(super) fn read(self, caller: &Caller) -> Result<Change<RetrySubtasks>, ApiError> {
        let ask = RetrySubtasks {
            job: name(&self.name)?,
            selector: selector(&self.selector)?,
            condition: condition(self.r#where)?,
            dry_run: self.dry_run,
        };
        Ok((ask, caller.request_id(self.request_id)?))
    }
}

impl v1::ReprioritizeSubtasksRequest {
    pub(super) fn of(ask: &Reprioritize, request: Option<&RequestId>) -> Self {
        Self {
            name: ask.job.as_str().to_owned(),
            selector: selected(ask.selector.as_ref()),
            priority: Some(ask.priority.into()),
            dry_run: ask.dry_run,
            request_id: id(request),
            r#where: ask.condition.clone().unwrap_or_default(),
        }
    }

    pub(super) fn read(self, caller: &Caller) -> Result<Change<Reprioritize>, ApiError> {
        let Some(priority) = self.priority else {
            return Err(ApiError::invalid("priority", "missing", "0 to 100, higher first"));
        };
        let ask = Reprioritize {
            job: name(&self.name)?,
            selector: selector(&self.selector)?,
            condition: condition(self.r#where)?,
            priority: priority_of(priority).map_err(|defect| ApiError::Invalid(vec![defect]))?,
            dry_run: self.dry_run,
        };
        Ok((ask, caller.request_id(self.request_id)?))
    }
}

impl From<Touched> for v1::SubtasksResponse {
    fn from(touched: Touched) -> Self {
        let Done { revision, unchanged, warnings } = touched.done;
        Self { revision: revision.0, unchanged, warnings, subtasks: touched.subtasks }
    }
}

impl From<v1::SubtasksResponse> for Touched {
    fn from(it: v1::SubtasksResponse) -> Self {
        let done = Done { revision: Revision(it.revision), unchanged: it.unchanged, warnings: it.warnings };
        Self { done, subtasks: it.subtasks }
    }
}
