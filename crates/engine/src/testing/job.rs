//! Jobs for scenarios.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::*;

use super::World;
use crate::command::*;
use crate::dispatch::{self, Offer, Room};
use crate::job::Job;

impl World {
    /// A cluster whose `n` nodes take subtasks.
    pub(crate) fn with_runners(n: u64) -> Self {
        let mut world = Self::with_nodes(n);
        (1..=n).for_each(|node| world.take_up(node, "life"));
        world
    }

    pub(crate) fn take_up(&mut self, node: u64, life: &str) {
        let take = TakeUp { node: NodeId(node), incarnation: life.into() };
        assert!(matches!(self.propose(Command::TakeUp(take)), Reply::Done(_)));
    }

    pub(crate) fn job_spec(&self, name: &str, subtasks: Subtasks) -> JobSpec {
        let name = JobName::new(name).expect("a job's name");
        let mut spec = JobSpec::new(name, ModuleRef::parse("sleep").expect("a module's name"), subtasks);
        spec.retry.max_attempts = 1;
        spec
    }

    pub(crate) fn submit_of(&self, name: &str, count: u64, change: impl FnOnce(&mut JobSpec)) -> SubmitAll {
        let range = ArrayRange { first: 0, last: count.saturating_sub(1), step: 1 };
        let mut spec = self.job_spec(name, Subtasks::Array(range));
        change(&mut spec);
        SubmitAll { spec: Arc::new(spec), most: 10_000_000, items: Arc::new(vec![]) }
    }

    /// Submits an array.
    pub(crate) fn submit(&mut self, name: &str, count: u64, change: impl FnOnce(&mut JobSpec)) -> JobId {
        let all = self.submit_of(name, count, change);
        self.submitted(Command::Submit(all))
    }

    /// Submits items of which each depends on those named.
    pub(crate) fn submit_items(&mut self, name: &str, needs: &[&[u32]]) -> JobId {
        let spec = Arc::new(self.job_spec(name, Subtasks::Items));
        let item = |needs: &&[u32]| Item { value: Json::default(), depends_on: needs.to_vec() };
        let items = Arc::new(needs.iter().map(item).collect());
        self.submitted(Command::Submit(SubmitAll { spec, most: 1_000, items }))
    }

    pub(crate) fn submitted(&mut self, command: Command) -> JobId {
        match self.propose(command) {
            Reply::Submit { job, committed: true, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn job(&self, id: JobId) -> &Job {
        self.state.jobs.get(id).expect("the job exists")
    }

    /// What would be granted if every node took so many.
    pub(crate) fn grants(&self, free: u32) -> Vec<Grant> {
        let room = |node: &NodeId| {
            let incarnation = self.state.jobs.runner(*node)?.clone();
            Some((*node, Room { incarnation, slots: free, idle: free, spare: Span(0) }))
        };
        let nodes: BTreeMap<NodeId, Room> = self.state.nodes.keys().filter_map(room).collect();
        let backends = BTreeMap::new();
        let offer = Offer { nodes, may_run: &|_, _| true, takes: &|_, _| Span(1), backends, most: u32::MAX };
        dispatch::grant(&self.state, offer)
    }

    /// Grants up to so many to every node; what was granted.
    pub(crate) fn dispatch(&mut self, free: u32) -> Vec<(u64, Attempt)> {
        let grants = self.grants(free);
        let attempts = grants.iter().flat_map(|grant| {
            let subtasks = grant.subtasks.iter();
            let all = subtasks.flat_map(|(run, number)| run.numbers().map(move |subtask| (subtask, *number)));
            all.map(|(subtask, number)| (grant.node.0, Attempt { job: grant.job, subtask, number }))
        });
        let attempts: Vec<(u64, Attempt)> = attempts.collect();
        if !grants.is_empty() {
            let reply = self.propose(Command::Grant(GrantAll { term: self.term, grants }));
            assert!(matches!(reply, Reply::Touched(_, count) if count == attempts.len() as u64), "{reply:?}");
        }
        attempts
    }

    pub(crate) fn end(&mut self, node: u64, attempt: Attempt, ending: Ending) -> Reply {
        let (subtask, started_at, took) = (attempt.subtask, self.now, Span::millis(5));
        let end = AttemptEnd { subtask, attempt: attempt.number, started_at, took, ending };
        let results = vec![(attempt.job, vec![end])];
        self.propose(Command::RecordResults(RecordResults { node: NodeId(node), results }))
    }

    pub(crate) fn finish(&mut self, (node, attempt): (u64, Attempt)) {
        assert_eq!(self.end(node, attempt, Ending::Finished), Reply::Recorded(vec![]));
    }

    pub(crate) fn fail(&mut self, (node, attempt): (u64, Attempt)) {
        let failure = failure(FailureClass::Exit, "it broke");
        assert_eq!(self.end(node, attempt, Ending::Failed(failure)), Reply::Recorded(vec![]));
    }

    /// What happened to jobs so far: kind, subject, state after and message of events.
    pub(crate) fn job_events(&self) -> Vec<String> {
        let line = |change: &crate::Change| match change {
            crate::Change::Event(e) if e.kind.starts_with("job.") => {
                Some(format!("{} {}: {}", e.kind, e.subject, e.message))
            }
            _ => None,
        };
        self.changes.iter().filter_map(line).collect()
    }
}

pub(crate) fn failure(class: FailureClass, message: &str) -> Failure {
    Failure { class, exit: Some(Exit::Code(1)), message: message.to_owned() }
}
