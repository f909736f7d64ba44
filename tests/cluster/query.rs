//! SQL over everything the cluster remembers, from any node, and what is found with it.

use serde_json::{Value, json};
use sheaf_tests::jobs::{job, over, submit};
use sheaf_tests::{Cases, Cluster};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("J18 failures are groups, each down to its attempts, in SQL and in the status", || {
        failures(cluster);
    });
    cases.run("J19 a condition says how many, then exactly those are tried again", || conditions(cluster));
    cases.run("a query answers from every node, at least as new as what was just done", || {
        everywhere(cluster);
    });
    cases.run("a query changes nothing, reads nothing else, and ends", || refused(cluster));
    cases.run("what becomes of a job is told by events", || events(cluster));
}

fn query(cluster: &Cluster, sql: &str) -> Value {
    cluster.json(&["query", sql, "-o", "json"])
}

/// 60 subtasks: 6 fail in one way, 4 in another, 2 in a third, each with words of its own.
fn failures(cluster: &Cluster) {
    let script = "n=${item.n}; if [ $n -lt 6 ]; then echo cannot read /data/$n.tif >&2; exit 3; fi; \
                  if [ $n -lt 10 ]; then echo tile $n is empty >&2; exit 4; fi; \
                  if [ $n -lt 12 ]; then echo no licence >&2; exit 5; fi";
    let module = format!(
        "kind: Module\nname: tiles\nversion: '1'\nruntime: exec\nexec: {{command: /bin/sh, args: [-c, '{script}']}}\n"
    );
    cluster.apply(&module);
    let items: Vec<String> = (0..60).map(|n| format!("{{n: {n}}}")).collect();
    let more =
        format!("retry: {{max_attempts: 2, backoff: 1ms..1ms}}\nsubtasks: {{items: [{}]}}", items.join(", "));
    submit(cluster, &job("tiles", "tiles", &more));
    let status = over(cluster, "tiles");
    assert_eq!(status["state"], "failed", "{status:#}");
    let groups = status["failures"].as_array().expect("groups");
    let sizes: Vec<u64> = groups.iter().filter_map(|group| group["subtasks"].as_u64()).collect();
    assert_eq!(sizes, [6, 4, 2], "{status:#}");

    let same = query(
        cluster,
        "SELECT fingerprint, count(*) AS n, min(message) AS message FROM failures WHERE job = 'tiles' GROUP BY 1 ORDER BY 2 DESC",
    );
    for (group, row) in groups.iter().zip(same.as_array().expect("rows")) {
        assert_eq!((&group["fingerprint"], &group["subtasks"]), (&row["fingerprint"], &row["n"]));
    }
    let one = format!(
        "SELECT subtask, attempt, state, class, retried, exit_code, node IS NOT NULL AS ran FROM attempts
         WHERE job = 'tiles' AND fingerprint = '{}' ORDER BY 1, 2",
        groups[2]["fingerprint"].as_str().expect("a fingerprint")
    );
    let row = |subtask: u32, attempt: u32| {
        json!({"subtask": subtask, "attempt": attempt, "state": "failed", "class": "exit",
               "retried": u32::from(attempt == 1), "exit_code": 5, "ran": 1})
    };
    assert_eq!(query(cluster, &one), json!([row(10, 1), row(10, 2), row(11, 1), row(11, 2)]));
    assert_eq!(
        query(cluster, "SELECT state, count(*) AS n FROM attempts WHERE job = 'tiles' GROUP BY 1 ORDER BY 1"),
        json!([{"state": "failed", "n": 24}, {"state": "finished", "n": 48}])
    );
}

fn conditions(cluster: &Cluster) {
    let condition = "state = 'failed' AND exit_code = 4";
    let rows = cluster.json(&["job", "subtasks", "tiles", "--where", condition, "-o", "json"]);
    let numbers: Vec<u64> =
        rows.as_array().expect("rows").iter().filter_map(|row| row["subtask"].as_u64()).collect();
    assert_eq!(numbers, [6, 7, 8, 9]);
    let dry = cluster.json(&["job", "retry", "tiles", "--where", condition, "--dry-run", "-o", "json"]);
    assert_eq!((&dry[0]["subtasks"], &dry[0]["outcome"]), (&json!(4), &json!("would be retried")));
    assert_eq!(over(cluster, "tiles")["counts"]["failed"], 12, "a dry run changes nothing");
    let real = cluster.json(&["job", "retry", "tiles", "--where", condition, "-o", "json"]);
    assert_eq!((&real[0]["subtasks"], &real[0]["outcome"]), (&json!(4), &json!("retried")));
    over(cluster, "tiles");
    assert_eq!(
        query(
            cluster,
            "SELECT subtask, max(attempt) AS n FROM attempts WHERE job = 'tiles' AND exit_code = 4 GROUP BY 1"
        ),
        json!([{"subtask": 6, "n": 4}, {"subtask": 7, "n": 4}, {"subtask": 8, "n": 4}, {"subtask": 9, "n": 4}])
    );
    let none = cluster.json(&["job", "retry", "tiles", "6-9", "--where", "exit_code = 3", "-o", "json"]);
    assert_eq!(none[0]["outcome"], "unchanged");
    for (bad, said) in [
        ("state = 'failed", "where: "),
        ("nme = 1", "no such column: nme"),
        ("1; DELETE FROM main.jobs", "where: "),
    ] {
        cluster.cli(&["job", "retry", "tiles", "--where", bad]).exits(1).mentions(&[said]);
    }
}

