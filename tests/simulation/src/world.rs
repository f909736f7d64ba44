//! Everything that is simulated, and the loop that makes it happen.

use std::collections::BTreeSet;

use sheaf_model::Moment;

use crate::agent::Agent;
use crate::client::Client;
use crate::clock::{MS, SECOND, Time};
use crate::event::{AtKernel, AtWorld, Event, Process, What, Words};
use crate::hunts::Hunt;
use crate::lives::Lives;
use crate::machine::Machine;
use crate::network::Network;
use crate::outcome::{Counts, Outcome, Rule, Violation, Wrong};
use crate::owner::Owner;
use crate::plan::Plan;
use crate::queue::Queue;
use crate::random::Random;
use crate::truth::Truth;
use crate::voter::Voter;

/// A message that finds its way cut is tried again so often, and then its connection breaks …
const TRIES: u32 = 10;
/// … each time after so long.
const TRY_AGAIN: Time = 300 * MS;
/// How long it takes to notice that the other end is gone and cannot say so.
const NOTICED: Time = 5 * SECOND;

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now: Time,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) voters: Vec<Voter>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Vec<Client>,
    pub(crate) owners: Vec<Owner>,
    pub(crate) truth: Truth,
    pub(crate) lives: Lives,
    pub(crate) counts: Counts,
    pub(crate) healed: bool,
    /// What is waited for, in seeds with hunts.
    pub(crate) hunt: Option<Hunt>,
    /// Voters that have new entries to send.
    pub(crate) replicate: BTreeSet<usize>,
    queue: Queue,
    steps: u64,
    trace: u64,
    violation: Option<Violation>,
    lines: Vec<String>,
    over: bool,
}

/// The gate in front of a process: its life, and what waits while it is paused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    pub(crate) life: u64,
    pub(crate) up: bool,
    pub(crate) paused: bool,
    pub(crate) waiting: Vec<Event>,
    /// Until then it comes to what has waited; what comes meanwhile is behind that.
    pub(crate) catches_up: Time,
}

impl Gate {
    pub(crate) fn up() -> Self {
        Self { up: true, ..Self::default() }
    }

    /// The process ends; nothing that was on its way to it arrives.
    pub(crate) fn crash(&mut self) {
        self.life += 1;
        self.up = false;
        self.paused = false;
        self.waiting.clear();
    }
}

