//! Scenarios of rollouts: who is released when, and what stops them.

use sheaf_model::*;

use super::*;
use crate::command::{OnBucket, Rollback};
use crate::steward::rollouts::WELL_AFTER;

const BUCKET: &str = "/m";

/// Nodes that all run revision 1 of a multi-node bucket that wants `parallel` of them updated at a time.
fn running(nodes: u64, parallel: u32) -> Leader {
    let mut leader = Leader::new(nodes);
    leader.world.apply_bucket(BUCKET, |put| {
        put.spec.multi_node = true;
        put.spec.max_parallel = Some(parallel);
    });
    (1..=nodes).for_each(|node| leader.runs(node));
    assert!(leader.act().is_empty(), "nothing is due of what simply runs");
    leader
}

impl Leader {
    fn configure(&mut self, port: u16) {
        self.world.apply_bucket(BUCKET, |put| {
            put.spec.multi_node = true;
            put.spec.max_parallel = Some(1);
            put.spec.config = Json::new(&serde_json::json!({ "port": port }));
        });
    }

    /// The node runs what it is released to, and says so.
    fn runs(&mut self, node: u64) {
        self.is(node, Phase::Running);
        self.says(node, None);
    }

    fn is(&mut self, node: u64, phase: Phase) {
        let revision = self.world.bucket(BUCKET).basis_for(NodeId(node));
        let instance = Instance { revision, ..self.world.instance(BUCKET, node, None, phase) };
        self.world.propose(Command::RecordPhases(crate::command::RecordPhases {
            node: NodeId(node),
            instances: vec![instance],
        }));
    }

    /// The node's answer for what it is released to.
    fn says(&mut self, node: u64, refusal: Option<&str>) {
        let release = self.world.bucket(BUCKET).release_for(NodeId(node)).clone();
        let verdict = Verdict {
            revision: release.revision,
            module: release.spec.module.clone(),
            ..self.world.verdict(BUCKET, refusal)
        };
        self.sessions.answered(NodeId(node), vec![verdict.into()], &self.world.state, self.now);
    }

    /// So much time that what runs counts as well.
    fn becomes_well(&mut self, nodes: u64) {
        assert!(self.act().is_empty(), "what was just started is looked at for a while");
        self.pass(WELL_AFTER, &(1..=nodes).collect::<Vec<_>>());
    }

    fn stopped(&self) -> Option<String> {
        self.world.bucket(BUCKET).next.as_ref().and_then(|rollout| rollout.stopped.clone())
    }
}

#[test]
fn nodes_are_released_one_after_the_other_each_when_the_former_is_well() {
    let mut leader = running(3, 1);
    leader.configure(1);
    let revision = leader.world.bucket(BUCKET).newest().revision;
    for node in 1..=3 {
        assert_eq!(leader.act(), [format!("release [NodeId({node})]")]);
        assert!(leader.act().is_empty(), "it has not answered yet");
        leader.says(node, None);
        assert!(leader.act().is_empty(), "it does not run it yet");
        leader.runs(node);
        leader.becomes_well(3);
    }
    assert_eq!(leader.act(), ["finish"]);
    let bucket = leader.world.bucket(BUCKET);
    assert_eq!((bucket.current.revision, bucket.next.is_none()), (revision, true));
    assert!(leader.act().is_empty());
}

#[test]
fn as_many_are_released_at_a_time_as_the_bucket_wants() {
    let mut leader = running(5, 2);
    leader.world.apply_bucket(BUCKET, |put| {
        put.spec.multi_node = true;
        put.spec.max_parallel = Some(2);
        put.spec.config = Json::new(&serde_json::json!({ "port": 1 }));
    });
    assert_eq!(leader.act(), ["release [NodeId(1), NodeId(2)]"]);
    leader.runs(2);
    leader.becomes_well(5);
    assert_eq!(leader.act(), ["release [NodeId(3)]"], "the second is well, the first still on its way");
}

#[test]
fn an_instance_that_fails_stops_it_and_the_operator_lets_it_go_on() {
    let mut leader = running(3, 1);
    leader.configure(1);
    leader.act();
    leader.says(1, None);
    leader.is(1, Phase::Backoff);
    assert_eq!(leader.stopped().as_deref(), Some("node n1: said by the test"));
    assert!(leader.act().is_empty(), "nobody follows");
    leader.runs(1);
    leader.becomes_well(3);
    assert!(leader.act().is_empty(), "nor when it happens to run for a while");
    leader.world.on(BUCKET, Command::Resume);
    assert!(leader.stopped().is_none());
    assert_eq!(leader.act(), ["release [NodeId(2)]"]);
}

