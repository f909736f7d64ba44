//! Subtasks: what agents run of jobs, and what they and the leader say to each other about it.
//!
//! ```text
//!  agent                                           leader, once an entry of its term is applied
//!    ├─ Held (attempts that are not recorded yet) ──►│ a majority confirms, then: TakeUp, if this life is a new one
//!    │◄───────────────────────── Run, Stop ──────────┤ dispatch::difference, after each entry
//!    │  an attempt begins, and ends in some way      │ dispatch::grant, with each look
//!    ├─ Ends{seq}, lost, late or twice ─────────────►│ RecordResults
//!    │◄───────────────────────── Recorded{seq} ──────┤
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_engine::dispatch::{self, Difference, Offer, Room};
use sheaf_engine::{Command, GrantAll, RecordResults, TakeUp};
use sheaf_model::{
    Attempt, AttemptEnd, Ending, Exit, Failure, FailureClass, Incarnation, JobId, NodeId, Span, Timestamp,
};

use crate::clock::{MS, SECOND};
use crate::event::{AtAgent, AtVoter, Process, What, Words};
use crate::link::Session;
use crate::outcome::Rule;
use crate::voter::{ReadFor, Waiter, proposal};
use crate::world::World;

/// How many subtasks an agent takes.
const SLOTS: u32 = 4;
/// Ends that were not recorded by then are said again.
const SAID_AGAIN: u64 = 700 * MS;

/// What is said about subtasks.
#[derive(Clone, Debug)]
pub(crate) enum WorkWords {
    Held(Vec<Attempt>),
    Run(Vec<Attempt>),
    Stop(Vec<Attempt>),
    Ends(u64, Vec<(JobId, Vec<AttemptEnd>)>),
    Recorded(u64),
}

/// What an agent runs.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Attempts given to this life; with how it ended, once it has.
    held: BTreeMap<Attempt, Option<Ending>>,
    /// Ends on their way in this session, by the number of the message.
    said: BTreeMap<u64, Vec<Attempt>>,
    seq: u64,
}

/// A node that takes subtasks, as a leader knows it.
#[derive(Debug)]
pub(crate) struct Worker {
    incarnation: Incarnation,
    /// Attempts that this life was given, as far as this session knows.
    given: BTreeSet<Attempt>,
    stopped: BTreeSet<Attempt>,
    asked: bool,
    /// A majority has confirmed the leader since the agent said what it holds.
    confirmed: bool,
}

impl World {
    /// A session stands: the leader hears first what is here.
    pub(crate) fn offer_work(&mut self, m: usize) {
        if self.plan.jobs == 0 || self.agents[m].stand_in.is_some() || self.agents[m].leaves {
            return;
        }
        let work = &mut self.agents[m].work;
        work.said.clear();
        let held = work.held.keys().copied().collect();
        self.say_of_work(m, WorkWords::Held(held));
        self.say_ends(m);
    }

    fn say_of_work(&mut self, m: usize, words: WorkWords) {
        let Session::Open(open) = &self.agents[m].session else { return };
        let conn = open.conn;
        let tossed = matches!(words, WorkWords::Ends(..));
        let words = Words::Work(words);
        if tossed {
            self.toss(Process::Agent(m), conn, words);
        } else {
            self.say(Process::Agent(m), conn, words);
        }
    }

    pub(crate) fn work_arrives(&mut self, m: usize, words: WorkWords) {
        match words {
            WorkWords::Run(attempts) => attempts.into_iter().for_each(|it| self.attempt_begins(m, it)),
            WorkWords::Stop(attempts) => {
                for attempt in attempts {
                    self.attempt_ends(m, attempt, Some(Ending::Canceled));
                }
                self.say_ends(m);
            }
            WorkWords::Recorded(seq) => {
                let work = &mut self.agents[m].work;
                for attempt in work.said.remove(&seq).unwrap_or_default() {
                    work.held.remove(&attempt);
                }
            }
            WorkWords::Held(_) | WorkWords::Ends(..) => {}
        }
    }

