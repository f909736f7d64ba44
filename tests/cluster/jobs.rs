//! Jobs: real subtasks on real nodes, counted twice: by the cluster, and by a line that each attempt leaves in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sheaf_tests::jobs::{job, over, soon, status, submit};
use sheaf_tests::{Cases, Cluster};

/// Each attempt leaves a line `JOB SUBTASK ATTEMPT NODE`, then does what its item says.
fn module(cluster: &Cluster) -> String {
    let line = line(cluster);
    format!(
        "\
kind: Module
name: work
version: '1'
runtime: exec
exec:
  command: /bin/sh
  args:
    - -c
    - '{line}; ${{item.do}}'
stop: {{grace: 500ms}}
---
kind: Module
name: count
version: '1'
runtime: exec
exec:
  command: /bin/sh
  args: [-c, '{line}']
---
kind: Module
name: nowhere
version: '1'
runtime: exec
can_run_on_this_node: [{{file: /no/such/program}}]
exec: {{command: /bin/true}}
---
"
    )
}

pub(crate) fn trace(cluster: &Cluster) -> PathBuf {
    cluster.machine().path("attempts")
}

/// What a shell leaves that line by.
pub(crate) fn line(cluster: &Cluster) -> String {
    let words = "\"$SHEAF_JOB $SHEAF_SUBTASK $SHEAF_ATTEMPT $SHEAF_NODE\"";
    format!("echo {words} >> {}", trace(cluster).display())
}

/// How many subtasks run at a time.
pub(crate) fn slots(cluster: &Cluster) -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get) * cluster.agents().len()
}

/// An item whose subtask runs until there is this file.
fn until(gate: &Path) -> String {
    format!("{{do: 'until test -e {}; do sleep 0.1; done'}}", gate.display())
}

/// Submits a job of which each subtask is tried once.
fn submit_once(cluster: &Cluster, name: &str, module: &str, items: &[String]) {
    let items = items.join(", ");
    let once = format!("subtasks: {{items: [{items}]}}\nretry: {{max_attempts: 1}}");
    submit(cluster, &job(name, module, &once));
}

/// Submits one that takes every slot until there is this file; of how many subtasks.
pub(crate) fn fill(cluster: &Cluster, name: &str, module: &str, gate: &Path) -> usize {
    let count = slots(cluster);
    submit_once(cluster, name, module, &vec![until(gate); count]);
    count
}

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.apply(&module(cluster));
    cases.run("J1 J3 an array of 1,000 subtasks runs, each once, on several nodes", || array(cluster));
    cases.run("items reach their program, and what it prints is read from any node", || items(cluster));
    cases.run("J11 a failed attempt is tried again, and what fails for good is told", || retries(cluster));
    cases.run("a request_id is a job, and another body is refused", || same_request(cluster));
    cases.run("J9 subtasks and jobs come after what they depend on", || dependencies(cluster));
    cases.run("a canceled job ends what runs and starts nothing more", || canceled(cluster));
    cases.run("a paused job starts nothing until it is resumed", || paused(cluster));
    cases.run("a job that no node may run says why", || nowhere(cluster));
    cases.run("J19 a verb says what its dry run said, however far apart its subtasks", || apart(cluster));
    cases.run("a subtask has its module's limits, and runs as its user", || confined(cluster));
    cases.run("documents of every kind, applied together and again", || every_kind(cluster));
    cases.run("what subtasks do not get is refused, and a wrong job changes nothing", || refused(cluster));
    cases.run("J13 J16 nodes and the leader are killed, and every subtask has one success", || {
        killed(cluster);
    });
    cases.run("an agent's restart costs no attempt", || restarted(cluster));
    cases.run("what lies ready behind subtasks that take long runs where there is room", || behind(cluster));
}

/// Attempts of a job that left a line: by subtask, their numbers in order, and all nodes.
pub(crate) fn traced(cluster: &Cluster, name: &str) -> (BTreeMap<u32, Vec<u32>>, BTreeSet<String>) {
    let text = fs::read_to_string(trace(cluster)).unwrap_or_default();
    let (mut attempts, mut nodes): (BTreeMap<u32, Vec<u32>>, _) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines().filter_map(|line| line.strip_prefix(name)) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [subtask, attempt, node] = words[..] else { continue };
        let (Ok(subtask), Ok(attempt)) = (subtask.parse(), attempt.parse()) else { continue };
        attempts.entry(subtask).or_default().push(attempt);
        nodes.insert(node.to_owned());
    }
    (attempts, nodes)
}

