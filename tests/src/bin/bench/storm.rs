//! A thousand agents that lose their leader at the same moment: whether looking for the next one delays its heartbeats, costs
//! an election or a lease, and how soon all have a session again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_tests::crowd::Crowd;
use sheaf_tests::{Agent, Cluster, Machine, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;

const NODES: usize = 5;
const AGENTS: usize = 1000;
/// How long heartbeats are looked at when all is calm.
const CALM: Duration = Duration::from_secs(10);
/// A storm that lasts longer has failed.
const LONGEST: Duration = Duration::from_secs(60);
/// A lease: who is acknowledged within it keeps its work.
const TTL: Duration = Duration::from_secs(3);

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let cluster = scene::cluster(machine, "", NODES);
    let begun = Instant::now();
    let crowd = Crowd::gather(&cluster, AGENTS);
    figures.note(&format!("{AGENTS} agents joined within {}", brief(begun.elapsed())));
    crowd.take_answers();
    let calm = Instant::now();
    wait_for("a while passes", LONGEST, || if calm.elapsed() > CALM { Ok(()) } else { Err(String::new()) });
    figures.aside("calm: heartbeat until acknowledged", &times(&crowd).to_string());
    for _ in 0..ask.trials(3) {
        let leader = cluster.leader();
        storm("the leader is killed", &cluster, &crowd, leader, &|| leader.kill(), figures);
        leader.start();
        back(leader);
        let leader = cluster.leader();
        let hand_over = || drop(leader.cli(&["cluster", "transfer"]).ok());
        storm("leadership is handed over", &cluster, &crowd, leader, &hand_over, figures);
    }
    drop(crowd);
    scene::end(cluster);
}

/// Waits until a node that was started again is ready.
fn back(agent: &Agent) {
    let name = agent.name();
    wait_for(&format!("{name} is back"), LONGEST, || {
        let output = agent.cli(&["node", "status", &name, "-o", "json"]);
        let is_ready = output.code == 0 && output.json()["status"] == "ready";
        if is_ready { Ok(()) } else { Err(output.to_string()) }
    });
}

fn times(crowd: &Crowd) -> Times {
    crowd.take_answers().into_iter().collect()
}

fn storm(name: &str, cluster: &Cluster, crowd: &Crowd, former: &Agent, lose: &dyn Fn(), figures: &Figures) {
    let others: Vec<&Agent> = cluster.agents().iter().filter(|agent| agent.name() != former.name()).collect();
    let silences = crowd.silences();
    crowd.take_answers();
    let lost = Instant::now();
    lose();
    let ask = || others[0].cli(&["cluster", "status", "-o", "json"]);
    let (new, term) = wait_for("another one leads", LONGEST, || {
        let status = ask().try_json()?;
        let new = others.iter().find(|agent| status["leader"] == agent.name().as_str());
        new.map(|new| (*new, status["term"].clone())).ok_or_else(|| status.to_string())
    });
    let elected = lost.elapsed();
    let began = crowd.wait_led_by(&new.address(), LONGEST);
    let back: Times = began.into_iter().map(|at| at.saturating_duration_since(lost)).collect();
    let answered = times(crowd);
    let calm = Instant::now();
    wait_for("a while passes", LONGEST, || if calm.elapsed() > CALM { Ok(()) } else { Err(String::new()) });
    let status = ask().ok().json();
    let same = status["term"] == term && status["leader"] == new.name().as_str();
    let further = if same { "none" } else { "one or more" };
    let goal = Goal { text: "none", reached: Some(same) };
    figures.figure(&format!("{name}: further elections"), further, &goal);
    let (late, full) = strain(cluster, new);
    let goal = Goal { text: "none", reached: Some(late == 0) };
    figures.figure(
        &format!("{name}: timers of the new leader that were over 50 ms late, ever"),
        &late.to_string(),
        &goal,
    );
    figures.aside(&format!("{name}: queues that were full there"), &full);
    figures.aside(&format!("{name}: it was seen that another leads after"), &brief(elected));
    let goal = Goal::within("all within a lease, 3 s", back.percentile(100), TTL);
    figures.figure(&format!("{name}: until each has a session again"), &back.to_string(), &goal);
    figures.aside(&format!("{name}: heartbeat until acknowledged, meanwhile"), &answered.to_string());
    figures.aside(&format!("{name}: the same, in the calm after"), &times(crowd).to_string());
    let silent = crowd.silences() - silences;
    figures.aside(&format!("{name}: sessions given up for want of an answer"), &silent.to_string());
}

/// How many timers of a node came late since it began, its heartbeats to members among them, and which queues were full.
fn strain(cluster: &Cluster, agent: &Agent) -> (u64, String) {
    let facts = cluster.json(&["node", "status", &agent.name(), "-o", "json"])["facts"].take();
    (facts["late_timers"].as_u64().unwrap_or(u64::MAX), facts["full_queues"].to_string())
}
