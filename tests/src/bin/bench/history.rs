//! What a million subtasks that have finished cost: what people see of them and how soon, how long they are searched (J20), the
//! leader's memory and disk, a member that starts again; and that nothing of a job is lost, whoever is killed when.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_tests::{Agent, Cluster, Machine, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::jobs::{over, resident, submit};
use crate::scene;

/// Longer than any of this may take.
const LONGEST: Duration = Duration::from_secs(900);
/// How often people look.
const LOOKS: usize = 100;
/// How often they search.
const SEARCHES: usize = 5;
/// Subtasks that are granted and have not ended when the leader is killed.
const IN_FLIGHT: usize = 10_000;
/// Subtasks of each trial of the promise that `--wait` makes.
const PROMISED: usize = 2_000;
/// Jobs whose subtasks all fail, each under a priority of its own.
const PRIORITIES: [(&str, u8); 2] = [("unlucky", 50), ("unlucky-soon", 90)];
/// How long each that is in flight takes: so long that none lies ready on a node beyond its slots.
const TAKES: Duration = Duration::from_millis(500);

/// Why nothing is measured without the worker.
pub(crate) const NO_WORKER: &str =
    "NOT MEASURED: first cargo build -p sheaf-tests --bin faulty, in the profile of this program";

/// The program of the workers, if it was built.
fn worker() -> Option<PathBuf> {
    let worker = std::env::current_exe().expect("this program").with_file_name("faulty");
    worker.is_file().then_some(worker)
}

/// The modules whose subtasks do nothing, or what their items say: `idle` and `traced`. None: their program was not built.
pub(crate) fn worker_module(machine: &Machine) -> Option<String> {
    Some(module(&worker()?, machine))
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let Some(worker) = worker() else {
        figures.note(NO_WORKER);
        return;
    };
    let subtasks = ask.subtasks(1_000_000);
    let cluster = scene::cluster(machine, "h-", 3);
    cluster.apply(&module(&worker, machine));
    remembered(ask, machine, &cluster, subtasks, figures);
    kept_promises(ask, &cluster, figures);
    scene::end(cluster);
    killed(machine, &worker, subtasks.min(5 * IN_FLIGHT), figures);
}

/// Each attempt that begins leaves a line.
fn module(worker: &std::path::Path, machine: &Machine) -> String {
    format!(
        "kind: Module\nname: idle\nversion: '1'\nruntime: plugin\nworker: true\nexec: {{command: '{0}'}}\n---\n\
         kind: Module\nname: traced\nversion: '1'\nruntime: plugin\nworker: true\n\
         exec: {{command: '{0}', env: {{FAULTY_TRACE: '{1}', FAULTY_AT_ONCE: '{2}'}}}}\n---\n",
        worker.display(),
        trace(machine).display(),
        IN_FLIGHT
    )
}

fn trace(machine: &Machine) -> PathBuf {
    machine.path("attempts")
}

fn remembered(ask: &Ask, machine: &Machine, cluster: &Cluster, subtasks: usize, figures: &Figures) {
    let before = resident(cluster);
    let begun = Instant::now();
    submit(cluster, "history", "idle", &format!("subtasks: {{array: 0-{}}}", subtasks - 1));
    let status = over(cluster, "history");
    assert_eq!(status["counts"]["finished"], subtasks, "{status:#}");
    figures.note(&format!("{subtasks} subtasks finished in {}", brief(begun.elapsed())));
    let failed = failures(machine, cluster, (subtasks / 200).clamp(30, 5_000));
    let after = resident(cluster);
    let goal = Goal { text: "300 MiB", reached: Some(after <= 300.0) };
    let figure = format!("{after:.1} MiB, {before:.1} before");
    figures.figure(&format!("leader's resident memory with {subtasks} finished"), &figure, &goal);
    let by_priority = "SELECT priority, count(*) FROM subtasks WHERE state = 'failed' GROUP BY 1";
    let rows = cluster.json(&["query", by_priority, "-o", "json"]);
    assert_eq!(rows.as_array().map(Vec::len), Some(PRIORITIES.len()), "{rows:#}");
    let groups = "SELECT fingerprint, count(*), min(message) FROM failures GROUP BY 1 ORDER BY 2 DESC";
    for (what, args) in [
        ("counts of the job", vec!["job", "status", "history", "-o", "json"]),
        ("first page of its subtasks", vec!["job", "subtasks", "history", "--limit", "100", "-o", "json"]),
        ("failed by priority", vec!["query", by_priority, "-o", "json"]),
        ("groups of failures", vec!["query", groups, "-o", "json"]),
    ] {
        let look = |_| {
            let begun = Instant::now();
            cluster.cli(&args).ok();
            begun.elapsed()
        };
        let times: Times = (0..LOOKS).map(look).collect();
        let goal = Goal::within("p99 50 ms", times.percentile(99), Duration::from_millis(50));
        let name =
            format!("{what}, beside {subtasks} finished and {failed} failed, through the command line");
        figures.figure(&name, &times.to_string(), &goal);
    }
    searched(cluster, subtasks, figures);
    let started: Times = (0..ask.trials(3)).map(|_| started_again(cluster, subtasks)).collect();
    let goal = Goal::within("3 s", started.median(), Duration::from_secs(3));
    let name =
        format!("restart of a member with {subtasks} finished on disk, until it tells of them and is ready");
    figures.figure(&name, &started.to_string(), &goal);
}

