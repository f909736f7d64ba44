//! The leader's loop of jobs: grants what is ready to nodes that have room, and sends it to them.
//!
//! ```text
//!  floor, state ──dispatch::grant──► Command::Grant ──► log ──► Run ──session──► the node
//!                                                         ▲ what a node should hold and does not is sent again
//! ```
//!
//! What is granted is in the log before a node hears of it. A session may break before that: the next one begins with what
//! the node holds, and a quorum round after that tells what it should hold.

mod size;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_consensus::Replica;
use sheaf_engine::dispatch::{Attempts, Offer, applied, attempts_of, difference, grant, late, runs, to_stop};
use sheaf_engine::{Command, Grant, GrantAll, Job, State, TakeUp};
use sheaf_model::session::{Order, OrderedSubtask, ToNode};
use sheaf_model::{
    Attempt, BackendName, BucketName, BucketSpec, Incarnation, Item, JobId, JobSpec, Json, ModuleSpec, Node,
    NodeId, NodeStatus, Subtasks, Term,
};

use sheaf_wire::{ApiError, MESSAGE_MAX};
use size::{messages, rest, weight};

pub(crate) use size::unsendable;

use crate::Control;
use crate::conductor::Decided;
use crate::event::read;
use crate::floor::{self, Sessions};
use crate::place::Member;

/// Looks are at most so far apart, whatever was missed.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// Looks are at least so far apart while there is much to do: each entry of the log carries more.
const SPACING: Duration = Duration::from_millis(1);
/// The same while no subtask waits or runs: every change of anything wakes this, and hardly any is of interest then.
const IDLE_SPACING: Duration = Duration::from_millis(10);
/// Subtasks granted at once.
const MOST: u32 = 5_000;
/// Bytes of subtasks in one message to a node, as they are written there. It takes [`MESSAGE_MAX`], and beside them stands what
/// their job is.
const SUBTASKS_MAX: usize = 9 << 20;
/// The first so many in the queue are asked about before there is room for them. Those behind them, which no room may be for, are
/// asked about when there is.
const ASKED_AHEAD: usize = 64;

/// What gates are asked about.
struct Asked {
    spec: Arc<BucketSpec>,
    module: Arc<ModuleSpec>,
    /// The module has, or needs, an artifact.
    fetches: bool,
}

/// Attempts of one node by job, apart for each priority, the highest first.
type PerPriority = BTreeMap<(Reverse<u8>, JobId), Vec<(u32, u32)>>;
/// What was decided and not seen to be applied.
type Unsure = BTreeSet<(NodeId, Attempt)>;

impl Control {
    /// Dispatches in one term. Never ends by itself.
    pub(crate) async fn dispatch(&self, member: &Member, term: Term) {
        let replica = &member.replica;
        let mut revision = replica.revision();
        let mut swept: Option<Instant> = None;
        let mut unsure = Unsure::new();
        // Nothing may be decided before an entry of this term is applied; reading the index waits for that.
        while replica.confirm_leadership().await.is_err() {
            tokio::time::sleep(AT_LEAST_EVERY / 10).await;
        }
        loop {
            revision.mark_unchanged();
            let granted = self.look_at_jobs(member, term, &mut unsure).await;
            if swept.is_none_or(|at| at.elapsed() >= AT_LEAST_EVERY) {
                swept = Some(Instant::now());
                self.tell_of_the_gone(member).await;
            }
            if !granted {
                tokio::select! {
                    // Dropping these loses at most a wake-up, and the next look comes within a second anyway.
                    () = self.floor.dispatch.notified() => {}
                    _ = revision.changed() => {}
                    () = tokio::time::sleep(AT_LEAST_EVERY) => {}
                }
            }
            let spacing = if granted || is_busy(&replica.state()) { SPACING } else { IDLE_SPACING };
            tokio::time::sleep(spacing).await;
        }
    }

