//! Plugins: one that works, and all that can be wrong with one. Whatever it is, the agent is unharmed, and others go on.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sheaf_tests::wait::watch_for;
use sheaf_tests::{Cases, Cluster, need, processes, wait_for};

use crate::scene::{epoch, explain, gates, only_node, pids};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    for how in ["", "exit", "deaf", "silent", "garbage", "large", "version"] {
        cluster.apply(&faulty(how));
    }
    let collector = example("collector").display().to_string();
    cluster.apply(&format!(
        "kind: Module\nname: collector\nversion: '1'\nruntime: plugin\nexec: {{command: '{collector}'}}\n---\n"
    ));
    cases.run("a directory is collected by a plugin, and taken up again where it was left", || {
        collects(cluster);
    });
    cases.run("A41 gate 3 of a plugin says no, fails, panics, crashes, hangs", || a41(cluster));
    cases.run("a plugin's process for gate 3 is one per node, and ends with its last bucket", || {
        one_gate(cluster);
    });
    cases.run("A6 a plugin that fails to start is tried elsewhere, with its text", || a6(cluster));
    // Of some of them that is known only when their time is up; others go on meanwhile.
    cases.run("gate 3 of a plugin that exits, is deaf, is silent, talks garbage and so on says so", || {
        strange(cluster);
    });
    cases.run("A18 a plugin that does not support multi-node", || a18(cluster));
    cases.run("a plugin's document is wrong", || documents(cluster));
    cases.run("a plugin that forks and detaches leaves nothing behind", || detached(cluster));
    cases.run("a plugin that floods its output runs on", || flood(cluster));
    cases.run("a plugin that answers too late has failed to start, and others go on", || late(cluster));
    cases.run(
        "a plugin that exits, is deaf, is silent, talks garbage, sends 100 MiB, speaks another version",
        || {
            failed(cluster);
        },
    );
    cases.run("A25 a plugin is told of a change and goes on, or starts anew", || a25(cluster));
    cases.run("A26 a plugin is told that it is suspended, and resumes", || a26(cluster));
    cases.run("a poll that hangs keeps nobody from being told that it ends", || hanging_poll(cluster));
    cases.run("A31 A32 A33 a plugin is polled where it runs, as long as its bucket says so", || a31(cluster));
    cases.run("a plugin is told that its bucket leaves the node, or is deleted", || farewells(cluster));
    cases.run("the same where no process of it is there", || farewells_of_nobody(cluster));
    cases.run("the same where it was suspended and goes on elsewhere", || passed_over(cluster));
    cases.run("A44 an agent restarts, and plugins keep their processes", || a44(cluster));
}

/// The module `faulty` for no argument, else `faulty-HOW`.
pub(crate) fn faulty(how: &str) -> String {
    let program = env!("CARGO_BIN_EXE_faulty");
    let name = if how.is_empty() { "faulty".to_owned() } else { format!("faulty-{how}") };
    format!(
        "kind: Module\nname: {name}\nversion: '1'\nruntime: plugin\nexec: {{command: '{program}', args: ['{how}']}}\n\
         restart: {{policy: on_failure, backoff: 100ms..100ms, give_up_after: 1 in 1m}}\nstop: {{grace: 2s}}\n---\n"
    )
}

/// An example of the SDK, which cargo builds with the workspace's tests.
pub(crate) fn example(name: &str) -> PathBuf {
    need::example_program(env!("CARGO_BIN_EXE_faulty").as_ref(), name)
}

pub(crate) fn bucket(name: &str, module: &str, config: &str, more: &str) -> String {
    format!("kind: Bucket\nname: {name}\nmodule: {module}\nconfig: {config}\n{more}\n---\n")
}

