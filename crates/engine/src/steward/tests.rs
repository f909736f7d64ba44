//! Scenarios of what the leader owes.

use sheaf_model::*;

use super::*;
use crate::command::Reply;
use crate::testing::World;

/// A leader elected at moment 0 with its nodes connected; time passes by hand.
struct Leader {
    world: World,
    sessions: Sessions,
    now: Moment,
}

impl Leader {
    fn new(nodes: u64) -> Self {
        let world = World::with_nodes(nodes);
        let mut leader = Self { sessions: Sessions::new(world.term, Moment(0)), now: Moment(0), world };
        (1..=nodes).for_each(|node| leader.connect(node));
        leader
    }

    fn connect(&mut self, node: u64) {
        let incarnation = Incarnation(format!("i{node}"));
        let opened =
            self.sessions.opened(NodeId(node), incarnation, "boot".into(), self.now, Span::seconds(3));
        opened.expect("nobody else is live as this node");
    }

    fn answer(&mut self, node: u64, bucket: &str, refusal: Option<&str>) {
        let verdict = self.world.verdict(bucket, refusal);
        self.sessions.answered(NodeId(node), vec![verdict], self.now);
    }

    /// Time passes; the nodes named are heard all the while.
    fn pass(&mut self, span: Span, heard: &[u64]) {
        let end = self.now.after(span);
        while self.now < end {
            self.now = self.now.after(Span::millis(100)).min(end);
            for node in heard {
                let heartbeat = self.world.heartbeat(self.now);
                self.sessions.heard(NodeId(*node), &heartbeat, self.now);
            }
        }
    }

    /// Does what is due, as the conductor would; the commands in words.
    fn act(&mut self) -> Vec<String> {
        let commands = due(&self.world.state, &mut self.sessions, self.now).commands;
        let words = commands.iter().map(word).collect();
        for command in commands {
            let reply = self.world.propose(command);
            assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        }
        words
    }

    fn named(&mut self, node: u64) -> Vec<u64> {
        let heartbeat = self.world.heartbeat(self.now);
        self.sessions.heard(NodeId(node), &heartbeat, self.now);
        let round = self.sessions.take_round();
        let acknowledged = self.sessions.acknowledge(&self.world.state, round);
        acknowledged.into_iter().flat_map(|(_, ack)| ack.epochs).map(|(_, epoch)| epoch.0).collect()
    }
}

fn word(command: &Command) -> String {
    match command {
        Command::Bind(bind) => format!("bind {} {}", bind.bucket, bind.node),
        Command::Free(free) => format!("free {}", free.bucket),
        Command::Leave(leave) => format!("leave {}", leave.bucket),
        Command::SetNodeStatus(set) => format!("{} {}", set.node, set.status.as_str()),
        other => format!("{other:?}"),
    }
}

#[test]
fn a3_one_of_five_available_nodes_is_chosen_as_soon_as_all_have_answered() {
    let mut leader = Leader::new(5);
    leader.world.apply_bucket("/a", |_| {});
    (1..=4).for_each(|node| leader.answer(node, "/a", None));
    assert!(leader.act().is_empty(), "one has not answered");
    leader.answer(5, "/a", None);
    assert_eq!(leader.act().len(), 1);
    assert!(leader.act().is_empty(), "bound once");
}

#[test]
fn a2_nobody_available_binds_nothing() {
    let mut leader = Leader::new(3);
    leader.world.apply_bucket("/a", |_| {});
    (1..=3).for_each(|node| leader.answer(node, "/a", Some("no flume here")));
    assert!(leader.act().is_empty());
}

#[test]
fn a5_silent_nodes_are_waited_for_until_the_offer_window_ends() {
    let mut leader = Leader::new(4);
    leader.pass(Span::seconds(2), &[1, 2, 3, 4]);
    leader.world.apply_bucket("/a", |_| {});
    leader.answer(1, "/a", Some("no"));
    leader.answer(2, "/a", None);
    let wake = due(&leader.world.state, &mut leader.sessions, leader.now).wake_at;
    assert_eq!(wake, Some(leader.now.after(Span::seconds(1))));
    leader.pass(Span::seconds(1), &[1, 2, 3, 4]);
    assert_eq!(leader.act(), ["bind /a 2"]);
    let decision = &leader.world.binding("/a").decision;
    assert_eq!((decision.silent, decision.refusals.len()), (2, 1));
}

#[test]
fn many_buckets_at_once_spread_over_the_nodes() {
    let mut leader = Leader::new(3);
    for bucket in 0..9 {
        let name = format!("/b/{bucket}");
        leader.world.apply_bucket(&name, |_| {});
        (1..=3).for_each(|node| leader.answer(node, &name, None));
    }
    let words = leader.act();
    for node in 1..=3 {
        let on_node = words.iter().filter(|word| word.ends_with(&format!(" {node}"))).count();
        assert_eq!(on_node, 3, "{words:?}");
    }
}

#[test]
fn a7_affinity_sticks_while_its_node_is_available() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.world.apply_bucket("/a", |put| put.spec.owner = Some("x".to_owned()));
    leader.answer(2, "/a", None);
    leader.answer(1, "/a", None);
    assert!(leader.act().is_empty());
    leader.answer(1, "/a", Some("the disk is full"));
    assert_eq!(leader.act(), ["leave /a"]);
}