fn array(cluster: &Cluster) {
    submit(cluster, &job("array", "count", "subtasks: {array: 0-999}"));
    let status = over(cluster, "array");
    assert_eq!(status["state"], "finished", "{status:#}");
    assert_eq!((&status["counts"]["finished"], &status["progress"]), (&1000.into(), &100.into()));
    let (attempts, nodes) = traced(cluster, "array");
    assert_eq!(attempts.len(), 1000);
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "each once");
    assert!(nodes.len() > 1, "on {nodes:?}");
    let rows = cluster.json(&["job", "subtasks", "array", "0-9", "-o", "json"]);
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row["state"] == "finished"), "{rows:#?}");
}

fn items(cluster: &Cluster) {
    let items = "subtasks: {items: [{do: 'echo one; echo two >&2'}, {do: 'cat item.json'}]}";
    submit(cluster, &job("items", "work", items));
    assert_eq!(over(cluster, "items")["state"], "finished");
    for agent in cluster.agents() {
        let lines = agent.cli(&["job", "logs", "items", "0"]).ok().stdout;
        assert!(lines.contains("one") && lines.contains("two"), "{lines}");
        let item = agent.cli(&["job", "logs", "items", "1"]).ok().stdout;
        assert!(item.contains("cat item.json"), "{item}");
    }
}

fn retries(cluster: &Cluster) {
    let more = "\
subtasks: {items: [{do: 'exit 0'}, {do: 'test $SHEAF_ATTEMPT = 3'}, {do: 'echo no file /tmp/a7; exit 9'}]}
retry: {max_attempts: 3, backoff: 10ms..20ms}";
    submit(cluster, &job("retries", "work", more));
    let status = over(cluster, "retries");
    assert_eq!(status["state"], "failed", "{status:#}");
    assert_eq!((&status["counts"]["finished"], &status["counts"]["failed"]), (&2.into(), &1.into()));
    let (attempts, _) = traced(cluster, "retries");
    assert_eq!(attempts.into_values().collect::<Vec<_>>(), [vec![1], vec![1, 2, 3], vec![1, 2, 3]]);
    let rows = cluster.json(&["job", "subtasks", "retries", "failed", "-o", "json"]);
    assert_eq!(
        (&rows[0]["subtask"], &rows[0]["exit_code"], &rows[0]["attempt"]),
        (&2.into(), &9.into(), &3.into())
    );
    assert!(rows[0]["message"].as_str().is_some_and(|it| it.contains("no file")), "{rows:#}");
    assert!(rows[0]["fingerprint"].is_string());
    // Tried again by an operator, it fails again, with attempts of new numbers.
    cluster.cli(&["job", "retry", "retries"]).ok();
    assert_eq!(over(cluster, "retries")["state"], "failed");
    let (attempts, _) = traced(cluster, "retries");
    assert_eq!(attempts[&2], [1, 2, 3, 4, 5, 6]);
}

fn same_request(cluster: &Cluster) {
    let first = job("once", "count", "subtasks: {array: 0-4}\nrequest_id: r-1");
    submit(cluster, &first);
    submit(cluster, &first);
    over(cluster, "once");
    submit(cluster, &first);
    assert_eq!(traced(cluster, "once").0.len(), 5);
    let other = job("once", "count", "subtasks: {array: 0-5}\nrequest_id: r-1");
    cluster
        .cli_with(&["job", "submit", "-f", "-"], other.as_bytes())
        .exits(6)
        .mentions(&["r-1", "other content"]);
}

