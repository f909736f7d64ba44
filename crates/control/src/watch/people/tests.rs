//! What a watch says of what no row of a bucket tells, and that it says no more than that.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sheaf_consensus::Replica;
use sheaf_engine::{Apply, Command, OnBucket, Proposal, RecordPhases, Register, SetNodeStatus};
use sheaf_model::view::BucketCounts;
use sheaf_model::{
    Actor, BucketName, BucketSpec, GateOutcome, Instance, ModuleName, ModuleRef, ModuleSpec, ModuleVersion,
    Moment, NodeId, NodeKey, NodeStatus, Phase, PutBucket, Runtime, Timestamp, Verdict,
};
use sheaf_wire::bucket::{BucketApi, BucketChange, BucketStep, ListBuckets, WatchBuckets};
use sheaf_wire::cluster::ClusterApi;
use sheaf_wire::{Answers, ApiError, Caller, Filter, PageOf};
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::propose::tests::{One, Still, control_by, facts, form, hello, member};
use crate::service::AT_ONCE;

const NODE: NodeId = NodeId(1);

async fn propose(replica: &Replica, command: Command) {
    let proposal = Proposal { actor: Actor::from("test"), at: Timestamp(1), request: None, command };
    replica.propose(&proposal).await.expect("the only voter applies it");
}

fn name(text: &str) -> BucketName {
    BucketName::new(text).expect("a name")
}

fn put(bucket: &str, multi_node: bool) -> PutBucket {
    let module = ModuleRef::parse("sleep").expect("a name");
    let spec = BucketSpec { multi_node, ..BucketSpec::new(name(bucket), module) };
    PutBucket { spec, suspended: None, base: None, latest: false }
}

/// A node that is ready, a single-node bucket `/a` and a multi-node bucket `/m`.
async fn register(replica: &Replica) {
    propose(replica, Command::Register(Register { key: NodeKey::from("k1"), facts: facts("n1") })).await;
    set_status(replica, NodeStatus::Ready).await;
    let module = ModuleSpec::new(
        ModuleName::new("sleep").expect("a name"),
        ModuleVersion::new("1").expect("a version"),
        Runtime::Exec,
    );
    let buckets = vec![put("/a", false), put("/m", true)];
    propose(replica, Command::Apply(Apply { modules: vec![module], buckets })).await;
}

async fn set_status(replica: &Replica, status: NodeStatus) {
    let set = SetNodeStatus { node: NODE, status, reason: String::new(), term: None };
    propose(replica, Command::SetNodeStatus(set)).await;
}

/// The leader's sessions begin, and that of the node opens.
fn open(control: &Control, replica: &Replica) {
    let term = replica.leadership().borrow().term;
    control.live.begin(term, Moment(0));
    let mut live = control.live.lock();
    let sessions = live.sessions.as_mut().expect("it leads");
    sessions.opened(&hello(NODE), &replica.state(), Moment(0)).expect("nobody else is live as this node");
}

/// The same of each bucket.
fn verdicts(replica: &Replica, gate: &GateOutcome) -> Vec<Arc<Verdict>> {
    let state = replica.state();
    let verdict = |bucket: &Arc<sheaf_engine::Bucket>| Verdict {
        bucket: bucket.name().clone(),
        revision: bucket.current.revision,
        module: bucket.current.spec.module.clone(),
        gates: [GateOutcome::pass(""), GateOutcome::pass(""), gate.clone()],
    };
    state.buckets.values().map(|bucket| Arc::new(verdict(bucket))).collect()
}

/// The node says that, to a leader that has applied all of it.
fn answer(control: &Control, replica: &Replica, gate: &GateOutcome) {
    let verdicts = verdicts(replica, gate);
    if let Some(sessions) = &mut control.live.lock().sessions {
        sessions.answered(NODE, verdicts, &replica.state(), Moment(0));
    }
    control.live.heard();
}

