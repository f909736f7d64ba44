//! `--wait`: until jobs are over.

use std::time::Duration;

use futures::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use sheaf_model::view::JobStatus;
use sheaf_model::{JobName, JobState, Revision};
use sheaf_wire::{ApiError, Client};
use tokio::time::{Instant, sleep, timeout_at};

use super::line::{about, counted, line};
use crate::exit::Failure;
use crate::options::Wait;
use crate::output::Terminal;
use crate::wait::or_interrupted;

/// Before a watch that broke off is opened again.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until each of these jobs is over, if that is asked for; fails once one of them has not finished. The revision is
/// that of the change waited for.
pub(crate) async fn until_over(
    client: &Client,
    out: &mut Terminal,
    wait: Wait,
    jobs: &[(JobName, Revision)],
) -> Result<(), Failure> {
    if !wait.wait {
        return Ok(());
    }
    let progress = if out.progress() { spinner() } else { ProgressBar::hidden() };
    let deadline = Instant::now() + wait.timeout;
    let all = async {
        let mut failed = Vec::new();
        for (name, revision) in jobs {
            let over = one(&client.at_least(*revision), out, &progress, deadline, name).await?;
            if over.state != JobState::Finished {
                failed.push(said(&over));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Failure::Refused(failed.join("\n"))) }
    };
    let ended = or_interrupted(all).await;
    progress.finish_and_clear();
    ended
}

/// Waits until nothing of this job runs any more, if that is asked for, however it ends.
pub(super) async fn until_ended(
    client: &Client,
    out: &mut Terminal,
    wait: Wait,
    job: &JobName,
    revision: Revision,
) -> Result<(), Failure> {
    if !wait.wait {
        return Ok(());
    }
    let progress = if out.progress() { spinner() } else { ProgressBar::hidden() };
    let deadline = Instant::now() + wait.timeout;
    let ended = or_interrupted(one(&client.at_least(revision), out, &progress, deadline, job)).await;
    progress.finish_and_clear();
    ended.map(|_| ())
}

/// The status of a job that is over.
async fn one(
    client: &Client,
    out: &Terminal,
    progress: &ProgressBar,
    deadline: Instant,
    name: &JobName,
) -> Result<JobStatus, Failure> {
    let mut seen = format!("{name} has not been seen");
    let watching = async {
        loop {
            let error = match client.watch_job(name).await {
                Ok(mut steps) => loop {
                    match steps.try_next().await {
                        Ok(Some(status)) if status.state.is_over() => return Ok(status),
                        Ok(Some(status)) => {
                            seen = line(&status, out.now());
                            progress.set_message(seen.clone());
                        }
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                },
                Err(error) => Some(error),
            };
            match error {
                Some(error) if !error.can_retry() => return Err(error),
                Some(error) => progress.set_message(format!("{error}; trying again")),
                None => {}
            }
            sleep(PAUSE).await;
        }
    };
    match timeout_at(deadline, watching).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(ApiError::NotFound(_))) => {
            Err(Failure::Refused(format!("{name} was deleted while it was waited for")))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::TimedOut(format!("the time to wait is over: {seen}"))),
    }
}

/// How a job ended that did not finish.
fn said(status: &JobStatus) -> String {
    let message = if status.message.is_empty() { about(status.state) } else { &status.message };
    format!(
        "{} is {}, {}: {message}; `sheaf job subtasks {} failed` says more",
        status.name,
        status.state.as_str(),
        counted(&status.counts),
        status.name
    )
}

fn spinner() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} waiting: {wide_msg}").expect("a template of known names");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
