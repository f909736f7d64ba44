//! Scenarios of what the leader owes.

use sheaf_model::session::Hello;
use sheaf_model::verdict::REASON_MAX;
use sheaf_model::*;

use super::*;
use crate::command::{DrainNode, MoveBucket, Refusal, Reply};
use crate::testing::World;

mod compromised;
mod drains;
mod rollouts;
mod rotation;

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
        let hello = self.world.hello(node, &format!("i{node}"));
        self.open(&hello).expect("nobody else is live as this node");
    }

    fn open(&mut self, hello: &Hello) -> Result<Span, String> {
        self.sessions.opened(hello, &self.world.state, self.now)
    }

    fn drain(&mut self, node: u64, drain: Drain) {
        let reply = self.world.propose(Command::Drain(DrainNode { node: NodeId(node), drain }));
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }

    fn change_lease(&mut self, lease: LeaseSettings) {
        let LeaseSettings { heartbeat, ttl, kill_margin, .. } = lease;
        let changes =
            vec![Setting::Heartbeat(heartbeat), Setting::Ttl(ttl), Setting::KillMargin(kill_margin)];
        let reply = self.world.propose(Command::Settings(SettingsCommand::Change(changes)));
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }

    fn answer(&mut self, node: u64, bucket: &str, refusal: Option<&str>) {
        let verdict = self.world.verdict(bucket, refusal);
        self.sessions.answered(NodeId(node), vec![verdict.into()], &self.world.state, self.now);
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
        let commands = due(&self.world.state, &mut self.sessions, self.now, self.world.now).commands;
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
        Command::ReleaseNodes(release) => format!("release {:?}", release.nodes),
        Command::StopRollout(stop) => format!("stop at {}: {}", stop.node, stop.why),
        Command::FinishRollout(_) => "finish".to_owned(),
        Command::Settings(SettingsCommand::Settle(_)) => "settle".to_owned(),
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
    let wake = due(&leader.world.state, &mut leader.sessions, leader.now, leader.world.now).wake_at;
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

/// What makes it leave is written down: of an agent of an earlier version, too, no more than an entry of the log holds.
#[test]
fn a_reason_of_any_length_ends_affinity() {
    let mut leader = Leader::new(1);
    leader.world.bound("/a", 1);
    let mut verdict = leader.world.verdict("/a", None);
    verdict.gates[1] = GateOutcome { pass: Some(false), reason: "excluded by rule ".repeat(100_000).into() };
    leader.sessions.answered(NodeId(1), vec![verdict.into()], &leader.world.state, leader.now);
    let due = due(&leader.world.state, &mut leader.sessions, leader.now, leader.world.now);
    let [Command::Leave(leave)] = &due.commands[..] else { panic!("{} commands", due.commands.len()) };
    let LeaveReason::NotAvailable(gate, reason) = &leave.reason else { panic!("it is not available") };
    assert_eq!((*gate, reason.len() <= REASON_MAX), (Gate::NodeListRules, true), "{} bytes", reason.len());
    assert!(reason.starts_with("excluded by rule ") && reason.ends_with('…'), "{reason}");
}

#[test]
fn a_verdict_that_is_unknown_does_not_end_affinity() {
    let mut leader = Leader::new(1);
    leader.world.bound("/a", 1);
    let mut verdict = leader.world.verdict("/a", None);
    verdict.gates[2] = GateOutcome::unknown("timed out, first time");
    leader.sessions.answered(NodeId(1), vec![verdict.into()], &leader.world.state, leader.now);
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
    let due = due(&leader.world.state, &mut leader.sessions, leader.now, leader.world.now);
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
fn a10_what_waits_for_its_node_moves_once_an_operator_says_so() {
    for forgotten in [false, true] {
        let mut leader = Leader::new(2);
        leader.world.bound("/a", 1);
        leader.world.apply_bucket("/a", |put| put.spec.on_node_lost = OnNodeLost::Wait);
        (1..=2).for_each(|node| leader.answer(node, "/a", None));
        leader.act();
        leader.pass(Span::seconds(60), &[2]);
        assert_eq!(leader.act(), ["1 lost"]);
        assert!(leader.act().is_empty(), "it waits");
        let moved = MoveBucket { bucket: leader.world.name("/a"), to: None, base: None };
        let command = if forgotten { Command::Forget(NodeId(1)) } else { Command::Move(moved) };
        let reply = leader.world.propose(command);
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
        assert_eq!(leader.act(), ["free /a"], "its node has been silent for W");
        assert_eq!(leader.act(), ["bind /a 2"]);
    }
}

#[test]
fn a26_a_leaving_epoch_is_freed_as_soon_as_it_is_given_up() {
    let mut leader = Leader::new(1);
    let epoch = leader.world.bound("/a", 1);
    leader.world.on("/a", Command::Suspend);
    assert!(leader.act().is_empty(), "it stops gracefully, still named");
    assert_eq!(leader.named(1), [epoch.0]);
    leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), epoch, &leader.world.state);
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
fn what_is_deleted_has_the_grace_of_its_module() {
    for (deposed, end) in [
        (false, Command::Suspend as fn(_) -> _),
        (false, Command::DeleteBucket),
        (true, Command::DeleteBucket),
    ] {
        let mut leader = Leader::new(1);
        leader.world.apply_module("sleep", "2", |module| module.stop.grace = Span::seconds(60));
        let epoch = leader.world.bound("/a", 1);
        leader.act();
        leader.world.on("/a", end);
        if deposed {
            leader.sessions = Sessions::new(leader.world.term, leader.now);
            leader.connect(1);
        }
        leader.act();
        leader.pass(Span::seconds(64), &[1]);
        assert!(leader.act().is_empty());
        assert_eq!(leader.named(1), [epoch.0], "60 s and 5 s of patience");
        leader.pass(Span::seconds(1), &[1]);
        leader.act();
        assert_eq!(leader.named(1), Vec::<u64>::new());
    }
}

#[test]
fn a_grace_that_an_update_has_shortened_counts_once_the_update_runs() {
    for (is_running, until) in [(false, 65), (true, 15)] {
        let mut leader = Leader::new(1);
        leader.world.apply_module("sleep", "2", |module| module.stop.grace = Span::seconds(60));
        let epoch = leader.world.bound("/a", 1);
        leader.act();
        leader.world.apply_module("sleep", "3", |_| {});
        let newer = ModuleRef::parse("sleep@3").expect("a version of a module");
        leader.world.apply_bucket("/a", |put| put.spec.module = newer);
        if is_running {
            leader.world.phase("/a", 1, Some(epoch), Phase::Running);
        }
        leader.act();
        leader.world.on("/a", Command::Suspend);
        leader.act();
        leader.pass(Span::seconds(until - 1), &[1]);
        leader.act();
        assert_eq!(leader.named(1), [epoch.0], "updated: {is_running}");
        leader.pass(Span::seconds(1), &[1]);
        leader.act();
        assert_eq!(leader.named(1), Vec::<u64>::new(), "updated: {is_running}");
    }
}

#[test]
fn an_epoch_given_up_is_that_epoch_only() {
    let mut leader = Leader::new(1);
    let old = leader.world.bound("/a", 1);
    leader.world.free("/a", old);
    let basis = leader.world.bucket("/a").current.revision;
    leader.world.propose(Command::Bind(leader.world.bind_command("/a", 1, basis)));
    leader.sessions.gave_up(NodeId(1), leader.world.name("/a"), old, &leader.world.state);
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
    let other = leader.world.hello(1, "other");
    leader.now = Moment(100);
    assert!(leader.open(&other).is_err());
    leader.now = Moment(3000);
    assert_eq!(leader.open(&other), Ok(Span::seconds(1)), "the former is silent for a ttl, not yet for W");
    leader.now = Moment(3400);
    let unwelcomed = Hello { fresh: true, ..other.clone() };
    assert_eq!(leader.open(&unwelcomed), Ok(Span::millis(600)), "it has not heard that it waits");
    assert_eq!(leader.open(&other), Ok(Span::millis(600)), "another may have welcomed it that led no more");
    leader.now = Moment(4000);
    assert_eq!(leader.open(&other), Ok(Span(0)), "the same life has nothing more to wait for");
}

#[test]
fn a_new_life_unknown_to_this_leader_waits_from_the_election() {
    let mut leader = Leader::new(1);
    leader.world.register("k2", "n2");
    leader.now = Moment(1500);
    let fresh = Hello { fresh: true, ..leader.world.hello(2, "first") };
    assert_eq!(leader.open(&fresh), Ok(Span(0)), "there never was another");
    leader.world.set_status(2, NodeStatus::Ready);
    leader.sessions = Sessions::new(Term(2), Moment(1000));
    for asked in ["at first", "again, as its welcome was lost"] {
        assert_eq!(leader.open(&fresh), Ok(Span::millis(3500)), "{asked}");
    }
    leader.sessions = Sessions::new(Term(3), Moment(1200));
    let known = Hello { fresh: false, ..fresh };
    assert_eq!(leader.open(&known), Ok(Span(0)), "it has waited, or counts for itself");
}

/// A44: its stand-in prolongs the leases; nothing new is placed there, and nothing is taken away.
#[test]
fn a44_a_node_that_restarts_keeps_its_work_and_gets_no_more() {
    let mut leader = Leader::new(2);
    let epoch = leader.world.bound("/a", 1);
    let stand_in = Hello { stand_in: true, ..leader.world.hello(1, "i1") };
    leader.open(&stand_in).expect("it speaks for the same life");
    leader.sessions.closed(NodeId(1), &"i1".into()); // the agent's own stream
    assert_eq!(leader.act(), ["1 restarting"]);
    leader.pass(Span::seconds(20), &[1, 2]);
    assert!(leader.act().is_empty(), "it is heard all the while");
    assert_eq!(leader.named(1), [epoch.0]);
    leader.world.apply_bucket("/b", |_| {});
    leader.answer(2, "/b", None);
    assert_eq!(leader.act(), ["bind /b 2"], "nobody waits for its answer");

    let back = Hello { fresh: true, ..leader.world.hello(1, "later") };
    assert!(leader.open(&back).is_err(), "not beside the stand-in");
    leader.sessions.closed(NodeId(1), &"i1".into());
    assert_eq!(leader.open(&back), Ok(Span::seconds(4)), "what it adopts is not meant");
    assert_eq!(leader.act(), ["1 ready"]);
    assert_eq!(leader.named(1), [epoch.0]);
}

#[test]
fn a_machine_that_dies_while_its_agent_restarts_is_lost_as_ever() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    let stand_in = Hello { stand_in: true, ..leader.world.hello(1, "i1") };
    leader.open(&stand_in).expect("it speaks for the same life");
    assert_eq!(leader.act(), ["1 restarting"]);
    leader.answer(2, "/a", None);
    leader.pass(Span::seconds(4), &[2]);
    assert_eq!(leader.act(), ["1 lost", "free /a"]);
}

