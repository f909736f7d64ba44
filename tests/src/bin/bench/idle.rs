//! Agents with nothing to do: memory and processor time of members and of a node that is none.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sheaf_tests::{Cluster, Machine};

use crate::ask::Ask;
use crate::figure::{Figures, Goal};
use crate::machine::kibibytes;
use crate::scene;

/// After they are ready: what starting has begun comes to its end.
const SETTLE: Duration = Duration::from_secs(10);
/// Clock ticks per second in `/proc`, on every Linux that we run on.
const TICKS: f64 = 100.0;
const MEMORY: f64 = 40.0;
const SHARE: f64 = 1.0;

/// A process at a moment.
struct Sample {
    at: Instant,
    /// Processor time so far, in clock ticks.
    ticks: f64,
    /// Resident memory now and at most, in MiB.
    resident: f64,
    peak: f64,
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let span = Duration::from_secs(ask.seconds(60));
    let cluster = scene::cluster(machine, "", 4);
    let roles = roles(&cluster);
    rest(SETTLE);
    let before: Vec<Sample> = cluster.agents().iter().map(|agent| sample(agent.pid())).collect();
    rest(span);
    for ((agent, role), before) in cluster.agents().iter().zip(&roles).zip(&before) {
        let after = sample(agent.pid());
        let share = (after.ticks - before.ticks) / TICKS / (after.at - before.at).as_secs_f64() * 100.0;
        let Sample { resident, peak, .. } = after;
        let figure = format!(
            "{resident:.1} MiB resident (at most {peak:.1}), {share:.2} % of a core over {} s",
            span.as_secs()
        );
        let reached = resident <= MEMORY && share < SHARE;
        let goal = Goal { text: "40 MiB, under 1 % of a core", reached: Some(reached) };
        figures.figure(&format!("idle agent, {role}"), &figure, &goal);
    }
    // Who led in the meantime matters for the figures.
    if self::roles(&cluster) != roles {
        figures.note("WARNING: the leader changed meanwhile");
    }
    scene::end(cluster);
}

fn roles(cluster: &Cluster) -> Vec<&'static str> {
    let leader = cluster.leader().name();
    let voters: Vec<String> = cluster.voters().iter().map(|agent| agent.name()).collect();
    let role = |name: String| match () {
        () if name == leader => "member that leads",
        () if voters.contains(&name) => "member",
        () => "no member",
    };
    cluster.agents().iter().map(|agent| role(agent.name())).collect()
}

/// # Panics
/// If there is no such process.
fn sample(pid: u32) -> Sample {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let (stat, status) = (read("stat"), read("status"));
    // After the name in brackets: state, ten others, then user and system time.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    let memory = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        // Far less memory than an f64 can count.
        line.and_then(kibibytes).unwrap_or(0) as f64 / 1024.0
    };
    Sample { at: Instant::now(), ticks, resident: memory("VmRSS:"), peak: memory("VmHWM:") }
}

/// Does nothing, so that nothing disturbs what is measured.
#[expect(
    clippy::disallowed_methods,
    reason = "the time itself is what is measured, and this is the only thread"
)]
fn rest(span: Duration) {
    thread::sleep(span);
}
