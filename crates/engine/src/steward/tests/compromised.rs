//! What a node that says whatever it likes can do to others: nothing.

use super::*;

impl Leader {
    /// The node answers for a bucket from a revision that does not exist.
    fn lie(&mut self, node: u64, bucket: &str) {
        let verdict = Verdict { revision: Revision(u64::MAX), ..self.world.verdict(bucket, None) };
        self.sessions.answered(NodeId(node), vec![verdict.into()], &self.world.state, self.now);
    }
}

#[test]
fn answers_from_revisions_that_do_not_exist_hold_up_no_placement() {
    for lies_first in [true, false] {
        let mut leader = Leader::new(3);
        leader.pass(Span::seconds(2), &[1, 2, 3]);
        leader.world.apply_bucket("/a", |_| {});
        if lies_first {
            leader.lie(3, "/a");
        }
        leader.answer(1, "/a", None);
        leader.answer(2, "/a", Some("no"));
        leader.lie(3, "/a");
        assert!(leader.act().is_empty(), "node 3 has said nothing about this revision");
        leader.pass(Span::millis(500), &[1, 2, 3]);
        leader.lie(3, "/a");
        leader.pass(Span::millis(500), &[1, 2, 3]);
        assert_eq!(leader.act(), ["bind /a 1"], "the window began with the answer of node 1");
    }
}

#[test]
fn an_answer_ahead_of_time_shortens_no_offer_window() {
    let mut leader = Leader::new(2);
    leader.world.apply_bucket("/a", |_| {});
    (1..=2).for_each(|node| leader.answer(node, "/a", Some("no")));
    let next = Revision(leader.world.state.revision.0 + 1);
    let verdict = Verdict { revision: next, ..leader.world.verdict("/a", None) };
    leader.sessions.answered(NodeId(2), vec![verdict.into()], &leader.world.state, leader.now);
    leader.pass(Span::seconds(60), &[1, 2]);
    assert!(leader.act().is_empty());
    leader.world.apply_bucket("/a", |put| put.spec.owner = Some("x".to_owned()));
    assert_eq!(leader.world.bucket("/a").current.revision, next);
    assert!(leader.act().is_empty(), "node 1 may answer, too");
    leader.pass(Span::seconds(1), &[1, 2]);
    assert_eq!(leader.act(), ["bind /a 2"]);
}

#[test]
fn nobody_gives_up_what_is_bound_to_another() {
    let mut leader = Leader::new(2);
    let epoch = leader.world.bound("/a", 1);
    leader.world.on("/a", Command::Suspend);
    assert!(leader.act().is_empty());
    leader.sessions.gave_up(NodeId(2), leader.world.name("/a"), epoch, &leader.world.state);
    assert!(leader.act().is_empty(), "it is not bound to node 2");
    leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), epoch, &leader.world.state);
    leader.sessions.gave_up(NodeId(2), leader.world.name("/a"), epoch, &leader.world.state);
    leader.sessions.gave_up(NodeId(2), leader.world.name("/none"), epoch, &leader.world.state);
    assert_eq!(leader.act(), ["free /a"], "what node 1 said stands");
}
