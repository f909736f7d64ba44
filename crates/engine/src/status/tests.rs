//! Scenarios of what people are told.

use sheaf_model::verdict::REASON_MAX;
use sheaf_model::view::{BucketCounts, BucketState};
use sheaf_model::*;

use super::Sight;
use crate::Sessions;
use crate::command::{Command, DrainNode, Leave, RecordPhases, ReleaseNodes};
use crate::testing::World;

fn sessions(world: &World, nodes: u64) -> Sessions {
    let mut sessions = Sessions::new(world.term, Moment(0));
    for node in 1..=nodes {
        let hello = world.hello(node, "i");
        let opened = sessions.opened(&hello, &world.state, Moment(0));
        opened.expect("nobody else is live as this node");
    }
    sessions
}

fn state(world: &World, sessions: &Sessions, bucket: &str) -> (BucketState, u32, u32) {
    let sight = Sight { state: &world.state, sessions: Some(sessions), now: Moment(0) };
    let status = sight.bucket_status(&world.bucket(bucket));
    (status.state, status.desired, status.running)
}

#[test]
fn a12_a_node_that_is_not_available_is_not_a_failure() {
    let mut world = World::with_nodes(3);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    let mut sessions = sessions(&world, 3);
    assert_eq!(state(&world, &sessions, "/m"), (BucketState::Placing, 0, 0));
    for (node, refusal) in [(1, None), (2, None), (3, Some("no"))] {
        let verdict = world.verdict("/m", refusal);
        sessions.answered(NodeId(node), vec![verdict.into()], &world.state, Moment(0));
    }
    assert_eq!(state(&world, &sessions, "/m"), (BucketState::Starting, 2, 0));
    world.phase("/m", 1, None, Phase::Running);
    assert_eq!(state(&world, &sessions, "/m"), (BucketState::Partial, 2, 1));
    world.phase("/m", 2, None, Phase::Running);
    assert_eq!(state(&world, &sessions, "/m"), (BucketState::Running, 2, 2));
    world.on("/m", Command::Suspend);
    assert_eq!(state(&world, &sessions, "/m").0, BucketState::Stopping);
    world.phase("/m", 1, None, Phase::Stopped);
    world.phase("/m", 2, None, Phase::Stopped);
    assert_eq!(state(&world, &sessions, "/m").0, BucketState::Suspended);
}

#[test]
fn a_single_node_bucket_passes_through_its_states() {
    let mut world = World::with_nodes(2);
    world.apply_bucket("/a", |_| {});
    let mut sessions = sessions(&world, 2);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Placing);
    for node in [1, 2] {
        let verdict = world.verdict("/a", Some("no"));
        sessions.answered(NodeId(node), vec![verdict.into()], &world.state, Moment(0));
    }
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Unplaced);
    let verdict = world.verdict("/a", None);
    sessions.answered(NodeId(1), vec![verdict.into()], &world.state, Moment(0));
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Placing);
    let basis = world.bucket("/a").current.revision;
    world.propose(Command::Bind(world.bind_command("/a", 1, basis)));
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Starting);
    let epoch = world.binding("/a").epoch;
    world.phase("/a", 1, Some(epoch), Phase::Running);
    assert_eq!(state(&world, &sessions, "/a"), (BucketState::Running, 1, 1));
    world.set_status(1, NodeStatus::Lost);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Placing);
    world.apply_bucket("/a", |put| put.spec.on_node_lost = OnNodeLost::Wait);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::WaitingForNode);
    world.on("/a", Command::Suspend);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Stopping);
    world.free("/a", epoch);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Suspended);
}

#[test]
fn a_new_leader_that_has_not_heard_of_the_nodes_does_not_say_that_none_is_available() {
    let mut world = World::with_nodes(2);
    world.apply_bucket("/a", |_| {});
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    let mut sessions = sessions(&world, 0);
    for bucket in ["/a", "/m"] {
        assert_eq!(state(&world, &sessions, bucket).0, BucketState::Placing);
        assert_eq!(message(&world, &sessions, bucket), "2 nodes have not answered yet");
    }
    sessions.opened(&world.hello(1, "i"), &world.state, Moment(0)).expect("the first of it");
    for bucket in ["/a", "/m"] {
        sessions.answered(NodeId(1), vec![world.verdict(bucket, Some("no")).into()], &world.state, Moment(0));
        assert_eq!(message(&world, &sessions, bucket), "1 node has not answered yet");
    }
    world.set_status(2, NodeStatus::Lost);
    for bucket in ["/a", "/m"] {
        assert_eq!(state(&world, &sessions, bucket).0, BucketState::Unplaced);
    }
}

