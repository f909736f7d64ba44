//! Multi-node buckets: one instance on each available node, and on no other.

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::load::{apply_each, put_large};
use crate::scene::{affinity, epoch, explain, gates, names, only_node, pids, trace};
use crate::single;

/// Buckets with documents of nearly the size that they may have.
const LARGE: usize = 40;

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A11 five instances on five nodes", || a11(cluster));
    cases.run("A13 rules exclude a node", || a13(cluster));
    cases.run("A14 two nodes drop out, three run on", || a14(cluster));
    cases.run("A18 the module does not support it", || a18(cluster));
}

/// One more node: what runs everywhere runs there, too; what is bound stays.
pub(crate) fn cases_of_a_sixth_node(cases: &mut Cases, cluster: &mut Cluster) {
    let (everywhere, bound) = (trace(cluster, "a15"), trace(cluster, "a7"));
    cluster.apply_and_wait(&bucket("/a15", "steady", &everywhere, "multi_node: true"));
    cluster.apply_and_wait(&bucket("/a7", "steady", &bound, ""));
    let before = (cluster.status("/a15"), cluster.status("/a7"));
    let large = large(cluster);
    cluster.add(|plan| plan.deny = vec!["denied".to_owned()]);
    cluster.start_all();
    cluster.wait_ready();
    cases.run("A15 a sixth node joins", || {
        let status = cluster.wait_status("/a15", "runs on six", |status| status["running"] == 6);
        assert_eq!((affinity(&status), &status["desired"]), (names(1..=6), &6.into()));
        let (old, new) = (pids(&before.0), pids(&status));
        assert!(old.iter().all(|(node, pid)| new.get(node) == Some(pid)), "{old:?} go on, {new:?}");
        wait_for("a trace of the sixth", Duration::from_secs(5), || one_each(&everywhere, &names(1..=6)));
    });
    cases.run("a node that joins hears of documents that no message holds together", || {
        for name in [&large[0], &large[LARGE - 1]] {
            wait_for("its answer", SOON, || {
                let gates = gates(&explain(cluster, name), "n6");
                if gates.iter().all(|(pass, _)| *pass == Some(true)) {
                    Ok(())
                } else {
                    Err(format!("{gates:?}"))
                }
            });
        }
        let all: Vec<&str> = large.iter().map(String::as_str).collect();
        cluster.cli(&[&["bucket", "delete", "--yes"], &all[..]].concat()).ok();
    });
    cases.run("A7 a bound bucket stays where it is", || {
        let node = only_node(&before.1);
        cluster.apply(&bucket("/a7", "steady", &bound, &config(&bound, 2)));
        let at_home = |count| wait_for("started anew", Duration::from_secs(20), || starts(&bound, count));
        at_home(2);
        let status = cluster.wait_state("/a7", "running");
        assert_eq!((only_node(&status), epoch(&status)), (node.clone(), epoch(&before.1)), "bound as before");
        assert!(
            bound.starts().iter().all(|start| start.node == node),
            "nobody else was called: {:?}",
            bound.starts()
        );
    });
    cases.run("A12 three available, three not", || a12(cluster));
    single::cases_of_six(cases, cluster);
    cluster.delete(&["/a15", "/a7"]);
}

/// Registers neighbours whose documents have 20 MB together, and are switched off.
fn large(cluster: &Cluster) -> Vec<String> {
    let names: Vec<String> = (0..LARGE).map(|number| format!("/large/{number:02}")).collect();
    apply_each(cluster.leader(), names.iter().map(|name| put_large(cluster, name, "me", 500 << 10)));
    names
}

/// A config with the trace and one more value.
pub(crate) fn config(trace: &Trace, value: u32) -> String {
    format!("config: {{trace: '{}', value: {value}}}", trace.path().display())
}

fn starts(trace: &Trace, count: usize) -> Result<(), String> {
    let starts = trace.starts();
    if starts.len() == count { Ok(()) } else { Err(format!("{starts:?}")) }
}

