//! The leader's loop of jobs, as the control plane has it: one thing after the other, with time passing wherever that one waits.
//!
//! ```text
//!  Hello{work} ──taken up──► what it said ──(a majority confirms)──► difference ──┐
//!  state, rooms ──dispatch::grant──► GrantAll ──(applied)──► what of it holds ────┴─(items are read)─► Run, what runs still
//!  canceled ──► Stop          paused, drained ──► GiveBack
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_engine::dispatch::{self, Attempts, Offer, Room, applied, late, runs};
use sheaf_engine::{Command, Grant, GrantAll, Job, RecordResults, Reply, TakeUp};
use sheaf_model::session::Hello;
use sheaf_model::{Attempt, AttemptEnd, Ending, Incarnation, JobId, Moment, NodeId, Span, Term};

use crate::clock::{MS, SECOND, Time};
use crate::event::{AtVoter, Process, What, Words};
use crate::plan::Planted;
use crate::voter::{ReadFor, Waiter, proposal};
use crate::work::WorkWords;
use crate::world::World;

/// So much work a node has for each of its slots, and how long each subtask is taken to take.
const AHEAD: Span = Span::millis(200);
const TAKES: Span = Span::millis(50);
/// A node on which nothing has ended for so long is granted nothing ahead.
const STILL: Span = Span::seconds(1);
/// Between two looks.
const SPACING: Time = MS;
const AT_LEAST_EVERY: Time = SECOND;
const DECIDED_WITHIN: Time = 5 * SECOND;

/// A node that takes subtasks, in one session.
#[derive(Debug)]
pub(crate) struct Worker {
    incarnation: Incarnation,
    slots: u32,
    /// What it holds, as it said when the session opened, until that is compared with what it should hold.
    said: Option<BTreeSet<Attempt>>,
    stopped: BTreeSet<Attempt>,
    /// Of which jobs it was asked to give back, and whether what has begun as well.
    asked_back: BTreeMap<JobId, bool>,
    /// It was proposed that it takes subtasks from now on.
    proposed: bool,
    /// When something last ended there.
    ended: Option<Moment>,
}

/// How far the loop is.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    stage: Stage,
    /// Counts stages: what comes for another one comes late.
    number: u64,
    notified: bool,
    /// What was decided and not seen to be applied.
    unsure: BTreeSet<(NodeId, Attempt)>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Off,
    /// Nothing is decided before an entry of this term is applied.
    Confirming,
    Waiting,
    /// A majority is asked before what these said is compared with the state.
    Comparing(Vec<(NodeId, Incarnation, BTreeSet<Attempt>)>),
    Deciding(Vec<Grant>),
    /// The items of some are read before they are sent; others are to be stopped after that.
    Reading(Attempts, Attempts),
}

impl World {
    /// A session of a node has opened.
    pub(crate) fn work_offered(&mut self, v: usize, hello: &Hello) {
        let workers = &mut self.voters[v].live.workers;
        workers.remove(&hello.node);
        if let Some(work) = &hello.work {
            let worker = Worker {
                incarnation: hello.incarnation.clone(),
                slots: work.slots,
                said: Some(work.held.iter().copied().collect()),
                stopped: BTreeSet::new(),
                asked_back: BTreeMap::new(),
                proposed: false,
                ended: None,
            };
            workers.insert(hello.node, worker);
            self.dispatch_soon(v);
        }
    }

    /// A leader hears of work.
    pub(crate) fn work_heard(&mut self, v: usize, conn: u64, words: WorkWords) {
        let now = self.clock(Process::Voter(v));
        let Some((node, life)) = self.voters[v].live.served.get(&conn).cloned() else { return };
        let worker = self.voters[v].live.workers.get_mut(&node);
        match words {
            WorkWords::Ends(seq, results) => {
                let is_over = |it: &AttemptEnd| matches!(it.ending, Ending::Finished | Ending::Failed(_));
                if let Some(worker) = worker
                    && results.iter().flat_map(|(_, ends)| ends).any(is_over)
                {
                    worker.ended = Some(now);
                }
                let command = Command::RecordResults(RecordResults { node, results });
                let it = Arc::new(proposal("node", self.now, command));
                self.propose(v, None, it, Waiter::Ends(node, life, seq));
            }
            WorkWords::NoMore => {
                if let Some(worker) = worker {
                    worker.slots = 0;
                }
            }
            WorkWords::Run(_) | WorkWords::Stop(_) | WorkWords::GiveBack(..) | WorkWords::Recorded(_) => {}
        }
    }

