//! Far more, far slower and far longer than anybody asks: an agent stays of use, and what it takes of its machine is bounded.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::module;
use sheaf_tests::{Agent, Cases, Cluster, dashboard, need, wait_for};
use sheaf_wire::{Client, Options};
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::codegen::{Service as _, http};
use tonic::transport::Endpoint;

/// Connections opened at once, if this process may have so many files.
const CONNECTIONS: u64 = 10_000;
/// Places at the dashboard's port, and connections that are tried there.
const PLACES: usize = 1024;
const VISITORS: u64 = 2 * PLACES as u64;
/// Files of this process beside those.
pub(crate) const OTHER_FILES: u64 = 500;
/// An agent has no more files open: it takes 4,096 connections at most, and half of the files that it may have.
const FILES_MAX: usize = 4096 + 1024;
/// It takes no more memory than before, beside this; in KiB.
pub(crate) const MEMORY_MAX: u64 = 256 << 10;
/// A request of a gigabyte.
const HUGE: u64 = 1 << 30;
/// So much of it may have gone before it is refused: what sockets and windows hold, and a message of the longest kind.
pub(crate) const TAKEN_MAX: u64 = 64 << 20;
/// A change, by gRPC.
pub(crate) const APPLY: &str = "/sheaf.v1.BucketService/Apply";
/// For an answer to somebody who does nothing wrong.
const AT_ONCE: Duration = Duration::from_secs(5);

/// One agent; nothing of it is secured, so that nobody is sent away for who he is. It logs for programs.
pub(crate) fn cluster() -> Cluster {
    Cluster::start_with(1, |_, plan| plan.args = ["--log-format", "json"].map(str::to_owned).into())
}

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cluster.apply(&module("steady", ""));
    let scene = Scene::of(cluster);
    cases.run("thousands of connections that say nothing", || scene.connections());
    cases.run("more connections to the dashboard than it has places", || scene.visitors());
    // They are cut off after a while; others go on meanwhile.
    let mut slow = None;
    cases.run("clients that never get to the point, as they come", || slow = Some(scene.slow()));
    cases.run("a request of a gigabyte to the gRPC port", || scene.huge_call());
    cases.run("a request of a gigabyte to the dashboard", || scene.huge_post());
    cases.run("clients that never get to the point", || scene.cut_off(slow.expect("they came")));
    cases.run("each line that it has logged by then is an object", || scene.log());
}

/// Clients that never get to the point.
struct Slow {
    streams: Vec<TcpStream>,
    since: Instant,
}

struct Scene<'a> {
    agent: &'a Agent,
    runtime: Runtime,
    /// Somebody who was there before.
    client: Client,
    pid: u32,
}

