//! A data directory that an earlier Sheaf wrote, opened by this one: everything is there, and goes on.
//!
//! The folder `data` of the tests holds one for each version that is to be read, packed; its name says which version wrote it, and which schema its
//! store had. None is ever changed. A new one is written by the version that is about to be left, before the first change of what
//! lies on disk:
//!
//! ```text
//! SHEAF_BIN=/path/to/that/sheaf SHEAF_WRITE_DATA=sheaf-VERSION-schema-N cargo test --workspace --test cluster former
//! ```
//!
//! and its name added to [`KNOWN`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use sheaf_tests::jobs::{job, over, soon, submit};
use sheaf_tests::{Agent, Cases, Cluster, Machine, cli, wait_for};

/// What was written, oldest first.
const KNOWN: [&str; 1] = ["sheaf-0.1.0-schema-6"];
/// The key of its secrets; of nothing else.
const KEY: &str = "former.key";

/// One agent whose secrets are sealed with the key in `key`.
fn one(machine: &Arc<Machine>, prefix: &str, key: &Path) -> Cluster {
    Cluster::plan(machine, prefix, 1, |_, plan| {
        plan.name = "former".to_owned();
        plan.hostname = "former".to_owned();
        plan.more = format!("[secrets]\nkey_file = \"{}\"\n", key.display());
    })
}

pub(crate) fn run() {
    let machine = Arc::new(Machine::take());
    if let Some(name) = std::env::var("SHEAF_WRITE_DATA").ok().filter(|name| !name.is_empty()) {
        return write(&machine, &name);
    }
    let mut cases = Cases::of("former");
    for (number, name) in KNOWN.iter().enumerate() {
        cases.run(&format!("{name} opens, and all of it is there"), || opens(&machine, number, name));
    }
    cases.end();
}

fn packed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(format!("{name}.tar.gz"))
}

