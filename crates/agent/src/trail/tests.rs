use std::sync::Arc;

use sheaf_engine::gates::Here;
use sheaf_engine::node::Start;
use sheaf_engine::reconcile::{Life, Mode, Observed, Origin};
use sheaf_model::session::Acknowledged;
use sheaf_model::watch::WatchedBucket;
use sheaf_model::{BucketSpec, GateOutcome, ModuleRef, Moment, Span};

use super::*;

const CONTEXT: TraceContext = TraceContext { trace: 1, span: 2, sampled: true };

fn name() -> BucketName {
    BucketName::new("/a").expect("a name")
}

fn module() -> ModuleRef {
    ModuleRef::parse("m@1").expect("a module")
}

fn spec() -> Arc<BucketSpec> {
    Arc::new(BucketSpec::new(name(), module()))
}

fn changed(revision: u64) -> Input {
    Input::Watch(vec![
        WatchItem::Bucket(WatchedBucket {
            spec: spec(),
            revision: Revision(revision),
            basis: Revision(revision),
            suspended: false,
            gave_up: false,
            purge: None,
            trial: None,
        }),
        WatchItem::Synced(Revision(revision)),
    ])
}

fn acknowledged() -> Input {
    let traces = vec![Traced { bucket: name(), context: CONTEXT }];
    let (boot, sent_at, ttl) = ("b1".into(), Moment(0), Span::seconds(3));
    let (epochs, heartbeat, own) = (Vec::new(), Span::millis(500), Revision::default());
    Input::Acknowledged(Acknowledged { boot, sent_at, ttl, epochs, heartbeat, own, traces })
}

fn verdict(revision: u64, third: Option<bool>) -> Action {
    let gate = |pass| GateOutcome { pass, reason: "because".into() };
    let gates = [gate(Some(true)), gate(Some(true)), gate(third)];
    let verdict = Verdict { bucket: name(), revision: Revision(revision), module: module(), gates };
    Action::Say(ToLeader::Verdicts(vec![Arc::new(verdict)]))
}

fn origin() -> Origin {
    Origin { revision: Revision(7), basis: Revision(7), content: 0, live: None, artifact: None }
}

fn start() -> Action {
    let text = b"kind: Module\nname: m\nversion: '1'\nruntime: exec\nexec: {command: /bin/true}\n";
    let mut documents = sheaf_model::document::parse("", text).documents;
    let Some(sheaf_model::Document::Module(module)) = documents.pop() else { panic!("a module") };
    Action::Start(Box::new(Start {
        bucket: spec(),
        module: Arc::new(*module),
        mode: Mode::Multi(Revision(7)),
        origin: origin(),
        until: None,
        here: Arc::new(Here::default()),
        trial: None,
        artifact: None,
    }))
}

fn seen(phase: Phase, message: &str) -> Box<Seen> {
    let observed = Observed { mode: Mode::Multi(Revision(7)), origin: origin(), life: Life::Alive };
    Box::new(Seen {
        observed,
        phase,
        pid: None,
        started_at: None,
        restarts: 0,
        exit: None,
        message: message.to_owned(),
        deadline: None,
        purged: None,
    })
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

#[test]
fn gates_take_from_the_change_to_the_verdict_on_it() {
    let mut trail = Trail::default();
    assert_eq!(trail.input(&acknowledged(), at(0)), []);
    assert_eq!(trail.input(&changed(7), at(1)), []);
    assert_eq!(trail.action(&verdict(6, Some(true)), at(2)), [], "on what was before");
    assert_eq!(trail.action(&verdict(7, None), at(2)), [], "the machine is being asked");
    let parts = trail.action(&verdict(7, Some(false)), at(3));
    let [Leaf { parent: CONTEXT, deed }] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((deed.name, deed.begun, deed.ended), ("sheaf.gates", at(1), at(3)));
    let said = [("sheaf.eligible", "false".to_owned()), ("sheaf.gate", "can_run_on_this_node".to_owned())];
    assert_eq!(deed.said, said);
    assert_eq!(trail.action(&verdict(7, Some(true)), at(4)), [], "once for each change");
}

#[test]
fn a_part_waits_for_what_it_belongs_to_and_not_for_ever() {
    let mut trail = Trail::default();
    trail.input(&changed(7), at(1));
    assert_eq!(trail.action(&verdict(7, Some(true)), at(2)), []);
    assert_eq!(trail.input(&acknowledged(), at(3)).len(), 1);
    let mut late = Trail::default();
    late.input(&changed(7), at(1));
    assert_eq!(late.action(&verdict(7, Some(true)), at(2)), []);
    assert_eq!(late.input(&acknowledged(), at(2) + PATIENCE), []);
    late.input(&changed(8), at(100));
    assert_eq!(late.action(&verdict(8, Some(true)), at(100)), [], "a change of its own");
}

#[test]
fn a_start_ends_when_it_runs_or_says_why_not_without_output() {
    let mut trail = Trail::default();
    trail.input(&acknowledged(), at(0));
    assert_eq!(trail.action(&start(), at(1)), []);
    assert_eq!(trail.input(&Input::Done(name(), Done::Started(seen(Phase::Starting, ""))), at(2)), []);
    let parts = trail.input(&Input::Seen(name(), Some(seen(Phase::Running, ""))), at(3));
    let [Leaf { deed, .. }] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((deed.begun, deed.spawned, deed.ended), (at(1), Some(at(2)), at(3)));
    assert_eq!((deed.name, &deed.failure), ("sheaf.start", &None));
    assert_eq!(trail.input(&Input::Seen(name(), Some(seen(Phase::Running, ""))), at(4)), []);
    trail.action(&start(), at(5));
    let failed = Input::Seen(name(), Some(seen(Phase::Failed, "exited with 1\nhunter2")));
    let parts = trail.input(&failed, at(6));
    assert_eq!(parts[0].deed.failure.as_deref(), Some("exited with 1"));
}

#[test]
fn what_is_told_anew_is_no_change_and_all_is_bounded() {
    let mut trail = Trail::default();
    trail.input(&Input::Watch(vec![WatchItem::Reset]), at(0));
    trail.input(&changed(7), at(1));
    assert!(trail.changed.is_empty(), "it came before all was said");
    trail.input(&changed(8), at(2));
    assert_eq!(trail.changed.len(), 1);
    let mut map = BTreeMap::new();
    for number in 0..MOST as u64 + 5 {
        let bucket = BucketName::new(&format!("/{number}")).expect("a name");
        remember(&mut map, MOST, bucket, number, |number| at(*number));
    }
    assert_eq!((map.len(), map.values().min()), (MOST, Some(&5)));
}