impl<'a> Scene<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let agent = cluster.agent(1);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let client = {
            let _within = runtime.enter();
            Client::lazy(&agent.address(), Options::default()).expect("an agent's address is one")
        };
        Self { agent, runtime, client, pid: agent.pid() }
    }

    /// Asks on the connection of before; how long the answer took.
    fn asks(&self) -> Duration {
        let begun = Instant::now();
        let answer = self.runtime.block_on(self.client.members());
        answer.unwrap_or_else(|error| panic!("somebody who was there before is answered: {error}"));
        begun.elapsed()
    }

    fn files(&self) -> usize {
        files(self.pid)
    }

    fn memory(&self, key: &str) -> u64 {
        memory(self.pid, key)
    }

    /// It is the process that it was, nothing in it has failed, and whoever comes now is answered.
    fn is_well(&self) {
        self.agent.cli(&["cluster", "status"]).ok();
        let (head, _) = dashboard::ask(self.agent, "GET", "/healthz", "", "");
        assert!(head.contains("200 OK"), "{head}");
        assert_eq!(self.agent.pid(), self.pid);
        assert!(!self.agent.log().contains("panicked"), "{}", self.agent.log_tail());
    }

    fn connections(&self) {
        let former = getrlimit(Resource::Nofile);
        let count = as_many_files().saturating_sub(OTHER_FILES).min(CONNECTIONS);
        if count < CONNECTIONS {
            need::skipped(&format!("open files for {CONNECTIONS} connections: here there are only {count}"));
        }
        self.asks();
        let (before, files) = (self.memory("VmRSS:"), self.files());
        let mut open = Vec::new();
        let mut slowest = Duration::ZERO;
        for number in 1..=count {
            open.push(connect(&self.agent.address()));
            if number % 500 == 0 {
                slowest = slowest.max(self.asks());
                assert!(self.files() <= FILES_MAX, "{} files are open", self.files());
            }
        }
        assert!(slowest < AT_ONCE, "an answer took {slowest:?}");
        let grown = self.memory("VmRSS:").saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} KiB more");
        // Those that say nothing are cut off, and somebody new is let in while all the others still try.
        wait_for("a new connection is answered", SOON, || {
            let output = self.agent.cli(&["cluster", "status"]);
            if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
        });
        drop(open);
        setrlimit(Resource::Nofile, former).expect("a limit can be what it was");
        wait_for("their files are closed", SOON, || {
            let now = self.files();
            if now <= files + 64 { Ok(()) } else { Err(format!("{now} instead of {files}")) }
        });
        self.is_well();
    }

    /// All places are taken: whoever has one of them is answered all the same.
    fn visitors(&self) {
        let former = getrlimit(Resource::Nofile);
        let count = as_many_files().saturating_sub(OTHER_FILES).min(VISITORS);
        let http = self.agent.plan().http;
        let (before, files) = (self.memory("VmRSS:"), self.files());
        let mut kept = connect(&http);
        assert!(ready(&mut kept, &http).contains("200 OK"));
        let mut open = Vec::new();
        for number in 1..=count {
            let stream = connect(&http);
            stream.set_nonblocking(true).expect("a socket can be");
            open.push(stream);
            if number % 256 == 0 {
                assert!(ready(&mut kept, &http).contains("200 OK"));
                assert!(self.asks() < AT_ONCE && self.files() <= FILES_MAX, "{} files", self.files());
            }
        }
        wait_for("there are no more than places", SOON, || {
            open.retain_mut(|stream| !is_cut_off(stream));
            if open.len() < PLACES { Ok(()) } else { Err(format!("{} are there", open.len())) }
        });
        assert!(ready(&mut kept, &http).contains("200 OK"));
        let grown = self.memory("VmRSS:").saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} KiB more");
        drop((open, kept));
        setrlimit(Resource::Nofile, former).expect("a limit can be what it was");
        wait_for("their files are closed", SOON, || {
            let now = self.files();
            if now <= files + 64 { Ok(()) } else { Err(format!("{now} instead of {files}")) }
        });
        self.is_well();
    }

    fn slow(&self) -> Slow {
        let since = Instant::now();
        let (grpc, web) = (self.agent.address(), self.agent.plan().http);
        // What each says in the end is the begin of a question that never comes.
        let begins: [(&str, &[u8]); 5] = [
            (&grpc, b""),
            (&grpc, b"PRI * HTTP/2.0"),
            (&web, b""),
            (&web, b"GET / HTTP/1.1\r\nhost: "),
            (&web, b"POST /api/v1/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"),
        ];
        let mut streams = Vec::new();
        for (address, says) in begins {
            for _ in 0..50 {
                let mut stream = connect(address);
                stream.write_all(says).expect("it is listened to");
                stream.set_nonblocking(true).expect("a socket can be");
                streams.push(stream);
            }
        }
        assert!(self.asks() < AT_ONCE);
        self.is_well();
        Slow { streams, since }
    }

    fn cut_off(&self, slow: Slow) {
        let Slow { mut streams, since } = slow;
        wait_for("all of them are cut off", (2 * SOON).saturating_sub(since.elapsed()), || {
            streams.retain_mut(|stream| !is_cut_off(stream));
            if streams.is_empty() { Ok(()) } else { Err(format!("{} are there", streams.len())) }
        });
        self.is_well();
    }

    fn huge_call(&self) {
        let before = self.memory("VmHWM:");
        let (body, sent) = Endless::huge();
        let address = self.agent.address();
        let refused = self.runtime.block_on(call(&address, APPLY, None, body));
        assert!(refused.expect("the agent listens"), "it is refused");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < TAKEN_MAX, "{sent} bytes were taken");
        assert!(self.asks() < AT_ONCE);
        let grown = self.memory("VmHWM:").saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} KiB more at times");
        self.is_well();
    }

    fn huge_post(&self) {
        let before = self.memory("VmHWM:");
        let (_, own) = dashboard::enter(self.agent);
        let host = self.agent.plan().http;
        for own in ["", own.as_str()] {
            for how in [format!("content-length: {HUGE}"), "transfer-encoding: chunked".to_owned()] {
                let mut stream = connect(&host);
                let head =
                    format!("POST /api/v1/node/undrain HTTP/1.1\r\nhost: {host}\r\n{own}{how}\r\n\r\n");
                stream.write_all(head.as_bytes()).expect("it is listened to");
                let (before, after) = if how.contains("chunked") { ("10000\r\n", "\r\n") } else { ("", "") };
                let sent = send(&mut stream, format!("{before}{}{after}", " ".repeat(0x10000)).as_bytes());
                assert!(sent < TAKEN_MAX, "{how}: {sent} bytes were taken");
                let mut answer = Vec::new();
                // It may be cut off before anything is read of it.
                let _ = stream.read_to_end(&mut answer);
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{how}: {answer}");
            }
        }
        let grown = self.memory("VmHWM:").saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} KiB more at times");
        self.is_well();
    }

    fn log(&self) {
        let log = self.agent.log();
        assert!(log.lines().count() > 2, "{log}");
        for line in log.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let has = |key: &&str| event[*key].as_str().is_some_and(|text| !text.is_empty());
            assert!(["timestamp", "level", "target", "message"].iter().all(has), "{line}");
        }
    }
}

