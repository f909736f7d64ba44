//! Every call works on every node, member or not, leader or not.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Agent, Cases, Cluster, wait_for};

use crate::scene::{revision, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("three of five are members, the others watch", || members(cluster));
    cases.run("every call on every node", || {
        cluster.agents().iter().for_each(|agent| every_call(cluster, agent));
    });
    cases.run("a bucket is explained alike by every node", || explained_alike(cluster));
    cases.run("a change is seen by who asks another node next", || read_what_was_written(cluster));
    cases.run("nodes that are no members watch", || watchers(cluster));
}

fn members(cluster: &Cluster) {
    let status = cluster.json(&["cluster", "status", "-o", "json"]);
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status:#}");
    assert_eq!((&status["fault_tolerance"], &status["nodes"]["ready"]), (&1.into(), &5.into()));
    let listed: BTreeSet<String> = cluster.voters().iter().map(|agent| agent.name()).collect();
    let rows = cluster.json(&["node", "list", "-o", "json"]);
    let rows = rows.as_array().expect("a list");
    let voters = rows.iter().filter(|row| row["voter"] == true).filter_map(|row| row["name"].as_str());
    assert_eq!(voters.map(str::to_owned).collect::<BTreeSet<_>>(), listed);
    let leaders: Vec<_> = rows.iter().filter(|row| row["leader"] == true).map(|row| &row["name"]).collect();
    assert_eq!(leaders, [&status["leader"]]);
    for (row, agent) in rows.iter().zip(cluster.agents()) {
        assert_eq!(
            (row["name"].as_str(), row["address"].as_str()),
            (Some(&*agent.name()), Some(&*agent.address()))
        );
    }
    let ids: BTreeSet<_> = rows.iter().filter_map(|row| row["id"].as_u64()).collect();
    assert_eq!(ids.len(), 5);
}

fn every_call(cluster: &Cluster, agent: &Agent) {
    let node = agent.name();
    let trace = trace(cluster, &format!("calls.{node}"));
    let name = format!("/calls/{node}");
    let document = bucket(&name, "steady", &trace, "");
    let extra = format!("extra-{node}");
    let with = |args: &[&str], input: &str| agent.cli_with(args, input.as_bytes());
    // Documents.
    with(&["module", "apply", "-f", "-"], &module(&extra, "")).ok();
    with(&["bucket", "plan", "-f", "-"], &document).exits(10);
    with(&["bucket", "apply", "-f", "-", "--wait"], &document).ok();
    with(&["apply", "-f", "-"], &[module(&extra, ""), document].concat()).ok();
    // What is read.
    let ask = |args: &[&str]| agent.cli(&[args, &["-o", "json"]].concat()).ok().json();
    assert_eq!(ask(&["cluster", "status"])["nodes"]["ready"], 5);
    assert_eq!(ask(&["cluster", "members"]).as_array().map(Vec::len), Some(3));
    assert_eq!(ask(&["node", "list"]).as_array().map(Vec::len), Some(5));
    assert_eq!(ask(&["node", "status", &node])["name"], node.as_str());
    assert!(ask(&["node", "affinity"]).to_string().contains(&name));
    assert_eq!(ask(&["module", "status", &format!("{extra}@1")])["name"], extra.as_str());
    assert!(ask(&["module", "list"]).to_string().contains(&extra));
    assert!(ask(&["bucket", "list"]).to_string().contains(&name));
    assert_eq!(ask(&["bucket", "status", &name])["running"], 1);
    assert_eq!(ask(&["bucket", "explain", &name])["nodes"].as_array().map(Vec::len), Some(5));
    assert_eq!(ask(&["bucket", "history", &name]).as_array().map(Vec::len), Some(1));
    let events =
        agent.cli(&["events", "--where", &format!("subject={name}"), "-o", "json"]).ok().json_lines();
    assert!(events.iter().any(|event| event["kind"] == "bucket.bound"), "{events:?}");
    agent.cli(&["bucket", "logs", &name]).ok();
    if node == "n1" {
        looks_alike(agent, &name);
    }
    // What changes.
    let label = format!("of-{node}");
    agent.cli(&["node", "label", "n3", &label, "--wait"]).ok();
    agent.cli(&["node", "label", "n3", &format!("{label}-")]).ok();
    agent.cli(&["bucket", "restart", &name, "--wait"]).ok();
    agent.cli(&["bucket", "suspend", &name, "--wait"]).ok();
    agent.cli(&["bucket", "resume", &name, "--wait"]).ok();
    agent.cli(&["bucket", "delete", "--yes", &name, "--wait"]).ok();
    let left: Vec<_> = cluster.agents().iter().flat_map(|agent| agent.programs(&name)).collect();
    assert!(left.is_empty(), "waited for: {left:?}");
    agent.cli(&["module", "delete", "--yes", &format!("{extra}@1")]).ok();
    agent.cli(&["bucket", "status", &name]).exits(3).calm();
}