    fn attempt_begins(&mut self, m: usize, attempt: Attempt) {
        if self.agents[m].closing || self.agents[m].work.held.contains_key(&attempt) {
            return;
        }
        self.agents[m].work.held.insert(attempt, None);
        self.counts.attempts += 1;
        self.line(|| format!("n{m} begins {attempt:?}"));
        if !self.truth.history.begun.insert(attempt) {
            self.broken(Rule::Attempts, format!("{attempt:?} begins on n{m} and began before"));
        }
        let takes = if self.random.chance(800) {
            self.random.between(5 * MS, 900 * MS)
        } else {
            self.random.between(900 * MS, 6 * SECOND)
        };
        self.later(takes, Process::Agent(m), What::Agent(AtAgent::AttemptEnds(attempt)));
    }

    /// An attempt that runs ends, as it says or by chance.
    pub(crate) fn attempt_ends(&mut self, m: usize, attempt: Attempt, ending: Option<Ending>) {
        if self.agents[m].work.held.get(&attempt) != Some(&None) {
            return;
        }
        let failed = |class, message: &str| {
            Ending::Failed(Failure { class, exit: Some(Exit::Code(1)), message: message.to_owned() })
        };
        let ending = ending.unwrap_or_else(|| match self.random.below(20) {
            0 | 1 if !self.healed => failed(FailureClass::Exit, "it broke"),
            2 if !self.healed => failed(FailureClass::Timeout, "it took too long"),
            3 if !self.healed => Ending::HandedBack,
            _ => Ending::Finished,
        });
        if ending == Ending::Finished {
            self.truth.history.ended_well.insert(attempt);
        }
        self.agents[m].work.held.insert(attempt, Some(ending));
    }

    /// Ends that are not on their way.
    pub(crate) fn say_ends(&mut self, m: usize) {
        let now = Timestamp(self.now / MS);
        if !matches!(self.agents[m].session, Session::Open(_)) {
            return;
        }
        let work = &mut self.agents[m].work;
        let said: BTreeSet<Attempt> = work.said.values().flatten().copied().collect();
        let mut ends: BTreeMap<JobId, Vec<AttemptEnd>> = BTreeMap::new();
        let mut attempts = Vec::new();
        for (attempt, ending) in work.held.iter().filter(|(it, _)| !said.contains(it)) {
            let Some(ending) = ending.clone() else { continue };
            let (subtask, number) = (attempt.subtask, attempt.number);
            let end = AttemptEnd { subtask, attempt: number, started_at: now, took: Span(1), ending };
            ends.entry(attempt.job).or_default().push(end);
            attempts.push(*attempt);
        }
        if attempts.is_empty() {
            return;
        }
        work.seq += 1;
        let seq = work.seq;
        work.said.insert(seq, attempts);
        self.say_of_work(m, WorkWords::Ends(seq, ends.into_iter().collect()));
        self.later(SAID_AGAIN, Process::Agent(m), What::Agent(AtAgent::EndsLate(seq)));
    }

    pub(crate) fn ends_late(&mut self, m: usize, seq: u64) {
        if self.agents[m].work.said.remove(&seq).is_some() {
            self.say_ends(m);
        }
    }

    /// Its agent is to stop: nothing more begins, and what runs is handed back.
    pub(crate) fn hand_back(&mut self, m: usize) {
        let held: Vec<Attempt> = self.agents[m].work.held.keys().copied().collect();
        for attempt in held {
            self.attempt_ends(m, attempt, Some(Ending::HandedBack));
        }
        self.say_ends(m);
    }

    /// A leader hears of work.
    pub(crate) fn work_heard(&mut self, v: usize, conn: u64, words: WorkWords) {
        let Some((node, incarnation)) = self.voters[v].live.served.get(&conn).cloned() else { return };
        match words {
            WorkWords::Held(held) => {
                let given = held.into_iter().collect();
                let (stopped, asked, confirmed) = (BTreeSet::new(), false, false);
                let worker = Worker { incarnation, given, stopped, asked, confirmed };
                self.voters[v].live.workers.insert(node, worker);
                self.confirm_work(v, conn);
            }
            WorkWords::Ends(seq, results) => {
                let command = Command::RecordResults(RecordResults { node, results });
                let it = Arc::new(proposal("node", self.now, command));
                self.propose(v, None, it, Waiter::Ends(node, seq));
            }
            WorkWords::Run(_) | WorkWords::Stop(_) | WorkWords::Recorded(_) => {}
        }
    }

