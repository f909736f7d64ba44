//! Large clusters for a virtual minute. Slow in this profile, and so asked for by name: `-- --ignored`.

use sheaf_simulation::{Plan, run};

#[test]
#[ignore = "takes minutes"]
fn a_thousand_nodes_and_a_thousand_buckets() {
    let outcome = run(1, &Plan::large(1000, 1000, 0));
    println!("{outcome}");
    assert_eq!(outcome.violation, None);
}

#[test]
#[ignore = "takes minutes"]
fn five_thousand_nodes_of_whose_messages_one_in_ten_is_lost() {
    let outcome = run(1, &Plan::large(5000, 50, 100));
    println!("{outcome}");
    assert_eq!(outcome.violation, None);
}

#[test]
fn a_hundred_nodes_and_fifty_buckets() {
    let outcome = run(1, &Plan::large(100, 50, 100));
    println!("{outcome}");
    assert_eq!(outcome.violation, None);
}
