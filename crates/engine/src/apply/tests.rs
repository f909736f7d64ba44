//! Scenarios of applying commands.

use sheaf_model::*;

use crate::command::*;
use crate::testing::World;
use crate::{Change, State, invariants};

mod settings;
mod total;

#[test]
fn nothing_is_possible_before_the_cluster_is_formed_and_it_forms_once() {
    let mut world = World::unformed();
    let refused = world.propose(Command::Suspend(OnBucket { bucket: world.name("/a"), base: None }));
    assert!(matches!(refused, Reply::Refused(Refusal::Precondition(_))));
    world.form();
    let form = Form { cluster: "again".into(), settings: Settings::default() };
    assert!(matches!(world.propose(Command::Form(form)), Reply::Refused(Refusal::Conflict(_))));
}

#[test]
fn nodes_get_numbers_once_and_a_name_only_while_nobody_alive_has_it() {
    let mut world = World::unformed();
    world.form();
    assert_eq!(world.register("k1", "n1"), Reply::Registered(NodeId(1)));
    assert_eq!(world.register("k1", "n1"), Reply::Registered(NodeId(1)), "again: the same number");
    assert!(
        matches!(world.register("k2", "n1"), Reply::Refused(Refusal::Conflict(text)) if text.contains("n1"))
    );
    world.set_status(1, NodeStatus::Lost);
    assert_eq!(world.register("k2", "n1"), Reply::Registered(NodeId(2)), "takes the name of a lost one");
    let back = Command::SetNodeStatus(SetNodeStatus {
        node: NodeId(1),
        status: NodeStatus::Ready,
        reason: String::new(),
        term: Some(world.term),
    });
    assert!(
        matches!(world.propose(back), Reply::Refused(Refusal::Conflict(_))),
        "the lost one is not let back"
    );
    assert!(matches!(world.register("k1", "n1"), Reply::Refused(Refusal::Conflict(_))));
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_node_that_takes_work_is_not_drained() {
    let mut world = World::with_nodes(2);
    let drain = |node| Command::Drain(DrainNode { node: NodeId(node), drain: Drain::default() });
    assert!(matches!(world.propose(drain(1)), Reply::Done(_)));
    assert!(matches!(world.propose(drain(1)), Reply::Unchanged(_)));
    assert!(refusal(world.propose(drain(2))).contains("n2 is the last that takes work"));
    world.set_status(2, NodeStatus::Lost);
    assert!(refusal(world.propose(drain(2))).contains("forget n2"));
    assert!(refusal(world.propose(drain(9))).contains("there is no node 9"));
    assert!(matches!(world.propose(Command::Undrain(NodeId(2))), Reply::Unchanged(_)));
    assert_eq!(invariants::check(&world.state), Vec::<String>::new());
}

#[test]
fn a_status_that_was_decided_before_a_drain_ended_or_a_node_left_is_stale() {
    let mut world = World::with_nodes(3);
    let set = |status| {
        let term = Some(Term(1));
        Command::SetNodeStatus(SetNodeStatus { node: NodeId(1), status, reason: String::new(), term })
    };
    world.propose(Command::Drain(DrainNode { node: NodeId(1), drain: Drain::default() }));
    world.set_status(1, NodeStatus::Restarting);
    assert!(refusal(world.propose(set(NodeStatus::Ready))).contains("is being drained"));
    world.propose(Command::Undrain(NodeId(1)));
    assert!(refusal(world.propose(set(NodeStatus::Draining))).contains("is drained no more"));
    assert!(matches!(world.propose(set(NodeStatus::Ready)), Reply::Done(_)));

    world.set_status(1, NodeStatus::Lost);
    world.propose(Command::Forget(NodeId(1)));
    assert!(refusal(world.propose(set(NodeStatus::Ready))).contains("has left"), "it stays vouched for");
    assert_eq!(world.state.nodes[&NodeId(1)].status, NodeStatus::Left);
}

#[test]
fn only_a_node_that_is_gone_is_forgotten_and_it_is_vouched_for() {
    let mut world = World::with_nodes(2);
    world.bound("/single", 1);
    world.apply_bucket("/was", |put| put.spec.multi_node = true);
    world.phase("/was", 1, None, Phase::Running);
    assert!(refusal(world.propose(Command::Forget(NodeId(1)))).contains("stop its agent first"));
    world.on("/was", Command::DeleteBucket);
    world.set_status(1, NodeStatus::Lost);
    assert!(matches!(world.propose(Command::Forget(NodeId(1))), Reply::Done(_)));
    assert_eq!(world.binding("/single").leaving, Some(LeaveReason::Forgotten), "freed only by its fence");
    let left = world.state.residues.get("/was").expect("node 2 has not confirmed");
    assert_eq!(left.nodes.keys().copied().collect::<Vec<_>>(), [NodeId(2)]);
    assert!(matches!(world.propose(Command::Forget(NodeId(1))), Reply::Unchanged(_)));
    assert_eq!(invariants::check(&world.state), Vec::<String>::new());
}

#[test]
fn a_bucket_is_moved_only_where_it_can_go() {
    let mut world = World::with_nodes(3);
    world.bound("/a", 1);
    world.apply_bucket("/multi", |put| put.spec.multi_node = true);
    let ask = |world: &World, bucket: &str, to: Option<u64>| {
        Command::Move(MoveBucket { bucket: world.name(bucket), to: to.map(NodeId), base: None })
    };
    for (bucket, to, says) in [
        ("/multi", None, "every available node"),
        ("/none", None, "there is no bucket /none"),
        ("/a", Some(9), "there is no node 9"),
    ] {
        let ask = ask(&world, bucket, to);
        assert!(refusal(world.propose(ask)).contains(says), "{bucket} {to:?}");
    }
    let same = ask(&world, "/a", Some(1));
    assert!(matches!(world.propose(same), Reply::Unchanged(_)));
    world.set_status(2, NodeStatus::Lost);
    let lost = ask(&world, "/a", Some(2));
    assert!(refusal(world.propose(lost)).contains("cannot go to node n2, which is lost"));
    let good = ask(&world, "/a", Some(3));
    assert!(matches!(world.propose(good), Reply::Done(_)));
    let again = ask(&world, "/a", None);
    assert!(refusal(world.propose(again)).contains("is leaving its node already"));
}

#[test]
fn the_end_of_multi_node_names_the_lost_nodes_and_how_to_vouch_for_them() {
    let mut world = World::with_nodes(3);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    world.set_status(2, NodeStatus::Lost);
    world.set_status(3, NodeStatus::Lost);
    let refused = refusal(world.try_bucket("/m", |put| put.spec.multi_node = false));
    for part in ["while n2, n3 may still run it", "`sheaf node forget n2` and `sheaf node forget n3`"] {
        assert!(refused.contains(part), "{part:?} in {refused}");
    }
    for node in [2, 3] {
        assert!(matches!(world.propose(Command::Forget(NodeId(node))), Reply::Done(_)));
    }
    assert!(matches!(world.try_bucket("/m", |put| put.spec.multi_node = false), Reply::Applied(_)));
}

#[test]
fn a23_applying_the_same_again_changes_nothing() {
    let mut world = World::with_nodes(1);
    let first = world.apply_bucket("/a", |_| {});
    assert_eq!(first.verb, OutcomeVerb::Created);
    let again = world.apply_bucket("/a", |_| {});
    assert_eq!((again.verb, again.revision), (OutcomeVerb::Unchanged, first.revision));
}

#[test]
fn a24_a_change_based_on_another_revision_conflicts() {
    let mut world = World::with_nodes(1);
    let at = world.apply_bucket("/a", |_| {}).revision;
    world.apply_bucket("/a", |put| put.spec.owner = Some("team".to_owned()));
    let stale = world.try_bucket("/a", |put| put.base = Some(at));
    assert!(matches!(stale, Reply::Refused(Refusal::Conflict(text)) if text.contains("not at")));
    let exists = world.try_bucket("/a", |put| put.base = Some(Revision(0)));
    assert!(matches!(exists, Reply::Refused(Refusal::Conflict(text)) if text.contains("exists already")));
}

#[test]
fn a22_all_defects_of_all_documents_come_at_once_and_nothing_is_stored() {
    let mut world = World::with_nodes(1);
    let before = world.state.clone();
    let unknown = world.put("/a", |put| put.spec.module = ModuleRef::parse("nothing").expect("a name"));
    let no_such = world.put("/b", |put| put.spec.module = ModuleRef::parse("sleep@9").expect("a name"));
    let good = world.put("/c", |_| {});
    let reply =
        world.propose(Command::Apply(Apply { modules: vec![], buckets: vec![unknown, no_such, good] }));
    let Reply::Refused(Refusal::Invalid(defects)) = reply else { panic!("{reply:?}") };
    let places: Vec<_> = defects.iter().map(|d| (d.document.as_str(), d.path.as_str())).collect();
    assert_eq!(places, [("Bucket /a", "module"), ("Bucket /b", "module")]);
    assert!(defects[1].remedy.contains("registered versions: 1"), "{}", defects[1]);
    assert_eq!(State { revision: before.revision, ..world.state.clone() }, before);
}

#[test]
fn a18_a_module_may_refuse_multi_node() {
    let mut world = World::with_nodes(1);
    world.apply_module("solo", "1", |module| module.supports_multi_node = false);
    let reply = world.try_bucket("/a", |put| {
        put.spec.module = ModuleRef::parse("solo").expect("a name");
        put.spec.multi_node = true;
    });
    assert!(matches!(reply, Reply::Refused(Refusal::Invalid(d)) if d[0].path == "multi_node"));
}

#[test]
fn a_version_of_a_module_never_changes_and_is_kept_while_used() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    let mut other = world.module("sleep", "1");
    other.stop.grace = Span::seconds(1);
    let reply = world.propose(Command::Apply(Apply { modules: vec![other], buckets: vec![] }));
    assert!(matches!(reply, Reply::Refused(Refusal::Conflict(text)) if text.contains("never changes")));
    let delete = Command::DeleteModule(DeleteModule {
        name: ModuleName::new("sleep").expect("a name"),
        version: ModuleVersion::new("1").expect("a version"),
    });
    let reply = world.propose(delete.clone());
    assert!(matches!(reply, Reply::Refused(Refusal::Precondition(text)) if text.contains("/a")));
    world.on("/a", Command::DeleteBucket);
    assert!(matches!(world.propose(delete), Reply::Done(_)));
}