#[test]
fn a_node_whose_agent_stops_for_longer_is_left_without_work_first() {
    let mut leader = Leader::new(2);
    for bucket in ["/a", "/b"] {
        leader.world.bound(bucket, 1);
        (1..=2).for_each(|node| leader.answer(node, bucket, None));
    }
    leader.sessions.release_all(NodeId(1));
    assert_eq!(leader.act(), ["1 restarting", "leave /a", "leave /b"], "all at once: its agent waits");
    leader.world.apply_bucket("/c", |_| {});
    (1..=2).for_each(|node| leader.answer(node, "/c", None));
    assert_eq!(leader.act(), ["bind /c 2"], "nothing more comes");
    for bucket in ["/a", "/b"] {
        let epoch = leader.world.binding(bucket).epoch;
        leader.sessions.gave_up(NodeId(1), leader.world.name(bucket), epoch, &leader.world.state);
    }
    assert_eq!(leader.act(), ["free /a", "free /b"]);
    (1..=2).for_each(|node| ["/a", "/b"].iter().for_each(|bucket| leader.answer(node, bucket, None)));
    assert_eq!(leader.act(), ["bind /a 2", "bind /b 2"]);
    leader.connect(1);
    assert!(leader.sessions.is_releasing(NodeId(1)), "whichever stream it says the rest on");
    leader.sessions.closed(NodeId(1), &"i1".into());
    leader.sessions.closed(NodeId(1), &"i1".into());
    let back = leader.world.hello(1, "later");
    leader.open(&back).expect("the former life has gone");
    assert_eq!(leader.act(), ["1 ready"], "it counts for one life of its agent");
}

