//! Clients that are not ours: one in another language that learns everything by reflection, and some that send what no
//! client of ours would.

#[path = "stranger/raw.rs"]
mod raw;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sheaf_tests::{Cluster, need};

#[test]
fn a_python_client_finds_its_way_by_reflection() {
    let Some(python) = need::python() else {
        need::skipped("python grpcio (grpcio, grpcio-reflection, grpcio-tools, protobuf)");
        return;
    };
    let cluster = Cluster::start(3);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stranger/client.py");
    let leader = cluster.leader().name();
    let follower =
        cluster.agents().iter().find(|agent| agent.name() != leader).expect("not all of them lead");
    let mut command = Command::new(python);
    // It writes nothing into the tree.
    command.arg("-B").arg(script).arg(follower.address());
    let done = command.output().expect("Python can be started");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}\n{said}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    let seen: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let steps: Vec<&str> = seen.iter().filter_map(|step| step["what"].as_str()).collect();
    assert_eq!(steps, ["services", "registered", "listed", "watched", "refused", "deleted"]);
    // What it registered and left is there for everybody.
    let rows = cluster.json(&["bucket", "list", "-l", "by=stranger", "-o", "json"]);
    assert_eq!(
        (rows.as_array().map(Vec::len), &rows[0]["name"]),
        (Some(1), &"/stranger/2".into()),
        "{rows:#}"
    );
    let history = cluster.json(&["bucket", "history", "/stranger/2", "-o", "json"]);
    assert_eq!(history.as_array().map(Vec::len), Some(1), "asked for twice, made once: {history:#}");
    assert_eq!(history[0]["actor"], "grpc:127.0.0.1", "{history:#}");
    cluster.wait_state("/stranger/2", "running");
    cluster.delete(&["/stranger/2"]);
}
