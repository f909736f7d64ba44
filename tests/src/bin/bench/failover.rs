//! How soon a single-node bucket runs elsewhere when its node is lost, and how long nothing can be changed when the leader
//! is. Times are those that the programs themselves have written down.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use sheaf_tests::beats::{self, lives, no_overlap};
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::{Agent, Cluster, Machine, processes, wait_for};
use sheaf_wire::bucket::ApplyBucket;

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;

const NODES: usize = 7;
/// A trial that takes longer has failed, and all others with it.
const LONGEST: Duration = Duration::from_secs(60);
/// How long changes are asked for around a change of the leader.
const WRITING: Duration = Duration::from_secs(4);

/// One way to lose a node.
struct Case {
    name: &'static str,
    /// The bucket's node leads as well.
    leads: bool,
    lose: fn(&Agent),
    /// What is done when the bucket runs elsewhere.
    after: fn(&Agent),
    settings: &'static [&'static str],
    p50: Duration,
    worst: Duration,
}

const DEFAULTS: [&str; 3] = ["lease.heartbeat=500ms", "lease.ttl=3s", "lease.kill_margin=1s"];
const QUICK: [&str; 3] = ["lease.heartbeat=150ms", "lease.ttl=1s", "lease.kill_margin=300ms"];

const CASES: [Case; 4] = [
    Case {
        name: "kill -9 of a whole node",
        leads: false,
        lose: Agent::kill_machine,
        after: |_| {},
        settings: &DEFAULTS,
        p50: Duration::from_secs(5),
        worst: Duration::from_secs(6),
    },
    Case {
        name: "kill -9 of a whole node that also led",
        leads: true,
        lose: Agent::kill_machine,
        after: |_| {},
        settings: &DEFAULTS,
        p50: Duration::from_secs(6),
        worst: Duration::from_secs(8),
    },
    Case {
        name: "SIGSTOP of a whole node",
        leads: false,
        lose: |agent| all(agent, Signal::STOP),
        // Its keepers first: they kill what outlived its lease before it can go on.
        after: |agent| {
            for process in agent.processes().iter().filter(|process| process.is_keeper()) {
                processes::signal(process.pid, Signal::CONT);
            }
            wait_for("what was stopped is dead", LONGEST, || {
                let rest = agent.processes();
                if rest.iter().all(processes::Process::is_keeper) { Ok(()) } else { Err(format!("{rest:?}")) }
            });
            processes::signal(agent.pid(), Signal::CONT);
        },
        settings: &DEFAULTS,
        p50: Duration::from_secs(5),
        worst: Duration::from_secs(6),
    },
    Case {
        name: "kill -9 of a whole node, with ttl 1 s, kill margin 300 ms, heartbeat 150 ms",
        leads: false,
        lose: Agent::kill_machine,
        after: |_| {},
        settings: &QUICK,
        p50: Duration::from_secs(2),
        worst: Duration::from_secs(2),
    },
];

fn all(agent: &Agent, signal: Signal) {
    processes::signal(agent.pid(), signal);
    agent.processes().iter().for_each(|process| processes::signal(process.pid, signal));
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let trials = ask.trials(20);
    let cluster = scene::cluster(machine, "", NODES);
    cluster.apply(&beats::module());
    for case in &CASES {
        cluster.cli(&[&["cluster", "settings"], case.settings].concat()).ok();
        // The first one does not count: the longer of two lease times holds for a while after a change.
        let times: Times = (0..=trials).map(|number| moved(&cluster, case, number)).skip(1).collect();
        let (p50, worst) = (times.median(), times.percentile(100));
        let text = format!("p50 {}, worst {}", brief(case.p50), brief(case.worst));
        let goal = Goal { text: &text, reached: Some(p50 <= case.p50 && worst <= case.worst) };
        figures.figure(&format!("{}: its bucket runs elsewhere", case.name), &times.to_string(), &goal);
    }
    cluster.cli(&[&["cluster", "settings"], &DEFAULTS[..]].concat()).ok();
    let (killed, handed): (Vec<Duration>, Vec<Duration>) =
        (0..trials).map(|number| (silence(&cluster, number, true), silence(&cluster, number, false))).unzip();
    let said = |name: &str, times: Vec<Duration>, text: &str, p50: Duration, worst: Duration| {
        let times: Times = times.into_iter().collect();
        let reached = times.median() <= p50 && times.percentile(100) <= worst;
        figures.figure(name, &times.to_string(), &Goal { text, reached: Some(reached) });
    };
    let (second, longer) = (Duration::from_secs(1), Duration::from_millis(1500));
    said(
        "no change is acknowledged after kill -9 of the leader",
        killed,
        "p50 1 s, worst 1.5 s",
        second,
        longer,
    );
    let short = Duration::from_millis(150);
    said("no change is acknowledged while leadership is handed over", handed, "150 ms (p50)", short, LONGEST);
    scene::end(cluster);
}