/// What a program leaves that ended by itself, with exit code 0 or another.
fn ended(world: &mut World, bucket: &str, node: u64, epoch: Option<Epoch>, code: i32) {
    let instance = world.instance(bucket, node, epoch, Phase::Stopped);
    let instances = vec![Instance { exit: Some(Exit::Code(code)), ..instance }];
    world.propose(Command::RecordPhases(RecordPhases { node: NodeId(node), instances }));
}

fn message(world: &World, sessions: &Sessions, bucket: &str) -> String {
    let sight = Sight { state: &world.state, sessions: Some(sessions), now: Moment(0) };
    sight.bucket_status(&world.bucket(bucket)).message
}

#[test]
fn a_program_that_ended_well_is_as_wanted_until_it_is_to_run_again() {
    let mut world = World::with_nodes(2);
    let epoch = world.bound("/a", 1);
    world.phase("/a", 1, Some(epoch), Phase::Running);
    let mut sessions = sessions(&world, 2);
    ended(&mut world, "/a", 1, Some(epoch), 0);
    assert_eq!(state(&world, &sessions, "/a"), (BucketState::Running, 0, 0));
    assert_eq!(
        message(&world, &sessions, "/a"),
        "ended well on n1, exit code 0; `sheaf bucket restart /a` runs it again"
    );
    world.on("/a", Command::Restart);
    assert_eq!(state(&world, &sessions, "/a"), (BucketState::Starting, 1, 0), "the end of an earlier run");

    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    for node in [1, 2] {
        sessions.answered(NodeId(node), vec![world.verdict("/m", None).into()], &world.state, Moment(0));
        world.phase("/m", node, None, Phase::Running);
    }
    ended(&mut world, "/m", 1, None, 0);
    assert_eq!(state(&world, &sessions, "/m"), (BucketState::Running, 1, 1), "one has done its part");
    assert!(message(&world, &sessions, "/m").starts_with("ended well on n1, "));
    ended(&mut world, "/m", 2, None, 0);
    assert_eq!(state(&world, &sessions, "/m"), (BucketState::Running, 0, 0));
    assert!(message(&world, &sessions, "/m").starts_with("ended well on n1, n2, "));
    sessions.answered(NodeId(2), vec![world.verdict("/m", Some("no")).into()], &world.state, Moment(0));
    assert!(state(&world, &sessions, "/m").0 == BucketState::Running, "n1 did what it should");
    world.on("/m", Command::Suspend);
    assert_eq!(state(&world, &sessions, "/m").0, BucketState::Suspended);
}

#[test]
fn a_program_that_was_stopped_otherwise_has_not_ended_well() {
    let mut world = World::with_nodes(1);
    let epoch = world.bound("/a", 1);
    let sessions = sessions(&world, 1);
    ended(&mut world, "/a", 1, Some(epoch), 3);
    assert_eq!(state(&world, &sessions, "/a"), (BucketState::Starting, 1, 0));
    let basis = world.bucket("/a").current.revision;
    ended(&mut world, "/a", 1, Some(epoch), 0);
    world.propose(Command::Leave(Leave {
        bucket: world.name("/a"),
        epoch,
        reason: LeaveReason::NodeLost,
        term: None,
    }));
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Stopping);
    world.free("/a", epoch);
    world.propose(Command::Bind(world.bind_command("/a", 1, basis)));
    assert_eq!(state(&world, &sessions, "/a"), (BucketState::Starting, 1, 0), "under another epoch");
}

#[test]
fn an_instance_of_an_older_revision_does_not_count_as_running() {
    let mut world = World::with_nodes(1);
    let epoch = world.bound("/a", 1);
    world.phase("/a", 1, Some(epoch), Phase::Running);
    let sessions = sessions(&world, 1);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Running);
    world.on("/a", Command::Restart);
    assert_eq!(state(&world, &sessions, "/a").0, BucketState::Starting);
}