fn everywhere(cluster: &Cluster) {
    for (place, agent) in cluster.agents().iter().enumerate() {
        let name = format!("seen-{place}");
        submit(cluster, &job(&name, "tiles", "subtasks: {items: [{n: 100}, {n: 101}]}"));
        let sql = format!("SELECT subtasks FROM jobs WHERE name = '{name}'");
        let rows = agent.cli(&["query", &sql, "-o", "json"]).ok().json();
        assert_eq!(rows, json!([{"subtasks": 2}]), "at once, on each node");
    }
    let nodes = query(cluster, "SELECT count(*) AS n FROM nodes WHERE status = 'ready'");
    assert_eq!(nodes, json!([{"n": cluster.agents().len()}]));
    let table = cluster.cli(&["query", "SELECT name, subtasks FROM jobs WHERE name = 'tiles'"]).ok();
    assert_eq!(table.stdout, "NAME   SUBTASKS\ntiles        60\n");
    let tables = cluster.cli(&["query", "--tables"]).ok();
    assert!(tables.stdout.contains("fingerprint"), "{tables}");
}

fn refused(cluster: &Cluster) {
    for (sql, said) in [
        ("DELETE FROM main.jobs", "sql: DELETE FROM jobs: queries change nothing"),
        ("ATTACH '/tmp/x' AS x", "sql: ATTACH and DETACH cannot be used"),
        ("PRAGMA user_version", "sql: PRAGMA user_version cannot be used"),
        ("SELECT 1; SELECT 2", "sql: the query goes on after its first statement"),
        ("SELECT load_extension('/tmp/x')", "sql: the function load_extension cannot be used"),
        ("SELECT * FROM secrets", "sql: secrets cannot be read; there are nodes"),
        ("SELEC", "syntax error (at byte 0)"),
    ] {
        cluster.cli(&["query", sql]).exits(1).mentions(&[said]);
    }
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    cluster.cli(&["query", endless, "--timeout", "300ms"]).exits(1).mentions(&["longer than it may"]);
    let cut = cluster.cli(&["query", "SELECT * FROM events", "--limit", "2", "-o", "name"]).ok();
    assert_eq!(cut.stdout.lines().count(), 2);
    cut.mentions(&["there are more than 2 rows: the answer is cut off; --limit asks for more"]);
    cluster.cli(&["query", "SELECT 1", "--limit", "0"]).exits(2);
}

fn events(cluster: &Cluster) {
    submit(
        cluster,
        &job("told", "tiles", "subtasks: {items: [{n: 0}]}\nretry: {max_attempts: 1, backoff: 1ms..1ms}"),
    );
    over(cluster, "told");
    let steps = cluster.cli(&["events", "--subtasks", "--where", "subject=told,kind=subtask", "-o", "json"]);
    let steps = steps.ok();
    let unsaid = cluster.cli(&["events", "--where", "subject=told,kind=subtask", "-o", "json"]).ok();
    assert_eq!(unsaid.stdout, steps.stdout, "the kind says it");
    let steps = steps.json_lines();
    let kinds: Vec<&str> = steps.iter().filter_map(|step| step["kind"].as_str()).collect();
    assert_eq!(kinds, ["subtask.granted", "subtask.failed"], "{steps:#?}");
    assert_eq!(
        steps[1]["actor"],
        format!("node:{}", steps[0]["node"].as_str().expect("a node")),
        "{steps:#?}"
    );
    cluster.cli(&["job", "reprioritize", "told", "--priority", "70"]).ok();
    cluster.cli(&["job", "delete", "told", "--yes"]).ok();
    let rows =
        query(cluster, "SELECT kind, after, actor FROM events WHERE subject = 'told' ORDER BY revision, n");
    let rows = rows.as_array().expect("rows");
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["kind"].as_str()).collect();
    assert_eq!(
        kinds,
        ["job.submitted", "job.started", "job.failed", "job.reprioritized", "job.deleted"],
        "{rows:#?}"
    );
    assert_eq!(rows[2]["after"], "failed");
    assert!(rows.iter().all(|row| row["actor"].as_str().is_some_and(|actor| !actor.is_empty())));
    let listed = cluster.cli(&["events", "--where", "subject=told", "-o", "json"]).ok();
    assert_eq!(listed.stdout.lines().count(), 5);
}
