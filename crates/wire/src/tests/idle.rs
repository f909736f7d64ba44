//! Callers that take nothing of what they have asked for.

use std::sync::atomic::Ordering;

use bytes::{BufMut as _, BytesMut};
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use sheaf_model::Contact;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::fake::{Fake, Running, Script, apply, name};
use super::forwarding::pair;
use super::peers::SOON;
use crate::bucket::BucketLogs;
use crate::logs::LogsOf;
use crate::proto::v1;
use crate::{ServeOptions, Target};

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
/// Turns of the runtime in which nothing is printed: whoever prints waits for its readers.
const TURNS: usize = 1000;
/// What somebody reads of an endless stream.
const LINES: usize = 100;

/// A caller's connection, on which none of its answers waits for another.
pub(super) async fn caller(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(ALL);
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
    let mut idle = Vec::new();
    for _ in 0..ANSWERS {
        let answer = asked(channel, LIST, &list(), shown).await;
        let Some(refused) = Status::from_header_map(answer.headers()) else {
            idle.push(answer);
            continue;
        };
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        return idle;
    }
    panic!("there is room for {ANSWERS} answers that nobody reads");
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
