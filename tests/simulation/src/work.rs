//! Subtasks on a node: what its agent runs of jobs, one thing after the other. What the leader does about them is in `floor`.
//!
//! ```text
//!  agent                                                   leader
//!    ├─ Hello{work: what it holds} ────────────────────────►│ see `floor`
//!    │◄──────────────────────────── Run, Stop, GiveBack ────┤
//!    │  lies ready ─► a slot ─► runs ─► ends                │
//!    │      └── given back, or not moved for long ──► ends  │
//!    ├─ Ends{seq}, lost, late or twice ────────────────────►│ RecordResults
//!    │◄──────────────────────────────────── Recorded{seq} ──┤
//! ```
//!
//! What a session brought waits until the agent's loop comes to it. The session may be over by then, and the next one may have
//! been told what is here without it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sheaf_model::session::Work as Said;
use sheaf_model::{Attempt, AttemptEnd, Ending, Exit, Failure, FailureClass, JobId, Moment, Span, Timestamp};

use crate::clock::{MS, SECOND};
use crate::event::{AtAgent, Process, What, Words};
use crate::link::Session;
use crate::outcome::Rule;
use crate::world::World;

/// How many subtasks an agent runs at a time.
const SLOTS: u32 = 4;
/// Ends that were not recorded by then are said again.
const SAID_AGAIN: u64 = 700 * MS;
/// What lies ready and does not move for so long goes back.
const PATIENCE: Span = Span::millis(1500);

/// What is said about subtasks.
#[derive(Clone, Debug)]
pub(crate) enum WorkWords {
    Run(Vec<Attempt>),
    Stop(Vec<Attempt>),
    /// Of these jobs, and whether what has begun as well.
    GiveBack(Vec<JobId>, bool),
    Ends(u64, Vec<(JobId, Vec<AttemptEnd>)>),
    Recorded(u64),
    NoMore,
}

/// What an agent has of jobs.
#[derive(Debug, Default)]
pub(crate) struct Work {
    brought: VecDeque<Brought>,
    /// Its loop is about to look at that.
    looks: bool,
    /// Attempts given to this life whose ends are not recorded.
    held: BTreeSet<Attempt>,
    /// What of those lies ready.
    lines: BTreeMap<JobId, Line>,
    /// What runs, and how it ends if it was asked to.
    running: BTreeMap<Attempt, Option<Ending>>,
    ended: BTreeMap<Attempt, Ending>,
    /// Ends on their way in this session, by the number of the message.
    said: BTreeMap<u64, Vec<Attempt>>,
    seq: u64,
    /// Everything is handed back.
    leaving: bool,
}

/// What the loop comes to.
#[derive(Clone, Debug)]
pub(crate) enum Brought {
    /// A session stands: whatever was said before may be lost.
    Opened,
    Words(WorkWords),
    /// A program is over.
    Over(Attempt),
    Stalled,
}

/// What lies ready of a job.
#[derive(Debug, Default)]
struct Line {
    ready: VecDeque<Attempt>,
    /// So many did when that was looked at, and since when it has not moved.
    seen: usize,
    since: Option<Moment>,
}

impl Work {
    /// What is said of it when a session is asked for.
    pub(crate) fn said(&self) -> Said {
        let held = self.held.iter().copied().collect();
        Said { slots: SLOTS, held, kept: None, gives_back: true }
    }

    /// Whether nothing is here that is not recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn ready(&self) -> usize {
        self.lines.values().map(|line| line.ready.len()).sum()
    }

    /// What lies ready of these jobs does not begin. How many it were.
    fn end_ready(&mut self, is_meant: impl Fn(JobId, &Line) -> bool, ending: &Ending) -> u64 {
        let mut count = 0;
        for (_, line) in self.lines.extract_if(.., |job, line| is_meant(*job, line)) {
            count += line.ready.len() as u64;
            self.ended.extend(line.ready.into_iter().map(|it| (it, ending.clone())));
        }
        count
    }
}

impl Line {
    /// What waits beside a free slot is not stalled.
    fn see(&mut self, free: bool, now: Moment) {
        let moved = self.ready.len() < self.seen;
        self.seen = self.ready.len();
        self.since = match self.since {
            _ if free => None,
            Some(since) if !moved => Some(since),
            _ => Some(now),
        };
    }

