//! What every server offers beside its services, and how it ends.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use sheaf_model::Revision;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::fake::{Running, Script, apply, name};
use crate::bucket::{BucketLogs, ListBuckets, OnBucket};
use crate::logs::LogsOf;
use crate::{Alone, ApiError, Filter, PageOf, ServeOptions, Target};

async fn channel(running: &Running) -> Channel {
    Endpoint::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn reflection_lists_the_public_services_in_both_versions() {
    let node = Running::start("node", std::sync::Arc::new(Alone)).await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(&node).await);
    let ask = |message| v1::ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let file =
        v1::server_reflection_request::MessageRequest::FileContainingSymbol("sheaf.v1.BucketSpec".to_owned());
    let asked = tokio_stream::iter([ask(list), ask(file)]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("a list, not {answer:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"sheaf.v1.BucketService".to_owned()), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("peer")), "{names:?}");
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, v1::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));

    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&node).await);
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut answers = old.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}

#[tokio::test]
async fn health_is_served_for_the_node_and_each_service() {
    let node = Running::start("node", std::sync::Arc::new(Alone)).await;
    let mut client = HealthClient::new(channel(&node).await);
    for service in ["", "sheaf.v1.BucketService"] {
        let request = Request::new(HealthCheckRequest { service: service.to_owned() });
        assert_eq!(client.check(request).await.unwrap().into_inner().status, 1, "{service}");
    }
}

#[tokio::test]
async fn pages_and_filters_arrive_as_asked() {
    let node = Running::start("node", std::sync::Arc::new(Alone)).await;
    let client = node.client().await;
    let filter = Filter::default().with("state", "running").with("label.team", "web");
    let page = client.list_buckets(ListBuckets { filter, ..ListBuckets::default() }).await.unwrap();
    assert_eq!(page.next, "1000 state=running,label.team=web");
    let much = ListBuckets { page: PageOf { size: 1001, token: String::new() }, ..ListBuckets::default() };
    let error = client.list_buckets(much).await.unwrap_err();
    assert!(matches!(&error, ApiError::Invalid(d) if d[0].path == "page_size"), "{error:?}");
    let base = Some(Revision(4));
    let done = client.suspend_bucket(OnBucket { bucket: name("/a"), base, request: None }).await.unwrap();
    assert_eq!((done.revision, done.unchanged), (Revision(4), true));
}

#[tokio::test]
async fn more_calls_than_the_limit_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ServeOptions { calls: 1, ..ServeOptions::default() };
    let route = Script::new([Target::Unavailable("electing".to_owned())]);
    let node = Running::listening(listener, "node", route.clone(), options);
    let client = node.client().await.with_deadline(Duration::from_millis(500));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.apply_bucket(apply(None)).await }
    });
    while route.asked.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.refused.times(), 0);
    let error = client.apply_bucket(apply(None)).await.unwrap_err();
    assert!(matches!(error, ApiError::Busy(_)), "{error:?}");
    assert_eq!(node.refused.times(), 1);
    assert!(waiting.await.unwrap().is_err());
}

/// Whether the other end closes a connection on which only this was said.
async fn is_closed(mut stream: TcpStream, said: &[u8]) -> bool {
    // It may be closed already.
    let _ = stream.write_all(said).await;
    let read = tokio::time::timeout(Duration::from_secs(10), async {
        while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
    });
    read.await.is_ok()
}

async fn limited(connections: usize, silent: Duration) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ServeOptions { connections, silent, ..ServeOptions::default() };
    Running::listening(listener, "node", std::sync::Arc::new(Alone), options)
}

#[tokio::test]
async fn who_says_nothing_or_not_enough_is_cut_off() {
    let node = limited(100, Duration::from_millis(200)).await;
    for said in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\n"] {
        let stream = TcpStream::connect(&node.address).await.unwrap();
        assert!(is_closed(stream, said).await, "{said:?}");
    }
    // Who has said what it wants may take its time.
    let client = node.client().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.list_buckets(ListBuckets::default()).await.expect("the connection is there");
}

#[tokio::test]
async fn connections_too_many_are_closed_and_there_is_room_again() {
    let node = limited(3, Duration::from_secs(60)).await;
    let client = node.client().await;
    client.list_buckets(ListBuckets::default()).await.unwrap();
    let mut silent = Vec::new();
    while node.refused.times() == 0 {
        assert!(silent.len() < 100, "nothing is refused");
        silent.push(TcpStream::connect(&node.address).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(silent.len() >= 3, "{} and the client's", silent.len());
    assert!(is_closed(silent.pop().unwrap(), b"").await);
    client.list_buckets(ListBuckets::default()).await.expect("who was there is not disturbed");
    drop(silent);
    let begun = Instant::now();
    loop {
        let client = crate::Client::connect(&node.address, crate::Options::default()).await;
        if let Ok(client) = client
            && client.list_buckets(ListBuckets::default()).await.is_ok()
        {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the places are not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_whoever_may_open_is_opened_so_often_at_most() {
    let node = Running::start("node", std::sync::Arc::new(Alone)).await;
    let mut client = HealthClient::new(channel(&node).await);
    let mut watches = Vec::new();
    let refused = loop {
        assert!(watches.len() < 10_000, "nothing is refused");
        match client.watch(HealthCheckRequest { service: String::new() }).await {
            Ok(watch) => watches.push(watch),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(watches.len() >= 32, "{}", watches.len());
    client
        .check(HealthCheckRequest { service: String::new() })
        .await
        .expect("it is not kept from anything else");
}

#[tokio::test]
async fn a_node_that_stops_ends_its_streams_and_frees_its_port() {
    let node = Running::start("node", std::sync::Arc::new(Alone)).await;
    let of = LogsOf { bucket: name("/a"), follow: true, since: None, tail: None, previous: false };
    let client = node.client().await;
    let mut lines = client.bucket_logs(BucketLogs { of, node: None, after: vec![] }).await.unwrap();
    lines.next().await.unwrap().unwrap();
    let begun = Instant::now();
    let address = node.address.clone();
    node.stop().await;
    assert!(begun.elapsed() < ServeOptions::default().grace, "streams do not hold it up");
    let last = lines.skip(1).next().await.unwrap();
    assert!(matches!(last, Err(ApiError::Unavailable { .. })), "{last:?}");
    TcpListener::bind(&address).await.expect("the port is free");
    let error = client.apply_bucket(apply(None)).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_address() {
    let address = super::fake::nobody().await;
    let error = crate::Client::connect(&address, crate::Options::default()).await.unwrap_err();
    assert!(matches!(&error, ApiError::Unreachable { address: at, .. } if *at == address), "{error:?}");
}
