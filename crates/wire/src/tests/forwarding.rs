//! Calls that are answered elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_model::{Actor, Contact, JobName, JobSpec, ModuleRef, Subtasks, TraceContext};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::fake::{Running, Script, apply, name, nobody};
use crate::bucket::BucketLogs;
use crate::logs::LogsOf;
use crate::{ApiError, Applies, ServeOptions, Target};

fn logs(follow: bool) -> BucketLogs {
    let of = LogsOf { bucket: name("/logs/web"), follow, since: None, tail: None, previous: false };
    BucketLogs { of, node: None, after: vec![] }
}

/// Two nodes: the first forwards to the second, which answers.
pub(super) async fn pair() -> (Running, Running) {
    let leader = Running::start("leader", Script::new([Target::Local])).await;
    let node = Running::start("node", Script::new([Target::To(Contact::anyone(&leader.address))])).await;
    (node, leader)
}

#[tokio::test]
async fn a_change_is_answered_by_the_leader_who_knows_the_caller() {
    let (node, leader) = pair().await;
    let applied = node.client().await.apply_bucket(apply(Some("r1"))).await.unwrap();
    assert_eq!(applied.warnings, ["leader"]);
    assert!(node.fake.callers.lock().unwrap().is_empty());
    let callers = leader.fake.callers.lock().unwrap();
    assert_eq!(callers[0].actor, Actor::from("cli:alice@ops1"));
    assert_eq!(callers[0].request.as_ref().unwrap().0, "r1");
    assert!(callers[0].deadline.is_some());
}

#[tokio::test]
async fn who_does_not_say_who_it_is_is_known_by_the_address_it_came_from() {
    let (node, leader) = pair().await;
    let client = crate::Client::connect(&node.address, crate::Options::default()).await.unwrap();
    client.apply_bucket(apply(None)).await.unwrap();
    assert_eq!(leader.fake.callers.lock().unwrap()[0].actor, Actor::from("grpc:127.0.0.1"));
}

#[tokio::test]
async fn what_a_call_is_a_part_of_goes_on_with_it() {
    let (node, leader) = pair().await;
    let trace = TraceContext { trace: 7 << 64, span: 9, sampled: true };
    let options = crate::Options { trace: Some(trace), ..crate::Options::default() };
    let client = crate::Client::connect(&node.address, options).await.unwrap();
    client.apply_bucket(apply(None)).await.unwrap();
    // Nobody keeps traces here, so that it is as it was given.
    assert_eq!(leader.fake.callers.lock().unwrap()[0].trace, Some(trace));
}

#[tokio::test]
async fn errors_and_streams_come_through() {
    let (node, _leader) = pair().await;
    let client = node.client().await;
    let error = client.bucket(&name("/logs/web")).await.unwrap_err();
    assert_eq!(error, ApiError::NotFound("there is no bucket /logs/web".to_owned()));
    let lines: Vec<_> = client.bucket_logs(logs(false)).await.unwrap().collect().await;
    let texts: Vec<_> = lines.into_iter().map(|line| line.unwrap().text).collect();
    assert_eq!(texts, ["one", "two"]);
}

#[tokio::test]
async fn a_call_that_runs_in_a_circle_is_stopped() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = |listener: &TcpListener| {
        Script::new([Target::To(Contact::anyone(listener.local_addr().unwrap().to_string()))])
    };
    let (to_first, to_second) = (to(&first), to(&second));
    let node = Running::listening(first, "a", to_second, ServeOptions::default());
    let _other = Running::listening(second, "b", to_first, ServeOptions::default());
    let client = node.client().await.with_deadline(Duration::from_millis(500));
    let error = client.apply_bucket(apply(None)).await.unwrap_err();
    let ApiError::Unavailable { reason, applied: Applies::No } = &error else { panic!("{error:?}") };
    assert!(reason.contains("forwarded 3 times") && reason.contains("nothing was applied"), "{reason}");
}

#[tokio::test]
async fn a_leader_that_is_gone_costs_time_but_no_error() {
    let leader = Running::start("leader", Script::new([Target::Local])).await;
    let (dead, alive) =
        (Target::To(Contact::anyone(nobody().await)), Target::To(Contact::anyone(&leader.address)));
    let route = Script::new([dead.clone(), Target::Unavailable("electing".to_owned()), dead, alive]);
    let node = Running::start("node", route.clone()).await;
    let applied = node.client().await.apply_bucket(apply(None)).await.unwrap();
    assert_eq!(applied.warnings, ["leader"]);
    assert_eq!((route.asked.load(Ordering::Relaxed), route.failed.load(Ordering::Relaxed)), (4, 3));
}