    fn due(&self) -> Option<Moment> {
        self.since.map(|since| since.after(PATIENCE))
    }
}

impl World {
    /// Something comes to an agent's loop, which may be busy.
    pub(crate) fn bring(&mut self, m: usize, it: Brought) {
        let work = &mut self.agents[m].work;
        work.brought.push_back(it);
        if !std::mem::replace(&mut work.looks, true) {
            let busy = !self.healed && self.random.chance(30);
            let delay =
                if busy { self.random.between(20 * MS, 900 * MS) } else { self.random.between(50, 500) };
            self.later(delay, Process::Agent(m), What::Agent(AtAgent::TakeWork));
        }
    }

    pub(crate) fn take_work(&mut self, m: usize) {
        self.agents[m].work.looks = false;
        for it in std::mem::take(&mut self.agents[m].work.brought) {
            match it {
                Brought::Opened => {
                    self.agents[m].work.said.clear();
                    if self.agents[m].work.leaving {
                        self.say_of_work(m, WorkWords::NoMore);
                    }
                }
                Brought::Words(words) => self.work_arrives(m, words),
                Brought::Over(attempt) => self.attempt_over(m, attempt),
                Brought::Stalled => self.give_up_on_slots(m),
            }
        }
        self.begin_some(m);
        self.say_ends(m);
        self.see_lines(m);
    }

    fn work_arrives(&mut self, m: usize, words: WorkWords) {
        match words {
            WorkWords::Run(attempts) => self.ordered(m, attempts),
            WorkWords::Stop(attempts) => self.stop_attempts(m, &attempts.into_iter().collect()),
            WorkWords::GiveBack(jobs, begun) => {
                let jobs: BTreeSet<JobId> = jobs.into_iter().collect();
                let work = &mut self.agents[m].work;
                self.counts.given_back += work.end_ready(|job, _| jobs.contains(&job), &Ending::HandedBack);
                if begun {
                    self.ask_to_end(m, |it| jobs.contains(&it.job), &Ending::HandedBack);
                }
            }
            WorkWords::Recorded(seq) => {
                let work = &mut self.agents[m].work;
                for attempt in work.said.remove(&seq).unwrap_or_default() {
                    work.held.remove(&attempt);
                    work.ended.remove(&attempt);
                }
            }
            WorkWords::Ends(..) | WorkWords::NoMore => {}
        }
    }

    /// What it was given before is the same.
    fn ordered(&mut self, m: usize, attempts: Vec<Attempt>) {
        let work = &mut self.agents[m].work;
        for attempt in attempts {
            if work.held.insert(attempt) {
                work.lines.entry(attempt.job).or_default().ready.push_back(attempt);
            }
        }
        if work.leaving {
            work.end_ready(|_, _| true, &Ending::HandedBack);
        }
        self.counts.granted_ahead += u64::from(work.ready() + work.running.len() > SLOTS as usize);
    }

    fn stop_attempts(&mut self, m: usize, meant: &BTreeSet<Attempt>) {
        let work = &mut self.agents[m].work;
        for line in work.lines.values_mut() {
            let stopped: Vec<Attempt> = line.ready.iter().filter(|it| meant.contains(it)).copied().collect();
            line.ready.retain(|it| !meant.contains(it));
            work.ended.extend(stopped.into_iter().map(|it| (it, Ending::Canceled)));
        }
        work.lines.retain(|_, line| !line.ready.is_empty());
        self.ask_to_end(m, |it| meant.contains(&it), &Ending::Canceled);
    }

    /// Programs take their time to end. What was canceled stays so.
    fn ask_to_end(&mut self, m: usize, is_meant: impl Fn(Attempt) -> bool, ending: &Ending) {
        let mut asked = Vec::new();
        for (attempt, how) in self.agents[m].work.running.iter_mut().filter(|(it, _)| is_meant(**it)) {
            if *how != Some(Ending::Canceled) {
                *how = Some(ending.clone());
            }
            asked.push(*attempt);
        }
        for attempt in asked {
            let delay = self.random.between(MS, 300 * MS);
            self.later(delay, Process::Agent(m), What::Agent(AtAgent::AttemptEnds(attempt)));
        }
    }

    fn give_up_on_slots(&mut self, m: usize) {
        let now = self.clock(Process::Agent(m));
        let work = &mut self.agents[m].work;
        let is_due = |_, line: &Line| line.due().is_some_and(|due| due <= now);
        self.counts.stalled += work.end_ready(is_due, &Ending::HandedBack);
    }