#[test]
fn buckets_are_counted_some_at_a_time_and_each_once() {
    let mut world = World::with_nodes(1);
    for bucket in ["/a", "/b", "/c", "/d", "/e"] {
        world.apply_bucket(bucket, |put| put.suspended = Some(bucket != "/c"));
    }
    let sessions = sessions(&world, 1);
    let sight = Sight { state: &world.state, sessions: Some(&sessions), now: Moment(0) };
    for at_most in [1, 2, 5, 9] {
        let (mut counts, mut after, mut turns) = (BucketCounts::default(), None, 0);
        loop {
            after = sight.count_buckets(after.as_ref(), at_most, &mut counts);
            turns += 1;
            if after.is_none() {
                break;
            }
        }
        let expected = BucketCounts { suspended: 4, placing: 1, other: 1, ..BucketCounts::default() };
        assert_eq!(counts, expected, "{at_most}");
        assert!(turns <= 5 / at_most + 1, "{turns} turns of {at_most}");
    }
}

#[test]
fn affinity_is_counted_as_it_is_listed() {
    let mut world = World::with_nodes(3);
    let epoch = world.bound("/a", 1);
    world.phase("/a", 1, Some(epoch), Phase::Running);
    world.bound("/b", 1);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    world.phase("/m", 1, None, Phase::Running);
    world.phase("/m", 2, None, Phase::Failed);
    let sight = Sight { state: &world.state, sessions: None, now: Moment(0) };
    let counts = sight.affinity_counts();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(NodeId(1), 3), (NodeId(2), 1)]);
    for (node, listed) in [(1, 3), (2, 1), (3, 0)] {
        assert_eq!(sight.affinity_on(NodeId(node)).count(), listed, "{node}");
    }
}

#[test]
fn a_lost_node_and_the_next_of_its_name_are_told_apart_by_their_numbers() {
    let mut world = World::with_nodes(2);
    let epoch = world.bound("/a", 2);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    world.phase("/m", 2, None, Phase::Running);
    world.set_status(2, NodeStatus::Lost);
    world.register("k3", "n2");
    world.set_status(3, NodeStatus::Ready);
    world.phase("/m", 3, None, Phase::Running);
    let sight = Sight { state: &world.state, sessions: None, now: Moment(0) };
    let rows = sight.affinity_of_bucket(&world.name("/m")).into_iter();
    let rows: Vec<(String, u64)> = rows.map(|(_, row)| (row.node, row.node_id)).collect();
    assert_eq!(rows, [("n2".to_owned(), 2), ("n2".to_owned(), 3)]);
    let explained = sight.explain(&world.bucket("/a"));
    let nodes: Vec<u64> = explained.nodes.iter().map(|node| node.node_id).collect();
    assert_eq!(nodes, [1, 2, 3]);
    let decision = explained.decision.expect("it is bound");
    assert_eq!((decision.chosen.as_str(), decision.chosen_id, decision.epoch), ("n2", 2, epoch.0));

    world.on("/m", Command::DeleteBucket);
    let name = world.name("/m");
    let sight = Sight { state: &world.state, sessions: None, now: Moment(0) };
    let rows = sight.affinity_of_bucket(&name).into_iter();
    let row = rows.map(|(_, row)| row).find(|row| row.node_id == 2).expect("it may still run there");
    assert_eq!(row.phase, "stopping");
    assert_eq!(row.why, "is lost; if it is gone for good, say so: sheaf node forget 2");
}

