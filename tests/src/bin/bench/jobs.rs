//! Jobs on 3 members: how fast they are submitted and run, beside HyperQueue if it is there, what they cost the leader's
//! memory, how soon people see them; and how fast workers are on 2 agents and on 20.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_tests::{Agent, Cluster, Machine, jobs};

use crate::ask::Ask;
use crate::beside::Program;
use crate::figure::{Figures, Goal, Times, brief, median};
use crate::hyperqueue::{self, HyperQueue};
use crate::machine::kibibytes;
use crate::scene;

/// Longer than any of this may take.
const LONGEST: Duration = Duration::from_secs(900);
/// How often people look.
const LOOKS: usize = 100;
const MODULE: &str = "kind: Module\nname: nothing\nversion: '1'\nruntime: exec\nexec: {command: /bin/true}\n---\n\
                      kind: Module\nname: never\nversion: '1'\nruntime: exec\n\
                      can_run_on_this_node: [{file: /no/such/file}]\nexec: {command: /bin/true}\n---\n";
/// Members of the cluster.
const MEMBERS: usize = 3;
/// Agents that run what does nothing: few, beside a member that only votes …
const FEW: usize = 2;
/// … and many.
const MANY: usize = 20;
/// Subtasks of `/bin/true`.
const SPAWNED: u32 = 20_000;
/// Subtasks that do nothing, without a process each.
const WORKED: u32 = 100_000;

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let cluster = scene::cluster(machine, "j-", MEMBERS);
    cluster.apply(MODULE);
    submits(ask, machine, &cluster, figures);
    spawns(ask, machine, &cluster, figures);
    scene::end(cluster);
    works(machine, figures);
}

/// A million that wait, and what people see of them.
fn submits(ask: &Ask, machine: &Machine, cluster: &Cluster, figures: &Figures) {
    let (mut arrays, mut lists) = (Vec::new(), Vec::new());
    let file = machine.path("tasks.jsonl");
    let mut text = String::new();
    for number in 0..50_000 {
        let _ = writeln!(text, "{{\"n\": {number}, \"pad\": \"{}\"}}", "x".repeat(280));
    }
    fs::write(&file, text).expect("room for the items");
    let before = resident(cluster);
    for trial in 0..ask.trials(3) {
        let begun = Instant::now();
        submit(cluster, &format!("array{trial}"), "never", "subtasks: {array: 0-999999}");
        arrays.push(begun.elapsed());
        let begun = Instant::now();
        submit(
            cluster,
            &format!("items{trial}"),
            "never",
            &format!("subtasks: {{file: '{}'}}", file.display()),
        );
        lists.push(begun.elapsed());
    }
    let time = Times::from_iter(arrays).median();
    figures.figure(
        "submit an array of 1,000,000",
        &brief(time),
        &Goal::within("1 s", time, Duration::from_secs(1)),
    );
    let time = Times::from_iter(lists).median();
    let goal = Goal::within("2 s", time, Duration::from_secs(2));
    figures.figure("submit 50,000 items of 300 bytes", &brief(time), &goal);
    let after = resident(cluster);
    let goal = Goal { text: "150 MiB", reached: Some(after <= 150.0) };
    let figure = format!("{after:.1} MiB, {before:.1} before");
    figures.figure("leader's resident memory with 1,000,000 and more waiting", &figure, &goal);
    for (what, args) in [
        ("counts of a job", vec!["job", "status", "array0", "-o", "json"]),
        ("first page of its subtasks", vec!["job", "subtasks", "array0", "--limit", "100", "-o", "json"]),
    ] {
        let look = |_| {
            let begun = Instant::now();
            cluster.cli(&args).ok();
            begun.elapsed()
        };
        let times: Times = (0..LOOKS).map(look).collect();
        let time = times.percentile(99);
        let goal = Goal::within("p99 50 ms", time, Duration::from_millis(50));
        figures.figure(
            &format!("{what}, at a million, through the command line"),
            &format!("{times}"),
            &goal,
        );
    }
    for trial in 0..ask.trials(3) {
        for name in ["array", "items"] {
            cluster.cli(&["job", "cancel", &format!("{name}{trial}")]).ok();
        }
    }
}

/// Subtasks that do nothing, through workers on few agents and on many.
fn works(machine: &Arc<Machine>, figures: &Figures) {
    let worker = std::env::current_exe().expect("this program").with_file_name("faulty");
    if !worker.is_file() {
        figures.note("workers are NOT MEASURED: first cargo build --release -p sheaf-tests --bin faulty");
        return;
    }
    let module = format!(
        "kind: Module\nname: idle\nversion: '1'\nruntime: plugin\nworker: true\nexec: {{command: '{}'}}\n---\n",
        worker.display()
    );
    for (agents, nodes) in [(FEW, MEMBERS), (MANY, MANY)] {
        let cluster = scene::cluster(machine, &format!("w{agents}-"), nodes);
        cluster.apply(&module);
        works_on(&cluster, agents, figures);
        scene::end(cluster);
    }
}

