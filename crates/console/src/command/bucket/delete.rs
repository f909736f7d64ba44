//! `sheaf bucket delete NAME…`

use clap::Args;
use sheaf_model::{BucketName, Revision};
use sheaf_wire::Client;
use sheaf_wire::bucket::OnBucket;

use super::bucket_name;
use crate::command::apply::{OutcomeRow, warn};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{self, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::Listing;
use crate::wait::{self, Goal};

/// `sheaf bucket delete`
#[derive(Args, Debug)]
#[command(after_long_help = "\
What runs of it is stopped, each program within its stop grace. --wait: until nothing of it runs any more, on any node.

Examples:
  sheaf bucket delete /logs/web --yes --wait")]
pub struct Delete {
    /// The buckets' paths
    #[arg(value_parser = bucket_name, required = true)]
    names: Vec<BucketName>,
    /// Refuse (exit 6) unless the bucket is at this revision
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
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
        options::one_revision(self.if_revision, self.names.len())?;
        let names: Vec<&str> = self.names.iter().map(BucketName::as_str).collect();
        if !self.yes.yes && !out.confirm(&format!("delete {} and stop what runs of it?", names.join(", "))) {
            return Err(Failure::Refused("nothing was deleted".to_owned()));
        }
        let mut listing = Listing::new(format);
        let mut waiting = Vec::new();
        for name in self.names {
            let base = self.if_revision.map(Revision);
            let ask = OnBucket { bucket: name.clone(), base, request: connect::request() };
            let done = client.delete_bucket(ask).await?;
            warn(out, &done.warnings);
            listing.page(out, &[OutcomeRow::of("Bucket", name.as_str(), "deleted", done.revision)])?;
            waiting.push((name, done.revision));
        }
        listing.end(out)?;
        out.flush()?;
        wait::until(client, out, self.wait, Goal::Gone, &waiting).await?;
        Ok(Exit::Done)
    }
}