#[test]
fn an_artifact_belongs_to_a_registered_version_and_never_changes() {
    let mut world = World::with_nodes(1);
    let reply = world.push("2", 7);
    assert!(
        matches!(&reply, Reply::Refused(Refusal::NotFound(_, text)) if text.contains("sleep@2; register it first"))
    );
    let Reply::Done(pushed) = world.push("1", 7) else { panic!("not pushed") };
    assert_eq!(world.push("1", 7), Reply::Unchanged(pushed));
    let reply = world.push("1", 8);
    assert!(matches!(&reply, Reply::Refused(Refusal::Conflict(text))
        if text.contains("has the artifact 070707070707 (a directory)") && text.contains("this is 080808080808")));
    assert_eq!(world.state.artifacts.len(), 1);
}

/// As the first builds wrote it to their logs.
#[test]
fn documents_of_an_earlier_sheaf_are_applied_as_its_own() {
    let mut world = World::with_nodes(1);
    let spec = world.module("old", "1");
    let former = sheaf_model::ModuleSpecV1 {
        name: spec.name.clone(),
        version: spec.version.clone(),
        runtime: spec.runtime.clone(),
        supports_multi_node: spec.supports_multi_node,
        can_run_on_this_node: spec.can_run_on_this_node.clone(),
        exec: spec.exec.clone(),
        files: spec.files.clone(),
        stop: spec.stop,
        restart: spec.restart,
        config_schema: spec.config_schema.clone(),
        limits: spec.limits.clone(),
        user: spec.user.clone(),
    };
    let put = world.put("/old", |put| put.spec.module = ModuleRef::parse("old").expect("a name"));
    let reply =
        world.propose(Command::ApplyV1(ApplyV1 { modules: vec![former], buckets: vec![put.clone()] }));
    assert!(matches!(&reply, Reply::Applied(outcomes) if outcomes.len() == 2), "{reply:?}");
    // The same again, as a build of today asks for it.
    let reply = world.propose(Command::Apply(Apply { modules: vec![spec], buckets: vec![put] }));
    let Reply::Applied(outcomes) = reply else { panic!("{reply:?}") };
    assert!(outcomes.iter().all(|it| it.verb == OutcomeVerb::Unchanged), "{outcomes:?}");
}

