//! Bugs on purpose: the recorded seed of each breaks a rule with the bug, and none without it; all else is the same.
#![cfg(feature = "planted")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sheaf_simulation::{Outcome, Plan, Planted, Rule, run};

/// Seeds that a search goes through.
const SEARCHED: u64 = 2000;

/// The first seed that shows each bug, and the rule it breaks; what `search` prints. Whatever changes what happens in a
/// seed may make a new search necessary.
const RECORDED: [(Planted, u64, Rule); 23] = [
    (Planted::LeaseFromReceipt, 21, Rule::Overlap),
    (Planted::NoQuorumRound, 59, Rule::Overlap),
    (Planted::NoWaitAfterElection, 4, Rule::Overlap),
    (Planted::EpochNotChecked, 13, Rule::Overlap),
    (Planted::KeeperDoesNotKill, 6, Rule::Overlap),
    (Planted::ReleaseOnSuspend, 0, Rule::Overlap),
    (Planted::NodeWideLease, 13, Rule::Overlap),
    (Planted::ForwardedDecision, 197, Rule::Overlap),
    (Planted::LateExec, 7, Rule::Overlap),
    (Planted::GaveUpInMemory, 198, Rule::Overlap),
    (Planted::FenceUndone, 53, Rule::Overlap),
    (Planted::ContactFromReceipt, 69, Rule::Overlap),
    (Planted::FreshContact, 45, Rule::Overlap),
    (Planted::ContactByClock, 109, Rule::Overlap),
    (Planted::OneEnforcer, 30, Rule::Overlap),
    (Planted::OrderAfterEnd, 114, Rule::Attempts),
    (Planted::OrderToNextLife, 198, Rule::Attempts),
    (Planted::OldHeartbeat, 7, Rule::Pace),
    (Planted::NoOwnEntry, 482, Rule::Overlap),
    (Planted::NotReleased, 0, Rule::Available),
    (Planted::OldRules, 1, Rule::Available),
    (Planted::RecordedUpTo, 38, Rule::Told),
    (Planted::EndUntold, 0, Rule::Told),
];

/// What a bug is looked for in, and what its seed must be clean in without it: of two that end an instance, the one that is
/// left out shows only where the other hangs; what an agent does that is told of a binding elsewhere hides what a leader without
/// an entry of its own brings about, which shows only where leaders change often.
fn plan(bug: Planted, seed: u64) -> Plan {
    let plan = Plan { keepers_hang: bug == Planted::OneEnforcer, ..Plan::of_seed(seed) };
    match bug {
        Planted::NoOwnEntry => {
            let (nodes, hunt_every, fault_every) = (plan.voters + 2, 6_000_000, 3_000_000);
            Plan { told_elsewhere: false, nodes, hunt_every, fault_every, ..plan }
        }
        _ => plan,
    }
}

fn with(bug: Planted, seed: u64) -> Outcome {
    run(seed, &Plan { planted: Some(bug), ..plan(bug, seed) })
}

fn without(bug: Planted, seed: u64) -> Outcome {
    run(seed, &plan(bug, seed))
}

#[test]
fn each_bug_is_found_in_its_seed_and_without_it_the_seed_is_clean() {
    assert_eq!(RECORDED.map(|(bug, ..)| bug), Planted::ALL);
    let mut wrong = Vec::new();
    for (bug, seed, rule) in RECORDED {
        let found = with(bug, seed).violation;
        if found.as_ref().map(|violation| violation.rule) != Some(rule) {
            wrong.push(format!("{bug:?} in seed {seed}: {found:?}"));
        }
        let clean = without(bug, seed).violation;
        if clean.is_some() {
            wrong.push(format!("seed {seed} without {bug:?}: {clean:?}"));
        }
    }
    assert!(wrong.is_empty(), "search again (-- --ignored search):\n{}", wrong.join("\n"));
}

/// Finds the first seed that shows each bug, or those named in `SHEAF_PLANTED`. Prints what `RECORDED` is made of.
#[test]
#[ignore = "a search; its result is recorded above"]
fn search() {
    let only = std::env::var("SHEAF_PLANTED").ok();
    let wanted = |bug: &Planted| {
        let name = format!("{bug:?}");
        only.as_ref().is_none_or(|only| only.split(',').any(|it| it == name))
    };
    let bugs: Vec<Planted> = Planted::ALL.into_iter().filter(wanted).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut missed = Vec::new();
        while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            // A seed that breaks a rule by itself shows nothing.
            let is_clean = |seed| without(bug, seed).violation.is_none();
            let shows =
                |seed| with(bug, seed).violation.filter(|_| is_clean(seed)).map(|found| (seed, found));
            match (0..SEARCHED).find_map(shows) {
                Some((seed, violation)) => {
                    println!("    (Planted::{bug:?}, {seed}, Rule::{:?}), // {violation}", violation.rule);
                }
                None => missed.push(bug),
            }
        }
        missed
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let missed: Vec<Planted> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run never panics")).collect()
    });
    assert!(missed.is_empty(), "not found within {SEARCHED}: {missed:?}");
}