    fn see_lines(&mut self, m: usize) {
        let now = self.clock(Process::Agent(m));
        let work = &mut self.agents[m].work;
        let free = work.running.len() < SLOTS as usize;
        let mut new = Vec::new();
        for line in work.lines.values_mut() {
            let former = line.due();
            line.see(free, now);
            new.extend(line.due().filter(|due| Some(*due) != former));
        }
        for due in new {
            self.at(due, Process::Agent(m), What::Agent(AtAgent::Brought(Brought::Stalled)));
        }
    }

    fn begin_some(&mut self, m: usize) {
        while self.agents[m].work.running.len() < SLOTS as usize {
            let work = &mut self.agents[m].work;
            let Some(mut line) = work.lines.first_entry() else { return };
            let next = line.get_mut().ready.pop_front();
            if line.get().ready.is_empty() {
                line.remove();
            }
            if let Some(attempt) = next {
                self.attempt_begins(m, attempt);
            }
        }
    }

    fn attempt_begins(&mut self, m: usize, attempt: Attempt) {
        self.agents[m].work.running.insert(attempt, None);
        self.counts.attempts += 1;
        self.line(|| format!("n{m} begins {attempt:?}"));
        let life = self.incarnation(m);
        if let Some(why) = self.truth.history.begins(attempt, &life) {
            self.broken(Rule::Attempts, format!("{attempt:?} begins on n{m} and {why}"));
        }
        let takes = match self.random.below(10) {
            0..3 => self.random.between(500, 5 * MS),
            3..8 => self.random.between(5 * MS, 900 * MS),
            _ => self.random.between(900 * MS, 6 * SECOND),
        };
        self.later(takes, Process::Agent(m), What::Agent(AtAgent::AttemptEnds(attempt)));
    }

    /// An attempt that runs is over, as it was asked or by chance.
    fn attempt_over(&mut self, m: usize, attempt: Attempt) {
        let Some(asked) = self.agents[m].work.running.remove(&attempt) else { return };
        let failed = |class, message: &str| {
            Ending::Failed(Failure { class, exit: Some(Exit::Code(1)), message: message.to_owned() })
        };
        let by_chance = match self.random.below(20) {
            0 | 1 if !self.healed => failed(FailureClass::Exit, "it broke"),
            2 if !self.healed => failed(FailureClass::Timeout, "it took too long"),
            3 if !self.healed => Ending::HandedBack,
            _ => Ending::Finished,
        };
        // Some are done just when they are asked to end.
        let ending = asked.filter(|_| !self.random.chance(150)).unwrap_or(by_chance);
        if ending == Ending::Finished {
            self.truth.history.ended_well.insert(attempt);
        }
        self.agents[m].work.ended.insert(attempt, ending);
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

    /// Ends that are not on their way.
    fn say_ends(&mut self, m: usize) {
        let now = Timestamp(self.now / MS);
        if !matches!(self.agents[m].session, Session::Open(_)) {
            return;
        }
        let work = &mut self.agents[m].work;
        let said: BTreeSet<Attempt> = work.said.values().flatten().copied().collect();
        let mut ends: BTreeMap<JobId, Vec<AttemptEnd>> = BTreeMap::new();
        let mut attempts = Vec::new();
        for (attempt, ending) in work.ended.iter().filter(|(it, _)| !said.contains(it)) {
            let (subtask, number, ending) = (attempt.subtask, attempt.number, ending.clone());
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
        self.agents[m].work.leaving = true;
        self.say_of_work(m, WorkWords::NoMore);
        self.agents[m].work.end_ready(|_, _| true, &Ending::HandedBack);
        self.ask_to_end(m, |_| true, &Ending::HandedBack);
        self.say_ends(m);
    }

    /// Work came over a session. Some break just then, before the agent's loop has come to it.
    pub(crate) fn work_comes(&mut self, m: usize, words: WorkWords) {
        let breaks = match &words {
            WorkWords::Run(_) => 20,
            WorkWords::GiveBack(..) => 100,
            _ => 5,
        };
        self.bring(m, Brought::Words(words));
        if !self.healed && self.random.chance(breaks) {
            self.counts.broken_at_work += 1;
            self.session_over(m, false);
        }
    }
}
