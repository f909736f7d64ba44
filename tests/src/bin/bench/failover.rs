//! How soon a single-node bucket runs elsewhere when its node is lost, and how long nothing can be changed when the leader
//! is; and that what runs on other nodes, or while an agent restarts, does not notice. Times are those that the programs
//! themselves have written down.
//!
//! Each trial has a node and a bucket of its own. Of nodes that do not lead some are lost one right after the other
//! (`--at-once`): what takes long is that they come back. A leader is lost alone, and what cannot be changed meanwhile is
//! seen in the same trials.

mod bystanders;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sheaf_tests::beats::{self, one_at_a_time};
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::{Agent, Cluster, Machine, processes, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;
use crate::writes::Writes;
use bystanders::Bystanders;

const NODES: usize = 7;
/// Nodes lost in one go: with them away most are still there.
const AT_ONCE: usize = 3;
/// A trial that takes longer has failed, and all others with it.
const LONGEST: Duration = Duration::from_secs(60);

/// One way to lose a node.
struct Case<'a> {
    name: &'static str,
    /// The bucket's node leads as well.
    leads: bool,
    lose: &'a dyn Fn(&Agent),
    /// What is done when the bucket runs elsewhere.
    after: &'a dyn Fn(&Agent),
    settings: &'static [&'static str],
    p50: Duration,
    worst: Duration,
}

const PARTITION: &str = "partition of a node";
const TRANSFER: &str = "planned transfer of leadership";
const RESTART: &str = "agent restart";

const DEFAULTS: [&str; 3] = ["lease.heartbeat=500ms", "lease.ttl=3s", "lease.kill_margin=1s"];
const QUICK: [&str; 3] = ["lease.heartbeat=150ms", "lease.ttl=1s", "lease.kill_margin=300ms"];

const KILLED: Case<'_> = Case {
    name: "kill -9 of a whole node",
    leads: false,
    lose: &Agent::kill_machine,
    after: &|_| {},
    settings: &DEFAULTS,
    p50: Duration::from_secs(5),
    worst: Duration::from_secs(6),
};

const CASES: [Case<'_>; 4] = [
    KILLED,
    Case {
        name: "kill -9 of a whole node that also led",
        leads: true,
        p50: Duration::from_secs(6),
        worst: Duration::from_secs(8),
        ..KILLED
    },
    Case { name: "SIGSTOP of a whole node", lose: &stop, after: &go_on, ..KILLED },
    Case {
        name: "kill -9 of a whole node, with ttl 1 s, kill margin 300 ms, heartbeat 150 ms",
        settings: &QUICK,
        p50: Duration::from_secs(2),
        worst: Duration::from_secs(2),
        ..KILLED
    },
];

fn stop(agent: &Agent) {
    processes::signal(agent.pid(), Signal::STOP);
    agent.processes().iter().for_each(|process| processes::signal(process.pid, Signal::STOP));
}

/// Its keepers first: they kill what outlived its lease before it can go on. What needs no lease goes on at last.
fn go_on(agent: &Agent) {
    let (keepers, programs): (Vec<_>, Vec<_>) =
        agent.processes().into_iter().partition(processes::Process::is_keeper);
    keepers.iter().for_each(|keeper| processes::signal(keeper.pid, Signal::CONT));
    wait_for("what was stopped and had a lease is dead", LONGEST, || {
        let of_single_node = |process: &&processes::Process| {
            processes::variable(process.pid, "SHEAF_EPOCH").is_some_and(|epoch| epoch != "0")
        };
        let rest: Vec<_> =
            programs.iter().filter(|it| processes::is_alive(it.pid)).filter(of_single_node).collect();
        if rest.is_empty() { Ok(()) } else { Err(format!("{rest:?}")) }
    });
    processes::signal(agent.pid(), Signal::CONT);
    programs.iter().for_each(|program| processes::signal(program.pid, Signal::CONT));
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let trials = Trials { count: ask.trials(20), at_once: ask.at_once(AT_ONCE) };
    let cluster = scene::cluster(machine, "", NODES);
    scene::beating(&cluster);
    let bystanders = Bystanders::start(&cluster);
    for case in CASES.iter().filter(|case| ask.has_case(case.name)) {
        measure(&cluster, case, &bystanders, trials, figures);
    }
    cluster.cli(&[&["cluster", "settings"], &DEFAULTS[..]].concat()).ok();
    if ask.has_case(TRANSFER) {
        transfers(&cluster, trials.count, figures);
    }
    if ask.has_case(RESTART) {
        restarts(&cluster, &bystanders, trials.count, figures);
    }
    scene::end(cluster);
    if ask.has_case(PARTITION) {
        partitions(machine, trials, figures);
    }
}

