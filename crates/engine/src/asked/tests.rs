use std::sync::Arc;

use sheaf_model::{
    BackendName, BackendSpec, Digest, KeyId, ObjectValue, Ranges, RequestId, Sealed, SecretName, Span,
    TokenName, TokenUse,
};

use super::*;
use crate::command::*;
use crate::testing::World;

fn under(world: &mut World, id: &str, command: Command) -> Reply {
    world.propose_as(command, Some(RequestId::from(id)))
}

fn conflict(reply: Reply) -> String {
    match reply {
        Reply::Refused(Refusal::Conflict(why)) => why,
        other => panic!("no conflict: {other:?}"),
    }
}

fn on(world: &World, bucket: &str, verb: fn(OnBucket) -> Command) -> Command {
    verb(OnBucket { bucket: world.name(bucket), base: None })
}

fn applied(world: &World, bucket: &str, owner: &str) -> Command {
    let put = world.put(bucket, |put| put.spec.owner = Some(owner.to_owned()));
    Command::Apply(Apply { modules: vec![], buckets: vec![put] })
}

fn sealed(byte: u8) -> Sealed {
    Sealed { key: KeyId([1; 8]), nonce: [byte; 12], ciphertext: ObjectValue::from([byte; 20].as_slice()) }
}

fn print_of(command: &Command) -> Option<u64> {
    Asked::of(command, &State::default()).map(|asked| asked.print)
}

#[test]
fn an_id_that_was_used_for_something_else_is_refused_and_changes_nothing() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    world.apply_bucket("/b", |_| {});
    let suspend = on(&world, "/a", Command::Suspend);
    let first = under(&mut world, "r1", suspend.clone());
    let Reply::Done(at) = first else { panic!("{first:?}") };
    let (before, told) = (world.state.clone(), world.changes.len());
    let others = [
        on(&world, "/a", Command::Resume),
        on(&world, "/b", Command::Suspend),
        on(&world, "/nowhere", Command::Suspend),
        applied(&world, "/a", "me"),
        Command::Undrain(NodeId(1)),
    ];
    for other in others {
        let why = conflict(under(&mut world, "r1", other));
        let expected = format!(
            "request id \"r1\" was already used for \"suspend bucket /a\" at revision {at}; use a new one"
        );
        assert_eq!(why, expected);
    }
    assert_eq!(world.changes.len(), told);
    assert_eq!(State { revision: before.revision, ..world.state.clone() }, before);
    assert_eq!(under(&mut world, "r1", suspend), first, "and its repetition is still one");
}

#[test]
fn documents_of_another_content_are_something_else() {
    let mut world = World::with_nodes(1);
    let mine = applied(&world, "/a", "me");
    let first = under(&mut world, "r1", mine.clone());
    assert!(matches!(first, Reply::Applied(_)), "{first:?}");
    let revision = world.bucket("/a").revision;
    let yours = applied(&world, "/a", "you");
    assert_eq!(
        conflict(under(&mut world, "r1", yours.clone())),
        format!(
            "request id \"r1\" was already used for \"apply Bucket /a\" with other content at revision {revision}; use a \
             new one"
        )
    );
    assert_eq!(world.bucket("/a").newest().spec.owner.as_deref(), Some("me"));
    assert_eq!(under(&mut world, "r1", mine), first);
    assert!(matches!(under(&mut world, "r2", yours), Reply::Applied(_)));

    let apply = Apply { modules: vec![world.module("other", "1")], buckets: vec![world.put("/c", |_| {})] };
    under(&mut world, "r3", Command::Apply(apply));
    let resume = on(&world, "/a", Command::Resume);
    let why = conflict(under(&mut world, "r3", resume));
    assert!(why.contains("\"apply Module other@1 and 1 more\""), "{why}");
}

#[test]
fn what_was_refused_has_used_no_id() {
    let mut world = World::with_nodes(1);
    let resume = on(&world, "/a", Command::Resume);
    assert!(matches!(under(&mut world, "r1", resume), Reply::Refused(Refusal::NotFound(..))));
    let apply = applied(&world, "/a", "me");
    assert!(matches!(under(&mut world, "r1", apply), Reply::Applied(_)));
}

#[test]
fn what_an_earlier_build_remembered_is_answered_as_it_was_then() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    let suspend = on(&world, "/a", Command::Suspend);
    let first = under(&mut world, "r1", suspend);
    let remembered = world.state.requests.values().next_back().expect("it is remembered").clone();
    let asked = remembered.asked.clone().expect("with what it asked for");
    let resume = on(&world, "/a", Command::Resume);
    for asked in [None, Some(Asked { rule: RULE + 1, ..asked })] {
        world.state.put(&crate::Change::Request(Request { asked, ..remembered.clone() }));
        assert_eq!(under(&mut world, "r1", resume.clone()), first);
    }
    world.state.put(&crate::Change::Request(remembered));
    conflict(under(&mut world, "r1", resume));
    // As such a build wrote them, the log may still hold them.
    let former = Command::ApplyV2(ApplyV2 { modules: vec![], buckets: vec![world.put("/a", |_| {})] });
    assert_eq!(print_of(&former), None);
}

