//! `sheaf job cancel|retry|reprioritize NAME [SELECTOR]`

use clap::Args;
use serde::Serialize;
use sheaf_model::job::PRIORITY_MAX;
use sheaf_model::{JobName, Selector, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::job::{CancelSubtasks, Reprioritize as Ask, RetrySubtasks, Touched};

use super::meant::meant_to_change;
use super::{SELECTORS, job_name, selector, wait};
use crate::command::apply::warn;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};

/// Which subtasks of which job a change is about.
#[derive(Args, Debug)]
struct About {
    /// The job's name or its id
    #[arg(value_parser = job_name)]
    name: JobName,
    /// Only these: 7, 1-10, 1-10:2, failed, last, or several with commas between
    #[arg(value_parser = selector)]
    selector: Option<Selector>,
    /// Only those for which this holds: SQL over the columns of the table subtasks, see `sheaf query --tables`
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    /// Say how many, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl About {
    fn can_be_waited_for(&self, wait: Wait) -> Result<(), Failure> {
        match self.dry_run && wait.wait {
            true => {
                Err(Failure::usage("--dry-run changes nothing to wait for", "one of --dry-run and --wait"))
            }
            false => Ok(()),
        }
    }

    /// The same of the job that is meant by its name.
    async fn of_job(self, client: &Client) -> Result<Self, Failure> {
        Ok(Self { name: meant_to_change(client, self.name).await?, ..self })
    }

    fn print(
        &self,
        (would, did): (&str, &str),
        touched: &Touched,
        format: Format,
        out: &mut Terminal,
    ) -> Result<(), Failure> {
        warn(out, &touched.done.warnings);
        let outcome = match (self.dry_run, touched.done.unchanged) {
            (true, _) => would,
            (false, true) => "unchanged",
            (false, false) => did,
        };
        let row = TouchedRow {
            name: self.name.to_string(),
            selector: self.selector.as_ref().map(ToString::to_string),
            condition: self.condition.clone(),
            outcome: outcome.to_owned(),
            subtasks: touched.subtasks,
            dry_run: self.dry_run,
            revision: touched.done.revision.0,
        };
        Listing::whole(out, format, &[row])
    }
}

/// `sheaf job cancel`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
What waits is not started any more, what runs is stopped as its module says, and what depends on it is canceled too. With
--wait until nothing of the job runs any more.

{SELECTORS}

Examples:
  sheaf job cancel ndvi-2024 --reason 'wrong tiles'
  sheaf job cancel ndvi-2024 100-199 --dry-run"))]
pub struct Cancel {
    #[command(flatten)]
    about: About,
    /// Why, for history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    wait: Wait,
}

impl Cancel {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Self { about, reason, wait } = self;
        about.can_be_waited_for(wait)?;
        if (about.selector.is_some() || about.condition.is_some()) && wait.wait {
            let remedy = "leave SELECTOR and --where out, or --wait";
            return Err(Failure::usage("--wait is for the job as a whole", remedy));
        }
        let about = about.of_job(client).await?;
        let ask = CancelSubtasks {
            job: about.name.clone(),
            selector: about.selector.clone(),
            condition: about.condition.clone(),
            reason,
            dry_run: about.dry_run,
        };
        let touched = client.cancel_subtasks(ask, connect::request()).await?;
        about.print(("would be canceled", "canceled"), &touched, format, out)?;
        out.flush()?;
        wait::until_ended(client, out, wait, &about.name, touched.done.revision).await?;
        Ok(Exit::Done)
    }
}

/// `sheaf job retry`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
Subtasks that failed or were canceled are tried again, with all their attempts anew, and with them those that were canceled
because of them. Attempts go on being numbered, and the old ones stay known. With --wait until the job has ended; exit 1 if it
failed again.

{SELECTORS}

Examples:
  sheaf job retry ndvi-2024 --dry-run
  sheaf job retry ndvi-2024 failed
  sheaf job retry ndvi-2024 --where \"state = 'failed' AND fingerprint = '9f86d081884c7d65'\" --dry-run
  sheaf job retry ndvi-2024 7,100-199"))]
pub struct Retry {
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    wait: Wait,
}

impl Retry {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Self { about, wait } = self;
        about.can_be_waited_for(wait)?;
        let about = about.of_job(client).await?;
        let ask = RetrySubtasks {
            job: about.name.clone(),
            selector: about.selector.clone(),
            condition: about.condition.clone(),
            dry_run: about.dry_run,
        };
        let touched = client.retry_subtasks(ask, connect::request()).await?;
        about.print(("would be retried", "retried"), &touched, format, out)?;
        out.flush()?;
        wait::until_over(client, out, wait, &[(about.name, touched.done.revision)]).await?;
        Ok(Exit::Done)
    }
}

/// `sheaf job reprioritize`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
The priority counts for what is still waiting, across all jobs; of equal ones what was submitted first goes first. It counts from
the answer on, so that --wait has nothing to wait for.

{SELECTORS}

Examples:
  sheaf job reprioritize ndvi-2024 --priority 90
  sheaf job reprioritize ndvi-2024 0-99 --priority 100"))]
pub struct Reprioritize {
    #[command(flatten)]
    about: About,
    /// The new one, 0 to 100, higher first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=i64::from(PRIORITY_MAX)))]
    priority: u8,
    #[command(flatten)]
    wait: Wait,
}

impl Reprioritize {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Self { about, priority, wait } = self;
        about.can_be_waited_for(wait)?;
        let about = about.of_job(client).await?;
        let ask = Ask {
            job: about.name.clone(),
            selector: about.selector.clone(),
            condition: about.condition.clone(),
            priority,
            dry_run: about.dry_run,
        };
        let touched = client.reprioritize(ask, connect::request()).await?;
        about.print(("would be reprioritized", "reprioritized"), &touched, format, out)?;
        Ok(Exit::Done)
    }
}

/// What became of some subtasks.
#[derive(Debug, Serialize)]
struct TouchedRow {
    name: String,
    selector: Option<String>,
    #[serde(rename = "where")]
    condition: Option<String>,
    outcome: String,
    subtasks: u64,
    dry_run: bool,
    revision: u64,
}

impl Listed for TouchedRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("OUTCOME"),
        Column::new("JOB"),
        Column::new("SUBTASKS").number(),
        Column::new("SELECTOR").wide(),
        Column::new("REVISION").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.outcome.clone(),
            self.name.clone(),
            self.subtasks.to_string(),
            self.selector.clone().unwrap_or_default(),
            self.revision.to_string(),
        ]
    }
}
