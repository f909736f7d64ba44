//! A push and what follows of it: 200 MB to 3 members, which each have it synced before it is acknowledged, then fetched and
//! unpacked by 5 agents that are none. How fast, and how much memory the agents take above what they take idle.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use sheaf_tests::{Agent, Cluster, Machine, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, brief};
use crate::machine::kibibytes;
use crate::scene;

/// Bytes of what is pushed.
const SIZE: usize = 200_000_000;
/// Agents that are no members.
const OTHERS: usize = 5;
/// What starting has begun comes to its end.
const SETTLE: Duration = Duration::from_secs(5);
/// A fetch that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(300);
const PER_SECOND: f64 = 60.0;
const MEMORY: f64 = 32.0;

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let cluster = scene::cluster(machine, "p-", 3 + OTHERS);
    let others: Vec<String> = cluster.watchers().iter().map(|agent| agent.name()).collect();
    assert_eq!(others.len(), OTHERS, "members: {:?}", cluster.voters());
    rest(SETTLE);
    let (mut pushes, mut fetches, mut most) = (Vec::new(), Vec::new(), [0.0_f64; 2]);
    for trial in 1..=ask.trials(3) {
        let module = format!("carried{trial}");
        let dir = program(machine, &module, trial as u64);
        cluster.apply(&document(&module));
        scene::settle_disk();
        let before = idle(&cluster);
        let begun = Instant::now();
        cluster.cli(&["module", "push", &format!("{module}@1"), &dir.display().to_string()]).ok();
        pushes.push(begun.elapsed());
        most[0] = most[0].max(above(&cluster, &before));
        scene::settle_disk();
        let before = idle(&cluster);
        let begun = Instant::now();
        cluster.apply(&bucket(&module, &others));
        wait_for("it runs on all of them", LONGEST, || {
            let status = cluster.try_json(&["bucket", "status", &format!("/{module}"), "-o", "json"])?;
            if status["running"] == OTHERS { Ok(()) } else { Err(status["running"].to_string()) }
        });
        fetches.push(begun.elapsed());
        most[1] = most[1].max(above(&cluster, &before));
        cluster.delete(&[&format!("/{module}")]);
    }
    said(figures, &pushes, &fetches, most);
    scene::end(cluster);
}

fn said(figures: &Figures, pushes: &[Duration], fetches: &[Duration], most: [f64; 2]) {
    let middle = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times[times.len() / 2]
    };
    let rate = |time: Duration, copies: usize| (SIZE * copies) as f64 / 1e6 / time.as_secs_f64();
    let pushed = middle(pushes);
    let figure = format!("{:.0} MB/s, {} (median of {})", rate(pushed, 1), brief(pushed), pushes.len());
    let goal = Goal { text: "60 MB/s", reached: Some(rate(pushed, 1) >= PER_SECOND) };
    figures.figure("200 MB pushed to 3 members, from the command on", &figure, &goal);
    let fetched = middle(fetches);
    let figure = format!(
        "{:.0} MB/s in all, {} from apply until it runs on all (median of {})",
        rate(fetched, OTHERS),
        brief(fetched),
        fetches.len()
    );
    figures.aside("200 MB fetched and unpacked by 5 agents", &figure);
    for (what, most) in [("pushed", most[0]), ("fetched", most[1])] {
        let goal = Goal { text: "under 32 MiB", reached: Some(most < MEMORY) };
        let name = format!("memory above idle, the most of any agent, while it is {what}");
        figures.figure(&name, &format!("{most:.1} MiB"), &goal);
    }
}

/// A program with so many bytes that cannot be compressed, and that no other trial has.
fn program(machine: &Machine, name: &str, seed: u64) -> PathBuf {
    let dir = machine.path(name);
    let write = |path: &Path, content: &[u8]| fs::write(path, content).expect("room for what is pushed");
    fs::create_dir_all(&dir).expect("a directory");
    let run = dir.join("run.sh");
    write(&run, b"#!/bin/sh\nexec sleep 100000\n");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(SIZE + 8);
    while bytes.len() < SIZE {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(SIZE);
    write(&dir.join("ballast"), &bytes);
    dir
}

fn document(module: &str) -> String {
    let exec = json!({"command": "${artifact}/run.sh"});
    json!({"kind": "Module", "name": module, "version": "1", "exec": exec}).to_string()
}

fn bucket(module: &str, nodes: &[String]) -> String {
    json!({
        "kind": "Bucket", "name": format!("/{module}"), "module": module, "multi_node": true, "node_list_rules": nodes
    })
    .to_string()
}

/// Resident MiB of each agent; from now on its peak is counted anew.
fn idle(cluster: &Cluster) -> Vec<f64> {
    let look = |agent: &Agent| {
        let path = format!("/proc/{}/clear_refs", agent.pid());
        fs::write(&path, "5").unwrap_or_else(|error| panic!("{path}: {error}"));
        memory(agent, "VmRSS:")
    };
    cluster.agents().iter().map(look).collect()
}

/// How much any agent took at most since then, in MiB above what it had.
fn above(cluster: &Cluster, before: &[f64]) -> f64 {
    let peaks = cluster.agents().iter().map(|agent| memory(agent, "VmHWM:"));
    peaks.zip(before).map(|(peak, before)| peak - before).fold(0.0, f64::max)
}

fn memory(agent: &Agent, key: &str) -> f64 {
    let path = format!("/proc/{}/status", agent.pid());
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let found = status.lines().find(|line| line.starts_with(key)).and_then(kibibytes);
    // Far less memory than an f64 can count.
    found.unwrap_or(0) as f64 / 1024.0
}

/// Does nothing, so that nothing disturbs what is measured.
#[expect(clippy::disallowed_methods, reason = "nothing is to be waited for, and this is the only thread")]
fn rest(span: Duration) {
    thread::sleep(span);
}
