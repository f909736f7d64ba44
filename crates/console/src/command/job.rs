//! `sheaf job …`

mod beside;
mod bulk;
mod delete;
#[cfg(test)]
pub(crate) mod example;
mod explain;
mod items;
mod line;
mod list;
mod logs;
mod meant;
mod order;
mod plan;
mod send;
mod status;
mod submit;
mod subtasks;
mod switch;
#[cfg(test)]
mod tests;
mod wait;
mod watch;

pub(crate) use beside::{Found, Jobs};
pub(crate) use items::first_items;
pub(crate) use line::{about, counted, pace};
pub(crate) use plan::Along;
pub(crate) use wait::until_over;

use clap::Subcommand;
use sheaf_model::{JobName, MeasureError, NameError, Selector};
use sheaf_wire::Client;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};

/// `sheaf job …`
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Submit jobs, with all their items
    Submit(submit::Submit),
    /// Check jobs and their items, and show what submit would do; changes nothing
    Plan(plan::Plan),
    /// List jobs, the newest first
    List(list::List),
    /// Show where a job stands; without a name, list all
    Status(status::Status),
    /// List subtasks of a job, each with its last attempt
    Subtasks(subtasks::Subtasks),
    /// Show why a job, or one subtask of it, does not run, or no faster
    Explain(explain::Explain),
    /// Follow a job until it is over
    Watch(watch::Watch),
    /// Print what an attempt of a subtask prints
    Logs(logs::Logs),
    /// Start nothing more of jobs; what runs goes on
    Pause(switch::Switch),
    /// Let paused jobs go on
    Resume(switch::Switch),
    /// End a job, or some of its subtasks
    Cancel(bulk::Cancel),
    /// Try failed and canceled subtasks again
    Retry(bulk::Retry),
    /// Give a job, or some of its subtasks, another priority
    Reprioritize(bulk::Reprioritize),
    /// Delete jobs that are over, with their history
    Delete(delete::Delete),
}

impl Job {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Submit(submit) => submit.run(client, format, out).await,
            Self::Plan(plan) => plan.run(client, format, out).await,
            Self::List(list) => list.run(client, format, out).await,
            Self::Status(status) => status.run(client, format, out).await,
            Self::Subtasks(subtasks) => subtasks.run(client, format, out).await,
            Self::Explain(explain) => explain.run(client, format, out).await,
            Self::Watch(watch) => watch.run(client, format, out).await,
            Self::Logs(logs) => logs.run(client, format, out).await,
            Self::Pause(switch) => switch.run(switch::To::Paused, client, format, out).await,
            Self::Resume(switch) => switch.run(switch::To::Running, client, format, out).await,
            Self::Cancel(cancel) => cancel.run(client, format, out).await,
            Self::Retry(retry) => retry.run(client, format, out).await,
            Self::Reprioritize(reprioritize) => reprioritize.run(client, format, out).await,
            Self::Delete(delete) => delete.run(client, format, out).await,
        }
    }
}

/// What every help text about selectors says.
const SELECTORS: &str = "SELECTOR is a number (7), a range (1-10), every second of a range (1-10:2), a state \
(waiting, ready, running, finished, failed, canceled), last, or several with commas between. Subtasks are numbered \
from 0.";

/// Reads a job's name for clap.
fn job_name(text: &str) -> Result<JobName, String> {
    JobName::new(text).map_err(|NameError { problem, remedy }| format!("{problem}; {remedy}"))
}

/// Reads a selector for clap.
fn selector(text: &str) -> Result<Selector, String> {
    text.parse().map_err(|MeasureError { problem, remedy }| format!("{problem}; {remedy}"))
}
