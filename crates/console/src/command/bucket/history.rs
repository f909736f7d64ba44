//! `sheaf bucket history NAME`

use clap::Args;
use sheaf_model::{BucketName, Timestamp, document};
use sheaf_wire::Client;
use sheaf_wire::bucket::{BucketHistory, BucketRelease, ReleaseRow};

use super::bucket_name;
use crate::command::page;
use crate::exit::{Exit, Failure};
use crate::options::Page;
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::when;

/// `sheaf bucket history`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Kept is what it was in the last 30 days, or as far back as the last 10 million events go; at least what it is and what it
was before.

Examples:
  sheaf bucket history /logs/web
  sheaf bucket history /logs/web --limit 1 -o yaml      # the document as it is")]
pub struct History {
    /// The bucket's path; it may be deleted already
    #[arg(value_parser = bucket_name)]
    name: BucketName,
    #[command(flatten)]
    page: Page,
}

impl History {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let mut listing = Listing::new(format);
        let shown = self.show(client, &mut listing, format, out).await;
        if format != Format::Yaml {
            listing.over(out, shown)?;
            return Ok(Exit::Done);
        }
        shown.map(|()| Exit::Done)
    }

    async fn show(
        &self,
        client: &Client,
        listing: &mut Listing,
        format: Format,
        out: &mut Terminal,
    ) -> Result<(), Failure> {
        let mut next = String::new();
        let fetch = async |page| {
            let ask = BucketHistory { bucket: self.name.clone(), page };
            let page = client.bucket_history(ask).await?;
            next.clone_from(&page.next);
            Ok(page)
        };
        // A release is shown once the one before it is known: it says what it changed.
        let mut held: Option<BucketRelease> = None;
        let mut first = true;
        let show = async |out: &mut Terminal, releases: Vec<BucketRelease>| {
            if format == Format::Yaml {
                for release in &releases {
                    if !std::mem::take(&mut first) {
                        out.line("---")?;
                    }
                    out.documents(&document::yaml(&release.document()))?;
                }
                return Ok(());
            }
            let mut rows = Vec::new();
            for release in releases {
                if let Some(newer) = held.take() {
                    rows.push(ReleaseRow::new(&newer, Some(&release)));
                }
                held = Some(release);
            }
            listing.page(out, &rows)
        };
        page::each(&self.page, out, fetch, show).await?;
        if let Some(oldest) = held {
            // Where more are kept than were asked for, the one before it says what it changed.
            let before = client.release_before(&self.name, next).await?;
            listing.page(out, &[ReleaseRow::new(&oldest, before.as_ref())])?;
        }
        Ok(())
    }
}

impl Listed for ReleaseRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("REVISION").number(),
        Column::new("AGO").number(),
        Column::new("ACTOR"),
        Column::new("CHANGED"),
    ];

    fn name(&self) -> String {
        self.revision.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let changed = if self.changed.is_empty() { "-".to_owned() } else { self.changed.join(", ") };
        vec![self.revision.to_string(), when::age_of(now, Some(&self.at)), self.actor.clone(), changed]
    }
}
