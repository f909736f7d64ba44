//! Jobs: whose turn it is, where, and who has to make room.

use std::fs;
use std::path::PathBuf;

use sheaf_tests::jobs::{job, over, soon, status, submit};
use sheaf_tests::{Agent, Cases, Cluster};

use crate::jobs::{fill, finished, line, reconciled, slots, trace, traced};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("jobs that no node may run hold up no other, however many they are", || held_up(cluster));
    cases.run("J21 an agent's restart costs no attempt of programs that take their time to end", || {
        enduring(cluster);
    });
    cases.run("J21 a node is drained of subtasks, which is waited for, and costs no attempt", || {
        drained(cluster);
    });
    cases.run("J6 what lies ready gives way to what is more urgent", || urgent(cluster));
    cases.run("of a paused job nothing begins that lies ready", || paused(cluster));
    // Others go on meanwhile.
    cases.run("a job is submitted whose gate takes long to answer", || hesitant(cluster));
    cases.run("a job follows a node's labels while it runs", || labelled(cluster));
    cases.run("a gate that takes long to answer is waited for", || finished(cluster, "hesitant", 3));
}

fn held_up(cluster: &Cluster) {
    let names: Vec<String> = (0..65).map(|number| format!("stuck-{number:02}")).collect();
    let document = |name: &String| format!("---\n{}", job(name, "nowhere", "subtasks: {array: 0-0}"));
    submit(cluster, &names.iter().map(document).collect::<String>());
    submit(cluster, &job("behind-them", "count", "subtasks: {array: 0-2}"));
    reconciled(cluster, "behind-them", 3);
    let them: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.cli(&[&["job", "pause"], &them[..]].concat()).ok();
}

fn enduring(cluster: &Cluster) {
    let gate = cluster.machine().path("enduring.gate");
    cluster.apply(&format!(
        "kind: Module\nname: enduring\nversion: '1'\nruntime: exec\nexec:\n  command: /bin/sh\n  args:\n    - -c\n    \
         - 'trap \"sleep 3; exit 1\" TERM; {}; ${{item.do}}'\n---\n",
        line(cluster)
    ));
    let count = fill(cluster, "enduring", "enduring", &gate);
    let all_begun = |times: usize| {
        let begun = || traced(cluster, "enduring").0.values().map(Vec::len).sum::<usize>();
        let all_run = || status(cluster, "enduring")["counts"]["running"] == count;
        soon("all of it runs", || (begun() >= times && all_run()).then_some(()));
        begun()
    };
    let first = all_begun(count);
    let restart = |agent: &Agent| {
        assert_eq!(agent.stop(), 0);
        agent.start();
        cluster.wait_back(agent);
    };
    restart(cluster.follower());
    let second = all_begun(first + 1);
    restart(cluster.leader());
    all_begun(second + 1);
    fs::write(&gate, "").expect("a directory of the test's own");
    reconciled(cluster, "enduring", count);
}

fn drained(cluster: &Cluster) {
    let gate = cluster.machine().path("drained.gate");
    let count = fill(cluster, "drained", "work", &gate);
    let running = || status(cluster, "drained")["counts"]["running"].clone();
    let all_run = || soon("all of it runs", || (running() == count).then_some(()));
    all_run();
    let node = cluster.follower().name();
    let drain = |more: &[&str]| cluster.cli(&[&["node", "drain", node.as_str()], more].concat());
    drain(&["--dry-run"]).ok().mentions(&["subtask", "of jobs there"]);
    drain(&["--wait", "--timeout", "1s"]).exits(4).mentions(&["subtask", "left"]);
    assert_eq!(running(), count, "what has begun goes on");
    assert_ne!(cluster.node(&node)["subtasks"], 0);
    drain(&["--deadline", "1s", "--wait"]).ok();
    assert_eq!(cluster.node(&node)["subtasks"], 0);
    cluster.cli(&["node", "undrain", &node]).ok();
    all_run();
    fs::write(&gate, "").expect("a directory of the test's own");
    reconciled(cluster, "drained", count);
    let tries = traced(cluster, "drained").0;
    assert!(tries.values().any(|numbers| numbers.len() > 1), "some of it began there: {tries:?}");
}

/// For each slot so many of a job take their time, behind others by which all of them seem to be short.
const SLOW: usize = 60;