#[test]
fn a_bucket_keeps_its_modules_version_until_asked_for_another() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    world.apply_module("sleep", "2", |_| {});
    let version = |world: &World| world.bucket("/a").current.spec.module.to_string();
    assert_eq!(world.apply_bucket("/a", |_| {}).verb, OutcomeVerb::Unchanged);
    assert_eq!(version(&world), "sleep@1");
    world.apply_bucket("/a", |put| put.latest = true);
    assert_eq!(version(&world), "sleep@2");
    world.apply_bucket("/b", |_| {});
    assert_eq!(world.bucket("/b").current.spec.module.to_string(), "sleep@2");
}

#[test]
fn a_missing_config_value_is_found_when_the_bucket_is_applied() {
    let mut world = World::with_nodes(1);
    world.apply_module("wants", "1", |module| {
        let exec = module.exec.as_mut().expect("an exec module");
        exec.args = vec![Template(vec![Part::Name(TemplateName::BucketConfig(vec!["agent".to_owned()]))])];
    });
    let reply = world.try_bucket("/a", |put| put.spec.module = ModuleRef::parse("wants").expect("a name"));
    assert!(matches!(reply, Reply::Refused(Refusal::Invalid(d)) if d[0].path == "config.agent"));
}

#[test]
fn a_binding_is_verified_when_applied() {
    let mut world = World::with_nodes(2);
    let at = world.apply_bucket("/a", |_| {}).revision;
    let bind = world.bind_command("/a", 1, at);
    let other_term = Command::Bind(Bind { term: Term(world.term.0 + 1), ..bind.clone() });
    let other_basis = Command::Bind(Bind { basis: Revision(at.0 - 1), ..bind.clone() });
    let unknown_node = Command::Bind(Bind { node: NodeId(9), ..bind.clone() });
    for stale in [other_term, other_basis] {
        assert!(matches!(world.propose(stale), Reply::Refused(Refusal::Stale(_))));
    }
    assert!(matches!(world.propose(unknown_node), Reply::Refused(Refusal::NotFound(..))));
    world.set_status(2, NodeStatus::Lost);
    let to_lost = Command::Bind(Bind { node: NodeId(2), ..bind.clone() });
    assert!(matches!(world.propose(to_lost), Reply::Refused(Refusal::Stale(_))));
    assert!(matches!(world.propose(Command::Bind(bind.clone())), Reply::Done(_)));
    assert!(matches!(world.propose(Command::Bind(bind)), Reply::Refused(Refusal::Stale(_))), "bound already");
}

