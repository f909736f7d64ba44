//! Submitting: a job comes in chunks, under way unseen, and is there with the last. Repeating any part changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::document::module_for_buckets;
use sheaf_model::job::ITEM_MAX;
use sheaf_model::{Defect, Item, JobId, JobName, JobSpec, JobState, ModuleSpec, Subtasks};

use super::super::{Line, Transaction};
use super::was;
use crate::change::Change;
use crate::command::{AddItems, BeginSubmit, CollectSubmit, CommitSubmit, Refusal, Reply, SubmitAll};
use crate::job::Job;
use crate::job::dependency::{DEPENDENCIES_MAX, Dependencies};
use crate::job::progress::Progress;
use crate::job::submit::{Digest, Items, Submit};
use crate::registration::{Batch, find_module};
use crate::state::State;

/// What to do about them.
const TOO_MANY: &str = "several jobs, or a higher limit: sheaf cluster settings jobs.max_subtasks=N";
/// Subtasks of a cycle that are named.
const CYCLE_NAMED: usize = 20;

impl Transaction<'_> {
    pub(in super::super) fn begin_submit(&mut self, begin: &BeginSubmit) -> Result<Reply, Refusal> {
        if let Some(reply) = same_request(self.state, &begin.spec)? {
            return Ok(reply);
        }
        let submit = self.new_submit(&begin.spec, begin.most)?;
        let id = submit.id;
        self.put(Change::Submit(Arc::new(submit)));
        Ok(Reply::Submit { job: id, next: 0, committed: false })
    }

    pub(in super::super) fn submit_all(&mut self, all: &SubmitAll) -> Result<Reply, Refusal> {
        if let Some(reply) = same_request(self.state, &all.spec)? {
            return self.same_items(reply, &all.items);
        }
        let mut submit = self.new_submit(&all.spec, all.most)?;
        let chunk = Items { job: submit.id, first: 0, items: all.items.clone(), at: self.proposal.at };
        if !all.items.is_empty() {
            self.fits(&submit, &chunk)?;
            submit.add(&chunk);
        }
        let (job, dependencies) = self.job_of(&submit)?;
        if !all.items.is_empty() {
            self.put(Change::Items(chunk));
        }
        Ok(self.put_new_job(job, dependencies))
    }

    /// A whole submit that was done before must have the same items.
    fn same_items(&self, reply: Reply, items: &[Item]) -> Result<Reply, Refusal> {
        let Reply::Submit { job: id, committed, .. } = reply else { return Ok(reply) };
        if !committed {
            let why =
                "a submit in parts is under way under this request_id; go on with it, or use another id";
            return Err(Refusal::Conflict(why.to_owned()));
        }
        let job = self.job(id)?;
        if job.digest == Digest::default().and_all(items).value() {
            return Ok(reply);
        }
        Err(other_items(&job.spec.name))
    }

    fn new_submit(&self, spec: &JobSpec, most: u32) -> Result<Submit, Refusal> {
        let module = module_of(self.state, spec, most)?;
        let mut spec = spec.clone();
        spec.module.version = Some(module.version.clone());
        Ok(Submit {
            id: JobId(self.revision.0),
            spec: Arc::new(spec),
            most,
            next: 0,
            digest: Digest::default().value(),
            needs: Vec::new(),
            chunks: BTreeMap::new(),
            at: self.proposal.at,
        })
    }

    pub(in super::super) fn add_items(&mut self, add: &AddItems) -> Result<Reply, Refusal> {
        if let Some(job) = self.state.jobs.get(add.job) {
            return Ok(Reply::Submit { job: job.id, next: job.count, committed: true });
        }
        let submit = self.submit(add.job)?;
        let chunk = Items { job: add.job, first: add.first, items: add.items.clone(), at: self.proposal.at };
        if add.first < submit.next {
            let digest = Digest::default().and_all(&add.items).value();
            let same = |known: &&_| {
                let known: &crate::job::submit::Chunk = known;
                known.digest == digest && known.count as usize == add.items.len()
            };
            if submit.chunks.get(&add.first).filter(same).is_some() {
                return Ok(Reply::Submit { job: add.job, next: submit.next, committed: false });
            }
            return Err(other_items(&submit.spec.name));
        }
        if add.first > submit.next {
            let why =
                format!("the next item of job {} is {}, not {}", submit.spec.name, submit.next, add.first);
            return Err(Refusal::Precondition(why));
        }
        self.fits(submit, &chunk)?;
        let next = submit.next.saturating_add(u32::try_from(add.items.len()).unwrap_or(u32::MAX));
        self.put(Change::Items(chunk));
        Ok(Reply::Submit { job: add.job, next, committed: false })
    }

    fn submit(&self, id: JobId) -> Result<&Submit, Refusal> {
        let found = self.state.jobs.submit(id);
        found.ok_or_else(|| Refusal::NotFound("submit under way for job".to_owned(), id.to_string()))
    }

    /// Whether a chunk may follow.
    fn fits(&self, submit: &Submit, chunk: &Items) -> Result<(), Refusal> {
        let name = &submit.spec.name;
        if let Subtasks::Array(_) = submit.spec.subtasks {
            return Err(Refusal::Precondition(format!("job {name} is an array and has no items")));
        }
        if chunk.items.is_empty() {
            return Err(Refusal::Precondition("a chunk of no items".to_owned()));
        }
        let (known, new) = (u64::from(submit.next), chunk.items.len() as u64);
        if known + new > submit.most.into() {
            let most = submit.most;
            return Err(Refusal::Exhausted(format!(
                "job {name} has more than {most} subtasks, which are the most of a job: {TOO_MANY}"
            )));
        }
        let size = |item: &Item| item.value.as_str().len() + 5 * item.depends_on.len();
        if let Some((place, item)) = (known..).zip(chunk.items.iter()).find(|(_, item)| size(item) > ITEM_MAX)
        {
            let defect = Defect::new(
                format!("subtasks.items[{place}]"),
                format!("the item has {} bytes, more than {ITEM_MAX}", size(item)),
                "less in it, like the name of a file",
            );
            return Err(Refusal::Invalid(vec![defect.of(format!("Job {name}"))]));
        }
        let needs: usize = chunk.items.iter().map(|item| item.depends_on.len()).sum();
        if submit.needs.len() + needs > DEPENDENCIES_MAX {
            return Err(Refusal::Exhausted(format!(
                "job {name} has more than {DEPENDENCIES_MAX} dependencies"
            )));
        }
        Ok(())
    }

    pub(in super::super) fn commit_submit(&mut self, commit: &CommitSubmit) -> Result<Reply, Refusal> {
        if let Some(job) = self.state.jobs.get(commit.job) {
            if (job.count, job.digest) == (commit.count, commit.digest) {
                return Ok(Reply::Submit { job: job.id, next: job.count, committed: true });
            }
            return Err(other_items(&job.spec.name));
        }
        let submit = self.submit(commit.job)?;
        let (job, dependencies) = self.job_of(submit)?;
        if job.count != commit.count {
            let name = &job.spec.name;
            let why =
                format!("job {name} has {} subtasks here, {} where it comes from", job.count, commit.count);
            return Err(Refusal::Precondition(why));
        }
        if job.digest != commit.digest {
            return Err(other_items(&job.spec.name));
        }
        Ok(self.put_new_job(job, dependencies))
    }

    /// The job that a submit becomes, or everything that keeps it from that.
    fn job_of(&self, submit: &Submit) -> Result<(Job, Option<Dependencies>), Refusal> {
        let spec = &submit.spec;
        name_is_free(self.state, &spec.name)?;
        let invalid = |path: &str, problem: String, remedy: &str| {
            Refusal::Invalid(vec![Defect::new(path, problem, remedy).of(format!("Job {}", spec.name))])
        };
        let count = match spec.subtasks {
            Subtasks::Array(range) => u32::try_from(range.count()).unwrap_or(u32::MAX),
            Subtasks::Items => submit.next,
        };
        if count == 0 {
            return Err(invalid("subtasks", "there are no subtasks".to_owned(), "at least one"));
        }
        let mut needs = submit.needs.clone();
        needs.sort_unstable();
        needs.dedup();
        if let Some((subtask, on)) = needs.iter().find(|(_, on)| *on >= count) {
            let path = format!("subtasks.items[{subtask}].depends_on");
            let problem = format!("there is no subtask {on}");
            return Err(invalid(&path, problem, &format!("from 0 to {}", count - 1)));
        }
        let dependencies =
            if needs.is_empty() {
                None
            } else {
                let all = Dependencies::new(count, &needs);
                Some(all.map_err(|cycle| {
                    invalid("subtasks.items", named(&cycle), "dependencies without a cycle")
                })?)
            };
        let mut after = BTreeSet::new();
        for other in &spec.after {
            let Some(job) = self.state.jobs.named(other.as_str()) else {
                return Err(invalid(
                    "after",
                    format!("there is no job {other}"),
                    "jobs that were submitted before",
                ));
            };
            after.insert(job.id);
        }
        let job = Job {
            id: submit.id,
            spec: spec.clone(),
            count,
            digest: submit.digest,
            priority: spec.priority,
            paused: false,
            canceled: None,
            after,
            created: self.revision,
            created_at: self.proposal.at,
            started_at: None,
            ended_at: None,
            revision: self.revision,
            failures: [0; 5],
            progress: Progress::new(count, spec.priority, dependencies.as_ref()),
            history: 0,
            unsaved: 0,
            queued: Vec::new(),
            due: None,
        };
        Ok((job, dependencies))
    }

    /// It waits for those jobs that are not over, and is canceled at once if one of them did not finish.
    fn put_new_job(&mut self, mut job: Job, dependencies: Option<Dependencies>) -> Reply {
        let (id, count, name) = (job.id, job.count, job.spec.name.clone());
        let mut over = Vec::new();
        for other in std::mem::take(&mut job.after) {
            match self.state.jobs.get(other).map(|it| (it.state(), &it.spec.name)) {
                Some((JobState::Running | JobState::Paused, _)) => drop(job.after.insert(other)),
                Some((state @ (JobState::Failed | JobState::Canceled), name)) => {
                    over.push((state, name.clone()));
                }
                Some((JobState::Finished, _)) | None => {}
            }
        }
        if let Some(dependencies) = dependencies {
            self.put(Change::Dependencies(id, Arc::new(dependencies)));
        }
        self.put(Change::Job(Arc::new(job)));
        self.event(Line::new("job.submitted", &name).because(format!("{count} subtasks")));
        if let Some((state, other)) = over.first() {
            self.cancel_whole(id, &format!("job {other}, which it comes after, {}", was(*state)));
        }
        Reply::Submit { job: id, next: count, committed: true }
    }

    pub(in super::super) fn collect_submit(&mut self, collect: &CollectSubmit) -> Result<Reply, Refusal> {
        self.in_term(collect.term)?;
        let submit = self.submit(collect.job)?;
        if submit.at != collect.at {
            return Err(Refusal::Stale(format!("the submit of job {} goes on", submit.spec.name)));
        }
        let name = submit.spec.name.clone();
        let why = format!("nobody went on with it; {} items had come", submit.next);
        self.put(Change::SubmitGone(collect.job));
        self.event(Line::new("job.submit_collected", &name).because(why));
        Ok(Reply::Done(self.revision))
    }
}