    /// Does all that is due. Whether something was granted. `unsure`: what was decided and not seen to be applied.
    async fn look_at_jobs(&self, member: &Member, term: Term, unsure: &mut Unsure) -> bool {
        self.take_up(&member.replica, term).await;
        self.catch_up(member, term).await;
        let found = late(&member.replica.state(), unsure);
        self.begin_anew(found);
        let stops = self.to_stop(&member.replica.state());
        self.say_to_stop(stops);
        self.ask_back(member);
        let (grants, sessions, questions) = {
            let state = member.replica.state();
            let (grants, sessions, unsaid) = match state.jobs.queue().next() {
                Some(_) => self.grants(&state),
                None => Default::default(),
            };
            (grants, sessions, self.questions(&state, unsaid))
        };
        for (node, question) in questions {
            self.live.lock().say(node, question);
        }
        if grants.is_empty() {
            return false;
        }
        let command = Command::Grant(GrantAll { term, grants: grants.clone() });
        let holds = match self.decided(&member.replica, term, command).await {
            Decided::Holds => true,
            Decided::Overtaken => false,
            Decided::Never => return false,
            Decided::Unsure => {
                unsure.extend(attempts_of(&grants));
                return false;
            }
        };
        let (due, found) = {
            let state = member.replica.state();
            (applied(&state, &grants), late(&state, unsure))
        };
        unsure.clear(); // what was decided before this is applied by now, or never
        self.begin_anew(found);
        if holds {
            self.send(member, term, due, &sessions).await;
        }
        holds
    }

    /// The sessions of these nodes; all that they lack is sent again in the next.
    fn begin_anew(&self, nodes: BTreeSet<NodeId>) {
        nodes.into_iter().for_each(|node| self.live.lock().cut(node));
    }

    /// Lives of agents that the state does not know of take subtasks from now on.
    async fn take_up(&self, replica: &Replica, term: Term) {
        let new: Vec<TakeUp> = {
            let state = replica.state();
            let mut floor = self.floor.lock();
            let is_new = |(node, life): &(NodeId, Incarnation)| {
                let alive = state.nodes.get(node).is_some_and(|node| node.status.is_alive());
                alive && state.jobs.runner(*node) != Some(life)
            };
            let lives = floor.nodes().map(|(node, worker)| (node, worker.incarnation.clone()));
            let new = lives.filter(is_new);
            new.map(|(node, incarnation)| TakeUp { node, incarnation }).collect()
        };
        let all = new.into_iter().map(|take| self.decide(replica, term, Command::TakeUp(take)));
        futures::future::join_all(all).await;
    }

    /// Sends to nodes whose sessions are new what they should hold and do not.
    async fn catch_up(&self, member: &Member, term: Term) {
        let (new, sessions) = {
            let state = member.replica.state();
            let mut floor = self.floor.lock();
            let taken = floor.nodes().filter_map(|(node, worker)| {
                let is_taken_up = state.jobs.runner(node) == Some(&worker.incarnation);
                let said = if is_taken_up { worker.said.take() } else { None };
                Some((node, worker.incarnation.clone(), said?))
            });
            let new: Vec<_> = taken.collect();
            if new.is_empty() {
                return;
            }
            (new, floor.sessions())
        };
        // A leader that was deposed must not send what ended long ago; and what a majority knows is applied after this.
        if member.replica.confirm_leadership().await.is_err() {
            let mut floor = self.floor.lock();
            for (node, worker) in floor.nodes() {
                if let Some((.., said)) = new.iter().find(|it| it.0 == node && it.1 == worker.incarnation) {
                    worker.said.get_or_insert_with(|| said.clone());
                }
            }
            return;
        }
        let (mut missing, mut unwanted) = (Attempts::new(), Vec::new());
        {
            let state = member.replica.state();
            for (node, _, said) in &new {
                let found = difference(&state, *node, said);
                missing.insert(*node, found.missing);
                unwanted.push((*node, found.unwanted));
            }
        }
        self.send(member, term, missing, &sessions).await;
        self.say_to_stop(unwanted);
    }

    /// Tells nodes of jobs that are deleted, of which they keep something.
    async fn tell_of_the_gone(&self, member: &Member) {
        let gone = |state: &State| -> Vec<(NodeId, Vec<JobId>)> {
            let is_there = |job| state.jobs.get(job).is_some() || state.jobs.submit(job).is_some();
            let mut floor = self.floor.lock();
            let gone = floor.nodes().map(|(node, worker)| (node, worker.keeps_of(is_there)));
            gone.filter(|(_, jobs)| !jobs.is_empty()).collect()
        };
        // A leader that was deposed, or is behind, must not tell of a job that it has not heard of; this is looked at again soon.
        let is_none = gone(&member.replica.state()).is_empty();
        if is_none || member.replica.confirm_leadership().await.is_err() {
            return;
        }
        let gone = gone(&member.replica.state());
        for (node, jobs) in gone {
            self.live.lock().say(node, ToNode::JobsGone(jobs.clone()));
            let mut floor = self.floor.lock();
            floor.nodes().filter(|(it, _)| *it == node).for_each(|(_, worker)| worker.was_told_of(&jobs));
        }
    }

