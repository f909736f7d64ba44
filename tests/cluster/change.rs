//! Buckets that are changed, switched and based on something old.

use std::collections::BTreeSet;
use std::time::Duration;

use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::wait::watch_for;
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::load::{apply_each, put_large};
use crate::multi::config;
use crate::scene::{affinity, epoch, names, only_node, pids, revision, texts, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A23 the same again changes nothing", || a23(cluster));
    cases.run("A24 based on an old revision", || a24(cluster));
    cases.run("A25 a changed config restarts once", || a25(cluster));
    cases.run("A26 suspended and resumed", || a26(cluster));
    cases.run("A27 single-node becomes multi-node", || a27(cluster));
    cases.run("a restart that is asked for happens once everywhere", || restarted(cluster));
    cases.run("a deleted bucket leaves nothing, and may be created again", || deleted(cluster));
    cases.run("the history of a large document is more than one answer holds", || large(cluster));
}

fn a23(cluster: &Cluster) {
    let trace = trace(cluster, "a23");
    let document = bucket("/a23", "steady", &trace, "multi_node: true");
    cluster.apply_and_wait(&document);
    let before = cluster.status("/a23");
    let again =
        cluster.cli_with(&["apply", "-f", "-", "--wait", "-o", "json"], document.as_bytes()).ok().json();
    assert_eq!(again[0]["outcome"], "unchanged", "{again:#}");
    // What `-o yaml` prints is the same document.
    let printed = cluster.cli(&["bucket", "status", "/a23", "-o", "yaml"]).ok().stdout;
    let again =
        cluster.cli_with(&["apply", "-f", "-", "--wait", "-o", "json"], printed.as_bytes()).ok().json();
    assert_eq!(again[0]["outcome"], "unchanged", "{again:#}");
    let after = cluster.status("/a23");
    assert_eq!((revision(&after), pids(&after)), (revision(&before), pids(&before)));
    assert_eq!(trace.starts().len(), cluster.agents().len());
    cluster.delete(&["/a23"]);
}

fn a24(cluster: &Cluster) {
    let trace = trace(cluster, "a24");
    cluster.apply(&bucket("/a24", "steady", &trace, "owner: first"));
    let old = revision(&cluster.status("/a24"));
    cluster.apply(&bucket("/a24", "steady", &trace, "owner: second"));
    let new = revision(&cluster.status("/a24"));
    assert!(new > old, "{new} after {old}");
    let stale = bucket("/a24", "steady", &trace, &format!("owner: third\nrevision: {old}"));
    let refused = cluster.cli_with(&["apply", "-f", "-"], stale.as_bytes()).exits(6).calm();
    let sentence = format!("bucket /a24 is at revision {new}, not at {old}");
    assert!(refused.stderr.contains(&sentence), "{refused}");
    let plain = bucket("/a24", "steady", &trace, "owner: third");
    let old = old.to_string();
    let refused = cluster.cli_with(&["apply", "-f", "-", "--if-revision", &old], plain.as_bytes()).exits(6);
    assert!(refused.stderr.contains(&sentence), "{refused}");
    cluster.cli(&["bucket", "suspend", "/a24", "--if-revision", &old]).exits(6).mentions(&[&sentence]);
    cluster
        .cli(&["bucket", "delete", "--yes", "/a24", "--if-revision", &old])
        .exits(6)
        .mentions(&[&sentence]);
    let status = cluster.status("/a24");
    assert_eq!((revision(&status), &status["owner"]), (new, &"second".into()), "nothing changed");
    let good = cluster.cli_with(&["apply", "-f", "-", "--if-revision", &new.to_string()], plain.as_bytes());
    good.ok();
    cluster.delete(&["/a24"]);
}

fn a25(cluster: &Cluster) {
    let trace = trace(cluster, "a25");
    cluster.apply_and_wait(&bucket(
        "/a25",
        "steady",
        &trace,
        &format!("multi_node: true\n{}", config(&trace, 1)),
    ));
    let before = cluster.status("/a25");
    cluster.apply_and_wait(&bucket(
        "/a25",
        "steady",
        &trace,
        &format!("multi_node: true\n{}", config(&trace, 2)),
    ));
    let wanted = revision(&cluster.status("/a25"));
    let each = |trace: &Trace| {
        let twice = names(1..=cluster.agents().len()).iter().all(|name| trace.on(name).len() == 2);
        if twice { Ok(()) } else { Err(format!("{:?}", trace.starts())) }
    };
    wait_for("two starts on each node", Duration::from_secs(20), || each(&trace));
    watch_for("restarted once only", Duration::from_millis(700), || each(&trace));
    let latest: Vec<u64> = names(1..=cluster.agents().len())
        .iter()
        .filter_map(|name| Some(trace.on(name).last()?.revision))
        .collect();
    assert!(latest.iter().all(|found| *found == wanted), "{latest:?} is {wanted}");
    let after = cluster.status("/a25");
    assert!(pids(&before).iter().all(|(node, pid)| pids(&after)[node] != *pid), "{after:#}");
    let history = cluster.json(&["bucket", "history", "/a25", "-o", "json"]);
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history:#}");
    assert_eq!(history[0]["changed"], serde_json::json!(["config.value"]), "{history:#}");
    cluster.delete(&["/a25"]);
}