    /// To one life of its agent, whose message has this number.
    pub(crate) fn ends_recorded(&mut self, v: usize, node: NodeId, life: &Incarnation, seq: u64) {
        if self.voters[v].live.is_linked(node, life) {
            self.say_work_to(v, node, WorkWords::Recorded(seq));
        }
    }

    fn say_work_to(&mut self, v: usize, node: NodeId, words: WorkWords) {
        if let Some(conn) = self.voters[v].live.link(node) {
            self.say(Process::Voter(v), conn, Words::Work(words));
        }
    }

    /// A leader begins to look after jobs.
    pub(crate) fn begin_dispatch(&mut self, v: usize) {
        if self.plan.jobs == 0 {
            return;
        }
        let number = self.enter(v, Stage::Confirming, None);
        if !self.read_index(v, ReadFor::Dispatcher(number)) {
            self.enter(v, Stage::Confirming, Some(100 * MS));
        }
    }

    /// The loop comes to its next stage, which goes on by itself after so long. The stage's number.
    fn enter(&mut self, v: usize, stage: Stage, wait: Option<Time>) -> u64 {
        let live = &mut self.voters[v].live;
        live.dispatcher.number += 1;
        live.dispatcher.stage = stage;
        let number = live.dispatcher.number;
        let term = live.sessions.as_ref().map(|it| it.term).unwrap_or_default();
        if let Some(wait) = wait {
            self.later(wait, Process::Voter(v), What::Voter(AtVoter::Dispatch(term, number)));
        }
        number
    }

    fn wait_for_work(&mut self, v: usize) {
        let soon = self.voters[v].live.dispatcher.notified;
        self.enter(v, Stage::Waiting, Some(if soon { SPACING } else { AT_LEAST_EVERY }));
    }

    /// Something may be granted now, or is to be sent.
    pub(crate) fn dispatch_soon(&mut self, v: usize) {
        let live = &mut self.voters[v].live;
        let is_new = !std::mem::replace(&mut live.dispatcher.notified, true);
        if is_new && matches!(live.dispatcher.stage, Stage::Waiting) {
            let term = live.sessions.as_ref().map(|it| it.term).unwrap_or_default();
            let what = What::Voter(AtVoter::Dispatch(term, live.dispatcher.number));
            self.later(SPACING, Process::Voter(v), what);
        }
    }

    /// A stage has waited for long enough.
    pub(crate) fn go_on_dispatching(&mut self, v: usize, term: Term, number: u64) {
        let live = &mut self.voters[v].live;
        let leads = live.sessions.as_ref().is_some_and(|it| it.term == term);
        if !leads || live.dispatcher.number != number {
            return;
        }
        match std::mem::take(&mut live.dispatcher.stage) {
            Stage::Confirming => self.begin_dispatch(v),
            Stage::Waiting => self.look_at_jobs(v),
            Stage::Reading(due, stops) => self.send_orders(v, due, stops),
            Stage::Deciding(grants) => {
                live.dispatcher.unsure.extend(dispatch::attempts_of(&grants));
                self.wait_for_work(v);
            }
            stage @ (Stage::Off | Stage::Comparing(_)) => live.dispatcher.stage = stage,
        }
    }

    fn look_at_jobs(&mut self, v: usize) {
        self.voters[v].live.dispatcher.notified = false;
        self.take_up(v);
        let new = self.not_compared(v);
        if new.is_empty() {
            return self.go_on_with_jobs(v);
        }
        let number = self.enter(v, Stage::Comparing(new), None);
        if !self.read_index(v, ReadFor::Dispatcher(number)) {
            // It leads no more: all that is known is soon forgotten.
            self.wait_for_work(v);
        }
    }

    /// Lives of agents that the state does not know of take subtasks from now on.
    fn take_up(&mut self, v: usize) {
        let voter = &mut self.voters[v];
        let mut new = Vec::new();
        for (node, worker) in &mut voter.live.workers {
            if voter.state.jobs.runner(*node) == Some(&worker.incarnation) || !voter.state.is_alive(*node) {
                worker.proposed = false;
            } else if !std::mem::replace(&mut worker.proposed, true) {
                new.push(TakeUp { node: *node, incarnation: worker.incarnation.clone() });
            }
        }
        for it in new {
            let it = Arc::new(proposal("leader", self.now, Command::TakeUp(it)));
            self.propose(v, None, it, Waiter::Nobody);
        }
    }

