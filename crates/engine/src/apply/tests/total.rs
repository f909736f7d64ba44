//! Apply is total, deterministic and keeps the invariants, whatever is asked in whatever order.

use proptest::prelude::*;

use super::*;

fn command() -> impl Strategy<Value = Command> {
    let name = prop_oneof![Just("/a"), Just("/b"), Just("/c")];
    let node = 0..4_u64;
    let number = 0..40_u64;
    (0..42_u8, name, node, number, any::<bool>()).prop_map(|(kind, name, node, n, flag)| {
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
            4 => {
                Command::Bind(Bind { bucket, node, basis: Revision(n), term, decision: Decision::default() })
            }
            5 => Command::Free(Free { bucket, epoch, term, why }),
            6 => Command::Leave(Leave { bucket, epoch, reason: LeaveReason::NodeLost, term: None }),
            7 => Command::ConfirmResidue(ConfirmResidue { bucket, node, revision: Revision(n) }),
            8 => {
                let status = if flag { NodeStatus::Ready } else { NodeStatus::Lost };
                Command::SetNodeStatus(SetNodeStatus { node, status, reason: why, term: None })
            }
            9 => {
                let phase = if flag { Phase::Failed } else { Phase::Stopped };
                let epoch = (n.is_multiple_of(2)).then_some(epoch);
                let instances = vec![world.instance(name, node.0, epoch, phase)];
                Command::RecordPhases(RecordPhases { node, instances })
            }
            10 => Command::Register(Register {
                key: NodeKey(format!("k{n}")),
                facts: world.facts(&format!("n{node}")),
            }),
            11..16 => {
                of_an_instance(kind, bucket, Claim { node, epoch: (n.is_multiple_of(2)).then_some(epoch) }, n)
            }
            20 | 21 => of_a_secret(flag, n),
            22..32 => of_an_operator(kind, on, node, n, flag),
            32..36 => of_a_rollout(kind, bucket, node, n),
            16 => Command::EndQuarantine(EndQuarantine { bucket, until: Timestamp(n), term }),
            _ => {
                let mut module = world.module("sleep", if flag { "1" } else { "2" });
                if !flag {
                    module.life_cycle.insert(Call::Purge, LifeCycleCall::default());
                }
                let modules = vec![module];
                let change = |put: &mut PutBucket| {
                    put.spec.multi_node = flag;
                    put.spec.max_parallel = (n % 3 == 0).then_some(1);
                    put.latest = n.is_multiple_of(2);
                };
                Command::Apply(Apply { modules, buckets: vec![world.put(name, change)] })
            }
        }
    })
}

/// What people ask of nodes, versions, settings and buckets.
fn of_an_operator(kind: u8, on: OnBucket, node: NodeId, n: u64, flag: bool) -> Command {
    let world = World::unformed();
    let label = vec![format!("l{}", n % 3)];
    let of_name = |change: &dyn Fn(&mut PutBucket)| world.put(on.bucket.as_str(), change);
    match kind {
        22 if flag => Command::LabelNode(LabelNode { node, add: label, remove: vec![] }),
        22 => Command::LabelNode(LabelNode { node, add: vec![], remove: label }),
        23 => {
            let ModuleSpec { name, version, .. } = world.module("sleep", if flag { "1" } else { "2" });
            Command::DeleteModule(DeleteModule { name, version })
        }
        24 => {
            let deadline = (n.is_multiple_of(2)).then_some(Span::seconds(n));
            Command::Drain(DrainNode { node, drain: Drain { deadline, keep_multi_node: flag } })
        }
        25 => Command::Undrain(node),
        26 => Command::Forget(node),
        27 => Command::Move(MoveBucket { bucket: on.bucket, to: flag.then_some(node), base: None }),
        28 if flag => settings::any(n.is_multiple_of(2), n, Term(n % 3)),
        28 => {
            let mut wanted = ChangeableV1::default();
            wanted.settings.lease.ttl = Span::seconds(1 + n);
            Command::ChangeSettingsV1(wanted)
        }
        29 => Command::DropFormer(Term(n % 3)),
        30 if flag => Command::Purge(on),
        30 => {
            let failure = if n.is_multiple_of(2) { String::new() } else { "why".to_owned() };
            Command::RecordPurge(RecordPurge { bucket: on.bucket, node, revision: Revision(n), failure })
        }
        _ => {
            let trial = Trial { until: Timestamp(n), max_objects: 1, max_time: Span::seconds(n) };
            Command::PutTrial(PutTrial {
                put: of_name(&|put| put.spec.multi_node = n.is_multiple_of(7)),
                trial,
            })
        }
    }
}

/// What the leader decides about a rollout, and what ends one.
fn of_a_rollout(kind: u8, bucket: BucketName, node: NodeId, n: u64) -> Command {
    let (release, term, why) = (Revision(n), Term(n % 3), "why".to_owned());
    match kind {
        32 => Command::ReleaseNodes(ReleaseNodes { bucket, release, nodes: vec![node], term }),
        33 => Command::StopRollout(StopRollout { bucket, release, node, why, term }),
        34 => Command::FinishRollout(FinishRollout { bucket, release, term }),
        _ => {
            let put = World::unformed().put(bucket.as_str(), |put| put.spec.multi_node = n.is_multiple_of(2));
            Command::Rollback(Rollback { put, to: release })
        }
    }
}

/// By chance alone hardly any decision about a rollout would be of this term and about what is rolled out.
fn aimed(mut command: Command, world: &World) -> Command {
    let next = |bucket: &BucketName| Some(world.state.buckets.get(bucket)?.next.as_ref()?.release.revision);
    let aim = match &mut command {
        Command::ReleaseNodes(it) => next(&it.bucket).map(|next| (next, &mut it.release, &mut it.term)),
        Command::StopRollout(it) => next(&it.bucket).map(|next| (next, &mut it.release, &mut it.term)),
        Command::FinishRollout(it) => next(&it.bucket).map(|next| (next, &mut it.release, &mut it.term)),
        _ => None,
    };
    if let Some((next, release, term)) = aim
        && release.0 % 4 != 0
    {
        (*release, *term) = (next, world.term);
    }
    command
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
            let command = aimed(command, &one);
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