fn works_on(cluster: &Cluster, agents: usize, figures: &Figures) {
    let only = only_on(cluster, agents);
    // A first one, so that workers and rates are known.
    submit(cluster, "warm", "idle", &format!("subtasks: {{array: 0-999}}\n{only}"));
    over(cluster, "warm");
    let begun = Instant::now();
    submit(cluster, "worked", "idle", &format!("subtasks: {{array: 0-{}}}\n{only}", WORKED - 1));
    let status = over(cluster, "worked");
    let rate = f64::from(WORKED) / begun.elapsed().as_secs_f64();
    assert_eq!(status["counts"]["finished"], WORKED, "{status:#}");
    let goal = Goal { text: "20,000 per s", reached: Some(rate >= 20_000.0) };
    let name = format!("100,000 no-op subtasks through workers on {agents} agents");
    figures.figure(&name, &format!("{rate:.0} per s"), &goal);
}

/// That a job runs on so many of the agents, and no other.
fn only_on(cluster: &Cluster, agents: usize) -> String {
    let names: Vec<String> = cluster.agents().iter().take(agents).map(Agent::name).collect();
    format!("node_list_rules: [{}]", names.join(", "))
}

/// A process for each, by turns with HyperQueue if that is there.
fn spawns(ask: &Ask, machine: &Machine, cluster: &Cluster, figures: &Figures) {
    let bare = bare_spawns();
    let other = hyperqueue::find();
    match &other {
        Ok(program) => figures.note(&format!(
            "compared with {program}, which keeps no journal unless it is asked to; agents are idle meanwhile"
        )),
        Err(why) => figures.note(&format!("NOT COMPARED with HyperQueue: {why}")),
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=ask.rounds(3) {
        ours.push(spawned(cluster, round));
        let Ok(program) = &other else { continue };
        match hyperqueue_round(program, machine, round) {
            Ok(rate) => theirs.push(rate),
            Err(why) => figures.note(&format!("round {round}: HyperQueue FAILED, no figure of it: {why}")),
        }
    }
    let rate = median(&ours).unwrap_or(0.0);
    let compared = match median(&theirs) {
        Some(their) => {
            format!("HyperQueue {}: {:.2} × HyperQueue", each(&theirs), rate / their.max(f64::MIN_POSITIVE))
        }
        None => "HyperQueue was NOT MEASURED".to_owned(),
    };
    let goal = Goal { text: "1,600 per s", reached: Some(rate >= 1600.0) };
    let figure =
        format!("{}; {compared}; two threads that do nothing but spawn: {bare:.0} per s", each(&ours));
    figures.figure("20,000 /bin/true on 2 agents", &figure, &goal);
}

/// The median and each round.
fn each(rates: &[f64]) -> String {
    let all: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    format!("{:.0} per s (rounds {})", median(rates).unwrap_or(0.0), all.join(", "))
}

/// How many a second.
fn spawned(cluster: &Cluster, round: usize) -> f64 {
    let (name, only) = (format!("spawned{round}"), only_on(cluster, FEW));
    let begun = Instant::now();
    submit(cluster, &name, "nothing", &format!("subtasks: {{array: 0-{}}}\n{only}", SPAWNED - 1));
    // One command that is told: to ask again and again starts programs as well, with the processors that are measured.
    cluster.agent(1).follow(&["job", "watch", &name]).finish(LONGEST).ok();
    let status = over(cluster, &name);
    let rate = f64::from(SPAWNED) / begun.elapsed().as_secs_f64();
    assert_eq!(status["counts"]["finished"], SPAWNED, "{status:#}");
    rate
}

fn hyperqueue_round(program: &Program, machine: &Machine, round: usize) -> Result<f64, String> {
    let other = HyperQueue::start(program, machine.place(), round, FEW)?;
    let took = other.run(SPAWNED);
    other.end();
    Ok(f64::from(SPAWNED) / took?.as_secs_f64())
}

/// Two threads that start the same program and wait for it, for two seconds.
fn bare_spawns() -> f64 {
    let span = Duration::from_secs(2);
    let spawn = move || {
        let begun = Instant::now();
        let mut count = 0_u32;
        while begun.elapsed() < span {
            let child = Command::new("/bin/true").stdout(Stdio::null()).status();
            assert!(child.is_ok_and(|status| status.success()));
            count += 1;
        }
        count
    };
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(spawn)).collect();
    let count: u32 = threads.into_iter().map(|thread| thread.join().expect("it spawns")).sum();
    f64::from(count) / span.as_secs_f64()
}

pub(crate) fn submit(cluster: &Cluster, name: &str, module: &str, subtasks: &str) {
    jobs::submit(cluster, &jobs::job(name, module, subtasks));
}

pub(crate) fn over(cluster: &Cluster, name: &str) -> Value {
    jobs::over_within(cluster, name, LONGEST)
}

/// Of the leader, in MiB.
pub(crate) fn resident(cluster: &Cluster) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.leader().pid())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    // Far less memory than an f64 can count.
    line.and_then(kibibytes).unwrap_or(0) as f64 / 1024.0
}
