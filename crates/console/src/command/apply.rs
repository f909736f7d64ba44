//! `sheaf apply`, and the same for one kind: `sheaf bucket apply`, `sheaf module apply`.

mod beside;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sheaf_model::{Defect, Document, Revision, Timestamp};
use sheaf_wire::{Applied, Client, Outcome};
use tokio::time::Instant;

use crate::command::job;
use crate::connect;
use crate::documents::{self, Source, Written};
use crate::exit::{Exit, Failure};
use crate::options::{self, Wait};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::wait::{self, Goal};
use beside::Beside;

/// `sheaf apply`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Documents of every kind, in any order, in any number of files. The modules and buckets of one file are registered together or not \
at all, modules before buckets: one transaction, of at most 1 MiB. After those of all files come backends and sinks, and jobs last, \
each after those that it names in `after`. Everything that is wrong with any document is reported at once, and then nothing is \
changed.

A job is submitted as `sheaf job submit` does it, with its items. One that is there already as its document says is left alone, \
whether it is over or not; of its items only their number is compared. Another one of that name is refused (exit 6): what a job is \
never changes.

With --wait until every bucket is as asked and every job has ended; a job that failed or was canceled is exit code 1.

Examples:
  sheaf apply -f deploy/examples/flume.yaml
  sheaf apply -f modules/ -f buckets/ --wait
  sheaf bucket status /logs/web -o yaml | sed 's/5140/5141/' | sheaf apply -f -")]
pub struct Apply {
    /// A file, a directory of .yaml, .yml and .json files, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    /// Take the newest version of each bucket's module, also where the bucket has an older one
    #[arg(long)]
    latest: bool,
    /// Refuse (exit 6) unless the one bucket is at this revision; 0: unless it is new
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

impl Apply {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let written = documents::read(out, &self.files);
        self.apply(written, client, format, out).await
    }

    /// The same for documents of one kind.
    pub(crate) async fn run_only(
        self,
        kind: &str,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let mut written = documents::read(out, &self.files);
        written.only(&[kind]);
        self.apply(written, client, format, out).await
    }

    async fn apply(
        self,
        mut written: Written,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        options::one_revision(self.if_revision, written.sources.iter().flat_map(Source::buckets).count())?;
        for put in written.buckets_mut() {
            put.latest |= self.latest;
            put.base = self.if_revision.map(Revision).or(put.base);
        }
        let mut beside = Beside::among(&mut written);
        // One transaction checks itself; several changes must all be good before the first is asked for.
        if written.sources.len() != 1 || !written.defects.is_empty() || !beside.is_empty() {
            Box::pin(check(&mut written, &mut beside, client, out)).await?;
        }
        let mut listing = Listing::new(format);
        let (mut buckets, mut jobs) = (Vec::new(), Vec::new());
        let applied = async {
            for source in written.in_order().into_iter().filter(Source::is_transaction) {
                let applied = send(&source, client).await?;
                warn(out, &applied.warnings);
                let rows: Vec<OutcomeRow> = applied.outcomes.iter().map(OutcomeRow::from).collect();
                listing.page(out, &rows)?;
                // Modules come first in the answer, then the buckets in their order.
                let revisions =
                    rows.iter().filter(|row| row.kind == "Bucket").map(|row| Revision(row.revision));
                buckets.extend(source.buckets().map(|put| put.spec.name.clone()).zip(revisions));
            }
            Box::pin(beside.send(client, out, &mut listing, &mut jobs)).await
        }
        .await;
        let applied = listing.over(out, applied);
        let began = Instant::now();
        let mut waited = wait::until(client, out, self.wait, Goal::Runs, &buckets).await;
        if waited.is_ok() {
            let left = self.wait.timeout.saturating_sub(began.elapsed());
            waited = job::until_over(client, out, Wait { timeout: left, ..self.wait }, &jobs).await;
        }
        wait::ended(out, applied, waited)
    }
}

/// Checks everything that was read, before any of it is asked for. Fails with all defects of all documents, whoever found them;
/// without any, with all conflicts.
async fn check(
    written: &mut Written,
    beside: &mut Beside,
    client: &Client,
    out: &mut Terminal,
) -> Result<(), Failure> {
    let found = match beside.check(written, client).await {
        Ok(found) => found,
        Err(failure) => {
            if !written.defects.is_empty() {
                out.say(&Failure::Defects(std::mem::take(&mut written.defects)).message());
            }
            return Err(failure);
        }
    };
    written.defects.extend(found.defects);
    let conflicts = found.conflicts;
    let texts = || conflicts.iter().map(ToString::to_string);
    match validate(written, client, out).await {
        Err(Failure::Defects(defects)) => {
            Err(Failure::Defects(defects.into_iter().chain(conflicts).collect()))
        }
        Err(Failure::Conflict(text)) => {
            Err(Failure::Conflict(std::iter::once(text).chain(texts()).collect::<Vec<_>>().join("\n")))
        }
        Err(failure) => Err(failure),
        Ok(_) if conflicts.is_empty() => beside.validate(client).await,
        Ok(_) => Err(Failure::Conflict(texts().collect::<Vec<_>>().join("\n"))),
    }
}

