//! `sheaf bucket delete NAME…`

use clap::Args;
use sheaf_model::{BucketName, Revision};
use sheaf_wire::Client;
use sheaf_wire::bucket::OnBucket;

use super::bucket_name;
use crate::command::several;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{self, Wait, Yes};
use crate::output::{Format, Terminal};
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
        let base = self.if_revision.map(Revision);
        let mut waiting = Vec::new();
        let ask = async |bucket: BucketName| {
            let ask = OnBucket { bucket: bucket.clone(), base, request: connect::request() };
            let done = client.delete_bucket(ask).await?;
            waiting.push((bucket, done.revision));
            Ok(done)
        };
        let and = " and stop what runs of it";
        let deleted = several::delete("Bucket", self.names, (and, self.yes), format, out, ask).await;
        let waited = wait::until(client, out, self.wait, Goal::Gone, &waiting).await;
        wait::ended(out, deleted.map(|_| ()), waited)
    }
}