    /// What nodes run that is canceled, and were not told to stop.
    fn to_stop(&self, state: &State) -> Vec<(NodeId, Vec<Attempt>)> {
        let mut stops = to_stop(state);
        let mut floor = self.floor.lock();
        let mut told = Vec::new();
        for (node, worker) in floor.nodes() {
            let wanted = stops.remove(&node).unwrap_or_default();
            worker.stopped.retain(|attempt| wanted.contains(attempt));
            let new: Vec<Attempt> = wanted.into_iter().filter(|it| worker.stopped.insert(*it)).collect();
            if !new.is_empty() {
                told.push((node, new));
            }
        }
        told
    }

    fn say_to_stop(&self, stops: Vec<(NodeId, Vec<Attempt>)>) {
        for (node, attempts) in stops.into_iter().filter(|(_, attempts)| !attempts.is_empty()) {
            self.live.lock().say(node, ToNode::StopAttempts(attempts));
        }
    }

    /// Asks for what is not to begin where it was granted.
    fn ask_back(&self, member: &Member) {
        let over = self.drains_over(member);
        let told = {
            let state = member.replica.state();
            self.floor.lock().ask_back(&state, &over, Instant::now())
        };
        for (node, message) in told {
            self.live.lock().say(node, message);
        }
    }

    /// Nodes that are drained, and whose time for that is over.
    fn drains_over(&self, member: &Member) -> BTreeSet<NodeId> {
        let drained: Vec<Node> = {
            let state = member.replica.state();
            state.nodes.values().filter(|node| node.drain.is_some()).cloned().collect()
        };
        if drained.is_empty() {
            return BTreeSet::new();
        }
        let now = self.clock.moment();
        let live = self.live.lock();
        let is_over = |node: &&Node| {
            let over = live.sessions.as_ref().and_then(|sessions| sessions.drain_over(node));
            over.is_some_and(|over| over <= now)
        };
        drained.iter().filter(is_over).map(|node| node.id).collect()
    }

