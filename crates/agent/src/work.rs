//! Subtasks on this node: what is granted is run, so many at a time, and each end is told until it is recorded.
//!
//! ```text
//!  the leader ── Run, StopAttempts, GiveBack, EndsRecorded ──► desk ──► this loop ── Start, Stop ──► the runner
//!             ◄── Hello{held}, Ends{seq} ────────────────────┘      ◄───── Ended ──────────┘
//! ```
//!
//! What runs is a program for each subtask, or a worker: a plugin's process that takes many subtasks of one job, to which a
//! line leads beside the runner (`workers`, `hands`, `line`).
//!
//! An attempt that was given once is never begun again in this life of the agent, however often it comes: it is known until its
//! end is in the log, and from then on no leader sends it. What a former life ran is dead before this one says that it takes
//! subtasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sheaf_model::session::{Order, OrderedSubtask, ToLeader};
use sheaf_model::{
    Artifact, Attempt, AttemptEnd, BackendName, Digest, Ending, Exit, Facts, Failure, FailureClass, JobId,
    JobSpec, Json, ModuleSpec, Sealed, SecretName, Span, Timestamp,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ends::Ends;
use self::hands::Now;
use self::kept::Leftovers;
use self::leave::Leave;
use self::line::Heard;
use self::stall::Stall;
use self::stock::{Stock, Stocked};
use self::workers::{Do, Workers};
use crate::facts::Counts;
use crate::keeper::clock;
use crate::link::{self, Signals};
use crate::runner::host::Runner;
use crate::runner::{Ended, FromRunner, Stopped, ToRunner, sweep};

mod back;
mod begin;
mod confide;
mod desk;
mod ends;
pub(crate) mod hands;
mod kept;
mod leave;
mod line;
mod stall;
mod start;
mod stock;
mod workers;

pub(crate) use desk::{Desk, Place, WorkInput};
pub(crate) use leave::LEAVES_WITHIN;

/// Messages of workers that wait for the loop.
const HEARD: usize = 64;

/// What is common to the subtasks of an order.
#[derive(Debug)]
struct Job {
    id: JobId,
    spec: Arc<JobSpec>,
    /// What of a higher one waits begins before.
    priority: u8,
    module: Arc<ModuleSpec>,
    /// What the module names, sealed.
    secrets: BTreeMap<SecretName, Sealed>,
    /// What is known of its backends.
    backends: BTreeMap<BackendName, Json>,
    /// What was pushed for its module.
    artifact: Option<Arc<Artifact>>,
}

impl Job {
    /// What the backend's document says in `config`; empty: there is none.
    fn config_of(&self, backend: Option<&BackendName>) -> &str {
        backend.and_then(|name| self.backends.get(name)).map_or("", Json::as_str)
    }
}

/// An attempt that runs.
#[derive(Debug)]
struct Running {
    attempt: Attempt,
    started_at: Timestamp,
    since: Instant,
    canceled: bool,
    /// How long it may take to end when it is asked to.
    grace: Duration,
    /// What it was started from.
    artifact: Option<Digest>,
    /// See [`Workplaces`].
    workplace: u32,
}

/// Numbers of the directories that programs start in: at any moment none has two.
#[derive(Debug, Default)]
struct Workplaces {
    free: BTreeSet<u32>,
    made: u32,
}

impl Workplaces {
    fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.made += 1;
            self.made - 1
        })
    }

    fn give_back(&mut self, number: u32) {
        self.free.insert(number);
    }
}

/// Subtasks of one job and priority that wait; never empty.
#[derive(Debug)]
struct Waiting {
    job: Arc<Job>,
    subtasks: VecDeque<OrderedSubtask>,
    stall: Stall,
}

impl Waiting {
    fn new(job: Arc<Job>, subtasks: VecDeque<OrderedSubtask>) -> Self {
        Self { job, subtasks, stall: Stall::default() }
    }

    /// Whether what comes with this job can wait with it.
    fn is_like(&self, job: &Job) -> bool {
        self.job.id == job.id && self.job.priority == job.priority
    }
}

