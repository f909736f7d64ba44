//! `sheaf job delete NAME…`

use clap::Args;
use sheaf_model::JobName;
use sheaf_wire::Client;
use sheaf_wire::job::OnJob;

use super::job_name;
use crate::command::apply::{OutcomeRow, warn};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Yes;
use crate::output::{Format, Terminal};
use crate::table::Listing;

/// `sheaf job delete`
#[derive(Args, Debug)]
#[command(after_long_help = "\
A job that is not over is not deleted: `sheaf job cancel NAME --wait` ends it before.")]
pub struct Delete {
    /// The jobs' names
    #[arg(value_parser = job_name, required = true)]
    names: Vec<JobName>,
    #[command(flatten)]
    yes: Yes,
}

impl Delete {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let names: Vec<&str> = self.names.iter().map(JobName::as_str).collect();
        if !self.yes.yes && !out.confirm(&format!("delete {} and all that is known of it?", names.join(", ")))
        {
            return Err(Failure::Refused("nothing was deleted".to_owned()));
        }
        let mut listing = Listing::new(format);
        for name in self.names {
            let done = client.delete_job(OnJob { job: name.clone() }, connect::request()).await?;
            warn(out, &done.warnings);
            listing.page(out, &[OutcomeRow::of("Job", name.as_str(), "deleted", done.revision)])?;
        }
        listing.end(out)?;
        Ok(Exit::Done)
    }
}