    /// What to grant, in which sessions the nodes are, and of which jobs those that have room are to be asked. What opens from now on is
    /// told of what is granted now as soon as it is compared with what it holds. Nothing is granted as long as none of the nodes that
    /// would get something wants it: then it is more, in one entry of the log.
    fn grants(&self, state: &State) -> (Vec<Grant>, Sessions, Vec<(JobId, NodeId)>) {
        let now = Instant::now();
        let mut floor = self.floor.lock();
        let (nodes, wanting) = floor.rooms(state, now);
        if wanting.is_empty() {
            return Default::default();
        }
        let backends = floor.paces.rooms(state, self.clock.wall());
        let (own, unsaid) = (floor.own(state), RefCell::new(Vec::new()));
        let may_run = |job: &Job, node: NodeId| {
            let Some(own) = own.get(&node) else { return floor.may_run(job.id, node) };
            let (may_run, turn) = floor.stands(job.id, node, *own, now);
            if turn.is_some() {
                unsaid.borrow_mut().push((job.id, node));
            }
            may_run
        };
        let takes = |job: &Job, node: NodeId| floor.takes(job.id, node);
        let grants = grant(state, Offer { nodes, may_run: &may_run, takes: &takes, backends, most: MOST });
        let unsaid = unsaid.into_inner();
        if !grants.iter().any(|grant| wanting.contains(&grant.node)) {
            return (Vec::new(), Sessions::new(), unsaid);
        }
        for Grant { backend, subtasks, .. } in &grants {
            let count: u64 = subtasks.iter().map(|(run, _)| run.len()).sum();
            if let Some(name) = backend {
                floor.paces.took(name, u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        (grants, floor.sessions(), unsaid)
    }

    /// Whom to ask whether its gates let it run what is next, or what there was room for.
    fn questions(&self, state: &State, unsaid: Vec<(JobId, NodeId)>) -> Vec<(NodeId, ToNode)> {
        let now = Instant::now();
        let mut floor = self.floor.lock();
        floor.keep_jobs(|job| state.jobs.get(job).is_some_and(|job| !job.state().is_over()));
        let ready =
            |node: &NodeId| state.nodes.get(node).is_some_and(|node| node.status == NodeStatus::Ready);
        let nodes: Vec<NodeId> = floor.nodes().map(|(node, _)| node).filter(ready).collect();
        let next = state.jobs.queue().take(ASKED_AHEAD).map(|(.., job)| job);
        let next = next.flat_map(|job| nodes.iter().map(move |node| (job, *node)));
        questions(state, &mut floor, next.chain(unsaid), now)
    }

    /// Sends attempts that are in the log, to nodes that are in these sessions still.
    async fn send(&self, member: &Member, term: Term, due: Attempts, sessions: &Sessions) {
        let due = {
            let state = member.replica.state();
            let priority = |id: JobId, subtask| Some(state.jobs.get(id)?.priority_of(subtask));
            by_priority(due, priority)
        };
        for (node, jobs) in due {
            for ((Reverse(priority), job), attempts) in jobs {
                self.floor.keeps(node, job);
                match self.order(member, job, priority, &attempts).await {
                    Ok(Some(order)) => {
                        let session = sessions.get(&node).copied();
                        self.send_order(member, term, (node, session), order).await;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, %job, "the items of a job cannot be read");
                        // The session begins anew, and all that is missing is sent again.
                        self.live.lock().cut(node);
                    }
                }
            }
        }
    }

    /// In as many messages as it takes.
    async fn send_order(&self, member: &Member, term: Term, to: (NodeId, Option<u64>), mut order: Order) {
        let mut subtasks = std::mem::take(&mut order.subtasks);
        let rest = rest(&order);
        let room = MESSAGE_MAX.saturating_sub(rest).min(SUBTASKS_MAX);
        let unsent: Vec<_> = subtasks.extract_if(.., |it| weight(it) > room).collect();
        if !unsent.is_empty() {
            self.end_unsent(member, term, to, (&order, rest), &unsent).await;
        }
        if subtasks.is_empty() {
            return;
        }
        self.floor.lock().sent(to.0, order.job, &subtasks);
        for subtasks in messages(subtasks, room) {
            let order = Order { subtasks, ..order.clone() };
            self.say_to_run(member, to, order);
        }
    }

    /// Says what of it runs there still. An agent knows an attempt until it hears that its end is recorded, and would begin it
    /// again if this came after. While the state is held nothing is recorded, so whatever is said of that comes behind this; and
    /// in another session the agent may have heard it of another leader.
    fn say_to_run(&self, member: &Member, (node, session): (NodeId, Option<u64>), mut order: Order) {
        let mut live = self.live.lock();
        let state = member.replica.state();
        if session.is_none() || self.floor.lock().session(node) != session {
            return;
        }
        let job = order.job;
        order
            .subtasks
            .retain(|it| runs(&state, node, Attempt { job, subtask: it.subtask, number: it.attempt }));
        if !order.subtasks.is_empty() {
            live.say(node, ToNode::Run(vec![order]));
        }
    }

    /// None: the job is gone.
    async fn order(
        &self,
        member: &Member,
        id: JobId,
        priority: u8,
        attempts: &[(u32, u32)],
    ) -> Result<Option<Order>, ApiError> {
        let (order, backends) = {
            let state = member.replica.state();
            let Some(job) = state.jobs.get(id) else { return Ok(None) };
            let Some(module) = state.module(&job.spec.module) else { return Ok(None) };
            let backend = |subtask: u32| {
                let place = job.progress.running().get(&subtask)?.backend?;
                job.spec.backends.get(usize::from(place)).cloned()
            };
            let backends: Vec<_> = attempts.iter().map(|(subtask, _)| backend(*subtask)).collect();
            let used: BTreeSet<&BackendName> = backends.iter().flatten().collect();
            let order = without_subtasks(&state, id, (&job.spec, &module.spec), &used);
            let order = Order { priority: Some(priority), ..order };
            (order, backends)
        };
        let subtasks: Vec<u32> = attempts.iter().map(|(subtask, _)| *subtask).collect();
        let items = items_of(member, id, order.spec.subtasks, subtasks).await?;
        let ordered = attempts.iter().zip(items).zip(backends);
        let subtasks = ordered
            .map(|(((subtask, attempt), item), backend)| OrderedSubtask {
                subtask: *subtask,
                attempt: *attempt,
                backend,
                item,
            })
            .collect();
        Ok(Some(Order { subtasks, ..order }))
    }
}

/// The same by job, apart for each priority that subtasks have; none: the job is gone, and has no order either.
fn by_priority(due: Attempts, priority: impl Fn(JobId, u32) -> Option<u8>) -> BTreeMap<NodeId, PerPriority> {
    let apart = |attempts: Vec<Attempt>| {
        let mut all = PerPriority::new();
        for Attempt { job, subtask, number } in attempts {
            let Some(priority) = priority(job, subtask) else { continue };
            all.entry((Reverse(priority), job)).or_default().push((subtask, number));
        }
        all
    };
    due.into_iter().map(|(node, attempts)| (node, apart(attempts))).collect()
}

/// What an order says of a job, its module, what that names, and these of its backends.
fn without_subtasks(
    state: &State,
    job: JobId,
    (spec, module): (&Arc<JobSpec>, &Arc<ModuleSpec>),
    backends: &BTreeSet<&BackendName>,
) -> Order {
    let set = module.secrets_named().into_iter().filter_map(|name| {
        let sealed = state.secrets.get(&name)?.sealed.clone();
        Some((name, sealed))
    });
    let config = |name: &&BackendName| {
        let config = state.backends.get(*name)?.spec.config.clone();
        Some(((*name).clone(), config))
    };
    Order {
        job,
        spec: spec.clone(),
        module: module.clone(),
        subtasks: Vec::new(),
        secrets: set.collect(),
        backends: backends.iter().filter_map(config).collect(),
        artifact: state.artifacts.get(&spec.module).map(|pushed| pushed.artifact.clone()),
        priority: None,
    }
}

/// What each of these subtasks is about, in order.
pub(crate) async fn items_of(
    member: &Member,
    job: JobId,
    kind: Subtasks,
    subtasks: Vec<u32>,
) -> Result<Vec<Json>, ApiError> {
    if let Subtasks::Array(range) = kind {
        return Ok(subtasks.iter().map(|it| Json::new(&range.item(*it).into())).collect());
    }
    let items: Vec<Item> = read(member, move |reader| reader.items(job, &subtasks)).await?;
    Ok(items.into_iter().map(|item| item.value).collect())
}

/// Whether any subtask is ready or runs.
fn is_busy(state: &State) -> bool {
    state.jobs.queue().next().is_some() || state.nodes.keys().any(|node| state.jobs.on_node(*node) > 0)
}

/// Questions to those whose turn it is, noted as asked; first those that were never asked.
fn questions(
    state: &State,
    floor: &mut floor::Inner,
    all: impl Iterator<Item = (JobId, NodeId)>,
    now: Instant,
) -> Vec<(NodeId, ToNode)> {
    let own = floor.own(state);
    let turns = all.filter_map(|(job, node)| {
        let own = *own.get(&node)?;
        Some((floor.turn(job, node, own, now)?, job, node, own))
    });
    let mut turns: Vec<_> = turns.collect();
    turns.sort_by_key(|(turn, ..)| *turn);
    let mut about: BTreeMap<JobId, Option<Asked>> = BTreeMap::new();
    let mut questions = Vec::new();
    for (_, job, node, own) in turns {
        if floor.turn(job, node, own, now).is_none() {
            continue; // it stood there twice
        }
        let Some(asked) = about.entry(job).or_insert_with(|| Asked::of(state, job)) else { continue };
        if let Some(question) = floor.ask(job, node, asked.fetches, own, now) {
            let (spec, module) = (asked.spec.clone(), asked.module.clone());
            questions.push((node, ToNode::Judge { question, spec, module, fetch: true }));
        }
    }
    questions
}

impl Asked {
    fn of(state: &State, job: JobId) -> Option<Self> {
        let job = state.jobs.get(job)?;
        let module = state.module(&job.spec.module)?.spec.clone();
        let fetches = module.uses_artifact() || state.artifacts.contains_key(&job.spec.module);
        Some(Self { spec: as_bucket(job)?, module, fetches })
    }
}

/// The gates know buckets: a job is asked for as one of its name would be.
fn as_bucket(job: &Job) -> Option<Arc<BucketSpec>> {
    let name = BucketName::new(&format!("/jobs/{}", job.spec.name)).ok()?;
    let mut spec = BucketSpec::new(name, job.spec.module.clone());
    spec.node_list_rules = job.spec.node_list_rules.clone();
    Some(Arc::new(spec))
}

#[cfg(test)]
mod tests;
