//! Subtasks on this node: what is granted is run, so many at a time, and each end is told until it is recorded.
//!
//! ```text
//!  the leader ── Run, StopAttempts, EndsRecorded ──► desk ──► this loop ── Start, Stop ──► the runner
//!             ◄── Hello{held}, Ends{seq} ────────────────────┘      ◄───── Ended ──────────┘
//! ```
//!
//! An attempt that was given once is never begun again in this life of the agent, however often it comes. What a former
//! life ran is dead before this one says that it takes subtasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sheaf_model::session::{Order, OrderedSubtask, ToLeader, Work};
use sheaf_model::{
    Attempt, AttemptEnd, Ending, Exit, Facts, Failure, FailureClass, JobId, JobSpec, ModuleSpec, Span,
    Timestamp,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::keeper::clock;
use crate::link::Signals;
use crate::runner::host::Runner;
use crate::runner::{Ended, FromRunner, Stopped, ToRunner, sweep};

mod start;

/// Ends that came so soon one after the other share a message.
const GATHER: Duration = Duration::from_millis(2);
/// Ends in one message.
const ENDS: usize = 2000;
/// Messages that wait for the loop, which itself may wait for a runner that is stopped.
const INPUTS: usize = 1024;
/// Messages with ends that are not recorded yet.
const UNRECORDED: usize = 4;
/// For the ends of what is handed back, when the agent stops: beyond their grace.
const HANDED_BACK_WITHIN: Duration = Duration::from_secs(2);
/// Before another runner is started in place of one that could not be.
const RUNNER_AGAIN: Duration = Duration::from_secs(1);

/// What the session brings.
#[derive(Debug)]
pub(crate) enum WorkInput {
    /// A session stands: whatever was said before may be lost.
    Opened,
    /// Attempts to run.
    Run(Vec<Order>),
    /// Attempts to stop.
    Stop(Vec<Attempt>),
    /// Ends that are in the log.
    Recorded(u64),
}

/// What the session and the loop share.
#[derive(Debug)]
pub(crate) struct Desk {
    slots: u32,
    held: Mutex<BTreeSet<Attempt>>,
    inputs: mpsc::Sender<WorkInput>,
    signals: Arc<Signals>,
}

impl Desk {
    /// What is said of it in a session's first message.
    pub(crate) fn work(&self) -> Work {
        Work { slots: self.slots, held: self.held().iter().copied().collect() }
    }

    /// Hands over what a session brought, which never waits: heartbeats go through it as well. Where there is no room a new
    /// session begins, in which all that matters is said again.
    pub(crate) fn bring(&self, input: WorkInput) {
        if self.inputs.try_send(input).is_err() {
            self.signals.reset.notify_one();
        }
    }

    /// Whether an attempt is under way here, or its end is not in the log yet.
    pub(crate) fn holds(&self, attempt: Attempt) -> bool {
        self.held().contains(&attempt)
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<Attempt>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) data_dir: PathBuf,
    /// The program that is a runner when called with `runner …`; also `${sheaf}`.
    pub(crate) binary: PathBuf,
}

/// Below the data directory.
const JOBS: &str = "jobs";

impl Place {
    /// Where what an attempt writes is kept.
    pub(crate) fn output(&self, attempt: Attempt) -> PathBuf {
        self.attempt(attempt).join("output")
    }

    fn attempt(&self, Attempt { job, subtask, number }: Attempt) -> PathBuf {
        // No directory grows without bounds.
        let some = format!("{}", subtask / 1000);
        self.data_dir.join(JOBS).join(job.to_string()).join(some).join(format!("{subtask}.{number}"))
    }
}

/// What is common to the subtasks of an order.
#[derive(Debug)]
struct Job {
    id: JobId,
    spec: Arc<JobSpec>,
    module: Arc<ModuleSpec>,
}

/// An attempt that runs.
#[derive(Debug)]
struct Running {
    attempt: Attempt,
    started_at: Timestamp,
    since: Instant,
    canceled: bool,
}

/// The loop; see the module.
pub(crate) struct Worker {
    place: Place,
    desk: Arc<Desk>,
    inputs: mpsc::Receiver<WorkInput>,
    say: mpsc::Sender<ToLeader>,
    facts: watch::Receiver<Facts>,
    signals: Arc<Signals>,
    runner: Option<Runner>,
    tickets: u64,
    waiting: VecDeque<(Arc<Job>, OrderedSubtask)>,
    running: BTreeMap<u64, Running>,
    /// Ends to be said.
    ended: VecDeque<(JobId, AttemptEnd)>,
    /// Ends that are said and not recorded, by message.
    said: VecDeque<(u64, Vec<(JobId, AttemptEnd)>)>,
    seq: u64,
    /// Everything is handed back.
    leaving: bool,
}

/// What happened.
enum Event {
    Input(WorkInput),
    Heard(Option<FromRunner>),
    Say,
    Stop,
}

impl Worker {
    /// With everything that a former life of the agent left ended. Blocks for as long as that takes.
    pub(crate) fn new(
        place: Place,
        slots: u32,
        say: mpsc::Sender<ToLeader>,
        facts: watch::Receiver<Facts>,
        signals: Arc<Signals>,
    ) -> (Self, Arc<Desk>) {
        let swept = sweep(&place.data_dir);
        if swept > 0 {
            tracing::info!(swept, "ended what a former life of the agent left of subtasks");
        }
        let (sender, inputs) = mpsc::channel(INPUTS);
        let desk = Arc::new(Desk { slots, held: Mutex::default(), inputs: sender, signals: signals.clone() });
        let worker = Self {
            place,
            desk: desk.clone(),
            inputs,
            say,
            facts,
            signals,
            runner: None,
            tickets: 0,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            ended: VecDeque::new(),
            said: VecDeque::new(),
            seq: 0,
            leaving: false,
        };
        (worker, desk)
    }

    /// Runs until told to stop; then hands back what it has, and ends once that is recorded, or after a while.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut leave_at = None;
        loop {
            match self.next(&stop, leave_at).await {
                Event::Input(input) => self.take(input).await,
                Event::Heard(Some(FromRunner::Ended(ended))) => self.ended(ended),
                Event::Heard(Some(FromRunner::Started { .. })) => {}
                Event::Heard(None) => self.runner_is_gone().await,
                Event::Say => self.say_ends(),
                Event::Stop if leave_at.is_none() => leave_at = Some(self.hand_back().await),
                Event::Stop => return,
            }
            if leave_at.is_some() && self.is_empty() {
                return;
            }
            self.start_some().await;
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.ended.is_empty() && self.said.is_empty()
    }

    async fn next(&mut self, stop: &CancellationToken, leave_at: Option<Instant>) -> Event {
        let may_say = !self.ended.is_empty() && self.said.len() < UNRECORDED;
        let over = async {
            match leave_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => stop.cancelled().await,
            }
        };
        let heard = async {
            match &mut self.runner {
                Some(runner) => runner.hear().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // All of these lose nothing when they are dropped; a wait begins anew, and is short.
            Some(input) = self.inputs.recv() => Event::Input(input),
            heard = heard => Event::Heard(heard),
            () = tokio::time::sleep(GATHER), if may_say => Event::Say,
            () = over => Event::Stop,
        }
    }

    async fn take(&mut self, input: WorkInput) {
        match input {
            WorkInput::Opened => {
                // Said to nobody, or recorded without our hearing of it: then it is answered as stale.
                let said = std::mem::take(&mut self.said);
                let all: Vec<_> = said.into_iter().flat_map(|(_, ends)| ends).collect();
                all.into_iter().rev().for_each(|end| self.ended.push_front(end));
                if self.leaving {
                    self.tell(ToLeader::NoMoreWork);
                }
                self.say_ends();
            }
            WorkInput::Run(orders) => orders.into_iter().for_each(|order| self.ordered(order)),
            WorkInput::Stop(attempts) => self.stop(&attempts).await,
            WorkInput::Recorded(seq) => {
                let recorded = self.said.iter().take_while(|(said, _)| *said <= seq).count();
                let mut held = self.desk.held();
                for (job, end) in self.said.drain(..recorded).flat_map(|(_, ends)| ends) {
                    held.remove(&Attempt { job, subtask: end.subtask, number: end.attempt });
                }
            }
        }
    }

    fn ordered(&mut self, order: Order) {
        let Order { job, spec, module, subtasks } = order;
        let job = Arc::new(Job { id: job, spec, module });
        for subtask in subtasks {
            let attempt = Attempt { job: job.id, subtask: subtask.subtask, number: subtask.attempt };
            if self.desk.held().insert(attempt) {
                self.waiting.push_back((job.clone(), subtask));
            }
        }
        if self.leaving {
            self.hand_back_waiting();
        }
    }

    async fn stop(&mut self, attempts: &[Attempt]) {
        let (stopped, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(job, it)| attempts.contains(&id(job, it)));
        self.waiting = kept;
        for (job, it) in stopped {
            self.end(id(&job, &it), never(Ending::Canceled));
        }
        for (ticket, running) in &mut self.running {
            if attempts.contains(&running.attempt) {
                running.canceled = true;
                if let Some(runner) = &self.runner {
                    runner.say(ToRunner::Stop(*ticket)).await;
                }
            }
        }
    }

    /// Starts what waits, as long as there is room.
    async fn start_some(&mut self) {
        while self.running.len() < self.desk.slots as usize
            && let Some((job, subtask)) = self.waiting.pop_front()
        {
            let attempt = id(&job, &subtask);
            self.tickets += 1;
            let facts = self.facts.borrow().clone();
            let start = match start::start(&self.place, &facts, &job, &subtask, self.tickets) {
                Ok(start) => start,
                Err(why) => {
                    self.end(attempt, never(failed(FailureClass::Exit, why)));
                    continue;
                }
            };
            if self.runner.is_none() {
                match Runner::start(&self.place.binary, &self.place.data_dir) {
                    Ok(runner) => self.runner = Some(runner),
                    Err(error) => {
                        tracing::error!(%error, "no runner could be started; subtasks wait");
                        self.waiting.push_front((job, subtask));
                        tokio::time::sleep(RUNNER_AGAIN).await;
                        return;
                    }
                }
            }
            let running =
                Running { attempt, started_at: clock::wall(), since: Instant::now(), canceled: false };
            self.running.insert(start.ticket, running);
            if let Some(runner) = &self.runner {
                runner.say(ToRunner::Start(Box::new(start))).await;
            }
        }
    }

    fn ended(&mut self, ended: Ended) {
        let Some(running) = self.running.remove(&ended.ticket) else { return };
        let ending = match (ended.exit, ended.stopped) {
            (Some(exit), _) if exit.is_success() => Ending::Finished,
            (_, Some(Stopped::Asked)) if running.canceled => Ending::Canceled,
            (_, Some(Stopped::Asked)) => Ending::HandedBack,
            (exit, stopped) => {
                let exit = exit.or(Some(Exit::NotStarted));
                let class = match stopped {
                    Some(_) => FailureClass::Timeout,
                    None => FailureClass::Exit,
                };
                Ending::Failed(Failure { class, exit, message: ended.message })
            }
        };
        self.end(running.attempt, Ran { started_at: running.started_at, took: took(&running), ending });
    }

    fn end(&mut self, attempt: Attempt, ran: Ran) {
        let Attempt { job, subtask, number } = attempt;
        let Ran { started_at, took, ending } = ran;
        self.ended.push_back((job, AttemptEnd { subtask, attempt: number, started_at, took, ending }));
    }

    fn say_ends(&mut self) {
        while !self.ended.is_empty() && self.said.len() < UNRECORDED {
            let some: Vec<_> = self.ended.drain(..self.ended.len().min(ENDS)).collect();
            let mut by_job: BTreeMap<JobId, Vec<AttemptEnd>> = BTreeMap::new();
            for (job, end) in &some {
                by_job.entry(*job).or_default().push(end.clone());
            }
            self.seq += 1;
            self.said.push_back((self.seq, some));
            self.tell(ToLeader::Ends { seq: self.seq, ends: by_job.into_iter().collect() });
        }
    }

    /// Where there is no room a new session begins, in which it is said again.
    fn tell(&self, message: ToLeader) {
        if self.say.try_send(message).is_err() {
            self.signals.reset.notify_one();
        }
    }

    /// What it ran is over, in some way or other.
    async fn runner_is_gone(&mut self) {
        self.runner = None;
        let data_dir = self.place.data_dir.clone();
        // A panic of it would have ended nothing; the next runner's start sweeps nothing, so it is tried here only.
        let _ = tokio::task::spawn_blocking(move || sweep(&data_dir)).await;
        for running in std::mem::take(&mut self.running).into_values() {
            let why = "the process that ran it was killed".to_owned();
            let ending = if self.leaving { Ending::HandedBack } else { failed(FailureClass::Lost, why) };
            self.end(running.attempt, Ran { started_at: running.started_at, took: took(&running), ending });
        }
    }

    /// Stops everything, without its counting as tried. Until when that may take.
    async fn hand_back(&mut self) -> Instant {
        self.leaving = true;
        self.tell(ToLeader::NoMoreWork);
        self.hand_back_waiting();
        for ticket in self.running.keys() {
            if let Some(runner) = &self.runner {
                runner.say(ToRunner::Stop(*ticket)).await;
            }
        }
        Instant::now() + HANDED_BACK_WITHIN
    }

    fn hand_back_waiting(&mut self) {
        for (job, it) in std::mem::take(&mut self.waiting) {
            self.end(id(&job, &it), never(Ending::HandedBack));
        }
    }
}

/// How an attempt went.
struct Ran {
    started_at: Timestamp,
    took: Span,
    ending: Ending,
}

fn never(ending: Ending) -> Ran {
    Ran { started_at: clock::wall(), took: Span(0), ending }
}

fn failed(class: FailureClass, message: String) -> Ending {
    Ending::Failed(Failure { class, exit: None, message })
}

fn took(running: &Running) -> Span {
    Span::millis(u64::try_from(running.since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

fn id(job: &Job, subtask: &OrderedSubtask) -> Attempt {
    Attempt { job: job.id, subtask: subtask.subtask, number: subtask.attempt }
}
