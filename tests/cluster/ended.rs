//! Jobs that are over, or never begin: what is said of them, what is kept of them, and how many subtasks they may have.

use std::path::PathBuf;

use serde_json::Value;
use sheaf_tests::jobs::{job, over, soon, submit};
use sheaf_tests::{Agent, Cases, Cluster};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("a job that has ended says what became of it, and asks no gate", || explained(cluster));
    cases.run("what is kept of a deleted job goes, also from a node that was away", || deleted(cluster));
    cases.run("a job has no more subtasks than the cluster allows", || limited(cluster));
    cases.run("jobs of one file come after one another in any order, and a cycle is told as one", || {
        ordered(cluster);
    });
}

fn explain(cluster: &Cluster, args: &[&str]) -> Value {
    cluster.json(&[&["job", "explain"], args, &["-o", "json"]].concat())
}

fn explained(cluster: &Cluster) {
    let more = "\
subtasks: {items: [{do: 'exit 0'}, {do: 'echo no file /tmp/a7; exit 9'}, {do: 'echo no file /tmp/b8; exit 9'}, \
                   {do: 'exit 0', depends_on: [1]}]}
retry: {max_attempts: 2, backoff: 10ms..20ms}";
    submit(cluster, &job("explained", "work", more));
    assert_eq!(over(cluster, "explained")["state"], "failed");
    let explained = explain(cluster, &["explained"]);
    assert_eq!(explained["nodes"], Value::Array(Vec::new()), "{explained:#}");
    let why = explained["why"].to_string();
    for part in [
        "all of its 4 subtasks have ended: 1 finished, 2 failed, 1 canceled",
        "the first attempt was granted at 20",
        "1 of the canceled were never begun",
        "attempts that failed, those that were tried again included: 4 exit",
        "2 failed alike: ",
        "no file /tmp/",
        "sheaf job subtasks explained --where",
    ] {
        assert!(why.contains(part), "{part}: {explained:#}");
    }
    let rows = cluster.json(&["job", "subtasks", "explained", "1", "-o", "json"]);
    let fingerprint = rows[0]["fingerprint"].as_str().expect("it failed").to_owned();
    assert!(why.contains(&fingerprint), "{fingerprint}: {why}");
    let of = |which: &str| explain(cluster, &["explained", which])["why"].to_string();
    assert!(of("0").contains("attempt 1 finished on node n"), "{}", of("0"));
    assert!(of("1").contains("the last of 2 that retry.max_attempts allows"), "{}", of("1"));
    assert!(of("3").contains("something that it depends on did not finish"), "{}", of("3"));
    let shown = cluster.cli(&["job", "explain", "explained"]).ok().stdout;
    assert!(shown.contains("2 failed alike") && !shown.contains("not asked"), "{shown}");
}

/// Where a node keeps what a job's attempts printed.
fn kept(agent: &Agent, id: &str) -> PathBuf {
    agent.dir().join("jobs").join(id)
}

fn deleted(cluster: &Cluster) {
    let items = vec!["{do: 'echo something; sleep 0.3'}"; 30].join(", ");
    submit(cluster, &job("printed", "work", &format!("subtasks: {{items: [{items}]}}")));
    let status = over(cluster, "printed");
    assert_eq!(status["state"], "finished", "{status:#}");
    let id = status["id"].to_string();
    for agent in cluster.agents() {
        assert!(kept(agent, &id).is_dir(), "{} ran some of it", agent.name());
    }
    let away = cluster.agents().iter().find(|agent| agent.name() != cluster.leader().name());
    let away = away.expect("another");
    assert_eq!(away.stop(), 0);
    let there = cluster.leader();
    there.cli(&["job", "delete", "printed", "--yes"]).ok();
    let others = || cluster.agents().iter().filter(|agent| agent.name() != away.name());
    soon("nothing of it is kept", || others().all(|agent| !kept(agent, &id).exists()).then_some(()));
    assert!(kept(away, &id).is_dir(), "it has not heard of it");
    away.start();
    cluster.wait_back(away);
    soon("nothing of it is kept where it was not heard of", || (!kept(away, &id).exists()).then_some(()));
}

fn limited(cluster: &Cluster) {
    cluster.cli(&["cluster", "settings", "jobs.max_subtasks=5"]).ok();
    let refused = |more: &str, parts: &[&str]| {
        let document = job("limited", "work", more);
        let output = cluster.cli_with(&["job", "submit", "-f", "-"], document.as_bytes());
        output.exits(1).mentions(parts).calm();
    };
    let remedy = "sheaf cluster settings jobs.max_subtasks=N";
    refused("subtasks: {array: 0-5}", &["has 6 subtasks, and a job may have 5", remedy]);
    let items = ["{do: 'exit 0'}"; 6].join(", ");
    refused(&format!("subtasks: {{items: [{items}]}}"), &["more than 5 subtasks", remedy]);
    // With something else it is told before anything is changed.
    for more in ["subtasks: {array: 0-5}", &format!("subtasks: {{items: [{items}]}}")] {
        let documents = format!("kind: Backend\nname: limited\n---\n{}", job("limited", "work", more));
        let output = cluster.cli_with(&["apply", "-f", "-"], documents.as_bytes());
        output.exits(1).mentions(&["stdin: Job limited: subtasks", "a job may have 5", remedy]).calm();
    }
    cluster.cli(&["backend", "status", "limited"]).exits(3);
    submit(cluster, &job("limited", "count", "subtasks: {array: 0-4}"));
    assert_eq!(over(cluster, "limited")["counts"]["finished"], 5);
    for wrong in ["0", "many", "100000001"] {
        let setting = format!("jobs.max_subtasks={wrong}");
        cluster.cli(&["cluster", "settings", &setting]).exits(1).mentions(&["jobs.max_subtasks"]).calm();
    }
    cluster.cli(&["cluster", "settings", "jobs.max_subtasks=10000000"]).ok();
    let kept = cluster.cli(&["cluster", "settings", "history.events=20000000", "history.age=60d"]).ok();
    assert!(kept.stdout.contains("20000000"), "{kept}");
    cluster.cli(&["cluster", "settings", "history.age=1m"]).exits(1).mentions(&["history.age"]).calm();
}

fn ordered(cluster: &Cluster) {
    let one = |name: &str, after: &str| {
        format!("---\n{}", job(name, "count", &format!("subtasks: {{array: 0-0}}\nafter: [{after}]")))
    };
    submit(cluster, &(one("late", "middle") + &one("middle", "early") + &one("early", "")));
    assert_eq!(over(cluster, "late")["state"], "finished");
    let ring = one("ring-a", "ring-b") + &one("ring-b", "ring-a");
    let output = cluster.cli_with(&["job", "submit", "-f", "-"], ring.as_bytes());
    output.exits(1).mentions(&["a cycle", "ring-a → ring-b → ring-a"]).calm();
    cluster.cli(&["job", "status", "ring-a"]).exits(3);
}