/// Files that a process has open.
pub(crate) fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}

/// A value in KiB from the kernel's account of a process's memory.
pub(crate) fn memory(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix("kB"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{key} in {status}"))
}

/// Raises this process' limit of open files as far as it may; what it is then.
pub(crate) fn as_many_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = CONNECTIONS + OTHER_FILES;
    let raised = |maximum: Option<u64>| {
        let current = Some(maximum.unwrap_or(wanted));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok()
    };
    // Beyond the hard limit root alone can go. Without it there are fewer, which is said.
    let _ = raised(limit.maximum.map(|most| most.max(wanted))) || raised(limit.maximum);
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}

/// Asks on a connection that stays whether the node is ready; the head of the answer, which is all of it.
fn ready(stream: &mut TcpStream, host: &str) -> String {
    let ask = format!("HEAD /readyz HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("it is listened to");
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("it is answered");
        said.extend(byte);
    }
    String::from_utf8_lossy(&said).into_owned()
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address} listens: {error}"));
    stream.set_read_timeout(Some(SOON)).expect("a socket has time-outs");
    stream.set_write_timeout(Some(SOON)).expect("a socket has time-outs");
    stream
}

/// Whether the other side has ended a connection; what it said before is of no interest.
pub(crate) fn is_cut_off(stream: &mut TcpStream) -> bool {
    let mut said = [0; 4096];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Sends the same again and again, up to a gigabyte or until it is not taken any more; how much was.
fn send(stream: &mut TcpStream, piece: &[u8]) -> u64 {
    let mut sent = 0;
    while sent < HUGE && stream.write_all(piece).is_ok() {
        sent += piece.len() as u64;
    }
    sent
}

/// A message that begins like this and goes on with nothing for very long.
pub(crate) struct Endless {
    head: Option<Vec<u8>>,
    left: u64,
    /// How much of it was taken.
    sent: Arc<AtomicU64>,
}

impl Endless {
    /// One of a gigabyte, not compressed; and how much of it was taken.
    pub(crate) fn huge() -> (Self, Arc<AtomicU64>) {
        let mut head = vec![0];
        head.extend(u32::try_from(HUGE).expect("a gigabyte is counted in 32 bits").to_be_bytes());
        let sent = Arc::new(AtomicU64::new(0));
        (Self { head: Some(head), left: HUGE, sent: sent.clone() }, sent)
    }

    /// One that says nothing, and ends.
    pub(crate) fn empty() -> Self {
        let head = vec![0; 5];
        Self { left: head.len() as u64, head: Some(head), sent: Arc::default() }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        const PIECE: &[u8] = &[0; 0x4000];
        let piece = self.head.take().map_or(Bytes::from_static(PIECE), Bytes::from);
        let bytes = piece.len() as u64;
        if self.left < bytes {
            return Poll::Ready(None);
        }
        self.left -= bytes;
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Makes that call with that message, and shows that token; whether it is refused. An error: there is no connection.
pub(crate) async fn call(
    address: &str,
    path: &str,
    token: Option<&str>,
    body: Endless,
) -> Result<bool, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an agent's address is one");
    let mut channel = endpoint.connect().await?;
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(tonic::body::Body::new(body)).expect("a request");
    Ok(match tokio::time::timeout(SOON, channel.call(request)).await.expect("it is answered") {
        // A refusal without an answer has its status among the headers.
        Ok(answer) => answer.headers().get("grpc-status").is_some_and(|status| status != "0"),
        // The stream is ended while it is sent.
        Err(_) => true,
    })
}
