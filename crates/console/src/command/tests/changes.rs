//! What all changes have in common: they can be waited for, and say what they did in the format that is asked for.

use super::*;

/// Verbs that change something of a cluster.
const CHANGES: [&str; 24] = [
    "apply",
    "cancel",
    "create",
    "delete",
    "drain",
    "forget",
    "label",
    "move",
    "pause",
    "purge",
    "push",
    "reprioritize",
    "restart",
    "resume",
    "retry",
    "revoke",
    "rollback",
    "rotate",
    "set",
    "settings",
    "submit",
    "suspend",
    "transfer",
    "undrain",
];

#[test]
fn every_change_can_be_waited_for() {
    fn check(command: &clap::Command, path: &str, seen: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if CHANGES.contains(&command.get_name()) {
            let has = |name: &str| command.get_arguments().any(|argument| argument.get_id() == name);
            assert!(has("wait") && has("timeout"), "{path}");
            seen.push(command.get_name().to_owned());
        }
        command.get_subcommands().for_each(|below| check(below, &path, seen));
    }
    let mut seen = Vec::new();
    check(&Cli::command(), "", &mut seen);
    for verb in CHANGES {
        assert!(seen.iter().any(|name| name == verb), "{verb} is no verb any more");
    }
}

#[tokio::test]
async fn what_is_so_already_does_not_keep_anybody() {
    let bench = Bench::with(1).await;
    bench.write("backend.yaml", "kind: Backend\nname: vito\n");
    bench.write("job.yaml", "kind: Job\nname: ndvi\nmodule: flume\nsubtasks: {array: 0-9}\n");
    assert_eq!(bench.ran("job submit -f job.yaml").await.0, Exit::Done);
    for line in [
        "backend apply -f backend.yaml",
        "backend delete vito",
        "job pause ndvi",
        "job resume ndvi",
        "job reprioritize ndvi --priority 7",
        "node undrain import-01",
        "cluster settings lease.ttl=3s",
        "cluster transfer",
        "cluster token create --name ci --role viewer",
        "cluster token revoke ci",
        "job delete ndvi",
    ] {
        let (exit, _, talk) = bench.ran(&format!("{line} --wait --timeout 5s")).await;
        assert_eq!(exit, Exit::Done, "{line}: {talk}");
    }
}

#[tokio::test]
async fn what_is_not_so_in_time_is_said() {
    let bench = Bench::with(1).await;
    bench.write("job.yaml", "kind: Job\nname: ndvi\nmodule: flume\nsubtasks: {array: 0-9}\n");
    assert_eq!(bench.ran("job submit -f job.yaml").await.0, Exit::Done);
    for (line, said) in [
        ("cluster settings voters=5", "the time to wait is over; it goes on. 0 voters of 5"),
        ("job retry ndvi", "the time to wait is over: ndvi running"),
    ] {
        let (exit, _, talk) = bench.ran(&format!("{line} --wait --timeout 500ms")).await;
        assert_eq!((exit, talk.contains(said)), (Exit::TimedOut, true), "{line}: {talk}");
    }
    let (exit, _, talk) = bench.ran("job retry ndvi --dry-run --wait").await;
    assert_eq!(exit, Exit::Usage, "{talk}");
}

#[tokio::test]
async fn a_drain_says_how_it_is_followed_and_what_is_left_of_it() {
    let bench = Bench::with(1).await;
    let (exit, _, talk) = bench.ran("node drain import-01").await;
    let says = talk.contains("`sheaf node status import-01` what is left") && talk.contains("--wait");
    assert_eq!((exit, says), (Exit::Done, true), "{talk}");
    let (exit, _, talk) = bench.ran("node drain import-01 --wait --timeout 500ms").await;
    let says = talk.contains("On import-01: 1 bucket left: /logs/web");
    assert_eq!((exit, says), (Exit::TimedOut, true), "{talk}");
    bench.cluster.held().nameless = true;
    let (exit, _, talk) = bench.ran("node drain +12 --wait --timeout 100ms").await;
    let says = talk.contains("On +12: 1 bucket left: /logs/web");
    assert_eq!((exit, says), (Exit::TimedOut, true), "{talk}");
}

