use sheaf_model::{
    Call, Instance, LifeCycleCall, ModuleRef, NodeId, Phase, PutBucket, Revision, Span, Timestamp, Trial,
};

use super::*;
use crate::command::{Command, PutTrial, RecordPhases};
use crate::testing::World;

#[test]
fn a_purge_is_waited_for_on_every_node_where_the_bucket_runs() {
    let mut world = World::with_nodes(3);
    world.apply_module("told", "1", |module| {
        module.life_cycle.insert(Call::Purge, LifeCycleCall::default());
    });
    world.apply_bucket("/bare", |_| {});
    world.apply_bucket("/a", |put| {
        put.spec.multi_node = true;
        put.spec.module = ModuleRef::parse("told").expect("a name");
    });
    let on = |world: &World, bucket| Command::Purge(OnBucket { bucket: world.name(bucket), base: None });
    let refused = |reply: Reply, what: &str| {
        assert!(
            matches!(&reply, Reply::Refused(Refusal::Precondition(text)) if text.contains(what)),
            "{reply:?}"
        );
    };
    let reply = world.propose(on(&world, "/bare"));
    refused(reply, "nothing to purge: module sleep@1");
    let reply = world.propose(on(&world, "/a"));
    refused(reply, "runs nowhere");
    for node in [1, 2] {
        let instance = Instance {
            bucket: world.name("/a"),
            node: NodeId(node),
            phase: Phase::Running,
            epoch: None,
            revision: world.state.revision,
            pid: Some(1),
            started_at: None,
            restarts: 0,
            exit: None,
            message: String::new(),
        };
        world.propose(Command::RecordPhases(RecordPhases { node: NodeId(node), instances: vec![instance] }));
    }
    let Reply::Done(revision) = world.propose(on(&world, "/a")) else { panic!("it runs on two") };
    let waiting = |world: &World| {
        let bucket = &world.state.buckets[&world.name("/a")];
        bucket.purge.as_ref().map(|it| (it.waiting.clone(), it.failed.clone()))
    };
    assert_eq!(waiting(&world), Some(([NodeId(1), NodeId(2)].into(), [].into())));
    let record = |world: &World, node, revision, failure: &str| {
        let failure = failure.to_owned();
        Command::RecordPurge(RecordPurge { bucket: world.name("/a"), node: NodeId(node), revision, failure })
    };
    // An earlier one, and a node that was not asked, are of no interest.
    for command in [record(&world, 1, Revision(1), ""), record(&world, 3, revision, "")] {
        assert!(matches!(world.propose(command), Reply::Unchanged(_)));
    }
    let reply = world.propose(record(&world, 1, revision, "in use"));
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert_eq!(waiting(&world), Some(([NodeId(2)].into(), [(NodeId(1), "in use".to_owned())].into())));
    world.propose(record(&world, 2, revision, ""));
    assert_eq!(waiting(&world).map(|it| it.0), Some([].into()));
    world.on("/a", Command::Suspend);
    let reply = world.propose(on(&world, "/a"));
    refused(reply, "is suspended");
}

#[test]
fn a_trial_is_a_bucket_of_its_own_that_no_document_changes() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    let trial = Trial { until: Timestamp(world.now.0 + 1000), max_objects: 10, max_time: Span::seconds(1) };
    let ask = |world: &World, name: &str, multi_node| {
        let mut put = world.put(name, |_| {});
        put.spec.multi_node = multi_node;
        Command::PutTrial(PutTrial { put: PutBucket { base: None, ..put }, trial })
    };
    let reply = world.propose(ask(&world, "/a", false));
    assert!(matches!(reply, Reply::Refused(Refusal::Conflict(_))), "{reply:?}");
    let reply = world.propose(ask(&world, "/a.test-1", true));
    assert!(matches!(reply, Reply::Refused(Refusal::Precondition(_))), "{reply:?}");
    let reply = world.propose(ask(&world, "/a.test-1", false));
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert_eq!(world.bucket("/a.test-1").trial, Some(trial));
    let put = world.put("/a.test-1", |_| {});
    let apply = crate::command::Apply { modules: Vec::new(), buckets: vec![put] };
    let reply = world.propose(Command::Apply(apply));
    let text = "is a test that is under way";
    assert!(matches!(&reply, Reply::Refused(Refusal::Precondition(why)) if why.contains(text)), "{reply:?}");
}
