//! Callers that take nothing of what they have asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message;
use sheaf_model::Contact;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1 as reflection;
use tower::ServiceExt as _;

use super::fake::{Fake, Running, Script, apply, name};
use super::forwarding::pair;
use super::peers::SOON;
use crate::bucket::BucketLogs;
use crate::logs::LogsOf;
use crate::proto::v1;
use crate::transport::TO_ALL;
use crate::{Alone, ServeOptions, Target};

/// What each answer may have under way to such a caller, in bytes: about a line.
const WINDOW: u32 = 64 << 10;
/// The same for all of them, which is more than they need.
const ALL: u32 = 64 << 20;
/// Streams that nobody reads: so many could fill the window of a connection for calls.
const STREAMS: usize = 330;
/// Answers that nobody reads, and how long each is, in bytes.
const ANSWERS: usize = 40;
const LONG: usize = 1 << 20;
/// Memory for answers on a node that has little, in bytes, and how many of them that is.
pub(super) const LITTLE: usize = 8 << 20;
pub(super) const FEW: usize = 7;
/// What is asked, and answered with what is asked.
const LIST: &str = "/sheaf.v1.BucketService/List";
/// What whoever reaches a node may ask: for one answer, and for a stream.
const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// More answers than anybody may leave unread.
const TOO_MANY: usize = 100;
/// Turns of the runtime in which nothing is printed: whoever prints waits for its readers.
const TURNS: usize = 1000;
/// What somebody reads of an endless stream.
const LINES: usize = 100;

/// A caller's connection, on which none of its answers waits for another.
pub(super) async fn caller(address: &str) -> Channel {
    caller_with(address, WINDOW).await
}

/// The same of one that takes so many bytes of each answer, unless it reads.
async fn caller_with(address: &str, window: u32) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(window).initial_connection_window_size(ALL);
    endpoint.connect().await.unwrap()
}

/// Asks, showing this, and takes the head of the answer alone.
async fn asked(channel: &Channel, path: &str, question: &impl Message, shown: &str) -> Response<Body> {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(question.encoded_len()).unwrap());
    question.encode(&mut framed).unwrap();
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.header("authorization", shown);
    let request = request.body(Body::new(Full::new(framed.freeze()))).unwrap();
    let answer = tokio::time::timeout(SOON, channel.clone().oneshot(request)).await;
    answer.expect("it begins").unwrap()
}

/// The same of what is answered, whoever asks.
async fn ask(channel: &Channel, path: &str, question: &impl Message) -> Response<Body> {
    let answer = asked(channel, path, question, "").await;
    assert!(!answer.headers().contains_key("grpc-status"), "{answer:?}");
    answer
}

/// A question whose answer is as long: it comes back in it.
fn list() -> v1::ListBucketsRequest {
    v1::ListBucketsRequest { filter: format!("state={}", "x".repeat(LONG)), ..Default::default() }
}

/// Answers that nobody reads, until no more are given, for want of room.
pub(super) async fn until_refused(channel: &Channel, shown: &str) -> Vec<Response<Body>> {
    until_no_more(channel, LIST, &list(), shown).await
}

/// The same of such answers.
async fn until_no_more(
    channel: &Channel,
    path: &str,
    question: &impl Message,
    shown: &str,
) -> Vec<Response<Body>> {
    let mut idle = Vec::new();
    for _ in 0..TOO_MANY {
        let answer = asked(channel, path, question, shown).await;
        let Some(refused) = Status::from_header_map(answer.headers()) else {
            idle.push(answer);
            continue;
        };
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        return idle;
    }
    panic!("there is room for {TOO_MANY} answers that nobody reads");
}

/// Whether a probe is answered on that connection.
async fn is_probed(channel: &Channel) -> bool {
    let answer = asked(channel, CHECK, &HealthCheckRequest::default(), "").await;
    !answer.headers().contains_key("grpc-status")
}

/// Waits until it is.
async fn until_probed(channel: &Channel) {
    let begun = Instant::now();
    while !is_probed(channel).await {
        assert!(begun.elapsed() < SOON, "the places are not given back");
    }
}

/// Waits until nobody takes anything more.
async fn settled(fake: &Fake) {
    let (mut seen, mut turns) = (0, 0);
    while turns < TURNS {
        tokio::task::yield_now().await;
        let printed = fake.printed.load(Ordering::Relaxed);
        turns = if printed == seen { turns + 1 } else { 0 };
        seen = printed;
    }
}

/// Somebody else's call, through the same node.
async fn is_answered(node: &Running) {
    let client = node.client().await.with_deadline(SOON);
    let applied = client.apply_bucket(apply(None)).await.expect("it waits for nobody");
    assert_eq!(applied.warnings, ["leader"]);
}