/// It was decided before the leader heard that the node's agent stops, and comes to the log after it.
#[test]
fn a_binding_on_its_way_to_a_node_whose_agent_stops_is_stale() {
    let mut leader = Leader::new(2);
    leader.world.apply_bucket("/a", |_| {});
    leader.answer(1, "/a", None);
    leader.answer(2, "/a", Some("no"));
    let decided = due(&leader.world.state, &mut leader.sessions, leader.now, leader.world.now).commands;
    assert_eq!(decided.iter().map(word).collect::<Vec<_>>(), ["bind /a 1"]);
    leader.sessions.release_all(NodeId(1));
    assert_eq!(leader.act(), ["1 restarting"]);
    for command in decided {
        let reply = leader.world.propose(command);
        assert!(
            matches!(&reply, Reply::Refused(Refusal::Stale(why)) if why.contains("restarting")),
            "{reply:?}"
        );
    }
}

#[test]
fn while_leadership_is_handed_over_nothing_is_acknowledged_or_decided() {
    let mut leader = Leader::new(2);
    let epoch = leader.world.bound("/a", 1);
    leader.act();
    leader.sessions.freeze(true);
    assert_eq!(leader.named(1), Vec::<u64>::new());
    leader.pass(Span::seconds(60), &[]);
    assert!(leader.act().is_empty());
    leader.pass(Span::millis(100), &[1, 2]);
    leader.sessions.freeze(true);
    leader.sessions.freeze(false);
    assert_eq!(leader.named(1), Vec::<u64>::new(), "another transfer goes on");
    leader.sessions.freeze(false);
    assert_eq!(leader.named(1), [epoch.0], "the transfer failed: it goes on as before");
}