#[test]
fn what_is_looked_up_or_random_is_no_part_of_what_was_asked() {
    let mut world = World::with_runners(1);
    let secret = |name: &str, byte| {
        Command::PutSecret(PutSecret { name: SecretName::new(name).expect("a name"), sealed: sealed(byte) })
    };
    let first = under(&mut world, "s", secret("a", 1));
    assert_eq!(under(&mut world, "s", secret("a", 2)), first, "sealed anew by another try");
    assert!(conflict(under(&mut world, "s", secret("b", 2))).contains("\"set secret a\""));

    world.apply_bucket("/a", |_| {});
    let to = world.bucket("/a").revision;
    world.apply_bucket("/a", |put| put.spec.owner = Some("me".to_owned()));
    let back = |world: &World| {
        let mut put = world.put("/a", |_| {});
        put.base = Some(world.bucket("/a").revision);
        Command::Rollback(Rollback { put, to })
    };
    let rollback = back(&world);
    let first = under(&mut world, "b", rollback);
    assert!(!matches!(first, Reply::Refused(_)), "{first:?}");
    let rollback = back(&world);
    assert_eq!(under(&mut world, "b", rollback), first, "from where it is now");

    let job = world.submit("many", 4, |_| {});
    let cancel = |subtasks| Command::CancelJob(CancelJob { job, subtasks, reason: String::new() });
    let first = under(&mut world, "j", cancel(None));
    assert_eq!(
        under(&mut world, "j", cancel(Some(Ranges::default()))),
        first,
        "what is left to cancel is less each time"
    );
    assert!(conflict(under(&mut world, "j", Command::PauseJob(job))).contains("\"cancel job many\""));
    let delete = Command::DeleteJob(job);
    under(&mut world, "d", delete);
    assert!(world.state.jobs.get(job).is_none(), "it is over, so it could be deleted");
    assert!(conflict(under(&mut world, "d", Command::Undrain(NodeId(1)))).contains("\"delete job many\""));
}

#[test]
fn a_token_that_is_gone_is_revoked_again_and_another_is_not() {
    let mut world = World::with_nodes(1);
    for (id, name) in [(1, "alice"), (2, "bob")] {
        let create = CreateToken {
            id: TokenId([id; 6]),
            name: TokenName::new(name).expect("a name"),
            of: TokenUse::Join { voter: false },
            digest: Digest([id; 32]),
            expires_at: None,
        };
        assert!(matches!(world.propose(Command::Access(AccessCommand::CreateToken(create))), Reply::Done(_)));
    }
    let revoke = |id| Command::Access(AccessCommand::RevokeToken(TokenId([id; 6])));
    let first = under(&mut world, "r", revoke(1));
    assert!(matches!(first, Reply::Done(_)), "{first:?}");
    assert_eq!(under(&mut world, "r", revoke(1)), first);
    assert_eq!(under(&mut world, "r", revoke(0)), first, "by its name, which nothing has any more");
    assert!(conflict(under(&mut world, "r", revoke(2))).contains("\"revoke token alice\""));
    assert!(world.state.access.named("bob").is_some());
}

#[test]
fn an_authority_that_is_being_replaced_is_replaced_again_whatever_its_key() {
    let mut world = World::with_nodes(1);
    let certificate = |byte: u8| ObjectValue::from([byte].as_slice());
    let put = PutAuthority { fingerprint: Digest([1; 32]), certificate: certificate(1) };
    let put = world.propose(Command::Access(AccessCommand::PutAuthority(put)));
    assert!(matches!(put, Reply::Done(_)), "{put:?}");
    let begin = |byte| {
        Command::Access(AccessCommand::BeginRotation(BeginRotation {
            fingerprint: Digest([byte; 32]),
            certificate: certificate(byte),
            bridge: certificate(byte),
            lifetime: Span::seconds(60),
        }))
    };
    let dropped = |byte| Command::Access(AccessCommand::DropAuthority(Digest([byte; 32])));
    let first = under(&mut world, "r", begin(2));
    assert!(matches!(first, Reply::Done(_)), "{first:?}");
    assert_eq!(under(&mut world, "r", begin(3)), first, "by a leader that has made another key");
    assert_eq!(under(&mut world, "r", dropped(0)), first, "when nobody knows any more what there was to do");
    assert!(conflict(under(&mut world, "r", dropped(2))).contains("\"replace the authority\""));
    let first = under(&mut world, "d", dropped(2));
    assert!(matches!(first, Reply::Done(_)), "{first:?}");
    assert_eq!(under(&mut world, "d", dropped(0)), first);
    assert!(conflict(under(&mut world, "d", begin(2))).contains("\"drop authority 0202"));
}

#[test]
fn prints_are_reckoned_as_they_were_first_shipped() {
    let world = World::unformed();
    let suspend = on(&world, "/a", Command::Suspend);
    let name = SecretName::new("s1").expect("a name");
    let secret = Command::PutSecret(PutSecret { name, sealed: sealed(7) });
    let found = [&suspend, &secret].map(print_of);
    assert_eq!(
        found,
        [Some(0xab41_841e_130a_2d8d), Some(0x1c68_791b_10d2_a9d1)],
        "another one needs another RULE"
    );
}

#[test]
fn a_replica_that_read_its_state_knows_what_was_asked() {
    let mut world = World::with_nodes(1);
    world.apply_bucket("/a", |_| {});
    let suspend = on(&world, "/a", Command::Suspend);
    under(&mut world, "r1", suspend);
    let mut other = World { term: world.term, now: world.now, ..World::default() };
    world.state.rows().for_each(|row| other.state.put(&row));
    other.state.revision = world.state.revision;
    let resume = on(&world, "/a", Command::Resume);
    let said = [under(&mut world, "r1", resume.clone()), under(&mut other, "r1", resume)].map(conflict);
    assert_eq!(said[0], said[1]);
    let backend = Arc::new(BackendSpec::new(BackendName::new("b").expect("a name")));
    let put = Command::PutBackend(backend);
    let replies = [under(&mut world, "r2", put.clone()), under(&mut other, "r2", put)];
    assert_eq!(replies[0], replies[1]);
    assert_eq!(world.state, other.state);
}
