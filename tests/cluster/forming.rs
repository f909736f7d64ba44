//! How nodes come to belong to a cluster, and which do not.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sheaf_tests::cluster::SOON;
use sheaf_tests::config::BRIEF_TTL;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Agent, Cases, Cluster, Follower, Machine, cli, wait_for};

use crate::scene::trace;

/// One cluster, first without a quorum; then nodes that must not come in, and some that may.
#[test]
fn forming() {
    let machine = Arc::new(Machine::take());
    let mut cluster = Cluster::plan(&machine, "", 3, |_, plan| plan.timing.ttl = BRIEF_TTL);
    let mut cases = Cases::of("forming");
    // Who asks where nobody leads is answered when his time is up: clusters of one begin and end meanwhile.
    let mut asked = Vec::new();
    cases.run("no quorum yet: one of three", || asked = no_quorum(&cluster));
    cases.run("a cluster of one needs no list", || of_one(&machine));
    cases.run("no quorum yet: nothing else is answered", || unanswered(asked));
    cluster.start_all();
    cluster.wait_ready();
    cases.run("two live nodes of one name: the second is refused", || same_name(&cluster));
    cases.run("one data directory, two agents: the second is refused", || same_dir(&cluster));
    cases.run("a copy of a live node's data directory is refused", || copied_dir(&cluster));
    cases.run("an address in use, a directory that cannot be written", || unusable(&cluster));
    let mut alone = None;
    cases.run("a leader without a majority says so", || alone = Some(no_majority(&cluster, "n1")));
    cases.run("a torn log is cut back, a damaged one is refused", || broken_log(&machine));
    cases.run("a leader without a majority goes on with it", || goes_on(&cluster, alone.expect("it is")));
    let mut alone = None;
    cases.run("a follower without a majority says so", || alone = Some(no_majority(&cluster, "n2")));
    cases.run("a data directory of another cluster is refused", || other_cluster(&cluster));
    cases.run("a follower without a majority goes on with it", || goes_on(&cluster, alone.expect("it is")));
    cases.run("a new node takes the name of a lost one", || lost_name(&mut cluster));
    cases.end();
}

/// What is asked of it, and not answered yet.
fn no_quorum(cluster: &Cluster) -> Vec<Follower> {
    let (first, second) = (cluster.agent(1), cluster.agent(2));
    first.start();
    let awaited = format!("1 of 3 seen, waiting for {}, {}", second.address(), cluster.agent(3).address());
    let said = wait_for("it says what it waits for", SOON, || {
        let output = first.cli(&["cluster", "status"]);
        if output.stdout.contains(&awaited) { Ok(output) } else { Err(output.to_string()) }
    });
    said.exits(1).calm();
    let json = first.cli(&["cluster", "status", "-o", "json"]).exits(1).json();
    let message = json["message"].as_str().unwrap_or_default();
    assert!(json["leader"].is_null() && message.starts_with(&awaited), "{json:#}");
    assert!(message.contains("refused"), "and why it hears nothing of them: {json:#}");
    second.start();
    let awaited = format!("2 of 3 seen, waiting for {}", cluster.agent(3).address());
    wait_for("the second is seen", SOON, || {
        let output = first.cli(&["cluster", "status"]);
        if output.code == 1 && output.stdout.contains(&awaited) { Ok(()) } else { Err(output.to_string()) }
    });
    // A call waits for a leader as long as it may: they do it all at once.
    let document = bucket("/early", "steady", &trace(cluster, "early"), "");
    let asks = [
        &["bucket", "list"][..],
        &["node", "list"],
        &["events"],
        &["bucket", "status", "/early"],
        &["apply", "-f", "-"],
    ];
    asks.iter().map(|args| first.begin(args, document.as_bytes())).collect()
}

/// Nothing is accepted, and nothing crashes.
fn unanswered(asked: Vec<Follower>) {
    assert!(!asked.is_empty());
    for refused in asked.into_iter().map(|follower| follower.finish(SOON)) {
        let refused = refused.exits(1).calm();
        assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains("2 of 3 seen"), "{refused}");
    }
}

fn of_one(machine: &Arc<Machine>) {
    let alone = Cluster::plan(machine, "alone-", 1, |_, _| {});
    alone.start_all();
    alone.wait_ready();
    let status = alone.json(&["cluster", "status", "-o", "json"]);
    assert_eq!((&status["leader"], &status["fault_tolerance"]), (&"alone-n1".into(), &0.into()));
    let said = "nothing secures this agent: whoever reaches the port may do everything";
    assert!(alone.agent(1).log().contains(said), "it says so where it runs like this");
    assert_eq!(alone.agent(1).stop(), 0);
    alone.start_all();
    alone.wait_ready();
    let again = alone.json(&["cluster", "status", "-o", "json"]);
    assert_eq!(again["cluster"], status["cluster"], "the same cluster as before");
}