#[test]
fn only_free_ends_a_binding_and_epochs_grow_over_deletion() {
    let mut world = World::with_nodes(1);
    let first = world.bound("/a", 1);
    world.on("/a", Command::Suspend);
    assert_eq!(world.binding("/a").leaving, Some(LeaveReason::Suspended));
    world.on("/a", Command::Resume);
    assert_eq!(world.binding("/a").epoch, first, "resuming does not undo leaving");
    world.on("/a", Command::DeleteBucket);
    assert_eq!(world.binding("/a").epoch, first, "the binding outlives its bucket");
    let at = world.apply_bucket("/a", |_| {}).revision;
    let rebind = Command::Bind(world.bind_command("/a", 1, at));
    assert!(matches!(world.propose(rebind.clone()), Reply::Refused(Refusal::Stale(_))));
    world.free("/a", first);
    assert!(matches!(world.propose(rebind), Reply::Done(_)));
    assert!(world.binding("/a").epoch > first);
    let late = world.free_command("/a", first);
    assert!(matches!(world.propose(late), Reply::Refused(Refusal::Stale(_))), "an old epoch frees nothing");
}

#[test]
fn a_decision_to_free_dies_with_its_term() {
    let mut world = World::with_nodes(1);
    let epoch = world.bound("/a", 1);
    let decided = world.free_command("/a", epoch);
    world.term = Term(world.term.0 + 1);
    assert!(matches!(world.propose(decided), Reply::Refused(Refusal::Stale(_))));
    assert_eq!(
        world.binding("/a").epoch,
        epoch,
        "whoever decided it did not know what was acknowledged since"
    );
    world.free("/a", epoch);
}

