//! What sinks deliver to: a receiver of webhooks and a mail server, which remember what they heard, and go down and up again.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports;
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

/// A mail that was taken.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    /// Of the envelope.
    pub from: String,
    /// Of the envelope.
    pub to: Vec<String>,
    /// Headers and body, as they came; lines ended by a line feed.
    pub data: String,
}

/// A receiver of webhooks. Goes down with its last clone.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared<Request>>,
    answer: Arc<Mutex<Answer>>,
    serving: Option<JoinHandle<()>>,
}

/// A mail server that takes every mail.
pub struct Postbox {
    port: u16,
    shared: Arc<Shared<Letter>>,
    serving: Option<JoinHandle<()>>,
}

struct Shared<T> {
    heard: Mutex<Vec<T>>,
    down: AtomicBool,
}

impl<T: Clone> Shared<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { heard: Mutex::new(Vec::new()), down: AtomicBool::new(false) })
    }

    fn add(&self, one: T) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    fn all(&self) -> Vec<T> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

/// Takes connections until it goes down, each on a thread of its own.
fn listen<T: Clone + Send + 'static>(
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

fn go_down<T>(shared: &Shared<T>, serving: &mut Option<JoinHandle<()>>) {
    shared.down.store(true, Ordering::Relaxed);
    if let Some(serving) = serving.take() {
        serving.join().expect("a listener does not panic");
    }
}

impl Receiver {
    /// On a port of its own on loopback.
    pub fn start() -> Self {
        let port = ports::free(1)[0];
        let answer = Arc::new(Mutex::new(Answer::Head("200 OK".to_owned())));
        let mut receiver = Self { port, shared: Shared::new(), answer, serving: None };
        receiver.come_up();
        receiver
    }

    /// Where to post to.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
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
        let (shared, answer) = (self.shared.clone(), self.answer.clone());
        self.serving = Some(listen(self.port, &self.shared, move |stream| {
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let _gone = take(stream, &answer, &shared); // whoever asked does not wait any more
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

fn take(stream: TcpStream, answer: &Answer, shared: &Shared<Request>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
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
    let mut stream = stream;
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

impl Postbox {
    /// On a port of its own on loopback.
    pub fn start() -> Self {
        let mut postbox = Self { port: ports::free(1)[0], shared: Shared::new(), serving: None };
        postbox.come_up();
        postbox
    }

    /// `host:port`
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Nobody listens any more.
    pub fn go_down(&mut self) {
        go_down(&self.shared, &mut self.serving);
    }

    /// Listens again, on the same port.
    pub fn come_up(&mut self) {
        let shared = self.shared.clone();
        self.serving = Some(listen(self.port, &self.shared, move |stream| {
            let _gone = converse(stream, &shared); // whoever called has hung up
        }));
    }

    /// Every mail, in order.
    pub fn letters(&self) -> Vec<Letter> {
        self.shared.all()
    }
}

impl Drop for Postbox {
    fn drop(&mut self) {
        self.go_down();
    }
}

/// SMTP as RFC 5321 has it, as far as one mail needs it.
fn converse(mut stream: TcpStream, shared: &Shared<Letter>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut letter = Letter::default();
    stream.write_all(b"220 postbox ESMTP\r\n")?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let said = line.trim_end().to_owned();
        line.clear();
        let word = said.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let address = || {
            said.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(inner, _)| inner.to_owned())
        };
        let answer = match word.as_str() {
            "EHLO" => "250-postbox\r\n250-8BITMIME\r\n250 SIZE 1000000",
            "MAIL" => {
                letter = Letter { from: address().unwrap_or_default(), ..Letter::default() };
                "250 2.1.0 well"
            }
            "RCPT" => {
                letter.to.extend(address());
                "250 2.1.5 well"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                letter.data = data(&mut reader)?;
                shared.add(letter.clone());
                "250 2.0.0 queued"
            }
            "QUIT" => {
                return stream.write_all(b"221 bye\r\n");
            }
            _ => "500 5.5.1 not known here",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes())?;
    }
    Ok(())
}

/// Up to the line with a dot alone.
fn data(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut data = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let text = line.trim_end_matches(['\r', '\n']);
        if text == "." {
            return Ok(data);
        }
        data.push_str(text.strip_prefix('.').unwrap_or(text));
        data.push('\n');
        line.clear();
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

impl Letter {
    /// The value of a header, as it came.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (headers, _) = self.data.split_once("\n\n")?;
        headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What stands before the first empty line, a line each.
    pub fn headers(&self) -> Vec<&str> {
        self.data.split_once("\n\n").map(|(headers, _)| headers.lines().collect()).unwrap_or_default()
    }

    /// The text, decoded.
    pub fn text(&self) -> String {
        let body = self.data.split_once("\n\n").map(|(_, body)| body).unwrap_or_default();
        let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
        for c in body.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
            let value = match c {
                b'A'..=b'Z' => c - b'A',
                b'a'..=b'z' => c - b'a' + 26,
                b'0'..=b'9' => c - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                other => panic!("{other} is no base64"),
            };
            bits = bits << 6 | u32::from(value);
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from(bits >> count & 0xff).expect("eight bits"));
            }
        }
        String::from_utf8(bytes).expect("the text is UTF-8")
    }
}
