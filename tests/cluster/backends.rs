//! Backends: pools that subtasks are sent to, held to their limit, their rate and their breaker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_tests::jobs::{job, over, soon, submit};
use sheaf_tests::{Cases, Cluster};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("O11 no more subtasks at a time than a backend's limit, over all jobs and nodes", || {
        limit(cluster);
    });
    cases.run("no more subtasks are begun than a backend's rate", || rate(cluster));
    cases.run("a backend that fails in a row is left alone, and tried again", || breaker(cluster));
    cases.run("a backend is changed, shown and deleted, and what is wrong is refused", || documents(cluster));
}

fn apply(cluster: &Cluster, name: &str, more: &str) {
    let document = format!("kind: Backend\nname: {name}\n{more}\n");
    cluster.cli_with(&["backend", "apply", "-f", "-"], document.as_bytes()).ok();
}

fn backend(cluster: &Cluster, name: &str) -> Value {
    cluster.json(&["backend", "status", name, "-o", "json"])
}

fn limit(cluster: &Cluster) {
    apply(cluster, "narrow", "max_running: 1");
    let items = ["{do: sleep, ms: 60}"; 10].join(", ");
    for name in ["one", "two"] {
        let more = format!("subtasks: {{items: [{items}]}}\nbackends: [narrow]");
        submit(cluster, &job(name, "faulty-worker", &more));
    }
    let begun = Instant::now();
    let mut most = 0;
    let both = || ["one", "two"].map(|name| cluster.json(&["job", "status", name, "-o", "json"]));
    while both().iter().any(|status| status["state"] == "running") {
        let running = backend(cluster, "narrow")["running"].as_u64().unwrap_or_default();
        most = most.max(running);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(most, 1);
    // One after the other they take as long as all of them together.
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    let rows = cluster.json(&["job", "subtasks", "one", "-o", "json"]);
    assert!(
        rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["backend"] == "narrow")),
        "{rows:#}"
    );
}

fn rate(cluster: &Cluster) {
    apply(cluster, "slow", "rate: 10 in 1s");
    let begun = Instant::now();
    submit(cluster, &job("paced", "faulty-worker", "subtasks: {array: 0-34}\nbackends: [slow]"));
    assert_eq!(over(cluster, "paced")["counts"]["finished"], 35);
    assert!(begun.elapsed() > Duration::from_millis(2_000), "{:?}", begun.elapsed());
}

fn breaker(cluster: &Cluster) {
    apply(cluster, "broken", "breaker: {failures: 3, pause: 2s..4s}");
    let items = vec!["{do: backend}"; 40].join(", ");
    let more = format!(
        "subtasks: {{items: [{items}]}}\nbackends: [broken]\nmax_running: 2\nretry: {{max_attempts: 1}}"
    );
    submit(cluster, &job("unlucky", "faulty-worker", &more));
    let open = soon("its breaker opens", || {
        let row = backend(cluster, "broken");
        (row["state"] == "open").then_some(row)
    });
    assert!(open["message"].as_str().is_some_and(|text| text.contains("status 503")), "{open:#}");
    let explained = soon("that is why nothing runs", || {
        let explained = cluster.json(&["job", "explain", "unlucky", "-o", "json"]);
        explained["why"]
            .to_string()
            .contains("the breaker of backend broken is open until")
            .then_some(explained)
    });
    assert!(explained["why"].to_string().contains("status 503"), "{explained:#}");
    let failed = |cluster: &Cluster| {
        cluster.json(&["job", "status", "unlucky", "-o", "json"])["counts"]["failed"]
            .as_u64()
            .unwrap_or_default()
    };
    let before = failed(cluster);
    assert!(before < 10, "{before}");
    soon("it is tried again", || (failed(cluster) > before).then_some(()));
    // It takes subtasks as ever once one of them went well.
    apply(cluster, "broken", "breaker: {failures: 3, pause: 100ms..100ms}");
    let well = "subtasks: {items: [{do: ''}]}\nbackends: [broken]\npriority: 90";
    submit(cluster, &job("lucky", "faulty-worker", well));
    assert_eq!(over(cluster, "lucky")["state"], "finished");
    let kinds: BTreeMap<String, usize> = {
        let text = cluster.cli(&["events", "--where", "subject=broken", "-o", "json"]).ok().stdout;
        let mut kinds = BTreeMap::new();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            *kinds.entry(line["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        kinds
    };
    assert!(kinds.contains_key("backend.opened") && kinds.contains_key("backend.closed"), "{kinds:?}");
    cluster.cli(&["job", "cancel", "unlucky"]).ok();
    over(cluster, "unlucky");
}

fn documents(cluster: &Cluster) {
    apply(cluster, "plain", "max_running: 3\nrate: 5 in 1s\nconfig: {url: 'https://x'}\nlabels: {team: eo}");
    let yaml = cluster.cli(&["backend", "status", "plain", "-o", "yaml"]).ok().stdout;
    let again = cluster.cli_with(&["backend", "apply", "-f", "-"], yaml.as_bytes()).ok();
    assert!(again.stdout.contains("unchanged"), "{again}");
    let listed = cluster.json(&["backend", "list", "--where", "name=pl*", "-o", "json"]);
    assert_eq!((&listed[0]["name"], &listed[0]["max_running"]), (&"plain".into(), &3.into()), "{listed:#}");
    for (label, found) in [("team=eo", Some(1)), ("team=web", Some(0))] {
        for list in [&["backend", "list"][..], &["backend", "status"]] {
            let rows = cluster.json(&[list, &["-l", label, "-o", "json"]].concat());
            assert_eq!(rows.as_array().map(Vec::len), found, "{label}: {rows:#}");
        }
    }
    let refused = |document: &str, parts: &[&str]| {
        cluster
            .cli_with(&["backend", "apply", "-f", "-"], document.as_bytes())
            .exits(1)
            .mentions(parts)
            .calm();
    };
    refused("kind: Backend\nname: b\nmax_running: 0\n", &["Backend b", "max_running"]);
    refused("kind: Backend\nname: b\nlimit: 3\n", &["limit"]);
    refused("kind: Module\nname: m\nversion: '1'\nexec: {command: /bin/true}\n", &["is not of kind Backend"]);
    let unknown = job("lost", "faulty-worker", "subtasks: {array: 0-1}\nbackends: [plain, nowhere]");
    let output = cluster.cli_with(&["job", "submit", "-f", "-"], unknown.as_bytes());
    output.exits(1).mentions(&["backends[1]", "there is no backend nowhere", "plain"]).calm();
    submit(cluster, &job("holds", "faulty-worker", "subtasks: {items: [{do: hang}]}\nbackends: [plain]"));
    let output = cluster.cli(&["backend", "delete", "plain", "--yes"]);
    output.exits(1).mentions(&["used by jobs that are not over: holds"]).calm();
    cluster.cli(&["job", "cancel", "holds"]).ok();
    over(cluster, "holds");
    cluster.cli(&["backend", "delete", "plain", "--yes"]).ok();
    cluster.cli(&["backend", "status", "plain"]).exits(3);
}
