//! What sinks deliver to: a receiver of webhooks, which remembers what it heard, and goes down and up again.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports;
use crate::tls::Tls;
use crate::wait::pause;

/// Longest anybody waits for a client that says nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// How a receiver of webhooks answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this head, and nothing else: `200 OK`, or `302 Found\r\nLocation: …`.
    Head(String),
    /// A byte now and then, and never all of it.
    Drips,
}

/// A request that was heard.
#[derive(Clone, Debug)]
pub struct Request {
    /// By name, in small letters.
    pub headers: BTreeMap<String, String>,
    /// All of it.
    pub body: String,
    /// It was answered with 200.
    pub taken: bool,
}

/// A receiver of webhooks. Goes down with its last clone.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared<Request>>,
    answer: Arc<Mutex<Answer>>,
    /// None: it is spoken with in plain.
    tls: Option<Tls>,
    serving: Option<JoinHandle<()>>,
}

/// What a server and those who look at it have in common.
pub(crate) struct Shared<T> {
    heard: Mutex<Vec<T>>,
    down: AtomicBool,
}

impl<T: Clone> Shared<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { heard: Mutex::new(Vec::new()), down: AtomicBool::new(false) })
    }

    pub(crate) fn add(&self, one: T) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

/// Takes connections until it goes down, each on a thread of its own.
pub(crate) fn listen<T: Clone + Send + 'static>(
    port: u16,
    shared: &Arc<Shared<T>>,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> JoinHandle<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("its port is free");
    listener.set_nonblocking(true).expect("a listener can be asked");
    shared.down.store(false, Ordering::Relaxed);
    let (shared, serve) = (shared.clone(), Arc::new(serve));
    thread::spawn(move || {
        while !shared.is_down() {
            match listener.accept() {
                Ok((stream, _)) => {
                    let serve = serve.clone();
                    // It ends with its connection, at the latest when nothing is heard for long.
                    thread::spawn(move || {
                        let ready = stream
                            .set_nonblocking(false)
                            .and_then(|()| stream.set_read_timeout(Some(SILENCE)));
                        if ready.is_ok() {
                            serve(stream);
                        }
                    });
                }
                Err(_) => pause(),
            }
        }
    })
}

/// Takes no more connections; returns when nobody listens any more.
pub(crate) fn go_down<T>(shared: &Shared<T>, serving: &mut Option<JoinHandle<()>>) {
    shared.down.store(true, Ordering::Relaxed);
    if let Some(serving) = serving.take() {
        serving.join().expect("a listener does not panic");
    }
}

impl Receiver {
    /// On a port of its own on loopback.
    pub fn start() -> Self {
        Self::new(None)
    }

    /// The same by https.
    pub fn by_https(tls: &Tls) -> Self {
        Self::new(Some(tls.clone()))
    }

    fn new(tls: Option<Tls>) -> Self {
        let port = ports::free(1)[0];
        let answer = Arc::new(Mutex::new(Answer::Head("200 OK".to_owned())));
        let mut receiver = Self { port, shared: Shared::new(), answer, tls, serving: None };
        receiver.come_up();
        receiver
    }

    /// Where to post to.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/hook", self.port)
    }

    /// Answers so from now on.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Nobody listens any more.
    pub fn go_down(&mut self) {
        go_down(&self.shared, &mut self.serving);
    }

    /// Listens again, on the same port.
    pub fn come_up(&mut self) {
        let (shared, answer, tls) = (self.shared.clone(), self.answer.clone(), self.tls.clone());
        self.serving = Some(listen(self.port, &self.shared, move |stream| {
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Whoever asked does not wait any more.
            let _gone = match &tls {
                None => take(stream, &answer, &shared),
                Some(tls) => tls.over(stream).and_then(|stream| take(stream, &answer, &shared)),
            };
        }));
    }

    /// Everything that was heard, in order.
    pub fn heard(&self) -> Vec<Request> {
        self.shared.all()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.go_down();
    }
}

fn take(stream: impl Read + Write, answer: &Answer, shared: &Shared<Request>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        line.clear();
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let stream = reader.get_mut();
    match answer {
        Answer::Head(head) => {
            shared.add(Request { headers, body, taken: head.starts_with("200") });
            stream.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").as_bytes())
        }
        Answer::Drips => {
            shared.add(Request { headers, body, taken: false });
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ")?;
            while !shared.is_down() {
                stream.write_all(b"x")?;
                pause();
            }
            Ok(())
        }
    }
}