#[test]
fn each_node_is_known_by_the_version_that_runs_there() {
    let mut world = World::with_nodes(2);
    let version = |version: &str| ModuleRef::parse(&format!("sleep@{version}")).expect("a version");
    world.apply_module("sleep", "2", |_| {});
    let rolling = |module: ModuleRef| {
        move |put: &mut PutBucket| {
            put.spec.module = module;
            put.spec.multi_node = true;
            put.spec.max_parallel = Some(1);
        }
    };
    let runs = |world: &World| -> Vec<String> {
        let (sight, module) =
            (Sight { state: &world.state, sessions: None, now: Moment(0) }, version("1").name);
        let all = sight.instances_of(&module).map(|(it, module)| {
            let module = module.map_or_else(|| "an earlier one".to_owned(), ToString::to_string);
            format!("{} {}: {module}", it.bucket, it.node)
        });
        all.collect()
    };
    world.apply_bucket("/m", rolling(version("1")));
    world.phase("/m", 1, None, Phase::Running);
    world.phase("/m", 2, None, Phase::Running);
    world.apply_bucket("/m", rolling(version("2")));
    assert_eq!(runs(&world), ["/m 1: sleep@1", "/m 2: sleep@1"]);
    let release = world.bucket("/m").newest().revision;
    let (bucket, nodes, term) = (world.name("/m"), vec![NodeId(1)], world.term);
    world.propose(Command::ReleaseNodes(ReleaseNodes { bucket, release, nodes, term }));
    assert_eq!(runs(&world), ["/m 1: sleep@1", "/m 2: sleep@1"], "it is released, and has not begun");
    world.phase("/m", 1, None, Phase::Running);
    assert_eq!(runs(&world), ["/m 1: sleep@2", "/m 2: sleep@1"]);
    // A single-node bucket is at its new release at once, its instance a little later.
    let epoch = world.bound("/s", 2);
    world.phase("/s", 2, Some(epoch), Phase::Running);
    world.apply_bucket("/s", |put| put.spec.module = version("1"));
    assert_eq!(runs(&world)[2], "/s 2: an earlier one");
    world.phase("/m", 2, None, Phase::Stopped);
    assert_eq!(runs(&world), ["/m 1: sleep@2", "/s 2: an earlier one"]);
    let used = |of: &str| -> Vec<String> {
        world.state.buckets_of(&version(of)).map(|bucket| bucket.name().to_string()).collect()
    };
    assert_eq!((used("1"), used("2")), (vec!["/m".into(), "/s".into()], vec!["/m".into()]));
    // What it was still runs when its bucket is of another module.
    world.apply_module("other", "1", |_| {});
    world.apply_bucket("/s", |put| put.spec.module = ModuleRef::parse("other@1").expect("a version"));
    assert_eq!(runs(&world), ["/m 1: sleep@2", "/s 2: an earlier one"]);
    world.phase("/s", 2, Some(epoch), Phase::Running);
    assert_eq!(runs(&world), ["/m 1: sleep@2"]);
}

#[test]
fn a1_explain_gives_every_gate_of_every_node() {
    let mut world = World::with_nodes(3);
    world.apply_bucket("/a", |_| {});
    world.set_status(3, NodeStatus::Lost);
    let mut sessions = sessions(&world, 2);
    let mut verdict = world.verdict("/a", Some("no flume"));
    verdict.gates[0] = GateOutcome::refuse("not allowed here");
    sessions.answered(NodeId(1), vec![verdict.into()], &world.state, Moment(0));
    let sight = Sight { state: &world.state, sessions: Some(&sessions), now: Moment(0) };
    let explanation = sight.explain(&world.bucket("/a"));
    assert_eq!(explanation.nodes.len(), 3);
    let gates: Vec<_> = explanation.nodes[0].gates.iter().map(|g| (g.pass, g.reason.as_str())).collect();
    assert_eq!(gates, [(Some(false), "not allowed here"), (Some(true), ""), (Some(false), "no flume")]);
    assert_eq!(explanation.nodes[1].gates[2].reason, "not answered yet");
    assert_eq!(explanation.nodes[2].status, "lost");
    assert!(explanation.nodes.iter().all(|node| node.gates.len() == 3 && !node.eligible));
}

#[test]
fn explain_says_why_a_node_does_not_answer() {
    let mut world = World::with_nodes(4);
    world.apply_bucket("/a", |_| {});
    world.set_status(1, NodeStatus::Lost);
    let mut sessions = sessions(&world, 4);
    sessions.closed(NodeId(2), &"i".into());
    let mut stand_in = world.hello(3, "i");
    stand_in.stand_in = true;
    sessions.opened(&stand_in, &world.state, Moment(0)).expect("it speaks for the same life");
    sessions.closed(NodeId(3), &"i".into()); // the agent's own stream
    let reasons = |sessions: Option<&Sessions>| -> Vec<String> {
        let sight = Sight { state: &world.state, sessions, now: Moment(0) };
        let nodes = sight.explain(&world.bucket("/a")).nodes;
        let unknown = |node: &view::NodeExplanation| node.gates.iter().all(|gate| gate.pass.is_none());
        assert!(nodes.iter().all(unknown), "nothing is known of any gate");
        nodes.into_iter().map(|node| node.gates[2].reason.clone()).collect()
    };
    let why =
        ["the node is lost", "the node is not connected now", "its agent is restarting", "not answered yet"];
    assert_eq!(reasons(Some(&sessions)), why);
    assert_eq!(reasons(None), ["not known here: only the leader has the nodes' answers"; 4]);
}