/// An agent that must end by itself, and what it says then.
pub(crate) fn refused(agent: &Agent, parts: &[&str]) {
    agent.start();
    let code = agent.exit(Duration::from_secs(30));
    assert_eq!(code, 1, "{}", agent.log_tail());
    let log = agent.log();
    let last = log.lines().rfind(|line| line.starts_with("sheaf: ")).unwrap_or_default();
    for part in parts {
        assert!(last.contains(part), "{part:?} in {last:?}; all of it:\n{}", agent.log_tail());
    }
    assert!(!log.contains("panicked"), "{}", agent.log_tail());
}

/// An agent that is told why it is not welcome. It stays and asks again: the reason may go away.
fn unwelcome(agent: &Agent, parts: &[&str]) {
    agent.start();
    wait_for(&format!("{} is not welcome", agent.name()), SOON, || {
        let log = agent.log();
        let said = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if said { Ok(()) } else { Err(agent.log_tail()) }
    });
    assert!(agent.is_running() && !agent.log().contains("panicked"), "{}", agent.log_tail());
    agent.kill();
}

/// A plan for one more node that joins a cluster.
pub(crate) fn more(cluster: &Cluster, id: &str, change: impl FnOnce(&mut sheaf_tests::NodePlan)) -> Agent {
    let alone = Cluster::plan(cluster.machine(), id, 1, |_, _| {});
    let mut plan = alone.agent(1).plan();
    plan.join = cluster.agents().iter().take(3).map(Agent::address).collect();
    plan.expect = 3;
    change(&mut plan);
    Agent::new(cluster.machine(), id, plan)
}

fn same_name(cluster: &Cluster) {
    let second = more(cluster, "double", |plan| plan.name = "n2".to_owned());
    refused(&second, &["n2", &cluster.agent(2).address(), "[node] name"]);
    let rows = cluster.json(&["node", "list", "-o", "json"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "{rows:#}");
    // A hostname need not be unique.
    let twin = more(cluster, "twin", |plan| {
        plan.name = "twin".to_owned();
        plan.hostname = "n2".to_owned();
    });
    twin.start();
    cluster.wait_node("twin", "ready");
}

fn same_dir(cluster: &Cluster) {
    let dir = cluster.agent(2).dir();
    let second = more(cluster, "same-dir", |plan| plan.dir.clone_from(&dir));
    refused(&second, &[&dir.display().to_string(), "is in use by another agent", "[storage] dir"]);
}

fn copied_dir(cluster: &Cluster) {
    let copy = cluster.machine().path("copied");
    copy_dir(&cluster.agent(2).dir(), &copy);
    let second = more(cluster, "copy", |plan| plan.dir.clone_from(&copy));
    let pid = cluster.agent(2).pid();
    unwelcome(&second, &["another agent is live as node ", "one data directory serves one agent"]);
    cluster.wait_node("n2", "ready");
    assert_eq!(cluster.agent(2).pid(), pid);
}

/// Regular files only: no sockets, and of what vanishes meanwhile nothing.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made in the test's own");
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_dir(&path, &target),
            Ok(kind) if kind.is_file() => drop(fs::copy(&path, &target)),
            _ => {}
        }
    }
}

fn other_cluster(cluster: &Cluster) {
    let other = Cluster::plan(cluster.machine(), "other-", 1, |_, _| {});
    other.start_all();
    other.wait_ready();
    assert_eq!(other.agent(1).stop(), 0);
    let dir = other.agent(1).dir();
    let stray = more(cluster, "stray", |plan| plan.dir.clone_from(&dir));
    refused(&stray, &[&dir.display().to_string(), "belongs to cluster ", "[cluster] join", "[storage] dir"]);
    let rows = cluster.json(&["node", "list", "-o", "json"]);
    assert!(!rows.to_string().contains("stray"), "{rows:#}");
    // What it was it still is.
    other.start_all();
    other.wait_ready();
}

