//! All jobs, and what is asked of all of them at once: who is next, whose time has come, who runs where.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::{BackendName, Incarnation, JobId, JobName, NodeId, RequestId, Revision, Timestamp};

use super::Job;
use super::dependency::Dependencies;
use super::progress::{Moved, Place};
use super::step::{Step, Transitions, What};
use super::submit::{Items, Submit};
use crate::change::Change;

/// A place in the queue: higher priorities first, of equal ones the job that was there earlier.
pub type Turn = (Reverse<u8>, Revision, JobId);

/// Jobs, submits under way, and indexes. Changed by rows and steps alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jobs {
    all: BTreeMap<JobId, Job>,
    submits: BTreeMap<JobId, Submit>,
    dependencies: BTreeMap<JobId, Arc<Dependencies>>,
    /// The life of each node's agent that takes subtasks.
    runners: BTreeMap<NodeId, Incarnation>,
    names: BTreeMap<JobName, JobId>,
    requests: BTreeMap<RequestId, JobId>,
    /// Jobs of which something may be granted.
    queue: BTreeSet<Turn>,
    /// Jobs of which something waits for a time, by the next one.
    due: BTreeSet<(Timestamp, JobId)>,
    /// By the job that others wait for.
    followers: BTreeMap<JobId, BTreeSet<JobId>>,
    /// How many subtasks run where, and through which backend; none is zero.
    on_nodes: BTreeMap<NodeId, u32>,
    on_backends: BTreeMap<BackendName, u32>,
    /// The same where, and of which job.
    of_jobs: BTreeMap<(NodeId, JobId), u32>,
}