    /// Nodes whose sessions are new, with what they said to hold.
    fn not_compared(&mut self, v: usize) -> Vec<(NodeId, Incarnation, BTreeSet<Attempt>)> {
        let voter = &mut self.voters[v];
        let taken = voter.live.workers.iter_mut().filter_map(|(node, worker)| {
            let is_taken_up = voter.state.jobs.runner(*node) == Some(&worker.incarnation);
            let said = if is_taken_up { worker.said.take() } else { None };
            Some((*node, worker.incarnation.clone(), said?))
        });
        taken.collect()
    }

    /// A majority has confirmed the leader.
    pub(crate) fn dispatch_confirmed(&mut self, v: usize, number: u64) {
        let live = &mut self.voters[v].live;
        if live.dispatcher.number != number {
            return;
        }
        match std::mem::take(&mut live.dispatcher.stage) {
            Stage::Comparing(new) => self.compare(v, &new),
            _ => {
                live.dispatcher.notified = true;
                self.wait_for_work(v);
            }
        }
    }

    fn compare(&mut self, v: usize, new: &[(NodeId, Incarnation, BTreeSet<Attempt>)]) {
        let (mut missing, mut unwanted) = (Attempts::new(), Attempts::new());
        for (node, _, said) in new {
            let found = dispatch::difference(&self.voters[v].state, *node, said);
            self.counts.sent_again += found.missing.len() as u64;
            missing.insert(*node, found.missing);
            unwanted.insert(*node, found.unwanted);
        }
        self.read_items(v, missing, unwanted);
    }

    /// A database that has much to do takes its time.
    fn read_items(&mut self, v: usize, due: Attempts, stops: Attempts) {
        let slow = !self.healed && self.random.chance(50);
        let takes =
            if slow { self.random.between(20 * MS, 900 * MS) } else { self.random.between(20, 2 * MS) };
        self.enter(v, Stage::Reading(due, stops), Some(takes));
    }

    /// What has ended while its items were read must not reach its node behind that this is recorded, nor what a life of its
    /// agent was granted the next one: it would begin again.
    fn send_orders(&mut self, v: usize, due: Attempts, stops: Attempts) {
        for (node, mut attempts) in due {
            let voter = &mut self.voters[v];
            let Some(worker) = voter.live.workers.get_mut(&node) else { continue };
            let is_its_own = voter.state.jobs.runner(node) == Some(&worker.incarnation);
            let is_to_any = self.plan.has(Planted::OrderToNextLife);
            let is_late = self.plan.has(Planted::OrderAfterEnd);
            attempts.retain(|it| (is_its_own || is_to_any) && (is_late || runs(&voter.state, node, *it)));
            for it in &attempts {
                // What it was asked to give back before does not mean these.
                worker.asked_back.remove(&it.job);
            }
            if !attempts.is_empty() {
                self.say_work_to(v, node, WorkWords::Run(attempts));
            }
        }
        self.say_to_stop(v, stops);
        self.voters[v].live.dispatcher.notified = true;
        self.wait_for_work(v);
    }

    fn say_to_stop(&mut self, v: usize, stops: Attempts) {
        for (node, attempts) in stops.into_iter().filter(|(_, attempts)| !attempts.is_empty()) {
            self.say_work_to(v, node, WorkWords::Stop(attempts));
        }
    }

    fn go_on_with_jobs(&mut self, v: usize) {
        self.begin_anew(v);
        let stops = self.stops_of(v);
        self.say_to_stop(v, stops);
        self.ask_back(v);
        let Some(term) = self.voters[v].live.sessions.as_ref().map(|it| it.term) else { return };
        let grants = self.grants(v);
        if grants.is_empty() {
            return self.wait_for_work(v);
        }
        let command = Command::Grant(GrantAll { term, grants: grants.clone() });
        let it = Arc::new(proposal("leader", self.now, command));
        let number = self.enter(v, Stage::Deciding(grants), Some(DECIDED_WITHIN));
        if !self.propose(v, Some(term), it, Waiter::Granted(number)) {
            self.wait_for_work(v);
        }
    }

