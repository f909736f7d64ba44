//! The simulation, at length: many seeds, each with every fault, and clusters larger than any test's.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sheaf_simulation::{Outcome, Plan, run as simulate};
use sheaf_tests::Machine;

use crate::ask::{Ask, Large};
use crate::figure::{Figures, Goal, brief};
use crate::machine::kibibytes;

/// Progress is told so often.
const TOLD: u32 = 10;

pub(crate) fn run(ask: &Ask, _machine: &Arc<Machine>, figures: &Figures) {
    let mut failed = 0;
    if ask.large() != Large::Only {
        failed += many_seeds(ask.seeds(500), figures);
    }
    if ask.large() != Large::No {
        failed += large(figures) + losing(figures);
    }
    assert_eq!(failed, 0, "rules were broken");
}

/// Runs seeds on all cores; how many break a rule.
fn many_seeds(seeds: u64, figures: &Figures) -> u64 {
    let next = AtomicU64::new(0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (done, outcomes) = sync_channel(cores);
    let begun = Instant::now();
    let told = thread::scope(|scope| {
        for _ in 0..cores {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = seed >= seeds || done.send(simulate(seed, &Plan::of_seed(seed))).is_err();
                    if over {
                        return;
                    }
                }
            });
        }
        drop(done);
        tell(&outcomes, seeds, figures)
    });
    let took = begun.elapsed();
    let Told { failed, steps } = told;
    figures.figure(
        &format!("{seeds} seeds, each 85 virtual seconds with all faults"),
        &format!("{failed} break a rule"),
        &Goal { text: "0", reached: Some(failed == 0) },
    );
    figures.aside("that took", &format!("{} on {cores} cores, {steps} steps", brief(took)));
    failed
}

struct Told {
    failed: u64,
    steps: u64,
}

fn tell(outcomes: &Receiver<Outcome>, seeds: u64, figures: &Figures) -> Told {
    let mut told = Told { failed: 0, steps: 0 };
    for (count, outcome) in (1..).zip(outcomes) {
        told.steps += outcome.steps;
        if outcome.violation.is_some() {
            told.failed += 1;
            figures.note(&outcome.to_string());
        }
        if count % seeds.div_ceil(u64::from(TOLD)) == 0 {
            figures.note(&format!("{count} of {seeds} seeds, {} failed", told.failed));
        }
    }
    told
}

fn large(figures: &Figures) -> u64 {
    let (outcome, took) =
        measured("1,000 nodes, 1,000 buckets, one virtual minute with faults", 1000, figures);
    figures.figure("that took", &brief(took), &Goal::within("30 s", took, Duration::from_secs(30)));
    broken(&outcome, figures)
}

fn losing(figures: &Figures) -> u64 {
    let name = "5,000 nodes, 1,000 single-node buckets, 500 nodes lost at once";
    let (outcome, took) = measured(name, 5000, figures);
    let restored = outcome.counts.restored.map(Duration::from_micros);
    let limit = Duration::from_secs(10);
    figures.figure(
        &format!("until all {} that ran there run again, in virtual time", outcome.counts.interrupted),
        &restored.map_or_else(|| "they never did".to_owned(), brief),
        &Goal { text: "10 s", reached: Some(restored.is_some_and(|it| it <= limit)) },
    );
    figures.aside("that took", &brief(took));
    broken(&outcome, figures)
}

/// Simulates a large cluster, and says how much memory that took at most.
fn measured(name: &str, nodes: usize, figures: &Figures) -> (Outcome, Duration) {
    let plan = if nodes == 1000 { Plan::large(nodes, 1000, 0) } else { Plan::losing(nodes, 1000) };
    // From here on the peak counts anew; where that cannot be, the figure is the peak of all until now.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let begun = Instant::now();
    let outcome = simulate(1, &plan);
    let took = begun.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).and_then(kibibytes).unwrap_or(0);
    figures.note(&format!("{name}: {outcome}"));
    figures.aside(&format!("{name}: memory at most"), &format!("{} MiB", peak / 1024));
    (outcome, took)
}

fn broken(outcome: &Outcome, figures: &Figures) -> u64 {
    if let Some(violation) = &outcome.violation {
        figures.note(&format!("a rule is broken: {violation}"));
    }
    u64::from(outcome.violation.is_some())
}
