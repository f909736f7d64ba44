//! The same seed gives the same run.

use sheaf_simulation::{Plan, run};

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let mut traces = Vec::new();
    // The last one with hunts.
    for seed in [3, 44, 1_000_003, 21] {
        let first = run(seed, &Plan::of_seed(seed));
        let lines = run(seed, &Plan { lines: true, ..Plan::of_seed(seed) });
        assert_eq!((first.trace, first.steps), (lines.trace, lines.steps), "seed {seed}");
        assert_eq!(first, run(seed, &Plan::of_seed(seed)));
        traces.push(first.trace);
    }
    traces.dedup();
    assert_eq!(traces.len(), 4);
}
