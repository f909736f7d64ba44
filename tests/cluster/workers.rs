//! Jobs through workers: plugins' processes that take many subtasks each. Each attempt leaves a line in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sheaf_tests::{Cases, Cluster, need};

use crate::jobs::{job, over, soon, status, submit};
use crate::plugin::example;

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    for how in ["", "exit", "version"] {
        cluster.apply(&worker(cluster, how, ""));
    }
    cluster.apply(&worker(cluster, "", "FAULTY_JOB: 'not for me'").replace("faulty-worker", "unwilling"));
    cases.run("J13 5,000 subtasks through workers on 2 agents, one of which is killed, each once", || {
        thousands(cluster);
    });
    cases.run("what a worker's subtasks print is read from any node", || printed(cluster));
    cases.run("J11 a worker's subtask fails and is tried again", || retried(cluster));
    cases.run("J25 a worker's subtask takes too long, and a worker does not obey", || late(cluster));
    cases.run("J17 a canceled job stops its worker's subtasks", || canceled(cluster));
    cases.run("a worker that crashes, or never is ready, fails what it had, with why", || strange(cluster));
    cases.run("a short subtask does not wait behind a long one", || behind(cluster));
    cases.run("a restart of an agent costs a worker's subtasks no attempt", || restarted(cluster));
    cases.run("J13 a node is killed, and its workers' subtasks run elsewhere", || node_killed(cluster));
    cases.run("workers in Rust and in Python count words", || examples(cluster));
    cases.run("what makes no worker is refused", || refused(cluster));
}

fn trace(cluster: &Cluster) -> PathBuf {
    cluster.machine().path("worked")
}

/// The module `faulty-worker` for no argument, else `faulty-worker-HOW`.
fn worker(cluster: &Cluster, how: &str, env: &str) -> String {
    let program = env!("CARGO_BIN_EXE_faulty");
    let name = if how.is_empty() { "faulty-worker".to_owned() } else { format!("faulty-worker-{how}") };
    // Gate 3 is answered well, so that the worker itself shows what it does.
    format!(
        "kind: Module\nname: {name}\nversion: '1'\nruntime: plugin\nworker: true\n\
         exec: {{command: '{program}', args: ['{how}', worker], env: {{FAULTY_TRACE: '{}', {env}}}}}\n\
         restart: {{backoff: 100ms..400ms}}\nstop: {{grace: 500ms}}\n---\n",
        trace(cluster).display()
    )
}

/// What attempts of a job left behind: by subtask their numbers, and the processes that ran them, by node.
#[derive(Default)]
struct Traced {
    attempts: BTreeMap<u32, Vec<u32>>,
    processes: BTreeMap<String, BTreeSet<i32>>,
}

fn traced(cluster: &Cluster, name: &str) -> Traced {
    let text = fs::read_to_string(trace(cluster)).unwrap_or_default();
    let mut traced = Traced::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [job, subtask, attempt, node, pid] = words[..] else { continue };
        let (Ok(subtask), Ok(attempt), Ok(pid)) = (subtask.parse(), attempt.parse(), pid.parse()) else {
            continue;
        };
        if job == name {
            traced.attempts.entry(subtask).or_default().push(attempt);
            traced.processes.entry(node.to_owned()).or_default().insert(pid);
        }
    }
    traced
}

/// The cluster says that all of it finished, each ran, and no attempt ran twice.
fn reconciled(cluster: &Cluster, name: &str, count: usize) -> Traced {
    let status = over(cluster, name);
    assert_eq!(
        (&status["state"], &status["counts"]["finished"]),
        (&"finished".into(), &count.into()),
        "{status:#}"
    );
    let traced = traced(cluster, name);
    assert_eq!(traced.attempts.len(), count, "every subtask ran");
    for (subtask, numbers) in &traced.attempts {
        let once: BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(once.len(), numbers.len(), "an attempt of subtask {subtask} ran twice: {numbers:?}");
    }
    traced
}

fn subtask(cluster: &Cluster, name: &str, which: &str) -> Value {
    cluster.json(&["job", "subtasks", name, which, "-o", "json"])[0].clone()
}

fn message(row: &Value) -> &str {
    row["message"].as_str().unwrap_or_default()
}

fn thousands(cluster: &Cluster) {
    let more = "subtasks: {array: 0-4999}\nretry: {max_attempts: 5, backoff: 10ms..50ms}";
    submit(cluster, &job("worked", "faulty-worker", more));
    let victim = soon("some of it ran", || {
        let traced = traced(cluster, "worked");
        (traced.attempts.len() > 500).then(|| traced.processes.values().flatten().copied().next())
    });
    let victim = victim.and_then(Pid::from_raw).expect("a worker");
    // It may have ended: then nothing of the case is lost but its point, which is checked below.
    kill_process(victim, Signal::KILL).expect("it runs");
    let traced = reconciled(cluster, "worked", 5000);
    assert_eq!(traced.processes.len(), 2, "on both nodes");
    let processes: usize = traced.processes.values().map(BTreeSet::len).sum();
    assert!(processes == 3, "one for each node, and one instead of the one that was killed: {processes}");
    let tried: Vec<_> = traced.attempts.values().filter(|numbers| numbers.len() > 1).collect();
    assert!(tried.len() <= 1024, "only what it had in hand is run again: {}", tried.len());
}

