//! The fuzz targets, as long as one likes, with inputs that no test has tried.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sheaf_tests::Machine;
use sheaf_tests::fuzz::{Failure, Runner, TARGETS, Target, Tried};

use crate::ask::Ask;
use crate::figure::{Figures, Goal};

/// As much stack as a server's threads have.
const STACK: usize = 2 << 20;
/// Failures of a target that are shown, of those that are not alike.
const SHOWN: usize = 10;

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let chosen: Vec<&'static Target> = match ask.target() {
        None => TARGETS_ALL.iter().collect(),
        Some(name) => TARGETS_ALL.iter().filter(|target| target.name == name).collect(),
    };
    if chosen.is_empty() {
        let names: Vec<&str> = TARGETS_ALL.iter().map(|target| target.name).collect();
        panic!("there is no such target; there are {}", names.join(", "));
    }
    // What ends the process ends it unsaid, a stack that runs over say: the file says what was tried then.
    let begun = machine.place().join("fuzz.begun");
    figures.note(&format!("if this ends all at once: {} has what was tried last", begun.display()));
    let seconds = ask.minutes(1) * 60;
    let each = Duration::from_secs(seconds) / u32::try_from(chosen.len()).unwrap_or(1);
    let (first, trials) = (ask.seed(1_000_000), ask.trials(0));
    let mut failed = 0;
    for target in chosen {
        let limit = Limit { first, trials: trials as u64, each };
        let note = begun.clone();
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || tried(target, limit, &note));
        let (tried, took) = thread.expect("threads can be started").join().expect("panics are caught within");
        failed += told(target, &tried, took, figures);
    }
    assert_eq!(failed, 0, "inputs were not taken as they must be");
}

const TARGETS_ALL: &[Target] = &TARGETS;

/// How much is tried.
#[derive(Clone, Copy)]
struct Limit {
    first: u64,
    /// So many inputs; 0: as many as fit into the time.
    trials: u64,
    each: Duration,
}

fn tried(target: &'static Target, limit: Limit, note: &std::path::Path) -> (Tried, Duration) {
    let mut runner = Runner::of(target);
    let begun = Instant::now();
    let end = if limit.trials > 0 { limit.first.saturating_add(limit.trials) } else { u64::MAX };
    let tried = runner.tries(limit.first..end, |seed| {
        let _ = fs::write(note, format!("--target {} --seed {seed} --trials 128\n", target.name));
        limit.trials == 0 && begun.elapsed() >= limit.each
    });
    (tried, begun.elapsed())
}

/// Says what came of it; how many failures there are that are not alike.
fn told(target: &Target, tried: &Tried, took: Duration, figures: &Figures) -> usize {
    let mut kinds: Vec<String> = Vec::new();
    for failure in &tried.failures {
        let kind = failure.kind();
        if !kinds.contains(&kind) {
            kinds.push(kind);
            if kinds.len() <= SHOWN {
                show(failure, figures);
            }
        }
    }
    let rate = tried.inputs as f64 / took.as_secs_f64().max(0.001);
    figures.figure(
        &format!("{}: {}", target.name, target.about),
        &format!("{rate:.0} inputs/s, {} inputs, {} failures", tried.inputs, kinds.len()),
        &Goal { text: "no failure", reached: Some(kinds.is_empty()) },
    );
    kinds.len()
}

fn show(failure: &Failure, figures: &Figures) {
    for line in failure.to_string().lines() {
        figures.note(line);
    }
}
