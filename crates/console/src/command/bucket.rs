//! `sheaf bucket …`

mod delete;
#[cfg(test)]
pub(crate) mod example;
mod explain;
mod history;
mod list;
mod logs;
mod plan;
mod relocate;
mod rollback;
mod status;
mod switch;
mod test;
mod watch;

use clap::Subcommand;
use sheaf_model::{BucketName, NameError};

use crate::command::apply;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use sheaf_wire::Client;

/// `sheaf bucket …`
#[derive(Debug, Subcommand)]
pub enum Bucket {
    /// Register or change buckets
    Apply(apply::Apply),
    /// Show what apply would change, and where each bucket would run
    Plan(plan::Plan),
    /// List buckets
    List(list::List),
    /// Show where a bucket stands; without a name, list all
    Status(status::Status),
    /// Show every node and all three gates: why it runs where it runs, and not elsewhere
    Explain(explain::Explain),
    /// Print what a bucket's instances print, on every node
    Logs(logs::Logs),
    /// Follow buckets as they change
    Watch(watch::Watch),
    /// Switch buckets off
    Suspend(switch::Switch),
    /// Switch buckets on again; nodes that gave up try once more
    Resume(switch::Switch),
    /// Restart a bucket's instances once, everywhere
    Restart(switch::Switch),
    /// Run a bucket once, apart from the real one, and see what comes of it
    Test(test::Test),
    /// Throw away what a bucket has collected: its module is told, once, on every node where it runs
    Purge(switch::Switch),
    /// Take a single-node bucket from its node
    Move(relocate::Move),
    /// Show a bucket's revisions and what each changed, newest first
    History(history::History),
    /// Make a bucket what it was at an earlier revision
    Rollback(rollback::Rollback),
    /// Delete buckets; what runs of them is stopped
    Delete(delete::Delete),
}

impl Bucket {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Apply(apply) => apply.run_only("Bucket", client, format, out).await,
            Self::Plan(plan) => plan.run(client, format, out).await,
            Self::List(list) => list.run(client, format, out).await,
            Self::Status(status) => status.run(client, format, out).await,
            Self::Explain(explain) => explain.run(client, format, out).await,
            Self::Logs(logs) => logs.run(client, format, out).await,
            Self::Watch(watch) => watch.run(client, format, out).await,
            Self::Suspend(switch) => switch.run(switch::To::Off, client, format, out).await,
            Self::Resume(switch) => switch.run(switch::To::On, client, format, out).await,
            Self::Restart(switch) => switch.run(switch::To::Again, client, format, out).await,
            Self::Test(test) => test.run(client, format, out).await,
            Self::Purge(switch) => switch.run(switch::To::Empty, client, format, out).await,
            Self::Move(relocate) => relocate.run(client, format, out).await,
            Self::History(history) => history.run(client, format, out).await,
            Self::Rollback(rollback) => rollback.run(client, format, out).await,
            Self::Delete(delete) => delete.run(client, format, out).await,
        }
    }
}

pub(super) use explain::reasons;
pub(crate) use explain::word;
pub(crate) use status::facts;
#[cfg(test)]
pub(super) use watch::row;

/// Reads a bucket's name for clap.
pub(crate) fn bucket_name(text: &str) -> Result<BucketName, String> {
    BucketName::new(text).map_err(|NameError { problem, remedy }| format!("{problem}; {remedy}"))
}
