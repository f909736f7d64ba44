//! Larger clusters than those of the seeds. `bench simulate` runs those that take long.

use sheaf_simulation::{Plan, run};

#[test]
fn a_hundred_nodes_and_fifty_buckets() {
    let outcome = run(4, &Plan::large(100, 50, 100));
    println!("{outcome}");
    assert_eq!(outcome.violation, None);
    assert!(outcome.counts.elections > 2, "leaders changed");
}

#[test]
fn a_hundred_nodes_of_which_ten_are_lost_at_once() {
    let outcome = run(1, &Plan::losing(100, 50));
    println!("{outcome}");
    assert_eq!(outcome.violation, None);
    assert!(outcome.counts.interrupted > 0, "something ran there");
    assert!(outcome.counts.restored.is_some_and(|it| it <= 10_000_000), "it runs again within 10 s");
}