fn one_each(trace: &Trace, nodes: &BTreeSet<String>) -> Result<(), String> {
    let starts = trace.starts();
    let found: BTreeSet<String> = starts.iter().map(|start| start.node.clone()).collect();
    if starts.len() == nodes.len() && found == *nodes { Ok(()) } else { Err(format!("{starts:?}")) }
}

fn a11(cluster: &Cluster) {
    let trace = trace(cluster, "a11");
    cluster.apply_and_wait(&bucket("/a11", "steady", &trace, "multi_node: true"));
    let status = cluster.status("/a11");
    assert_eq!((&status["running"], &status["desired"]), (&5.into(), &5.into()));
    assert_eq!((affinity(&status), pids(&status).len()), (names(1..=5), 5));
    wait_for("five traces", Duration::from_secs(5), || one_each(&trace, &names(1..=5)));
    assert!(trace.starts().iter().all(|start| start.epoch == 0), "no epoch without a binding");
    assert!(status["affinity_epoch"].is_null(), "{status:#}");
    cluster.delete(&["/a11"]);
}

fn a12(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/a12", "picky", &trace(cluster, "a12"), "multi_node: true"));
    let status = cluster.status("/a12");
    assert_eq!(status["state"], "running", "{status:#}");
    assert_eq!((&status["running"], &status["desired"]), (&3.into(), &3.into()));
    assert_eq!(affinity(&status), names(1..=3));
    cluster.delete(&["/a12"]);
}

fn a13(cluster: &Cluster) {
    let trace = trace(cluster, "a13");
    cluster.apply_and_wait(&bucket("/a13", "steady", &trace, "multi_node: true\nnode_list_rules: ['-n2']"));
    assert_eq!(affinity(&cluster.status("/a13")), names([1, 3, 4, 5]));
    let [local, rules, can_run] = gates(&explain(cluster, "/a13"), "n2");
    assert_eq!((local.0, can_run.0), (Some(true), Some(true)));
    assert_eq!(rules, (Some(false), "excluded by rule \"-n2\"".to_owned()));
    wait_for("four traces", Duration::from_secs(5), || one_each(&trace, &names([1, 3, 4, 5])));
    cluster.delete(&["/a13"]);
}

fn a14(cluster: &Cluster) {
    let trace = trace(cluster, "a14");
    cluster.apply_and_wait(&bucket("/a14", "steady", &trace, "multi_node: true"));
    let before = pids(&cluster.status("/a14"));
    cluster.apply_and_wait(&bucket(
        "/a14",
        "steady",
        &trace,
        "multi_node: true\nnode_list_rules: ['-n4', '-n5']",
    ));
    let status = cluster.wait_status("/a14", "runs on three", |status| affinity(status) == names(1..=3));
    wait_for("nothing of it is alive on n4 and n5", Duration::from_secs(20), || {
        let left: Vec<_> =
            [4, 5].into_iter().flat_map(|number| cluster.agent(number).programs("/a14")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let after = pids(&status);
    assert_eq!(after.len(), 3, "{status:#}");
    assert!(after.iter().all(|(node, pid)| before[node] == *pid), "without a restart: {before:?}, {after:?}");
    assert_eq!(trace.starts().len(), 5, "{:?}", trace.starts());
    cluster.delete(&["/a14"]);
}

fn a18(cluster: &Cluster) {
    let document = bucket("/a18", "single", &trace(cluster, "a18"), "multi_node: true");
    let refused = cluster.cli_with(&["bucket", "apply", "-f", "-"], document.as_bytes()).exits(1);
    refused.says(
        "stdin: Bucket /a18: multi_node: module single@1 says supports_multi_node: false; multi_node: false, or another \
         module",
    );
    cluster.cli(&["bucket", "status", "/a18"]).exits(3);
}
