//! The workers of this node: one process for each job of a module that says `worker: true`.
//!
//! ```text
//!            start            Ready             nothing to do for a while, a wrong word, too late
//!  nothing ────────► Starting ─────► Working ───────────────────────────────────────────────► Ending ──► nothing
//!     ▲                  └── the process ends ──┴──────────────────────────────────────────────┘ │
//!     └──── Resting, before another one is started ◄───────────────────────────────────────────────┘
//! ```
//!
//! What follows from what happens is put down as [`Do`] and done by the loop. An attempt ends only when nothing of the
//! process that had it is left, or when that process says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sheaf_model::session::OrderedSubtask;
use sheaf_model::{Attempt, BackendName, Ending, Exit, Failure, FailureClass, JobId, Span};
use sheaf_module::SubtaskResult;
use sheaf_module::host::End;
use tokio::time::Instant;

use self::parting::{Cause, Parting};
use super::hands::{Hands, Now, Over, Terms, Why};
use super::line::{Heard, Line};
use super::{Job, Ran, failed, ran};
use crate::runner::Ended;

mod parting;

/// A worker without anything to do is kept for so long.
const IDLE: Duration = Duration::from_secs(30);
/// How long the end of a process may take to be known after its line broke, and the other way round.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// After a worker has died of one of many subtasks at least so many are given one by one.
const CAREFUL: u32 = 1000;
/// What a job's worker did wrong is forgotten after so long without anything for it.
const FORGET: Duration = Duration::from_secs(300);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Do {
    /// Ask this process to end.
    Stop(u64),
    /// End this process.
    Kill(u64),
    /// An attempt has ended.
    End(Attempt, Ran),
    /// It was given to nobody, after all.
    Again(Arc<Job>, OrderedSubtask),
    /// A worker could not be started: everything that waits for it fails.
    Fail(JobId, Failure),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Workers {
    all: BTreeMap<JobId, Worker>,
    by_ticket: BTreeMap<u64, JobId>,
}

#[derive(Debug)]
struct Worker {
    job: Arc<Job>,
    /// Of its process.
    ticket: u64,
    line: Option<Line>,
    hands: Hands,
    /// The job as each bundle was given with it, by the bundle's first id.
    given: BTreeMap<u64, Arc<Job>>,
    phase: Phase,
    /// The next rest, if it comes to one.
    pause: Duration,
    /// So many subtasks are to be given to the next process one by one.
    careful: u32,
}

#[derive(Debug)]
enum Phase {
    Resting { until: Instant },
    Starting,
    Working { idle_since: Instant },
    Ending(Parting),
}

impl Workers {
    /// Slots that are taken.
    pub(super) fn busy(&self) -> usize {
        self.all.values().map(|worker| worker.hands.bundles()).sum()
    }

    /// Whether nothing of a job is in anybody's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.all.values().all(|worker| worker.hands.bundles() == 0)
    }

    /// Whether another process may be started: there are no more than slots, and one that has nothing to do makes room.
    pub(super) fn may_start(&self, slots: usize) -> bool {
        self.processes() < slots || self.all.values().any(|worker| worker.idle_since().is_some())
    }

    /// Whether a subtask of this job can be given to a worker, or one be started for it if one may be.
    pub(super) fn has_room(&self, job: JobId, may_start: bool, now: Instant) -> bool {
        match self.all.get(&job) {
            None => may_start,
            Some(Worker { phase: Phase::Resting { until }, .. }) => may_start && *until <= now,
            Some(worker) => worker.is_working() && worker.hands.has_room(),
        }
    }

    /// How many subtasks its next bundle should have; none: a worker is to be started.
    pub(super) fn bundle_size(&self, job: JobId) -> Option<usize> {
        self.all.get(&job).filter(|worker| worker.is_working()).map(|worker| worker.hands.bundle_size())
    }

    /// Whom there are workers for.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.all.values().map(|worker| &worker.job)
    }

    /// Processes that there are.
    pub(super) fn processes(&self) -> usize {
        self.by_ticket.len()
    }

    /// Their tickets.
    pub(super) fn tickets(&self) -> impl Iterator<Item = u64> {
        self.by_ticket.keys().copied()
    }

    /// How long each that has something in hand may take to end.
    pub(super) fn graces(&self) -> impl Iterator<Item = Duration> {
        let busy = self.all.values().filter(|worker| worker.hands.bundles() > 0);
        busy.map(|worker| worker.job.module.stop.grace.duration())
    }

    /// A process is being started.
    pub(super) fn started(&mut self, job: Arc<Job>, ticket: u64, line: Line) {
        let former = self.all.get(&job.id);
        let pause = former.map_or(first_pause(&job), |worker| worker.pause);
        let careful = former.map_or(0, |worker| worker.careful);
        let hands = Hands::new(Terms { at_once: 0, timeout: None, grace: Duration::ZERO });
        let id = job.id;
        self.by_ticket.insert(ticket, id);
        let (line, given, phase) = (Some(line), BTreeMap::new(), Phase::Starting);
        let worker = Worker { job, ticket, line, hands, given, phase, pause, careful };
        self.all.insert(id, worker);
    }

    /// Gives a job's worker, which has room, a bundle. What the job is told of its backends may be newer than the worker.
    pub(super) fn give(&mut self, job: &Arc<Job>, subtasks: Vec<OrderedSubtask>, now: Now) -> Vec<Do> {
        let Some(worker) = self.all.get_mut(&job.id) else { return Vec::new() };
        let attempt = |it: &OrderedSubtask| Attempt { job: job.id, subtask: it.subtask, number: it.attempt };
        let attempts: Vec<Attempt> = subtasks.iter().map(attempt).collect();
        let mut bundle = worker.hands.take(subtasks, now);
        for it in &mut bundle {
            let name = BackendName::new(&it.backend).ok();
            job.config_of(name.as_ref()).clone_into(&mut it.backend_config_json);
        }
        let first = bundle.first().map(|it| it.id);
        if let Some(line) = &worker.line {
            line.confide(&job.secrets);
        }
        if worker.line.as_ref().is_some_and(|line| line.give(bundle, attempts.into_iter())) {
            worker.given.extend(first.map(|first| (first, job.clone())));
            return Vec::new();
        }
        // It never had them.
        let back = first.map(|first| worker.hands.take_back(first)).unwrap_or_default();
        let mut out: Vec<Do> = back.into_iter().rev().map(|it| Do::Again(job.clone(), it)).collect();
        out.extend(worker.is_deaf(now));
        out
    }

    /// These attempts are canceled.
    pub(super) fn cancel(&mut self, is_meant: impl Fn(Attempt) -> bool, now: Now) -> Vec<Do> {
        let mut out = Vec::new();
        for (id, worker) in &mut self.all {
            let attempt = |it: &OrderedSubtask| Attempt { job: *id, subtask: it.subtask, number: it.attempt };
            let stop = worker.hands.cancel(|it| is_meant(attempt(it)), now);
            out.extend(worker.stop(stop, now));
        }
        out
    }

    /// What has not begun of these jobs is wanted back, and what has as well, if `begun`.
    pub(super) fn give_back(&mut self, jobs: &BTreeSet<JobId>, begun: bool, now: Now) -> Vec<Do> {
        let mut out = Vec::new();
        for job in jobs {
            if begun {
                out.extend(self.dismiss_of(*job).flatten());
            } else if let Some(worker) = self.all.get_mut(job) {
                let stop = worker.hands.break_up();
                out.extend(worker.stop(stop, now));
            }
        }
        out
    }

    /// What a worker says.
    pub(super) fn heard(&mut self, ticket: u64, heard: Heard, now: Now) -> Vec<Do> {
        let Some(worker) = self.by_ticket.get(&ticket).and_then(|job| self.all.get_mut(job)) else {
            return Vec::new();
        };
        match heard {
            Heard::Ready(at_once) => {
                worker.ready(at_once, now);
                Vec::new()
            }
            Heard::Ends(ends) => worker.ends(ends, now),
            Heard::Silent(why) => {
                worker.is_silent(why, now);
                self.settle(ticket, now)
            }
        }
    }

    /// A process has ended; none: it is no worker's.
    pub(super) fn ended(&mut self, ended: Ended, now: Now) -> Result<Vec<Do>, Ended> {
        let ticket = ended.ticket;
        let Some(worker) = self.by_ticket.get(&ticket).and_then(|job| self.all.get_mut(job)) else {
            return Err(ended);
        };
        let at = Some(now.at + LAST_WORDS);
        match &mut worker.phase {
            Phase::Ending(parting) => {
                parting.ended = Some(ended);
                parting.at = at;
            }
            Phase::Starting => {
                let parting = Parting::of(Cause::NotReady(String::new()));
                worker.phase = Phase::Ending(Parting { ended: Some(ended), silent: true, at, ..parting });
            }
            Phase::Working { .. } | Phase::Resting { .. } => {
                let parting = Parting::of(Cause::Itself);
                worker.phase = Phase::Ending(Parting { ended: Some(ended), at, ..parting });
            }
        }
        Ok(self.settle(ticket, now))
    }

    /// When [`Workers::tick`] has something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.all.values().filter_map(|worker| worker.due(now)).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now) -> Vec<Do> {
        let mut out = Vec::new();
        let mut over = Vec::new();
        for worker in self.all.values_mut() {
            out.extend(worker.tick(now));
            if matches!(&worker.phase, Phase::Ending(parting) if parting.ended.is_some()) {
                over.push(worker.ticket);
            }
        }
        for ticket in over {
            out.extend(self.settle(ticket, now));
        }
        let is_kept =
            |worker: &Worker| !matches!(worker.phase, Phase::Resting { until } if until + FORGET <= now.at);
        self.all.retain(|_, worker| is_kept(worker));
        out
    }

    /// The one that has had nothing to do for longest makes room for another.
    pub(super) fn dismiss_one(&mut self) -> Option<Do> {
        let idle = self.all.values_mut().filter_map(|worker| Some((worker.idle_since()?, worker)));
        let (_, worker) = idle.min_by_key(|(since, _)| *since)?;
        Some(worker.dismiss())
    }

    /// A job is gone: its worker, if there is one, is to end, and what is to be done for that; none: nothing of it is there.
    pub(super) fn dismiss_of(&mut self, job: JobId) -> Option<Option<Do>> {
        let worker = self.all.get_mut(&job)?;
        match worker.phase {
            Phase::Resting { .. } => {
                self.all.remove(&job);
                None
            }
            Phase::Working { .. } => Some(Some(worker.dismiss())),
            Phase::Starting | Phase::Ending(_) => Some(None),
        }
    }

    /// The node is to be left: all that they have is handed back when they have ended.
    pub(super) fn dismiss_all(&mut self) -> Vec<Do> {
        let there = self.all.values_mut().filter(|worker| !matches!(worker.phase, Phase::Resting { .. }));
        there.filter_map(Worker::leave).collect()
    }

    /// The runner is gone, and every process with it: what they had in hand, and whether it had begun.
    pub(super) fn drain(&mut self) -> Vec<(Attempt, Option<Now>)> {
        self.by_ticket.clear();
        let all = std::mem::take(&mut self.all);
        let had = all.into_iter().flat_map(|(id, mut worker)| {
            let over = worker.hands.drain().into_iter();
            over.map(move |it| {
                (Attempt { job: id, subtask: it.subtask.subtask, number: it.subtask.attempt }, it.begun)
            })
        });
        had.collect()
    }

    /// What becomes of a job's worker whose process has ended, once all that it had to say is heard.
    fn settle(&mut self, ticket: u64, now: Now) -> Vec<Do> {
        let Some(id) = self.by_ticket.get(&ticket).copied() else { return Vec::new() };
        let Some(worker) = self.all.get_mut(&id) else { return Vec::new() };
        let Phase::Ending(parting) = &worker.phase else { return Vec::new() };
        let Some(ended) = &parting.ended else { return Vec::new() };
        let waits = !parting.silent && parting.at.is_some_and(|at| now.at < at);
        if waits && !matches!(parting.cause, Cause::Wrong(_) | Cause::Disobeyed) {
            return Vec::new();
        }
        let why = parting.why(ended);
        let cause = parting.cause.clone();
        let exit = ended.exit.filter(|_| !parting.killed);
        self.by_ticket.remove(&ticket);
        worker.careful = worker.hands.careful();
        let over = worker.hands.drain();
        worker.given.clear();
        if !matches!(cause, Cause::Dismissed | Cause::Disobeyed) && over.iter().any(|it| !it.alone) {
            // Which of a bundle it died of is not known: what was answered last may not have come.
            let count = u32::try_from(over.len()).unwrap_or(u32::MAX);
            worker.careful = count.saturating_mul(2).max(CAREFUL);
        }
        let begun = over.iter().filter(|it| it.alone).count();
        let why = if begun > 1 { format!("{why} (while it ran {begun} subtasks)") } else { why };
        let mut out: Vec<Do> =
            over.into_iter().map(|it| worker.end_of(&it, &cause, &why, exit, now)).collect();
        if let Cause::NotReady(_) = cause {
            let exit = exit.or(Some(Exit::NotStarted));
            out.push(Do::Fail(id, Failure { class: FailureClass::Exit, exit, message: why.clone() }));
        }
        if cause == Cause::Dismissed {
            self.all.remove(&id);
        } else {
            tracing::warn!(job = %worker.job.spec.name, module = %worker.job.spec.module, why, "its worker has ended");
            worker.line = None;
            worker.phase = Phase::Resting { until: now.at + worker.pause };
            worker.pause = (worker.pause * 2).min(worker.job.module.restart.backoff_max.duration());
        }
        out
    }
}

