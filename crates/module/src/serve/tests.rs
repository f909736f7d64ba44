//! Both sides over a real socket.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Mutex;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use super::*;
use crate::host::{CallError, ContextServer, Host};
use crate::proto::module_service_server::SERVICE_NAME;
use crate::{Bucket, ContextError, Instance, Node};

/// Does what the bucket's name says.
#[derive(Default)]
struct Named {
    context: Mutex<Option<Context>>,
}

impl Module for Named {
    async fn can_run_on_this_node(&self, bucket: Bucket, node: Node) -> Result<CanRun, Failure> {
        match bucket.name.as_str() {
            "/no" => Ok(CanRun::No(format!("not on {}", node.name))),
            "/silent-no" => Ok(CanRun::No(String::new())),
            "/wordy" => Ok(CanRun::No("ä".repeat(5000))),
            "/fails" => bucket.config::<Vec<u8>>().map(|_| CanRun::Yes),
            "/panics" => panic!("out of {}", "luck"),
            _ => Ok(CanRun::Yes),
        }
    }

    async fn on_init(&self, context: Context) -> Result<(), Failure> {
        *self.context.lock().unwrap() = Some(context);
        Ok(())
    }

    async fn on_new_source(&self, bucket: Bucket) -> Result<(), Failure> {
        let context = self.context.lock().unwrap().clone().ok_or("no context")?;
        context.set_status(format!("epoch\n{:?} of {}", context.instance().epoch, bucket.name)).await?;
        match context.set_status("x".repeat(501)).await {
            Err(ContextError::Refused { refused, .. }) => Err(Failure::new(refused.text)),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    }
}

async fn connect(socket: &Path) -> Host {
    while tokio::net::UnixStream::connect(socket).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Host::connect(socket).await.unwrap()
}

fn bucket(name: &str) -> Bucket {
    Bucket { name: name.to_owned(), config_json: r#"{"a":1}"#.to_owned(), ..Bucket::default() }
}

#[tokio::test]
async fn calls_are_answered_and_failures_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("m");
    let mut tasks = JoinSet::new();
    let at = socket.clone();
    tasks.spawn(async move { drop(serve_at(Named::default(), at, None).await) });
    let host = connect(&socket).await;
    host.hello("test").await.unwrap();
    let ask = async |name: &str| {
        let node = Node { name: "n1".to_owned(), ..Node::default() };
        host.can_run_on_this_node(bucket(name), node).await
    };
    assert_eq!(ask("/yes").await, Ok(CanRun::Yes));
    assert_eq!(ask("/no").await, Ok(CanRun::No("not on n1".to_owned())));
    assert_eq!(ask("/silent-no").await, Ok(CanRun::No("the module says no, and not why".to_owned())));
    let Ok(CanRun::No(wordy)) = ask("/wordy").await else { panic!() };
    assert_eq!(wordy.chars().count(), 1001);
    let error = ask("/fails").await.unwrap_err().to_string();
    assert!(error.starts_with("CanRunOnThisNode: config of /fails: invalid type: map"), "{error}");
    let error = ask("/panics").await.unwrap_err().to_string();
    assert_eq!(error, "CanRunOnThisNode: it panicked: out of luck");
    assert_eq!(ask("/yes").await, Ok(CanRun::Yes), "a panic harms that call alone");
}

#[tokio::test]
async fn a_process_knows_itself_and_says_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, context) = (dir.path().join("m"), dir.path().join("c"));
    let instance = Instance { epoch: Some(7), dir: dir.path().to_owned(), ..Instance::default() };
    let (server, mut said) = ContextServer::new(instance.clone(), dir.path().join("nobody"));
    let listener = UnixListener::bind(&context).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(server.serve(listener).await) });
    let at = socket.clone();
    tasks.spawn(async move { drop(serve_at(Named::default(), at, Some(context)).await) });
    let host = connect(&socket).await;
    let error = host.on_new_source(bucket("/early")).await.unwrap_err().to_string();
    assert_eq!(error, "OnNewSource: no context");
    host.on_init(instance).await.unwrap();
    let error = host.on_new_source(bucket("/a")).await.unwrap_err().to_string();
    assert_eq!(error, "OnNewSource: the line has 501 bytes; at most 500 are shown");
    assert_eq!(said.borrow_and_update().status, "epoch Some(7) of /a");
    host.on_stop().await.unwrap();
}

#[tokio::test]
async fn garbage_and_silence_are_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("m");
    assert!(matches!(Host::connect(&socket).await, Err(CallError::Broken { .. })), "nobody listens");
    for text in ["HTTP/1.1 200 OK\r\n\r\n", "", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut talking = JoinSet::new();
        talking.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        let host = Host::connect(&socket).await.unwrap();
        let error = host.hello("test").await.unwrap_err();
        assert!(
            matches!(&error, CallError::Broken { call: "Hello", reason } if !reason.is_empty()),
            "{error}"
        );
    }
}

/// A module in bare HTTP/2 that begins each call and never answers it. Who looks on gets what ends with the call.
#[derive(Clone)]
struct Waiting(mpsc::Sender<oneshot::Receiver<()>>);

impl NamedService for Waiting {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for Waiting {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let begun = self.0.clone();
        Box::pin(async move {
            let (_held, ends) = oneshot::channel();
            begun.send(ends).await.unwrap();
            std::future::pending::<Result<Self::Response, Infallible>>().await
        })
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled_in_the_modules_process() {
    const SOON: Duration = Duration::from_secs(10);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("m");
    let (begun, mut calls) = mpsc::channel(1);
    let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        drop(Server::builder().add_service(Waiting(begun)).serve_with_incoming(listener).await);
    });
    let host = Host::connect(&socket).await.unwrap();
    // The second one shows that the first took nothing else with it.
    for _ in 0..2 {
        let ends = tokio::select! {
            answer = host.on_periodic_poll(bucket("/a")) => panic!("nobody answers: {answer:?}"),
            call = calls.recv() => call.unwrap(),
        };
        // The call was dropped with the choice, and here is dropped what it holds.
        assert!(timeout(SOON, ends).await.unwrap().is_err());
    }
}
