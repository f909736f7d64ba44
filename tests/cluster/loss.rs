//! Agents and machines that die.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::beats::{self, one_at_a_time, programs};
use sheaf_tests::cli::Follower;
use sheaf_tests::documents::{Trace, bucket, program};
use sheaf_tests::{Agent, Cases, Cluster, wait_for};

use crate::scene::{affinity, epoch, event_kinds, explain, only_node, pids, settled_on, trace};

/// Silence until the lease is surely over, an election, and time to place and start on a busy machine.
const FAILOVER: Duration = Duration::from_secs(30);
/// From when a leader takes a node for lost until it has placed what ran there: two looks and some entries of the log, which a
/// busy machine stretches far less than everything around them.
const PLACED_WITHIN: Duration = Duration::from_secs(5);

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    let beat = cluster.machine().program(env!("CARGO_BIN_EXE_bench").as_ref(), "beat");
    cluster.apply(&beats::module(&beat));
    cases.run("A8 the agent of its node is killed", || {
        a8(cluster, "/a8/agent", cluster.follower(), Agent::kill);
    });
    cases.run("A8 the leader's machine dies with it", || {
        a8(cluster, "/a8/leader", cluster.leader(), Agent::kill_machine);
    });
    cases.run("a watch tells of a node that is lost, and that is back", || watched(cluster));
    cases.run("logs are followed over restarts of their node and of the one asked", || followed(cluster));
    cases.run("A29 deleted while a node is down", || a29(cluster));
}

fn a8(cluster: &Cluster, name: &str, victim: &Agent, kill: impl FnOnce(&Agent)) {
    let (trace, node) = (trace(cluster, &name.replace('/', ".")), victim.name());
    let before = settled_on(cluster, name, "beating", &trace, "", &node);
    wait_for("it beats", Duration::from_secs(5), || trace_begins(&trace));
    kill(victim);
    let after = cluster.wait_status_within(name, "runs elsewhere", FAILOVER, |status| {
        status["state"] == "running" && !status["node_affinity"].to_string().contains(&node)
    });
    assert!(epoch(&after) > epoch(&before), "{} after {}", epoch(&after), epoch(&before));
    let second = only_node(&after);
    wait_for("the new one beats", Duration::from_secs(5), || {
        let lives = programs(&trace);
        if lives.iter().any(|life| life.epoch == epoch(&after)) { Ok(()) } else { Err(format!("{lives:?}")) }
    });
    assert_eq!(one_at_a_time(&programs(&trace)), Ok(()));
    assert!(victim.programs(name).is_empty(), "what ran there has ended: {:?}", victim.programs(name));
    let logs = cluster.cli(&["bucket", "logs", name]).ok();
    let told = format!("{node}: its output cannot be read: it is lost; what it printed is on its disk");
    assert!(logs.stderr.lines().any(|line| line == told), "{logs}");
    let kinds = event_kinds(cluster, name);
    assert_eq!(kinds.iter().filter(|kind| *kind == "bucket.bound").count(), 2, "{kinds:?}");
    let freed = newest(cluster, &format!("subject={name},kind=bucket.freed"));
    let why = format!("fenced: not acknowledged to node {node} for ");
    assert!(
        freed["message"].as_str().is_some_and(|text| text.starts_with(&why)),
        "history says why: {freed:#}"
    );
    let lost = last(cluster, &format!("node={node},kind=node.lost"));
    let bound = last(cluster, &format!("subject={name},kind=bucket.bound"));
    let took = bound.duration_since(lost).unwrap_or_default();
    assert!(took < PLACED_WITHIN, "placed {took:?} after {node} was lost");
    let decision = &explain(cluster, name)["decision"];
    assert_eq!((&decision["chosen"], &decision["epoch"]), (&second.as_str().into(), &epoch(&after).into()));
    victim.start();
    cluster.wait_back(victim);
    // It is back, and takes nothing back.
    let settled = cluster.wait_state(name, "running");
    assert_eq!((only_node(&settled), epoch(&settled)), (second, epoch(&after)));
    assert!(victim.programs(name).is_empty(), "{:?}", victim.programs(name));
    cluster.delete(&[name]);
    assert_eq!(one_at_a_time(&programs(&trace)), Ok(()));
}