fn dependencies(cluster: &Cluster) {
    let more = "\
subtasks: {items: [{do: 'exit 0', depends_on: [1]}, {do: 'sleep 0.2', depends_on: [2]}, {do: 'sleep 0.2'}, \
                {do: 'exit 1'}, {do: 'exit 0', depends_on: [3]}]}
retry: {max_attempts: 1}";
    submit(cluster, &job("chain", "work", more));
    submit(cluster, &job("follower", "count", "subtasks: {array: 0-0}\nafter: [chain]"));
    assert_eq!(over(cluster, "chain")["state"], "failed");
    let text = fs::read_to_string(trace(cluster)).unwrap_or_default();
    let order: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("chain ")?.split(' ').next()).collect();
    let at = |subtask: &str| order.iter().position(|it| *it == subtask);
    assert!(at("2") < at("1") && at("1") < at("0") && at("2").is_some(), "{order:?}");
    assert_eq!(at("4"), None, "what it depends on failed");
    assert_eq!(over(cluster, "follower")["state"], "canceled");
    let cycle =
        job("cycle", "work", "subtasks: {items: [{do: a, depends_on: [1]}, {do: b, depends_on: [0]}]}");
    cluster.cli_with(&["job", "submit", "-f", "-"], cycle.as_bytes()).exits(1).mentions(&["cycle", "0", "1"]);
}

fn canceled(cluster: &Cluster) {
    submit(cluster, &job("endless", "work", "subtasks: {items: [{do: 'sleep 1000'}, {do: 'sleep 1000'}]}"));
    soon("something of it runs", || (traced(cluster, "endless").0.len() == 2).then_some(()));
    cluster.cli(&["job", "cancel", "endless"]).ok();
    let status = over(cluster, "endless");
    assert_eq!(
        (&status["state"], &status["counts"]["canceled"]),
        (&"canceled".into(), &2.into()),
        "{status:#}"
    );
    cluster.cli(&["job", "delete", "endless"]).ok();
    cluster.cli(&["job", "status", "endless"]).exits(3);
}

fn paused(cluster: &Cluster) {
    submit(
        cluster,
        &job("slow", "work", "subtasks: {items: [{do: 'sleep 0.1'}]}\nmax_running: 1\npriority: 1"),
    );
    over(cluster, "slow");
    let items = vec!["{do: 'sleep 0.05'}"; 40].join(", ");
    submit(cluster, &job("pausing", "work", &format!("subtasks: {{items: [{items}]}}\nmax_running: 1")));
    soon("some of it ran", || (traced(cluster, "pausing").0.len() > 2).then_some(()));
    cluster.cli(&["job", "pause", "pausing"]).ok();
    let still = || {
        let status = status(cluster, "pausing");
        (status["counts"]["running"] == 0).then_some(status)
    };
    let before = soon("nothing of it runs", still);
    assert_eq!(before["state"], "paused");
    let explained = cluster.json(&["job", "explain", "pausing", "-o", "json"]);
    assert!(explained["why"].to_string().contains("paused"), "{explained:#}");
    assert_eq!(status(cluster, "pausing")["counts"], before["counts"]);
    cluster.cli(&["job", "resume", "pausing"]).ok();
    assert_eq!(over(cluster, "pausing")["counts"]["finished"], 40);
}

fn nowhere(cluster: &Cluster) {
    submit(cluster, &job("lost-cause", "nowhere", "subtasks: {array: 0-2}"));
    let explained = || {
        let explained = cluster.json(&["job", "explain", "lost-cause", "-o", "json"]);
        let refused = explained["nodes"].to_string().matches("/no/such/program").count();
        (refused == cluster.agents().len()).then_some(explained)
    };
    let explained = soon("every node's gates are told", explained);
    assert!(explained["why"].to_string().contains("no ready node may run it"), "{explained:#}");
    submit(cluster, &job("patient", "count", "subtasks: {array: 0-2}\nafter: [lost-cause]"));
    assert_eq!(status(cluster, "patient")["counts"]["waiting"], 3);
    for (how, rows) in [(["--state", "waiting"], 3), (["--state", "ready"], 0), (["--limit", "9"], 3)] {
        let listed = cluster.json(&[&["job", "subtasks", "patient", "-o", "json"][..], &how].concat());
        let waiting = listed.to_string().matches("\"waiting\"").count();
        assert_eq!((listed.as_array().map(Vec::len), waiting), (Some(rows), rows), "{listed:#}");
    }
    cluster.cli(&["job", "cancel", "lost-cause"]).ok();
    over(cluster, "lost-cause");
}

