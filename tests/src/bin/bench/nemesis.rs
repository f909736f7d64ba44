//! Everything that can go wrong, by chance, round after round; and the one thing that is known to be wrong, measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sheaf_tests::beats::{self, Life};
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::nemesis::{self, Plan, Report};
use sheaf_tests::{Cluster, Machine, processes, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;

/// How long things go wrong in a round.
const CHAOS: Duration = Duration::from_secs(60);
/// Of the job in each round.
const SUBTASKS: u32 = 50_000;
/// A trial that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let whole = Duration::from_secs(60 * ask.minutes(20));
    let (begun, first) = (Instant::now(), ask.seed(1));
    let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut calls, mut acts, mut programs, mut bindings) = ((0, 0), 0, 0, 0);
    let (mut subtasks, mut attempts) = (0, 0);
    let mut healed = Vec::new();
    let mut rounds = 0;
    while begun.elapsed() < whole {
        let seed = first + rounds;
        let report =
            nemesis::run(machine, &Plan { seed, chaos: CHAOS, beat: scene::this(), subtasks: SUBTASKS });
        rounds += 1;
        figures.note(&format!("seed {seed}: {}", line(&report)));
        report.faults.0.iter().for_each(|(what, count)| *faults.entry(what).or_default() += count);
        calls = (calls.0 + report.calls.0, calls.1 + report.calls.1);
        (acts, programs) = (acts + report.acts, programs + report.programs);
        bindings += report.bindings;
        subtasks += report.work.subtasks;
        attempts += report.work.attempts;
        healed.push(report.healed);
    }
    for (what, count) in &faults {
        figures.aside(what, &format!("{count} times"));
    }
    // Whatever is wrong ends a round, and all, with what it is.
    let none = Goal { text: "0", reached: Some(true) };
    figures.figure(&format!("two at once, of {programs} programs under {bindings} bindings"), "0", &none);
    let (answered, silent) = calls;
    let name = format!("answers that fit no order, of {answered} and {silent} calls without one");
    figures.figure(&name, "0", &none);
    figures.figure(&format!("acknowledged changes lost, of {answered} and {acts} acts"), "0", &none);
    let name = format!("subtasks without one success or attempts begun twice, of {subtasks} and {attempts}");
    figures.figure(&name, "0", &none);
    let healed: Times = healed.into_iter().collect();
    figures.aside("from the last mending until everything runs", &healed.to_string());
    together(ask, machine, figures);
}

fn line(report: &Report) -> String {
    let (answered, silent) = report.calls;
    format!(
        "{}; {answered} calls, {silent} without an answer, {} acts, {} bindings, {} attempts of {} subtasks, healed in {}",
        report.faults,
        report.acts,
        report.bindings,
        report.work.attempts,
        report.work.subtasks,
        brief(report.healed)
    )
}

/// A machine that stands still for longer than its leases and goes on with all its processes at once: a program may run
/// until its keeper has its turn. How long it does.
fn together(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let cluster = scene::cluster(machine, "t", 3);
    scene::beating(&cluster);
    let times: Vec<Duration> = (0..ask.trials(20)).map(|number| overlap(&cluster, number)).collect();
    let both = times.iter().filter(|time| !time.is_zero()).count();
    let times: Times = times.into_iter().collect();
    let name = "a machine stood still, then all of it goes on at once: both ran";
    figures.aside(name, &format!("in {both} of {} trials; {times}", times.count()));
    scene::end(cluster);
}

fn overlap(cluster: &Cluster, number: usize) -> Duration {
    let leader = cluster.leader().name();
    let victim = cluster.agents().iter().find(|agent| agent.name() != leader).expect("there are three");
    let name = format!("/together/{number}");
    let trace = Trace::new(cluster.machine().path(&format!("trace.together.{number}")));
    let only = format!("node_list_rules: [{}]", victim.name());
    cluster.apply_and_wait(&bucket(&name, "beating", &trace, &only));
    cluster.apply_and_wait(&bucket(&name, "beating", &trace, ""));
    let lives = |count: usize| {
        wait_for(&format!("{count} programs have lived"), LONGEST, || match beats::programs(&trace) {
            lives if lives.len() >= count => Ok(lives),
            lives => Err(format!("{lives:?}")),
        })
    };
    lives(1);
    let all: Vec<u32> = victim.processes().iter().map(|process| process.pid).chain([victim.pid()]).collect();
    let signal = |signal: Signal| all.iter().for_each(|pid| processes::signal(*pid, signal));
    signal(Signal::STOP);
    let stopped: Vec<Life> = lives(2);
    signal(Signal::CONT);
    cluster.wait_back(victim);
    wait_for("what stood still is dead", LONGEST, || {
        let rest = victim.programs(&name);
        if rest.is_empty() { Ok(()) } else { Err(format!("{rest:?}")) }
    });
    let old = beats::programs(&trace).into_iter().find(|life| life.id == stopped[0].id);
    cluster.delete(&[&name]);
    Duration::from_nanos(old.map_or(0, |old| old.last.saturating_sub(stopped[1].first)))
}
