//! `sheaf bucket suspend|resume|restart|purge NAME…`

use clap::Args;
use sheaf_model::{BucketName, Revision};
use sheaf_wire::Client;
use sheaf_wire::bucket::OnBucket;

use super::bucket_name;
use crate::command::apply::{OutcomeRow, warn};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{self, Wait};
use crate::output::{Format, Terminal};
use crate::table::Listing;
use crate::wait::{self, Goal};

/// To which state a bucket is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// Suspended.
    Off,
    /// Resumed.
    On,
    /// Restarted.
    Again,
    /// Without what it has collected.
    Empty,
}

impl To {
    const fn done(self) -> &'static str {
        match self {
            Self::Off => "suspended",
            Self::On => "resumed",
            Self::Again => "restarted",
            Self::Empty => "purging",
        }
    }

    const fn goal(self) -> Goal {
        match self {
            Self::Off => Goal::NothingRuns,
            Self::On | Self::Again => Goal::Runs,
            Self::Empty => Goal::Purged,
        }
    }
}

/// `sheaf bucket suspend|resume|restart|purge`
#[derive(Args, Debug)]
pub struct Switch {
    /// The buckets' paths
    #[arg(value_parser = bucket_name, required = true)]
    names: Vec<BucketName>,
    /// Refuse (exit 6) unless the bucket is at this revision
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
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
        options::one_revision(self.if_revision, self.names.len())?;
        let (names, base) = (self.names, self.if_revision.map(Revision));
        let mut listing = Listing::new(format);
        let mut waiting = Vec::new();
        let switched = async {
            for name in names {
                let ask = OnBucket { bucket: name.clone(), base, request: connect::request() };
                let done = match to {
                    To::Off => client.suspend_bucket(ask).await?,
                    To::On => client.resume_bucket(ask).await?,
                    To::Again => client.restart_bucket(ask).await?,
                    To::Empty => client.purge_bucket(ask).await?,
                };
                warn(out, &done.warnings);
                let outcome = if done.unchanged { "unchanged" } else { to.done() };
                listing.page(out, &[OutcomeRow::of("Bucket", name.as_str(), outcome, done.revision)])?;
                waiting.push((name, done.revision));
            }
            Ok(())
        }
        .await;
        let switched = listing.over(out, switched);
        let waited = wait::until(client, out, self.wait, to.goal(), &waiting).await;
        wait::ended(out, switched, waited)
    }
}