/// Whether a job could be submitted, as far as its spec and the number of its items tell, of an array 0; true: it is there already,
/// under its request's id.
pub fn check(state: &State, spec: &JobSpec, items: u32, most: u32) -> Result<bool, Refusal> {
    if let Some(reply) = same_request(state, spec)? {
        return Ok(matches!(reply, Reply::Submit { committed: true, .. }));
    }
    module_of(state, spec, most)?;
    if items > most {
        let problem = format!("there are {items} items, and a job may have {most} subtasks");
        let defect = Defect::new("subtasks", problem, TOO_MANY).of(format!("Job {}", spec.name));
        return Err(Refusal::Invalid(vec![defect]));
    }
    Ok(false)
}

/// Where the submit or job stands that this id of a request belongs to.
fn same_request(state: &State, spec: &JobSpec) -> Result<Option<Reply>, Refusal> {
    let Some(id) = spec.request_id.as_ref().and_then(|request| state.jobs.requested(request)) else {
        return Ok(None);
    };
    let (known, next, committed) = match (state.jobs.get(id), state.jobs.submit(id)) {
        (Some(job), _) => (&job.spec, job.count, true),
        (None, Some(submit)) => (&submit.spec, submit.next, false),
        (None, None) => return Ok(None),
    };
    let mut asked = spec.clone();
    asked.module.version = asked.module.version.or_else(|| known.module.version.clone());
    if asked == **known {
        return Ok(Some(Reply::Submit { job: id, next, committed }));
    }
    Err(Refusal::Conflict(format!(
        "request_id {:?} belongs to job {}, which was submitted with other content; use another id",
        spec.request_id.as_ref().map(|id| id.0.as_str()).unwrap_or_default(),
        known.name
    )))
}

