//! Scenarios of applying commands.

use sheaf_model::*;

use crate::command::*;
use crate::testing::World;
use crate::{Change, State, invariants};

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
fn settings_that_break_the_margin_are_refused_and_change_nothing() {
    let mut world = World::with_nodes(1);
    let before = world.state.cluster.clone();
    let mut wanted = before.changeable();
    wanted.settings.lease.ttl = Span::millis(900);
    wanted.settings.voters = Voters::Fixed(2);
    wanted.settings.lease.kill_margin = Span::millis(100);
    wanted.repair = Repair { after: Span(0), spread: Some("zone=a".to_owned()) };
    wanted.jobs.max_subtasks = 0;
    let Reply::Refused(Refusal::Invalid(defects)) = world.propose(Command::ChangeSettings(wanted)) else {
        panic!("taken");
    };
    let paths: Vec<&str> = defects.iter().map(|defect| defect.path.as_str()).collect();
    let all =
        ["lease.ttl", "lease.kill_margin", "voters", "repair.after", "repair.spread", "jobs.max_subtasks"];
    assert_eq!(paths, all, "all at once");
    assert_eq!(world.state.cluster, before);
}

#[test]
fn settings_as_earlier_builds_wrote_them_leave_those_of_jobs_alone() {
    let mut world = World::with_nodes(1);
    let mut wanted = world.state.cluster.changeable();
    wanted.jobs.max_subtasks = 7;
    assert!(matches!(world.propose(Command::ChangeSettings(wanted.clone())), Reply::Done(_)));
    let repair = Repair { after: Span::seconds(9), spread: None };
    let former = sheaf_model::ChangeableV1 { settings: wanted.settings, repair: repair.clone() };
    assert!(matches!(world.propose(Command::ChangeSettingsV1(former)), Reply::Done(_)));
    assert_eq!((world.state.cluster.jobs.max_subtasks, &world.state.cluster.repair), (7, &repair));
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

mod total {
    use proptest::prelude::*;

    use super::*;

    fn command() -> impl Strategy<Value = Command> {
        let name = prop_oneof![Just("/a"), Just("/b"), Just("/c")];
        let node = 0..4_u64;
        let number = 0..40_u64;
        (0..22_u8, name, node, number, any::<bool>()).prop_map(|(kind, name, node, n, flag)| {
            let world = World::unformed();
            let bucket = world.name(name);
            let on = OnBucket { bucket: bucket.clone(), base: flag.then_some(Revision(n)) };
            let (node, epoch, term) = (NodeId(node), Epoch(n), Term(n % 3));
            let why = "why".to_owned();
            match kind {
                0 => Command::Suspend(on),
                1 => Command::Resume(on),
                2 => Command::Restart(on),
                3 => Command::DeleteBucket(on),
                4 => Command::Bind(Bind {
                    bucket,
                    node,
                    basis: Revision(n),
                    term,
                    decision: Decision::default(),
                }),
                5 => Command::Free(Free { bucket, epoch, term, why }),
                6 => Command::Leave(Leave { bucket, epoch, reason: LeaveReason::NodeLost, term: None }),
                7 => Command::ConfirmResidue(ConfirmResidue { bucket, node, revision: Revision(n) }),
                8 => {
                    let status = if flag { NodeStatus::Ready } else { NodeStatus::Lost };
                    Command::SetNodeStatus(SetNodeStatus { node, status, reason: why, term: None })
                }
                9 => {
                    let phase = if flag { Phase::Failed } else { Phase::Stopped };
                    let epoch = (n % 2 == 0).then_some(epoch);
                    let instances = vec![world.instance(name, node.0, epoch, phase)];
                    Command::RecordPhases(RecordPhases { node, instances })
                }
                10 => Command::Register(Register {
                    key: NodeKey(format!("k{n}")),
                    facts: world.facts(&format!("n{node}")),
                }),
                11..16 => {
                    of_an_instance(kind, bucket, Claim { node, epoch: (n % 2 == 0).then_some(epoch) }, n)
                }
                20 | 21 => of_a_secret(flag, n),
                16 => Command::EndQuarantine(EndQuarantine { bucket, until: Timestamp(n), term }),
                _ => {
                    let modules = vec![world.module("sleep", if flag { "1" } else { "2" })];
                    let multi = |put: &mut PutBucket| put.spec.multi_node = flag;
                    Command::Apply(Apply { modules, buckets: vec![world.put(name, multi)] })
                }
            }
        })
    }

    fn of_a_secret(is_set: bool, n: u64) -> Command {
        let name = SecretName::new(&format!("s{}", n % 3)).expect("a name");
        let ciphertext = vec![7; n as usize].as_slice().into();
        let sealed = Sealed { key: KeyId([1; 8]), nonce: [n as u8; 12], ciphertext };
        if is_set { Command::PutSecret(PutSecret { name, sealed }) } else { Command::DeleteSecret(name) }
    }

    fn of_an_instance(kind: u8, bucket: BucketName, claim: Claim, n: u64) -> Command {
        let key = ObjectKey::new(&format!("k{}", n % 3)).expect("a key");
        let base = (n.is_multiple_of(5)).then_some(Revision(n));
        let text = "why".to_owned();
        match kind {
            11 => Command::DeleteObject(DeleteObject { bucket, key, base, claim }),
            12 => Command::AddStatusLine(AddStatusLine { bucket, claim, kind: text.clone(), text }),
            13 => Command::Disable(Disable { bucket, claim, reason: text }),
            14 => Command::Quarantine(Quarantine { bucket, claim, until: Timestamp(n), reason: text }),
            _ => {
                let value = vec![7; n as usize].as_slice().into();
                Command::PutObject(PutObject { bucket, key, value, base, claim, token: n % 4 })
            }
        }
    }

    proptest! {
        #[test]
        fn apply_is_total_deterministic_and_keeps_the_invariants(commands in prop::collection::vec(command(), 1..60)) {
            let (mut one, mut two) = (World::with_nodes(2), World::with_nodes(2));
            for (n, command) in commands.into_iter().enumerate() {
                one.term = Term(n as u64 % 3);
                two.term = one.term;
                let before = one.state.clone();
                let at = one.changes.len();
                let reply = one.propose(command.clone());
                prop_assert_eq!(&reply, &two.propose(command));
                if matches!(reply, Reply::Refused(_)) {
                    prop_assert_eq!(one.changes.len(), at, "a refusal changes nothing");
                    prop_assert_eq!(&State { revision: before.revision, ..one.state.clone() }, &before);
                }
                prop_assert_eq!(invariants::check(&one.state), Vec::<String>::new());
            }
            prop_assert_eq!(&one.state, &two.state);
            let mut rebuilt = State { revision: one.state.revision, ..State::default() };
            one.state.rows().for_each(|row| rebuilt.put(&row));
            prop_assert_eq!(&rebuilt, &one.state, "nothing but rows, in whatever order they came");
            let encode = |world: &World| postcard::to_stdvec(&world.changes).expect("plain data encodes");
            prop_assert_eq!(encode(&one), encode(&two), "byte for byte");
        }
    }
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
    let refound = |cluster| Command::Refound(Refound { cluster, from_snapshot: false });

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
fn a_cluster_from_a_snapshot_waits_for_every_node_that_may_run_something_multi_node() {
    let mut world = World::with_nodes(2);
    world.apply_module("flume", "1", |_| {});
    world.apply_bucket("/single", |_| {});
    let id = world.state.cluster.id.clone().unwrap();
    let cluster = id.founded_anew(ClusterEpoch(1), "1a2b");
    world.propose(Command::Refound(Refound { cluster, from_snapshot: true }));
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