#[test]
fn ending_multi_node_leaves_a_residue_that_only_newer_confirmations_clear() {
    let mut world = World::with_nodes(2);
    world.apply_bucket("/a", |put| put.spec.multi_node = true);
    let ended = world.apply_bucket("/a", |_| {}).revision;
    let bind = Command::Bind(world.bind_command("/a", 1, ended));
    assert!(matches!(world.propose(bind.clone()), Reply::Refused(Refusal::Stale(_))));
    let old = world.confirm_command("/a", 1, Revision(ended.0 - 1));
    assert!(matches!(world.propose(old), Reply::Refused(Refusal::Stale(_))));
    for node in [1, 2] {
        assert!(matches!(world.propose(bind.clone()), Reply::Refused(Refusal::Stale(_))));
        let confirm = world.confirm_command("/a", node, ended);
        assert!(matches!(world.propose(confirm), Reply::Done(_)));
    }
    assert!(matches!(world.propose(bind), Reply::Done(_)));
}

#[test]
fn multi_node_to_single_is_refused_while_a_node_is_lost() {
    let mut world = World::with_nodes(2);
    world.apply_bucket("/a", |put| put.spec.multi_node = true);
    world.set_status(2, NodeStatus::Lost);
    let reply = world.try_bucket("/a", |_| {});
    assert!(matches!(reply, Reply::Refused(Refusal::Precondition(text)) if text.contains("n2")));
}

#[test]
fn an_instance_that_gave_up_leaves_its_node_out_until_the_next_update() {
    let mut world = World::with_nodes(2);
    let epoch = world.bound("/a", 1);
    world.phase("/a", 1, Some(epoch), Phase::Failed);
    assert!(matches!(world.binding("/a").leaving, Some(LeaveReason::GaveUp(_))));
    assert!(world.bucket("/a").gave_up.contains_key(&NodeId(1)));
    world.free("/a", epoch);
    let basis = world.bucket("/a").current.revision;
    let back = Command::Bind(world.bind_command("/a", 1, basis));
    assert!(matches!(world.propose(back), Reply::Refused(Refusal::Stale(_))));
    world.on("/a", Command::Resume);
    assert!(world.bucket("/a").gave_up.is_empty());
}

#[test]
fn phases_of_an_epoch_that_is_not_bound_are_not_recorded() {
    let mut world = World::with_nodes(2);
    let old = world.bound("/a", 1);
    world.phase("/a", 1, Some(old), Phase::Running);
    world.free("/a", old);
    assert!(!world.state.instances.contains_key("/a"), "its record went with the binding");
    world.phase("/a", 1, Some(old), Phase::Running);
    assert!(!world.state.instances.contains_key("/a"));
}

#[test]
fn a_repeated_request_is_answered_as_the_first_time() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    let request = Some(RequestId::from("r1"));
    let restart = Command::Restart(OnBucket { bucket: world.name("/a"), base: None });
    let first = world.propose_as(restart.clone(), request.clone());
    let restarted = world.bucket("/a").restarted;
    assert_eq!(world.propose_as(restart, request), first);
    assert_eq!(world.bucket("/a").restarted, restarted, "restarted once");
}

#[test]
fn old_requests_are_forgotten() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    let restart = Command::Restart(OnBucket { bucket: world.name("/a"), base: None });
    world.propose_as(restart.clone(), Some("r1".into()));
    world.now.0 += 700_000;
    world.propose_as(restart, Some("r2".into()));
    assert_eq!(world.state.request_ids.keys().map(|id| id.0.as_str()).collect::<Vec<_>>(), ["r2"]);
}

