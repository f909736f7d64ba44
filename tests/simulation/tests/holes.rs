//! The ways in which earlier wordings of the rules for leases let a single-node bucket run twice, each found by a model that
//! knows all states, and what shows that the rules as they are close it: a test of the one place that closes it, and mostly a bug
//! planted in the simulation as well, which brings the way back and must be found (`planted`).
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

/// What an agent does under which acknowledgement.
const NODE: &str = "crates/engine/src/node/tests/running.rs";
/// What a leader names and frees.
const STEWARD: &str = "crates/engine/src/steward/tests.rs";
/// What an entry does, whoever proposed it.
const APPLY: &str = "crates/engine/src/apply/tests.rs";
/// The control plane, with rounds that can be held.
const ROUNDS: &str = "crates/control/tests/leases.rs";
/// The log, with messages that can be held.
const LOG: &str = "crates/consensus/tests/cluster.rs";
/// Keepers and their programs.
const KEEPERS: &str = "crates/agent/tests/keepers/lease.rs";

const HOLES: [&[Shown]; 17] = [
    &[
        By(Planted::NodeWideLease),
        Test("crates/engine/src/lease.rs", "what_is_not_named_is_not_prolonged"),
        Test(NODE, "a_single_node_bucket_starts_only_under_a_lease_for_exactly_its_epoch"),
        Test(NODE, "bound_by_the_watch_alone_nothing_starts_and_bound_elsewhere_nothing_either"),
    ],
    &[
        By(Planted::ReleaseOnSuspend),
        Test(APPLY, "only_free_ends_a_binding_and_epochs_grow_over_deletion"),
        Test(STEWARD, "a26_a_leaving_epoch_is_freed_as_soon_as_it_is_given_up"),
    ],
    &[By(Planted::GaveUpInMemory), Test(KEEPERS, "what_comes_too_late_is_never_executed")],
    &[
        By(Planted::GaveUpInMemory),
        Test("crates/agent/src/keeper/layout.rs", "the_lock_is_held_once_and_the_fence_only_written_with_it"),
    ],
    &[By(Planted::FenceUndone), Test(STEWARD, "a_fenced_epoch_is_never_named_again")],
    &[
        By(Planted::ForwardedDecision),
        Test(LOG, "a_decision_of_another_term_is_refused"),
        Test(APPLY, "a_binding_is_verified_when_applied"),
        Test(APPLY, "a_decision_to_free_dies_with_its_term"),
    ],
    &[
        By(Planted::NoOwnEntry),
        Test(LOG, "a_new_leader_confirms_nothing_before_it_has_applied_what_was_acknowledged"),
    ],
    &[
        By(Planted::ContactFromReceipt),
        Test(LOG, "a_round_confirms_nothing_to_who_asked_after_it_began"),
        Test(ROUNDS, "a_heartbeat_that_comes_while_a_round_runs_is_not_acknowledged_by_it"),
    ],
    &[
        By(Planted::FreshContact),
        Test(ROUNDS, "a_heartbeat_that_comes_while_a_round_runs_is_not_acknowledged_by_it"),
    ],
    &[
        By(Planted::ContactByClock),
        Test(LOG, "a_round_confirms_nothing_to_who_asked_after_it_began"),
        Test("crates/engine/src/lease.rs", "a_lease_counts_from_sending_and_ends_by_itself"),
    ],
    &[By(Planted::LateExec), Test(KEEPERS, "what_comes_too_late_is_never_executed")],
    &[Test("crates/agent/tests/keepers/life.rs", "one_keeper_at_a_time")],
    &[
        By(Planted::OneEnforcer),
        By(Planted::KeeperDoesNotKill),
        Test(KEEPERS, "everything_dies_at_the_deadline"),
        Test(KEEPERS, "the_agent_can_kill_without_the_keepers_help"),
        Test(NODE, "a_single_node_bucket_starts_only_under_a_lease_for_exactly_its_epoch"),
    ],
    &[
        Test("crates/model/src/settings.rs", "the_margin_must_cover_drift_and_kill"),
        Test(
            "crates/engine/src/apply/tests/settings.rs",
            "settings_that_break_the_margin_are_refused_and_change_nothing",
        ),
    ],
    &[
        Test(STEWARD, "while_leadership_is_handed_over_nothing_is_acknowledged_or_decided"),
        Test(ROUNDS, "a_leader_that_hands_over_acknowledges_nothing"),
    ],
    &[By(Planted::NoWaitAfterElection), Test(STEWARD, "a_new_leader_waits_from_its_election")],
    &[Test(STEWARD, "a_binding_just_made_counts_from_when_the_leader_saw_it")],
];

/// Whether a file has a test of that name that is not left out.
fn has_test(text: &str, name: &str) -> bool {
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    // What stands right above it.
    let above = text[..at].rsplit("\n\n").next().unwrap_or_default();
    (above.contains("#[test]") || above.contains("#[tokio::test")) && !above.contains("#[ignore")
}

#[test]
fn each_hole_is_shown_to_be_closed_by_something_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (number, shown) in (1..).zip(HOLES) {
        let is_test = |it: &Shown| matches!(it, Test(..));
        assert!(shown.iter().any(is_test), "hole {number}: no test of the place that closes it");
        for it in shown {
            match it {
                Shown::Planted(bug) => assert!(Planted::ALL.contains(bug), "hole {number}: {bug:?}"),
                Test(file, name) => {
                    let text = std::fs::read_to_string(root.join(file))
                        .unwrap_or_else(|error| panic!("hole {number}: {file}: {error}"));
                    assert!(
                        has_test(&text, name),
                        "hole {number}: {file} has no test {name}; name the one that shows it now"
                    );
                }
            }
        }
    }
}