fn unusable(cluster: &Cluster) {
    let taken = cluster.agent(1).address();
    let second = more(cluster, "taken", |plan| plan.address.clone_from(&taken));
    refused(&second, &[&taken, "[listen] grpc"]);
    let nowhere = more(cluster, "nowhere", |plan| plan.dir = "/proc/sheaf".into());
    refused(&nowhere, &["/proc/sheaf"]);
    let config = nowhere.config().display().to_string();
    let checked = cli::run(cluster.machine(), &["agent", "check", "--config", &config], b"").exits(1).calm();
    assert!(checked.stdout.contains("/proc/sheaf"), "{checked}");
    let good = more(cluster, "good", |_| {});
    let config = good.config().display().to_string();
    cli::run(cluster.machine(), &["agent", "check", "--config", &config], b"").ok();
}

/// A crash leaves a torn end; anything else is damage.
fn broken_log(machine: &Arc<Machine>) {
    let alone = Cluster::plan(machine, "torn-", 1, |_, _| {});
    alone.start_all();
    alone.wait_ready();
    alone.apply(&module("torn", ""));
    assert_eq!(alone.agent(1).stop(), 0);
    let log = alone.agent(1).tear_log();
    alone.start_all();
    alone.wait_ready();
    alone.cli(&["module", "status", "torn@1"]).ok();
    let said = "ends within a record: its last 12 bytes are cut off";
    assert!(alone.agent(1).log().contains(said), "it is said loudly:\n{}", alone.agent(1).log_tail());
    assert_eq!(alone.agent(1).stop(), 0);
    let mut damaged = fs::read(&log).expect("the log can be read");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    fs::write(&log, damaged).expect("the log can be written");
    refused(
        alone.agent(1),
        &["is damaged", "move the whole data directory away", "joins empty as a new node"],
    );
}

/// What is asked of a node that is alone, and the nodes that it knows.
struct Alone {
    apply: Follower,
    nodes: Option<usize>,
}

/// `leader` leads when all but the first are killed.
fn no_majority(cluster: &Cluster, leader: &str) -> Alone {
    // One that has just come back is lost until the leader has heard it.
    wait_for(&format!("{leader} leads"), SOON, || {
        let asked = cluster.cli(&["cluster", "transfer", "--to", leader]);
        if asked.code == 0 { Ok(()) } else { Err(asked.to_string()) }
    });
    let nodes = cluster.json(&["node", "list", "-o", "json"]).as_array().map(Vec::len);
    cluster.agent(2).kill();
    cluster.agent(3).kill();
    let first = cluster.agent(1);
    wait_for("it says that there is no quorum", SOON, || {
        let status = first.cli(&["cluster", "status"]);
        let said = status.stdout.contains("2 of 3 voters must see each other");
        let nobody_leads = !status.stdout.contains("leader    yes");
        if status.code == 1 && said && nobody_leads { Ok(()) } else { Err(status.to_string()) }
    });
    let document = bucket("/late", "steady", &trace(cluster, "late"), "");
    Alone { apply: first.begin(&["apply", "-f", "-"], document.as_bytes()), nodes }
}

/// The change is not made, and once the others are there again everything is as ever.
fn goes_on(cluster: &Cluster, alone: Alone) {
    let first = cluster.agent(1);
    let refused = alone.apply.finish(SOON).exits(1).calm();
    assert!(refused.stderr.starts_with("error: "), "{refused}");
    // What is known can still be read.
    assert_eq!(first.cli(&["node", "list", "-o", "json"]).ok().json().as_array().map(Vec::len), alone.nodes);
    cluster.start_all();
    wait_for("there is a leader again", SOON, || {
        let status = first.cli(&["cluster", "status"]);
        if status.code == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    first.cli(&["bucket", "status", "/late"]).exits(3).calm();
}

fn lost_name(cluster: &mut Cluster) {
    let name = cluster.add(|_| {}).name();
    cluster.start_all();
    cluster.wait_node(&name, "ready");
    let id = |cluster: &Cluster| cluster.json(&["node", "status", &name, "-o", "json"])["id"].as_u64();
    let before = id(cluster);
    let old = cluster.named(&name);
    old.kill_machine();
    wait_for("it is lost", SOON, || {
        let row = cluster.try_json(&["node", "status", &name, "-o", "json"])?;
        if row["status"] == "lost" { Ok(()) } else { Err(format!("{row:#}")) }
    });
    let heir = more(cluster, "heir", |plan| plan.name.clone_from(&name));
    heir.start();
    cluster.wait_node(&name, "ready");
    assert!(id(cluster) > before, "a node's number is never used again");
    // The old one returns and finds its name taken.
    unwelcome(
        cluster.named(&name),
        &[&format!("the name {name} is taken by node "), &heir.address(), "[node] name"],
    );
    cluster.wait_node(&name, "ready");
}