#[test]
fn every_change_rebuilds_the_state() {
    let mut world = World::with_nodes(2);
    let epoch = world.bound("/a", 1);
    world.phase("/a", 1, Some(epoch), Phase::Running);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    world.on("/m", Command::DeleteBucket);
    let mut rebuilt = State::default();
    world.state.rows().for_each(|row| rebuilt.put(&row));
    rebuilt.revision = world.state.revision;
    assert_eq!(rebuilt, world.state);
    let mut replayed = State::default();
    world.changes.iter().for_each(|change: &Change| replayed.put(change));
    replayed.revision = world.state.revision;
    assert_eq!(replayed, world.state);
}

#[test]
fn a_cluster_founded_anew_knows_nothing_that_nodes_could_contradict() {
    let mut world = World::with_nodes(3);
    world.apply_module("flume", "1", |_| {});
    world.apply_bucket("/single", |_| {});
    world.apply_bucket("/multi", |put| put.spec.multi_node = true);
    let former = world.bound("/single", 2);
    world.phase("/single", 2, Some(former), Phase::Running);
    world.phase("/multi", 3, None, Phase::Running);
    let id = world.state.cluster.id.clone().unwrap();
    let refound = |cluster| Command::Refound(Refound { cluster, may_be_behind: false });

    assert!(matches!(world.propose(refound(id.clone())), Reply::Refused(Refusal::Conflict(_))));
    let other = ClusterId("other".to_owned()).founded_anew(ClusterEpoch(1), "1a2b");
    assert!(matches!(world.propose(refound(other)), Reply::Refused(Refusal::Conflict(_))));
    let late = id.founded_anew(ClusterEpoch(1 << 15), "1a2b");
    assert!(matches!(world.propose(refound(late)), Reply::Refused(Refusal::Precondition(_))));

    let new = id.founded_anew(ClusterEpoch(1), "1a2b");
    let Reply::Done(revision) = world.propose(refound(new.clone())) else { panic!("refused") };
    let state = &world.state;
    assert_eq!((state.revision, revision), (Revision(1 << 32), Revision(1 << 32)));
    assert_eq!((state.cluster.id.clone(), state.cluster.epoch), (Some(new), ClusterEpoch(1)));
    assert!(state.bindings.is_empty());
    assert!(state.nodes.values().all(|node| node.status == NodeStatus::Lost));
    let running: Vec<_> = state.instances.keys().map(ToString::to_string).collect();
    assert_eq!(running, ["/multi"]);
    assert!(state.buckets.values().all(|bucket| bucket.basis_for(NodeId(3)) == revision), "started anew");
    assert_eq!(invariants::check(state), Vec::<String>::new());

    world.set_status(2, NodeStatus::Ready);
    let basis = world.bucket("/single").current.revision;
    let bind = Command::Bind(world.bind_command("/single", 2, basis));
    assert!(matches!(world.propose(bind), Reply::Done(_)));
    let later = world.binding("/single").epoch;
    assert!(later > former && later > Epoch::new(ClusterEpoch(0), Revision((1 << 48) - 1)));
    assert_eq!(world.register("k9", "n9"), Reply::Registered(NodeId(10_004)), "numbers are not given twice");
}

#[test]
fn a_cluster_from_a_state_that_may_be_behind_waits_for_every_node_that_may_run_something_multi_node() {
    let mut world = World::with_nodes(2);
    world.apply_module("flume", "1", |_| {});
    world.apply_bucket("/single", |_| {});
    let id = world.state.cluster.id.clone().unwrap();
    let cluster = id.founded_anew(ClusterEpoch(1), "1a2b");
    world.propose(Command::Refound(Refound { cluster, may_be_behind: true }));
    let basis = world.bucket("/single").current.revision;
    let bind = |world: &World| Command::Bind(world.bind_command("/single", 1, basis));
    let asked = bind(&world);
    assert!(matches!(world.propose(asked), Reply::Refused(_)), "nobody has confirmed");
    let ending = Revision(1 << 32);
    for node in [1, 2] {
        let earlier = world.confirm_command("/single", node, Revision(ending.0 - 2));
        world.propose(earlier);
        let asked = bind(&world);
        assert!(matches!(world.propose(asked), Reply::Refused(_)), "a word from the former cluster");
        let confirm = world.confirm_command("/single", node, ending);
        world.propose(confirm);
    }
    world.set_status(1, NodeStatus::Ready);
    let asked = bind(&world);
    assert!(matches!(world.propose(asked), Reply::Done(_)));
}
