//! Messages that no client of ours would send.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::fake::Running;
use crate::Alone;
use crate::error::from_status;
use crate::proto::v1;
use crate::proto::v1::bucket_service_client::BucketServiceClient;
use crate::server::MESSAGE_MAX;

async fn connect(node: &Running) -> BucketServiceClient<Channel> {
    let channel = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    BucketServiceClient::new(channel)
}

fn good() -> v1::ApplyBucketRequest {
    let bucket =
        v1::BucketSpec { name: "/a".to_owned(), module: "m".to_owned(), ..v1::BucketSpec::default() };
    v1::ApplyBucketRequest { bucket: Some(bucket), ..v1::ApplyBucketRequest::default() }
}

async fn refused(request: impl tonic::IntoRequest<v1::ApplyBucketRequest>) -> Status {
    let node = Running::start("node", Arc::new(Alone)).await;
    let status = connect(&node).await.apply(request).await.unwrap_err();
    assert!(node.fake.callers.lock().unwrap().is_empty(), "nobody was asked");
    status
}

#[tokio::test]
async fn an_empty_message() {
    let status = refused(v1::ApplyBucketRequest::default()).await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "bucket: missing; a BucketSpec"));
}

#[tokio::test]
async fn a_wrong_enum() {
    let mut message = good();
    message.bucket.as_mut().unwrap().r#type = 42;
    let status = refused(message).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("type: 42 has no meaning; 1 (harvest) or 2 (analytic)"), "{status}");
}

#[tokio::test]
async fn a_long_request_id_and_two_that_differ() {
    let status = refused(v1::ApplyBucketRequest { request_id: "x".repeat(1000), ..good() }).await;
    assert!(status.message().contains("1000 bytes"), "{status}");
    let mut request = Request::new(v1::ApplyBucketRequest { request_id: "a".to_owned(), ..good() });
    request.metadata_mut().insert("sheaf-request-id", MetadataValue::from_static("b"));
    let status = refused(request).await;
    assert!(status.message().contains("the same in both"), "{status}");
}

#[tokio::test]
async fn metadata_that_makes_no_sense() {
    for (key, value) in [("sheaf-revision", "seven"), ("sheaf-actor", "é"), ("sheaf-actor", &"x".repeat(500))]
    {
        let mut request = Request::new(good());
        let value = MetadataValue::try_from(Bytes::from(value.to_owned())).unwrap();
        request.metadata_mut().insert(key, value);
        let status = refused(request).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{key}");
        assert!(status.message().starts_with(key), "{status}");
    }
}

#[tokio::test]
async fn a_huge_message() {
    let mut message = good();
    message.bucket.as_mut().unwrap().owner = Some("x".repeat(MESSAGE_MAX));
    let status = refused(message).await;
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
}

#[tokio::test]
async fn a_large_message_is_read_in_pieces() {
    let node = Running::start("node", Arc::new(Alone)).await;
    let mut message = good();
    message.bucket.as_mut().unwrap().owner = Some("x".repeat(5 << 20));
    let status = connect(&node).await.apply(message).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "read as a whole, and judged: {status}");
}

/// A message of `bytes` with its frame.
fn framed(bytes: &[u8]) -> tonic::body::Body {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(bytes);
    tonic::body::Body::new(http_body_util::Full::new(Bytes::from(frame)))
}

async fn raw(node: &Running, path: &str, body: tonic::body::Body) -> Status {
    use tower::ServiceExt as _;
    let channel = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    let request = http::Request::post(path).header("content-type", "application/grpc").body(body).unwrap();
    let response = channel.oneshot(request).await.unwrap();
    Status::from_header_map(response.headers()).expect("an error")
}

#[tokio::test]
async fn bytes_that_are_no_message() {
    let node = Running::start("node", Arc::new(Alone)).await;
    let path = "/sheaf.v1.BucketService/Apply";
    let status = raw(&node, path, framed(&[0xff; 40])).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("ApplyBucketRequest"), "{status}");
    // Deeper than any document.
    let mut value = prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) };
    for _ in 0..200 {
        let list = prost_types::ListValue { values: vec![value] };
        value = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(list)) };
    }
    let mut message = good();
    let config = prost_types::Struct { fields: [("a".to_owned(), value)].into() };
    message.bucket.as_mut().unwrap().config = Some(config);
    let status = raw(&node, path, framed(&message.encode_to_vec())).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = raw(&node, path, tonic::body::Body::empty()).await;
    assert_ne!(status.code(), Code::Ok, "nothing at all");
}

#[tokio::test]
async fn a_call_that_does_not_exist() {
    let node = Running::start("node", Arc::new(Alone)).await;
    for path in ["/sheaf.v1.BucketService/Fly", "/sheaf.v9.BucketService/Apply", "/", "/x"] {
        let status = raw(&node, path, framed(&[])).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
        assert!(matches!(from_status("a:1", &status), crate::ApiError::Unimplemented(_)));
    }
}
