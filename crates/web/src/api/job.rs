//! Jobs and their subtasks.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use sheaf_model::{JobName, Selector, SubtaskState, nearest};
use sheaf_wire::job::{
    CancelSubtasks, ExplainJob, JobLogs, ListJobs, ListSubtasks, OnJob, Reprioritize, RetrySubtasks, Touched,
};

use super::done;
use crate::answer::{self, Answer, Failed};
use crate::ask::{Ask, Change, named, read};
use crate::live::{self, Sent};
use crate::serve::Shared;

/// `job list`
pub(super) async fn list(ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "filter"])?;
    let (page, filter) = (ask.page()?, ask.filter()?);
    Ok(answer::page(&ask.client.list_jobs(ListJobs { page, filter }).await?))
}

/// `job status NAME`
pub(super) async fn status(ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", JobName::new)?;
    Ok(answer::view(&ask.client.job(&name).await?.status))
}

/// `job explain NAME [SUBTASK]`
pub(super) async fn explain(ask: Ask) -> Answer {
    let ask = ask.only(&["name", "subtask"])?;
    let of = ExplainJob { job: ask.name("name", JobName::new)?, subtask: ask.read("subtask")? };
    Ok(answer::view(&ask.client.explain_job(of).await?))
}

/// `job subtasks NAME`
pub(super) async fn subtasks(ask: Ask) -> Answer {
    let ask = ask.only(&["name", "subtasks", "state", "where", "limit", "after"])?;
    let of = ListSubtasks {
        job: ask.name("name", JobName::new)?,
        page: ask.page()?,
        states: states(ask.text("state").unwrap_or_default())?,
        selector: ask.read("subtasks")?,
        condition: ask.text("where").map(str::to_owned),
    };
    Ok(answer::page(&ask.client.list_subtasks(of).await?))
}

/// States with commas between.
fn states(text: &str) -> Result<Vec<SubtaskState>, Failed> {
    let mut states = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let known = SubtaskState::ALL.map(SubtaskState::as_str);
        let Some(state) = SubtaskState::ALL.into_iter().find(|state| state.as_str() == word) else {
            let remedy = match nearest(word, &known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("one of {}", known.join(", ")),
            };
            return Err(Failed::invalid("state", format!("unknown state {word:?}"), remedy));
        };
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(states)
}

/// `job watch NAME`: as it is, then as it changes.
pub(super) async fn watch(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", JobName::new)?;
    let opened = ask.client.watch_job(&name).await;
    live::answers(&shared, opened, |status| Sent::new("status", json!(status)))
}

/// `job logs NAME SUBTASK`, each line an event.
pub(super) async fn logs(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&["name", "subtask", "attempt", "follow", "tail"])?;
    let of = JobLogs {
        job: ask.name("name", JobName::new)?,
        subtask: ask.read_needed("subtask")?,
        attempt: ask.read("attempt")?.unwrap_or(0),
        follow: ask.flag("follow")?,
        tail: ask.read("tail")?,
    };
    let opened = ask.client.job_logs(of).await;
    live::answers(&shared, opened, |line| Sent::new("line", line.json()))
}

/// A job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
}

impl Named {
    fn on(&self) -> Result<OnJob, Failed> {
        Ok(OnJob { job: named("name", &self.name, JobName::new)? })
    }
}

/// `job pause`
pub(super) async fn pause(change: Change<Named>) -> Answer {
    let Change { client, ask, request } = change;
    done("Job", &ask.name, "paused", &client.pause_job(ask.on()?, request).await?)
}

/// `job resume`
pub(super) async fn resume(change: Change<Named>) -> Answer {
    let Change { client, ask, request } = change;
    done("Job", &ask.name, "resumed", &client.resume_job(ask.on()?, request).await?)
}

/// `job delete`
pub(super) async fn delete(change: Change<Named>) -> Answer {
    let Change { client, ask, request } = change;
    done("Job", &ask.name, "deleted", &client.delete_job(ask.on()?, request).await?)
}

/// Some subtasks of a job, or all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selected {
    name: String,
    /// A selector, like `1-10` or `failed`.
    subtasks: Option<String>,
    #[serde(rename = "where")]
    condition: Option<String>,
    #[serde(default)]
    reason: String,
    /// For another priority.
    priority: Option<u8>,
    /// Only say how many.
    #[serde(default)]
    dry_run: bool,
}

impl Selected {
    fn job(&self) -> Result<JobName, Failed> {
        named("name", &self.name, JobName::new)
    }

    fn selector(&self) -> Result<Option<Selector>, Failed> {
        let text = self.subtasks.as_deref().filter(|text| !text.is_empty());
        text.map(|text| read("subtasks", text)).transpose()
    }

    fn condition(&self) -> Option<String> {
        self.condition.clone().filter(|condition| !condition.trim().is_empty())
    }

    fn touched(&self, verb: &str, touched: &Touched) -> Answer {
        Ok(answer::value(&json!({
            "kind": "Job",
            "name": self.name,
            "outcome": if touched.done.unchanged && !self.dry_run { "unchanged" } else { verb },
            "subtasks": touched.subtasks,
            "dry_run": self.dry_run,
            "revision": touched.done.revision.0,
            "warnings": touched.done.warnings,
        })))
    }
}

/// `job cancel`
pub(super) async fn cancel(change: Change<Selected>) -> Answer {
    let Change { client, ask, request } = change;
    let cancel = CancelSubtasks {
        job: ask.job()?,
        selector: ask.selector()?,
        condition: ask.condition(),
        reason: ask.reason.clone(),
        dry_run: ask.dry_run,
    };
    ask.touched("canceled", &client.cancel_subtasks(cancel, request).await?)
}

/// `job retry`
pub(super) async fn retry(change: Change<Selected>) -> Answer {
    let Change { client, ask, request } = change;
    let retry = RetrySubtasks {
        job: ask.job()?,
        selector: ask.selector()?,
        condition: ask.condition(),
        dry_run: ask.dry_run,
    };
    ask.touched("retried", &client.retry_subtasks(retry, request).await?)
}

/// `job reprioritize`
pub(super) async fn reprioritize(change: Change<Selected>) -> Answer {
    let Change { client, ask, request } = change;
    let Some(priority) = ask.priority else {
        return Err(Failed::invalid("priority", "is missing", "a number from 0 to 100, higher first"));
    };
    let wanted = Reprioritize {
        job: ask.job()?,
        selector: ask.selector()?,
        condition: ask.condition(),
        priority,
        dry_run: ask.dry_run,
    };
    ask.touched("reprioritized", &client.reprioritize(wanted, request).await?)
}