fn first_pause(job: &Job) -> Duration {
    job.module.restart.backoff_min.duration()
}

impl Worker {
    fn is_working(&self) -> bool {
        matches!(self.phase, Phase::Working { .. })
    }

    fn idle_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Working { idle_since } if self.hands.bundles() == 0 => Some(idle_since),
            _ => None,
        }
    }

    fn ready(&mut self, at_once: u32, now: Now) {
        if !matches!(self.phase, Phase::Starting) {
            return;
        }
        let at_once = usize::try_from(at_once).unwrap_or(usize::MAX);
        let timeout = self.job.spec.timeout.map(Span::duration);
        let grace = self.job.module.stop.grace.duration();
        self.hands = Hands::new(Terms { at_once, timeout, grace });
        self.hands.be_careful(self.careful);
        self.phase = Phase::Working { idle_since: now.at };
    }

    fn ends(&mut self, ends: Vec<End>, now: Now) -> Vec<Do> {
        let goes_on = match &self.phase {
            Phase::Working { .. } => true,
            Phase::Ending(parting) => matches!(parting.cause, Cause::Itself | Cause::Dismissed),
            Phase::Starting | Phase::Resting { .. } => false,
        };
        if !goes_on {
            return Vec::new();
        }
        let mut out = Vec::new();
        for End { id, result, message } in ends {
            let bundle = self.hands.bundle_of(id);
            match self.hands.ended(id, result, now) {
                Ok(over) => {
                    self.pause = first_pause(&self.job);
                    out.push(self.answered(over, bundle, result, message, now));
                    if let Some(first) = bundle.filter(|first| !self.hands.has_of(*first)) {
                        self.given.remove(&first);
                    }
                }
                Err(strange) => {
                    out.extend(self.kill(Cause::Wrong(strange.to_string())));
                    return out;
                }
            }
        }
        if let Phase::Working { idle_since } = &mut self.phase {
            *idle_since = now.at;
        }
        out
    }

    /// What a worker's answer comes to; `bundle`: in which it was.
    fn answered(
        &self,
        over: Over,
        bundle: Option<u64>,
        result: SubtaskResult,
        message: String,
        now: Now,
    ) -> Do {
        let ending = match (result, over.why) {
            (SubtaskResult::Finished, _) => Ending::Finished,
            (SubtaskResult::NotBegun, Some(Why::Back)) => {
                // What its worker was started with may be older: of another priority, or without its backend.
                let job = bundle.and_then(|first| self.given.get(&first)).unwrap_or(&self.job);
                return Do::Again(job.clone(), over.subtask);
            }
            (_, Some(Why::Canceled)) => Ending::Canceled,
            (_, Some(Why::TimedOut)) => self.timed_out(message),
            (SubtaskResult::Failed, _) => failed(FailureClass::Exit, message),
            (SubtaskResult::Backend, _) if over.subtask.backend.is_some() => {
                failed(FailureClass::Backend, message)
            }
            (SubtaskResult::NotNow(pause), _) if over.subtask.backend.is_some() => {
                let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                Ending::NotNow(Span(pause), message)
            }
            (SubtaskResult::Backend | SubtaskResult::NotNow(_), _) => failed(FailureClass::Exit, message),
            (SubtaskResult::Refused, _) => failed(FailureClass::Refused, message),
            (SubtaskResult::Stopped | SubtaskResult::NotBegun, _) => Ending::HandedBack,
        };
        Do::End(self.attempt(&over.subtask), ran(over.begun, ending, now))
    }

    fn timed_out(&self, said: String) -> Ending {
        let limit = self.job.spec.timeout.unwrap_or(Span(0));
        let message = if said.trim().is_empty() { format!("it ran for longer than {limit}") } else { said };
        failed(FailureClass::Timeout, message)
    }

    /// What the end of the process is to a subtask that it had.
    fn end_of(&self, over: &Over, cause: &Cause, why: &str, exit: Option<Exit>, now: Now) -> Do {
        let failed = || Ending::Failed(Failure { class: FailureClass::Exit, exit, message: why.to_owned() });
        let ending = match (over.why, cause) {
            (Some(Why::Canceled), _) => Ending::Canceled,
            (Some(Why::TimedOut), Cause::Disobeyed) => {
                let (limit, grace) = (self.job.spec.timeout.unwrap_or(Span(0)), self.job.module.stop.grace);
                self.timed_out(format!(
                    "it ran for longer than {limit}, did not stop within {grace}, and its worker was killed"
                ))
            }
            (Some(Why::TimedOut), _) => self.timed_out(String::new()),
            (_, Cause::Dismissed | Cause::Disobeyed) => Ending::HandedBack,
            _ if over.begun.is_none() || !over.alone => Ending::HandedBack,
            _ => failed(),
        };
        Do::End(self.attempt(&over.subtask), ran(over.begun, ending, now))
    }

    fn attempt(&self, subtask: &OrderedSubtask) -> Attempt {
        Attempt { job: self.job.id, subtask: subtask.subtask, number: subtask.attempt }
    }

    fn stop(&mut self, ids: Vec<u64>, now: Now) -> Vec<Do> {
        let Some(line) = self.line.as_ref().filter(|_| self.is_working()) else { return Vec::new() };
        if line.stop(ids) { Vec::new() } else { self.is_deaf(now) }
    }

    /// It does not read what it is given: it hangs, or its line has just broken, which is heard of as well.
    fn is_deaf(&mut self, now: Now) -> Vec<Do> {
        let parting = Parting::of(Cause::Wrong("its worker does not read what it is given".to_owned()));
        let at = Some(now.at + LAST_WORDS);
        self.phase = Phase::Ending(Parting { silent: true, at, ..parting });
        Vec::new()
    }

    fn is_silent(&mut self, why: String, now: Now) {
        let cause = match &mut self.phase {
            Phase::Ending(parting) => {
                parting.silent = true;
                return;
            }
            Phase::Resting { .. } => return,
            Phase::Starting => Cause::NotReady(why),
            Phase::Working { .. } => Cause::Wrong(why),
        };
        // That it ended says more than that its line broke.
        let at = Some(now.at + LAST_WORDS);
        self.phase = Phase::Ending(Parting { silent: true, at, ..Parting::of(cause) });
    }

    fn dismiss(&mut self) -> Do {
        self.phase = Phase::Ending(Parting::of(Cause::Dismissed));
        Do::Stop(self.ticket)
    }

    /// One that is on its way out already goes on with that; none: its process has ended.
    fn leave(&mut self) -> Option<Do> {
        match &self.phase {
            Phase::Ending(parting) => parting.ended.is_none().then_some(Do::Stop(self.ticket)),
            _ => Some(self.dismiss()),
        }
    }

    fn kill(&mut self, cause: Cause) -> Vec<Do> {
        self.phase = Phase::Ending(Parting { silent: true, killed: true, ..Parting::of(cause) });
        vec![Do::Kill(self.ticket)]
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Resting { until } if *until > now => Some(*until),
            Phase::Resting { until } => Some(*until + FORGET),
            Phase::Starting => None, // its line has a limit
            Phase::Working { idle_since } => match self.hands.bundles() {
                0 => Some(*idle_since + IDLE),
                _ => self.hands.due(),
            },
            Phase::Ending(parting) => parting.at,
        }
    }

    fn tick(&mut self, now: Now) -> Vec<Do> {
        match &mut self.phase {
            Phase::Resting { .. } | Phase::Starting => Vec::new(),
            Phase::Working { idle_since } if self.hands.bundles() == 0 => {
                if now.at < *idle_since + IDLE {
                    Vec::new()
                } else {
                    vec![self.dismiss()]
                }
            }
            Phase::Working { .. } => {
                let due = self.hands.tick(now);
                if due.disobeyed {
                    return self.kill(Cause::Disobeyed);
                }
                self.stop(due.stop, now)
            }
            Phase::Ending(parting) => {
                if parting.at.is_none_or(|at| now.at < at) || parting.ended.is_some() {
                    return Vec::new();
                }
                parting.at = None;
                parting.killed = true;
                vec![Do::Kill(self.ticket)]
            }
        }
    }
}

#[cfg(test)]
mod tests;
