//! Streams of a node where nothing happens: they stay; and of one where something does.

use futures::StreamExt as _;
use futures::stream;
use sheaf_model::{Event, Revision, Timestamp};
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

/// Where something happens in every revision: two things are told behind any place, seven is the first that is new.
struct Busy;

#[async_trait]
impl EventApi for Busy {
    async fn list(&self, _: Caller, _: ListEvents) -> Result<EventPage, ApiError> {
        Ok(EventPage::default())
    }

    async fn watch(&self, _: Caller, ask: WatchEvents) -> Result<Answers<Event>, ApiError> {
        let first = ask.after.map_or(7, |after| after.revision.0 + 1);
        let told = [first, first + 1].map(|revision| Ok(event(revision)));
        Ok(stream::iter(told).chain(stream::pending()).boxed())
    }
}

fn event(revision: u64) -> Event {
    Event {
        revision: Revision(revision),
        n: 0,
        step: None,
        at: Timestamp(0),
        kind: "bucket.updated".to_owned(),
        subject: "/logs/web".to_owned(),
        actor: "cli:alice".to_owned(),
        node: String::new(),
        before: String::new(),
        after: String::new(),
        message: String::new(),
    }
}

/// A node's gRPC port, which ends with what is returned.
async fn node(events: Arc<dyn EventApi>) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = listener.local_addr().expect("it is bound").to_string();
    let for_ever = std::future::pending();
    let answering =
        Server::new().events(events).serve(listener, Arc::new(Alone), ServeOptions::default(), for_ever);
    let answering = async { answering.await.expect("it can serve") };
    (node, AbortOnDropHandle::new(tokio::spawn(answering)))
}

/// The head of what is answered, and the connection on which more may come.
async fn open(served: &Served) -> (String, TcpStream) {
    follow(served, "", "", "event: ready").await
}

/// What is said until something is; `more` are further lines of the question's head, each with its end.
async fn follow(served: &Served, query: &str, more: &str, until: &str) -> (String, TcpStream) {
    let mut stream = served.connect().await;
    let ask = format!("GET /api/v1/events{query} HTTP/1.1\r\nhost: {}\r\n{more}\r\n", served.address);
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut said = String::new();
    while !(said.contains(until) || said.contains("\"error\"")) {
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
    let (node, _answering) = node(Arc::new(Quiet)).await;
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

#[tokio::test]
async fn what_happens_is_told_and_a_browser_that_comes_again_goes_on_where_it_was() {
    let (node, _answering) = node(Arc::new(Busy)).await;
    let served = Served::asking(&node, None, Limits::default(), None).await;
    let (said, first) = follow(&served, "", "", "id: 8.0\n").await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("event: ready"), "{said}");
    assert!(said.contains("id: 7.0\nevent: event\ndata: {") && said.contains("\"bucket.updated\""), "{said}");
    // Browsers ask as at first, and say what they heard last: that counts.
    let (said, again) = follow(&served, "?after=3", "last-event-id: 8.0\r\n", "id: 10.0\n").await;
    assert!(said.contains("id: 9.0\n") && !said.contains("id: 4.0\n"), "{said}");
    drop((first, again));
    served.end().await;
}