fn printed(cluster: &Cluster) {
    submit(cluster, &job("printed", "faulty-worker", "subtasks: {items: [{do: say}, {do: ''}]}"));
    assert_eq!(over(cluster, "printed")["state"], "finished");
    for agent in cluster.agents() {
        let lines = agent.cli(&["job", "logs", "printed", "0"]).ok().stdout;
        assert!(lines.contains("one") && lines.contains("two"), "{lines}");
    }
    let none = cluster.cli(&["job", "logs", "printed", "1"]).ok().stdout;
    assert_eq!(none, "");
}

fn retried(cluster: &Cluster) {
    let more = "\
subtasks: {items: [{do: fail then well}, {do: 'no luck in /tmp/b9'}, {do: panic}]}
retry: {max_attempts: 3, backoff: 10ms..20ms}";
    submit(cluster, &job("tried", "faulty-worker", more));
    let status = over(cluster, "tried");
    assert_eq!((&status["state"], &status["counts"]["failed"]), (&"failed".into(), &2.into()), "{status:#}");
    assert_eq!(traced(cluster, "tried").attempts[&0], [1, 2, 3]);
    let row = subtask(cluster, "tried", "1");
    assert_eq!((message(&row), &row["attempt"]), ("no luck in /tmp/b9", &3.into()));
    assert!(row["fingerprint"].is_string() && row["exit_code"].is_null(), "{row:#}");
}

fn late(cluster: &Cluster) {
    let more = "\
subtasks: {items: [{do: hang}, {do: sleep, ms: 10}]}
timeout: 300ms
retry: {max_attempts: 2, backoff: 10ms..20ms}";
    submit(cluster, &job("late", "faulty-worker", more));
    let status = over(cluster, "late");
    assert_eq!(status["counts"]["failed"], 1, "{status:#}");
    let row = subtask(cluster, "late", "0");
    assert!(message(&row).contains("it ran for longer than 300ms"), "{row:#}");
    assert_eq!(traced(cluster, "late").processes.values().map(BTreeSet::len).max(), Some(1), "it obeyed");
    // One that keeps its whole process from answering is the end of that process, and of nothing else.
    let more =
        "subtasks: {items: [{do: stuck}]}\ntimeout: 300ms\nretry: {max_attempts: 2, backoff: 10ms..20ms}";
    submit(cluster, &job("stuck", "faulty-worker", more));
    let status = over(cluster, "stuck");
    assert_eq!(status["counts"]["failed"], 1, "{status:#}");
    let row = subtask(cluster, "stuck", "0");
    assert!(message(&row).contains("did not stop within 500ms, and its worker was killed"), "{row:#}");
}

fn canceled(cluster: &Cluster) {
    submit(
        cluster,
        &job("unending", "faulty-worker", "subtasks: {items: [{do: hang}, {do: stuck}, {do: hang}]}"),
    );
    soon("some of it runs", || (traced(cluster, "unending").attempts.len() >= 2).then_some(()));
    cluster.cli(&["job", "cancel", "unending"]).ok();
    let status = over(cluster, "unending");
    assert_eq!(
        (&status["state"], &status["counts"]["canceled"]),
        (&"canceled".into(), &3.into()),
        "{status:#}"
    );
}

fn strange(cluster: &Cluster) {
    let one = "subtasks: {items: [{do: crash}]}\nretry: {max_attempts: 2, backoff: 10ms..20ms}";
    submit(cluster, &job("crashed", "faulty-worker", one));
    assert_eq!(over(cluster, "crashed")["state"], "failed");
    let row = subtask(cluster, "crashed", "0");
    assert!(message(&row).contains("its worker ended: signal 6"), "{row:#}");
    assert!(message(&row).contains("famous last words"), "{row:#}");
    for (module, reason) in [
        ("faulty-worker-exit", "its worker ended: exit code 7; it said last: no mood today"),
        (
            "faulty-worker-version",
            "it speaks version 9 of sheaf.module.v1's protocol, this node speaks version 1",
        ),
        ("unwilling", "Work: not for me"),
    ] {
        let name = format!("of-{module}");
        submit(cluster, &job(&name, module, one));
        let status = over(cluster, &name);
        assert_eq!(status["state"], "failed", "{status:#}");
        let row = subtask(cluster, &name, "0");
        assert!(message(&row).contains(reason), "{module}: {row:#}");
    }
    // Nobody else was harmed.
    submit(cluster, &job("unharmed", "faulty-worker", "subtasks: {array: 0-99}"));
    reconciled(cluster, "unharmed", 100);
}

