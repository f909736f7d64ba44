//! Many seeds, no broken rule. `SHEAF_SEEDS` says how many, from that in `SHEAF_FROM` on; `SHEAF_SEED` repeats one, of the
//! plan in `SHEAF_PLAN`.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sheaf_simulation::{Outcome, Plan, Wrong, run};

/// How many seeds without a wish.
const SEEDS: u64 = 500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// On all cores; the outcomes in the order of their seeds.
fn run_all(seeds: Range<u64>) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return done;
            }
            done.push(run(seed, &Plan::of_seed(seed)));
        }
    };
    let mut all: Vec<Outcome> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run never panics")).collect()
    });
    all.sort_by_key(|outcome| outcome.seed);
    all
}

#[test]
fn no_seed_breaks_a_rule() {
    let from = number("SHEAF_FROM").unwrap_or(0);
    let all = run_all(from..from + number("SHEAF_SEEDS").unwrap_or(SEEDS));
    let failed: Vec<String> =
        all.iter().filter(|it| it.violation.is_some()).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), all.len(), failed.join("\n"));
    let sum = |count: fn(&Outcome) -> u64| all.iter().map(count).sum::<u64>();
    let n = all.len() as u64;
    assert!(sum(|it| it.counts.elections_within_wait) > 2 * n, "several leaders within W");
    assert!(sum(|it| it.counts.binds_to_same) > n, "bound again to the same node");
    assert!(sum(|it| it.counts.refused) > n, "decisions that died with their term");
    assert!(sum(|it| it.counts.drained) > n / 2, "nodes were emptied");
    assert!(sum(|it| it.counts.moved) > n / 2, "buckets were moved");
    assert!(sum(|it| it.counts.configs_changed) > n / 4, "nodes' own config changed");
    assert!(sum(|it| it.counts.forgotten) > n / 20, "machines without a disk were forgotten");
    assert!(sum(|it| it.counts.leases_changed) > n / 2, "leases became longer or shorter");
    assert!(sum(|it| it.counts.leases_changed_again) > n / 4, "and again before that was over");
    assert!(sum(|it| it.counts.leases_settled) > n / 2, "what was given before was waited for");
    assert!(sum(|it| it.counts.paces_changed) > n / 2, "sessions that stood took another pace");
    assert!(
        sum(|it| it.counts.stand_ins) > n && sum(|it| it.counts.relieved) > n,
        "agents restarted by plan"
    );
    assert!(sum(|it| it.counts.stand_ins_lost) > n / 20, "machines died under a stand-in");
    assert!(sum(|it| it.counts.outlived_leases) > n / 20, "stand-ins held leases");
    assert!(sum(|it| it.counts.paused_beside_stand_ins) > n / 20, "keepers were paused beside stand-ins");
    assert!(sum(|it| it.counts.released) > n / 4, "agents handed their work over and stopped");
    assert!(sum(|it| it.counts.cleared) > n / 4, "what went on elsewhere left the disk");
    assert!(sum(|it| it.counts.began_behind) > n / 20, "watches began behind what was on a disk");
    assert!(sum(|it| it.counts.hunts) > n / 8, "leaders were hunted");
    assert!(sum(|it| it.counts.caught) > n / 40, "and did what was waited for");
    println!("{} attempts, {} finished", sum(|it| it.counts.attempts), sum(|it| it.counts.subtasks_finished));
    assert!(sum(|it| it.counts.attempts) > 20 * n, "subtasks were tried");
    assert!(sum(|it| it.counts.subtasks_finished) > 10 * n, "and finished");
    assert!(sum(|it| it.counts.granted_ahead) > n, "some lay ready behind others");
    assert!(sum(|it| it.counts.given_back) > n / 4, "and were given back before they began");
    assert!(sum(|it| it.counts.stalled) > n / 20, "or did not come to a slot");
    assert!(sum(|it| it.counts.sent_again) > n / 4, "some were sent again in a new session");
    assert!(sum(|it| it.counts.broken_at_work) > n / 4, "as the former one broke just then");
    for (index, (what, _)) in Wrong::default().all().into_iter().enumerate() {
        let count: u64 = all.iter().map(|it| it.counts.wrong.all()[index].1).sum();
        assert!(count > n / 20, "{what}: {count} in {n} seeds");
    }
    let behind: Vec<u64> = all.iter().filter(|it| it.counts.left_behind > 0).map(|it| it.seed).collect();
    assert!(behind.is_empty(), "something came to an agent that had left: seeds {behind:?}");
}

#[test]
fn one_seed() {
    let Some(seed) = number("SHEAF_SEED") else { return };
    let name = std::env::var("SHEAF_PLAN").unwrap_or_else(|_| "seed".to_owned());
    let plan = Plan::named(&name, seed).unwrap_or_else(|| panic!("no plan is called {name}"));
    let outcome = run(seed, &Plan { lines: true, ..plan });
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("{outcome}");
    assert_eq!(outcome.violation, None);
}
