//! The whole of it over a socket, with nobody behind, or hardly anybody.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sheaf_wire::Client;
use sheaf_wire::inward::Inward;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Samples, Source};
use crate::{Limits, Options, Web};

struct Nothing;

impl Source for Nothing {
    fn collect<'a>(&'a self, samples: &'a mut Samples) -> BoxFuture<'a, ()> {
        samples.gauge("sheaf_test", "A test.", &[], 1.0);
        Box::pin(async {})
    }
}

mod streams;
mod tls;

/// A dashboard of a node whose gRPC port nobody serves.
struct Served {
    address: String,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn with(limits: Limits) -> Self {
        Self::of(None, limits, None).await
    }

    async fn over(tls: Option<Inward>, limits: Limits) -> Self {
        Self::of(tls, limits, None).await
    }

    /// Of a node that waits for this.
    async fn of(tls: Option<Inward>, limits: Limits, awaits: Option<&'static str>) -> Self {
        let nobody =
            TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("it is bound");
        Self::asking(&nobody.to_string(), tls, limits, awaits).await
    }

    /// Of a node whose gRPC port is this.
    async fn asking(node: &str, tls: Option<Inward>, limits: Limits, awaits: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let client = Client::lazy(node, sheaf_wire::Options::default()).expect("an address");
        let options = Options {
            node: "n1".to_owned(),
            hosts: Vec::new(),
            secured: tls.is_some(),
            strict_transport: tls.as_ref().map(|_| Duration::from_secs(7)),
            limits,
        };
        let web = Web::new(options, client, Metrics::silent(Arc::new(Nothing)));
        let mut web = web.awaiting(move || awaits.map(str::to_owned));
        if let Some(tls) = tls {
            web = web.over(tls);
        }
        let stop = CancellationToken::new();
        let serving = tokio::spawn(web.serve(listener, stop.clone()));
        Self { address, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.expect("it listens")
    }

    /// What is answered to a request, which ends with its connection.
    async fn ask(&self, head: &str, body: &str) -> String {
        self.ask_over(self.connect().await, head, body).await
    }

    async fn ask_over<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        head: &str,
        body: &str,
    ) -> String {
        let host = if head.contains("host:") { String::new() } else { format!("host: {}\r\n", self.address) };
        let length = body.len();
        let text = format!("{head}\r\n{host}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.expect("it reads");
        read(&mut stream).await
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.serving)
            .await
            .expect("it ends in time")
            .expect("it does not panic")
            .expect("it served");
    }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes));
    // One that is cut off has said what it said.
    let _ = reading.await.expect("the connection ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn pages_health_and_metrics_are_answered_and_the_policy_is_strict() {
    let served = Served::with(Limits::default()).await;
    let page = served.ask("GET / HTTP/1.1", "").await;
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("default-src 'none'; script-src 'self'"),
        "{page}"
    );
    assert!(page.contains("<script type=\"module\" src=\"/assets/app.js\">"), "{page}");
    assert!(served.ask("GET /healthz HTTP/1.1", "").await.ends_with("ok\n"));
    let ready = served.ask("GET /readyz HTTP/1.1", "").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"ready\":false"), "{ready}");
    let metrics = served.ask("GET /metrics HTTP/1.1\r\nhost: elsewhere", "").await;
    assert!(metrics.contains("\nsheaf_test 1\n") && metrics.contains("\nprocess_open_fds "), "{metrics}");
    let missing = served.ask("GET /assets/..%2f..%2fCargo.toml HTTP/1.1", "").await;
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("not_found"), "{missing}");
    served.end().await;
}

