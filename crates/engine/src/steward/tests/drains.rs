//! Operators take work away from nodes.

use super::*;

#[test]
fn a_node_is_drained_one_bucket_after_the_other() {
    let mut leader = Leader::new(3);
    for bucket in ["/a", "/b"] {
        leader.world.bound(bucket, 1);
        (2..=3).for_each(|node| leader.answer(node, bucket, None));
    }
    leader.world.bound("/stays", 1);
    leader.answer(2, "/stays", Some("no flume here"));
    leader.drain(1, Drain::default());
    assert_eq!(leader.act(), ["leave /a"]);
    assert!(leader.act().is_empty(), "one at a time");
    let epoch = leader.world.binding("/a").epoch;
    leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), epoch, &leader.world.state);
    assert_eq!(leader.act(), ["free /a"]);
    leader.answer(1, "/a", None);
    let words = leader.act();
    assert_eq!(words.len(), 1, "the next waits: {words:?}");
    assert!(words[0].starts_with("bind /a") && !words[0].ends_with(" 1"), "{words:?}");
    let (node, epoch) = (leader.world.binding("/a").node.0, leader.world.binding("/a").epoch);
    leader.world.phase("/a", node, Some(epoch), Phase::Starting);
    assert!(leader.act().is_empty(), "it does not run there yet");
    leader.world.phase("/a", node, Some(epoch), Phase::Running);
    assert_eq!(leader.act(), ["leave /b"]);
    let epoch = leader.world.binding("/b").epoch;
    leader.sessions.gave_up(NodeId(1), leader.world.name("/b"), epoch, &leader.world.state);
    leader.act();
    leader.answer(1, "/b", None);
    leader.act();
    assert!(leader.act().is_empty(), "what can go nowhere stays while there is no deadline");
    assert!(leader.world.binding("/stays").leaving.is_none());
}

#[test]
fn what_is_shown_of_a_drain_is_what_it_does() {
    let mut leader = Leader::new(3);
    let buckets = ["/a", "/b", "/c", "/d"];
    for bucket in buckets {
        leader.world.bound(bucket, 1);
        (2..=3).for_each(|node| leader.answer(node, bucket, None));
    }
    leader.world.bound("/stays", 1);
    leader.answer(2, "/stays", Some("no flume here"));
    let shown = emptied(&leader.world.state, &leader.sessions, NodeId(1));
    let shown: Vec<(String, u64)> =
        shown.into_iter().map(|(bucket, (node, _))| (bucket.to_string(), node.0)).collect();
    for node in 2..=3 {
        let to_it = shown.iter().filter(|(_, to)| *to == node).count();
        assert_eq!(to_it, 2, "not all to the one that has least now: {shown:?}");
    }
    leader.drain(1, Drain::default());
    for bucket in buckets {
        assert_eq!(leader.act(), [format!("leave {bucket}")]);
        let epoch = leader.world.binding(bucket).epoch;
        leader.sessions.gave_up(NodeId(1), leader.world.name(bucket), epoch, &leader.world.state);
        assert_eq!(leader.act(), [format!("free {bucket}")]);
        leader.answer(1, bucket, None);
        leader.act();
        let (node, epoch) = (leader.world.binding(bucket).node.0, leader.world.binding(bucket).epoch);
        leader.world.phase(bucket, node, Some(epoch), Phase::Running);
    }
    let done = buckets.map(|bucket| (bucket.to_owned(), leader.world.binding(bucket).node.0));
    assert_eq!(shown, done);
}

#[test]
fn at_the_deadline_of_a_drain_everything_leaves_and_is_fenced() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.drain(1, Drain { deadline: Some(Span::seconds(6)), keep_multi_node: false });
    assert!(leader.act().is_empty());
    leader.pass(Span::seconds(6), &[1, 2]);
    assert_eq!(leader.act(), ["leave /a"]);
    assert!(leader.act().is_empty(), "fenced at once, W begins");
    assert_eq!(leader.named(1), Vec::<u64>::new());
    leader.pass(Span::seconds(4), &[1, 2]);
    assert_eq!(leader.act(), ["free /a"]);
}

