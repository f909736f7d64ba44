use sheaf_model::view::BucketState;
use sheaf_model::{Claim, Epoch, LeaveReason, Moment, NodeId, Phase};

use super::*;
use crate::change::Change;
use crate::command::Command;
use crate::invariants;
use crate::status::Sight;
use crate::testing::World;

const MINUTE: u64 = 60_000;

fn claim(node: u64, epoch: Option<Epoch>) -> Claim {
    Claim { node: NodeId(node), epoch }
}

fn quarantine(world: &World, bucket: &str, claim: Claim, minutes: u64) -> Command {
    let until = Timestamp(world.now.0 + minutes * MINUTE);
    let reason = "the source asks for a pause".to_owned();
    Command::Quarantine(Quarantine { bucket: world.name(bucket), claim, until, reason })
}

fn end(world: &World, bucket: &str, minutes: u64) -> Command {
    let until = Timestamp(world.now.0 + minutes * MINUTE);
    Command::EndQuarantine(EndQuarantine { bucket: world.name(bucket), until, term: world.term })
}

fn state(world: &World, bucket: &str) -> (BucketState, String) {
    let sight = Sight { state: &world.state, sessions: None, now: Moment(0) };
    sight.bucket_state(&world.bucket(bucket))
}

/// Kind, before, after and message of the events so far, newest last.
fn history(world: &World) -> Vec<(String, String, String, String)> {
    let events = world.changes.iter().filter_map(|change| match change {
        Change::Event(e) => Some((e.kind.clone(), e.before.clone(), e.after.clone(), e.message.clone())),
        _ => None,
    });
    events.collect()
}

#[test]
fn a_quarantine_stops_a_bucket_and_its_end_lets_it_run_again() {
    let mut world = World::with_nodes(2);
    let epoch = world.bound("/a", 1);
    let ask = quarantine(&world, "/a", claim(1, Some(epoch)), 1);
    assert!(matches!(world.propose(ask), Reply::Done(_)));
    assert!(
        matches!(&world.binding("/a").leaving, Some(LeaveReason::Emergency(why)) if why.contains("a pause"))
    );
    assert_eq!(state(&world, "/a").0, BucketState::Stopping);
    world.free("/a", epoch);
    let (word, why) = state(&world, "/a");
    assert_eq!(word, BucketState::Quarantined);
    assert_eq!(why, "its module had it stopped until 1970-01-01T00:17:40.000Z: the source asks for a pause");
    let basis = world.bucket("/a").current.revision;
    let bind = Command::Bind(world.bind_command("/a", 2, basis));
    assert!(
        matches!(world.propose(bind.clone()), Reply::Refused(Refusal::Stale(why)) if why.contains("quarantined"))
    );
    assert!(!world.bucket("/a").suspended, "the switch is not the operator's");

    let early = end(&world, "/a", 2);
    assert!(matches!(world.propose(early), Reply::Refused(Refusal::Stale(_))), "another quarantine");
    let over = end(&world, "/a", 1);
    assert!(matches!(world.propose(over.clone()), Reply::Done(_)));
    assert!(matches!(world.propose(over), Reply::Refused(Refusal::Stale(_))));
    assert!(matches!(world.propose(bind), Reply::Done(_)));
    assert_eq!(invariants::check(&world.state), Vec::<String>::new());
    let resumed = history(&world).into_iter().find(|(kind, ..)| kind == "bucket.resumed").expect("recorded");
    assert_eq!((resumed.1.as_str(), resumed.2.as_str()), ("quarantined", "active"));
}

#[test]
fn of_two_quarantines_the_longer_counts_and_an_operator_has_the_last_word() {
    let mut world = World::with_nodes(2);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    for node in [1, 2] {
        world.phase("/m", node, None, Phase::Running);
    }
    for (node, minutes, until) in [(1, 5, 5), (2, 3, 5), (2, 9, 9)] {
        let ask = quarantine(&world, "/m", claim(node, None), minutes);
        world.propose(ask);
        let until = Timestamp(world.now.0 + until * MINUTE);
        assert_eq!(world.bucket("/m").quarantined_until(), Some(until));
    }
    // An update changes what will run, and lifts nothing.
    world.apply_bucket("/m", |put| (put.spec.multi_node, put.spec.owner) = (true, Some("me".to_owned())));
    assert!(world.bucket("/m").is_off());
    world.on("/m", Command::Resume);
    assert!(!world.bucket("/m").is_off());

    let again = quarantine(&world, "/m", claim(1, None), 1);
    world.propose(again);
    world.on("/m", Command::Suspend);
    let over = end(&world, "/m", 1);
    assert!(matches!(world.propose(over), Reply::Refused(Refusal::Stale(_))));
    assert!(world.bucket("/m").suspended, "the end of the time changes nothing");
    let more = quarantine(&world, "/m", claim(1, None), 1);
    assert!(matches!(world.propose(more), Reply::Unchanged(_)));
}

#[test]
fn a_bucket_that_its_module_disabled_is_suspended_with_the_reason() {
    let mut world = World::with_nodes(1);
    let epoch = world.bound("/a", 1);
    let reason = "the licence is over".to_owned();
    let disable =
        Command::Disable(Disable { bucket: world.name("/a"), claim: claim(1, Some(epoch)), reason });
    assert!(matches!(world.propose(disable), Reply::Done(_)));
    world.free("/a", epoch);
    let (word, why) = state(&world, "/a");
    assert_eq!(
        (word, why.as_str()),
        (BucketState::Suspended, "its module had it suspended: the licence is over")
    );
    let recorded =
        history(&world).into_iter().find(|(kind, ..)| kind == "bucket.suspended").expect("recorded");
    assert_eq!(recorded.3, "the licence is over");
    world.on("/a", Command::Resume);
    assert_eq!(world.bucket("/a").emergency, None);
}

#[test]
fn who_does_not_run_the_bucket_any_more_says_nothing_of_it() {
    let mut world = World::with_nodes(2);
    let old = world.bound("/a", 1);
    world.free("/a", old);
    let (bucket, stale) = (world.name("/a"), claim(1, Some(old)));
    let line =
        AddStatusLine { bucket: bucket.clone(), claim: stale, kind: "x".to_owned(), text: "y".to_owned() };
    let disable = Disable { bucket, claim: stale, reason: "z".to_owned() };
    let quarantine = quarantine(&world, "/a", stale, 1);
    for ask in [Command::AddStatusLine(line), Command::Disable(disable), quarantine] {
        let before = world.changes.len();
        assert!(matches!(world.propose(ask), Reply::Refused(Refusal::Stale(_))));
        assert_eq!(world.changes.len(), before);
    }
}

#[test]
fn a_line_of_status_is_a_line_of_history() {
    let mut world = World::with_nodes(1);
    let epoch = world.bound("/a", 1);
    let line = |text: String| {
        let (bucket, kind) = (World::unformed().name("/a"), "progress".to_owned());
        Command::AddStatusLine(AddStatusLine { bucket, claim: claim(1, Some(epoch)), kind, text })
    };
    world.propose(line("half of it".to_owned()));
    let expected = ["bucket.line", "", "progress", "half of it"].map(str::to_owned);
    assert_eq!(history(&world).pop().map(|(a, b, c, d)| [a, b, c, d]), Some(expected));
    assert!(matches!(world.propose(line("x".repeat(501))), Reply::Refused(Refusal::Exhausted(_))));
}
