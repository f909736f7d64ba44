//! `sheaf bucket move NAME`

use clap::Args;
use sheaf_model::{BucketName, Revision};
use sheaf_wire::Client;
use sheaf_wire::bucket::MoveBucket;

use super::bucket_name;
use crate::command::apply::{OutcomeRow, warn};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::{Format, Terminal};
use crate::table::Listing;
use crate::wait::{self, Goal};

/// `sheaf bucket move`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf bucket move /logs/report                    # to any other node that is available
  sheaf bucket move /logs/report --to import-02 --wait")]
pub struct Move {
    /// The bucket's path
    #[arg(value_parser = bucket_name)]
    name: BucketName,
    /// To this node: its name or its id
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Refuse (exit 6) unless the bucket is at this revision
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

impl Move {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let base = self.if_revision.map(Revision);
        let (bucket, request) = (self.name.clone(), connect::request());
        let done = client.move_bucket(MoveBucket { bucket, to: self.to, base, request }).await?;
        warn(out, &done.warnings);
        let outcome = if done.unchanged { "unchanged" } else { "moving" };
        Listing::whole(out, format, &[OutcomeRow::of("Bucket", self.name.as_str(), outcome, done.revision)])?;
        out.flush()?;
        let waiting = [(self.name, Revision(0))];
        wait::until(&client.at_least(done.revision), out, self.wait, Goal::Runs, &waiting).await?;
        Ok(Exit::Done)
    }
}
