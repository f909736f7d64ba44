//! The ways in which earlier wordings of the rules for leases let a single-node bucket run twice, each found by a model that
//! knows all states, and what shows that the rules as they are close it: a bug planted in the simulation, which brings the
//! way back and must be found (`planted`), or a test of the one place that closes it.
//!
//! | hole | what happened | closed by |
//! | --- | --- | --- |
//! | 1 | the lease was for a node, and what is bound came from a watch that may be old | leases for one epoch each |
//! | 2 | suspend, move and delete freed at once | only `Free` ends a binding |
//! | 3 | nothing ran, it was said, while a keeper was being started | what is given up is checked at exec, under the lock |
//! | 4 | the same over a crash of the agent | what is given up is on disk |
//! | 5 | a silent node was heard again while its epoch was being freed | the fence |
//! | 6 | a deposed leader's decision was forwarded to its successor | a decision dies with its term |
//! | 7 | a successor acknowledged before it knew what its own log frees | an entry of its own term first |
//! | 8 | a majority counted as in touch from when its answers came | a round begun after the heartbeat |
//! | 9 | a majority in touch lately allowed a lease of full length | the same |
//! | 10 | a leader's clock stood still with its machine | no leader's clock in a lease |
//! | 11 | a keeper came late to its program | the deadline is checked at exec |
//! | 12 | an agent that restarted started what its former life was starting | one keeper at a time, by a lock |
//! | 13 | a keeper alone was stopped | two enforcers |
//! | 14 | clocks drift, and killing takes time | the margin holds both |
//! | 15 | the old leader acknowledged on while it handed over | it stops first |
//! | 16 | what was handed over was used in a later term | nothing is handed over |
//! | 17 | a node bound again was taken for silent since before | the wait begins anew with each binding |

use std::path::Path;

use sheaf_simulation::Planted;

/// What shows that a hole is closed.
enum Shown {
    /// Bringing it back is found.
    Planted(Planted),
    /// A test: its file and name.
    Test(&'static str, &'static str),
}

use Shown::{Planted as By, Test};

const HOLES: [&[Shown]; 17] = [
    &[By(Planted::NodeWideLease), Test("crates/engine/src/lease.rs", "what_is_not_named_is_not_prolonged")],
    &[
        By(Planted::ReleaseOnSuspend),
        Test("crates/engine/src/apply/tests.rs", "only_free_ends_a_binding_and_epochs_grow_over_deletion"),
    ],
    &[
        By(Planted::GaveUpInMemory),
        Test("crates/agent/tests/keepers/lease.rs", "what_comes_too_late_is_never_executed"),
    ],
    &[
        By(Planted::GaveUpInMemory),
        Test("crates/agent/src/keeper/layout.rs", "the_lock_is_held_once_and_the_fence_only_written_with_it"),
    ],
    &[
        By(Planted::FenceUndone),
        Test("crates/engine/src/steward/tests.rs", "a_fenced_epoch_is_never_named_again"),
    ],
    &[
        By(Planted::ForwardedDecision),
        Test("crates/consensus/tests/cluster.rs", "a_decision_of_another_term_is_refused"),
    ],
    &[
        By(Planted::NoOwnEntry),
        Test(
            "crates/consensus/tests/cluster.rs",
            "a_new_leader_confirms_nothing_before_it_has_applied_what_was_acknowledged",
        ),
    ],
    &[By(Planted::ContactFromReceipt)],
    &[By(Planted::FreshContact)],
    &[By(Planted::ContactByClock)],
    &[
        By(Planted::LateExec),
        Test("crates/agent/tests/keepers/lease.rs", "what_comes_too_late_is_never_executed"),
    ],
    &[Test("crates/agent/tests/keepers/life.rs", "one_keeper_at_a_time")],
    &[
        By(Planted::OneEnforcer),
        Test("crates/agent/tests/keepers/lease.rs", "the_agent_can_kill_without_the_keepers_help"),
    ],
    &[
        Test("crates/model/src/settings.rs", "the_margin_must_cover_drift_and_kill"),
        Test(
            "crates/engine/src/apply/tests/settings.rs",
            "settings_that_break_the_margin_are_refused_and_change_nothing",
        ),
    ],
    &[Test(
        "crates/engine/src/steward/tests.rs",
        "while_leadership_is_handed_over_nothing_is_acknowledged_or_decided",
    )],
    &[Test("crates/engine/src/steward/tests.rs", "a_new_leader_waits_from_its_election")],
    &[Test("crates/engine/src/steward/tests.rs", "a_binding_just_made_counts_from_when_the_leader_saw_it")],
];

#[test]
fn each_hole_is_shown_to_be_closed_by_something_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (number, shown) in (1..).zip(HOLES) {
        assert!(!shown.is_empty(), "hole {number}");
        for it in shown {
            match it {
                Shown::Planted(bug) => assert!(Planted::ALL.contains(bug), "hole {number}: {bug:?}"),
                Test(file, name) => {
                    let text = std::fs::read_to_string(root.join(file))
                        .unwrap_or_else(|error| panic!("hole {number}: {file}: {error}"));
                    let found = text.contains(&format!("fn {name}("));
                    assert!(
                        found,
                        "hole {number}: {file} has no test {name}; name the one that shows it now"
                    );
                }
            }
        }
    }
}