/// More places than one command holds.
fn apart(cluster: &Cluster) {
    submit(cluster, &job("apart", "nowhere", "subtasks: {array: 0-399999}"));
    let said = |verb: &[&str], more: &[&str], outcome: &str, subtasks: u64| {
        let row = cluster.json(&[&["job"][..], verb, &["-o", "json"], more].concat())[0].clone();
        assert_eq!((&row["outcome"], &row["subtasks"]), (&outcome.into(), &subtasks.into()), "{row:#}");
    };
    let some = ["reprioritize", "apart", "0-399999:2", "--priority", "60"];
    said(&some, &["--dry-run"], "would be reprioritized", 200_000);
    said(&some, &[], "reprioritized", 200_000);
    said(&["cancel", "apart"], &["--dry-run"], "would be canceled", 400_000);
    said(&["cancel", "apart"], &[], "canceled", 400_000);
    assert_eq!(over(cluster, "apart")["counts"]["canceled"], 400_000);
}

fn confined(cluster: &Cluster) {
    // Only root may run what belongs to somebody else.
    let (root, user) = (rustix::process::geteuid().is_root(), "user: nobody\n");
    cluster.apply(&format!(
        "kind: Module\nname: confined\nversion: '1'\nruntime: exec\n{}limits: {{open_files: 77}}\n\
         exec: {{command: /bin/sh, args: [-c, 'id -un; ulimit -n']}}\n---\n",
        if root { user } else { "" }
    ));
    submit(cluster, &job("confined", "confined", "subtasks: {array: 0-0}"));
    assert_eq!(over(cluster, "confined")["state"], "finished");
    let lines = cluster.cli(&["job", "logs", "confined", "0"]).ok().stdout;
    assert!(lines.contains("77") && (!root || lines.contains("nobody")), "{lines}");
}

fn every_kind(cluster: &Cluster) {
    let module = "kind: Module\nname: kinds\nversion: '1'\nruntime: exec\nexec: {command: /bin/true}\n";
    let backend = "kind: Backend\nname: kinds\nmax_running: 2\n";
    let sink = "kind: Sink\nname: kinds\nsuspended: true\nwebhook: {url: 'http://127.0.0.1:9/'}\n";
    let late =
        job("kinds-late", "kinds", "subtasks: {items: [{a: 1}, {a: 2}]}\nbackends: [kinds]\nafter: [kinds]");
    let early = job("kinds", "kinds", "subtasks: {array: 0-1}");
    let all = [late.as_str(), &early, sink, backend, module].join("---\n");
    let apply = |text: &str, more: &[&str]| {
        cluster.cli_with(&[&["apply", "-f", "-"], more].concat(), text.as_bytes())
    };
    // Nothing of it is there while anything is wrong with any of it.
    let wrong = all.replace("backends: [kinds]", "backends: [none]");
    apply(&wrong, &[])
        .exits(1)
        .mentions(&["stdin: Job kinds-late: backends[0]: there is no backend none"])
        .calm();
    for (noun, name) in [("module", "kinds@1"), ("backend", "kinds"), ("sink", "kinds"), ("job", "kinds")] {
        cluster.cli(&[noun, "status", name]).exits(3);
    }
    let outcomes = |again: &str| {
        let rows = apply(again, &["--wait", "--timeout", "120s", "-o", "json"]).ok().json();
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["outcome"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&all), ["created", "applied", "applied", "submitted", "submitted"]);
    assert_eq!(status(cluster, "kinds-late")["state"], "finished", "it was waited for");
    assert_eq!(outcomes(&all), ["unchanged"; 5]);
    let printed = cluster.cli(&["job", "status", "kinds", "-o", "yaml"]).ok().stdout;
    assert_eq!(outcomes(&printed), ["unchanged"]);
    let other = early.replace("0-1", "0-2");
    apply(&other, &[]).exits(6).mentions(&["there is a job of this name", "subtasks.array"]).calm();
    cluster.cli(&["sink", "delete", "kinds", "--yes"]).ok();
}