/// What somebody asks who looks for one of them, or for what they have in common; some of it reads all of them.
fn searched(cluster: &Cluster, subtasks: usize, figures: &Figures) {
    let one = subtasks / 2;
    let queries = [
        "SELECT name, state, finished, failed FROM jobs".to_owned(),
        "SELECT * FROM subtasks WHERE job = 'history' LIMIT 1000".to_owned(),
        format!("SELECT * FROM subtasks WHERE job = 'history' AND subtask = {one}"),
        format!("SELECT * FROM attempts WHERE job = 'history' AND subtask = {one}"),
        format!("SELECT * FROM attempts WHERE job = 'history' AND subtask = {one} AND block = {one} / 1024"),
        "SELECT * FROM subtasks WHERE job = 'unlucky' AND state = 'failed' LIMIT 1000".to_owned(),
        "SELECT * FROM attempts WHERE job = 'unlucky' AND state = 'failed' AND subtask = 7".to_owned(),
        "SELECT state, count(*) FROM subtasks WHERE job = 'history' GROUP BY 1".to_owned(),
        "SELECT node, count(*), max(ended_at) FROM attempts WHERE job = 'history' GROUP BY 1".to_owned(),
    ];
    let condition = "state = 'failed' AND message LIKE '%/data/1%'";
    let mut looks: Vec<Vec<&str>> =
        queries.iter().map(|sql| vec!["query", sql, "--timeout", "60s", "-o", "json"]).collect();
    looks.push(vec!["job", "subtasks", "unlucky", "--where", condition, "-o", "json"]);
    for args in looks {
        let look = |_| {
            let begun = Instant::now();
            let found = cluster.cli(&args).ok().json();
            assert!(found.as_array().is_some_and(|rows| !rows.is_empty()), "{args:?}: {found}");
            begun.elapsed()
        };
        let times: Times = (0..SEARCHES).map(look).collect();
        figures.aside(&args[..args.len() - 2].join(" "), &times.to_string());
    }
    let database = cluster.leader().dir().join(sheaf_consensus::DATABASE);
    let bytes = fs::metadata(&database).map_or(0, |file| file.len());
    figures
        .aside(&format!("the leader's database with {subtasks} finished"), &format!("{} MiB", bytes >> 20));
}

/// Subtasks that fail in three ways, in a job of each priority. How many.
pub(crate) fn failures(machine: &Machine, cluster: &Cluster, count: usize) -> usize {
    let each = count.div_ceil(PRIORITIES.len());
    let file = machine.path("unlucky.jsonl");
    let mut text = String::new();
    for number in 0..each {
        let _ = match number % 3 {
            0 => writeln!(text, "{{\"do\": \"no tile at /data/{number}.tif\"}}"),
            1 => writeln!(text, "{{\"do\": \"status 503 after {number} s\"}}"),
            _ => writeln!(text, "{{\"do\": \"out of memory\"}}"),
        };
    }
    fs::write(&file, text).expect("room for the items");
    for (name, priority) in PRIORITIES {
        let file = file.display();
        let more = format!("subtasks: {{file: '{file}'}}\npriority: {priority}\nretry: {{max_attempts: 1}}");
        submit(cluster, name, "idle", &more);
    }
    for (name, _) in PRIORITIES {
        let status = over(cluster, name);
        assert_eq!(status["counts"]["failed"], each, "{status:#}");
    }
    each * PRIORITIES.len()
}

/// From starting a follower until it tells how the job went, and counts as ready.
fn started_again(cluster: &Cluster, subtasks: usize) -> Duration {
    let agent = cluster.follower();
    agent.stop();
    let begun = Instant::now();
    agent.start();
    wait_for("it tells of the job", LONGEST, || {
        let output = agent.cli(&["job", "status", "history", "-o", "json"]);
        let tells = output.code == 0 && output.json()["counts"]["finished"] == subtasks;
        if tells { Ok(()) } else { Err(output.to_string()) }
    });
    cluster.wait_back(agent);
    begun.elapsed()
}

