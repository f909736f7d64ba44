//! A change of a module's version reaches one node after the other, and stops at the first where it fails.

use std::time::Duration;

use serde_json::Value;
use sheaf_tests::documents::{Trace, bucket, program};
use sheaf_tests::{Cases, Cluster};

use crate::scene::{event_kinds, pids, texts, trace};

/// Ten of the nodes.
const RULE: &str = "/^worker-(0[5-9]|1[0-4])$/";
const NODES: usize = 10;
const WITHIN: Duration = Duration::from_secs(120);

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.apply(&[version(1, ""), version(2, FAILS), version(3, "")].concat());
    let trace = trace(cluster, "rollout");
    cases.run("a version that fails on the third of ten nodes stops there", || stops(cluster, &trace));
    cases.run("what was stopped is rolled back", || goes_back(cluster, &trace));
    cases.run("a good version reaches all, some at a time", || reaches_all(cluster, &trace));
    cases.run("back to a revision that is named", || named(cluster));
    cluster.delete(&["/rollout"]);
}

/// It runs on the first two that it comes to, and on no other.
const FAILS: &str = r#"d="$TRACE.fit"; mkdir -p "$d"; [ -e "$d/$SHEAF_NODE" ] || [ $(ls "$d" | wc -l) -lt 2 ] || { echo "no room for version 2 here"; exit 3; }; touch "$d/$SHEAF_NODE"; "#;

fn version(number: u32, first: &str) -> String {
    let trace = r#"echo "$SHEAF_NODE $$ ${SHEAF_EPOCH:-0} $SHEAF_REVISION" >> "$TRACE"; exec sleep 100000"#;
    program("roller", &format!("{first}{trace}"), "").replace("version: '1'", &format!("version: '{number}'"))
}

fn document(trace: &Trace, version: u32, parallel: u32) -> String {
    let more = format!("multi_node: true\nmax_parallel: {parallel}\nnode_list_rules: ['{RULE}']");
    bucket("/rollout", &format!("roller@{version}"), trace, &more)
}

/// Nodes on which the bucket was started so often.
fn started(trace: &Trace, times: usize) -> Vec<String> {
    workers().filter(|name| trace.on(name).len() == times).collect()
}

fn workers() -> impl Iterator<Item = String> {
    (5..15).map(|number| format!("worker-{number:02}"))
}

fn is_over(status: &Value) -> bool {
    status["state"] == "running" && status["running"] == NODES && status["rollout"].is_null()
}

fn stops(cluster: &Cluster, trace: &Trace) {
    // Nothing waits for the first version, nor for the way back to it: each node that is waited for takes seconds.
    cluster.apply_and_wait(&document(trace, 1, 10));
    let before = pids(&cluster.status("/rollout"));
    assert_eq!(before.len(), NODES);
    let document = document(trace, 2, 1);
    let refused = cluster.cli_with(&["apply", "-f", "-", "--wait", "--timeout", "2m"], document.as_bytes());
    let refused = refused.exits(1).calm();
    let status = cluster.status("/rollout");
    assert_eq!(status["module"], "roller@2", "what it shall be");
    // Nodes that it may not run on are released from the start.
    let all = texts(&status["rollout"]["released"]);
    let released: Vec<String> = workers().filter(|name| all.contains(name)).collect();
    let reached = started(trace, 2);
    let mut fails = released.iter().filter(|name| !reached.contains(name));
    let (third, fourth) = (fails.next().expect("it stopped at one"), fails.next());
    assert_eq!((released.len(), reached.len(), fourth), (3, 2, None), "{released:?}: {reached:?} run it");
    for part in [&*format!("node {third}: exit code 3"), "sheaf bucket rollback /rollout"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    let now = pids(&status);
    let mut untouched = workers().filter(|name| !released.contains(name));
    assert!(untouched.all(|name| now[&name] == before[&name]), "those after it run on: {status:#}");
    let runs = cluster.json(&["module", "status", "roller", "-o", "json"])["nodes"].clone();
    let of = |version: &str| {
        let on = runs.as_array().into_iter().flatten().filter(|on| on["state"] == "running");
        on.filter(|on| on["version"] == version).filter_map(|on| on["node"].as_str()).count()
    };
    assert_eq!((of("1"), of("2")), (NODES - 3, 2), "{runs:#}");
    let shown = cluster.cli(&["bucket", "status", "/rollout"]).ok();
    assert!(shown.stdout.contains("stopped: "), "{shown}");
    let logs = cluster.cli(&["bucket", "logs", "/rollout", "--node", third]).ok();
    assert!(logs.stdout.contains("no room for version 2 here"), "{logs}");
}

fn goes_back(cluster: &Cluster, trace: &Trace) {
    let updated = started(trace, 2);
    let rollback = ["bucket", "rollback", "/rollout", "--wait", "--timeout", "2m", "-o", "json"];
    let done = cluster.cli(&rollback).ok();
    assert_eq!(done.json()[0]["outcome"], "rolled back", "{done}");
    let status = cluster.wait_status_within("/rollout", "is as it was", WITHIN, is_over);
    assert_eq!(status["module"], "roller@1");
    assert_eq!(started(trace, 3), updated, "started, updated, and back");
    let kinds = event_kinds(cluster, "/rollout");
    let once = |kind: &str| kinds.iter().filter(|found| *found == kind).count() == 1;
    assert!(once("bucket.rollout_stopped") && once("bucket.rolled_back"), "{kinds:?}");
    cluster.cli(&["bucket", "rollback", "/rollout", "--to", "1"]).exits(3).calm();
}

fn reaches_all(cluster: &Cluster, trace: &Trace) {
    let before: usize = trace.starts().len();
    cluster.apply(&document(trace, 3, 4));
    cluster.wait_status_within("/rollout", "some have it and some do not", WITHIN, |status| {
        status["state"] == "partial" && !texts(&status["rollout"]["released"]).is_empty()
    });
    cluster.wait_status_within("/rollout", "all have it", WITHIN, is_over);
    assert_eq!(trace.starts().len(), before + NODES, "each was started anew, once");
}

fn named(cluster: &Cluster) {
    let history = cluster.json(&["bucket", "history", "/rollout", "-o", "json"]);
    let revisions: Vec<u64> =
        history.as_array().into_iter().flatten().filter_map(|row| row["revision"].as_u64()).collect();
    assert_eq!(revisions.len(), 4, "first, failed, back, good: {history:#}");
    let first = revisions[3].to_string();
    cluster.cli(&["bucket", "rollback", "/rollout", "--to", &first, "--wait", "--timeout", "2m"]).ok();
    assert_eq!(cluster.status("/rollout")["module"], "roller@1");
    let again = cluster.cli(&["bucket", "rollback", "/rollout", "--to", &first, "-o", "json"]).ok().json();
    assert_eq!(again[0]["outcome"], "unchanged", "{again:#}");
    // What only history knows of can be deleted, and then there is no way back to it.
    cluster.cli(&["module", "delete", "roller@2", "--yes"]).ok();
    let failed = revisions[2].to_string();
    let refused = cluster.cli(&["bucket", "rollback", "/rollout", "--to", &failed]).exits(1);
    let why = format!("cannot go back to revision {failed}: its module then, roller@2, was deleted");
    refused.mentions(&[&why, "sheaf bucket history /rollout"]);
}