/// A node that is alive and well, and that nobody hears nor reaches.
fn partitions(machine: &Arc<Machine>, trials: Trials, figures: &Figures) {
    let (cluster, net) = scene::cluster_and_net(machine, "p", NODES);
    scene::beating(&cluster);
    let bystanders = Bystanders::start(&cluster);
    let ways = |agent: &Agent| {
        let node = 1 + cluster.agents().iter().position(|other| other.name() == agent.name()).unwrap_or(0);
        let others = (1..=NODES).filter(|other| *other != node);
        others.flat_map(|other| [(other, node), (node, other)]).collect()
    };
    let (cut, mend) = (|agent: &Agent| net.cut(&ways(agent)), |agent: &Agent| net.mend(&ways(agent)));
    let case = Case { name: PARTITION, lose: &cut, after: &mend, ..KILLED };
    measure(&cluster, &case, &bystanders, trials, figures);
    scene::end(cluster);
}

/// How many trials, and how many nodes that do not lead are lost in one go.
#[derive(Clone, Copy)]
struct Trials {
    count: usize,
    at_once: usize,
}

fn measure(cluster: &Cluster, case: &Case<'_>, bystanders: &Bystanders, trials: Trials, figures: &Figures) {
    cluster.cli(&[&["cluster", "settings"], case.settings].concat()).ok();
    // The first one does not count: the longer of two lease times holds for a while after a change.
    round(cluster, case, bystanders, 0, 1);
    let (mut took, mut silent, mut interrupted) = (Vec::new(), [Vec::new(), Vec::new()], 0);
    while took.len() < trials.count {
        let wanted = trials.at_once.min(trials.count - took.len());
        let round = round(cluster, case, bystanders, took.len() + 1, wanted);
        took.extend(round.took);
        silent.iter_mut().zip(round.silent.into_iter().flatten()).for_each(|(all, it)| all.push(it));
        interrupted += round.interrupted;
    }
    let name = case.name;
    judged(&format!("{name}: its bucket runs elsewhere"), took, (case.p50, case.worst), figures);
    // A trial with an overlap ends all.
    let none = Goal { text: "0", reached: Some(true) };
    figures.figure(&format!("{name}: two at once, by the programs' own records"), "0", &none);
    figures.promise(
        &format!("{name}: single-node instances interrupted on other nodes"),
        &interrupted.to_string(),
        &Goal { text: "0", reached: Some(interrupted == 0) },
    );
    if case.leads {
        let goal = (Duration::from_secs(1), Duration::from_millis(1500));
        let [by_voters, by_others] = silent;
        judged(&format!("{name}: no change is acknowledged, asked at a voter"), by_voters, goal, figures);
        judged(&format!("{name}: the same, asked at another node"), by_others, goal, figures);
    }
}

/// A figure of so many trials, and whether the middle one and the worst are short enough.
fn judged(name: &str, times: Vec<Duration>, (p50, worst): (Duration, Duration), figures: &Figures) {
    let times: Times = times.into_iter().collect();
    let (median, longest) = (times.median(), times.percentile(100));
    let figure = format!("p50 {}, worst {} ({} trials)", brief(median), brief(longest), times.count());
    let text = format!("p50 {}, worst {}", brief(p50), brief(worst));
    figures.figure(name, &figure, &Goal { text: &text, reached: Some(median <= p50 && longest <= worst) });
}