fn collects(cluster: &Cluster) {
    let dir = cluster.machine().path("collected");
    let config = format!("{{directory: '{}', suffix: .log}}", dir.display());
    cluster.apply(&bucket("/collected", "collector", &config, "node_list_rules: [n2]"));
    // Gate 3: what it needs is not there yet.
    let refused = wait_for("n2 has answered", Duration::from_secs(10), || {
        let third = gates(&explain(cluster, "/collected"), "n2")[2].clone();
        if third.0.is_some() { Ok(third) } else { Err(format!("{third:?}")) }
    });
    assert_eq!(refused.0, Some(false));
    assert!(refused.1.contains("collected: No such file or directory"), "{refused:?}");
    fs::create_dir(&dir).expect("a directory");
    fs::write(dir.join("a.log"), "one\ntwo\nunfini").expect("a file");
    fs::write(dir.join("b.txt"), "not this\n").expect("a file");
    cluster.apply_and_wait(&bucket("/collected", "collector", &config, "node_list_rules: [n2]\nowner: me"));
    let lines = || cluster.cli(&["bucket", "logs", "/collected"]).ok().stdout;
    let wait_lines = |wanted: &[&str]| {
        wait_for(&format!("{wanted:?}"), Duration::from_secs(10), || {
            let text = lines();
            let found: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
            if found == wanted { Ok(()) } else { Err(text) }
        });
    };
    wait_lines(&["one", "two"]);
    fs::write(dir.join("a.log"), "one\ntwo\nunfinished\n").expect("a file");
    wait_lines(&["one", "two", "unfinished"]);
    cluster.wait_status("/collected", "it says how far it is", |status| {
        status["instances"][0]["message"] == "3 lines collected"
    });
    let before = cluster.status("/collected");
    cluster.cli(&["bucket", "restart", "/collected", "--wait"]).ok();
    let after = cluster.wait_state("/collected", "running");
    assert_ne!(pids(&before), pids(&after));
    assert!(epoch(&after) >= epoch(&before));
    fs::write(dir.join("c.log"), "three\n").expect("a file");
    wait_lines(&["one", "two", "unfinished", "three"]);
    cluster.delete(&["/collected"]);
}

fn a41(cluster: &Cluster) {
    let cases = [
        ("no", "n1 lacks what it takes"),
        ("fail", "CanRunOnThisNode: the answer is unknown"),
        ("panic", "CanRunOnThisNode: it panicked: gate of /a41/panic"),
        ("hang", "CanRunOnThisNode: no answer within 5s"),
        ("crash", "famous last words"),
    ];
    // One that is well, of the same module, is not kept from running by any of them but the crash.
    cluster.apply_and_wait(&bucket("/a41/well", "faulty", "{}", "node_list_rules: [n1]"));
    let before = pids(&cluster.status("/a41/well"));
    for (fault, reason) in cases {
        let name = format!("/a41/{fault}");
        let asked = Instant::now();
        cluster.apply(&bucket(&name, "faulty", &format!("{{gate: {fault}}}"), "node_list_rules: [n1]"));
        let third = wait_for(&format!("{name} is answered"), Duration::from_secs(9), || {
            let third = gates(&explain(cluster, &name), "n1")[2].clone();
            if third.0.is_some() { Ok(third) } else { Err(format!("{third:?}")) }
        });
        assert_eq!(third.0, Some(false), "{name}: {third:?}");
        let ended =
            fault != "crash" || third.1.contains("the module's program ended: signal 6; it said last: ");
        assert!(third.1.ends_with(reason) && ended, "{name}: {third:?}");
        assert!(asked.elapsed() < Duration::from_secs(8), "{name}: {:?}", asked.elapsed());
        assert_eq!(cluster.status(&name)["state"], "unplaced");
        cluster.delete(&[&name]);
    }
    assert_eq!(pids(&cluster.status("/a41/well")), before, "it runs on all the time");
    cluster.assert_alive();
    cluster.delete(&["/a41/well"]);
}