fn behind(cluster: &Cluster) {
    // Quick ones make bundles large; the long one among them holds up none of those that stand behind it.
    let mut items = vec!["{do: ''}"; 400];
    items[200] = "{do: sleep, ms: 20000}";
    let more = format!("subtasks: {{items: [{}]}}", items.join(", "));
    let begun = Instant::now();
    submit(cluster, &job("behind", "faulty-worker", &more));
    soon("all but the long one", || (status(cluster, "behind")["counts"]["finished"] == 399).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(19), "{:?}", begun.elapsed());
    cluster.cli(&["job", "cancel", "behind"]).ok();
    over(cluster, "behind");
    let traced = traced(cluster, "behind");
    assert!(traced.attempts.values().all(|numbers| numbers.len() == 1), "none was tried twice");
}

fn restarted(cluster: &Cluster) {
    let items = vec!["{do: sleep, ms: 40}"; 200].join(", ");
    let more = format!("subtasks: {{items: [{items}]}}\nretry: {{max_attempts: 1}}");
    submit(cluster, &job("handed", "faulty-worker", &more));
    soon("some of it ran", || (traced(cluster, "handed").attempts.len() > 10).then_some(()));
    let other = cluster.follower();
    assert_eq!(other.stop(), 0);
    other.start();
    cluster.wait_back(other);
    reconciled(cluster, "handed", 200);
}

fn node_killed(cluster: &Cluster) {
    let more = "subtasks: {array: 0-19999}\nretry: {max_attempts: 5, backoff: 10ms..50ms}";
    submit(cluster, &job("widow", "faulty-worker", more));
    soon("some of it ran", || (traced(cluster, "widow").attempts.len() > 300).then_some(()));
    let other = cluster.follower();
    other.kill();
    let left = traced(cluster, "widow").processes.remove(&other.name()).unwrap_or_default();
    soon("its worker ends with it", || {
        let alive = |pid: &i32| {
            Pid::from_raw(*pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
        };
        left.iter().all(|pid| !alive(pid)).then_some(())
    });
    other.start();
    cluster.wait_back(other);
    reconciled(cluster, "widow", 20_000);
}

fn examples(cluster: &Cluster) {
    let words = cluster.machine().path("words");
    fs::write(&words, "one two  three\nfour\n").expect("a file");
    let rust = format!("command: '{}'", example("word_counter").display());
    let python = need::python().map(|python| {
        let counter = need::example_file("python/word_counter.py");
        format!("command: '{}', args: [-B, '{}']", python.display(), counter.display())
    });
    if python.is_none() {
        need::skipped("python grpcio-tools (grpcio, grpcio-reflection, grpcio-tools, protobuf)");
    }
    let both = [("rust", Some(rust)), ("python", python)];
    for (name, exec) in both.into_iter().filter_map(|(name, exec)| Some((name, exec?))) {
        cluster.apply(&format!(
            "kind: Module\nname: words-{name}\nversion: '1'\nruntime: plugin\nworker: true\nexec: {{{exec}}}\n---\n"
        ));
        let file = words.display();
        let more = format!(
            "subtasks: {{items: [{{file: '{file}'}}, {{file: /no/such}}, {{file: '{file}'}}]}}\n\
             retry: {{max_attempts: 1}}"
        );
        let name = format!("words-{name}");
        submit(cluster, &job(&name, &name, &more));
        let status = over(cluster, &name);
        assert_eq!(status["counts"]["finished"], 2, "{status:#}");
        let lines = cluster.cli(&["job", "logs", &name, "2"]).ok().stdout;
        assert!(lines.contains("4 words"), "{lines}");
        let row = subtask(cluster, &name, "1");
        assert!(message(&row).contains("/no/such"), "{row:#}");
    }
}

fn refused(cluster: &Cluster) {
    let refused = |document: &str, parts: &[&str]| {
        cluster.cli_with(&["apply", "-f", "-"], document.as_bytes()).exits(1).mentions(parts).calm();
    };
    let module = "kind: Module\nname: wrong\nversion: '1'\nworker: true\n";
    refused(&format!("{module}exec: {{command: /bin/true}}\n"), &["worker", "only a plugin is a worker"]);
    refused(
        &format!("{module}runtime: plugin\nexec: {{command: /bin/true, args: ['${{item}}']}}\n"),
        &["exec.args[0]", "a worker is started without any subtask"],
    );
    refused(
        "kind: Bucket\nname: /a\nmodule: faulty-worker\n",
        &["faulty-worker@1 is for jobs", "worker: true"],
    );
    cluster.apply(
        "kind: Module\nname: no-worker\nversion: '1'\nruntime: plugin\nexec: {command: /bin/true}\n---\n",
    );
    let document = job("refused", "no-worker", "subtasks: {array: 0-1}");
    let output = cluster.cli_with(&["job", "submit", "-f", "-"], document.as_bytes());
    output.exits(1).mentions(&["no-worker@1 is plugin", "worker: true"]).calm();
}