#[tokio::test]
async fn changes_of_the_cluster_say_what_they_did_in_every_format() {
    let bench = Bench::with(0).await;
    let snapshot = bench.place.path().join("snapshot").display().to_string();
    let program = bench.place.path().join("program").display().to_string();
    bench.write("program", "#!/bin/sh\n");
    for (line, key, value) in [
        ("cluster transfer --to c".to_owned(), "leader", "c"),
        ("cluster ca rotate".to_owned(), "outcome", "begun"),
        (format!("cluster snapshot save {snapshot}"), "cluster", "c1"),
        (format!("module push flume@1 {program}"), "outcome", "pushed"),
    ] {
        let (exit, data, talk) = bench.ran(&format!("{line} -o json")).await;
        assert_eq!(exit, Exit::Done, "{line}: {talk}");
        let said: serde_json::Value = serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}"));
        assert_eq!(said[key], value, "{line}: {data}");
        let (_, data, _) = bench.ran(&format!("{line} -o yaml")).await;
        assert!(data.lines().any(|line| line == format!("{key}: {value}")), "{line}: {data}");
    }
    assert_eq!(bench.ran("cluster transfer -o name").await.1, "b\n");
    assert_eq!(
        bench.ran(&format!("cluster snapshot save {snapshot} -o name")).await.1,
        format!("{snapshot}\n")
    );
    assert_eq!(bench.ran(&format!("module push flume@1 {program} -o name")).await.1, "flume@1\n");
    let (_, data, _) = bench.ran(&format!("module push flume@1 {program}")).await;
    assert!(data.starts_with("Module flume@1 pushed, sha256 "), "{data}");
}

#[tokio::test]
async fn documents_of_modules_can_be_applied_again() {
    let bench = Bench::new().await;
    let module = r#"
kind: Module
name: flume
version: '1.10'
runtime: exec
supports_multi_node: false
can_run_on_this_node: [{port_free: 5140}, {memory_available: 512MiB}]
exec: {command: /bin/sh, args: [-c, 'echo "$X: ${node.name}" # ü, $${X}']}
files: {a.conf: "one\n  two\n\n", b.conf: 'no'}
stop: {signal: INT, grace: 90s}
restart: {policy: always, backoff: 1s..5m, give_up_after: 5 in 10m}
config_schema: {type: object}
limits: {cpu: 0.5, memory: 1GiB}
user: flume
"#;
    bench.write("module.yaml", module);
    assert_eq!(bench.ran("apply -f module.yaml").await.0, Exit::Done);
    for line in ["module status flume@1.10 -o yaml", "module list -o yaml"] {
        let (exit, document, talk) = bench.ran(line).await;
        assert_eq!(exit, Exit::Done, "{talk}");
        let (exit, data, talk) = bench.ran_with("apply -f - -o json", &document).await;
        assert_eq!(exit, Exit::Done, "{document}{talk}");
        let rows: serde_json::Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(rows[0]["outcome"], "unchanged", "{document}");
        let (_, again, _) = bench.ran(line).await;
        assert_eq!(again, document);
    }
}

#[tokio::test]
async fn lists_of_jobs_backends_and_sinks_are_documents_that_can_be_applied_again() {
    let bench = Bench::new().await;
    for line in ["job list", "backend list", "sink list"] {
        let (exit, data, _) = bench.ran(&format!("{line} -o yaml")).await;
        assert_eq!((exit, data.as_str()), (Exit::Done, ""), "{line}");
    }
    let job = |name: &str, subtasks: &str| {
        format!("kind: Job\nname: {name}\nmodule: flume\nsubtasks: {subtasks}\nbackends: [vito]\n---\n")
    };
    let backend = |name: &str| format!("kind: Backend\nname: {name}\nmax_running: 5\n---\n");
    let sink = |name: &str| {
        format!("kind: Sink\nname: {name}\nwebhook: {{url: 'https://hooks.example.org/{name}'}}\n---\n")
    };
    let documents = [
        job("early", "{array: 0-9}"),
        job("late", "{items: [1, 2]}"),
        backend("vito"),
        backend("cdse"),
        sink("hook"),
        sink("ops"),
        MODULE.to_owned(),
    ];
    bench.write("all.yaml", &documents.concat());
    let (exit, _, talk) = bench.ran("apply -f all.yaml").await;
    assert_eq!(exit, Exit::Done, "{talk}");
    bench.write("late.jsonl", "1\n2\n");
    let items = "the 2 items of late are not printed: its document wants them in late.jsonl, beside it\n";
    for (line, said) in [
        ("job list", items),
        ("job status", items),
        ("backend list --limit 9", ""),
        ("sink status --all", ""),
    ] {
        let (exit, documents, talk) = bench.ran(&format!("{line} -o yaml")).await;
        assert_eq!((exit, talk.as_str()), (Exit::Done, said), "{line}");
        bench.write("again.yaml", &documents);
        let (exit, data, talk) = bench.ran("apply -f again.yaml").await;
        assert_eq!((exit, data.matches("unchanged").count()), (Exit::Done, 2), "{line}: {documents}{talk}");
    }
    assert_eq!(bench.cluster.held().jobs.len(), 2, "none twice");
}
