//! Twenty nodes: Flume on the four import nodes, a web crawl on all the others.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use sheaf_tests::documents::example;
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::rollout;
use crate::scene::{affinity, explain, gates};

/// Where the example looks for Flume.
const FLUME: &str = "/opt/flume";
/// Nodes, and how many of them import.
const NODES: usize = 20;
const IMPORTS: usize = 4;

/// A program that stands at Flume's place: what it is called with must be what Flume would understand.
const STAND: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --conf-file) conf=$2;; --name) name=$2;; esac; shift; done
grep -q "^$name.sources = in$" "$conf" || { echo "no agent $name in $conf"; exit 1; }
echo "$SHEAF_NODE runs agent $name of $conf"
exec sleep 100000
"#;

/// Only the import nodes have Flume, and they allow nothing else. All of them are one machine here, so Flume stands in a
/// directory of each node, and the example looks there.
fn start() -> Cluster {
    let cluster = Cluster::start_with(NODES, |number, plan| {
        if number <= IMPORTS {
            plan.name = format!("import-{number:02}");
            plan.allow = vec!["flume".to_owned()];
            let program = plan.dir.with_file_name(format!("{}.opt/flume/bin/flume-ng", plan.name));
            fs::create_dir_all(program.parent().expect("it lies in bin")).expect("a directory can be made");
            fs::write(&program, STAND).expect("a file can be written in the test's own directory");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        } else {
            plan.name = format!("worker-{number:02}");
        }
        plan.dir = plan.dir.with_file_name(&plan.name);
        plan.hostname.clone_from(&plan.name);
    });
    assert_eq!(cluster.voters().len(), 5, "five voters from ten nodes up");
    cluster
}

fn names(imports: bool) -> BTreeSet<String> {
    let numbers = if imports { 1..=IMPORTS } else { IMPORTS + 1..=NODES };
    let kind = if imports { "import" } else { "worker" };
    numbers.map(|number| format!("{kind}-{number:02}")).collect()
}

#[test]
fn a16_a17_flume_on_four_of_twenty_the_web_crawl_on_the_rest() {
    let cluster = start();
    let place = cluster.machine().place().display().to_string();
    a16(&cluster, &place);
    a17(&cluster);
    both_and_gone(&cluster);
    let mut cases = Cases::of("twenty");
    rollout::cases(&mut cases, &cluster);
    cases.end();
}

/// As in the table: rules unset. What keeps the others out is that they have no Flume.
fn a16(cluster: &Cluster, place: &str) {
    let document = example("flume.yaml").replace(FLUME, &format!("{place}/${{node.name}}.opt/flume"));
    // A port for real sources is of no use here.
    let document: String = document
        .lines()
        .filter(|line| !line.starts_with("node_list_rules:"))
        .fold(String::new(), |all, line| all + line + "\n");
    assert!(document.contains(".opt/flume/bin/flume-ng"), "the example looks where Flume stands");
    cluster.apply(&document);
    let status = cluster.wait_status_within(
        "/logs/web",
        "runs on the import nodes",
        Duration::from_secs(60),
        |status| status["state"] == "running" && status["running"] == IMPORTS,
    );
    assert_eq!((affinity(&status), &status["desired"]), (names(true), &IMPORTS.into()));
    let explanation = explain(cluster, "/logs/web");
    for node in names(false) {
        let [local, rules, can_run] = gates(&explanation, &node);
        assert_eq!((local.0, rules.0, can_run.0), (Some(true), Some(true), Some(false)), "{node}");
        let reason = format!("{place}/{node}.opt/flume/bin/flume-ng does not exist");
        assert!(can_run.1.contains(&reason), "{node}: {}", can_run.1);
    }
    for node in names(true) {
        let said = format!("{node} | {node} runs agent a1 of ");
        wait_for(&format!("{node} says so"), Duration::from_secs(10), || {
            let logs = cluster.cli(&["bucket", "logs", "/logs/web", "--node", &node]).ok();
            if logs.stdout.contains(&said) { Ok(()) } else { Err(logs.to_string()) }
        });
    }
}

fn a17(cluster: &Cluster) {
    // The program is of no interest here, only where it runs.
    let document = "kind: Module\nname: webcrawl\nversion: '1'\nruntime: exec\nexec: {command: /bin/sleep, args: ['100000']}\n\
        ---\nkind: Bucket\nname: /crawl/site\ntype: harvest\nmodule: webcrawl@1\nmulti_node: true\n";
    cluster.apply(document);
    let status =
        cluster.wait_status_within("/crawl/site", "runs on the others", Duration::from_secs(60), |status| {
            status["state"] == "running" && status["running"] == NODES - IMPORTS
        });
    assert_eq!(affinity(&status), names(false));
    let explanation = explain(cluster, "/crawl/site");
    for node in names(true) {
        let [local, rules, _] = gates(&explanation, &node);
        let reason = "module \"webcrawl\" is not in this node's [modules] allow list (flume)";
        assert_eq!((local, rules.0), ((Some(false), reason.to_owned()), Some(true)), "{node}");
        assert!(cluster.named(&node).programs("/crawl/site").is_empty(), "{node} ignores it");
    }
}

fn both_and_gone(cluster: &Cluster) {
    let rows = cluster.json(&["node", "affinity", "-o", "json"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(NODES), "each node runs one of both: {rows:#}");
    cluster.delete(&["/logs/web", "/crawl/site"]);
}