#[tokio::test]
async fn who_does_not_read_its_streams_keeps_nobody_waiting() {
    let (node, leader) = pair().await;
    let caller = caller(&node.address).await;
    let logs = v1::BucketLogsRequest { name: "/logs/web".to_owned(), previous: true, ..Default::default() };
    let mut idle = Vec::new();
    for _ in 0..STREAMS {
        idle.push(ask(&caller, "/sheaf.v1.BucketService/Logs", &logs).await);
    }
    settled(&leader.fake).await;
    is_answered(&node).await;

    // Nor somebody else's streams.
    let of = LogsOf { bucket: name("/logs/web"), follow: false, since: None, tail: None, previous: true };
    let lines = node.client().await.bucket_logs(BucketLogs { of, node: None, after: vec![] }).await.unwrap();
    let read = lines.take(LINES).filter(|line| std::future::ready(line.is_ok())).count();
    assert_eq!(tokio::time::timeout(SOON, read).await.expect("they come"), LINES);
    drop(idle);
}

#[tokio::test]
async fn who_does_not_read_its_answers_keeps_nobody_waiting() {
    let (node, leader) = pair().await;
    let caller = caller(&node.address).await;
    let mut idle = Vec::new();
    for _ in 0..ANSWERS {
        idle.push(ask(&caller, LIST, &list()).await);
    }
    is_answered(&node).await;

    // Nothing of them is on the way any more between the nodes.
    leader.stop().await;
    for answer in idle {
        let read = answer.into_body().collect().await.expect("it is here");
        assert_eq!(read.trailers().and_then(Status::from_header_map).map(|it| it.code()), Some(Code::Ok));
        assert!(read.to_bytes().len() > LONG);
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_take_no_more_memory_than_there_is_for_them() {
    let start = async |name: &str, target: Target| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = ServeOptions { answers: LITTLE, ..ServeOptions::default() };
        Running::listening(listener, name, Script::new([target]), options)
    };
    let leader = start("leader", Target::Local).await;
    let node = start("node", Target::To(Contact::anyone(&leader.address))).await;
    // What comes from elsewhere, and what is answered here.
    for node in [&node, &leader] {
        let caller = caller(&node.address).await;
        let idle = until_refused(&caller, "").await;
        assert_eq!((idle.len(), node.refused.times()), (FEW, 1));
        // A change is answered all the same.
        is_answered(node).await;
        for answer in idle {
            assert!(answer.into_body().collect().await.unwrap().to_bytes().len() > LONG);
        }
        assert_eq!(until_refused(&caller, "").await.len(), FEW, "the room is given back");
    }
}

#[tokio::test]
async fn who_shows_nothing_has_few_answers_on_a_connection_that_it_does_not_take() {
    let node = Running::start("node", Arc::new(Alone)).await;
    // Nothing of an answer is taken, or its first byte, with which the transport takes over all of it.
    for window in [0, 1] {
        let (idler, before) = (caller_with(&node.address, window).await, node.refused.times());
        let idle = until_no_more(&idler, CHECK, &HealthCheckRequest::default(), "").await;
        assert_eq!((idle.len(), node.refused.times()), (TO_ALL, before + 1));
        // What needs more is answered there all the same, and others' probes are, as often as they ask.
        ask(&idler, LIST, &v1::ListBucketsRequest::default()).await;
        let mut probe = HealthClient::new(caller(&node.address).await);
        for _ in 0..4 * TO_ALL {
            probe.check(HealthCheckRequest::default()).await.expect("it takes its answers");
        }
        drop(idle);
        until_probed(&idler).await;
    }
}

#[tokio::test]
async fn streams_that_whoever_asks_may_open_have_their_places_until_all_of_them_is_taken() {
    let node = Running::start("node", Arc::new(Alone)).await;
    let caller = caller_with(&node.address, 1).await;
    let services = reflection::server_reflection_request::MessageRequest::ListServices(String::new());
    let services =
        reflection::ServerReflectionRequest { host: String::new(), message_request: Some(services) };
    let idle = until_no_more(&caller, REFLECT, &services, "").await;
    assert!(idle.len() >= 32, "{}", idle.len());
    assert!(is_probed(&caller).await, "all else is answered");
}

#[tokio::test]
async fn a_question_that_does_not_end_and_needs_nothing_has_its_place_and_is_not_long() {
    let node = Running::start("node", Arc::new(Alone)).await;
    let caller = caller(&node.address).await;
    let mut asking = Vec::new();
    while is_probed(&caller).await {
        assert!(asking.len() < TOO_MANY, "nothing is refused");
        let endless = futures::stream::pending::<Result<Frame<Bytes>, Status>>();
        let request = Request::post(CHECK).header("content-type", "application/grpc");
        let request = request.body(Body::new(StreamBody::new(endless))).unwrap();
        asking.push(tokio::spawn(caller.clone().oneshot(request)));
        // It is on its way before the next probe.
        tokio::task::yield_now().await;
    }
    assert!(asking.len() >= TO_ALL, "{}", asking.len());
    for asking in asking {
        asking.abort();
    }
    until_probed(&caller).await;

    let long = HealthCheckRequest { service: "x".repeat(10_000) };
    let refused = asked(&caller, CHECK, &long, "").await;
    let refused = Status::from_header_map(refused.headers()).expect("it is no name");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}