/// What came of some nodes that were lost in one go.
struct Round {
    /// For each, from its loss until its bucket's program lives elsewhere.
    took: Vec<Duration>,
    /// Where the leader was lost: how long no change was acknowledged that was asked for at a voter, and at another node.
    silent: Option<[Duration; 2]>,
    /// Single-node programs of other nodes that lived before and do not live afterwards.
    interrupted: usize,
}

/// A node, and the bucket that is bound to it.
struct Trial<'a> {
    victim: &'a Agent,
    bucket: String,
    trace: Trace,
}

impl<'a> Trial<'a> {
    fn new(cluster: &Cluster, victim: &'a Agent, number: usize) -> Self {
        let trace = Trace::new(cluster.machine().path(&format!("trace.{number}")));
        let _ = std::fs::remove_file(trace.path()); // of a former case
        Self { victim, bucket: format!("/failover/{}", number + 1), trace }
    }

    /// Its bucket, under these rules.
    fn document(&self, rules: &[String]) -> String {
        let rules = match rules {
            [] => String::new(),
            rules => format!("node_list_rules: [{}]", rules.join(", ")),
        };
        bucket(&self.bucket, "beating", &self.trace, &rules)
    }

    /// How long after that moment the bucket's program lived on another node.
    fn lives_elsewhere(&self, lost: u64) -> Duration {
        let second = wait_for("it runs elsewhere", LONGEST, || {
            let lives = beats::programs(&self.trace);
            let elsewhere = lives.iter().find(|life| life.node != self.victim.name()).cloned();
            elsewhere.ok_or_else(|| format!("{lives:?}"))
        });
        Duration::from_nanos(second.first.saturating_sub(lost))
    }
}

/// The leader, or so many others: by turns, at most one with a vote.
fn victims<'a>(cluster: &'a Cluster, case: &Case<'_>, turn: usize, wanted: usize) -> Vec<&'a Agent> {
    let leader = cluster.leader();
    if case.leads {
        return vec![leader];
    }
    let voters: Vec<String> = cluster.voters().into_iter().map(Agent::name).collect();
    let others = cluster.agents().iter().filter(|agent| agent.name() != leader.name());
    let mut others: Vec<&Agent> = others.collect();
    let first = turn % others.len();
    others.rotate_left(first);
    let mut voted = false;
    others.retain(|agent| !voters.contains(&agent.name()) || !std::mem::replace(&mut voted, true));
    others.truncate(wanted);
    others
}

/// Loses nodes, sees their buckets run elsewhere, and brings the nodes back. Trials are numbered from `number`.
///
/// # Panics
/// If two of a bucket's programs lived at once, or nothing happens for too long.
fn round(cluster: &Cluster, case: &Case<'_>, bystanders: &Bystanders, number: usize, wanted: usize) -> Round {
    let victims = victims(cluster, case, number, wanted);
    let trials = victims.iter().zip(number..).map(|(victim, number)| Trial::new(cluster, victim, number));
    let trials: Vec<Trial<'_>> = trials.collect();
    let mut others = bound(cluster, &trials, bystanders);
    others.retain(|life| life.epoch > 0 && !victims.iter().any(|victim| victim.name() == life.node));
    let asked = || [cluster.following_voter(), cluster.watchers()[0]];
    let writes = case.leads.then(|| asked().map(|at| Writes::begin(at, &format!("{number}-{}", at.name()))));
    let since = Instant::now();
    let lost = |victim: &&Agent| {
        let now = beats::now();
        (case.lose)(victim);
        now
    };
    let lost: Vec<u64> = victims.iter().map(lost).collect();
    let took: Vec<Duration> =
        trials.iter().zip(lost).map(|(trial, lost)| trial.lives_elsewhere(lost)).collect();
    if number > 0 {
        tell_late(cluster, case, trials.iter().zip(&took));
    }
    let silent = writes.map(|both| both.map(|writes| writes.longest_silence(since)));
    for victim in &victims {
        (case.after)(victim);
        if !victim.is_running() {
            victim.start();
        }
    }
    victims.iter().for_each(|victim| cluster.wait_back(victim));
    let interrupted = bystanders.interrupted(&others);
    for trial in &trials {
        if let Err(overlap) = one_at_a_time(&beats::programs(&trial.trace)) {
            panic!("{}, {}: {overlap}", case.name, trial.bucket);
        }
    }
    cluster.delete(&trials.iter().map(|trial| trial.bucket.as_str()).collect::<Vec<_>>());
    Round { took, silent, interrupted }
}