/// Begins such a job. When this returns the first of those has begun, and many lie ready behind it.
fn deceptive(cluster: &Cluster, name: &str) {
    let quick = vec!["{do: 'exit 0'}".to_owned(); 200];
    let slow = vec!["{do: 'sleep 0.5'}".to_owned(); SLOW * slots(cluster)];
    let items = [quick, slow].concat().join(", ");
    submit(cluster, &job(name, "work", &format!("subtasks: {{items: [{items}]}}")));
    let begun = || traced(cluster, name).0.keys().any(|subtask| *subtask >= 200);
    soon("one that takes its time has begun", || begun().then_some(()));
    let given = || status(cluster, name)["counts"]["running"].as_u64().unwrap_or_default();
    soon("many lie ready", || (given() > 2 * slots(cluster) as u64).then_some(()));
}

fn left(cluster: &Cluster, name: &str) -> u64 {
    let counts = &status(cluster, name)["counts"];
    ["waiting", "ready", "running"].iter().filter_map(|state| counts[*state].as_u64()).sum()
}

fn urgent(cluster: &Cluster) {
    deceptive(cluster, "lasting");
    submit(cluster, &job("urgent", "count", "subtasks: {array: 0-4}\npriority: 90"));
    reconciled(cluster, "urgent", 5);
    let (left, slots) = (left(cluster, "lasting"), slots(cluster));
    assert!(left >= (SLOW * slots * 2 / 3) as u64, "it has waited for all but {left}, with {slots} slots");
    cluster.cli(&["job", "cancel", "lasting"]).ok();
    over(cluster, "lasting");
}

fn paused(cluster: &Cluster) {
    deceptive(cluster, "halted");
    cluster.cli(&["job", "pause", "halted"]).ok();
    let begun = || traced(cluster, "halted").0.len();
    let before = begun();
    soon("nothing of it runs", || (status(cluster, "halted")["counts"]["running"] == 0).then_some(()));
    let (after, slots) = (begun(), slots(cluster));
    assert!(after <= before + 2 * slots, "{before}, then {after}, with {slots} slots");
    assert_eq!(status(cluster, "halted")["state"], "paused");
    cluster.cli(&["job", "cancel", "halted"]).ok();
    over(cluster, "halted");
}

/// Once it is there, the gate that takes long answers at once.
fn decided(cluster: &Cluster) -> PathBuf {
    cluster.machine().path("hesitant.decided")
}

fn hesitant(cluster: &Cluster) {
    let begun = cluster.machine().path("hesitant.begun");
    let (decided, lines) = (decided(cluster).display().to_string(), begun.display().to_string());
    cluster.apply(&format!(
        "kind: Module\nname: hesitant\nversion: '1'\nruntime: exec\nexec: {{command: /bin/true}}\n\
         can_run_on_this_node:\n  - command: [/bin/sh, -c, 'test -e {decided} || {{ echo >> {lines}; sleep 8; }}']\n    \
         timeout: 20s\n---\n",
    ));
    submit(cluster, &job("hesitant", "hesitant", "subtasks: {array: 0-2}"));
    let asked = || fs::read_to_string(&begun).unwrap_or_default().lines().count();
    soon("every node is asked", || (asked() == cluster.agents().len()).then_some(()));
}

fn labelled(cluster: &Cluster) {
    // Labels have gates asked again; what is asked then must not last longer than this cluster.
    fs::write(decided(cluster), "").expect("a directory of the test's own");
    cluster.apply(&format!(
        "kind: Module\nname: picky\nversion: '1'\nruntime: exec\ncan_run_on_this_node: [{{label: picky}}]\nexec:\n  \
         command: /bin/sh\n  args:\n    - -c\n    \
         - '{}; sleep 0.1'\n---\n",
        line(cluster)
    ));
    let on = |node: &str| {
        let text = fs::read_to_string(trace(cluster)).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("picky ") && line.ends_with(node)).count()
    };
    let label = |node: &str, label: &str| cluster.cli(&["node", "label", node, label]).ok();
    let eligible = |node: &str| {
        let explained = cluster.json(&["job", "explain", "picky", "-o", "json"]);
        let nodes = explained["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().any(|row| row["node"] == node && row["eligible"] == true)
    };
    submit(cluster, &job("picky", "picky", "subtasks: {array: 0-9999}"));
    label("n1", "picky");
    soon("it runs where the label is", || (on("n1") > 10).then_some(()));
    label("n1", "picky-");
    let none_runs = || !eligible("n1") && status(cluster, "picky")["counts"]["running"] == 0;
    soon("it runs nowhere", || none_runs().then_some(()));
    let there = on("n1");
    label("n2", "picky");
    soon("it goes on where the label is now", || (on("n2") > 10).then_some(()));
    assert_eq!(on("n1"), there);
    cluster.cli(&["job", "cancel", "picky"]).ok();
    over(cluster, "picky");
    label("n2", "picky-");
}
