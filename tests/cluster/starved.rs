//! A machine that does not give its processes the processor in time.

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::bucket;
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::scene::{epoch, event_kinds, only_node, pids, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("an agent that is starved for a moment shows it, and its work stays where it is", || {
        starved(cluster);
    });
}

fn starved(cluster: &Cluster) {
    let leader = cluster.leader().name();
    let agent = cluster.agents().iter().find(|agent| agent.name() != leader).expect("one does not lead");
    let name = agent.name();
    let rules = format!("node_list_rules: [{name}]");
    cluster.apply_and_wait(&bucket("/starved", "steady", &trace(cluster, "starved"), &rules));
    let before = cluster.status("/starved");
    assert_eq!(only_node(&before), name);
    let node = || cluster.named(&leader).json(&["node", "status", &name, "-o", "json"]);
    let late = |node: &Value| node["facts"]["late_timers"].as_u64().unwrap_or_default();
    let known = late(&node());
    // Two heartbeats are missed: far less than a lease, far more than a timer may be late.
    agent.signal(Signal::STOP);
    wait_for("its heartbeats are missed", SOON, || {
        let node = node();
        if node["status"] == "suspect" { Ok(()) } else { Err(node["status"].to_string()) }
    });
    agent.signal(Signal::CONT);
    wait_for("late timers are shown", SOON, || {
        let node = node();
        if late(&node) > known { Ok(()) } else { Err(format!("{known}, and now {:#}", node["facts"])) }
    });
    let shown = cluster.named(&leader).cli(&["node", "status", &name]).ok();
    assert!(shown.stdout.contains("late timers"), "{shown}");
    let after = cluster.status("/starved");
    assert_eq!((epoch(&after), pids(&after)), (epoch(&before), pids(&before)), "its lease was not lost");
    let kinds = event_kinds(cluster, &name);
    assert!(!kinds.iter().any(|kind| kind == "node.lost"), "{kinds:?}");
    cluster.delete(&["/starved"]);
}