/// From the loss of its node until the bucket's program lives elsewhere.
///
/// # Panics
/// If two of its programs lived at once, or nothing happens for too long.
fn moved(cluster: &Cluster, case: &Case, number: usize) -> Duration {
    let leader = cluster.leader().name();
    let mut victims = cluster.agents().iter().filter(|agent| (agent.name() == leader) == case.leads).cycle();
    let victim = victims.nth(number % NODES).expect("there is one");
    let name = format!("/failover/{}", number + 1);
    let trace = Trace::new(cluster.machine().path(&format!("trace.{number}")));
    let _ = std::fs::remove_file(trace.path()); // of a former case
    let only = format!("node_list_rules: [{}]", victim.name());
    cluster.apply_and_wait(&bucket(&name, "beating", &trace, &only));
    cluster.apply_and_wait(&bucket(&name, "beating", &trace, ""));
    wait_for(
        "it beats",
        LONGEST,
        || if lives(&trace).is_empty() { Err("not yet".to_owned()) } else { Ok(()) },
    );
    let lost = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    (case.lose)(victim);
    wait_for("it runs elsewhere", LONGEST, || match lives(&trace).len() {
        2 => Ok(()),
        other => Err(format!("{other} lives")),
    });
    (case.after)(victim);
    if !victim.is_running() {
        victim.start();
    }
    cluster.wait_back(victim);
    let seen = lives(&trace);
    if let Err(overlap) = no_overlap(&seen) {
        panic!("{}, trial {number}: {overlap}", case.name);
    }
    cluster.delete(&[&name]);
    let (first, _) = seen.values().next_back().expect("there are two");
    Duration::from_nanos(*first).saturating_sub(lost)
}

/// The longest time between two acknowledged changes while the leader is killed, or hands leadership over.
fn silence(cluster: &Cluster, number: usize, kill: bool) -> Duration {
    let leader = cluster.leader();
    let other = cluster.agents().iter().find(|agent| agent.name() != leader.name()).expect("there are more");
    let longest = scene::runtime().block_on(async {
        let client = scene::client(&other.address());
        let begun = Instant::now();
        let (mut last, mut longest, mut turn) = (Instant::now(), Duration::ZERO, 0_usize);
        let mut done = false;
        while begun.elapsed() < WRITING {
            let mut put = scene::suspended("/failover/writes");
            put.spec.owner = Some(format!("{number}-{kill}-{turn}"));
            turn += 1;
            let ask = ApplyBucket { put, request: None, validate_only: false };
            if client.apply_bucket(ask).await.is_ok() {
                if done {
                    longest = longest.max(last.elapsed());
                }
                last = Instant::now();
            }
            if !done && begun.elapsed() > WRITING / 4 {
                done = true;
                last = Instant::now();
                if kill {
                    leader.kill();
                } else {
                    // Asked through the same API; its own answer comes when the heir leads.
                    let client = client.clone();
                    drop(tokio::spawn(async move { client.transfer(None).await }));
                }
            }
        }
        longest
    });
    if kill {
        leader.start();
        cluster.wait_back(leader);
    }
    longest
}