impl Jobs {
    /// By number.
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.all.get(&id)
    }

    /// By name.
    pub fn named(&self, name: &str) -> Option<&Job> {
        self.all.get(self.names.get(name)?)
    }

    /// The job, or the submit under way, that was asked for under this id.
    pub fn requested(&self, request: &RequestId) -> Option<JobId> {
        self.requests.get(request).copied()
    }

    /// All of them, in the order in which their submits began.
    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.all.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A submit under way.
    pub fn submit(&self, id: JobId) -> Option<&Submit> {
        self.submits.get(&id)
    }

    /// All submits under way.
    pub fn submits(&self) -> impl Iterator<Item = &Submit> {
        self.submits.values()
    }

    /// What depends on what in a job; none: nothing.
    pub fn dependencies(&self, id: JobId) -> Option<&Dependencies> {
        self.dependencies.get(&id).map(|all| &**all)
    }

    /// Who is next, in order.
    pub fn queue(&self) -> impl Iterator<Item = Turn> + '_ {
        self.queue.iter().copied()
    }

    /// Jobs of which a subtask's time comes, and when, soonest first.
    pub fn due(&self) -> impl Iterator<Item = (Timestamp, JobId)> + '_ {
        self.due.iter().copied()
    }

    /// Jobs that wait for this one.
    pub fn followers(&self, id: JobId) -> impl Iterator<Item = JobId> + '_ {
        self.followers.get(&id).into_iter().flatten().copied()
    }

    /// How many subtasks run on a node.
    pub fn on_node(&self, node: NodeId) -> u32 {
        self.on_nodes.get(&node).copied().unwrap_or_default()
    }

    /// The same by job.
    pub fn of_jobs_on(&self, node: NodeId) -> impl Iterator<Item = (JobId, u32)> + '_ {
        let here = self.of_jobs.range((node, JobId(0))..=(node, JobId(u64::MAX)));
        here.map(|((_, job), count)| (*job, *count))
    }

    /// How many run through a backend.
    pub fn on_backend(&self, backend: &BackendName) -> u32 {
        self.on_backends.get(backend).copied().unwrap_or_default()
    }

    /// The life of a node's agent that may be granted subtasks.
    pub fn runner(&self, node: NodeId) -> Option<&Incarnation> {
        self.runners.get(&node)
    }

    /// What runs on a node. Looks at everything that runs.
    pub fn running_on(&self, node: NodeId) -> impl Iterator<Item = (JobId, u32)> + '_ {
        let nothing = self.on_node(node) == 0;
        let jobs = self.all.values().filter(move |_| !nothing);
        jobs.flat_map(move |job| {
            let here = job.progress.running().iter().filter(move |(_, running)| running.node == node);
            here.map(|(subtask, _)| (job.id, *subtask))
        })
    }

    /// Every row, as changes.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Change> + '_ {
        let jobs = self.all.values().map(|job| Change::Job(Arc::new(job.clone())));
        let edges = self.dependencies.iter().map(|(id, all)| Change::Dependencies(*id, all.clone()));
        let submits = self.submits.values().map(|submit| Change::Submit(Arc::new(submit.clone())));
        let runners = self.runners.iter().map(|(node, life)| Change::Runner(*node, life.clone()));
        edges.chain(jobs).chain(submits).chain(runners)
    }

    /// This job with what its subtasks depend on, and nothing else.
    pub(crate) fn only(&self, id: JobId) -> Self {
        let mut only = Self::default();
        if let Some(all) = self.dependencies.get(&id) {
            only.put_dependencies(id, all);
        }
        if let Some(job) = self.all.get(&id) {
            only.put_job(job);
        }
        only
    }

    pub(crate) fn put_runner(&mut self, node: NodeId, life: &Incarnation) {
        self.runners.insert(node, life.clone());
    }

    pub(crate) fn put_submit(&mut self, submit: &Submit) {
        self.remove_submit(submit.id);
        self.requests.extend(submit.spec.request_id.iter().map(|request| (request.clone(), submit.id)));
        self.submits.insert(submit.id, submit.clone());
    }

    pub(crate) fn add_items(&mut self, chunk: &Items) {
        let submit = self.submits.get_mut(&chunk.job);
        if let Some(submit) = submit.filter(|submit| submit.next == chunk.first) {
            submit.add(chunk);
        }
    }

    pub(crate) fn remove_submit(&mut self, id: JobId) {
        let Some(submit) = self.submits.remove(&id) else { return };
        if let Some(request) = &submit.spec.request_id
            && self.requests.get(request) == Some(&id)
        {
            self.requests.remove(request);
        }
    }

    pub(crate) fn put_dependencies(&mut self, id: JobId, all: &Arc<Dependencies>) {
        self.dependencies.insert(id, all.clone());
    }

    /// The job takes the place of what it was, and of the submit it comes from.
    pub(crate) fn put_job(&mut self, job: &Job) {
        self.remove_submit(job.id);
        self.unindex(job.id);
        self.names.insert(job.spec.name.clone(), job.id);
        self.requests.extend(job.spec.request_id.iter().map(|request| (request.clone(), job.id)));
        for other in &job.after {
            self.followers.entry(*other).or_default().insert(job.id);
        }
        for running in job.progress.running().values() {
            self.load(job, Moved { node: running.node, backend: running.backend, by: 1 });
        }
        self.all.insert(job.id, Job { queued: Vec::new(), due: None, ..job.clone() });
        self.refresh(job.id);
    }

    pub(crate) fn remove_job(&mut self, id: JobId) {
        self.unindex(id);
        self.dependencies.remove(&id);
        self.all.remove(&id);
    }

    fn unindex(&mut self, id: JobId) {
        let Some(job) = self.all.remove(&id) else { return };
        if self.names.get(&job.spec.name) == Some(&id) {
            self.names.remove(&job.spec.name);
        }
        if let Some(request) = job.spec.request_id.as_ref().filter(|it| self.requests.get(*it) == Some(&id)) {
            self.requests.remove(request);
        }
        for other in &job.after {
            if let Some(followers) = self.followers.get_mut(other) {
                followers.remove(&id);
            }
        }
        self.followers.retain(|_, followers| !followers.is_empty());
        for running in job.progress.running().values() {
            self.load(&job, Moved { node: running.node, backend: running.backend, by: -1 });
        }
        for priority in &job.queued {
            self.queue.remove(&(Reverse(*priority), job.created, id));
        }
        if let Some(at) = job.due {
            self.due.remove(&(at, id));
        }
    }

    /// Does one step; [`Jobs::settle`] follows the last one of a command.
    pub(crate) fn step(&mut self, id: JobId, step: &Step, at: Timestamp) {
        let Some(job) = self.all.get_mut(&id) else { return };
        match step.what {
            What::Retried(class, _) | What::Failed(class) => job.failures[class as usize] += step.run.len(),
            What::Granted(..) => job.started_at = job.started_at.or(Some(at)),
            What::AllPrioritized(priority) => {
                job.priority = priority;
                job.progress.prioritize_all(priority);
                return;
            }
            _ => {}
        }
        let dependencies = self.dependencies.get(&id).map(|all| &**all);
        let mut moved = Vec::new();
        job.progress.apply(step, at, job.priority, dependencies, &mut moved);
        if !moved.is_empty() {
            let spec = job.spec.clone();
            moved.into_iter().for_each(|it| self.load_of(id, &spec.backends, it));
        }
    }

    /// So many steps were done.
    pub(crate) fn settle(&mut self, id: JobId, at: Timestamp, steps: usize) {
        let Some(job) = self.all.get_mut(&id) else { return };
        job.history += 1;
        job.unsaved = job.unsaved.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        let left =
            [Place::Waiting, Place::Ready, Place::Running].iter().any(|place| job.progress.count(*place) > 0);
        job.ended_at = if left { None } else { job.ended_at.or(Some(at)) };
        self.refresh(id);
    }

    /// The same again from its history; what is contained already changes nothing.
    pub(crate) fn replay(&mut self, all: &Transitions) {
        if self.all.get(&all.job).is_none_or(|job| job.history != all.number) {
            return;
        }
        all.steps.iter().for_each(|step| self.step(all.job, step, all.at));
        self.settle(all.job, all.at, all.steps.len());
    }

    /// Puts a job where it belongs in the queue and among those that wait for a time.
    fn refresh(&mut self, id: JobId) {
        let Some(job) = self.all.get_mut(&id) else { return };
        let open = job.is_open();
        let now = || job.progress.ready().keys().filter(|_| open);
        if !now().eq(job.queued.iter()) {
            for priority in &job.queued {
                self.queue.remove(&(Reverse(*priority), job.created, id));
            }
            let queued: Vec<u8> = now().copied().collect();
            self.queue.extend(queued.iter().map(|priority| (Reverse(*priority), job.created, id)));
            job.queued = queued;
        }
        let due = job.progress.next_due();
        if due != job.due {
            if let Some(at) = job.due {
                self.due.remove(&(at, id));
            }
            self.due.extend(due.map(|at| (at, id)));
            job.due = due;
        }
    }

    fn load(&mut self, job: &Job, moved: Moved) {
        self.load_of(job.id, &job.spec.backends, moved);
    }

    fn load_of(&mut self, id: JobId, backends: &[BackendName], moved: Moved) {
        add(&mut self.on_nodes, &moved.node, moved.by);
        add(&mut self.of_jobs, &(moved.node, id), moved.by);
        let backend = moved.backend.and_then(|place| backends.get(usize::from(place)));
        if let Some(backend) = backend {
            add(&mut self.on_backends, backend, moved.by);
        }
    }

    /// What contradicts itself, in words.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, job) in &self.all {
            let name = &job.spec.name;
            if *id != job.id || self.names.get(name) != Some(id) {
                found.push(format!("job {} is kept under {id}, or not by its name {name}", job.id));
            }
            found.extend(
                job.progress.contradictions(job.count).into_iter().map(|what| format!("job {name}: {what}")),
            );
            if job.state().is_over() != job.ended_at.is_some() {
                found.push(format!("job {name} is {} and ended at {:?}", job.state().as_str(), job.ended_at));
            }
            if let Some(most) = job.spec.max_running
                && job.progress.count(Place::Running) > u64::from(most)
            {
                found.push(format!("job {name} runs more than {most} subtasks"));
            }
            let over =
                job.after.iter().find(|other| self.all.get(other).is_none_or(|it| it.state().is_over()));
            if let Some(other) = over {
                found.push(format!("job {name} waits for {other}, which is over"));
            }
        }
        let mut rebuilt = Self::default();
        self.rows().for_each(|row| rebuilt.put(&row));
        if rebuilt != *self {
            found.push("the indexes of jobs differ from what their rows make".to_owned());
        }
        found
    }

    /// Puts one row, or a job's history.
    pub(crate) fn put(&mut self, change: &Change) {
        match change {
            Change::Job(job) => self.put_job(job),
            Change::JobGone(id) => self.remove_job(*id),
            Change::Dependencies(id, all) => self.put_dependencies(*id, all),
            Change::Submit(submit) => self.put_submit(submit),
            Change::SubmitGone(id) => self.remove_submit(*id),
            Change::Items(chunk) => self.add_items(chunk),
            Change::Transitions(all) => self.replay(all),
            Change::Runner(node, life) => self.put_runner(*node, life),
            Change::RunnerGone(node) => drop(self.runners.remove(node)),
            _ => {}
        }
    }
}

fn add<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K, by: i64) {
    let now = i64::from(counts.get(key).copied().unwrap_or_default()).saturating_add(by);
    match u32::try_from(now.max(0)).unwrap_or(u32::MAX) {
        0 => drop(counts.remove(key)),
        now => drop(counts.insert(key.clone(), now)),
    }
}