    /// The sessions of nodes that were granted something of which nobody knew: all that they lack is sent in the next.
    fn begin_anew(&mut self, v: usize) {
        let voter = &mut self.voters[v];
        let late = late(&voter.state, &mut voter.live.dispatcher.unsure);
        for conn in late.into_iter().filter_map(|node| self.voters[v].live.link(node)).collect::<Vec<_>>() {
            self.end_session(v, conn);
        }
    }

    /// What nodes run that is canceled, and were not told to stop.
    fn stops_of(&mut self, v: usize) -> Attempts {
        let voter = &mut self.voters[v];
        let mut stops = dispatch::to_stop(&voter.state);
        let mut told = Attempts::new();
        for (node, worker) in &mut voter.live.workers {
            let wanted = stops.remove(node).unwrap_or_default();
            worker.stopped.retain(|attempt| wanted.contains(attempt));
            let new = wanted.into_iter().filter(|it| worker.stopped.insert(*it)).collect();
            told.insert(*node, new);
        }
        told
    }

    /// Asks for what is not to begin where it was granted.
    fn ask_back(&mut self, v: usize) {
        let now = self.clock(Process::Voter(v));
        let voter = &mut self.voters[v];
        let Some(sessions) = &voter.live.sessions else { return };
        let state = &voter.state;
        let is_paused = |job: &JobId| state.jobs.get(*job).is_some_and(|job| job.paused);
        let mut told = Vec::new();
        for (id, worker) in &mut voter.live.workers {
            let node = state.nodes.get(id).filter(|it| it.drain.is_some());
            let over = node.and_then(|it| sessions.drain_over(it)).is_some_and(|over| over <= now);
            let here = state.jobs.of_jobs_on(*id).map(|(job, _)| job);
            let wanted = here.filter(|job| node.is_some() || is_paused(job));
            let wanted: BTreeMap<JobId, bool> = wanted.map(|job| (job, over)).collect();
            let is_new = |(job, begun): &(&JobId, &bool)| {
                worker.asked_back.get(*job).is_none_or(|asked| asked < *begun)
            };
            let new: Vec<JobId> = wanted.iter().filter(is_new).map(|(job, _)| *job).collect();
            worker.asked_back = wanted;
            if !new.is_empty() {
                told.push((*id, new, over));
            }
        }
        for (node, jobs, begun) in told {
            self.say_work_to(v, node, WorkWords::GiveBack(jobs, begun));
        }
    }

    /// What to grant now.
    fn grants(&self, v: usize) -> Vec<Grant> {
        let now = self.clock(Process::Voter(v));
        let voter = &self.voters[v];
        let room = |(node, worker): (&NodeId, &Worker)| {
            let held = voter.state.jobs.on_node(*node);
            let is_still = worker.ended.is_none_or(|at| now.since(at) >= STILL);
            let most = if is_still { 0 } else { AHEAD.0 * u64::from(worker.slots) };
            let spare = Span(most.saturating_sub(TAKES.0 * u64::from(held)));
            let (slots, incarnation) = (worker.slots, worker.incarnation.clone());
            (*node, Room { incarnation, slots, idle: slots.saturating_sub(held), spare })
        };
        let nodes = voter.live.workers.iter().map(room).collect();
        // Some nodes are not available for some jobs.
        let may_run = |job: &Job, node: NodeId| !(job.id.0 + node.0).is_multiple_of(5);
        let backends = BTreeMap::new();
        let offer = Offer { nodes, may_run: &may_run, takes: &|_, _| TAKES, backends, most: 1_000 };
        dispatch::grant(&voter.state, offer)
    }

    /// What was decided is applied.
    pub(crate) fn granted(&mut self, v: usize, number: u64, reply: &Reply) {
        let voter = &mut self.voters[v];
        if voter.live.dispatcher.number != number {
            return;
        }
        let Stage::Deciding(grants) = std::mem::take(&mut voter.live.dispatcher.stage) else { return };
        let due = applied(&voter.state, &grants);
        let holds = !matches!(reply, Reply::Refused(_));
        self.begin_anew(v);
        // What was decided before this is applied by now, or never.
        self.voters[v].live.dispatcher.unsure.clear();
        if holds {
            self.read_items(v, due, Attempts::new());
        } else {
            self.wait_for_work(v);
        }
    }
}
