//! Streams of a node where nothing happens: they stay.

use futures::StreamExt as _;
use futures::stream;
use sheaf_model::Event;
use sheaf_wire::event::{EventApi, EventPage, ListEvents, WatchEvents};
use sheaf_wire::{Alone, Answers, ApiError, Caller, ServeOptions, Server, async_trait};
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// Where nothing happens.
struct Quiet;

#[async_trait]
impl EventApi for Quiet {
    async fn list(&self, _: Caller, _: ListEvents) -> Result<EventPage, ApiError> {
        Ok(EventPage::default())
    }

    async fn watch(&self, _: Caller, _: WatchEvents) -> Result<Answers<Event>, ApiError> {
        Ok(stream::pending().boxed())
    }
}

/// The head of what is answered, and the connection on which more may come.
async fn open(served: &Served) -> (String, TcpStream) {
    let mut stream = served.connect().await;
    let ask = format!("GET /api/v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", served.address);
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut said = String::new();
    while !(said.contains("event: ready") || said.contains("\"error\"")) {
        let mut bytes = [0; 4096];
        let reading = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes));
        let count = reading.await.expect("it answers").expect("it can be read");
        assert!(count > 0, "it ended: {said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    (said, stream)
}

#[tokio::test]
async fn streams_are_so_many_at_most_and_end_with_the_node() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = listener.local_addr().expect("it is bound").to_string();
    let server = Server::new().events(Arc::new(Quiet));
    let for_ever = std::future::pending();
    let answering = server.serve(listener, Arc::new(Alone), ServeOptions::default(), for_ever);
    let _answering = AbortOnDropHandle::new(tokio::spawn(answering));
    let limits = Limits { streams: 2, ..Limits::default() };
    let served = Served::asking(&node, None, limits, None).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let (said, stream) = open(&served).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        held.push(stream);
    }
    let metrics = served.ask("GET /metrics HTTP/1.1", "").await;
    assert!(metrics.contains("\nsheaf_http_streams 2\n"), "{metrics}");
    let (refused, _) = open(&served).await;
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("2 live streams are open"), "{refused}");
    assert!(served.ask("GET /healthz HTTP/1.1", "").await.ends_with("ok\n"), "all else is answered");
    // Whoever goes makes room.
    held.pop();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let again = loop {
        let (said, stream) = open(&served).await;
        if said.starts_with("HTTP/1.1 200") {
            break stream;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the place of one that went is not given back: {said}"
        );
        tokio::task::yield_now().await;
    };
    held.push(again);
    served.end().await;
    for stream in &mut held {
        read(stream).await;
    }
}
