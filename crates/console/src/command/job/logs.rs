//! `sheaf job logs NAME INDEX`

use clap::Args;
use futures::TryStreamExt as _;
use sheaf_model::JobName;
use sheaf_wire::Client;
use sheaf_wire::job::JobLogs;

use super::job_name;
use super::meant::meant;
use crate::command::logs::print;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::wait::or_interrupted;

/// `sheaf job logs`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Of each attempt the beginning and the end of what it printed are kept, on the node that ran it.

Examples:
  sheaf job logs ndvi-2024 4711
  sheaf job logs ndvi-2024 4711 --attempt 1 --tail 20
  sheaf job logs ndvi-2024 4711 -f")]
pub struct Logs {
    /// The job's name, its id or the unique beginning of that
    #[arg(value_parser = job_name)]
    name: JobName,
    /// The subtask's number, from 0
    #[arg(value_name = "INDEX")]
    subtask: u32,
    /// Of this attempt, from 1; without it of the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Stay until the attempt has ended, and print what comes
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
}

impl Logs {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Self { name, subtask, attempt, follow, tail } = self;
        let name = meant(client, name).await?;
        let ask = JobLogs { job: name.clone(), subtask, attempt: attempt.unwrap_or_default(), follow, tail };
        let lines = or_interrupted(async {
            let mut answers = client.job_logs(ask).await?;
            let mut lines = 0_u64;
            while let Some(line) = answers.try_next().await? {
                lines += 1;
                print(out, format, &line)?;
                if follow {
                    out.flush()?;
                }
            }
            Ok(lines)
        });
        if lines.await? == 0 {
            out.say(&format!("nothing was printed; `sheaf job subtasks {name} {subtask}` says how it went"));
        }
        Ok(Exit::Done)
    }
}
