//! Modules that are no plugins and are told of their bucket's life by commands.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::wait::watch_for;
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::plugin::{bucket, count, lines, wait_gone, wait_line};
use crate::scene::{epoch, only_node, pids};

/// Silence until the lease is surely over, and time to place and start on a busy machine.
const FAILOVER: Duration = Duration::from_secs(30);

/// Says its file when it starts and when it gets SIGHUP.
const PROGRAM: &str = "\
kind: Module
name: told
version: '1'
runtime: exec
exec:
  command: /bin/sh
  args:
    - -c
    - 'trap \"cat conf\" HUP; trap \"exit 0\" TERM; echo started; cat conf; while :; do sleep 0.05; done'
files: {conf: \"port ${bucket.config.port}\\n\"}
restart: {policy: on_failure, backoff: 100ms..100ms, give_up_after: 1 in 1m}
stop: {grace: 5s}
life_cycle:
  on_new_source: {command: [/bin/sh, -c, 'echo new source; cat conf; exit ${bucket.config.start}']}
  on_resume: {command: [/bin/sh, -c, 'echo resumed']}
  on_updated_source:
    command:
      - /bin/sh
      - -c
      - 'cat \"$SHEAF_CHANGE\"; echo; kill -HUP $SHEAF_PID; echo no such port; exit ${bucket.config.update}'
  on_periodic_poll: {command: [/bin/sh, -c, 'echo polled; sleep 0.3; echo away; exit ${bucket.config.poll}']}
  on_suspend: {command: [/bin/sh, -c, 'echo suspended']}
  on_purge: {command: [/bin/sh, -c, 'echo purged; exit ${bucket.config.purge}']}
  on_delete: {command: [/bin/sh, -c, 'echo -n deleted >> ${bucket.config.word}.$SHEAF_NODE']}
  on_decommission: {command: [/bin/sh, -c, 'echo -n decommissioned >> ${bucket.config.word}.$SHEAF_NODE']}
  on_stop: {command: [/bin/sh, -c, 'echo stopping $SHEAF_PID']}
---
";

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.apply(PROGRAM);
    cases.run("A25 a command tells a program of a change, and it goes on", || a25(cluster));
    cases.run("A26 commands tell that a bucket is suspended, and resumes", || a26(cluster));
    cases.run("A31 A32 A33 a command polls where the bucket runs", || a31(cluster));
    cases.run("a bucket is purged where it runs, once, also by a node that was away", || purge(cluster));
    cases.run("a command before the start fails, or takes too long", || failing(cluster));
    cases.run("commands tell that a bucket leaves the node, or is deleted, also if nothing ran", || {
        farewells(cluster);
    });
    cases.run("a document's life_cycle is wrong", || documents(cluster));
}

/// What a bucket of `told` is told.
fn config(cluster: &Cluster, bucket: &str, change: &str) -> String {
    let word = cluster.machine().path(&format!("told{}", bucket.replace('/', "+")));
    let usual = [("port", "1"), ("start", "0"), ("update", "0"), ("poll", "0"), ("purge", "0")];
    let fields = usual.map(|(name, value)| {
        let changed = change.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
        format!("{name}: {}", changed.unwrap_or(value))
    });
    format!("{{{}, word: '{}'}}", fields.join(", "), word.display())
}

fn told(cluster: &Cluster, name: &str, change: &str, more: &str) -> String {
    bucket(name, "told", &config(cluster, name, change), more)
}

