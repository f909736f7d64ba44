//! Jobs of the made-up cluster: it keeps what is submitted, and says of subtasks what the examples say.

use futures::StreamExt as _;
use sheaf_model::document::job_module_defects;
use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{Defect, Item, JobId, JobName, JobSpec, JobState, Revision, Subtasks, Timestamp};
use sheaf_wire::job::{
    CancelSubtasks, CheckJob, ExplainJob, GotJob, JobApi, JobLogs, ListJobs, ListSubtasks, OnJob,
    Reprioritize, RetrySubtasks, SubmitPart, Submitted, Touched,
};
use sheaf_wire::logs::{LogLine, LogStream};
use sheaf_wire::{Answers, ApiError, Caller, Done, Page, async_trait};

use super::super::job::example;
use super::{Fake, Held, page};

impl Held {
    fn job(&self, name: &JobName) -> Result<JobStatus, ApiError> {
        let known = self.jobs.iter().find(|(spec, _)| spec.name == *name);
        let (_, items) = known.ok_or_else(|| ApiError::NotFound(format!("there is no job {name}")))?;
        let status = JobStatus { name: name.to_string(), ..example::status() };
        // An array has none.
        let count = if items.is_empty() { status.count } else { items.len() as u64 };
        Ok(JobStatus { count, ..status })
    }
}

impl Fake {
    fn on_job(&self, caller: &Caller, ask: &OnJob) -> Result<Done, ApiError> {
        self.held().job(&ask.job)?;
        let revision = self.change(caller, caller.request.clone());
        Ok(Done { revision: Revision(revision), ..Done::default() })
    }

    fn touch(&self, name: &JobName, asked: String, dry_run: bool) -> Result<Touched, ApiError> {
        let mut held = self.held();
        held.job(name)?;
        held.asked.push(asked);
        let done = Done { revision: Revision(held.revision), unchanged: dry_run, ..Done::default() };
        Ok(Touched { done, subtasks: 12 })
    }
}

/// Items of a job, at most.
const ITEMS_MAX: usize = 30_000;

#[async_trait]
impl JobApi for Fake {
    async fn submit(
        &self,
        caller: Caller,
        spec: JobSpec,
        mut parts: Answers<SubmitPart>,
    ) -> Result<Submitted, ApiError> {
        let mut items: Vec<Item> = Vec::new();
        let mut count = 0;
        while let Some(part) = parts.next().await {
            match part? {
                SubmitPart::Items(more) => items.extend(more),
                SubmitPart::Done { count: all } => count = all,
            }
        }
        let same = |(known, _): &(JobSpec, Vec<Item>)| known.name == spec.name;
        let place = self.held().jobs.iter().position(same);
        let known = place.is_some();
        if place.is_some_and(|place| self.held().jobs[place].0.request_id != spec.request_id) {
            return Err(ApiError::Conflict(format!("there is a job {} already", spec.name)));
        }
        let revision = self.change(&caller, caller.request.clone());
        let name = spec.name.clone();
        if items.len() > ITEMS_MAX {
            return Err(ApiError::Exhausted(format!("job {name} has more than {ITEMS_MAX} subtasks")));
        }
        if !known {
            self.held().jobs.push((spec, items));
        }
        let (id, revision) = (JobId(revision), Revision(revision));
        Ok(Submitted { name, id, count, revision, known, warnings: Vec::new() })
    }

    async fn check(&self, _: Caller, CheckJob { spec, items }: CheckJob) -> Result<Submitted, ApiError> {
        let count = match spec.subtasks {
            Subtasks::Array(range) => range.count() as u32,
            Subtasks::Items => items,
        };
        let held = self.held();
        let module = held.modules.iter().find(|module| module.name == spec.module.name);
        let mut defects = module.map(|module| job_module_defects(&spec, module)).unwrap_or_default();
        for (index, name) in spec.backends.iter().enumerate() {
            if !held.backends.iter().any(|backend| backend.name == *name) {
                let problem = format!("there is no backend {name}");
                defects.push(Defect::new(format!("backends[{index}]"), problem, "register it first"));
            }
        }
        if count as usize > ITEMS_MAX {
            let problem = format!("there are {count}, and a job may have {ITEMS_MAX}");
            defects.push(Defect::new("subtasks", problem, "several jobs"));
        }
        if !defects.is_empty() {
            return Err(ApiError::Invalid(defects));
        }
        let (id, revision) = (JobId(0), Revision(0));
        Ok(Submitted { name: spec.name, id, count, revision, known: false, warnings: Vec::new() })
    }