impl World {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            now: 0,
            network: Network::new(plan.loss),
            machines: Vec::new(),
            voters: Vec::new(),
            agents: Vec::new(),
            clients: Vec::new(),
            owners: Vec::new(),
            truth: Truth::default(),
            lives: Lives::default(),
            counts: Counts::default(),
            healed: false,
            hunt: None,
            replicate: BTreeSet::new(),
            queue: Queue::default(),
            steps: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            violation: None,
            lines: Vec::new(),
            over: false,
            plan,
        }
    }

    /// Until a rule is broken or the plan is over.
    pub(crate) fn run(mut self) -> Outcome {
        self.begin();
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            if self.steps > self.plan.most_steps() {
                self.broken(Rule::Runs, format!("it goes round in circles: {event:?}"));
            }
            self.dispatch(event);
            self.flush_replication();
            if self.over || self.violation.is_some() {
                break;
            }
        }
        let Network { lost, doubled, late, .. } = self.network;
        let wrong = Wrong { lost, doubled, late, ..self.counts.wrong };
        Outcome {
            seed: self.seed,
            plan: self.plan.name,
            violation: self.violation,
            trace: self.trace,
            steps: self.steps,
            counts: Counts { wrong, ..self.counts },
            lines: self.lines,
        }
    }

    /// A rule is broken. The first one counts.
    pub(crate) fn broken(&mut self, rule: Rule, what: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { rule, what, at });
    }

    pub(crate) fn end(&mut self) {
        self.over = true;
    }

    /// A line for people, if the plan wants them. All lines are part of the trace.
    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if self.plan.lines {
            let line = format!("{:>4}.{:06} {}", self.now / SECOND, self.now % SECOND, line());
            self.lines.push(line);
        }
    }

    /// Mixes a number into the trace (FNV-1a, word by word).
    pub(crate) fn note(&mut self, number: u64) {
        self.trace = (self.trace ^ number).wrapping_mul(0x0100_0000_01b3);
    }

    pub(crate) fn post(&mut self, at: Time, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// Something happens to a process after `delay`, unless it ends before.
    pub(crate) fn later(&mut self, delay: Time, to: Process, what: What) {
        let life = self.life(to);
        self.post(self.now + delay, Event { to, life, due: None, waited: false, what });
    }

    /// Something happens to a process when its clock shows `due`.
    pub(crate) fn at(&mut self, due: Moment, to: Process, what: What) {
        let life = self.life(to);
        let at = self.machine_of(to).map_or(self.now, |m| self.machines[m].clock.when(due, self.now));
        self.post(at, Event { to, life, due: Some(due), waited: false, what });
    }

    /// What the clock of a process shows.
    pub(crate) fn clock(&self, of: Process) -> Moment {
        self.machine_of(of).map_or(Moment(self.now / MS), |m| self.machines[m].clock.read(self.now))
    }

    pub(crate) fn machine_of(&self, process: Process) -> Option<usize> {
        match process {
            Process::Voter(m) | Process::Agent(m) | Process::Keeper(m, _) | Process::Kernel(m) => Some(m),
            Process::Client(_) | Process::World => None,
        }
    }

    pub(crate) fn gate(&mut self, process: Process) -> Option<&mut Gate> {
        match process {
            Process::Voter(v) => Some(&mut self.voters[v].gate),
            Process::Agent(m) => Some(&mut self.agents[m].gate),
            Process::Keeper(m, number) => self.machines[m].keepers.get_mut(&number).map(|it| &mut it.gate),
            Process::Kernel(m) => Some(&mut self.machines[m].gate),
            Process::Client(_) | Process::World => None,
        }
    }

    pub(crate) fn life(&self, process: Process) -> u64 {
        match process {
            Process::Voter(v) => self.voters[v].gate.life,
            Process::Agent(m) => self.agents[m].gate.life,
            Process::Kernel(m) => self.machines[m].gate.life,
            Process::Keeper(..) | Process::Client(_) | Process::World => 0,
        }
    }

    fn dispatch(&mut self, event: Event) {
        let machine = self.machine_of(event.to);
        if let Some(m) = machine {
            let (frozen, now) = (self.machines[m].frozen, self.now);
            let Some(gate) = self.gate(event.to) else { return };
            if gate.life != event.life || !gate.up {
                return;
            }
            if gate.paused || frozen {
                gate.waiting.push(event);
                return;
            }
            if event.is_in_order() && !event.waited && now <= gate.catches_up {
                let behind = gate.catches_up + 1;
                return self.post(behind, event);
            }
            if let Some(due) = event.due
                && self.machines[m].clock.read(self.now) < due
            {
                let at = self.machines[m].clock.when(due, self.now).max(self.now + 1);
                return self.post(at, event);
            }
        }
        self.steps += 1;
        self.note(self.now);
        self.note(machine.unwrap_or(usize::MAX) as u64);
        let to = event.to;
        match (event.what, to) {
            (What::Rpc(from, rpc), Process::Voter(v)) => self.on_rpc(v, from, rpc),
            (What::Voter(it), Process::Voter(v)) => self.on_voter(v, it),
            (What::Asked(ask), Process::Voter(v)) => self.on_asked(v, &ask),
            (What::Words(conn, words), _) => self.on_words(to, conn, words),
            (What::Agent(it), Process::Agent(m)) => self.on_agent(m, it),
            (What::Keeper(it), Process::Keeper(m, number)) => self.on_keeper(m, number, it),
            (What::Kernel(it), Process::Kernel(m)) => self.on_kernel(m, it),
            (What::Client(it), Process::Client(c)) => match c.checked_sub(self.clients.len()) {
                Some(o) => self.on_owner(o, it),
                None => self.on_client(c, it),
            },
            (What::World(it), _) => self.on_world(it),
            _ => {}
        }
    }

    fn on_kernel(&mut self, m: usize, it: AtKernel) {
        match it {
            AtKernel::KeeperBegins(number) => self.keeper_begins(m, number),
            AtKernel::Exec(pid) => self.program_execs(m, pid),
            AtKernel::Ends(pid, code) => self.program_ends(m, pid, code),
        }
    }

    fn on_world(&mut self, it: AtWorld) {
        match it {
            AtWorld::Fault => self.next_fault(),
            AtWorld::Undo(undo) => self.undo(undo),
            AtWorld::Heal => self.heal(),
            AtWorld::Undrain(node) => self.undrain(node),
            AtWorld::UndrainAll => self.undrain_all(),
            AtWorld::ChangeLease => self.change_lease(),
            AtWorld::Lose => self.lose_at_once(),
            AtWorld::Restored(since) => self.look_whether_restored(since),
            AtWorld::Allowed => self.look_whether_allowed(),
            AtWorld::Calm => self.network.calm_down(),
            AtWorld::Judge => self.judge_all(),
        }
    }

    /// A datagram, which may be lost, late or doubled.
    pub(crate) fn datagram(&mut self, from: Process, to: Process, what: What) {
        let place = |world: &Self, it| world.machine_of(it).unwrap_or(usize::MAX);
        let ends = (place(self, from), place(self, to));
        let mut delays = self.network.datagram(&mut self.random, ends.0, ends.1);
        let last = delays.pop();
        for delay in delays {
            self.later(delay, to, what.clone());
        }
        if let Some(last) = last {
            self.later(last, to, what);
        }
    }

    pub(crate) fn connect(&mut self, opener: Process, other: Process) -> u64 {
        let ends = ((opener, self.life(opener)), (other, self.life(other)));
        self.network.connect(ends.0, ends.1)
    }

    fn words_event(&self, conn: u64, towards: usize, words: Words) -> Option<(Event, (usize, usize))> {
        let it = self.network.conns.get(&conn)?;
        let (to, life) = it.ends[towards];
        let from = self.machine_of(it.ends[1 - towards].0)?;
        let event = Event { to, life, due: None, waited: false, what: What::Words(conn, words) };
        Some((event, (from, self.machine_of(to)?)))
    }

    /// Says something over a connection, in order.
    pub(crate) fn say(&mut self, from: Process, conn: u64, words: Words) {
        let life = self.life(from);
        let Some(it) = self.network.conns.get(&conn) else { return };
        let Some(end) = it.end_of(from, life) else { return };
        if it.open[end] {
            self.push(conn, 1 - end, words);
        }
    }

    /// The same, but it may be lost, late, doubled or overtaken: for what must stand that.
    pub(crate) fn toss(&mut self, from: Process, conn: u64, words: Words) {
        let life = self.life(from);
        let end = self.network.conns.get(&conn).and_then(|it| it.end_of(from, life).filter(|e| it.open[*e]));
        let Some(end) = end else { return };
        let Some((event, (from, to))) = self.words_event(conn, 1 - end, words) else { return };
        let mut delays = self.network.datagram(&mut self.random, from, to);
        let last = delays.pop();
        for delay in delays {
            self.post(self.now + delay, event.clone());
        }
        if let Some(last) = last {
            self.post(self.now + last, event);
        }
    }

    fn push(&mut self, conn: u64, towards: usize, words: Words) {
        let Some((from, to)) = self.way(conn, towards) else { return };
        let cut = self.network.is_cut(from, to);
        let Some(it) = self.network.conns.get_mut(&conn) else { return };
        if cut || !it.stalled[towards].is_empty() {
            it.stalled[towards].push_back(words);
            if it.stalled[towards].len() == 1 {
                it.tries[towards] = 0;
                let undo = AtWorld::Undo(crate::faults::Undo::Stall(conn, towards));
                self.later(TRY_AGAIN, Process::World, What::World(undo));
            }
            return;
        }
        let at = self.network.in_order(&mut self.random, conn, towards, (from, to), self.now);
        if let Some((event, _)) = self.words_event(conn, towards, words) {
            self.post(at, event);
        }
    }

    /// From which machine to which.
    fn way(&self, conn: u64, towards: usize) -> Option<(usize, usize)> {
        let it = self.network.conns.get(&conn)?;
        Some((self.machine_of(it.ends[1 - towards].0)?, self.machine_of(it.ends[towards].0)?))
    }

    /// Tries again what found its way cut.
    pub(crate) fn unstall(&mut self, conn: u64, towards: usize) {
        let Some((from, to)) = self.way(conn, towards) else { return };
        let cut = self.network.is_cut(from, to);
        let Some(it) = self.network.conns.get_mut(&conn) else { return };
        if !cut {
            for words in std::mem::take(&mut it.stalled[towards]) {
                self.push(conn, towards, words);
            }
            return;
        }
        it.tries[towards] += 1;
        if it.tries[towards] < TRIES {
            let undo = AtWorld::Undo(crate::faults::Undo::Stall(conn, towards));
            return self.later(TRY_AGAIN, Process::World, What::World(undo));
        }
        for end in 0..2 {
            if let Some((event, _)) = self.words_event(conn, end, Words::Closed) {
                self.post(self.now + 10 * MS, event);
            }
        }
    }

    /// A process ends a connection; the other end hears of it, or notices.
    pub(crate) fn hang_up(&mut self, from: Process, conn: u64) {
        let life = self.life(from);
        let Some(it) = self.network.conns.get(&conn) else { return };
        if let Some(end) = it.end_of(from, life) {
            self.close_end(conn, end);
        }
    }

    /// All connections of a process end with it.
    pub(crate) fn hang_up_all(&mut self, process: Process) {
        let life = self.life(process);
        let of = |(number, it): (&u64, &crate::network::Conn)| Some((*number, it.end_of(process, life)?));
        let all: Vec<(u64, usize)> = self.network.conns.iter().filter_map(of).collect();
        for (conn, end) in all {
            self.close_end(conn, end);
        }
    }

    fn close_end(&mut self, conn: u64, end: usize) {
        let Some(it) = self.network.conns.get_mut(&conn) else { return };
        it.open[end] = false;
        if !it.open[1 - end] {
            self.network.conns.remove(&conn);
            return;
        }
        if let Some((event, (from, to))) = self.words_event(conn, 1 - end, Words::Closed) {
            let at = if self.network.is_cut(from, to) {
                self.now + NOTICED
            } else {
                self.network.in_order(&mut self.random, conn, 1 - end, (from, to), self.now)
            };
            self.post(at, event);
        }
    }

    fn on_words(&mut self, to: Process, conn: u64, words: Words) {
        let life = self.life(to);
        let open =
            self.network.conns.get(&conn).and_then(|it| it.end_of(to, life).filter(|end| it.open[*end]));
        if open.is_none() {
            return;
        }
        if matches!(words, Words::Closed) {
            self.hang_up(to, conn);
        }
        match to {
            Process::Voter(v) => self.voter_hears(v, conn, words),
            Process::Agent(m) => self.agent_hears(m, conn, words),
            _ => {}
        }
    }
}