fn a25(cluster: &Cluster) {
    let name = "/told/a25";
    cluster.apply_and_wait(&told(cluster, name, "", ""));
    let said: Vec<String> = lines(cluster, name);
    let words: Vec<&str> = said.iter().filter_map(|line| line.splitn(3, ' ').last()).collect();
    let at = |text: &str| words.iter().position(|word| word.ends_with(text));
    assert!(at("new source") < at("started") && at("started").is_some(), "{said:#?}");
    let before = cluster.status(name);
    cluster.apply_and_wait(&told(cluster, name, "port: 2", "owner: me"));
    wait_line(cluster, name, "port 2");
    let said = lines(cluster, name).join("\n");
    assert!(said.contains(r#"{"path":"config.port","before":1,"after":2}"#), "{said}");
    assert!(said.contains(r#"{"path":"owner","before":null,"after":"me"}"#), "{said}");
    let after = cluster.wait_state(name, "running");
    assert_eq!((pids(&before), epoch(&before)), (pids(&after), epoch(&after)), "the program goes on");
    // One that fails is that instance's failure; it begins again with what is new.
    cluster.apply(&told(cluster, name, "update: 3", ""));
    cluster.wait_status(name, "failed and began again", |status| {
        status["state"] == "running" && status["instances"][0]["restarts"] == 1
    });
    let failures =
        cluster.cli(&["events", "--all", "--where", &format!("subject={name}"), "-o", "json"]).ok();
    let text = "on_updated_source: exit code 3: no such port";
    assert!(failures.stdout.contains(text), "{failures}");
    assert_eq!(epoch(&after), epoch(&cluster.status(name)));
    cluster.delete(&[name]);
}

fn a26(cluster: &Cluster) {
    let name = "/told/a26";
    cluster.apply_and_wait(&told(cluster, name, "", "node_list_rules: [n2]"));
    let pid = pids(&cluster.status(name))["n2"];
    cluster.cli(&["bucket", "suspend", name, "--wait"]).ok();
    let said = lines(cluster, name);
    let suspended = said.iter().position(|line| line.ends_with("suspended"));
    let stopping = said.iter().position(|line| line.ends_with(&format!("stopping {pid}")));
    assert!(suspended.is_some() && suspended < stopping, "{said:#?}");
    cluster.cli(&["bucket", "resume", name, "--wait"]).ok();
    wait_line(cluster, name, "resumed");
    assert_eq!((count(cluster, name, "new source"), count(cluster, name, "started")), (1, 2));
    cluster.delete(&[name]);
}

/// Is polled, and told nothing else.
const POLLED: &str = "\
kind: Module
name: polled
version: '1'
exec: {command: /bin/sleep, args: ['100000']}
life_cycle: {on_periodic_poll: {command: [/bin/echo, polled]}}
---
";

fn a31(cluster: &Cluster) {
    let (due, away, only) = ("/told/due", "/told/away", "/told/only");
    cluster.apply_and_wait(&[POLLED.to_owned(), bucket(only, "polled", "{}", "")].concat());
    let unpolled = pids(&cluster.status(only));
    cluster.apply(&bucket(only, "polled", "{}", "poll_frequency: 200ms"));
    cluster.apply_and_wait(
        &[
            told(cluster, due, "", "poll_frequency: 200ms"),
            told(cluster, away, "poll: 7", "poll_frequency: 200ms"),
        ]
        .concat(),
    );
    let polls = |name: &str| count(cluster, name, "polled");
    wait_for("three polls", Duration::from_secs(10), || {
        let due = polls(due);
        if due >= 3 { Ok(()) } else { Err(due.to_string()) }
    });
    cluster.wait_status(away, "a failed poll is shown, and it runs on", |status| {
        status["state"] == "running"
            && status["instances"][0]["restarts"] == 0
            && status["instances"][0]["message"] == "on_periodic_poll: exit code 7: away"
    });
    cluster.apply(&told(cluster, away, "", "poll_frequency: 200ms"));
    cluster.wait_status(away, "the next poll succeeds", |status| status["instances"][0]["message"] == "");
    wait_line(cluster, only, "polled");
    assert_eq!(unpolled, pids(&cluster.status(only)), "it goes on without a command for changes");
    // A33: no longer asked for, and the program goes on.
    let before = pids(&cluster.status(due));
    cluster.apply_and_wait(&told(cluster, due, "", ""));
    wait_for("it was told", Duration::from_secs(10), || {
        let said = lines(cluster, due).join("\n");
        if said.contains(r#""path":"poll_frequency""#) { Ok(()) } else { Err(said) }
    });
    // A32: suspended.
    cluster.cli(&["bucket", "suspend", away, "--wait"]).ok();
    let both = || [due, away].map(polls);
    let polled = both();
    watch_for("no poll", Duration::from_millis(1200), || {
        let now = both();
        if now == polled { Ok(()) } else { Err(format!("{polled:?}, {now:?}")) }
    });
    assert_eq!(before, pids(&cluster.status(due)));
    cluster.delete(&[due, away, only]);
    // A module that cannot be polled: the answer says so.
    let warned = cluster.apply(&format!(
        "{}{}",
        PROGRAM
            .replace("name: told", "name: unpolled")
            .lines()
            .filter(|line| !line.contains("on_periodic_poll"))
            .fold(String::new(), |text, line| text + line + "\n"),
        bucket(
            "/told/unpolled",
            "unpolled",
            &config(cluster, "/told/unpolled", ""),
            "poll_frequency: 1s\nsuspended: true"
        )
    ));
    assert!(warned.stderr.contains("poll_frequency has no effect"), "{warned}");
    cluster.delete(&["/told/unpolled"]);
}

fn purge(cluster: &Cluster) {
    let (name, bad) = ("/told/purge", "/told/in_use");
    cluster.apply_and_wait(&told(cluster, name, "", "multi_node: true"));
    let before = pids(&cluster.status(name));
    cluster.cli(&["bucket", "purge", name, "--wait"]).ok();
    assert_eq!(count(cluster, name, "purged"), 3, "on each of three nodes");
    assert_eq!(before, pids(&cluster.status(name)), "all of them run on");
    let purge = &cluster.status(name)["purge"];
    assert_eq!((&purge["waiting"], &purge["failed"]), (&serde_json::json!([]), &serde_json::json!([])));
    // Not again by itself, also after a restart; and by a node that was away as it was asked for.
    let away = cluster.named("n3");
    away.stop();
    cluster.cli(&["bucket", "purge", name]).ok();
    cluster.wait_status(name, "two nodes have done it", |status| {
        status["purge"]["waiting"] == serde_json::json!(["n3"])
    });
    away.start();
    cluster.wait_back(away);
    cluster
        .wait_status(name, "all have done it", |status| status["purge"]["waiting"] == serde_json::json!([]));
    cluster.cli(&["bucket", "restart", name, "--wait"]).ok();
    assert_eq!(count(cluster, name, "purged"), 6, "{:#?}", lines(cluster, name));
    let events = cluster.cli(&["events", "--all", "--where", &format!("subject={name}"), "-o", "json"]).ok();
    let kinds = |kind: &str| events.json_lines().iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((kinds("bucket.purging"), kinds("bucket.purged")), (2, 6));
    // One that fails is shown, and the program runs on.
    cluster.apply_and_wait(&told(cluster, bad, "purge: 5", "node_list_rules: [n1]"));
    let before = pids(&cluster.status(bad));
    let failed = cluster.cli(&["bucket", "purge", bad, "--wait"]);
    assert_eq!(failed.code, 1, "{failed}");
    let text = "/told/in_use could not be purged on n1: on_purge: exit code 5: purged";
    assert!(failed.stderr.contains(text), "{failed}");
    assert_eq!(before, pids(&cluster.status(bad)));
    // Who has nothing to purge says so; a plugin is asked itself.
    cluster.cli(&["bucket", "suspend", bad, "--wait"]).ok();
    let refused = cluster.cli(&["bucket", "purge", bad]);
    assert!(refused.code == 1 && refused.stderr.contains("is suspended"), "{refused}");
    cluster.apply_and_wait(&bucket("/told/plugin", "faulty", "{}", ""));
    cluster.cli(&["bucket", "purge", "/told/plugin", "--wait"]).ok();
    assert_eq!(count(cluster, "/told/plugin", "purged"), 1);
    cluster.delete(&[name, bad, "/told/plugin"]);
}

fn failing(cluster: &Cluster) {
    let name = "/told/failing";
    cluster.apply(&told(cluster, name, "start: 4", "node_list_rules: [n1]"));
    let status = cluster.wait_state(name, "failed");
    let message = status["message"].to_string();
    assert!(message.contains("on_new_source: exit code 4: port 1"), "{status:#}");
    assert_eq!(count(cluster, name, "started"), 0, "the program was never started");
    cluster.delete(&[name]);

    let slow = PROGRAM.replace("name: told", "name: slow").replace(
        "on_new_source: {command: [/bin/sh, -c, 'echo new source; cat conf; exit ${bucket.config.start}']}",
        "on_new_source: {command: [/bin/sh, -c, 'setsid sleep 100000 & sleep 100000'], timeout: 300ms}",
    );
    let name = "/told/slow";
    cluster
        .apply(&[slow, bucket(name, "slow", &config(cluster, name, ""), "node_list_rules: [n1]")].concat());
    let status = cluster.wait_state(name, "failed");
    let message = status["message"].to_string();
    assert!(message.contains("on_new_source: had not ended within 300ms"), "{status:#}");
    cluster.delete(&[name]); // nothing of it is alive
}

/// Waits until commands of a bucket have left these words on a node.
fn wait_word(cluster: &Cluster, bucket: &str, node: usize, wanted: &str) {
    let file = cluster.machine().path(&format!("told{}.n{node}", bucket.replace('/', "+")));
    wait_for(&format!("{wanted} in {}", file.display()), Duration::from_secs(10), || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text == wanted { Ok(()) } else { Err(text) }
    });
}

fn farewells(cluster: &Cluster) {
    let word = |bucket: &str, node: usize, wanted: &str| wait_word(cluster, bucket, node, wanted);
    let (moved, failed) = ("/told/moved", "/told/failed");
    cluster.apply_and_wait(&told(cluster, moved, "", "node_list_rules: [n1]"));
    cluster.apply_and_wait(&told(cluster, moved, "", "node_list_rules: [n2]"));
    word(moved, 1, "decommissioned");
    // Nothing runs of this one when it is deleted.
    cluster.apply(&told(cluster, failed, "start: 1", "node_list_rules: [n3]"));
    cluster.wait_state(failed, "failed");
    cluster.delete(&[moved, failed]);
    word(moved, 2, "deleted");
    word(failed, 3, "deleted");
    let dir = cluster.named("n3").dir().join("instances/told+failed");
    wait_for("its directory is gone", Duration::from_secs(10), || {
        if dir.exists() { Err(dir.display().to_string()) } else { Ok(()) }
    });
    // Each once, and not by the other node.
    word(moved, 1, "decommissioned");
}

/// A bucket that runs on a node, and one that was suspended there, when the node dies.
pub(crate) struct Left<'c> {
    cluster: &'c Cluster,
    /// The node's number.
    away: usize,
    /// Of the binding of the first.
    epoch: u64,
    /// Both as they go on elsewhere.
    there: Option<[Value; 2]>,
}

const LEFT: [&str; 2] = ["/told/ran", "/told/slept"];

impl<'c> Left<'c> {
    pub(crate) fn begin(cluster: &'c Cluster, away: usize) -> Self {
        let [ran, slept] = LEFT;
        let gone = cluster.agent(away);
        let only = format!("node_list_rules: [{}]", gone.name());
        for more in [only.as_str(), ""] {
            cluster.apply_and_wait(&LEFT.map(|name| told(cluster, name, "", more)).concat());
        }
        assert_eq!(LEFT.map(|name| only_node(&cluster.status(name))), [(); 2].map(|()| gone.name()));
        let epoch = epoch(&cluster.status(ran));
        cluster.cli(&["bucket", "suspend", slept, "--wait"]).ok();
        Self { cluster, away, epoch, there: None }
    }

    pub(crate) fn go_on(&mut self) {
        let ([ran, slept], cluster) = (LEFT, self.cluster);
        cluster.wait_status_within(ran, "runs elsewhere", FAILOVER, |status| {
            status["state"] == "running" && epoch(status) > self.epoch
        });
        cluster.cli(&["bucket", "resume", slept, "--wait"]).ok();
        self.there = Some(LEFT.map(|name| cluster.wait_state(name, "running")));
    }

    /// Their first node is back.
    pub(crate) fn are_told_of(&self) {
        let (cluster, away) = (self.cluster, self.away);
        let there = self.there.as_ref().expect("they go on");
        let gone = cluster.agent(away);
        for name in LEFT {
            wait_word(cluster, name, away, "decommissioned");
            wait_gone(cluster, name, away);
        }
        // Nothing is left that its next life could tell again.
        assert_eq!(gone.stop(), 0, "{}", gone.log_tail());
        gone.start();
        cluster.wait_back(gone);
        let after = LEFT.map(|name| cluster.wait_state(name, "running"));
        let of = |all: &[Value; 2]| [0, 1].map(|at| (pids(&all[at]), epoch(&all[at])));
        assert_eq!(of(&after), of(there), "they go on all the while");
        cluster.delete(&LEFT);
        for (name, status) in LEFT.into_iter().zip(there) {
            wait_word(cluster, name, number(&only_node(status)), "deleted");
            wait_word(cluster, name, away, "decommissioned");
        }
    }
}

/// The number of a node that is called by it.
fn number(node: &str) -> usize {
    node.trim_start_matches('n').parse().unwrap_or_else(|_| panic!("{node} has a number"))
}

fn documents(cluster: &Cluster) {
    let refused = |text: &str| {
        let output = cluster.cli_with(&["apply", "-f", "-"], text.as_bytes());
        assert_eq!(output.code, 1, "{output}");
        output.stderr
    };
    let head = "kind: Module\nname: wrong\nversion: '1'\nstop: {grace: 2s}\nexec: {command: /bin/x}\n";
    let said = refused(&format!(
        "{head}runtime: exec\nlife_cycle:\n  on_init: {{command: [/bin/x]}}\n  on_stop: {{timeout: 3s}}\n  on_resumed: {{}}\n  \
         on_delete: {{command: ['${{file.none}}'], timeout: 0s}}\n"
    ));
    let defect = "life_cycle.on_resumed: unknown field \"on_resumed\"; did you mean on_resume?";
    assert!(said.contains(defect), "{defect} in {said}");
    let said = refused(&format!(
        "{head}runtime: exec\nlife_cycle:\n  on_init: {{command: [/bin/x]}}\n  on_stop: {{timeout: 3s}}\n  \
         on_delete: {{command: ['${{file.none}}'], timeout: 0s}}\n"
    ));
    for defect in [
        "life_cycle.on_init: only a plugin is told who it is",
        "life_cycle.on_stop.command: there is nothing to run",
        "life_cycle.on_stop.timeout: 3s is more than stop.grace (2s), which all calls at the end share",
        "life_cycle.on_delete.command[0]: ${file.none} is no file of this module",
        "life_cycle.on_delete.timeout: no call ends in no time",
    ] {
        assert!(said.contains(defect), "{defect} in {said}");
    }
    let said = refused(&format!(
        "{head}runtime: plugin\nlife_cycle:\n  on_stop: {{command: [/bin/x]}}\n  on_delete: {{}}\n"
    ));
    for defect in [
        "life_cycle.on_stop.command: a plugin is called itself, by OnStop",
        "life_cycle.on_delete: nothing is said of this call",
    ] {
        assert!(said.contains(defect), "{defect} in {said}");
    }
}