fn tar(args: &[&str]) {
    let output = Command::new("tar").args(args).output().expect("tar is everywhere");
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// What is there in the end: of each kind something, and of jobs every way to stand.
const DOCUMENTS: &str = "\
kind: Module
name: former
version: '1'
exec: {command: /bin/sh, args: [-c, 'echo epoch $SHEAF_EPOCH; exec sleep 100000'], env: {TOKEN: '${secret.former.token}'}}
---
kind: Module
name: does
version: '2'
exec: {command: /bin/sh, args: [-c, '${item.do}']}
---
kind: Module
name: counts
version: '1'
exec: {command: /bin/sleep, args: ['0.0${item}']}
---
kind: Module
name: brought
version: '1'
exec: {command: '${artifact}'}
---
kind: Bucket
name: /former/one
module: former
labels: {team: web}
owner: data-eng
---
kind: Bucket
name: /former/every
module: former
multi_node: true
---
kind: Bucket
name: /former/off
module: former
suspended: true
";

fn write(machine: &Arc<Machine>, name: &str) {
    let key = machine.path(KEY);
    cli::run(machine, &["secret", "keygen", text(&key)], b"").ok();
    let cluster = one(machine, "", &key);
    cluster.start_all();
    cluster.wait_ready();
    let agent = cluster.agent(1);
    agent.cli_with(&["secret", "set", "former.token"], b"hunter2").ok();
    cluster.apply_and_wait(DOCUMENTS);
    cluster
        .apply_and_wait("kind: Bucket\nname: /former/every\nmodule: former\nmulti_node: true\nowner: ops\n");
    let program = machine.path("program.sh");
    fs::write(&program, "#!/bin/sh\nexec sleep 100000\n").expect("a file");
    agent.cli(&["module", "push", "brought@1", text(&program)]).ok();
    agent.cli(&["cluster", "settings", "repair.after=7m", "gate_interval=45s"]).ok();
    agent.cli(&["node", "label", "former", "kept=yes"]).ok();
    let backend = "kind: Backend\nname: vito\nmax_running: 3\nbreaker: {failures: 2, pause: 1h..1h}\n\
                   config: {url: 'https://vito.example.org/'}\n";
    agent.cli_with(&["backend", "apply", "-f", "-"], backend.as_bytes()).ok();
    let more = "\
subtasks: {items: [{do: 'echo well'}, {do: 'echo no file /tmp/a7; exit 9'}, {do: 'echo no file /tmp/b8; exit 9'}, \
                   {do: 'exit 0', depends_on: [1]}, {do: 'exit 3'}]}
retry: {max_attempts: 2, backoff: 10ms..20ms}
backends: [vito]
priority: 60
request_id: former-1";
    submit(&cluster, &job("ended", "does", more));
    assert_eq!(over(&cluster, "ended")["state"], "failed");
    submit(&cluster, &job("well", "does", "subtasks: {items: [{do: 'echo one'}, {do: 'echo two'}]}"));
    assert_eq!(over(&cluster, "well")["state"], "finished");
    submit(&cluster, &job("long", "does", "subtasks: {items: [{do: 'sleep 100000'}]}\nmax_running: 1"));
    submit(&cluster, &job("after", "does", "subtasks: {items: [{do: 'echo at last'}]}\nafter: [long]"));
    submit(&cluster, &job("many", "counts", "subtasks: {array: 0-999}\npriority: 1\nmax_running: 1"));
    agent.cli(&["job", "pause", "many"]).ok();
    soon("it runs", || (sheaf_tests::jobs::status(&cluster, "long")["counts"]["running"] == 1).then_some(()));
    assert_eq!(agent.stop(), 0);
    agent.kill_machine();
    let dir = agent.dir();
    // Sockets and locks are made anew, and logs are no part of it.
    for name in ["sockets", "gates", "runner.log", "artifacts/unpacked", "artifacts/incoming"] {
        let path = dir.join(name);
        let _none = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
    fs::copy(&key, dir.join(KEY)).expect("it is there");
    let parent = dir.parent().expect("it has one");
    let own = dir.file_name().and_then(|name| name.to_str()).expect("a name");
    let (file, folder) = (packed(name), format!("s,^{own},former,"));
    fs::create_dir_all(file.parent().expect("it has one")).expect("a directory");
    let plain = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
    let how =
        ["--warning=no-file-ignored", "--transform", &folder, "-C", text(parent), "-czf", text(&file), own];
    tar(&[&plain[..], &how[..]].concat());
}

fn opens(machine: &Arc<Machine>, number: usize, name: &str) {
    let place = machine.path(&format!("unpacked.{number}"));
    fs::create_dir_all(&place).expect("a directory");
    tar(&["-xzf", text(&packed(name)), "-C", text(&place)]);
    let dir = place.join("former");
    let cluster = one(machine, &format!("o{number}-"), &dir.join(KEY));
    let agent = cluster.agent(1);
    agent.change(|plan| plan.dir = dir.clone());
    cluster.start_all();
    cluster.wait_ready();
    registered(&cluster);
    remembered(&cluster, agent);
    goes_on(&cluster);
    assert_eq!(agent.stop(), 0);
    // And what this version made of it is read again.
    agent.start();
    cluster.wait_ready();
    remembered(&cluster, agent);
    agent.kill_machine();
}

fn registered(cluster: &Cluster) {
    for bucket in ["/former/one", "/former/every"] {
        let status = cluster.wait_state(bucket, "running");
        assert_eq!(status["module"], "former@1", "{status:#}");
    }
    let one = cluster.status("/former/one");
    assert!(one["affinity_epoch"].as_u64() > Some(0), "{one:#}");
    assert_eq!(cluster.status("/former/off")["suspended"], true);
    let history = cluster.json(&["bucket", "history", "/former/every", "-o", "json"]);
    assert_eq!(history.as_array().map(Vec::len), Some(2), "{history:#}");
    let modules = cluster.cli(&["module", "list", "-o", "name"]).ok().stdout;
    assert_eq!(modules.lines().collect::<Vec<_>>(), ["brought@1", "counts@1", "does@2", "former@1"]);
    let pushed = cluster.json(&["module", "status", "brought@1", "-o", "json"]);
    assert!(pushed["artifact"]["digest"].is_string(), "{pushed:#}");
    assert!(cluster.cli(&["secret", "list", "-o", "name"]).ok().stdout.contains("former.token"));
    let settings = cluster.cli(&["cluster", "settings", "-o", "json"]).ok().stdout;
    for part in ["7m", "45s", "10000000"] {
        assert!(settings.contains(part), "{part}: {settings}");
    }
    let node = cluster.json(&["node", "status", "former", "-o", "json"]);
    assert!(node["labels"].to_string().contains("kept=yes"), "{node:#}");
    let backend = cluster.json(&["backend", "status", "vito", "-o", "json"]);
    assert_eq!((&backend["max_running"], &backend["name"]), (&3.into(), &"vito".into()), "{backend:#}");
}

fn remembered(cluster: &Cluster, agent: &Agent) {
    let status = sheaf_tests::jobs::status(cluster, "ended");
    let counts = ["finished", "failed", "canceled"].map(|state| status["counts"][state].as_u64());
    assert_eq!((&status["state"], counts), (&"failed".into(), [Some(1), Some(3), Some(1)]), "{status:#}");
    assert_eq!(status["failed_attempts"]["exit"], 6, "{status:#}");
    let groups: Vec<u64> = status["failures"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["subtasks"].as_u64())
        .collect();
    assert_eq!(groups, [2, 1], "{status:#}");
    let rows = cluster.json(&["job", "subtasks", "ended", "-o", "json"]);
    let row = |which: usize| &rows[which];
    assert_eq!(
        (&row(1)["exit_code"], &row(1)["attempt"], &row(1)["backend"]),
        (&9.into(), &2.into(), &"vito".into())
    );
    assert!(row(1)["message"].as_str().is_some_and(|text| text.contains("no file /tmp/a7")), "{rows:#}");
    assert!(agent.cli(&["job", "logs", "ended", "0"]).ok().stdout.contains("well"));
    let query = "SELECT count(*) AS n FROM attempts WHERE job = 'ended'";
    let counted = cluster.json(&["query", query, "-o", "json"]);
    assert!(counted.to_string().contains('7'), "{counted}");
    let events = cluster.cli(&["events", "--where", "subject=ended", "-o", "json"]).ok().json_lines();
    assert!(events.iter().any(|event| event["kind"] == "job.submitted"), "{events:?}");
    // The same request is the same job.
    let known = cluster.json(&["job", "list", "-o", "json"]);
    assert_eq!(known.as_array().map(Vec::len), Some(5), "{known:#}");
}

fn goes_on(cluster: &Cluster) {
    wait_for("what was lost is run again", std::time::Duration::from_secs(60), || {
        let status = sheaf_tests::jobs::status(cluster, "long");
        let tried: Option<u64> = status["failed_attempts"]["lost"].as_u64();
        let runs = status["counts"]["running"] == 1;
        if runs { Ok(()) } else { Err(format!("{tried:?} {status:#}")) }
    });
    let many = sheaf_tests::jobs::status(cluster, "many");
    assert_eq!((&many["state"], &many["priority"]), (&"paused".into(), &1.into()), "{many:#}");
    let waits = cluster.json(&["job", "explain", "after", "-o", "json"])["why"].clone();
    assert!(waits.to_string().contains("it waits for job long"), "{waits}");
    cluster.cli(&["job", "cancel", "long"]).ok();
    assert_eq!(over(cluster, "after")["state"], "canceled");
    submit(
        cluster,
        &job("new", "does", "subtasks: {items: [{do: 'exit 0'}, {do: 'exit 1'}]}\nretry: {max_attempts: 1}"),
    );
    let status: Value = over(cluster, "new");
    assert_eq!(status["counts"]["failed"], 1, "{status:#}");
    cluster.cli(&["job", "delete", "new", "--yes"]).ok();
}