/// The newest of these events.
fn newest(cluster: &Cluster, filter: &str) -> Value {
    let events = cluster.cli(&["events", "--all", "--where", filter, "-o", "json"]).ok();
    events.json_lines().pop().unwrap_or_else(|| panic!("{filter} happened: {events}"))
}

/// When the newest of these events was.
fn last(cluster: &Cluster, filter: &str) -> SystemTime {
    let newest = newest(cluster, filter);
    let at = newest["at"].as_str().unwrap_or_else(|| panic!("a time in {newest:#}"));
    humantime::parse_rfc3339(at).unwrap_or_else(|error| panic!("{error}: {newest:#}"))
}

fn trace_begins(trace: &Trace) -> Result<(), String> {
    if programs(trace).is_empty() { Err("no beat".to_owned()) } else { Ok(()) }
}

fn watched(cluster: &Cluster) {
    let (trace, victim) = (trace(cluster, "watched.loss"), cluster.follower());
    let node = victim.name();
    cluster.apply_and_wait(&bucket("/watched/loss", "steady", &trace, "multi_node: true"));
    let watching = cluster.leader().follow(&["bucket", "watch", "/watched/loss", "-o", "json"]);
    let seen = |line: &str| -> (Value, bool) {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let has = affinity(&line["bucket"]).contains(&node);
        (line["bucket"].clone(), has)
    };
    watching.wait_for_line("it with all its nodes", FAILOVER, |line| seen(line).1);
    victim.kill_machine();
    let is_without = |line: &str| {
        let (bucket, has) = seen(line);
        bucket["state"] == "running" && bucket["desired"] == 4 && !has
    };
    watching.wait_for_line("it without the node that is lost", FAILOVER, is_without);
    let before = watching.lines().len();
    victim.start();
    cluster.wait_back(victim);
    wait_for("it is told that it runs there again", FAILOVER, || {
        let lines = watching.lines();
        let back = |line: &String| seen(line).1 && seen(line).0["running"] == 5;
        if lines[before..].iter().any(back) { Ok(()) } else { Err(lines[before..].join("\n")) }
    });
    assert_eq!(watching.end(Signal::INT), 130);
    cluster.delete(&["/watched/loss"]);
}

/// The numbers that a node printed, as a follower has them.
fn numbers(following: &Follower, node: &str) -> Vec<u64> {
    let prefix = format!("{node} | line ");
    following.lines().iter().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect()
}