    async fn list(&self, _: Caller, ask: ListJobs) -> Result<Page<JobRow>, ApiError> {
        let held = self.held();
        let rows = held.jobs.iter().rev().filter_map(|(spec, _)| held.job(&spec.name).ok());
        Ok(page(rows.map(example::row).collect(), &ask.page))
    }

    async fn get(&self, _: Caller, ask: JobName) -> Result<GotJob, ApiError> {
        let held = self.held();
        let status = held.job(&ask)?;
        let spec = held.jobs.iter().find(|(spec, _)| spec.name == ask).map(|(spec, _)| spec.clone());
        Ok(GotJob { spec: spec.unwrap(), status })
    }

    async fn subtasks(&self, _: Caller, ask: ListSubtasks) -> Result<Page<SubtaskRow>, ApiError> {
        self.held().job(&ask.job)?;
        let mut rows = example::subtasks();
        rows.retain(|row| ask.states.is_empty() || ask.states.contains(&row.state));
        Ok(page(rows, &ask.page))
    }

    async fn explain(&self, _: Caller, ask: ExplainJob) -> Result<JobExplanation, ApiError> {
        self.held().job(&ask.job)?;
        let subtask = ask.subtask.map(|subtask| SubtaskRow { subtask, ..example::subtasks()[2].clone() });
        Ok(JobExplanation { subtask, ..example::explanation() })
    }

    async fn watch(&self, _: Caller, ask: JobName) -> Result<Answers<JobStatus>, ApiError> {
        let held = self.held();
        let status = held.job(&ask)?;
        let first = futures::stream::iter([Ok(status.clone())]);
        Ok(match held.job_state {
            None => first.chain(futures::stream::pending()).boxed(),
            Some(state) => {
                let message = if state == JobState::Finished { "" } else { "12 subtasks failed" }.to_owned();
                let over = JobStatus { state, message, ..status };
                first.chain(futures::stream::iter([Ok(over)])).boxed()
            }
        })
    }

    async fn logs(&self, _: Caller, ask: JobLogs) -> Result<Answers<LogLine>, ApiError> {
        self.held().job(&ask.job)?;
        let line =
            |stream, text: String| Ok(LogLine { node: "n1".to_owned(), at: Timestamp(0), stream, text });
        let lines = [
            line(LogStream::Stdout, format!("subtask {} attempt {}", ask.subtask, ask.attempt)),
            line(LogStream::Sheaf, "exited with exit code 2".to_owned()),
        ];
        Ok(futures::stream::iter(lines).boxed())
    }

    async fn pause(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError> {
        self.on_job(&caller, &ask)
    }

    async fn resume(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError> {
        Ok(Done { unchanged: true, ..self.on_job(&caller, &ask)? })
    }

    async fn delete(&self, caller: Caller, ask: OnJob) -> Result<Done, ApiError> {
        let done = self.on_job(&caller, &ask)?;
        self.held().jobs.retain(|(spec, _)| spec.name != ask.job);
        Ok(done)
    }

    async fn cancel(&self, _: Caller, ask: CancelSubtasks) -> Result<Touched, ApiError> {
        let selector = ask.selector.map(|it| it.to_string()).unwrap_or_default();
        self.touch(&ask.job, format!("cancel {selector} {}", ask.reason), ask.dry_run)
    }

    async fn retry(&self, _: Caller, ask: RetrySubtasks) -> Result<Touched, ApiError> {
        let selector = ask.selector.map(|it| it.to_string()).unwrap_or_default();
        self.touch(&ask.job, format!("retry {selector}"), ask.dry_run)
    }

    async fn reprioritize(&self, _: Caller, ask: Reprioritize) -> Result<Touched, ApiError> {
        let selector = ask.selector.map(|it| it.to_string()).unwrap_or_default();
        self.touch(&ask.job, format!("reprioritize {selector} {}", ask.priority), ask.dry_run)
    }
}
