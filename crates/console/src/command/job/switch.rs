//! `sheaf job pause|resume NAME…`

use clap::Args;
use sheaf_model::JobName;
use sheaf_wire::Client;
use sheaf_wire::job::OnJob;

use super::job_name;
use super::meant::meant_to_change;
use crate::command::apply::{OutcomeRow, warn};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::{Format, Terminal};
use crate::table::Listing;

/// To which state a job is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Paused,
    Running,
}

/// `sheaf job pause|resume`
#[derive(Args, Debug)]
#[command(after_long_help = "\
From the answer on nothing more is started, or again is; what runs goes on either way. So --wait has nothing to wait for.")]
pub struct Switch {
    /// The jobs' names or their ids
    #[arg(value_parser = job_name, required = true)]
    names: Vec<JobName>,
    #[command(flatten)]
    wait: Wait,
}

impl Switch {
    pub(super) async fn run(
        self,
        to: To,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        self.wait.already_so();
        let mut listing = Listing::new(format);
        let switched = async {
            for name in self.names {
                let name = meant_to_change(client, name).await?;
                let ask = OnJob { job: name.clone() };
                let (done, word) = match to {
                    To::Paused => (client.pause_job(ask, connect::request()).await?, "paused"),
                    To::Running => (client.resume_job(ask, connect::request()).await?, "resumed"),
                };
                warn(out, &done.warnings);
                let outcome = if done.unchanged { "unchanged" } else { word };
                listing.page(out, &[OutcomeRow::of("Job", name.as_str(), outcome, done.revision)])?;
            }
            Ok(Exit::Done)
        }
        .await;
        listing.over(out, switched)
    }
}
