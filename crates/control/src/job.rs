//! Jobs: `sheaf.v1.JobService`.

mod bulk;
mod ended;
mod logs;
mod submit;
mod view;
mod why;

use std::time::Duration;

use futures::StreamExt as _;
use sheaf_engine::{CancelJob, Command, Job, ReprioritizeJob, RetryJob};
use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{JobId, JobName, JobSpec, Ranges, Selector};
use sheaf_wire::job::{
    CancelSubtasks, CheckJob, ExplainJob, GotJob, JobApi, JobLogs, ListJobs, ListSubtasks, OnJob,
    Reprioritize, RetrySubtasks, SubmitPart, Submitted, Touched,
};
use sheaf_wire::logs::LogLine;
use sheaf_wire::{Answers, ApiError, Caller, Done, Page, async_trait};

use crate::Control;
use crate::filter::{label, page, selects};

/// A watch says how a job stands at most so often.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Most places at which a selector takes subtasks out of a job: each costs memory as long as the call takes.
const RUNS_MAX: u64 = 1_000_000;

#[async_trait]
impl JobApi for Control {
    async fn submit(
        &self,
        caller: Caller,
        spec: JobSpec,
        parts: Answers<SubmitPart>,
    ) -> Result<Submitted, ApiError> {
        self.submit_job(&caller, spec, parts).await
    }

    async fn check(&self, _: Caller, ask: CheckJob) -> Result<Submitted, ApiError> {
        self.check_job(&ask)
    }