/// The loop; see the module.
pub(crate) struct Loop {
    place: Place,
    desk: Arc<Desk>,
    inputs: mpsc::Receiver<WorkInput>,
    say: mpsc::Sender<ToLeader>,
    facts: watch::Receiver<Facts>,
    signals: Arc<Signals>,
    counts: Arc<Counts>,
    runner: Option<Runner>,
    tickets: u64,
    /// In the order in which they came; of those that can begin the first of the highest priority is next.
    waiting: VecDeque<Waiting>,
    running: BTreeMap<u64, Running>,
    workplaces: Workplaces,
    workers: Workers,
    stock: Stock,
    leftovers: Leftovers,
    tell: mpsc::Sender<(u64, Heard)>,
    told: mpsc::Receiver<(u64, Heard)>,
    /// Of attempts, until they are in the log.
    ends: Ends,
    /// Jobs of which nothing is to begin here, until more of them comes.
    unwanted: BTreeSet<JobId>,
    /// Everything is handed back.
    leaving: bool,
}

/// What happened.
enum Event {
    Input(WorkInput),
    Heard(Option<FromRunner>),
    Worker(u64, Heard),
    Stocked(Stocked),
    Cleared(Option<JobId>),
    Tick,
    Say,
    SayAgain,
    Stop,
}

