//! How soon a single-node bucket runs elsewhere when its node is lost, and how long nothing can be changed when the leader
//! is; and that what runs on other nodes, or while an agent restarts, does not notice. Times are those that the programs
//! themselves have written down.

mod bystanders;
mod silence;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sheaf_tests::beats::{self, one_at_a_time};
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::{Agent, Cluster, Machine, processes, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;
use bystanders::Bystanders;

const NODES: usize = 7;
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
    let trials = ask.trials(20);
    let cluster = scene::cluster(machine, "", NODES);
    scene::beating(&cluster);
    let bystanders = Bystanders::start(&cluster);
    for case in &CASES {
        measure(&cluster, case, &bystanders, trials, figures);
    }
    cluster.cli(&[&["cluster", "settings"], &DEFAULTS[..]].concat()).ok();
    silence::run(&cluster, trials, figures);
    restarts(&cluster, &bystanders, trials, figures);
    scene::end(cluster);
    partitions(machine, trials, figures);
}

/// A node that is alive and well, and that nobody hears nor reaches.
fn partitions(machine: &Arc<Machine>, trials: usize, figures: &Figures) {
    let (cluster, net) = scene::cluster_and_net(machine, "p", NODES);
    scene::beating(&cluster);
    let bystanders = Bystanders::start(&cluster);
    let ways = |agent: &Agent| {
        let node = 1 + cluster.agents().iter().position(|other| other.name() == agent.name()).unwrap_or(0);
        let others = (1..=NODES).filter(|other| *other != node);
        others.flat_map(|other| [(other, node), (node, other)]).collect()
    };
    let (cut, mend) = (|agent: &Agent| net.cut(&ways(agent)), |agent: &Agent| net.mend(&ways(agent)));
    let case = Case { name: "partition of a node", lose: &cut, after: &mend, ..KILLED };
    measure(&cluster, &case, &bystanders, trials, figures);
    scene::end(cluster);
}

fn measure(cluster: &Cluster, case: &Case<'_>, bystanders: &Bystanders, trials: usize, figures: &Figures) {
    cluster.cli(&[&["cluster", "settings"], case.settings].concat()).ok();
    // The first one does not count: the longer of two lease times holds for a while after a change.
    let moves: Vec<Moved> =
        (0..=trials).map(|number| moved(cluster, case, bystanders, number)).skip(1).collect();
    let times: Times = moves.iter().map(|moved| moved.took).collect();
    let (p50, worst) = (times.median(), times.percentile(100));
    let text = format!("p50 {}, worst {}", brief(case.p50), brief(case.worst));
    let goal = Goal { text: &text, reached: Some(p50 <= case.p50 && worst <= case.worst) };
    figures.figure(&format!("{}: its bucket runs elsewhere", case.name), &times.to_string(), &goal);
    // A trial with an overlap ends all.
    let none = Goal { text: "0", reached: Some(true) };
    figures.figure(&format!("{}: two at once, by the programs' own records", case.name), "0", &none);
    let interrupted: usize = moves.iter().map(|moved| moved.interrupted).sum();
    let name = format!("{}: single-node instances interrupted on other nodes", case.name);
    figures.figure(&name, &interrupted.to_string(), &Goal { text: "0", reached: Some(interrupted == 0) });
}

struct Moved {
    /// From the loss of its node until the bucket's program lives elsewhere.
    took: Duration,
    /// Single-node programs of other nodes that lived before and do not live afterwards.
    interrupted: usize,
}

/// Loses a node, sees its bucket run elsewhere, and brings the node back.
///
/// # Panics
/// If two of the bucket's programs lived at once, or nothing happens for too long.
fn moved(cluster: &Cluster, case: &Case<'_>, bystanders: &Bystanders, number: usize) -> Moved {
    let leader = cluster.leader().name();
    let mut victims = cluster.agents().iter().filter(|agent| (agent.name() == leader) == case.leads).cycle();
    let victim = victims.nth(number % NODES).expect("there is one");
    let name = format!("/failover/{}", number + 1);
    let trace = Trace::new(cluster.machine().path(&format!("trace.{number}")));
    let _ = std::fs::remove_file(trace.path()); // of a former case
    let only = format!("node_list_rules: [{}]", victim.name());
    cluster.apply_and_wait(&bucket(&name, "beating", &trace, &only));
    cluster.apply_and_wait(&bucket(&name, "beating", &trace, ""));
    let mut others = bystanders.all();
    others.retain(|life| life.node != victim.name() && life.epoch > 0);
    wait_for("it beats", LONGEST, || match beats::programs(&trace).len() {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    let lost = beats::now();
    (case.lose)(victim);
    let second = wait_for("it runs elsewhere", LONGEST, || {
        let lives = beats::programs(&trace);
        let elsewhere = lives.iter().find(|life| life.node != victim.name()).cloned();
        elsewhere.ok_or_else(|| format!("{lives:?}"))
    });
    (case.after)(victim);
    if !victim.is_running() {
        victim.start();
    }
    cluster.wait_back(victim);
    let interrupted = bystanders.interrupted(&others);
    if let Err(overlap) = one_at_a_time(&beats::programs(&trace)) {
        panic!("{}, trial {number}: {overlap}", case.name);
    }
    cluster.delete(&[&name]);
    Moved { took: Duration::from_nanos(second.first.saturating_sub(lost)), interrupted }
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
    figures.figure("agent restart: instances interrupted", &interrupted.to_string(), &none(interrupted));
    figures.figure("agent restart: buckets moved", &moved.to_string(), &none(moved));
    let times: Times = times.into_iter().collect();
    figures.aside("agent restart: from SIGTERM until the node is ready again", &times.to_string());
}

/// What is bound where, under which epoch.
fn bindings(cluster: &Cluster) -> Vec<String> {
    let rows = cluster.json(&["node", "affinity", "-o", "json"]);
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| format!("{} {} {}", row["bucket"], row["node"], row["epoch"])).collect()
}
