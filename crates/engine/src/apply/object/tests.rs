use sheaf_model::{Epoch, NodeId, ObjectValue};

use super::*;
use crate::invariants;
use crate::state::State;
use crate::testing::World;
use crate::{Command, OnBucket};

fn put(world: &World, bucket: &str, key: &str, claim: Claim) -> PutObject {
    let (bucket, key) = (world.name(bucket), ObjectKey::new(key).expect("a key"));
    PutObject { bucket, key, value: b"12345".as_slice().into(), base: None, claim, token: 0 }
}

fn single(node: u64, epoch: Epoch) -> Claim {
    Claim { node: NodeId(node), epoch: Some(epoch) }
}

fn multi(node: u64) -> Claim {
    Claim { node: NodeId(node), epoch: None }
}

fn done(reply: Reply) -> Revision {
    match reply {
        Reply::Done(revision) => revision,
        other => panic!("{other:?}"),
    }
}

fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_is_put_compared_and_deleted_by_its_version() {
    let mut world = World::with_nodes(2);
    let claim = single(1, world.bound("/a", 1));
    let ask = |base: Option<u64>| PutObject {
        base: base.map(Revision),
        ..put(&World::unformed(), "/a", "k", claim)
    };
    let conflict = |reply| match refusal(reply) {
        Refusal::Conflict(why) => why,
        other => panic!("{other:?}"),
    };
    let absent = conflict(world.propose(Command::PutObject(ask(Some(7)))));
    assert_eq!(absent, "object k of bucket /a does not exist; it was to be at version 7");
    let first = done(world.propose(Command::PutObject(ask(Some(0)))));
    let exists = conflict(world.propose(Command::PutObject(ask(Some(0)))));
    assert_eq!(exists, format!("object k of bucket /a exists, at version {first}"));
    let second = done(world.propose(Command::PutObject(ask(Some(first.0)))));
    assert!(second > first);
    let moved = conflict(world.propose(Command::PutObject(ask(Some(first.0)))));
    assert_eq!(moved, format!("object k of bucket /a is at version {second}, not {first}"));
    let third = done(world.propose(Command::PutObject(ask(None))));
    let delete = |base: u64| {
        let PutObject { bucket, key, claim, .. } = ask(None);
        Command::DeleteObject(DeleteObject { bucket, key, base: Some(Revision(base)), claim })
    };
    conflict(world.propose(delete(second.0)));
    done(world.propose(delete(third.0)));
    assert!(matches!(world.propose(delete(third.0)), Reply::Unchanged(_)), "it is gone");
    assert!(world.state.objects.is_empty());
}

#[test]
fn a_write_that_is_repeated_is_answered_as_the_first_time() {
    let mut world = World::with_nodes(1);
    let claim = single(1, world.bound("/a", 1));
    let first = PutObject { base: Some(Revision(0)), token: 7, ..put(&world, "/a", "k", claim) };
    let version = done(world.propose(Command::PutObject(first.clone())));
    assert_eq!(world.propose(Command::PutObject(first.clone())), Reply::Unchanged(version));
    let other = PutObject { token: 8, base: Some(version), ..first.clone() };
    done(world.propose(Command::PutObject(other)));
    assert!(matches!(refusal(world.propose(Command::PutObject(first))), Refusal::Conflict(_)));
}