fn one_gate(cluster: &Cluster) {
    let names: Vec<String> = (0..20).map(|n| format!("/gate/{n}")).collect();
    let buckets: String = names
        .iter()
        .map(|name| bucket(name, "faulty", "{}", "node_list_rules: [n3]\nsuspended: true"))
        .collect();
    cluster.apply(&buckets);
    let at_gate = || gate_processes(cluster, 3);
    wait_for("one process for twenty buckets", Duration::from_secs(10), || match at_gate()[..] {
        [pid] => Ok(pid),
        ref found => Err(format!("{found:?}")),
    });
    for name in &names {
        let third = wait_for(&format!("{name} is answered"), Duration::from_secs(10), || {
            let third = gates(&explain(cluster, name), "n3")[2].clone();
            if third.0.is_some() { Ok(third) } else { Err(format!("{third:?}")) }
        });
        assert_eq!(third.0, Some(true), "{third:?}");
    }
    assert_eq!(at_gate().len(), 1);
    cluster.delete(&names.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("nobody needs it any more", Duration::from_secs(10), || {
        let found = at_gate();
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Processes of the module `faulty` that a node asks gate 3.
fn gate_processes(cluster: &Cluster, node: usize) -> Vec<u32> {
    let dir = cluster.machine().path(&format!("n{node}")).display().to_string();
    let is_gates = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        text.split('\0')
            .any(|entry| entry.starts_with("SHEAF_DIR=") && entry.contains(&dir) && entry.contains("/gates/"))
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("faulty"))
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_gates).collect()
}

fn a6(cluster: &Cluster) {
    let failing = "{start: 'the port is taken on this one'}";
    cluster.apply(&bucket("/a6", "faulty", failing, ""));
    let status = cluster.wait_state("/a6", "failed");
    let said = status.to_string();
    assert!(said.contains("OnNewSource: the port is taken on this one"), "{status:#}");
    let history = cluster.cli(&["events", "--all", "--where", "subject=/a6", "-o", "json"]).ok();
    let nodes: std::collections::BTreeSet<String> = (history.json_lines().iter())
        .filter(|event| event["kind"] == "instance.failed")
        .filter_map(|event| event["node"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(nodes.len(), 3, "every try is in the history: {history}");
    cluster.delete(&["/a6"]);
}

/// How a program is strange, and what is said of its bucket then.
const STRANGE: [(&str, &str); 6] = [
    ("exit", "it ended before it answered Hello; exit code 7"),
    ("deaf", "Hello: nothing listens at SHEAF_MODULE_SOCKET 10s after its start"),
    ("silent", "Hello: no answer within 10s of its start"),
    ("garbage", "Hello: no answer came over its socket"),
    ("large", "decoded message length too large: found 104857600 bytes, the limit is: 4194304 bytes"),
    ("version", "it speaks version 9 of sheaf.module.v1's protocol, this node speaks version 1"),
];

/// The bucket whose own process is strange, where gate 3 is answered well.
fn own(how: &str) -> String {
    format!("/strange/own-{how}")
}

/// All of them at once: some are known only when their time is up.
fn strange(cluster: &Cluster) {
    let name = |how: &str| format!("/strange/{how}");
    let on_n1 = |name: &str, module: &str| bucket(name, module, "{}", "node_list_rules: [n1]");
    for (how, _) in STRANGE {
        cluster.apply(&on_n1(&name(how), &format!("faulty-{how}")));
    }
    for (how, _) in STRANGE {
        let module = faulty(how)
            .replace(&format!("faulty-{how}"), &format!("own-{how}"))
            .replace(&format!("['{how}']"), &format!("['{how}', instance]"))
            .replace("policy: on_failure", "policy: never");
        cluster.apply(&[module, on_n1(&own(how), &format!("own-{how}"))].concat());
    }
    for (how, reason) in STRANGE {
        let third = wait_for(&format!("{how} is answered"), Duration::from_secs(15), || {
            let third = gates(&explain(cluster, &name(how)), "n1")[2].clone();
            if third.0.is_some() { Ok(third) } else { Err(format!("{third:?}")) }
        });
        assert_eq!(third.0, Some(false), "{how}: {third:?}");
        let by_gate = match how {
            "exit" => "the module's program ended: exit code 7; it said last: no mood today",
            "deaf" | "silent" => "the module's program has not answered Hello 5s after its start",
            _ => reason,
        };
        assert!(third.1.contains(by_gate), "{how}: {third:?}");
        cluster.delete(&[&name(how)]);
    }
}

/// What becomes of those that are strange themselves.
fn failed(cluster: &Cluster) {
    for (how, reason) in STRANGE {
        let status = cluster.wait_state(&own(how), "failed");
        assert!(status["message"].to_string().contains(reason), "{how}: {status:#}");
        cluster.delete(&[&own(how)]);
    }
    cluster.assert_alive();
}

fn late(cluster: &Cluster) {
    let impatient = faulty("")
        .replace("name: faulty", "name: impatient\nlife_cycle: {on_new_source: {timeout: 1s}}")
        .replace("policy: on_failure", "policy: never");
    cluster.apply(&impatient);
    cluster.apply_and_wait(&bucket("/late/well", "impatient", "{}", "node_list_rules: [n1]"));
    let before = pids(&cluster.status("/late/well"));
    cluster.apply(&bucket("/late/hangs", "impatient", "{start: hang}", "node_list_rules: [n1]"));
    let status = cluster.wait_state("/late/hangs", "failed");
    assert!(status.to_string().contains("OnNewSource: no answer within 1s"), "{status:#}");
    assert_eq!(pids(&cluster.status("/late/well")), before, "it runs on all the time");
    cluster.assert_alive();
    cluster.delete(&["/late/well", "/late/hangs"]);
}

fn flood(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/flood", "faulty", "{start: flood}", ""));
    let agent = cluster.named(&only_node(&cluster.status("/flood")));
    let output = agent.dir().join("instances/flood/output");
    let kept: u64 = fs::read_dir(&output)
        .map(|entries| {
            entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
        })
        .unwrap_or_default();
    assert!(kept <= 52 << 20, "{kept} bytes are kept in {}", output.display());
    cluster.cli(&["bucket", "suspend", "/flood", "--wait"]).ok();
    let last = cluster.cli(&["bucket", "logs", "/flood", "--tail", "1"]).ok();
    assert!(last.stdout.contains("told to stop"), "{last}");
    cluster.delete(&["/flood"]);
}

fn detached(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/detached", "faulty", "{start: detach}", ""));
    let said = lines(cluster, "/detached").join("\n");
    let pid = said.lines().find_map(|line| line.split_once("detached ")?.1.trim().parse::<u32>().ok());
    let pid = pid.unwrap_or_else(|| panic!("a process of its own in {said}"));
    assert!(processes::is_alive(pid), "{said}");
    cluster.cli(&["bucket", "suspend", "/detached", "--wait"]).ok();
    assert!(!processes::is_alive(pid), "{pid} lives on");
    cluster.delete(&["/detached"]);
}

fn a18(cluster: &Cluster) {
    let module = faulty("").replace("name: faulty", "name: lonely\nsupports_multi_node: false");
    cluster.apply(&module);
    let refused = cluster
        .cli_with(&["apply", "-f", "-"], bucket("/a18", "lonely", "{}", "multi_node: true").as_bytes());
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("lonely") && refused.stderr.contains("multi_node"), "{refused}");
}

fn documents(cluster: &Cluster) {
    let refused = |text: &str| {
        let output = cluster.cli_with(&["apply", "-f", "-"], text.as_bytes());
        assert_ne!(output.code, 0, "{output}");
        output.stderr
    };
    let head = "kind: Module\nname: wrong\nversion: '1'\nruntime: plugin\n";
    let said = refused(head);
    assert!(said.contains("runtime plugin needs to know what to execute"), "{said}");
    let said = refused(&format!(
        "{head}exec: {{command: /bin/x, args: ['${{bucket.name}}'], env: {{SHEAF_MODULE_SOCKET: x}}}}\n"
    ));
    assert!(said.contains("exec.args[0]: a plugin is started for gate 3 without any bucket"), "{said}");
    assert!(
        said.contains("exec.env.SHEAF_MODULE_SOCKET: SHEAF_MODULE_SOCKET is set by Sheaf itself"),
        "{said}"
    );
}

/// What the programs of a bucket wrote, oldest first.
pub(crate) fn lines(cluster: &Cluster, bucket: &str) -> Vec<String> {
    let text = cluster.cli(&["bucket", "logs", bucket]).ok().stdout;
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn count(cluster: &Cluster, bucket: &str, ending: &str) -> usize {
    lines(cluster, bucket).iter().filter(|line| line.ends_with(ending)).count()
}

pub(crate) fn wait_line(cluster: &Cluster, bucket: &str, ending: &str) {
    wait_for(ending, Duration::from_secs(10), || {
        let said = lines(cluster, bucket);
        if said.iter().any(|line| line.ends_with(ending)) { Ok(()) } else { Err(said.join("\n")) }
    });
}

fn a25(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/a25", "faulty", "{port: 1}", ""));
    let before = cluster.status("/a25");
    cluster.apply_and_wait(&bucket("/a25", "faulty", "{port: 2}", "owner: me"));
    wait_line(cluster, "/a25", "config.port 1 2");
    wait_line(cluster, "/a25", "owner - \"me\"");
    let after = cluster.wait_state("/a25", "running");
    assert_eq!((pids(&before), epoch(&before)), (pids(&after), epoch(&after)), "the process goes on");
    // It says that it cannot take this one as it runs.
    cluster.apply(&bucket("/a25", "faulty", "{port: 2, update: restart}", "owner: me"));
    cluster.wait_status("/a25", "runs anew", |status| {
        status["state"] == "running" && !pids(status).is_empty() && pids(status) != pids(&after)
    });
    let anew = cluster.status("/a25");
    assert_eq!(epoch(&after), epoch(&anew), "on the same node, under the same epoch");
    assert_eq!(count(cluster, "/a25", "new source /a25"), 2);
    // One that fails is that instance's failure; it begins again with what is new.
    cluster.apply(&bucket("/a25", "faulty", "{update: 'no such port'}", "owner: me"));
    cluster.wait_status("/a25", "failed and began again", |status| {
        status["state"] == "running" && status["instances"][0]["restarts"] == 1
    });
    cluster.delete(&["/a25"]);
}

fn a26(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/a26", "faulty", "{}", "node_list_rules: [n2]"));
    cluster.cli(&["bucket", "suspend", "/a26", "--wait"]).ok();
    let said = lines(cluster, "/a26").join("\n");
    assert!(said.contains("suspended") && said.ends_with("told to stop"), "{said}");
    cluster.cli(&["bucket", "resume", "/a26", "--wait"]).ok();
    wait_line(cluster, "/a26", "resumed /a26");
    assert_eq!(count(cluster, "/a26", "new source /a26"), 1);
    cluster.delete(&["/a26"]);
}

/// A poll may take a minute, and the grace is two seconds.
fn hanging_poll(cluster: &Cluster) {
    let name = "/hanging-poll";
    let hangs = bucket(name, "faulty", "{poll: hang}", "node_list_rules: [n2]\npoll_frequency: 100ms");
    cluster.apply_and_wait(&hangs);
    wait_line(cluster, name, "polled /hanging-poll");
    cluster.cli(&["bucket", "suspend", name, "--wait"]).ok();
    let said = lines(cluster, name).join("\n");
    assert!(said.contains("suspended") && said.ends_with("told to stop"), "{said}");
    let status = cluster.wait_state(name, "suspended");
    assert!(!status.to_string().contains("killed"), "{status:#}");
    cluster.delete(&[name]);
}

fn a31(cluster: &Cluster) {
    cluster.apply_and_wait(
        &[
            bucket("/a31/due", "faulty", "{}", "poll_frequency: 200ms"),
            bucket("/a31/later", "faulty", "{}", "poll_frequency: 1h"),
            bucket("/a31/never", "faulty", "{}", ""),
            bucket("/a31/away", "faulty", "{poll: 'the source is away'}", "poll_frequency: 200ms"),
        ]
        .concat(),
    );
    let since = Instant::now();
    let polls = |name: &str| count(cluster, name, &format!("polled {name}"));
    wait_for("three polls", Duration::from_secs(10), || match polls("/a31/due") {
        3.. => Ok(()),
        few => Err(few.to_string()),
    });
    // Each takes 700 ms and the next comes 200 ms after it: never two at a time, and none is made up for.
    assert!(since.elapsed() > Duration::from_millis(1500), "{:?}", since.elapsed());
    assert_eq!((polls("/a31/later"), polls("/a31/never")), (0, 0));
    cluster.wait_status("/a31/away", "a failed poll is shown, and it runs on", |status| {
        status["state"] == "running"
            && status["instances"][0]["restarts"] == 0
            && status["instances"][0]["message"] == "OnPeriodicPoll: the source is away"
    });
    // A33: no longer asked for. The process goes on.
    let before = pids(&cluster.status("/a31/due"));
    cluster.apply_and_wait(&bucket("/a31/due", "faulty", "{}", ""));
    wait_line(cluster, "/a31/due", "poll_frequency \"200ms\" -");
    // A32: suspended.
    cluster.cli(&["bucket", "suspend", "/a31/away", "--wait"]).ok();
    let both = || ["/a31/due", "/a31/away"].map(polls);
    let polled = both();
    watch_for("no poll", Duration::from_millis(1500), || {
        let now = both();
        if now == polled { Ok(()) } else { Err(format!("{polled:?}, {now:?}")) }
    });
    assert_eq!(before, pids(&cluster.status("/a31/due")));
    cluster.delete(&["/a31/due", "/a31/later", "/a31/never", "/a31/away"]);
}

/// Waits until the plugin of a bucket has left this word on a node.
fn wait_word(cluster: &Cluster, bucket: &str, node: usize, wanted: &str) {
    let file = cluster.machine().path(&format!("word{}.n{node}", bucket.replace('/', "+")));
    wait_for(&format!("{wanted} in {}", file.display()), Duration::from_secs(10), || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text == wanted { Ok(()) } else { Err(text) }
    });
}

fn farewells(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/bye/moved", "faulty", "{}", "node_list_rules: [n1]"));
    cluster.apply_and_wait(&bucket("/bye/moved", "faulty", "{}", "node_list_rules: [n2]"));
    wait_word(cluster, "/bye/moved", 1, "decommissioned");
    cluster.apply_and_wait(&bucket("/bye/multi", "faulty", "{}", "multi_node: true"));
    cluster.apply_and_wait(&bucket("/bye/multi", "faulty", "{}", "multi_node: true\nnode_list_rules: [-n3]"));
    wait_word(cluster, "/bye/multi", 3, "decommissioned");
    cluster.delete(&["/bye/moved", "/bye/multi"]);
    wait_word(cluster, "/bye/moved", 2, "deleted");
    wait_word(cluster, "/bye/multi", 1, "deleted");
    wait_word(cluster, "/bye/multi", 2, "deleted");
}

/// No process of it is there when it is to be told: one is started for that alone.
fn farewells_of_nobody(cluster: &Cluster) {
    let (asleep, left, failed, mute) = ("/bye/asleep", "/bye/left", "/bye/failed", "/bye/mute");
    cluster.apply_and_wait(
        &[
            bucket(asleep, "faulty", "{}", "node_list_rules: [n1]"),
            bucket(left, "faulty", "{}", "multi_node: true\nnode_list_rules: [n2]"),
        ]
        .concat(),
    );
    cluster.cli(&["bucket", "suspend", asleep, left, "--wait"]).ok();
    // It goes on elsewhere when it is resumed; that it leaves is known then.
    cluster.apply(&bucket(left, "faulty", "{}", "multi_node: true\nnode_list_rules: [n3]"));
    cluster.cli(&["bucket", "resume", left, "--wait"]).ok();
    wait_word(cluster, left, 2, "decommissioned");
    cluster.apply(&bucket(failed, "faulty", "{start: 'no such port'}", "node_list_rules: [n3]"));
    cluster.apply(&bucket(mute, "faulty", "{init: 'nobody is at home'}", "node_list_rules: [n3]"));
    cluster.wait_state(failed, "failed");
    cluster.wait_state(mute, "failed");
    cluster.delete(&[asleep, left, failed, mute]);
    for (bucket, node) in [(asleep, 1), (left, 3), (failed, 3)] {
        wait_word(cluster, bucket, node, "deleted");
    }
    // One that cannot be told is in nobody's way.
    let agent = cluster.named("n3");
    wait_for("what went wrong is in the log", Duration::from_secs(10), || {
        let log = agent.log_tail();
        let said =
            log.contains("OnInit: nobody is at home") && log.contains("what it was told at its end failed");
        if said { Ok(()) } else { Err(log) }
    });
    for (bucket, node) in [(asleep, 1), (left, 2), (left, 3), (failed, 3), (mute, 3)] {
        wait_gone(cluster, bucket, node);
    }
}

/// Waits until a node has nothing of a bucket on its disk.
pub(crate) fn wait_gone(cluster: &Cluster, bucket: &str, node: usize) {
    let name = bucket.trim_start_matches('/').replace('/', "+");
    let dir = cluster.agent(node).dir().join("instances").join(name);
    wait_for("its directory is gone", Duration::from_secs(10), || {
        if dir.exists() { Err(dir.display().to_string()) } else { Ok(()) }
    });
}

/// Its node may run it as before, and is not chosen again.
fn passed_over(cluster: &Cluster) {
    let name = "/bye/passed";
    cluster.apply_and_wait(&bucket(name, "faulty", "{}", "node_list_rules: [n1]"));
    cluster.apply_and_wait(&bucket(name, "faulty", "{}", "node_list_rules: [n1, n2]"));
    assert_eq!(only_node(&cluster.status(name)), "n1");
    cluster.cli(&["bucket", "suspend", name, "--wait"]).ok();
    cluster.cli(&["node", "drain", "n1", "--wait"]).ok();
    cluster.cli(&["bucket", "resume", name, "--wait"]).ok();
    let there = cluster.wait_state(name, "running");
    assert_eq!(only_node(&there), "n2");
    wait_word(cluster, name, 1, "decommissioned");
    wait_gone(cluster, name, 1);
    cluster.cli(&["node", "undrain", "n1"]).ok();
    let after = cluster.wait_state(name, "running");
    assert_eq!((pids(&after), epoch(&after)), (pids(&there), epoch(&there)), "it goes on all the while");
    cluster.delete(&[name]);
    wait_word(cluster, name, 2, "deleted");
    wait_word(cluster, name, 1, "decommissioned");
}

fn a44(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/a44", "faulty", "{}", "node_list_rules: [n3]"));
    let before = cluster.status("/a44");
    let agent = cluster.named("n3");
    agent.stop();
    agent.start();
    cluster.wait_back(agent);
    let after = cluster.wait_state("/a44", "running");
    assert_eq!((pids(&before), epoch(&before)), (pids(&after), epoch(&after)));
    let pid = u32::try_from(pids(&after)["n3"]).expect("a process id");
    // Its keeper, which the new life of the agent did not start, still speaks with it.
    cluster.cli(&["bucket", "suspend", "/a44", "--wait"]).ok();
    assert!(!processes::is_alive(pid));
    let last = cluster.cli(&["bucket", "logs", "/a44", "--tail", "1"]).ok();
    assert!(last.stdout.contains("told to stop"), "{last}");
    cluster.delete(&["/a44"]);
}
