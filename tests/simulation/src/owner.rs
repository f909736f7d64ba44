//! Owners of jobs: each submits one, in parts, asks again until it has an answer, and then does this and that with it.
//!
//! They are clients, numbered after those of buckets.

use std::sync::Arc;

use sheaf_engine::job::submit::Digest;
use sheaf_engine::{
    AddItems, BeginSubmit, CancelJob, Command, CommitSubmit, Proposal, Refusal, Reply, ReprioritizeJob,
    RetryJob,
};
use sheaf_model::{Item, JobId, JobName, JobSpec, Json, ModuleRef, Ranges, Run, Span, Subtasks, Timestamp};

use crate::clock::{MS, SECOND};
use crate::event::{Ask, AtClient, Process, What};
use crate::outcome::Rule;
use crate::world::World;

/// Items of one chunk.
const CHUNK: usize = 7;

#[derive(Debug)]
pub(crate) struct Owner {
    spec: Arc<JobSpec>,
    items: Vec<Item>,
    stage: Stage,
    job: Option<JobId>,
    pending: Option<Arc<Proposal>>,
    number: u64,
    tries: u64,
    turn: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Add(usize),
    Commit,
    /// The job is there.
    Lives,
}

impl World {
    /// A new owner, with the job that it wants.
    pub(crate) fn new_owner(&mut self, o: usize) -> Owner {
        let name = |o: usize| JobName::new(&format!("j{o}")).expect("a letter and digits");
        let module = ModuleRef::parse("plain").expect("a name of letters");
        let mut spec = JobSpec::new(name(o), module, Subtasks::Items);
        spec.priority = 50 + u8::try_from(self.random.below(3)).unwrap_or(0);
        spec.max_running = self.random.chance(300).then_some(3);
        spec.retry.max_attempts = 2 + u32::try_from(self.random.below(4)).unwrap_or(0);
        (spec.retry.backoff_min, spec.retry.backoff_max) = (Span(50), Span::seconds(1));
        spec.request_id = Some(format!("o{o}").as_str().into());
        let count = 10 + u32::try_from(self.random.below(60)).unwrap_or(0);
        let depends = self.random.chance(400);
        let mut items = Vec::new();
        for n in 0..count {
            let on = depends && n > 0 && self.random.chance(500);
            let depends_on = on.then(|| u32::try_from(self.random.below(n.into())).unwrap_or(0));
            items.push(Item { value: Json::new(&n.into()), depends_on: depends_on.into_iter().collect() });
        }
        Owner {
            spec: Arc::new(spec),
            items,
            stage: Stage::Begin,
            job: None,
            pending: None,
            number: 0,
            tries: 0,
            turn: o,
        }
    }

    fn of_owner(&self, o: usize) -> Process {
        Process::Client(self.clients.len() + o)
    }

    pub(crate) fn on_owner(&mut self, o: usize, it: AtClient) {
        let (number, tries) = (self.owners[o].number, self.owners[o].tries);
        let waits = self.owners[o].pending.is_some();
        match it {
            AtClient::Next if !waits => self.owner_goes_on(o),
            AtClient::Again(of) if of == tries && waits => {
                self.owners[o].turn += 1;
                self.owner_asks(o);
            }
            AtClient::Elsewhere(of) if of == number && waits => {
                let delay = self.random.between(20 * MS, 200 * MS);
                self.later(delay, self.of_owner(o), What::Client(AtClient::Again(tries)));
            }
            AtClient::Answer(of, reply, _) if of == number && waits => self.owner_answered(o, &reply),
            _ => {}
        }
    }

    fn owner_asks(&mut self, o: usize) {
        let me = self.of_owner(o);
        let owner = &mut self.owners[o];
        owner.tries += 1;
        let Some(proposal) = owner.pending.clone() else { return };
        let (number, tries, v) = (owner.number, owner.tries, owner.turn % self.voters.len());
        self.datagram(me, Process::Voter(v), What::Asked(Ask { from: me, number, proposal }));
        self.later(SECOND, me, What::Client(AtClient::Again(tries)));
    }

