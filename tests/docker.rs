//! Nodes that are containers, each with an address and a process tree of its own, on a network that can be taken away.
//!
//! The image holds the binary, the program of the tests' buckets and the libraries of both, and nothing else: no shell,
//! no init. So the agent is process 1 there.
//!
//! `twenty` and `install` are the deployments of `deploy/`, as its manual starts them, on a small Debian. In `unit` that Debian's
//! systemd is process 1, and the agent is its service.

#[path = "docker/install.rs"]
mod install;
#[path = "docker/nodes.rs"]
mod nodes;
#[path = "docker/twenty.rs"]
mod twenty;
#[path = "docker/unit.rs"]
mod unit;
#[path = "docker/within.rs"]
mod within;
#[path = "docker/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use nodes::Nodes;
use sheaf_tests::beats::{self, one_at_a_time};
use sheaf_tests::{Cases, Machine, need, wait_for};
use world::docker;

/// A lease, an election, a placement and a start, on a busy machine.
const SOON: Duration = Duration::from_secs(40);

#[test]
#[ignore = "needs Docker; .ci/run runs it"]
fn containers() {
    if !need::programs(&["docker", "ldd", "tar"]) {
        return;
    }
    let machine = Arc::new(Machine::take());
    let nodes = Nodes::start(&machine, 5, env!("CARGO_BIN_EXE_bench").as_ref());
    nodes.apply(&beats::module("/beat".as_ref()));
    nodes.apply(&nodes.bucket("/all", "multi_node: true"));
    nodes.apply(&nodes.bucket("/one", ""));
    nodes.wait_running("/all", 5);
    nodes.wait_running("/one", 1);
    let mut cases = Cases::of("containers");
    cases.run("a node whose network is gone loses single-node work and keeps the rest", || cut_off(&nodes));
    cases
        .run("the leader's network is gone: another leads, and changes are taken", || leader_cut_off(&nodes));
    cases.run("a container is killed", || killed(&nodes));
    cases.run("a container is stopped: what it runs is handed over first", || stopped(&nodes));
    cases.run("nothing ever ran twice, and nothing dead was left", || verdict(&nodes));
    cases.end();
}

fn cut_off(nodes: &Nodes) {
    let (node, _) = nodes.place_away_from_leader("/one");
    let beaten = |name: &str| {
        let lives = beats::programs(&nodes.trace(name));
        lives.iter().filter(|life| life.node == node).map(|life| life.last).max().unwrap_or(0)
    };
    nodes.disconnect(&node);
    nodes.wait_elsewhere("/one", &node, SOON);
    let then = beats::now();
    wait_for("what runs everywhere runs on there", SOON, || {
        if beaten("/all") > then { Ok(()) } else { Err(format!("last {}", beaten("/all"))) }
    });
    assert!(beaten("/one") < then, "its single-node work has ended");
    nodes.connect(&node);
    nodes.wait_ready(5);
    nodes.wait_running("/all", 5);
}

fn leader_cut_off(nodes: &Nodes) {
    let leader = nodes.leader();
    nodes.disconnect(&leader);
    let other = nodes.names().into_iter().find(|name| *name != leader).expect("there are five");
    wait_for("another one leads", SOON, || {
        let status = nodes.try_json(&other, &["cluster", "status", "-o", "json"])?;
        match status["leader"].as_str() {
            Some(name) if name != leader => Ok(()),
            _ => Err(status.to_string()),
        }
    });
    nodes.apply_by(&other, &nodes.bucket("/meanwhile", "suspended: true"));
    let alone = nodes.cli(&leader, &["bucket", "suspend", "/one", "--timeout", "2s"]);
    assert!(!alone.status.success(), "it cannot change anything alone");
    nodes.connect(&leader);
    nodes.wait_ready(5);
    nodes.wait_running("/one", 1);
    wait_for("and it knows what it has missed", SOON, || {
        nodes.try_json(&leader, &["bucket", "status", "/meanwhile", "-o", "json"])
    });
}

fn killed(nodes: &Nodes) {
    let (node, _) = nodes.place_away_from_leader("/one");
    docker(&["kill", &nodes.container(&node)]);
    nodes.wait_elsewhere("/one", &node, SOON);
    docker(&["start", &nodes.container(&node)]);
    nodes.wait_ready(5);
    nodes.wait_running("/all", 5);
}

fn stopped(nodes: &Nodes) {
    let (node, epoch) = nodes.place_away_from_leader("/one");
    docker(&["stop", "--time", "60", &nodes.container(&node)]);
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", &nodes.container(&node)]);
    assert_eq!(code.trim(), "0", "{}", nodes.log(&node));
    // It was released, not lost: no lease had to end.
    let events = nodes.events("/one");
    let of_epoch = |kind: &str| {
        events.iter().any(|event| event["kind"] == kind && event["before"] == epoch.to_string().as_str())
    };
    assert!(of_epoch("bucket.leaving") || of_epoch("bucket.released"), "{events:#?}");
    nodes.wait_elsewhere("/one", &node, Duration::from_secs(5));
    docker(&["start", &nodes.container(&node)]);
    nodes.wait_ready(5);
}

fn verdict(nodes: &Nodes) {
    for name in nodes.names() {
        let processes = docker(&["top", &nodes.container(&name), "-eo", "pid,stat,args"]);
        let dead: Vec<&str> = processes.lines().filter(|line| line.contains(" Z")).collect();
        assert!(dead.is_empty(), "process 1 of {name} leaves dead ones: {dead:?}");
    }
    assert_eq!(one_at_a_time(&beats::programs(&nodes.trace("/one"))), Ok(()));
    let all = beats::programs(&nodes.trace("/all"));
    for name in nodes.names() {
        assert_eq!(one_at_a_time(all.iter().filter(|life| life.node == name)), Ok(()), "{name}");
    }
}