#[test]
fn after_a_change_of_the_lease_the_longer_wait_counts_for_one_old_w() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.act();
    let (ttl, kill_margin) = (Span::millis(1500), Span::millis(500));
    leader.change_lease(LeaseSettings { ttl, kill_margin, ..LeaseSettings::default() });
    leader.act();
    leader.pass(Span::seconds(2), &[2]);
    assert!(leader.act().is_empty(), "leases of the old ttl may still run");
    leader.pass(Span::seconds(2), &[2]);
    let words = leader.act();
    assert_eq!(words, ["settle", "1 lost", "free /a"]);
    assert_eq!(leader.world.state.cluster.former, None);
    assert_eq!(longest_wait(&leader.world.state), Span::seconds(2));
}

/// Back and forth: what holds before and after is the same, and so is the longest lease that may be out.
#[test]
fn each_change_of_the_lease_is_waited_for_anew() {
    let mut leader = Leader::new(2);
    leader.world.bound("/a", 1);
    leader.act();
    let (long, mut short) = (LeaseSettings::default(), LeaseSettings::default());
    (short.heartbeat, short.ttl, short.kill_margin) =
        (Span::millis(300), Span::seconds(1), Span::millis(300));
    leader.change_lease(short);
    leader.act();
    leader.pass(Span::seconds(3), &[1, 2]);
    leader.change_lease(long);
    leader.act();
    leader.pass(Span::millis(780), &[1, 2]);
    // Acknowledged now, it may run for as long as the long lease says.
    leader.change_lease(short);
    leader.act();
    leader.pass(Span::millis(3999), &[2]);
    assert!(leader.act().is_empty(), "a lease given just before the last change may still run");
    leader.pass(Span::millis(1), &[2]);
    assert_eq!(leader.act(), ["settle", "1 lost", "free /a"]);
}

/// Decided, and overtaken in the log by another change of the lease.
#[test]
fn a_wait_that_is_over_is_not_that_of_a_later_change() {
    let mut leader = Leader::new(1);
    let lease = |ttl| LeaseSettings { ttl: Span::seconds(ttl), ..LeaseSettings::default() };
    leader.change_lease(lease(4));
    leader.act();
    leader.pass(Span::seconds(4), &[1]);
    let decided = due(&leader.world.state, &mut leader.sessions, leader.now, leader.world.now).commands;
    assert_eq!(decided.iter().map(word).collect::<Vec<_>>(), ["settle"]);
    leader.change_lease(lease(2));
    for command in decided {
        let reply = leader.world.propose(command);
        assert!(
            matches!(&reply, Reply::Refused(Refusal::Stale(why)) if why.contains("changed again")),
            "{reply:?}"
        );
    }
    assert_eq!(longest_wait(&leader.world.state), Span::seconds(5), "leases of 4 s may still run");
}

#[test]
fn a_quarantine_ends_by_the_leaders_clock_on_the_wall() {
    let mut leader = Leader::new(1);
    let epoch = leader.world.bound("/a", 1);
    let until = Timestamp(leader.world.now.0 + 2000);
    let quarantine = crate::command::Quarantine {
        bucket: leader.world.name("/a"),
        claim: Claim { node: NodeId(1), epoch: Some(epoch) },
        until,
        reason: "why".to_owned(),
    };
    leader.world.propose(Command::Quarantine(quarantine));
    leader.world.free("/a", epoch);
    leader.world.now.0 += 500;
    assert!(leader.act().is_empty(), "it lasts, and nothing is placed");
    let wake = due(&leader.world.state, &mut leader.sessions, leader.now, leader.world.now).wake_at;
    assert!(wake.is_some_and(|at| at <= leader.now.after(Span::millis(1500))), "{wake:?}");
    leader.world.now = until;
    let words = leader.act();
    assert!(matches!(&words[..], [word] if word.starts_with("EndQuarantine")), "{words:?}");
    assert!(!leader.world.bucket("/a").is_off());
    assert!(leader.act().is_empty());
}
