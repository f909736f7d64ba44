//! What goes wrong, by chance: one thing at a time on a node, on up to three nodes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sheaf_simulation::random::Random;

use super::{NODES, ON_SMALL_DISK, World, line_of, number_of};
use crate::net::Way;
use crate::processes::{self, Process};
use crate::{Agent, wait};

/// Nodes that may be troubled at a time.
const AT_ONCE: usize = 3;
/// How long an agent may take to leave in an orderly way, whatever troubles the others.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);
/// Less is left on the disk than agents keep for votes.
const LEFT: u64 = 16 << 20;
/// Longer than any lease here, with its margin.
const PAST_A_LEASE: Duration = Duration::from_millis(5500);
/// How long the keepers of a node that goes on are waited for; a keeper that has nothing to do is not seen to run.
const KEEPERS_WITHIN: Duration = Duration::from_millis(1500);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    KillAgent,
    KillMachine,
    KillLeader,
    KillKeeper,
    StopAgent,
    StopKeeper,
    StopMachine,
    Partition,
    Restart,
    FillDisk,
    HandOver,
}

/// What is counted of what stands still: for longer than any lease, or not so long.
const AGENT_STOPPED: [&str; 2] = ["agent stopped past its lease", "agent stopped"];
const KEEPER_STOPPED: [&str; 2] = ["keeper stopped past its lease", "keeper stopped"];
const MACHINE_STOPPED: [&str; 2] = ["machine stopped past its lease", "machine stopped"];

/// All kinds: how often each comes among twenty, and what is counted of it.
const KINDS: [(Kind, usize, &[&str]); 11] = [
    (Kind::KillAgent, 2, &["agent killed"]),
    (Kind::KillMachine, 2, &["machine killed"]),
    (Kind::KillLeader, 1, &["leader killed"]),
    (Kind::KillKeeper, 2, &["keeper killed"]),
    (Kind::StopAgent, 2, &[AGENT_STOPPED[0]]),
    (Kind::StopKeeper, 2, &[KEEPER_STOPPED[0]]),
    (Kind::StopMachine, 1, &[MACHINE_STOPPED[0]]),
    (Kind::Partition, 4, &["node hears nothing", "node is not heard", "node cut off", "cluster split"]),
    (Kind::Restart, 2, &["agent restarted"]),
    (Kind::FillDisk, 1, &["disk full"]),
    (Kind::HandOver, 1, &["leadership handed over", "leadership not handed over"]),
];

/// How often each fault happened.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, usize>);

impl Counts {
    /// What every seed promises, and did not happen: of each kind at least one, beside a full disk where there is no small
    /// one.
    pub fn missing(&self, has_disk: bool) -> Vec<&'static str> {
        let wanted = KINDS.iter().filter(|(kind, ..)| has_disk || *kind != Kind::FillDisk);
        let missing = wanted.filter(|(_, _, words)| !words.iter().any(|word| self.0.contains_key(word)));
        missing.filter_map(|(_, _, words)| words.first().copied()).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line_of(&self.0))
    }
}

/// How a fault ends.
enum Undo {
    Start,
    /// The agent was asked to leave and starts again when it has.
    StartWhenGone(Instant),
    Continue(Vec<u32>),
    /// Keepers and agent first, so that nothing runs on whose lease is over.
    ContinueMachine,
    Mend(BTreeSet<Way>),
    ClearDisk,
}

struct Trouble {
    /// The node's number.
    node: usize,
    until: Instant,
    undo: Undo,
}