/// What `--wait` has promised is known after all agents are killed at that moment.
fn kept_promises(ask: &Ask, cluster: &Cluster, figures: &Figures) {
    let mut forgotten = 0;
    let trials = ask.trials(3);
    for trial in 0..trials {
        let name = format!("promised{trial}");
        let document =
            format!("kind: Job\nname: {name}\nmodule: idle\nsubtasks: {{array: 0-{}}}\n", PROMISED - 1);
        cluster
            .cli_with(&["job", "submit", "-f", "-", "--wait", "--timeout", "10m"], document.as_bytes())
            .ok();
        cluster.agents().iter().for_each(Agent::kill_machine);
        cluster.start_all();
        cluster.wait_ready();
        let finished = over(cluster, &name)["counts"]["finished"].as_u64().unwrap_or_default();
        forgotten += PROMISED as u64 - finished;
    }
    let goal = Goal { text: "0", reached: Some(forgotten == 0) };
    let name = format!(
        "all agents killed right after --wait said that {PROMISED} finished: forgotten, in {trials} trials"
    );
    figures.promise(&name, &forgotten.to_string(), &goal);
}

/// The leader is killed with many in flight.
fn killed(machine: &Arc<Machine>, worker: &std::path::Path, subtasks: usize, figures: &Figures) {
    let in_flight = IN_FLIGHT.min(subtasks / 2);
    // Half as many again: those that have ended take theirs until that is recorded and others are granted.
    let slots = in_flight.div_ceil(2);
    let cluster = scene::cluster_with(machine, "k-", 3, &format!("[jobs]\nslots = {slots}\n"));
    cluster.apply(&module(worker, machine));
    let file = machine.path("flight.jsonl");
    let item = format!("{{\"do\": \"sleep\", \"ms\": {}}}\n", TAKES.as_millis());
    fs::write(&file, item.repeat(subtasks)).expect("room for the items");
    let more =
        format!("subtasks: {{file: '{}'}}\nretry: {{max_attempts: 9, backoff: 10ms..100ms}}", file.display());
    submit(&cluster, "flight", "traced", &more);
    let leader = cluster.leader();
    let running = wait_for("enough of them are in flight", LONGEST, || match granted(leader)? {
        (running, _) if running >= in_flight as u64 => Ok(running),
        other => Err(format!("{other:?}")),
    });
    let other = cluster.follower();
    let begun = Instant::now();
    leader.kill_machine();
    // What was in the log and not applied there yet is less than a half of what the others' slots take.
    let before = granted(other).expect("a member answers by itself").1;
    let enough = before + in_flight as u64 / 3;
    let goes_on = wait_for("dispatch goes on", LONGEST, || match granted(other)? {
        (_, now) if now > enough => Ok(begun.elapsed()),
        (_, now) => Err(format!("{now} granted, {before} before")),
    });
    leader.start();
    cluster.wait_back(leader);
    let status = over(&cluster, "flight");
    let lost = subtasks as u64 - status["counts"]["finished"].as_u64().unwrap_or_default();
    let traced = traced(machine);
    figures.note(&format!(
        "{running} were in flight; {} attempts begun for {subtasks} subtasks; dispatch goes on is told by {} more that are granted, \
         which the slots of those that live take when theirs have ended, each after {}",
        traced.0,
        in_flight / 3,
        brief(TAKES)
    ));
    let goal = Goal::within("3 s", goes_on, Duration::from_secs(3));
    figures.figure(
        &format!("kill -9 of the leader with {running} in flight: dispatch goes on"),
        &brief(goes_on),
        &goal,
    );
    let goal = Goal { text: "0", reached: Some(lost == 0 && traced.1 == subtasks) };
    let figure = format!("{lost}; {} of {subtasks} have begun", traced.1);
    figures.promise("and lost with it", &figure, &goal);
    scene::end(cluster);
}

/// How many run as that member knows, and how many were ever granted.
fn granted(agent: &Agent) -> Result<(u64, u64), String> {
    let counts = "SELECT running, running + finished AS granted FROM jobs WHERE name = 'flight'";
    let row = agent.cli(&["query", counts, "-o", "json"]).try_json()?[0].clone();
    let number = |name: &str| row[name].as_u64().ok_or_else(|| row.to_string());
    Ok((number("running")?, number("granted")?))
}

/// Attempts that left a line, and subtasks that did.
fn traced(machine: &Machine) -> (usize, usize) {
    let text = fs::read_to_string(trace(machine)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("flight ")?.split(' ').next());
    let all: Vec<&str> = lines.collect();
    let once: std::collections::BTreeSet<&&str> = all.iter().collect();
    (all.len(), once.len())
}