#[test]
fn an_instance_that_is_resumed_after_it_gave_up_is_the_only_one_that_begins_anew() {
    let mut leader = running(2, 1);
    leader.is(1, Phase::Failed);
    leader.world.on(BUCKET, Command::Resume);
    let bucket = leader.world.bucket(BUCKET);
    assert_eq!(bucket.basis_for(NodeId(1)), leader.world.state.revision, "it is started anew");
    assert_eq!(bucket.basis_for(NodeId(2)), bucket.current.revision, "the other one runs on");
}

#[test]
fn a_module_that_refuses_where_it_ran_stops_it_and_elsewhere_does_not() {
    let mut leader = running(2, 1);
    leader.world.set_status(1, NodeStatus::Ready);
    leader.connect_another(3);
    leader.says(3, Some("no flume here"));
    leader.configure(1);
    assert_eq!(leader.act(), ["release [NodeId(3)]"], "first where nothing runs");
    leader.says(3, Some("no flume here"));
    assert_eq!(leader.act(), ["release [NodeId(1)]"], "no node is not a failure");
    leader.says(1, Some("flume 2 is not installed"));
    let stop =
        "stop at 1: it ran there, and can_run_on_this_node refuses the new one: flume 2 is not installed";
    assert_eq!(leader.act(), [stop]);
    assert!(leader.stopped().is_some_and(|why| why.starts_with("node n1: it ran there")));
}

#[test]
fn a_node_lost_on_its_way_is_waited_for_and_one_that_was_lost_before_is_not() {
    let mut leader = running(3, 1);
    leader.pass(Span::seconds(5), &[1, 2]);
    assert_eq!(leader.act(), ["3 lost"]);
    leader.configure(1);
    assert_eq!(leader.act(), ["release [NodeId(1)]"]);
    leader.says(1, None);
    leader.pass(Span::seconds(5), &[2]);
    assert_eq!(leader.act(), ["1 lost"]);
    assert!(leader.act().is_empty(), "nobody knows how the first does");
    let reply = leader.world.propose(Command::Forget(NodeId(1)));
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert_eq!(leader.act(), ["release [NodeId(2)]"]);
    leader.runs(2);
    leader.becomes_well(2);
    assert_eq!(leader.act(), ["finish"], "the third has it when it is back");
}

#[test]
fn a_change_that_no_instance_notices_needs_no_rollout() {
    let mut leader = running(3, 1);
    leader.world.apply_bucket(BUCKET, |put| {
        put.spec.multi_node = true;
        put.spec.max_parallel = Some(1);
        put.spec.owner = Some("data-eng".to_owned());
    });
    assert!(leader.world.bucket(BUCKET).next.is_none());
}

#[test]
fn going_back_ends_a_rollout_that_failed_and_begins_where_nothing_runs_well() {
    let mut leader = running(3, 1);
    let first = leader.world.bucket(BUCKET).current.clone();
    leader.configure(1);
    leader.act();
    leader.runs(1);
    leader.becomes_well(3);
    assert_eq!(leader.act(), ["release [NodeId(2)]"]);
    leader.is(2, Phase::Failed);
    assert!(leader.world.bucket(BUCKET).gave_up.contains_key(&NodeId(2)));

    let put = PutBucket { spec: (*first.spec).clone(), suspended: None, base: None, latest: false };
    let reply = leader.world.propose(Command::Rollback(Rollback { put, to: first.revision }));
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    let bucket = leader.world.bucket(BUCKET);
    assert_eq!(bucket.newest().spec, first.spec);
    assert_eq!(bucket.release_for(NodeId(1)).revision, first.revision, "until it is its turn");
    assert_eq!(leader.act(), ["release [NodeId(2)]"], "where it failed first");
    leader.runs(2);
    assert_eq!(leader.act(), ["release [NodeId(1)]"], "what ran before needs no second look");
    leader.runs(1);
    assert_eq!(leader.act(), ["release [NodeId(3)]"]);
    leader.runs(3);
    assert_eq!(leader.act(), ["finish"]);
}

#[test]
fn a_suspended_bucket_waits_with_its_rollout_and_goes_on_when_it_is_resumed() {
    let mut leader = running(2, 1);
    leader.configure(1);
    leader.world.on(BUCKET, |on: OnBucket| Command::Suspend(on));
    assert!(leader.act().is_empty());
    leader.world.on(BUCKET, Command::Resume);
    assert_eq!(leader.act(), ["release [NodeId(1)]"]);
}

impl Leader {
    fn connect_another(&mut self, node: u64) {
        self.world.register(&format!("k{node}"), &format!("n{node}"));
        self.world.set_status(node, NodeStatus::Ready);
        self.connect(node);
    }
}