#[test]
fn explain_says_what_keeps_a_bucket_from_a_node_whatever_its_gates_say() {
    let mut world = World::with_nodes(4);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    let epoch = world.bound("/a", 1);
    world.phase("/a", 1, Some(epoch), Phase::Failed);
    world.free("/a", epoch);
    world.propose(Command::Drain(DrainNode {
        node: NodeId(2),
        drain: Drain { deadline: None, keep_multi_node: true },
    }));
    world.set_status(3, NodeStatus::Restarting);
    let mut sessions = sessions(&world, 4);
    for bucket in ["/a", "/m"] {
        for node in 1..=4 {
            sessions.answered(
                NodeId(node),
                vec![world.verdict(bucket, None).into()],
                &world.state,
                Moment(0),
            );
        }
    }
    let obstacles = |world: &World, bucket: &str| -> Vec<String> {
        let sight = Sight { state: &world.state, sessions: Some(&sessions), now: Moment(0) };
        let nodes = sight.explain(&world.bucket(bucket)).nodes;
        assert!(nodes.iter().all(|node| node.eligible), "all gates pass");
        nodes.into_iter().map(|node| node.obstacle).collect()
    };
    let gave_up = "its instance there gave up: said by the test; it is tried there again once the bucket is changed or \
                   restarted, or by `sheaf bucket resume /a`";
    let restarting = "the node is restarting: nothing is placed there until it is ready";
    assert_eq!(obstacles(&world, "/a"), [gave_up, "the node is being drained", restarting, ""]);
    assert_eq!(obstacles(&world, "/m"), ["", "", "", ""], "it runs on");
    world.on("/a", Command::Resume);
    assert_eq!(obstacles(&world, "/a")[0], "");
}

#[test]
fn subtasks_that_could_start_are_counted_over_all_running_jobs() {
    let mut world = World::with_nodes(1);
    let jobs = ["a", "b", "c"].map(|name| world.submit(name, 5, |_| {}));
    world.submit_items("d", &[&[], &[0]]);
    world.propose(Command::PauseJob(jobs[1]));
    let counts = Sight { state: &world.state, sessions: None, now: Moment(0) }.job_counts();
    assert_eq!((counts.running, counts.paused, counts.subtasks_ready), (3, 1, 11));
}

#[test]
fn what_many_nodes_say_at_length_fits_into_a_message() {
    const NODES: u64 = 2_100;
    let mut world = World::with_nodes(NODES);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    let mut sessions = sessions(&world, NODES);
    for node in 1..=NODES {
        let message = if node == 1 { "short".to_owned() } else { "x".repeat(Instance::MESSAGE_MAX) };
        let instance = Instance { message, ..world.instance("/m", node, None, Phase::Failed) };
        world.propose(Command::RecordPhases(RecordPhases { node: NodeId(node), instances: vec![instance] }));
        let mut verdict = world.verdict("/m", Some("no"));
        if node > 1 {
            verdict.gates = std::array::from_fn(|_| GateOutcome::refuse("x".repeat(REASON_MAX)));
        }
        sessions.answered(NodeId(node), vec![verdict.into()], &world.state, Moment(0));
    }
    let sight = Sight { state: &world.state, sessions: Some(&sessions), now: Moment(0) };
    let status = sight.bucket_status(&world.bucket("/m"));
    let messages: Vec<&str> = status.instances.iter().map(|instance| instance.message.as_str()).collect();
    assert_eq!((messages.len(), messages[0]), (2_100, "short"));
    assert!(messages[1].ends_with("x…") && messages[1].len() > 2_000, "{} bytes", messages[1].len());
    assert!(messages.iter().map(|text| text.len()).sum::<usize>() <= 6 << 20);
    let explanation = sight.explain(&world.bucket("/m"));
    let reasons = explanation.nodes.iter().flat_map(|node| &node.gates).map(|gate| gate.reason.as_str());
    let reasons: Vec<&str> = reasons.collect();
    assert_eq!(reasons[..3], ["", "", "no"]);
    assert!(reasons[3].ends_with("x…") && reasons.iter().map(|text| text.len()).sum::<usize>() <= 6 << 20);
}