/// The module that a job would be of, or what keeps it from being submitted as far as its spec tells.
fn module_of<'a>(state: &'a State, spec: &JobSpec, most: u32) -> Result<&'a ModuleSpec, Refusal> {
    name_is_free(state, &spec.name)?;
    let label = format!("Job {}", spec.name);
    let invalid = |defect: Defect| Refusal::Invalid(vec![defect.of(label.as_str())]);
    let module = find_module(state, &Batch::new(), &spec.module, None).map_err(invalid)?;
    if let Some(defect) = module_for_buckets(module) {
        return Err(invalid(defect));
    }
    if let Some(other) = spec.after.iter().find(|other| state.jobs.named(other.as_str()).is_none()) {
        let problem = match *other == spec.name {
            true => format!("a cycle: {other} comes after {other}"),
            false => format!("there is no job {other}"),
        };
        return Err(invalid(Defect::new("after", problem, "jobs that were submitted before")));
    }
    if let Subtasks::Array(range) = spec.subtasks {
        match range.count() {
            0 => {
                let problem = format!("array {range} has no subtasks");
                return Err(invalid(Defect::new("subtasks.array", problem, "like 0-99")));
            }
            count if count > most.into() => {
                let problem = format!("array {range} has {count} subtasks, and a job may have {most}");
                return Err(invalid(Defect::new("subtasks.array", problem, TOO_MANY)));
            }
            _ => {}
        }
    }
    Ok(module)
}

fn name_is_free(state: &State, name: &JobName) -> Result<(), Refusal> {
    let Some(job) = state.jobs.named(name.as_str()) else { return Ok(()) };
    Err(Refusal::Conflict(format!(
        "there is a job {name} already, which is {}; use another name, or delete it",
        job.state().as_str()
    )))
}

fn other_items(name: &JobName) -> Refusal {
    Refusal::Conflict(format!(
        "job {name} was submitted with other items under the same request_id; use another id"
    ))
}

/// `subtasks 1, 2 and 3 wait for one another: 1 → 2 → 3 → 1`, cut off if it is long.
fn named(cycle: &[u32]) -> String {
    let mut way: Vec<String> = cycle.iter().take(CYCLE_NAMED).map(ToString::to_string).collect();
    if cycle.len() > CYCLE_NAMED {
        way.push(format!("… ({} more)", cycle.len() - CYCLE_NAMED));
    }
    way.extend(cycle.first().map(ToString::to_string));
    format!("a cycle: each of these subtasks depends on the next: {}", way.join(" → "))
}
