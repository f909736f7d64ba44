//! `sheaf job plan`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use sheaf_model::document::{job_module_defects, module_for_buckets};
use sheaf_model::{BackendName, Defect, JobName, JobSpec, ModuleRef, ModuleSpec, Subtasks, Timestamp};
use sheaf_wire::job::CheckJob;
use sheaf_wire::{ApiError, Client};

use super::submit::{Prepared, prepare};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::text;

/// `sheaf job plan`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Reads the documents and every file of items, asks whether the module, the backends and the jobs of `after` exist, whether the
name is free and whether the cluster would take it, and tells everything that is wrong. Exits with 10 when something would be
submitted, with 0 when all of it is there already. Whether dependencies go round in a circle is only seen at submit.

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
    let names: Vec<JobName> = jobs.iter().map(|job| job.spec.name.clone()).collect();
    let (mut rows, mut defects) = (Vec::new(), Vec::new());
    for (place, job) in jobs.into_iter().enumerate() {
        let along = Along { jobs: &names[..place], ..Along::default() };
        let (module, mut wrong) = named(client, &job.spec, &along).await?;
        let known = is_known(client, &job.spec, &mut wrong).await?;
        if wrong.is_empty() && !known {
            wrong = refused(client, &job, &along).await?;
        }
        defects.extend(wrong.into_iter().map(|defect| job.defect(defect)));
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

/// What comes along with a job, before it, and counts as there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Along<'a> {
    pub(crate) modules: &'a [&'a ModuleSpec],
    pub(crate) backends: &'a [&'a BackendName],
    pub(crate) jobs: &'a [JobName],
}

/// Asks whether what a job names is there: the module with the version that it would have, and what is wrong.
async fn named(client: &Client, spec: &JobSpec, along: &Along<'_>) -> Result<(String, Vec<Defect>), Failure> {
    let mut wrong = Vec::new();
    let module = module(client, spec, along.modules, &mut wrong).await?;
    for (index, name) in spec.backends.iter().enumerate() {
        if along.backends.contains(&name) {
            continue;
        }
        if let Some(why) = missing(client.backend(name).await)? {
            let remedy = "one that is registered, see `sheaf backend list`";
            wrong.push(Defect::new(format!("backends[{index}]"), why, remedy));
        }
    }
    for (index, name) in spec.after.iter().enumerate() {
        if along.jobs.contains(name) {
            continue;
        }
        if let Some(why) = missing(client.job(name).await)? {
            wrong.push(Defect::new(format!("after[{index}]"), why, "a job that was submitted before"));
        }
    }
    Ok((module, wrong))
}

/// What is wrong with each of several jobs, before the first of them is submitted. What is there already under its request's id
/// is not looked at.
pub(super) async fn check(client: &Client, jobs: &[Prepared]) -> Result<(), Failure> {
    let names: Vec<JobName> = jobs.iter().map(|job| job.spec.name.clone()).collect();
    let along = Along { jobs: &names, ..Along::default() };
    let (mut defects, mut conflicts) = (Vec::new(), Vec::new());
    for job in jobs {
        let mut taken = Vec::new();
        let known = is_known(client, &job.spec, &mut taken).await?;
        if !known && taken.is_empty() {
            defects.extend(judged(client, job, &along).await?);
        }
        conflicts.extend(taken.into_iter().map(|defect| job.defect(defect)));
    }
    match (defects.is_empty(), conflicts.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => {
            let texts: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
            Err(Failure::Conflict(texts.join("\n")))
        }
        (false, _) => Err(Failure::Defects(defects.into_iter().chain(conflicts).collect())),
    }
}

/// What is wrong with a job that is not there yet: first what it names that is not there, else what the cluster refuses it for.
pub(super) async fn judged(
    client: &Client,
    job: &Prepared,
    along: &Along<'_>,
) -> Result<Vec<Defect>, Failure> {
    let (_, mut wrong) = named(client, &job.spec, along).await?;
    if wrong.is_empty() {
        wrong = refused(client, job, along).await?;
    }
    Ok(wrong.into_iter().map(|defect| job.defect(defect)).collect())
}

/// Why the cluster would not take a job. It does not know what comes along, and is asked about the rest.
async fn refused(client: &Client, job: &Prepared, along: &Along<'_>) -> Result<Vec<Defect>, Failure> {
    let mut spec = JobSpec { request_id: None, ..job.spec.clone() };
    if along.modules.iter().any(|module| module.name == spec.module.name) {
        return Ok(Vec::new());
    }
    spec.after.retain(|name| !along.jobs.contains(name));
    // Backends stay, since a module may want one at least; that these are not there yet is no news.
    let others = spec.backends.iter().enumerate().filter(|(_, name)| along.backends.contains(name));
    let coming: Vec<String> = others.map(|(index, _)| format!("backends[{index}]")).collect();
    let items = match spec.subtasks {
        Subtasks::Array(_) => 0,
        Subtasks::Items => job.count.unwrap_or(0),
    };
    match client.check_job(CheckJob { spec, items }).await {
        Ok(_) => Ok(Vec::new()),
        // An earlier version takes it for a submit that broke off before its end, of which nothing comes.
        Err(ApiError::Invalid(mut defects)) => {
            defects.retain(|it| it.path != "done" && !coming.contains(&it.path));
            Ok(defects)
        }
        Err(error) => Err(error.into()),
    }
}

/// The module with the version that it would have: of what is registered and what comes along, the newest that is meant.
async fn module(
    client: &Client,
    spec: &JobSpec,
    along: &[&ModuleSpec],
    wrong: &mut Vec<Defect>,
) -> Result<String, Failure> {
    let ModuleRef { name, version } = &spec.module;
    let meant = |module: &&ModuleSpec| {
        module.name == *name && version.as_ref().is_none_or(|version| *version == module.version)
    };
    let (registered, why) = match client.module(&spec.module).await {
        Ok(got) => (Some(got.spec), String::new()),
        Err(ApiError::NotFound(why)) => (None, why),
        Err(error) => return Err(error.into()),
    };
    let all = along.iter().copied().filter(meant).chain(&registered);
    let Some(module) = all.max_by_key(|module| module.version.newness()) else {
        wrong.push(Defect::new("module", why, "one that is registered, see `sheaf module list`"));
        return Ok(spec.module.to_string());
    };
    wrong.extend(module_for_buckets(module));
    wrong.extend(job_module_defects(spec, module));
    Ok(format!("{}@{}", module.name, module.version))
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