fn a26(cluster: &Cluster) {
    let trace = trace(cluster, "a26");
    cluster.apply_and_wait(&bucket("/a26", "steady", &trace, ""));
    let before = cluster.status("/a26");
    cluster.cli(&["bucket", "suspend", "/a26", "--wait"]).ok();
    let off = cluster.status("/a26");
    assert_eq!((&off["state"], &off["suspended"]), (&"suspended".into(), &true.into()));
    assert!(
        affinity(&off).is_empty() && off["affinity_epoch"].is_null(),
        "the affinity is released: {off:#}"
    );
    assert!(cluster.agents().iter().all(|agent| agent.programs("/a26").is_empty()), "nothing of it is alive");
    // Applying it as it is leaves the switch.
    cluster.apply(&bucket("/a26", "steady", &trace, "owner: me"));
    assert_eq!(cluster.status("/a26")["suspended"], true);
    cluster.cli(&["bucket", "resume", "/a26", "--wait"]).ok();
    let after = cluster.status("/a26");
    assert!(epoch(&after) > epoch(&before), "{} after {}", epoch(&after), epoch(&before));
    cluster.delete(&["/a26"]);
}

fn a27(cluster: &Cluster) {
    let trace = trace(cluster, "a27");
    cluster.apply_and_wait(&bucket("/a27", "steady", &trace, ""));
    let before = cluster.status("/a27");
    let node = only_node(&before);
    cluster.apply_and_wait(&bucket("/a27", "steady", &trace, "multi_node: true"));
    let all = cluster.agents().len();
    let status = cluster.wait_status("/a27", "runs everywhere", |status| status["running"] == all);
    assert_eq!(affinity(&status), names(1..=all));
    assert_eq!(pids(&status)[&node], pids(&before)[&node], "the first instance was not interrupted");
    assert_eq!(trace.on(&node).len(), 1, "{:?}", trace.starts());
    cluster.delete(&["/a27"]);
}

fn restarted(cluster: &Cluster) {
    let trace = trace(cluster, "again");
    cluster.apply_and_wait(&bucket("/again", "steady", &trace, "multi_node: true"));
    cluster.cli(&["bucket", "restart", "/again", "--wait"]).ok();
    let all = cluster.agents().len();
    let each = || {
        let twice = names(1..=all).iter().all(|name| trace.on(name).len() == 2);
        if twice { Ok(()) } else { Err(format!("{:?}", trace.starts())) }
    };
    wait_for("two starts on each node", Duration::from_secs(20), each);
    watch_for("restarted once only", Duration::from_millis(700), each);
    cluster.cli(&["bucket", "suspend", "/again", "--wait"]).ok();
    let refused = cluster.cli(&["bucket", "restart", "/again"]).exits(1).calm();
    assert!(refused.stderr.contains("/again") && refused.stderr.contains("suspended"), "{refused}");
    cluster.delete(&["/again"]);
}

fn deleted(cluster: &Cluster) {
    let trace = trace(cluster, "deleted");
    let document = bucket("/gone", "steady", &trace, "");
    cluster.apply_and_wait(&document);
    let before = cluster.status("/gone");
    cluster.delete(&["/gone"]);
    cluster.cli(&["bucket", "status", "/gone"]).exits(3).calm();
    cluster.cli(&["bucket", "delete", "--yes", "/gone"]).exits(3).calm();
    let history = cluster.json(&["bucket", "history", "/gone", "-o", "json"]);
    assert_eq!(history.as_array().map(Vec::len), Some(1), "history stays: {history:#}");
    cluster.apply_and_wait(&document);
    let after = cluster.status("/gone");
    assert!(
        epoch(&after) > epoch(&before),
        "an epoch only grows: {} after {}",
        epoch(&after),
        epoch(&before)
    );
    cluster.delete(&["/gone"]);
}

fn large(cluster: &Cluster) {
    const REVISIONS: usize = 45;
    // By the agent that is asked below.
    let owners = (0..REVISIONS).map(|number| format!("o{number}"));
    let puts = owners.map(|owner| put_large(cluster, "/large/history", &owner, 400_000));
    apply_each(cluster.agent(1), puts);
    let history = |args: &[&str]| -> Vec<(u64, BTreeSet<String>)> {
        let rows = cluster.json(&[&["bucket", "history", "/large/history", "-o", "json"], args].concat());
        rows.as_array().into_iter().flatten().map(|row| (revision(row), texts(&row["changed"]))).collect()
    };
    let all = history(&[]);
    assert_eq!(all.len(), REVISIONS, "{all:?}");
    let (oldest, later) = all.split_last().expect("they are there");
    assert!(oldest.1.is_empty() && later.iter().all(|row| row.1.iter().eq(["owner"])), "{all:?}");
    assert_eq!(history(&["--all"]), all);
    assert_eq!(history(&["--limit", "7"]), all[..7]);
    let owner = || cluster.status("/large/history")["owner"].clone();
    cluster.cli(&["bucket", "rollback", "/large/history", "--to", &oldest.0.to_string()]).ok();
    assert_eq!(owner(), "o0");
    cluster.cli(&["bucket", "rollback", "/large/history"]).ok();
    assert_eq!(owner(), "o44", "what it was before it went back");
    let refused = cluster.cli(&["bucket", "rollback", "/large/history", "--to", "1"]).exits(3).calm();
    refused.mentions(&["was not changed at revision 1", &all[0].0.to_string()]);
    cluster.delete(&["/large/history"]);
}
