//! `sheaf bucket rollback NAME`

use clap::Args;
use sheaf_model::{BucketName, Revision};
use sheaf_wire::Client;
use sheaf_wire::bucket::RollbackBucket;

use super::bucket_name;
use crate::command::apply::{OutcomeRow, warn};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::{Format, Terminal};
use crate::table::Listing;
use crate::wait::{self, Goal};

/// `sheaf bucket rollback`
#[derive(Args, Debug)]
#[command(after_long_help = "\
It is a change like any other: it gets a revision of its own, and reaches max_parallel nodes at a time. One that is under
way, or was stopped by a failure, ends.

Examples:
  sheaf bucket rollback /logs/web --wait            # to what it was before the last change
  sheaf bucket history /logs/web                    # the revisions that are kept
  sheaf bucket rollback /logs/web --to 17")]
pub struct Rollback {
    /// The bucket's path
    #[arg(value_parser = bucket_name)]
    name: BucketName,
    /// To what it was at this revision; without it to the last one that was different
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    /// Refuse (exit 6) unless the bucket is at this revision
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

impl Rollback {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let ask = RollbackBucket {
            bucket: self.name.clone(),
            to: self.to.map(Revision),
            base: self.if_revision.map(Revision),
            request: connect::request(),
        };
        let done = client.rollback_bucket(ask).await?;
        warn(out, &done.warnings);
        let outcome = if done.unchanged { "unchanged" } else { "rolled back" };
        Listing::whole(out, format, &[OutcomeRow::of("Bucket", self.name.as_str(), outcome, done.revision)])?;
        out.flush()?;
        wait::until(client, out, self.wait, Goal::Runs, &[(self.name, done.revision)]).await?;
        Ok(Exit::Done)
    }
}