#[test]
fn a_node_that_is_drained_and_comes_back_is_still_drained() {
    let mut leader = Leader::new(2);
    leader.drain(1, Drain::default());
    leader.pass(Span::seconds(4), &[2]);
    assert_eq!(leader.act(), ["1 lost"]);
    leader.connect(1);
    assert_eq!(leader.act(), ["1 draining"]);
    leader.world.propose(Command::Undrain(NodeId(1)));
    assert_eq!(leader.world.state.nodes[&NodeId(1)].status, NodeStatus::Ready);
    assert!(leader.act().is_empty());
}

#[test]
fn a_bucket_is_moved_where_the_operator_wants_it_or_anywhere_else() {
    for (to, lands) in [(Some(3), vec![3]), (None, vec![2, 3])] {
        let mut leader = Leader::new(3);
        let epoch = leader.world.bound("/a", 1);
        (1..=3).for_each(|node| leader.answer(node, "/a", None));
        leader.world.bound("/busy", 3);
        leader.act();
        let ask = MoveBucket { bucket: leader.world.name("/a"), to: to.map(NodeId), base: None };
        leader.world.propose(Command::Move(ask));
        leader.act();
        leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), epoch, &leader.world.state);
        assert_eq!(leader.act(), ["free /a"]);
        leader.act();
        let node = leader.world.binding("/a").node.0;
        assert!(lands.contains(&node), "to {to:?}: {node}");
    }
}

/// One that cannot start elsewhere does not keep its node from being emptied.
#[test]
fn the_next_bucket_of_a_drain_waits_for_the_former_only_so_long() {
    let mut leader = Leader::new(2);
    for bucket in ["/a", "/b", "/c"] {
        leader.world.bound(bucket, 1);
        (1..=2).for_each(|node| leader.answer(node, bucket, None));
    }
    leader.drain(1, Drain::default());
    assert_eq!(leader.act(), ["leave /a"]);
    let leaves = |leader: &mut Leader, bucket: &str| {
        let epoch = leader.world.binding(bucket).epoch;
        leader.sessions.gave_up(NodeId(1), leader.world.name(bucket), epoch, &leader.world.state);
        assert_eq!(leader.act(), [format!("free {bucket}")]);
    };
    leaves(&mut leader, "/a");
    assert_eq!(leader.act(), ["bind /a 2"]);
    leader.pass(Span::seconds(59), &[1, 2]);
    assert!(leader.act().is_empty());
    leader.pass(Span::seconds(1), &[1, 2]);
    assert_eq!(leader.act(), ["leave /b"]);
    leaves(&mut leader, "/b");
    leader.answer(2, "/b", Some("no flume here any more"));
    assert_eq!(leader.act(), ["leave /c"], "nobody takes the one before");
}

/// It has its number, and dies before its first session; its data directory is wiped.
#[test]
fn a_node_that_never_says_anything_is_lost_and_its_name_is_free() {
    let mut leader = Leader::new(1);
    leader.pass(Span::seconds(60), &[1]);
    leader.world.register("k9", "n9");
    assert!(leader.act().is_empty());
    leader.pass(Span::millis(3999), &[1]);
    assert!(leader.act().is_empty(), "W since it registered");
    let again = leader.world.register("wiped", "n9");
    assert!(matches!(again, Reply::Refused(Refusal::Conflict(_))), "{again:?}");
    leader.pass(Span::millis(1), &[1]);
    assert_eq!(leader.act(), ["2 lost"]);
    assert_eq!(leader.world.register("wiped", "n9"), Reply::Registered(NodeId(3)));
    let forgotten = leader.world.propose(Command::Forget(NodeId(2)));
    assert!(matches!(forgotten, Reply::Done(_)), "{forgotten:?}");
    leader.connect(3);
    assert_eq!(leader.act(), ["3 ready"]);
}

#[test]
fn a_bucket_with_nowhere_to_go_is_not_moved() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.pass(Span::seconds(4), &[1]);
    assert_eq!(leader.act(), ["2 lost"]);
    let ask = MoveBucket { bucket: leader.world.name("/a"), to: None, base: None };
    let reply = leader.world.propose(Command::Move(ask));
    assert!(
        matches!(&reply, Reply::Refused(Refusal::Precondition(why)) if why.contains("no node but n1 takes work")),
        "{reply:?}"
    );
}
