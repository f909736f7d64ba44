//! Jobs among documents of every kind, as `sheaf apply` finds them: checked with the others, and submitted after them.

use sheaf_model::document::{differences, job_value};
use sheaf_model::{Defect, JobName, JobSpec, Revision, Subtasks};
use sheaf_wire::job::GotJob;
use sheaf_wire::{ApiError, Client};

use super::plan::{Along, judged};
use super::submit::{Prepared, prepared};
use crate::command::apply::{OutcomeRow, warn};
use crate::documents::{Source, Written};
use crate::exit::Failure;
use crate::output::Terminal;
use crate::table::Listing;

/// What was found out about jobs that are to be applied.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// What is wrong with them.
    pub(crate) defects: Vec<Defect>,
    /// Where another job has the name.
    pub(crate) conflicts: Vec<Defect>,
}

/// The jobs of an apply, each after those that it comes after.
#[derive(Default)]
pub(crate) struct Jobs {
    new: Vec<Prepared>,
    /// Those that are there already as they are asked for.
    known: Vec<(JobName, Revision)>,
    /// What all of them are called, also those that are left out for what is wrong with them: others may come after these.
    names: Vec<JobName>,
}

impl Jobs {
    /// Those among these documents. What is wrong with them or their items is a defect more.
    pub(crate) fn among(written: &mut Written) -> Self {
        let new = prepared(written);
        let read = written.sources.iter().flat_map(Source::jobs).map(|job| job.spec.name.clone());
        let defective = written.defective("Job").filter_map(|name| JobName::new(name).ok());
        Self { new, known: Vec::new(), names: read.chain(defective).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.known.is_empty()
    }

    /// Asks what of them is there already, and whether everything is there that the others name; `along` comes along with them.
    pub(crate) async fn check(&mut self, client: &Client, along: &Along<'_>) -> Result<Found, Failure> {
        let mut found = Found::default();
        let mut new = Vec::new();
        for job in std::mem::take(&mut self.new) {
            match client.job(&job.spec.name).await {
                Ok(known) => match difference(&job, &known) {
                    None => self.known.push((job.spec.name, Revision(known.status.revision))),
                    Some(fields) => {
                        let problem = format!("there is a job of this name, and it differs in {fields}");
                        let remedy = "another name, or delete that one before: what a job is never changes";
                        found.conflicts.push(job.defect(Defect::new("name", problem, remedy)));
                    }
                },
                Err(ApiError::NotFound(_)) => {
                    let along = Along { jobs: &self.names, ..*along };
                    found.defects.extend(judged(client, &job, &along).await?);
                    new.push(job);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.new = new;
        Ok(found)
    }

    /// Submits those that are new, prints what became of each, and adds those that are there to `applied`.
    pub(crate) async fn submit(
        self,
        client: &Client,
        out: &mut Terminal,
        listing: &mut Listing,
        applied: &mut Vec<(JobName, Revision)>,
    ) -> Result<(), Failure> {
        for (name, revision) in self.known {
            listing.page(out, &[OutcomeRow::of("Job", name.as_str(), "unchanged", revision)])?;
            applied.push((name, revision));
        }
        for job in self.new {
            let submitted = job.submit(client, out).await?;
            warn(out, &submitted.warnings);
            let outcome = if submitted.known { "unchanged" } else { "submitted" };
            let row = OutcomeRow::of("Job", submitted.name.as_str(), outcome, submitted.revision);
            listing.page(out, &[row])?;
            applied.push((submitted.name, submitted.revision));
        }
        Ok(())
    }
}

/// In which fields a job differs from the one of its name that is there; none: in nothing that is known of it. Of items only
/// their number is.
fn difference(job: &Prepared, known: &GotJob) -> Option<String> {
    let mut asked = job.spec.clone();
    asked.module.version = asked.module.version.or_else(|| known.spec.module.version.clone());
    let mut there = known.spec.clone();
    // It may have another by now; asked for is either.
    if asked.priority == known.status.priority {
        there.priority = asked.priority;
    }
    let value = |spec: &JobSpec| job_value(spec, "");
    let mut fields: Vec<String> =
        differences(&value(&there), &value(&asked)).into_iter().map(|field| field.path).collect();
    let of_items = asked.subtasks == Subtasks::Items;
    if of_items && job.count.is_some_and(|count| u64::from(count) != known.status.count) {
        fields.push("the number of its items".to_owned());
    }
    if asked.request_id.is_some() && asked.request_id != there.request_id {
        fields.push("request_id".to_owned());
    }
    (!fields.is_empty()).then(|| fields.join(", "))
}