/// Sends the modules and buckets that were read to be checked, as one transaction. Fails with every defect of every file,
/// those found before included.
pub(crate) async fn validate(
    written: &Written,
    client: &Client,
    out: &mut Terminal,
) -> Result<Applied, Failure> {
    let mut documents: Vec<&Document> = Vec::new();
    for (_, document) in written.documents() {
        match document {
            // The same module may stand in several files, a bucket may not.
            Document::Module(_) if documents.contains(&document) => {}
            Document::Module(_) | Document::Bucket(_) => documents.push(document),
            Document::Job(_) | Document::Backend(_) | Document::Sink(_) => {}
        }
    }
    let checked = match documents.as_slice() {
        [] => Ok(Applied::default()),
        documents => {
            // What is too much is known here already.
            let in_parts = written.sources.len() > 1 || !written.defects.is_empty();
            let ask = sheaf_wire::cluster::Apply { in_parts, ..ask(documents.iter().copied(), true) };
            client.apply(ask).await.map_err(Failure::from)
        }
    };
    let mut defects = written.defects.clone();
    match checked {
        Ok(applied) if defects.is_empty() => return Ok(applied),
        Ok(_) => {}
        Err(Failure::Defects(found)) => {
            let known = defects.len();
            for defect in located(found, written) {
                if !defects[..known].contains(&defect) {
                    defects.push(defect);
                }
            }
        }
        Err(failure) if defects.is_empty() => return Err(failure),
        Err(failure) => {
            out.say(&Failure::Defects(defects).message());
            return Err(failure);
        }
    }
    Err(Failure::Defects(defects))
}

/// One file, as one transaction.
async fn send(source: &Source, client: &Client) -> Result<Applied, Failure> {
    let applied = client.apply(ask(source.documents.iter(), false)).await;
    applied.map_err(|error| match Failure::from(error) {
        Failure::Defects(defects) => {
            let of_file = |defect| Defect { file: source.file.clone(), ..defect };
            Failure::Defects(defects.into_iter().map(of_file).collect())
        }
        other => other,
    })
}

/// One transaction of these documents.
fn ask<'a>(documents: impl Iterator<Item = &'a Document>, validate_only: bool) -> sheaf_wire::cluster::Apply {
    let request = if validate_only { None } else { connect::request() };
    let mut ask =
        sheaf_wire::cluster::Apply { request, validate_only, ..sheaf_wire::cluster::Apply::default() };
    for document in documents {
        match document {
            Document::Module(module) => ask.modules.push((**module).clone()),
            Document::Bucket(put) => ask.buckets.push((**put).clone()),
            // Applied beside them.
            Document::Job(_) | Document::Backend(_) | Document::Sink(_) => {}
        }
    }
    ask
}

/// The defects with the file that their document stands in, as far as that is known.
fn located(defects: Vec<Defect>, written: &Written) -> impl Iterator<Item = Defect> {
    let files: BTreeMap<String, &str> =
        written.documents().map(|(file, document)| (document.label(), file)).collect();
    defects.into_iter().map(move |defect| match files.get(&defect.document) {
        Some(file) if defect.file.is_empty() => Defect { file: (*file).to_owned(), ..defect },
        _ => defect,
    })
}

/// What is allowed and yet unlikely to be meant.
pub(crate) fn warn(out: &mut Terminal, warnings: &[String]) {
    for warning in warnings {
        out.say(&format!("warning: {warning}"));
    }
}

/// What became of one thing that was to be changed.
#[derive(Debug, Serialize)]
pub(crate) struct OutcomeRow {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// created, updated or unchanged; of other changes the word that says it.
    pub(crate) outcome: String,
    pub(crate) revision: u64,
}

impl OutcomeRow {
    /// What became of one thing that is no document.
    pub(crate) fn of(kind: &str, name: &str, outcome: &str, revision: Revision) -> Self {
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            outcome: outcome.to_owned(),
            revision: revision.0,
        }
    }
}

impl From<&Outcome> for OutcomeRow {
    fn from(outcome: &Outcome) -> Self {
        let (kind, name) = outcome.document.split_once(' ').unwrap_or(("", &outcome.document));
        Self::of(kind, name, outcome.verb.as_str(), outcome.revision)
    }
}

impl Listed for OutcomeRow {
    const COLUMNS: &'static [Column] =
        &[Column::new("OUTCOME"), Column::new("KIND"), Column::new("NAME"), Column::new("REVISION").number()];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.outcome.clone(), self.kind.clone(), self.name.clone(), self.revision.to_string()]
    }
}
