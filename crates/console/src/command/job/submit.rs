//! `sheaf job submit`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sheaf_model::{Defect, JobSpec, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::job::Submitted;

use super::items::Items;
use super::send::send;
use super::wait;
use super::{order, plan};
use crate::command::apply::warn;
use crate::connect;
use crate::documents::{self, Written};
use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};

/// `sheaf job submit`
#[derive(Args, Debug)]
#[command(after_long_help = "\
A document says `kind: Job`, and where its subtasks come from: `subtasks: {array: 0-49999}`, `subtasks: {items: [...]}` or
`subtasks: {file: tasks.jsonl}`, one JSON value a line; a path is looked for beside the document, and - is stdin. Of an item
that is an object, depends_on lists the numbers of the subtasks that must have finished before it.

Jobs that name one another in `after` may stand in any order; they are submitted each after those that it comes after.
Files are checked whole before anything is sent, and every bad line is told, up to 50; of several jobs all must be good before the
first is submitted. What comes by a pipe is checked while
it is sent. A job becomes visible when all of it has arrived; what broke off before leaves nothing. With `request_id` in the
document it is one job, however often it is submitted.

With --wait a job that failed or was canceled ends the command with exit code 1.

Examples:
  sheaf job submit -f ndvi.yaml
  sheaf job submit -f ndvi.yaml --wait --timeout 2h
  generate-tiles | sheaf job submit -f tiles.yaml      # subtasks: {file: '-'}
  sheaf job submit -f ndvi.yaml --dry-run")]
pub struct Submit {
    /// A file, a directory of .yaml, .yml and .json files, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    /// Check everything, submit nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
}

/// A job that is to be submitted.
pub(super) struct Prepared {
    /// Where its document stands.
    pub(super) file: String,
    pub(super) spec: JobSpec,
    pub(super) items: Items,
    /// How many subtasks, as far as that is known.
    pub(super) count: Option<u32>,
}

/// Reads the documents, and every file of items that can be read twice. Fails with everything that is wrong.
pub(super) fn prepare(out: &mut Terminal, files: &[PathBuf]) -> Result<Vec<Prepared>, Failure> {
    let mut written = documents::read(out, files);
    written.only(&["Job"]);
    let prepared = prepared(&mut written);
    if written.defects.is_empty() { Ok(prepared) } else { Err(Failure::Defects(written.defects)) }
}

/// The jobs among these documents, each after those that it comes after. What is wrong with them or their items is a defect
/// more.
pub(super) fn prepared(written: &mut Written) -> Vec<Prepared> {
    let mut defects = Vec::new();
    let mut prepared = Vec::new();
    let mut pipes = 0;
    for source in &written.sources {
        for job in source.jobs() {
            let label = format!("Job {}", job.spec.name);
            let wrong = |defect: Defect| Defect { file: source.file.clone(), ..defect.of(label.as_str()) };
            if prepared.iter().any(|other: &Prepared| other.spec.name == job.spec.name) {
                defects.push(wrong(Defect::new("name", "another file has this job too", "each name once")));
            }
            let items = match Items::of(&source.file, &job.spec, &job.items) {
                Ok(items) => items,
                Err(defect) => {
                    defects.push(wrong(defect));
                    continue;
                }
            };
            if matches!(&items, Items::Stream(name) if name == "stdin") {
                pipes += 1;
                if pipes > 1 {
                    let problem = "another job takes stdin already";
                    defects.push(wrong(Defect::new("subtasks.file", problem, "one job from stdin")));
                }
            }
            match items.check() {
                // Of an empty array its range is a defect already.
                Ok(Some(0)) if matches!(items, Items::Array(_)) => {}
                Ok(Some(0)) => {
                    let problem = "there are no items";
                    defects.push(wrong(Defect::new("subtasks", problem, "at least one subtask")));
                }
                Ok(count) => {
                    let file = source.file.clone();
                    prepared.push(Prepared { file, spec: job.spec.clone(), items, count });
                }
                Err(bad) => defects.extend(bad),
            }
        }
    }
    let all: Vec<(&str, &JobSpec)> = (written.sources.iter())
        .flat_map(|source| source.jobs().map(|job| (source.file.as_str(), &job.spec)))
        .collect();
    let specs: Vec<&JobSpec> = all.iter().map(|(_, spec)| *spec).collect();
    if let Err(cycle) = order::order(&specs) {
        let file = cycle.first().and_then(|place| all.get(*place)).map_or("", |(file, _)| *file);
        defects.push(Defect { file: file.to_owned(), ..order::defect(&specs, &cycle) });
    }
    written.defects.extend(defects);
    in_order(prepared)
}

/// Each after those that it comes after; with a cycle, which is a defect, as they were.
fn in_order(prepared: Vec<Prepared>) -> Vec<Prepared> {
    let specs: Vec<&JobSpec> = prepared.iter().map(|job| &job.spec).collect();
    let order = order::order(&specs).unwrap_or_else(|_| (0..prepared.len()).collect());
    let mut left: Vec<Option<Prepared>> = prepared.into_iter().map(Some).collect();
    order.into_iter().filter_map(|place| left.get_mut(place)?.take()).collect()
}

impl Prepared {
    /// The same defect, said of its document.
    pub(super) fn defect(&self, defect: Defect) -> Defect {
        Defect { file: self.file.clone(), ..defect.of(format!("Job {}", self.spec.name)) }
    }

    /// Submits it, under an id of its own if its document names none.
    pub(super) async fn submit(self, client: &Client, out: &mut Terminal) -> Result<Submitted, Failure> {
        let request_id = self.spec.request_id.clone().or_else(connect::request);
        let spec = JobSpec { request_id, ..self.spec };
        send(client, out, &spec, &self.items, self.count).await
    }
}

impl Submit {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let jobs = prepare(out, &self.files)?;
        if self.dry_run {
            plan::show(client, format, out, jobs).await?;
            return Ok(Exit::Done);
        }
        // One checks itself; several must all be good before the first is submitted.
        if jobs.len() > 1 {
            plan::check(client, &jobs).await?;
        }
        let mut listing = Listing::new(format);
        let mut waiting = Vec::new();
        let submitted = async {
            for job in jobs {
                let submitted = job.submit(client, out).await?;
                warn(out, &submitted.warnings);
                listing.page(out, &[SubmittedRow::from(&submitted)])?;
                waiting.push((submitted.name, submitted.revision));
            }
            Ok(())
        }
        .await;
        let submitted = listing.over(out, submitted);
        let waited = wait::until_over(client, out, self.wait, &waiting).await;
        crate::wait::ended(out, submitted, waited)
    }
}

/// What became of a job that was to be submitted.
#[derive(Debug, Serialize)]
struct SubmittedRow {
    name: String,
    id: u64,
    /// submitted, or unchanged: it was there already.
    outcome: String,
    subtasks: u32,
    revision: u64,
}

impl From<&Submitted> for SubmittedRow {
    fn from(it: &Submitted) -> Self {
        Self {
            name: it.name.to_string(),
            id: it.id.0,
            outcome: if it.known { "unchanged" } else { "submitted" }.to_owned(),
            subtasks: it.count,
            revision: it.revision.0,
        }
    }
}

impl Listed for SubmittedRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("OUTCOME"),
        Column::new("NAME"),
        Column::new("ID").number(),
        Column::new("SUBTASKS").number(),
        Column::new("REVISION").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.outcome.clone(),
            self.name.clone(),
            self.id.to_string(),
            self.subtasks.to_string(),
            self.revision.to_string(),
        ]
    }
}