/// Tests look by calls where they need not start a command: the same is there. Some of it changes from one look to the next.
fn looks_alike(agent: &Agent, bucket: &str) {
    let node = agent.name();
    for args in [
        &["cluster", "status"][..],
        &["cluster", "members"],
        &["node", "list"],
        &["node", "status", &node],
        &["bucket", "status", bucket],
        &["bucket", "explain", bucket],
    ] {
        let args = [args, &["-o", "json"]].concat();
        let (seen, printed) = (agent.json(&args), agent.cli(&args).ok().json());
        assert_eq!(fields(&seen, ""), fields(&printed, ""), "{args:?}");
    }
}

/// Where all values of it stand.
fn fields(value: &Value, at: &str) -> BTreeSet<String> {
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| fields(value, &format!("{at}.{key}"))).collect()
        }
        Value::Array(all) => all.iter().flat_map(|value| fields(value, &format!("{at}[]"))).collect(),
        _ => BTreeSet::from([at.to_owned()]),
    }
}

/// One that runs somewhere, one that does on some, one that no node takes: leader, member and watcher say the same of each node.
fn explained_alike(cluster: &Cluster) {
    let trace = trace(cluster, "alike");
    let names = ["/alike/one", "/alike/some", "/alike/none"];
    cluster.apply_and_wait(&bucket(names[0], "steady", &trace, ""));
    cluster.apply_and_wait(&bucket(
        names[1],
        "steady",
        &trace,
        "multi_node: true\nnode_list_rules: ['+*', '-n2']",
    ));
    cluster.apply(&bucket(names[2], "steady", &trace, "node_list_rules: ['+nobody']"));
    for name in names {
        wait_for(&format!("all say the same of {name}"), SOON, || {
            let asked =
                cluster.agents().iter().map(|agent| agent.cli(&["bucket", "explain", name, "-o", "json"]));
            let answers: Vec<Value> = asked.map(|output| output.ok().json()).collect();
            let nodes = answers[0]["nodes"].as_array().cloned().unwrap_or_default();
            let gates = |node: &Value| node["gates"].as_array().cloned().unwrap_or_default();
            let told = nodes.len() == 5 && nodes.iter().all(|node| gates(node)[1]["pass"].is_boolean());
            if told && answers.iter().all(|answer| *answer == answers[0]) {
                return Ok(());
            }
            Err(format!("{answers:#?}"))
        });
    }
    cluster.delete(&names);
}

/// A command that waits reads on the node it asked; what it reads is as new as its change.
fn read_what_was_written(cluster: &Cluster) {
    let trace = trace(cluster, "written");
    for round in 0..10 {
        for agent in cluster.agents() {
            let document =
                bucket("/written", "steady", &trace, &format!("suspended: true\nowner: '{round}'"));
            let done = agent.cli_with(&["apply", "-f", "-", "--wait"], document.as_bytes()).ok();
            let status = agent.cli(&["bucket", "status", "/written", "-o", "json"]).ok().json();
            assert_eq!(status["owner"], round.to_string(), "after {done}");
        }
    }
    cluster.delete(&["/written"]);
}

fn watchers(cluster: &Cluster) {
    let trace = trace(cluster, "watched");
    let watchers = cluster.watchers();
    assert_eq!(watchers.len(), 2);
    let mut followers = Vec::new();
    for agent in &watchers {
        let buckets = agent.follow(&["bucket", "watch", "-o", "json"]);
        let events = agent.follow(&["events", "--follow", "-o", "json"]);
        let table = agent.follow(&["bucket", "watch"]);
        followers.push((agent.name(), buckets, events, table));
    }
    // Changes are made through a member until each watcher has heard one: then all of them are connected.
    wait_for("the watchers are connected", SOON, || {
        cluster.apply(&bucket("/watched/first", "steady", &trace, "suspended: true"));
        cluster.delete(&["/watched/first"]);
        let silent: Vec<_> =
            followers.iter().filter(|(_, a, b, _)| a.lines().is_empty() || b.lines().is_empty()).collect();
        if silent.is_empty() { Ok(()) } else { Err(format!("{silent:?}")) }
    });
    cluster
        .leader()
        .cli_with(&["apply", "-f", "-", "--wait"], bucket("/watched", "steady", &trace, "").as_bytes())
        .ok();
    let wanted = revision(&cluster.status("/watched"));
    for (name, buckets, events, table) in followers {
        let line = buckets.wait_for_line("that it runs", SOON, |line| {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            value["bucket"]["name"] == "/watched" && value["bucket"]["state"] == "running"
        });
        let seen: Value = serde_json::from_str(&line).expect("one object a line");
        assert_eq!(revision(&seen["bucket"]), wanted, "{name}");
        events.wait_for_line("that it was bound", SOON, |line| {
            line.contains("bucket.bound") && line.contains("/watched")
        });
        table.wait_for_line("the row", SOON, |line| line.contains("/watched") && line.contains("running"));
        for follower in [buckets, events, table] {
            assert_eq!(follower.end(Signal::INT), 130, "{name}");
        }
    }
    cluster.delete(&["/watched"]);
}