#[tokio::test]
async fn a_node_that_may_not_ask_yet_says_what_it_waits_for() {
    let served = Served::of(None, Limits::default(), Some("this node joins: nobody answers")).await;
    for path in ["/readyz", "/api/v1/session", "/api/v1/node/list", "/api/v1/events"] {
        let answer = served.ask(&format!("GET {path} HTTP/1.1"), "").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{path}: {answer}");
        assert!(answer.contains("this node joins: nobody answers"), "{path}: {answer}");
    }
    for path in ["/", "/healthz", "/metrics"] {
        let answer = served.ask(&format!("GET {path} HTTP/1.1"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    served.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_said() {
    let served = Served::with(Limits::default()).await;
    for (path, expected) in [
        ("node/list?limt=5", "limt: unknown parameter; did you mean limit?"),
        ("node/list?limit=0", "limit: 0 rows; from 1 to 1000"),
        ("node/list?limit=x", "limit: "),
        ("node/list?limit=1&limit=2", "limit: given twice"),
        ("bucket/status", "name: is missing"),
        ("bucket/status?name=web", "name: "),
        ("job/subtasks?name=a&state=flying", "state: unknown state"),
        ("bucket/list?filter=running", "filter: "),
        ("node/matrix?limit=201", "limit: 201"),
        ("overview?brief=true", "brief: unknown parameter; this call takes none"),
    ] {
        let answer = served.ask(&format!("GET /api/v1/{path} HTTP/1.1"), "").await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(expected), "{path}: {answer}");
    }
    let unreachable = served.ask("GET /api/v1/cluster/status HTTP/1.1", "").await;
    assert!(unreachable.starts_with("HTTP/1.1 503"), "{unreachable}");
    served.end().await;
}

#[tokio::test]
async fn script_in_a_question_comes_back_as_data_that_no_browser_runs() {
    const EVIL: &str = "<script>alert(1)</script>";
    const CODED: &str = "%3Cscript%3Ealert(1)%3C/script%3E";
    let served = Served::with(Limits::default()).await;
    let questions = [
        format!("GET /{CODED} HTTP/1.1"),
        format!("GET /assets/{CODED} HTTP/1.1"),
        format!("GET /api/v1/{CODED} HTTP/1.1"),
        format!("GET /api/v1/node/list?{CODED}=1 HTTP/1.1"),
        format!("GET /api/v1/node/list?limit={CODED} HTTP/1.1"),
        format!("GET /api/v1/bucket/status?name={CODED} HTTP/1.1"),
        format!("GET /api/v1/bucket/list?filter={CODED} HTTP/1.1"),
        format!("GET /api/v1/node/list HTTP/1.1\r\nhost: {EVIL}"),
        format!("GET /api/v1/node/list HTTP/1.1\r\norigin: http://{EVIL}"),
    ];
    for question in questions {
        let answer = served.ask(&question, "").await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 4"), "{question}: {answer}");
        for line in ["content-type: application/json", "x-content-type-options: nosniff"] {
            assert!(head.contains(line), "{question}: {answer}");
        }
        assert!(head.contains("script-src 'self';") && !head.contains("unsafe"), "{answer}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{question}: {answer}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_or_is_too_long_is_not_waited_for() {
    let limits = Limits { body_within: Duration::from_millis(300), ..Limits::default() };
    let served = Served::with(limits).await;
    let entered = served.ask("GET /api/v1/session HTTP/1.1", "").await;
    let cookie =
        entered.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next()).expect("a cookie");
    let token = entered.split("\"csrf\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    for (length, why) in [(100, "did not arrive in time"), (1_u64 << 30, "too long")] {
        let mut stream = served.connect().await;
        let head = format!(
            "POST /api/v1/node/undrain HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             cookie: {cookie}\r\nsheaf-csrf: {token}\r\ncontent-length: {length}\r\n\r\n{{",
            served.address
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let answer = read(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(why), "{answer}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_change_needs_a_page_of_this_node() {
    let served = Served::with(Limits { body: 1000, ..Limits::default() }).await;
    let entered = served.ask("GET /api/v1/session HTTP/1.1", "").await;
    let cookie =
        entered.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next()).expect("a cookie");
    let token = entered.split("\"csrf\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let json = "content-type: application/json";
    let post = "POST /api/v1/node/undrain HTTP/1.1";
    let body = "{\"node\":\"n1\"}";
    let own = format!("cookie: {cookie}\r\nsheaf-csrf: {token}");
    let cases = [
        (format!("{post}\r\n{json}"), body, "403"),
        (format!("{post}\r\n{json}\r\ncookie: {cookie}"), body, "403"),
        (format!("{post}\r\n{json}\r\n{own}x"), body, "403"),
        (format!("{post}\r\n{json}\r\n{own}\r\norigin: http://elsewhere"), body, "403"),
        (format!("{post}\r\n{json}\r\n{own}\r\nhost: elsewhere"), body, "403"),
        (format!("{post}\r\ncontent-type: text/plain\r\n{own}"), body, "400"),
        (format!("{post}\r\n{json}\r\n{own}"), "{\"node\":1}", "400"),
        (format!("{post}\r\n{json}\r\n{own}"), "{\"node\":\"n1\",\"x\":1}", "400"),
        (format!("GET /api/v1/node/undrain HTTP/1.1\r\n{own}"), "", "405"),
        // All is right, and nobody is there to do it.
        (format!("{post}\r\n{json}\r\n{own}"), body, "503"),
    ];
    for (head, body, status) in cases {
        let answer = served.ask(&head, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
    let long = format!("{{\"node\":\"{}\"}}", "n".repeat(2000));
    let answer = served.ask(&format!("{post}\r\n{json}\r\n{own}"), &long).await;
    assert!(answer.contains("too long"), "{answer}");
    served.end().await;
}

#[tokio::test]
async fn a_client_that_dawdles_is_cut_off_and_so_are_too_many() {
    let limits = Limits { connections: 3, head_within: Duration::from_millis(300), ..Limits::default() };
    let served = Served::with(limits).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut stream = served.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await.expect("it reads");
        slow.push(stream);
    }
    let mut last = served.connect().await;
    assert!(read(&mut last).await.starts_with("HTTP/1.1 503"), "one too many is told so");
    for stream in &mut slow {
        assert!(!read(stream).await.contains("200"), "its head never came");
    }
    assert!(served.ask("GET /healthz HTTP/1.1", "").await.ends_with("ok\n"), "there is room again");
    served.end().await;
}

#[tokio::test]
async fn streams_say_what_troubles_them() {
    let served = Served::with(Limits { streams: 1, ..Limits::default() }).await;
    for path in ["events", "changes"] {
        let troubled = served.ask(&format!("GET /api/v1/{path} HTTP/1.1"), "").await;
        assert!(troubled.contains("text/event-stream") && troubled.contains("event: ready"), "{troubled}");
        assert!(
            troubled.contains("event: trouble\ndata: {\"error\":{\"code\":\"unavailable\""),
            "{troubled}"
        );
        assert!(!troubled.contains("event: end"), "it is asked again: {troubled}");
    }
    served.end().await;
}