#[test]
fn a_verdict_that_is_unknown_does_not_end_affinity() {
    let mut leader = Leader::new(1);
    leader.world.bound("/a", 1);
    let mut verdict = leader.world.verdict("/a", None);
    verdict.gates[2] = GateOutcome::unknown("timed out, first time");
    leader.sessions.answered(NodeId(1), vec![verdict], leader.now);
    assert!(leader.act().is_empty());
}

#[test]
fn a8_a_silent_node_is_lost_fenced_and_its_bucket_freed_after_w() {
    let mut leader = Leader::new(2);
    let epoch = leader.world.bound("/a", 1);
    leader.act();
    leader.pass(Span::seconds(1), &[1, 2]);
    assert_eq!(leader.named(1), [epoch.0]);
    leader.pass(Span::millis(3999), &[2]);
    assert!(leader.act().is_empty(), "W = ttl + margin is not over");
    leader.pass(Span::millis(1), &[2]);
    assert_eq!(leader.act(), ["1 lost", "free /a"]);
}

#[test]
fn a_fenced_epoch_is_never_named_again() {
    let mut leader = Leader::new(2);
    let epoch = leader.world.bound("/a", 1);
    leader.act();
    leader.pass(Span::seconds(4), &[2]);
    // Decided, but its proposal is still on its way when the node is heard again.
    let due = due(&leader.world.state, &mut leader.sessions, leader.now);
    assert_eq!(due.commands.iter().map(word).collect::<Vec<_>>(), ["1 lost", "free /a"]);
    assert_eq!(leader.named(1), Vec::<u64>::new());
    leader.world.free("/a", epoch);
}

#[test]
fn a_new_leader_waits_from_its_election() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.world.term = Term(2);
    leader.now = Moment(1_000_000);
    leader.sessions = Sessions::new(Term(2), leader.now);
    leader.connect(2);
    leader.act();
    leader.pass(Span::millis(3900), &[2]);
    assert!(leader.act().is_empty());
    leader.pass(Span::millis(100), &[2]);
    assert_eq!(leader.act(), ["1 lost", "free /a"]);
}

#[test]
fn a_binding_just_made_counts_from_when_the_leader_saw_it() {
    let mut leader = Leader::new(2);
    leader.pass(Span::seconds(3), &[2]); // node 1 is silent for 3 s
    leader.world.bound("/a", 1);
    leader.act();
    leader.pass(Span::seconds(1), &[2]); // silent for W now, but bound only 1 s ago
    assert_eq!(leader.act(), ["1 lost"]);
    leader.pass(Span::seconds(3), &[2]);
    assert_eq!(leader.act(), ["free /a"]);
}

#[test]
fn a10_on_node_lost_wait_keeps_the_binding() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.world.apply_bucket("/a", |put| put.spec.on_node_lost = OnNodeLost::Wait);
    leader.act();
    leader.pass(Span::seconds(60), &[2]);
    assert_eq!(leader.act(), ["1 lost"]);
    leader.world.on("/a", Command::Suspend);
    assert_eq!(leader.act(), ["free /a"], "switched off, it need not wait");
}

#[test]
fn a26_a_leaving_epoch_is_freed_as_soon_as_it_is_given_up() {
    let mut leader = Leader::new(1);
    let epoch = leader.world.bound("/a", 1);
    leader.world.on("/a", Command::Suspend);
    assert!(leader.act().is_empty(), "it stops gracefully, still named");
    assert_eq!(leader.named(1), [epoch.0]);
    leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), epoch);
    assert_eq!(leader.act(), ["free /a"]);
}

#[test]
fn a_leaving_epoch_that_does_not_stop_is_fenced_and_freed_after_w() {
    let mut leader = Leader::new(1);
    leader.world.bound("/a", 1);
    leader.world.on("/a", Command::Suspend);
    leader.act();
    leader.pass(Span::seconds(14), &[1]);
    assert!(leader.act().is_empty(), "stop grace 10 s and 5 s of patience");
    leader.pass(Span::seconds(1), &[1]);
    assert!(leader.act().is_empty(), "fenced now, W begins");
    assert_eq!(leader.named(1), Vec::<u64>::new());
    leader.pass(Span::seconds(4), &[1]);
    assert_eq!(leader.act(), ["free /a"]);
}

#[test]
fn an_epoch_given_up_is_that_epoch_only() {
    let mut leader = Leader::new(1);
    let old = leader.world.bound("/a", 1);
    leader.world.free("/a", old);
    let basis = leader.world.bucket("/a").current.revision;
    leader.world.propose(Command::Bind(leader.world.bind_command("/a", 1, basis)));
    leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), old);
    assert!(leader.act().is_empty());
}

#[test]
fn nothing_single_node_is_bound_while_a_residue_remains() {
    let mut leader = Leader::new(1);
    leader.world.apply_bucket("/a", |put| put.spec.multi_node = true);
    let ended = leader.world.apply_bucket("/a", |_| {}).revision;
    leader.answer(1, "/a", None);
    assert!(leader.act().is_empty());
    let confirm = leader.world.confirm_command("/a", 1, ended);
    leader.world.propose(confirm);
    assert_eq!(leader.act(), ["bind /a 1"]);
}

#[test]
fn a_second_live_agent_of_the_same_node_is_refused() {
    let mut leader = Leader::new(1);
    let other = Incarnation("other".to_owned());
    let mut open =
        |now| leader.sessions.opened(NodeId(1), other.clone(), "boot".into(), now, Span::seconds(3));
    assert!(open(Moment(100)).is_err());
    assert!(open(Moment(3000)).is_ok(), "the former is silent for a ttl");
}