    /// A state that is behind would have an attempt begun twice that has ended for the others.
    pub(crate) fn confirm_work(&mut self, v: usize, conn: u64) {
        if self.voters[v].live.served.contains_key(&conn) && !self.read_index(v, ReadFor::Work(conn)) {
            self.later(20 * MS, Process::Voter(v), What::Voter(AtVoter::ConfirmWork(conn)));
        }
    }

    pub(crate) fn work_confirmed(&mut self, v: usize, conn: u64) {
        let live = &mut self.voters[v].live;
        let Some((node, _)) = live.served.get(&conn) else { return };
        if let Some(worker) = live.workers.get_mut(node) {
            worker.confirmed = true;
            self.tell_of_work(v);
            self.conduct_soon(v);
        }
    }

    pub(crate) fn ends_recorded(&mut self, v: usize, node: NodeId, seq: u64) {
        self.say_work_to(v, node, WorkWords::Recorded(seq));
    }

    fn say_work_to(&mut self, v: usize, node: NodeId, words: WorkWords) {
        if let Some(conn) = self.voters[v].live.link(node) {
            self.say(Process::Voter(v), conn, Words::Work(words));
        }
    }

    /// Gives each agent what it lacks, and stops what is not wanted.
    pub(crate) fn tell_of_work(&mut self, v: usize) {
        let voter = &mut self.voters[v];
        if voter.live.workers.is_empty() {
            return;
        }
        let (mut said, mut asked) = (Vec::new(), Vec::new());
        for (node, worker) in voter.live.workers.iter_mut().filter(|(_, worker)| worker.confirmed) {
            let takes = voter.state.jobs.runner(*node) == Some(&worker.incarnation);
            let alive = voter.state.is_alive(*node);
            if !takes {
                if alive && !std::mem::replace(&mut worker.asked, true) {
                    let (node, incarnation) = (*node, worker.incarnation.clone());
                    asked.push(Command::TakeUp(TakeUp { node, incarnation }));
                }
                continue;
            }
            worker.asked = false;
            if voter.state.jobs.on_node(*node) == 0 && worker.given.len() == worker.stopped.len() {
                continue;
            }
            let Difference { missing, unwanted } = dispatch::difference(&voter.state, *node, &worker.given);
            worker.given.extend(&missing);
            let unwanted: Vec<Attempt> =
                unwanted.into_iter().filter(|it| worker.stopped.insert(*it)).collect();
            said.push((*node, missing, unwanted));
        }
        for (node, missing, unwanted) in said {
            if !missing.is_empty() {
                self.say_work_to(v, node, WorkWords::Run(missing));
            }
            if !unwanted.is_empty() {
                self.say_work_to(v, node, WorkWords::Stop(unwanted));
            }
        }
        for command in asked {
            let it = Arc::new(proposal("leader", self.now, command));
            self.propose(v, None, it, Waiter::Nobody);
        }
    }

    /// What a leader grants now.
    pub(crate) fn grant_work(&self, v: usize) -> Option<Command> {
        let voter = &self.voters[v];
        let term = voter.live.sessions.as_ref()?.term;
        let room = |(node, worker): (&NodeId, &Worker)| {
            let idle = SLOTS.saturating_sub(voter.state.jobs.on_node(*node));
            let incarnation = worker.incarnation.clone();
            (*node, Room { incarnation, slots: SLOTS, idle, spare: Span(0) })
        };
        let nodes = voter.live.workers.iter().filter(|(_, worker)| worker.confirmed).map(room).collect();
        // Some nodes are not available for some jobs.
        let may_run = |job: &sheaf_engine::Job, node: NodeId| !(job.id.0 + node.0).is_multiple_of(5);
        let backends = BTreeMap::new();
        let offer = Offer { nodes, may_run: &may_run, takes: &|_, _| Span(1), backends, most: 1_000 };
        let grants = dispatch::grant(&voter.state, offer);
        (!grants.is_empty()).then_some(Command::Grant(GrantAll { term, grants }))
    }
}