fn followed(cluster: &Cluster) {
    let trace = trace(cluster, "followed");
    let leader = cluster.leader().name();
    let mut others = cluster.agents().iter().filter(|agent| agent.name() != leader);
    let (victim, asked) = (others.next().expect("a node"), others.next().expect("another"));
    let (node, other) = (victim.name(), leader);
    let counting = program("counting", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done", "");
    let rules = format!("multi_node: true\nnode_list_rules: [{node}, {other}]");
    cluster.apply_and_wait(&[counting, bucket("/followed", "counting", &trace, &rules)].concat());
    let following = asked.follow(&["bucket", "logs", "/followed", "-f", "--tail", "0"]);
    let goes_on = |what: &str| {
        let before = [&node, &other].map(|node| numbers(&following, node).last().copied().unwrap_or(0));
        wait_for(&format!("lines of both nodes {what}"), FAILOVER, || {
            let now = [&node, &other].map(|node| numbers(&following, node).last().copied().unwrap_or(0));
            let on = before.iter().zip(now).all(|(before, now)| now > before + 10);
            if on { Ok(()) } else { Err(format!("{before:?}, {now:?}; {}", following.talk())) }
        });
    };
    goes_on("at first");
    // The agent is gone; its keeper, the program and what it prints are not.
    victim.kill();
    wait_for("that it cannot be read is said", FAILOVER, || {
        let talk = following.talk();
        if talk.contains(&format!("{node}: its output cannot be read")) { Ok(()) } else { Err(talk) }
    });
    victim.start();
    cluster.wait_back(victim);
    goes_on("once it is back");
    asked.kill();
    asked.start();
    cluster.wait_back(asked);
    goes_on("once the asked one is back");
    for node in [&node, &other] {
        let numbers = numbers(&following, node);
        let first = numbers.first().copied().unwrap_or(0);
        let each: Vec<u64> = (first..).take(numbers.len()).collect();
        assert_eq!(numbers, each, "every line of {node} once; {}", following.talk());
    }
    assert_eq!(following.end(Signal::INT), 130);
    cluster.delete(&["/followed"]);
}

/// A module that stays, and whose bucket's end leaves a word for each node.
fn telling() -> String {
    let told = |word: &str| format!("{{command: [/bin/sh, -c, 'echo -n {word} >> \"$TRACE.$SHEAF_NODE\"']}}");
    let (deleted, decommissioned) = (told("deleted"), told("decommissioned"));
    let more = format!(
        "stop: {{grace: 5s}}\nlife_cycle:\n  on_delete: {deleted}\n  on_decommission: {decommissioned}"
    );
    program("telling", "exec sleep 100000", &more)
}

fn a29(cluster: &Cluster) {
    let [everywhere, one, told] = ["a29.all", "a29.one", "a29.told"].map(|name| trace(cluster, name));
    let word = |agent: &Agent| {
        let file = format!("{}.{}", told.path().display(), agent.name());
        fs::read_to_string(file).unwrap_or_default()
    };
    let victim = cluster.follower();
    let node = victim.name();
    let documents = [
        telling(),
        bucket("/a29/all", "steady", &everywhere, "multi_node: true"),
        bucket("/a29/one", "steady", &one, &format!("node_list_rules: [{node}]")),
        bucket("/a29/told", "telling", &told, "multi_node: true"),
    ];
    cluster.apply_and_wait(&documents.concat());
    let pid = pids(&cluster.status("/a29/all"))[&node];
    victim.kill();
    assert_eq!(victim.programs("/a29/all").len(), 1, "a keeper outlives its agent");
    cluster.cli(&["bucket", "delete", "--yes", "/a29/all", "/a29/one", "/a29/told"]).ok();
    for name in ["/a29/all", "/a29/one", "/a29/told"] {
        cluster.cli(&["bucket", "status", name]).exits(3).calm();
    }
    for agent in cluster.agents().iter().filter(|agent| agent.name() != node) {
        wait_for(&format!("{} runs nothing of it", agent.name()), Duration::from_secs(20), || nothing(agent));
        assert_eq!(word(agent), "deleted", "{} was reachable", agent.name());
    }
    let still: Vec<_> = victim.programs("/a29/all").iter().map(|program| u64::from(program.pid)).collect();
    assert_eq!(still, [pid], "nobody could tell the node that is down");
    assert_eq!(word(victim), "");
    victim.start();
    cluster.wait_back(victim);
    wait_for(&format!("{node} runs nothing of it"), Duration::from_secs(20), || nothing(victim));
    assert_eq!((everywhere.starts().len(), one.starts().len()), (5, 1), "and has started nothing of it");
    // A node that was away tells it when it is back; each does so once.
    for agent in cluster.agents() {
        assert_eq!(word(agent), "deleted", "{}", agent.name());
    }
}

/// Neither a process of the deleted buckets, nor anything on the disk by which they could be told something.
fn nothing(agent: &Agent) -> Result<(), String> {
    let names = ["/a29/all", "/a29/one", "/a29/told"];
    let programs = names.map(|name| agent.programs(name)).concat();
    let dir = agent.dir().join("instances/a29+told");
    if programs.is_empty() && !dir.exists() {
        Ok(())
    } else {
        Err(format!("{programs:?}, {}", dir.display()))
    }
}