#[tokio::test]
async fn without_a_leader_a_change_says_that_nothing_was_applied() {
    let node =
        Running::start("node", Script::new([Target::Unavailable("no leader: 1 of 3 seen".to_owned())])).await;
    let client = node.client().await.with_deadline(Duration::from_millis(400));
    let error = client.apply_bucket(apply(None)).await.unwrap_err();
    let ApiError::Unavailable { reason, applied: Applies::No } = &error else { panic!("{error:?}") };
    assert!(reason.contains("1 of 3 seen") && reason.contains("nothing was applied"), "{reason}");
}

#[tokio::test]
async fn an_answer_that_nothing_was_applied_is_not_the_last_word() {
    let (node, leader) = pair().await;
    let times = AtomicUsize::new(0);
    *leader.fake.refusal.lock().unwrap() = Some(Box::new(move || {
        (times.fetch_add(1, Ordering::Relaxed) < 2).then(|| ApiError::unavailable("I am the leader no more"))
    }));
    node.client().await.apply_bucket(apply(None)).await.unwrap();
    leader.client().await.apply_bucket(apply(None)).await.unwrap();
    assert_eq!(leader.fake.callers.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn an_answer_of_an_unknown_outcome_is_asked_again_only_under_a_request_id() {
    let (node, leader) = pair().await;
    let lost = || ApiError::Unavailable { reason: "lost the majority".to_owned(), applied: Applies::Perhaps };
    let first = std::sync::Arc::new(AtomicUsize::new(0));
    let times = first.clone();
    *leader.fake.refusal.lock().unwrap() =
        Some(Box::new(move || (times.fetch_add(1, Ordering::Relaxed) == 0).then(lost)));
    let client = node.client().await;
    assert_eq!(client.apply_bucket(apply(None)).await.unwrap_err(), lost());
    first.store(0, Ordering::Relaxed);
    client.apply_bucket(apply(Some("r1"))).await.unwrap();
    assert_eq!(leader.fake.callers.lock().unwrap().len(), 3);
}

/// Takes a connection, reads a little and hangs up, so often; then nobody listens.
async fn hangs_up(times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The preface and settings come first: wait for what must be the call.
            let mut read = 0;
            while read < 200 {
                read += stream.read(&mut [0; 1024]).await.unwrap_or(0).max(1);
            }
        }
    });
    address
}

#[tokio::test]
async fn a_connection_that_breaks_after_sending_is_an_unknown_outcome() {
    let node = Running::start("node", Script::new([Target::To(Contact::anyone(hangs_up(1).await))])).await;
    let error = node.client().await.apply_bucket(apply(None)).await.unwrap_err();
    let ApiError::Unavailable { reason, applied: Applies::Perhaps } = &error else { panic!("{error:?}") };
    assert!(reason.contains("the change may have been applied"), "{reason}");
}

#[tokio::test]
async fn with_a_request_id_an_unknown_outcome_is_asked_again() {
    let leader = Running::start("leader", Script::new([Target::Local])).await;
    let targets =
        [Target::To(Contact::anyone(hangs_up(1).await)), Target::To(Contact::anyone(&leader.address))];
    let node = Running::start("node", Script::new(targets)).await;
    let applied = node.client().await.apply_bucket(apply(Some("r1"))).await.unwrap();
    assert_eq!(applied.warnings, ["leader"]);
}

#[tokio::test]
async fn a_call_that_nobody_answers_ends_at_its_deadline() {
    let (node, _leader) = pair().await;
    let client = node.client().await.with_deadline(Duration::from_millis(300));
    let error = client.explain_bucket(&name("/a")).await.unwrap_err();
    assert!(matches!(error, ApiError::DeadlineExceeded(_)), "{error:?}");
}

#[tokio::test]
async fn who_takes_all_streams_of_a_node_keeps_no_call_waiting() {
    let (node, _leader) = pair().await;
    let client = node.client().await;
    let mut taken = Vec::new();
    let error = loop {
        match client.bucket_logs(logs(true)).await {
            Ok(lines) => taken.push(lines),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ApiError::Busy(_)), "{error:?} after {} streams", taken.len());
    let applied = client.apply_bucket(apply(None)).await.unwrap();
    assert_eq!(applied.warnings, ["leader"], "also by the node that answers all of them");
    let job = JobSpec::new(JobName::new("job").unwrap(), ModuleRef::parse("ndvi").unwrap(), Subtasks::Items);
    let error = client.submit_job(job, futures::stream::empty().boxed()).await.unwrap_err();
    assert!(matches!(&error, ApiError::Unimplemented(_)), "it comes as far as to that node: {error:?}");
}

#[tokio::test]
async fn a_follower_of_logs_is_told_when_the_node_between_stops() {
    let (node, leader) = pair().await;
    let mut lines = node.client().await.bucket_logs(logs(true)).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().node, "leader");
    lines.next().await.unwrap().unwrap();
    node.stop().await;
    let error = lines.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, ApiError::Unavailable { reason, .. } if reason.contains("stopping")),
        "{error:?}"
    );
    assert!(lines.next().await.is_none());
    leader.stop().await;
}