    fn owner_goes_on(&mut self, o: usize) {
        let owner = &self.owners[o];
        let job = owner.job.unwrap_or_default();
        let command = match owner.stage {
            Stage::Begin => Command::BeginSubmit(BeginSubmit { spec: owner.spec.clone(), most: 1_000 }),
            Stage::Add(first) => {
                let items = owner.items.iter().skip(first).take(CHUNK).cloned().collect();
                let first = u32::try_from(first).unwrap_or(u32::MAX);
                Command::AddItems(AddItems { job, first, items: Arc::new(items) })
            }
            Stage::Commit => {
                let count = u32::try_from(owner.items.len()).unwrap_or(u32::MAX);
                let digest = Digest::default().and_all(&owner.items).value();
                Command::CommitSubmit(CommitSubmit { job, count, digest })
            }
            Stage::Lives => self.verb_on(job),
        };
        let (actor, at) = ("owner".into(), Timestamp(self.now / MS));
        let owner = &mut self.owners[o];
        owner.number += 1;
        owner.pending = Some(Arc::new(Proposal { actor, at, request: None, command }));
        self.owner_asks(o);
    }

    fn verb_on(&mut self, job: JobId) -> Command {
        let first = u32::try_from(self.random.below(60)).unwrap_or(0);
        let some = Ranges::from(Run::new(first, first + 3));
        if self.healed {
            return Command::ResumeJob(job);
        }
        match self.random.below(7) {
            0 => Command::PauseJob(job),
            1 | 2 => Command::ResumeJob(job),
            3 => Command::CancelJob(CancelJob { job, subtasks: Some(some), reason: "some".to_owned() }),
            4 if self.random.chance(200) => {
                Command::CancelJob(CancelJob { job, subtasks: None, reason: "all".to_owned() })
            }
            5 => {
                let priority = u8::try_from(self.random.below(100)).unwrap_or(0);
                Command::ReprioritizeJob(ReprioritizeJob { job, subtasks: Some(some), priority })
            }
            _ => Command::RetryJob(RetryJob { job, subtasks: Ranges::from(Run::new(0, 100)) }),
        }
    }

    fn owner_answered(&mut self, o: usize, reply: &Reply) {
        let Some(proposal) = self.owners[o].pending.take() else { return };
        self.line(|| format!("owner {o}: {:?}: {reply:?}", proposal.command));
        let owner = &mut self.owners[o];
        match reply {
            Reply::Submit { job, next, committed } => {
                owner.job = Some(*job);
                let next = *next as usize;
                owner.stage = match (committed, next < owner.items.len()) {
                    (true, _) => Stage::Lives,
                    (false, true) => Stage::Add(next),
                    (false, false) => Stage::Commit,
                };
                if *committed && self.truth.state.jobs.get(*job).is_none() {
                    self.broken(Rule::Acknowledged, format!("job {job} is acknowledged and not there"));
                }
            }
            Reply::Refused(Refusal::NotFound(..)) if owner.stage != Stage::Lives => {
                owner.stage = Stage::Begin;
            }
            Reply::Refused(refusal) if owner.stage != Stage::Lives => {
                self.broken(Rule::Acknowledged, format!("the submit of owner {o} is refused: {refusal}"));
            }
            _ => {}
        }
        let lives = self.owners[o].stage == Stage::Lives;
        let delay = match lives {
            false => self.random.between(MS, 300 * MS),
            true => self.random.between(300 * MS, 8 * SECOND),
        };
        self.later(delay, self.of_owner(o), What::Client(AtClient::Next));
    }

    /// Whether every job is there and over, and every attempt accounted for.
    pub(crate) fn judge_jobs(&mut self) {
        for o in 0..self.owners.len() {
            let owner = &self.owners[o];
            let name = owner.spec.name.clone();
            let Some(job) = owner.job.and_then(|id| self.truth.state.jobs.get(id)) else {
                return self.broken(Rule::Runs, format!("job {name} is not there: {:?}", owner.stage));
            };
            if !job.state().is_over() {
                let what = format!("job {name} is {}, {:?}", job.state().as_str(), job.counts());
                return self.broken(Rule::Runs, what);
            }
            let counts = job.counts();
            let (ended, finished) =
                (counts.finished + counts.failed + counts.canceled, self.truth.history.finished_of(job.id));
            if ended != u64::from(job.count) || counts.finished != finished {
                let what = format!("job {name} has {counts:?}, of which {finished} were seen to finish");
                return self.broken(Rule::Attempts, what);
            }
            self.counts.subtasks_finished += finished;
        }
        if let Some(attempt) = self.truth.history.runs.first() {
            self.broken(Rule::Attempts, format!("{attempt:?} has no end"));
        }
    }
}
