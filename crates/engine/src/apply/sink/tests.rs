use std::sync::Arc;

use sheaf_model::*;

use super::check;
use crate::Change;
use crate::command::{Command, PutSecret, RecordSink, Reply, SinkCommand, SinkOutcome};
use crate::sink::Sink;
use crate::testing::World;

fn name() -> SinkName {
    SinkName::new("on-call").unwrap()
}

fn spec() -> SinkSpec {
    let target = SinkTarget::Webhook(Webhook {
        url: Confided::Plain("http://h/".to_owned()),
        secret: Some(SecretName::new("hook").unwrap()),
        timeout: Span::seconds(5),
        batch: 100,
        ca: None,
    });
    let (filter, labels) = (SinkFilter::default(), std::collections::BTreeMap::new());
    SinkSpec { name: name(), target, filter, suspended: false, labels, owner: None }
}

fn put(world: &mut World, spec: SinkSpec) -> Reply {
    world.propose(Command::Sink(SinkCommand::Put(Arc::new(spec))))
}

fn sink(world: &World) -> Arc<Sink> {
    world.state.sinks[&name()].clone()
}

fn record(world: &World, cursor: u64, outcome: SinkOutcome) -> RecordSink {
    let created = sink(world).created;
    let cursor = Revision(created.0 + cursor);
    RecordSink { name: name(), created, term: world.term, cursor, delivered: 2, missed: None, outcome }
}

fn say(world: &mut World, record: RecordSink) -> Reply {
    world.propose(Command::Sink(SinkCommand::Record(record)))
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

fn events(world: &World) -> Vec<String> {
    let of = |change: &Change| match change {
        Change::Event(event) if event.kind.starts_with("sink.") => Some(event.kind.clone()),
        _ => None,
    };
    world.changes.iter().filter_map(of).collect()
}

#[test]
fn a_sink_begins_with_what_happens_next_and_keeps_its_cursor_when_it_is_changed() {
    let mut world = World::with_nodes(1);
    assert_eq!(check(&world.state, &spec()), Ok(None));
    put(&mut world, spec());
    let first = sink(&world);
    assert_eq!(check(&world.state, &spec()), Ok(Some(first.revision)));
    assert_eq!((first.cursor, first.created), (world.state.revision, world.state.revision));
    assert_eq!(put(&mut world, spec()), Reply::Unchanged(first.revision));
    let delivered = record(&world, 1, SinkOutcome::Delivered);
    say(&mut world, delivered);
    put(&mut world, SinkSpec { suspended: true, ..spec() });
    let changed = sink(&world);
    assert_eq!((changed.cursor.0, changed.delivered), (first.cursor.0 + 1, 2));
    assert!(changed.spec.suspended && changed.revision > first.revision && changed.created == first.created);
    world.propose(Command::Sink(SinkCommand::Delete(name())));
    assert!(refusal(world.propose(Command::Sink(SinkCommand::Delete(name())))).contains("on-call"));
    assert_eq!(events(&world), ["sink.applied", "sink.applied", "sink.deleted"]);
}

#[test]
fn a_cursor_moves_only_forward_and_only_by_the_leader_that_delivers() {
    let mut world = World::with_nodes(1);
    put(&mut world, spec());
    put(&mut world, SinkSpec { owner: Some("a".to_owned()), ..spec() });
    let ahead = record(&world, 2, SinkOutcome::Delivered);
    assert!(matches!(say(&mut world, ahead), Reply::Done(_)));
    let behind = record(&world, 1, SinkOutcome::Delivered);
    assert!(refusal(say(&mut world, behind)).contains("the cursor of sink on-call"));
    let future = record(&world, 1_000_000, SinkOutcome::Delivered);
    refusal(say(&mut world, future));
    let deposed = RecordSink { term: Term(world.term.0 + 1), ..record(&world, 2, SinkOutcome::Delivered) };
    assert!(refusal(say(&mut world, deposed)).contains("term"));
    let of_another = RecordSink { created: Revision(1), ..record(&world, 2, SinkOutcome::Delivered) };
    assert!(refusal(say(&mut world, of_another)).contains("is deleted"));
    assert_eq!((sink(&world).delivered, sink(&world).failing.clone()), (2, None));
}

#[test]
fn failing_and_recovery_are_told_once_and_what_is_missed_each_time() {
    let mut world = World::with_nodes(1);
    put(&mut world, spec());
    for failures in 2..4 {
        let why = format!("status 500 {}", "x".repeat(1_000));
        let failed = record(&world, 0, SinkOutcome::Failed { failures, why });
        say(&mut world, failed);
    }
    let failing = sink(&world).failing.clone().unwrap();
    assert_eq!((failing.failures, failing.why.chars().count()), (3, 500));
    let delivered = record(&world, 1, SinkOutcome::Delivered);
    say(&mut world, delivered);
    assert!(sink(&world).failing.is_none() && sink(&world).last_success.is_some());
    let range = Some((Revision(3), Revision(9)));
    let missed = RecordSink { missed: range, ..record(&world, 2, SinkOutcome::Nothing) };
    say(&mut world, missed);
    assert_eq!((sink(&world).missed, sink(&world).missed_last), (1, range));
    assert_eq!(events(&world), ["sink.applied", "sink.failing", "sink.recovered", "sink.missed"]);
}

#[test]
fn a_secret_that_a_sink_names_is_not_deleted() {
    let mut world = World::with_nodes(1);
    put(&mut world, spec());
    let hook = SecretName::new("hook").unwrap();
    let sealed =
        Sealed { key: KeyId([1; 8]), nonce: [0; 12], ciphertext: ObjectValue::from([0; 20].as_slice()) };
    world.propose(Command::PutSecret(PutSecret { name: hook.clone(), sealed }));
    assert!(refusal(world.propose(Command::DeleteSecret(hook))).contains("Sink on-call"));
}