    async fn list(&self, caller: Caller, ask: ListJobs) -> Result<Page<JobRow>, ApiError> {
        self.caught_up(&caller).await?;
        self.see_rows(|sight| {
            let before: u64 = ask.page.token.parse().unwrap_or(u64::MAX);
            let jobs: Vec<&Job> = sight.state.jobs.iter().filter(|job| job.id.0 < before).collect();
            let rows = jobs.into_iter().rev().map(view::row);
            let selected = rows.filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, selected, |row| row.id.to_string())
        })
    }

    async fn get(&self, caller: Caller, ask: JobName) -> Result<GotJob, ApiError> {
        self.caught_up(&caller).await?;
        self.got(&ask).await
    }

    async fn subtasks(&self, caller: Caller, ask: ListSubtasks) -> Result<Page<SubtaskRow>, ApiError> {
        self.caught_up(&caller).await?;
        self.subtask_page(&caller, ask).await
    }

    async fn explain(&self, caller: Caller, ask: ExplainJob) -> Result<JobExplanation, ApiError> {
        self.caught_up(&caller).await?;
        self.explain_job(ask).await
    }

    async fn watch(&self, caller: Caller, ask: JobName) -> Result<Answers<JobStatus>, ApiError> {
        self.caught_up(&caller).await?;
        let first = self.got(&ask).await?.status;
        let watch = Watch { control: self.clone(), job: ask, said: None, next: Some(first) };
        let steps = futures::stream::try_unfold(watch, |mut watch| async move {
            Ok(watch.next().await?.map(|status| (status, watch)))
        });
        Ok(steps.boxed())
    }

    async fn logs(&self, caller: Caller, ask: JobLogs) -> Result<Answers<LogLine>, ApiError> {
        self.caught_up(&caller).await?;
        self.job_logs(ask).await
    }

    async fn pause(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError> {
        let id = self.job_id(&ask.job)?;
        self.change(&caller, caller.request.clone(), Command::PauseJob(id)).await
    }

    async fn resume(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError> {
        let id = self.job_id(&ask.job)?;
        self.change(&caller, caller.request.clone(), Command::ResumeJob(id)).await
    }

    async fn delete(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError> {
        let id = self.job_id(&ask.job)?;
        self.change(&caller, caller.request.clone(), Command::DeleteJob(id)).await
    }

    async fn cancel(&self, caller: Caller, ask: CancelSubtasks) -> Result<Touched, ApiError> {
        let meant = self.selected(&caller, &ask.job, ask.selector.as_ref(), ask.condition).await?;
        let (job, all, reason) = (meant.job, meant.all, ask.reason);
        let verb = move |subtasks: Ranges| {
            let subtasks = (!all).then_some(subtasks);
            Command::CancelJob(CancelJob { job, subtasks, reason: reason.clone() })
        };
        self.touch(&caller, &meant, ask.dry_run, verb).await
    }

    async fn retry(&self, caller: Caller, ask: RetrySubtasks) -> Result<Touched, ApiError> {
        let meant = self.selected(&caller, &ask.job, ask.selector.as_ref(), ask.condition).await?;
        let job = meant.job;
        let verb = move |subtasks: Ranges| Command::RetryJob(RetryJob { job, subtasks });
        self.touch(&caller, &meant, ask.dry_run, verb).await
    }

    async fn reprioritize(&self, caller: Caller, ask: Reprioritize) -> Result<Touched, ApiError> {
        let meant = self.selected(&caller, &ask.job, ask.selector.as_ref(), ask.condition).await?;
        let (job, all, priority) = (meant.job, meant.all, ask.priority);
        let verb = move |subtasks: Ranges| {
            let subtasks = (!all).then_some(subtasks);
            Command::ReprioritizeJob(ReprioritizeJob { job, subtasks, priority })
        };
        self.touch(&caller, &meant, ask.dry_run, verb).await
    }
}

impl Control {
    pub(crate) fn see_job<T>(
        &self,
        name: &JobName,
        view: impl FnOnce(&sheaf_engine::State, &Job) -> T,
    ) -> Result<T, ApiError> {
        let member = self.member()?;
        let state = member.replica.state();
        let job = state.jobs.named(name.as_str());
        job.map(|job| view(&state, job)).ok_or_else(|| no_job(name))
    }

    fn job_id(&self, name: &JobName) -> Result<JobId, ApiError> {
        self.see_job(name, |_, job| job.id)
    }
}

/// A selector that names what the job does not have is a mistake, and so is one that takes the job apart.
fn within(job: &Job, selector: &Selector) -> Result<(), ApiError> {
    if let Some(highest) = selector.highest().filter(|highest| *highest >= job.count) {
        return Err(ApiError::invalid(
            "selector",
            format!("job {} has no subtask {highest}", job.spec.name),
            format!("0 to {}", job.count.saturating_sub(1)),
        ));
    }
    let runs = selector.runs(job.count);
    if runs > RUNS_MAX {
        let problem = format!("it takes subtasks out at {runs} places, and may at {RUNS_MAX}");
        return Err(ApiError::invalid("selector", problem, "fewer at a time, like 0-999999:2"));
    }
    Ok(())
}

pub(crate) fn no_job(name: &JobName) -> ApiError {
    ApiError::NotFound(format!("there is no job {name}"))
}

/// What a row says under a filter's key.
fn values(row: &JobRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "state" => vec![row.state.as_str().to_owned()],
        "module" => {
            let name = row.module.split('@').next().unwrap_or_default();
            vec![name.to_owned(), row.module.clone()]
        }
        "priority" => vec![row.priority.to_string()],
        "owner" => row.owner.clone().into_iter().collect(),
        key => label(&row.labels, key),
    }
}

/// A job, as it is and as it changes.
struct Watch {
    control: Control,
    job: JobName,
    said: Option<JobStatus>,
    next: Option<JobStatus>,
}

impl Watch {
    /// None: it is over, and that was said.
    async fn next(&mut self) -> Result<Option<JobStatus>, ApiError> {
        if self.said.as_ref().is_some_and(|said| said.state.is_over()) {
            return Ok(None);
        }
        let mut revision = self.control.member()?.replica.revision();
        loop {
            let status = match self.next.take() {
                Some(first) => first,
                None => {
                    // Changes of anything wake it; what it says of is looked at then, and not more often than this.
                    tokio::time::sleep(WATCH_EVERY).await;
                    if revision.changed().await.is_err() {
                        return Ok(None);
                    }
                    self.control.got(&self.job).await?.status
                }
            };
            let same = |said: &JobStatus| {
                (said.state, said.counts, said.revision) == (status.state, status.counts, status.revision)
            };
            if !self.said.as_ref().is_some_and(same) {
                self.said = Some(status.clone());
                return Ok(Some(status));
            }
        }
    }
}