#[test]
fn only_the_epoch_that_is_bound_writes() {
    let mut world = World::with_nodes(2);
    let old = world.bound("/a", 1);
    let by = |world: &World, claim| Command::PutObject(put(world, "/a", "k", claim));
    let fenced = |world: &mut World, claim| {
        let ask = by(world, claim);
        match refusal(world.propose(ask)) {
            Refusal::Stale(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let ask = by(&world, single(1, old));
    done(world.propose(ask));
    assert!(fenced(&mut world, single(2, old)).contains("on node n2 is over"), "the epoch of another node");
    assert!(fenced(&mut world, multi(1)).contains("no longer multi-node"));
    world.on("/a", Command::Suspend);
    let last = by(&world, single(1, old));
    done(world.propose(last)); // It is stopping, and notes how far it came.
    world.free("/a", old);
    let why = fenced(&mut world, single(1, old));
    assert_eq!(why, format!("epoch {old} of bucket /a on node n1 is over: it is bound to no node now"));
    world.on("/a", Command::Resume);
    let basis = world.bucket("/a").current.revision;
    let bind = world.bind_command("/a", 2, basis);
    world.propose(Command::Bind(bind));
    let new = world.binding("/a").epoch;
    let why = fenced(&mut world, single(1, old));
    assert_eq!(
        why,
        format!("epoch {old} of bucket /a on node n1 is over: it is bound under epoch {new} to node n2")
    );
    let ask = by(&world, single(2, new));
    done(world.propose(ask));
}

#[test]
fn every_node_that_runs_a_multi_node_bucket_writes_and_no_other() {
    let mut world = World::with_nodes(3);
    world.apply_bucket("/m", |put| put.spec.multi_node = true);
    let by = |world: &World, node| Command::PutObject(put(world, "/m", "k", multi(node)));
    for node in [1, 2] {
        world.phase("/m", node, None, Phase::Running);
        let ask = by(&world, node);
        done(world.propose(ask));
    }
    world.phase("/m", 2, None, Phase::Failed);
    for node in [2, 3, 9] {
        let ask = by(&world, node);
        let why = refusal(world.propose(ask)).to_string();
        assert!(why.contains("is not known to run on node"), "{why}");
    }
}

#[test]
fn what_is_too_much_is_refused_and_says_how_much_it_would_be() {
    let mut world = World::with_nodes(1);
    let claim = single(1, world.bound("/a", 1));
    let with = |world: &World, key: &str, size: usize| {
        let value = ObjectValue::from(vec![0; size].as_slice());
        Command::PutObject(PutObject { value, ..put(world, "/a", key, claim) })
    };
    let exhausted = |reply| match refusal(reply) {
        Refusal::Exhausted(why) => why,
        other => panic!("{other:?}"),
    };
    let large = with(&world, "k", OBJECT_VALUE_MAX + 1);
    assert!(exhausted(world.propose(large)).contains("has 524289 bytes; at most 524288 are kept"));
    let full = OBJECTS_BYTES_MAX / (OBJECT_VALUE_MAX as u64 + 3);
    for n in 0..full {
        let ask = with(&world, &format!("{n:03}"), OBJECT_VALUE_MAX);
        done(world.propose(ask));
    }
    let more = with(&world, "more", OBJECT_VALUE_MAX);
    let why = exhausted(world.propose(more));
    assert!(why.contains("would have 67109249 bytes; at most 67108864 are kept"), "{why}");
    let instead = with(&world, "000", OBJECT_VALUE_MAX);
    done(world.propose(instead)); // In another's place there is room.
    let bytes: u64 = full * (OBJECT_VALUE_MAX as u64 + 3);
    assert_eq!(world.state.objects["/a"].bytes(), bytes);
}

#[test]
fn a_bucket_has_so_many_objects_and_no_more() {
    let mut world = World::with_nodes(1);
    let claim = single(1, world.bound("/a", 1));
    for n in 0..OBJECTS_MAX {
        let ask = put(&world, "/a", &n.to_string(), claim);
        done(world.propose(Command::PutObject(ask)));
    }
    let one_more = put(&world, "/a", "more", claim);
    assert!(matches!(refusal(world.propose(Command::PutObject(one_more))), Refusal::Exhausted(_)));
    let known = put(&world, "/a", "7", claim);
    done(world.propose(Command::PutObject(known)));
}

#[test]
fn objects_go_with_their_bucket_and_the_changes_rebuild_them() {
    let mut world = World::with_nodes(1);
    let claim = single(1, world.bound("/a", 1));
    let kept = single(1, world.bound("/kept", 1));
    for ask in [put(&world, "/a", "k", claim), put(&world, "/a", "l", claim), put(&world, "/kept", "k", kept)]
    {
        done(world.propose(Command::PutObject(ask)));
    }
    let on = OnBucket { bucket: world.name("/a"), base: None };
    world.propose(Command::DeleteBucket(on));
    let late = put(&world, "/a", "k", claim);
    assert!(matches!(refusal(world.propose(Command::PutObject(late))), Refusal::NotFound(..)));
    assert_eq!(world.state.objects.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["/kept"]);
    assert_eq!(invariants::check(&world.state), Vec::<String>::new());
    for rows in [world.state.rows().collect::<Vec<_>>(), world.changes.clone()] {
        let mut rebuilt = State::default();
        rows.iter().for_each(|row| rebuilt.put(row));
        rebuilt.revision = world.state.revision;
        assert_eq!(rebuilt, world.state);
    }
}