/// What happened meanwhile, where a bucket runs too late.
fn tell_late<'a>(
    cluster: &Cluster,
    case: &Case<'_>,
    trials: impl Iterator<Item = (&'a Trial<'a>, &'a Duration)>,
) {
    for (trial, took) in trials.filter(|(_, took)| **took > case.worst) {
        eprintln!("{} was lost, {} ran elsewhere after {}:", trial.victim.name(), trial.bucket, brief(*took));
        eprintln!("{}", cluster.cli(&["events", "--since", "15s"]).stdout);
    }
}

/// Binds each trial's bucket to its node; afterwards it may run anywhere but where another one's node is lost with it. All
/// that beats then, beside them.
fn bound(cluster: &Cluster, trials: &[Trial<'_>], bystanders: &Bystanders) -> Vec<beats::Life> {
    let only = trials.iter().map(|trial| trial.document(&[trial.victim.name()]));
    cluster.apply_and_wait(&only.collect::<String>());
    let anywhere = trials.iter().map(|trial| {
        let others = trials.iter().filter(|other| other.victim.name() != trial.victim.name());
        trial.document(&others.map(|other| format!("'-{}'", other.victim.name())).collect::<Vec<_>>())
    });
    cluster.apply_and_wait(&anywhere.collect::<String>());
    let all = bystanders.all();
    for trial in trials {
        wait_for("it beats", LONGEST, || match beats::programs(&trial.trace).len() {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        });
    }
    all
}

/// How long no change is acknowledged while leadership is handed over.
///
/// # Panics
/// If it is not.
fn transfers(cluster: &Cluster, trials: usize, figures: &Figures) {
    let handed_over = |number: usize| {
        let leader = cluster.leader().name();
        let other =
            cluster.agents().iter().find(|agent| agent.name() != leader).expect("not all of them lead");
        let (writes, since) = (Writes::begin(other, &format!("transfer-{number}")), Instant::now());
        let asked = async { scene::client(&other.address()).transfer(None).await };
        let heir = scene::runtime().block_on(asked).expect("leadership is handed over");
        assert_ne!(heir, leader, "another one leads");
        writes.longest_silence(since)
    };
    let goal = (Duration::from_millis(150), Duration::from_millis(150));
    let name = format!("{TRANSFER}: no change is acknowledged");
    judged(&name, (0..trials).map(handed_over).collect(), goal, figures);
}

/// Restarts agents, leaders too: what runs goes on, and everything stays where it is.
fn restarts(cluster: &Cluster, bystanders: &Bystanders, trials: usize, figures: &Figures) {
    let (mut interrupted, mut moved, mut times) = (0, 0, Vec::new());
    for agent in cluster.agents().iter().cycle().take(trials) {
        let (before, bound) = (bystanders.all(), bindings(cluster));
        let begun = Instant::now();
        assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
        agent.start();
        cluster.wait_back(agent);
        times.push(begun.elapsed());
        interrupted += bystanders.interrupted(&before);
        let still = bindings(cluster);
        moved += bound.iter().filter(|row| !still.contains(row)).count();
    }
    let none = |count: usize| Goal { text: "0", reached: Some(count == 0) };
    figures.promise(
        &format!("{RESTART}: instances interrupted"),
        &interrupted.to_string(),
        &none(interrupted),
    );
    figures.promise(&format!("{RESTART}: buckets moved"), &moved.to_string(), &none(moved));
    let times: Times = times.into_iter().collect();
    figures.aside(&format!("{RESTART}: from SIGTERM until the node is ready again"), &times.to_string());
}

/// What is bound where, under which epoch.
fn bindings(cluster: &Cluster) -> Vec<String> {
    let rows = cluster.json(&["node", "affinity", "-o", "json"]);
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| format!("{} {} {}", row["bucket"], row["node"], row["epoch"])).collect()
}