/// Who makes trouble.
pub(super) struct Nemesis<'a> {
    world: &'a World,
    random: Random,
    troubles: Vec<Trouble>,
    next: Instant,
    /// Kinds to come, the next one last: first one of each.
    deck: Vec<Kind>,
    counts: Counts,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(world: &'a World, mut random: Random) -> Self {
        let mut deck = shuffled(&mut random, KINDS.iter().map(|(kind, ..)| *kind).collect());
        // What is to last for long begins early: at the end all that goes on is mended at once.
        deck.sort_by_key(|kind| matches!(kind, Kind::StopAgent | Kind::StopKeeper | Kind::StopMachine));
        Self { world, random, troubles: Vec::new(), next: Instant::now(), deck, counts: Counts::default() }
    }

    /// The next kind.
    fn draw(&mut self) -> Kind {
        if self.deck.is_empty() {
            let twenty = KINDS.iter().flat_map(|(kind, often, _)| std::iter::repeat_n(*kind, *often));
            self.deck = shuffled(&mut self.random, twenty.collect());
        }
        self.deck.pop().unwrap_or(Kind::KillAgent)
    }

    /// Ends what is over, and begins something new when it is time.
    pub(super) fn step(&mut self) {
        self.world.cluster.agents().iter().enumerate().for_each(|(index, agent)| {
            let leaves = |it: &Trouble| it.node == index + 1 && matches!(it.undo, Undo::StartWhenGone(_));
            let asked = self.troubles.iter().any(leaves);
            assert!(
                asked || !agent.has_ended(),
                "{} has ended by itself:\n{}",
                agent.name(),
                agent.log_tail()
            );
        });
        let now = Instant::now();
        let (over, rest) = std::mem::take(&mut self.troubles).into_iter().partition(|it| it.until <= now);
        self.troubles = rest;
        over.into_iter().for_each(|trouble: Trouble| self.undo(trouble, false));
        if now >= self.next && self.troubles.len() < AT_ONCE {
            self.trouble();
            self.next = Instant::now() + Duration::from_millis(self.random.between(100, 2500));
        }
    }

    /// Mends everything.
    pub(super) fn end(mut self) -> Counts {
        while let Some(trouble) = self.troubles.pop() {
            self.undo(trouble, true);
        }
        self.counts
    }

    fn agent(&self, node: usize) -> &'a Agent {
        self.world.cluster.agent(node)
    }

    /// For a moment, for about a lease, or for longer than any.
    fn span(&mut self) -> Duration {
        let (low, high) = [(200, 1500), (2500, 5000), (6000, 10_000)][self.random.index(3)];
        Duration::from_millis(self.random.between(low, high))
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.0.entry(what).or_default() += 1;
    }

    fn begin(&mut self, what: &'static str, node: usize, undo: Undo) {
        self.count(what);
        let until = Instant::now() + self.span();
        self.troubles.push(Trouble { node, until, undo });
    }

    /// Something stands still: the first of its kind past its lease.
    fn begin_stop(&mut self, [past, short]: [&'static str; 2], node: usize, undo: Undo) {
        let is_first = !self.counts.0.contains_key(past);
        let span = if is_first { self.span().max(PAST_A_LEASE) } else { self.span() };
        self.count(if span >= PAST_A_LEASE { past } else { short });
        self.troubles.push(Trouble { node, until: Instant::now() + span, undo });
    }

    /// The node that leads, if one that runs knows it and it is not in trouble.
    fn leader(&self) -> Option<usize> {
        let quiet = |node: &usize| self.troubles.iter().all(|trouble| trouble.node != *node);
        let asked = (1..=NODES).find(|node| quiet(node) && self.agent(*node).is_running())?;
        self.leader_by(asked).filter(quiet)
    }

    /// The node that leads, as another or that itself has it.
    fn leader_by(&self, node: usize) -> Option<usize> {
        let status = self.agent(node).try_json(&["cluster", "status", "-o", "json"]).ok()?;
        number_of(status["leader"].as_str()?)
    }

    fn trouble(&mut self) {
        let node = 1 + self.random.index(NODES);
        // Who leads has a third of all trouble.
        let node = if self.random.chance(333) { self.leader().unwrap_or(node) } else { node };
        if self.troubles.iter().any(|trouble| trouble.node == node) {
            return;
        }
        let kind = self.draw();
        if !self.make(kind, node) {
            // It comes when it can.
            self.deck.insert(0, kind);
        }
    }

    /// Whether it could be made.
    fn make(&mut self, kind: Kind, node: usize) -> bool {
        let agent = self.agent(node);
        match kind {
            Kind::KillAgent => {
                agent.kill();
                self.begin("agent killed", node, Undo::Start);
            }
            Kind::KillMachine => {
                agent.kill_machine();
                self.begin("machine killed", node, Undo::Start);
            }
            Kind::KillLeader => return self.kill_leader(),
            Kind::KillKeeper => {
                let Some(keeper) = self.keeper(agent) else { return false };
                processes::signal(keeper.pid, Signal::KILL);
                self.count("keeper killed");
            }
            Kind::StopAgent => {
                agent.signal(Signal::STOP);
                self.begin_stop(AGENT_STOPPED, node, Undo::Continue(vec![agent.pid()]));
            }
            Kind::StopKeeper => {
                let Some(keeper) = self.keeper(agent) else { return false };
                processes::signal(keeper.pid, Signal::STOP);
                self.begin_stop(KEEPER_STOPPED, node, Undo::Continue(vec![keeper.pid]));
            }
            Kind::StopMachine => {
                agent.signal(Signal::STOP);
                agent.processes().iter().for_each(|process| processes::signal(process.pid, Signal::STOP));
                self.begin_stop(MACHINE_STOPPED, node, Undo::ContinueMachine);
            }
            Kind::Partition => self.partition(node),
            Kind::Restart => self.restart(node),
            Kind::FillDisk => return self.fill_disk(),
            Kind::HandOver => return self.hand_over(),
        }
        true
    }

    /// The agent of whoever leads by what another says and by what it says itself, or all of its machine.
    fn kill_leader(&mut self) -> bool {
        let leads = |node: &usize| self.agent(*node).is_running() && self.leader_by(*node) == Some(*node);
        let Some(node) = self.leader().filter(leads) else { return false };
        let agent = self.agent(node);
        if self.random.chance(500) {
            agent.kill();
        } else {
            agent.kill_machine();
        }
        self.begin("leader killed", node, Undo::Start);
        true
    }

    /// Any keeper of a node.
    fn keeper(&mut self, agent: &Agent) -> Option<Process> {
        let keepers: Vec<Process> = agent.processes().into_iter().filter(Process::is_keeper).collect();
        (!keepers.is_empty()).then(|| keepers[self.random.index(keepers.len())].clone())
    }

    fn partition(&mut self, node: usize) {
        let others = || (1..=NODES).filter(move |other| *other != node);
        let (what, ways): (_, BTreeSet<Way>) = match self.random.below(4) {
            0 => ("node hears nothing", others().map(|other| (other, node)).collect()),
            1 => ("node is not heard", others().map(|other| (node, other)).collect()),
            2 => ("node cut off", others().flat_map(|other| [(other, node), (node, other)]).collect()),
            _ => {
                let with: BTreeSet<usize> =
                    others().filter(|_| self.random.chance(400)).chain([node]).collect();
                let apart = |a: usize, b: usize| with.contains(&a) != with.contains(&b);
                let all = (1..=NODES).flat_map(|a| (1..=NODES).map(move |b| (a, b)));
                ("cluster split", all.filter(|(a, b)| apart(*a, *b)).collect())
            }
        };
        self.world.net.cut(&ways);
        self.begin(what, node, Undo::Mend(ways));
    }

    /// A planned restart, now and then with a new binary, as an upgrade does it.
    fn restart(&mut self, node: usize) {
        if self.random.chance(500) {
            self.world.replace_binary();
            self.count("binary replaced");
        }
        self.agent(node).signal(Signal::TERM);
        self.begin("agent restarted", node, Undo::StartWhenGone(Instant::now() + LEAVES_WITHIN));
    }

    /// Where there is no small disk it counts as made.
    fn fill_disk(&mut self) -> bool {
        let Some(disk) = &self.world.disk else { return true };
        if self.troubles.iter().any(|trouble| trouble.node == ON_SMALL_DISK) {
            return false;
        }
        disk.fill(LEFT);
        self.begin("disk full", ON_SMALL_DISK, Undo::ClearDisk);
        true
    }

    /// As an operator would; that it is refused just then is no fault.
    fn hand_over(&mut self) -> bool {
        let asked = (1..=NODES).find(|node| self.troubles.iter().all(|trouble| trouble.node != *node));
        let Some(asked) = asked else { return false };
        let done = self.agent(asked).cli(&["cluster", "transfer"]).calm();
        self.count(if done.code == 0 { "leadership handed over" } else { "leadership not handed over" });
        true
    }

    /// Ends a trouble, or leaves it for a while longer; `now`: not that either.
    fn undo(&mut self, trouble: Trouble, now: bool) {
        let agent = self.agent(trouble.node);
        match trouble.undo {
            Undo::Start => agent.start(),
            Undo::StartWhenGone(latest) => {
                if now {
                    agent.exit(latest.saturating_duration_since(Instant::now()));
                } else if agent.is_running() {
                    assert!(
                        Instant::now() < latest,
                        "{} does not leave:\n{}",
                        agent.name(),
                        agent.log_tail()
                    );
                    let until = Instant::now() + Duration::from_millis(100);
                    self.troubles.push(Trouble { until, ..trouble });
                    return;
                } else {
                    agent.exit(Duration::ZERO);
                }
                agent.start();
            }
            Undo::Continue(pids) => pids.iter().for_each(|pid| processes::signal(*pid, Signal::CONT)),
            Undo::ContinueMachine => go_on(agent),
            Undo::Mend(ways) => {
                // What another trouble has cut as well stays cut.
                let mut ways = ways;
                for other in &self.troubles {
                    if let Undo::Mend(cut) = &other.undo {
                        ways.retain(|way| !cut.contains(way));
                    }
                }
                self.world.net.mend(&ways);
            }
            Undo::ClearDisk => {
                if let Some(disk) = &self.world.disk {
                    disk.clear();
                }
            }
        }
    }
}

/// In an order by chance.
fn shuffled(random: &mut Random, mut kinds: Vec<Kind>) -> Vec<Kind> {
    for last in (1..kinds.len()).rev() {
        kinds.swap(last, random.index(last + 1));
    }
    kinds
}

/// Lets a machine go on: its keepers and its agent, and when each keeper has had its turn, and killed what it must, the
/// programs. (All at once, a program may run until its keeper does; the manual says so.)
fn go_on(agent: &Agent) {
    let processes = agent.processes();
    let (keepers, programs): (Vec<&Process>, Vec<&Process>) =
        processes.iter().partition(|process| process.is_keeper());
    let turns = |keeper: &Process| processes::turns(keeper.pid);
    let before: Vec<Option<u64>> = keepers.iter().map(|keeper| turns(keeper)).collect();
    keepers.iter().for_each(|keeper| processes::signal(keeper.pid, Signal::CONT));
    agent.signal(Signal::CONT);
    let begun = Instant::now();
    while begun.elapsed() < KEEPERS_WITHIN
        && keepers.iter().zip(&before).any(|(keeper, before)| turns(keeper) == *before)
    {
        wait::pause();
    }
    programs.iter().for_each(|program| processes::signal(program.pid, Signal::CONT));
}