fn refused(cluster: &Cluster) {
    cluster.apply(
        "kind: Module\nname: asks\nversion: '1'\nruntime: plugin\nworker: true\n\
         secrets: ['${bucket.config.token}']\nexec: {command: /bin/true}\n---\n\
         kind: Module\nname: of-buckets\nversion: '1'\nruntime: exec\n\
         exec: {command: /bin/echo, args: ['${bucket.name}']}\n---\n",
    );
    let refused = |more: &str, parts: &[&str]| {
        let output = cluster.cli_with(&["job", "submit", "-f", "-"], more.as_bytes());
        output.exits(1).mentions(parts).calm();
    };
    let array = "subtasks: {array: 0-2}";
    refused(&job("a", "asks", array), &["asks@1", "its bucket's config say which secrets", "Job a"]);
    refused(&job("a", "of-buckets", array), &["of-buckets@1", "is for buckets"]);
    refused(&job("a", "no-such", array), &["no-such"]);
    refused(&job("a", "count", "subtasks: {array: 5-2}"), &["5-2"]);
    refused(&job("a", "count", "subtasks: {array: 0-20000000}"), &["20000001"]);
    refused(&job("a", "count", &format!("{array}\nretry: {{max_attempts: 0}}")), &["max_attempts"]);
    refused(&job("a", "count", &format!("{array}\nafter: [nothing]")), &["there is no job nothing"]);
    let bucket = "kind: Bucket\nname: /of/work\nmodule: work\n";
    cluster.cli_with(&["apply", "-f", "-"], bucket.as_bytes()).exits(1).mentions(&["work@1", "is for jobs"]);
    cluster.cli(&["job", "status", "a"]).exits(3);
    cluster.cli(&["job", "cancel", "array", "5000"]).exits(1).mentions(&["no subtask 5000"]);
    cluster.cli(&["job", "logs", "array", "5000"]).exits(3);
}

/// What the cluster says and what the attempts left behind is the same.
pub(crate) fn reconciled(cluster: &Cluster, name: &str, count: usize) {
    finished(cluster, name, count);
    ran(&traced(cluster, name).0, count);
}

/// The cluster says that all of it finished.
pub(crate) fn finished(cluster: &Cluster, name: &str, count: usize) {
    let status = over(cluster, name);
    assert_eq!(
        (&status["state"], &status["counts"]["finished"]),
        (&"finished".into(), &count.into()),
        "{status:#}"
    );
}

/// Each subtask has left attempts behind, and no attempt ran twice.
pub(crate) fn ran(attempts: &BTreeMap<u32, Vec<u32>>, count: usize) {
    assert_eq!(attempts.len(), count, "every subtask ran");
    for (subtask, numbers) in attempts {
        let once: BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(once.len(), numbers.len(), "an attempt of subtask {subtask} ran twice: {numbers:?}");
    }
}

fn killed(cluster: &Cluster) {
    let more = "subtasks: {array: 0-9999}\nretry: {max_attempts: 5, backoff: 10ms..50ms}";
    submit(cluster, &job("killed", "count", more));
    let done = |least: usize| {
        let some = || (traced(cluster, "killed").0.len() > least).then_some(());
        soon(&format!("more than {least} subtasks ran"), some);
    };
    done(200);
    let leader = cluster.leader();
    leader.kill_machine();
    done(traced(cluster, "killed").0.len() + 200);
    leader.start();
    cluster.wait_back(leader);
    let other = cluster.follower();
    other.kill();
    done(traced(cluster, "killed").0.len() + 200);
    other.start();
    cluster.wait_back(other);
    reconciled(cluster, "killed", 10_000);
}

fn restarted(cluster: &Cluster) {
    submit_once(cluster, "restarted", "work", &vec!["{do: 'sleep 0.05'}".to_owned(); 200]);
    soon("some of it ran", || (traced(cluster, "restarted").0.len() > 10).then_some(()));
    let other = cluster.follower();
    assert_eq!(other.stop(), 0);
    other.start();
    cluster.wait_back(other);
    // One attempt each may count: what was handed back did not.
    reconciled(cluster, "restarted", 200);
}

/// Among many that are done in no time some take long: as many as leave one slot of all.
fn behind(cluster: &Cluster) {
    let gate = cluster.machine().path("gate");
    let long = slots(cluster) - 1;
    let soon_done = |count: usize| vec!["{do: 'exit 0'}".to_owned(); count];
    let items = [soon_done(200), vec![until(&gate); long], soon_done(400)].concat();
    submit_once(cluster, "mixed", "work", &items);
    let others_done = || {
        let counts = &status(cluster, "mixed")["counts"];
        (counts["finished"] == 600 && counts["running"] == long).then_some(())
    };
    soon("all that is short is done while all that is long runs", others_done);
    fs::write(&gate, "").expect("a directory of the test's own");
    reconciled(cluster, "mixed", 600 + long);
}