async fn said(watch: &mut Answers<BucketStep>, steps: usize) -> Vec<String> {
    let mut said = Vec::new();
    while said.len() < steps {
        let step = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        let step = step.unwrap_or_else(|_| panic!("nothing after {said:?}")).expect("it goes on");
        said.push(match step.expect("a step").change {
            BucketChange::Reset => "reset".to_owned(),
            BucketChange::Bucket(status) => format!("{} {}", status.name, status.state.as_str()),
            BucketChange::Gone(name) => format!("{name} gone"),
            BucketChange::Synced => "synced".to_owned(),
        });
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_the_leader_had_applied_it_is_said_once_it_counts() {
    let one = One::formed().await;
    let (replica, control) = (one.member.replica.clone(), one.control(Arc::new(Still)));
    let before = replica.state().clone();
    register(&replica).await;
    open(&control, &replica);
    let mut watch = control.watch_buckets(WatchBuckets { bucket: None, after: None }).expect("a watch");
    assert_eq!(said(&mut watch, 4).await, ["reset", "/a placing", "/m placing", "synced"]);
    let early = verdicts(&replica, &GateOutcome::refuse("no flume"));
    if let Some(sessions) = &mut control.live.lock().sessions {
        sessions.answered(NODE, early, &before, Moment(0));
    }
    let term = replica.leadership().borrow().term;
    control.look(&replica, term).await;
    assert_eq!(said(&mut watch, 3).await, ["/a unplaced", "/m unplaced", "synced"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_row_of_a_bucket_tells_is_said_once_it_differs() {
    let one = One::formed().await;
    let (replica, control) = (one.member.replica.clone(), one.control(Arc::new(Still)));
    register(&replica).await;
    open(&control, &replica);

    let watching = |after| control.watch_buckets(WatchBuckets { bucket: None, after }).expect("a watch");
    let mut watch = watching(None);
    assert_eq!(said(&mut watch, 4).await, ["reset", "/a placing", "/m placing", "synced"]);
    answer(&control, &replica, &GateOutcome::refuse("no flume"));
    assert_eq!(said(&mut watch, 3).await, ["/a unplaced", "/m unplaced", "synced"], "verdicts are no rows");

    // The same again says nothing, as what comes after it shows.
    answer(&control, &replica, &GateOutcome::refuse("no flume"));
    propose(&replica, Command::Suspend(OnBucket { bucket: name("/a"), base: None })).await;
    assert_eq!(said(&mut watch, 2).await, ["/a suspended", "synced"]);

    // Whoever resumes is told what rows do not tell, and not what they do.
    let now = replica.state().revision;
    let mut resumed = watching(Some(now));
    assert_eq!(said(&mut resumed, 3).await, ["synced", "/m unplaced", "synced"]);

    let instance = Instance {
        bucket: name("/m"),
        node: NODE,
        phase: Phase::Running,
        epoch: None,
        revision: now,
        pid: Some(7),
        started_at: None,
        restarts: 0,
        exit: None,
        message: String::new(),
    };
    propose(&replica, Command::RecordPhases(RecordPhases { node: NODE, instances: vec![instance] })).await;
    for watch in [&mut watch, &mut resumed] {
        assert_eq!(said(watch, 2).await, ["/m running", "synced"]);
    }
    set_status(&replica, NodeStatus::Lost).await;
    for watch in [&mut watch, &mut resumed] {
        assert_eq!(said(watch, 2).await, ["/m unplaced", "synced"], "a row of its node, and none of its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_than_is_looked_at_at_once_each_is_said_and_counted_once() {
    const MANY: usize = 2 * AT_ONCE + 50;
    let one = One::formed().await;
    let (replica, control) = (one.member.replica.clone(), one.control(Arc::new(Still)));
    register(&replica).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("/many/{n:03}")).collect();
    let buckets = names.iter().map(|name| PutBucket { suspended: Some(true), ..put(name, false) }).collect();
    propose(&replica, Command::Apply(Apply { modules: vec![], buckets })).await;
    open(&control, &replica);

    let mut watch = control.watch_buckets(WatchBuckets::default()).expect("a watch");
    let first = said(&mut watch, MANY + 4).await;
    let suspended = names.iter().map(|name| format!("{name} suspended"));
    let others = ["reset", "/a placing", "/m placing", "synced"].map(str::to_owned);
    let [reset, single, multi, synced] = others;
    let expected: Vec<String> = [reset, single, multi].into_iter().chain(suspended).chain([synced]).collect();
    assert_eq!(first, expected);

    let status = ClusterApi::status(&control, Caller::local("test")).await.expect("a status");
    let suspended = u32::try_from(MANY).expect("a few");
    let expected = BucketCounts { suspended, placing: 2, other: 2, ..BucketCounts::default() };
    assert_eq!(status.buckets, expected);
    let size = u32::try_from(AT_ONCE + 10).expect("a few");
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = PageOf { size, token };
        let filter = Filter::parse("state=suspended", &["state"]).expect("a filter");
        let ask = ListBuckets { page, filter };
        let page = BucketApi::list(&control, Caller::local("test"), ask).await.expect("a page");
        listed.extend(page.rows.into_iter().map(|row| row.name));
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_before_it_is_longer_than_a_message() {
    let one = One::formed().await;
    let (replica, control) = (one.member.replica.clone(), one.control(Arc::new(Still)));
    register(&replica).await;
    open(&control, &replica);
    let names: Vec<String> = (0..12).map(|n| format!("/owned/{n:02}")).collect();
    for name in &names {
        let mut put = PutBucket { suspended: Some(true), ..put(name, false) };
        put.spec.owner = Some("x".repeat(500 << 10));
        propose(&replica, Command::Apply(Apply { modules: vec![], buckets: vec![put] })).await;
    }
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let page = PageOf { size: 0, token };
        let filter = Filter::parse("name=/owned/*", &["name"]).expect("a filter");
        let ask = ListBuckets { page, filter };
        let page = BucketApi::list(&control, Caller::local("test"), ask).await.expect("a page");
        pages.push(page.rows.into_iter().map(|row| row.name).collect::<Vec<_>>());
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages.len(), pages.concat()), (2, names), "{pages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_the_leadership_that_it_tells_of() {
    let dir = tempfile::tempdir().expect("a directory");
    let (member, service) = member(dir.path()).await;
    let replica = member.replica.clone();
    let control = control_by(dir.path(), member, Arc::new(Still));
    let running = tokio::spawn(service.run(CancellationToken::new()));
    // Nobody leads yet; then this node does.
    let mut watch = control.watch_buckets(WatchBuckets::default()).expect("a watch");
    assert_eq!(said(&mut watch, 2).await, ["reset", "synced"]);
    form(&replica).await;
    let ended = loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("it ends") {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(ended, Some(Err(ApiError::Unavailable { .. }))), "{ended:?}");
    running.abort();
}