/// Waits until then; none: for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Loop {
    /// With everything that a former life of the agent left ended. Blocks for as long as that takes.
    pub(crate) fn new(
        place: Place,
        slots: u32,
        say: mpsc::Sender<ToLeader>,
        facts: watch::Receiver<Facts>,
        (signals, counts): (Arc<Signals>, Arc<Counts>),
    ) -> (Self, Arc<Desk>) {
        let swept = sweep(&place.data_dir);
        if swept > 0 {
            tracing::info!(swept, "ended what a former life of the agent left of subtasks");
        }
        forget_sockets(&place);
        let kept = kept::found(&place.jobs());
        let (desk, inputs) = Desk::new(slots, kept, signals.clone(), counts.clone());
        let (tell, told) = mpsc::channel(HEARD);
        let stock = Stock::new(place.fetcher.clone());
        let this = Self {
            place,
            desk: desk.clone(),
            inputs,
            say,
            facts,
            signals,
            counts,
            runner: None,
            tickets: 0,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            workplaces: Workplaces::default(),
            workers: Workers::default(),
            stock,
            leftovers: Leftovers::default(),
            tell,
            told,
            ends: Ends::default(),
            unwanted: BTreeSet::new(),
            leaving: false,
        };
        (this, desk)
    }

    /// Runs until told to stop; then hands back what it has, and ends once that is recorded, or after [`LEAVES_WITHIN`].
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut leave = Leave::No;
        loop {
            match self.next(&stop, leave.at()).await {
                Event::Input(input) => self.take(input).await,
                Event::Heard(Some(FromRunner::Ended(ended))) => self.ended(ended).await,
                Event::Heard(Some(FromRunner::Started {})) => {}
                Event::Heard(None) => self.runner_is_gone().await,
                Event::Worker(ticket, heard) => {
                    let follows = self.workers.heard(ticket, heard, now());
                    self.perform(follows).await;
                }
                Event::Stocked((digest, went)) => self.stocked(digest, went),
                Event::Cleared(job) => self.cleared(job),
                Event::Tick => {
                    let follows = self.workers.tick(now());
                    self.perform(follows).await;
                    self.let_go();
                    self.give_up_on_slots();
                }
                Event::Say => self.say_ends(),
                Event::SayAgain => {
                    // What nobody has taken yet need not be said twice.
                    let unheard = self.say.capacity() < self.say.max_capacity();
                    let again = self.ends.repeat(Instant::now());
                    again.into_iter().filter(|_| !unheard).for_each(|message| self.tell(message));
                }
                Event::Stop => match self.leave(leave).await {
                    Some(next) => leave = next,
                    None => return,
                },
            }
            if leave != Leave::No && self.is_empty() {
                return;
            }
            self.start_some().await;
            self.clear_up().await;
            self.see_what_waits();
        }
    }

    fn is_empty(&self) -> bool {
        let runs = !self.running.is_empty() || !self.workers.is_idle();
        self.waiting.is_empty() && !runs && self.ends.is_empty()
    }

    /// How many subtasks are here that have not begun.
    fn ready(&self) -> usize {
        let begun = self.running.len() + self.workers.busy();
        self.desk.held().len().saturating_sub(begun + self.ends.len())
    }

    async fn next(&mut self, stop: &CancellationToken, leave_at: Option<Instant>) -> Event {
        let say_at = self.ends.say_at(self.ready());
        let due = self.workers.due(Instant::now()).into_iter().chain(self.stock.due());
        let stalls = self.waiting.iter().filter_map(|waiting| waiting.stall.due());
        let due = due.chain([self.leftovers.due()]).chain(stalls).min();
        let again = self.ends.due();
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
            Some((ticket, heard)) = self.told.recv() => Event::Worker(ticket, heard),
            stocked = self.stock.next() => Event::Stocked(stocked),
            cleared = self.leftovers.next() => Event::Cleared(cleared),
            () = until(due) => Event::Tick,
            () = until(say_at) => Event::Say,
            () = until(again) => Event::SayAgain,
            () = over => Event::Stop,
        }
    }

    async fn take(&mut self, input: WorkInput) {
        match input {
            WorkInput::Opened => {
                self.unwanted.clear(); // which is said again
                self.ends.again();
                if self.leaving {
                    self.tell(ToLeader::NoMoreWork);
                }
                self.say_ends();
            }
            WorkInput::Run(orders) => orders.into_iter().for_each(|order| self.ordered(order)),
            WorkInput::Stop(attempts) => self.stop(&attempts).await,
            WorkInput::Left if self.leaving => {}
            // Nobody records that; it is only to end.
            WorkInput::Left => _ = self.hand_back().await,
            WorkInput::Gone(jobs) => self.leftovers.add(jobs),
            WorkInput::GiveBack { jobs, begun } => self.give_back(jobs.into_iter().collect(), begun).await,
            WorkInput::Recorded(seq) => {
                let over = self.ends.recorded(seq);
                let mut held = self.desk.held();
                for attempt in &over {
                    held.remove(attempt);
                }
            }
        }
    }

    fn ordered(&mut self, order: Order) {
        let Order { job, spec, module, subtasks, secrets, backends, artifact, priority } = order;
        let priority = priority.unwrap_or(spec.priority);
        let mut job = Job { id: job, spec, priority, module, secrets, backends, artifact };
        // What is told of it now may be newer than what those that wait came with; of each backend only once.
        if let Some(last) = self.waiting.back().filter(|last| last.job.id == job.id) {
            for (name, config) in &last.job.backends {
                job.backends.entry(name.clone()).or_insert_with(|| config.clone());
            }
        }
        self.stock.want(&job);
        self.unwanted.remove(&job.id);
        self.desk.keep(job.id);
        let job = Arc::new(job);
        let attempt = |it: &OrderedSubtask| id(&job, it);
        let mut held = self.desk.held();
        let new: VecDeque<_> = subtasks.into_iter().filter(|it| held.insert(attempt(it))).collect();
        drop(held);
        match self.waiting.back_mut().filter(|last| last.is_like(&job)) {
            Some(last) => {
                last.job = job;
                last.subtasks.extend(new);
            }
            None if new.is_empty() => {}
            None => self.waiting.push_back(Waiting::new(job, new)),
        }
        if self.leaving {
            self.hand_back_waiting();
        }
    }

    async fn stop(&mut self, attempts: &[Attempt]) {
        let meant: BTreeSet<Attempt> = attempts.iter().copied().collect();
        let mut stopped = Vec::new();
        for Waiting { job, subtasks, .. } in &mut self.waiting {
            subtasks.retain(|it| {
                let attempt = id(job, it);
                let stays = !meant.contains(&attempt);
                if !stays {
                    stopped.push(attempt);
                }
                stays
            });
        }
        self.waiting.retain(|waiting| !waiting.subtasks.is_empty());
        for attempt in stopped {
            self.end(attempt, never(Ending::Canceled));
        }
        for (ticket, running) in &mut self.running {
            if meant.contains(&running.attempt) {
                running.canceled = true;
                if let Some(runner) = &self.runner {
                    runner.say(ToRunner::Stop(*ticket)).await;
                }
            }
        }
        let follows = self.workers.cancel(|attempt| meant.contains(&attempt), now());
        self.perform(follows).await;
    }

    /// Does what follows from what workers did.
    async fn perform(&mut self, follows: Vec<Do>) {
        for it in follows {
            match it {
                Do::Stop(ticket) => self.tell_runner(ToRunner::Stop(ticket)).await,
                Do::Kill(ticket) => self.tell_runner(ToRunner::Kill(ticket)).await,
                Do::End(attempt, ran) => self.end(attempt, ran),
                Do::Fail(job, failure) => self.fail_waiting(job, &failure),
                Do::Again(job, subtask) if self.unwanted.contains(&job.id) => {
                    self.end(id(&job, &subtask), never(Ending::HandedBack));
                }
                Do::Again(job, subtask) => match self.waiting.front_mut().filter(|it| it.is_like(&job)) {
                    Some(waiting) => waiting.subtasks.push_front(subtask),
                    None => self.waiting.push_front(Waiting::new(job, [subtask].into())),
                },
            }
        }
        if self.leaving {
            self.hand_back_waiting();
        }
    }

    /// What waits for an artifact that cannot be had fails.
    fn stocked(&mut self, digest: Digest, went: Result<String, String>) {
        self.stock.stocked(digest, &went);
        let Err(why) = went else { return };
        let message = format!("artifact {} is not here: {why}", digest.short());
        let failure = Failure { class: FailureClass::Exit, exit: Some(Exit::NotStarted), message };
        let of_it = |job: &Job| job.artifact.as_ref().is_some_and(|it| it.digest == digest);
        self.end_waiting(of_it, &Ending::Failed(failure));
    }

    /// Lets go of artifacts that nothing is of any more.
    fn let_go(&mut self) {
        if self.stock.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        let waiting = self.waiting.iter().map(|waiting| &waiting.job).chain(self.workers.jobs());
        let of_jobs = waiting.filter_map(|job| Some(job.artifact.as_ref()?.digest));
        let in_use = of_jobs.chain(self.running.values().filter_map(|it| it.artifact)).collect();
        self.stock.let_go(&in_use);
    }

    fn fail_waiting(&mut self, job: JobId, failure: &Failure) {
        self.end_waiting(|it| it.id == job, &Ending::Failed(failure.clone()));
    }

    async fn ended(&mut self, ended: Ended) {
        let ticket = ended.ticket;
        let ended = match self.workers.ended(ended, now()) {
            Ok(follows) => {
                self.place.clear_socket(ticket);
                return self.perform(follows).await;
            }
            Err(ended) => ended,
        };
        let Some(running) = self.running.remove(&ended.ticket) else { return };
        self.workplaces.give_back(running.workplace);
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
        let end = AttemptEnd { subtask, attempt: number, started_at, took, ending };
        self.ends.push(job, end, Instant::now());
    }

    fn say_ends(&mut self) {
        while let Some(message) = self.ends.next(Instant::now()) {
            self.tell(message);
        }
    }

    fn tell(&self, message: ToLeader) {
        link::say(&self.say, message, &self.counts, &self.signals);
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
            self.workplaces.give_back(running.workplace);
            self.end(running.attempt, Ran { started_at: running.started_at, took: took(&running), ending });
        }
        let now = now();
        for (attempt, begun) in self.workers.drain() {
            let why = "the process that ran it was killed".to_owned();
            let lost = begun.is_some() && !self.leaving;
            let ending = if lost { failed(FailureClass::Lost, why) } else { Ending::HandedBack };
            self.end(attempt, ran(begun, ending, now));
        }
        forget_sockets(&self.place);
    }
}

/// Sockets of workers that are gone.
fn forget_sockets(place: &Place) {
    for entry in fs::read_dir(place.sockets()).into_iter().flatten().flatten() {
        if desk::is_workers(&entry.file_name().to_string_lossy()) {
            // What cannot be removed is in nobody's way: no ticket is given twice but in another life.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn now() -> Now {
    Now { at: Instant::now(), wall: clock::wall() }
}

/// How an attempt went.
#[derive(Debug)]
struct Ran {
    started_at: Timestamp,
    took: Span,
    ending: Ending,
}

fn never(ending: Ending) -> Ran {
    Ran { started_at: clock::wall(), took: Span(0), ending }
}

/// How an attempt went that is over now; none: it had not begun.
fn ran(begun: Option<Now>, ending: Ending, now: Now) -> Ran {
    let Some(begun) = begun else { return never(ending) };
    let took = now.at.duration_since(begun.at).as_millis();
    Ran { started_at: begun.wall, took: Span::millis(u64::try_from(took).unwrap_or(u64::MAX)), ending }
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
