//! `sheaf job delete NAME…`

use clap::Args;
use sheaf_model::JobName;
use sheaf_wire::Client;
use sheaf_wire::job::OnJob;

use super::job_name;
use super::meant::meant_to_change;
use crate::command::several;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{Wait, Yes};
use crate::output::{Format, Terminal};

/// `sheaf job delete`
#[derive(Args, Debug)]
#[command(after_long_help = "\
A job that is not over is not deleted: `sheaf job cancel NAME --wait` ends it before. So nothing of it runs when it is deleted, and
--wait has nothing to wait for here.")]
pub struct Delete {
    /// The jobs' names or their ids
    #[arg(value_parser = job_name, required = true)]
    names: Vec<JobName>,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

impl Delete {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        self.wait.already_so();
        let mut names = Vec::new();
        for name in self.names {
            names.push(meant_to_change(client, name).await?);
        }
        let ask = async |job| client.delete_job(OnJob { job }, connect::request()).await;
        let and = " and all that is known of it";
        several::delete("Job", names, (and, self.yes), format, out, ask).await
    }
}
