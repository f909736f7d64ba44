//! `sheaf bucket watch [NAME]`

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use clap::Args;
use futures::TryStreamExt;
use serde_json::json;
use sheaf_model::view::{BucketRow, BucketStatus};
use sheaf_model::{BucketName, Revision};
use sheaf_wire::Client;
use sheaf_wire::bucket::{BucketChange, BucketStep, WatchBuckets};

use super::bucket_name;
use crate::connect::Reconnect;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{self, Listing};
use crate::wait::or_interrupted;

/// `sheaf bucket watch`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Prints every bucket as it is, then each one whenever it changes, until Ctrl-C. With -o json one object a line: \
{revision, bucket: STATUS} or {revision, gone: NAME}.

Examples:
  sheaf bucket watch
  sheaf bucket watch /logs/web -o json")]
pub struct Watch {
    /// The bucket's path; without it all are followed
    #[arg(value_parser = bucket_name)]
    name: Option<BucketName>,
}

impl Watch {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        or_interrupted(self.follow(client, format, out)).await
    }

    async fn follow(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let mut listing = Listing::new(format);
        let mut reconnect = Reconnect::default();
        let mut after = None;
        let mut shown = BTreeMap::new();
        loop {
            let ask = WatchBuckets { bucket: self.name.clone(), after };
            let mut steps = match client.watch_buckets(ask).await {
                Ok(steps) => steps,
                Err(error) => {
                    reconnect.again(out, Some(error)).await?;
                    continue;
                }
            };
            let broken = loop {
                match steps.try_next().await {
                    Ok(Some(BucketStep { revision, change })) => {
                        reconnect.received();
                        match change {
                            BucketChange::Synced => after = Some(revision),
                            BucketChange::Reset => {}
                            // A watch that resumes may say again what was said before it broke off.
                            BucketChange::Bucket(status) if is_shown(&shown, &status) => {}
                            BucketChange::Bucket(status) => {
                                shown.insert(status.name.clone(), digest(&status));
                                bucket(out, format, &mut listing, revision, *status)?;
                            }
                            BucketChange::Gone(name) => {
                                shown.remove(name.as_str());
                                gone(out, format, revision, &name)?;
                            }
                        }
                        out.flush()?;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            reconnect.again(out, broken).await?;
        }
    }
}

/// Whether this is what was shown last of the bucket.
fn is_shown(shown: &BTreeMap<String, u64>, status: &BucketStatus) -> bool {
    shown.get(&status.name).is_some_and(|shown| *shown == digest(status))
}

fn digest(status: &BucketStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}

fn bucket(
    out: &mut Terminal,
    format: Format,
    listing: &mut Listing,
    revision: Revision,
    status: BucketStatus,
) -> Result<(), Failure> {
    match format {
        Format::Json => {
            out.line(&json!({"revision": revision.0, "bucket": table::json(&status)}).to_string())
        }
        Format::Yaml => {
            out.line("---")?;
            out.yaml(&table::json(&status))
        }
        Format::Table | Format::Wide | Format::Name => listing.page(out, &[row(status)]),
    }
}

fn gone(out: &mut Terminal, format: Format, revision: Revision, name: &BucketName) -> Result<(), Failure> {
    match format {
        Format::Json => out.line(&json!({"revision": revision.0, "gone": name}).to_string()),
        Format::Yaml => {
            out.line("---")?;
            out.yaml(&json!({"gone": name}))
        }
        Format::Table | Format::Wide => out.line(&format!("{name}  deleted")),
        Format::Name => Ok(()),
    }
}

/// The row that a list would show.
pub(in crate::command) fn row(status: BucketStatus) -> BucketRow {
    BucketRow {
        name: status.name,
        state: status.state,
        kind: status.kind,
        module: status.module,
        multi_node: status.multi_node,
        suspended: status.suspended,
        node_affinity: status.node_affinity,
        affinity_epoch: status.affinity_epoch,
        affinity_since: status.affinity_since,
        desired: status.desired,
        running: status.running,
        revision: status.revision,
        owner: status.owner,
        labels: status.labels,
    }
}
