//! `sheaf job plan`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sheaf_model::{Defect, JobSpec, Timestamp};
use sheaf_wire::{ApiError, Client};

use super::submit::{Prepared, prepare};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::text;

/// `sheaf job plan`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Reads the documents and every file of items, asks whether the module and the jobs of `after` exist and whether the name is
free, and tells everything that is wrong. Exits with 10 when something would be submitted, with 0 when all of it is there
already. Whether dependencies go round in a circle is only seen at submit.

Examples:
  sheaf job plan -f ndvi.yaml
  sheaf job plan -f jobs/ -o json")]
pub struct Plan {
    /// A file, a directory of .yaml, .yml and .json files, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
}

impl Plan {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let jobs = prepare(out, &self.files)?;
        let changes = show(client, format, out, jobs).await?;
        Ok(if changes { Exit::Changes } else { Exit::Done })
    }
}

/// Shows what a submit of these would do; whether it would do anything.
pub(super) async fn show(
    client: &Client,
    format: Format,
    out: &mut Terminal,
    jobs: Vec<Prepared>,
) -> Result<bool, Failure> {
    let names: Vec<String> = jobs.iter().map(|job| job.spec.name.to_string()).collect();
    let (mut rows, mut defects) = (Vec::new(), Vec::new());
    for job in jobs {
        let mut wrong = Vec::new();
        let module = module(client, &job.spec, &mut wrong).await?;
        let known = is_known(client, &job.spec, &mut wrong).await?;
        for (index, name) in job.spec.after.iter().enumerate() {
            // Those that come along are submitted in this order.
            let before = names.iter().take_while(|other| **other != job.spec.name.as_str());
            if before.clone().any(|other| other == name.as_str()) {
                continue;
            }
            if let Some(why) = missing(client.job(name).await)? {
                wrong.push(Defect::new(format!("after[{index}]"), why, "a job that was submitted before"));
            }
        }
        let label = format!("Job {}", job.spec.name);
        defects.extend(wrong.into_iter().map(|defect| defect.of(label.as_str())));
        rows.push(PlanRow {
            name: job.spec.name.to_string(),
            outcome: if known { "unchanged" } else { "submitted" }.to_owned(),
            module,
            subtasks: job.count,
            priority: job.spec.priority,
            max_running: job.spec.max_running,
        });
    }
    if !defects.is_empty() {
        return Err(Failure::Defects(defects));
    }
    Listing::whole(out, format, &rows)?;
    if format.is_table() {
        let new = rows.iter().filter(|row| row.outcome == "submitted");
        let subtasks: u64 = new.clone().filter_map(|row| row.subtasks).map(u64::from).sum();
        let pipes =
            if new.clone().any(|row| row.subtasks.is_none()) { ", and what the pipe says" } else { "" };
        let jobs = text::count(new.count(), "job");
        out.say(&format!("{jobs} of {} subtasks{pipes} would be submitted", text::thousands(subtasks)));
    }
    Ok(rows.iter().any(|row| row.outcome == "submitted"))
}

/// The module with the version that it would have.
async fn module(client: &Client, spec: &JobSpec, wrong: &mut Vec<Defect>) -> Result<String, Failure> {
    match client.module(&spec.module).await {
        Ok(got) => Ok(format!("{}@{}", got.spec.name, got.spec.version)),
        Err(ApiError::NotFound(why)) => {
            wrong.push(Defect::new("module", why, "one that is registered, see `sheaf module list`"));
            Ok(spec.module.to_string())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the job is there already, under the id of this request.
async fn is_known(client: &Client, spec: &JobSpec, wrong: &mut Vec<Defect>) -> Result<bool, Failure> {
    let known = match client.job(&spec.name).await {
        Ok(known) => known.spec,
        Err(ApiError::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if spec.request_id.is_some() && known.request_id == spec.request_id {
        return Ok(true);
    }
    wrong.push(Defect::new("name", "there is a job of this name", "another name, or delete that one before"));
    Ok(false)
}

/// Why something is not there, if it is not.
fn missing<T>(found: Result<T, ApiError>) -> Result<Option<String>, Failure> {
    match found {
        Ok(_) => Ok(None),
        Err(ApiError::NotFound(why)) => Ok(Some(why)),
        Err(error) => Err(error.into()),
    }
}

/// What is planned for one job.
#[derive(Debug, Serialize)]
struct PlanRow {
    name: String,
    /// submitted, or unchanged: it is there already.
    outcome: String,
    module: String,
    /// None: a pipe will say.
    subtasks: Option<u32>,
    priority: u8,
    max_running: Option<u32>,
}

impl Listed for PlanRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("WOULD BE"),
        Column::new("NAME"),
        Column::new("MODULE"),
        Column::new("SUBTASKS").number(),
        Column::new("PRIORITY").number(),
        Column::new("MAX RUNNING").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        vec![
            self.outcome.clone(),
            self.name.clone(),
            self.module.clone(),
            number(self.subtasks),
            self.priority.to_string(),
            number(self.max_running),
        ]
    }
}
