//! A service that work is posted to, as other systems have one: real HTTP on loopback, which knows a key again that it has
//! seen, and misbehaves as it is told.
//!
//! | what is posted | what becomes of it |
//! | --- | --- |
//! | `{"do": "work", "ms": 200}` | it is finished after so long |
//! | `{"do": "fail"}` | it ends as `error`, with a message |
//! | `{"do": "hang"}` | it goes on until it is deleted |
//! | `{"do": "bad"}` | 400, whenever it is posted |
//! | `{"do": "lost"}` | taken; the first post's connection is cut without an answer |
//! | `{"do": "late"}` | taken; the first post is answered 500 |
//! | `{"do": "shy"}` | taken, and not known by anybody who asks for a second |
//! | `{"do": "moody", "times": 7}` | taken; the first so many questions are answered 503, 502 or not at all |

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// For as long as the test's process lives.
#[derive(Clone, Debug)]
pub struct Service {
    address: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By id.
    works: BTreeMap<u64, Work>,
    posts: Vec<Post>,
    /// The next so many posts are answered 429, each with so many seconds to wait.
    throttled: (u32, u64),
    /// Everything is answered 500.
    down: bool,
    most_at_once: usize,
}

/// Something that was posted.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its key.
    pub key: String,
    /// What was posted.
    pub body: Value,
    /// Whether it was deleted.
    pub deleted: bool,
    since: Instant,
    asked: u64,
}

/// A post, whatever became of it.
#[derive(Clone, Debug)]
pub struct Post {
    /// Its key.
    pub key: String,
    /// Its `authorization`.
    pub token: String,
    /// When it came.
    pub at: Instant,
    /// How it was answered; none: not at all.
    pub status: Option<u16>,
}

/// What is asked.
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// How it is answered.
enum Answer {
    Json(u16, Value),
    Wait(u64),
    Cut,
}

impl Work {
    fn ms(&self) -> u64 {
        self.body["ms"].as_u64().unwrap_or(100)
    }

    fn does(&self) -> &str {
        self.body["do"].as_str().unwrap_or_default()
    }

    /// As the service says it.
    fn status(&self) -> &'static str {
        let is_over = self.since.elapsed() >= Duration::from_millis(self.ms());
        match (self.does(), self.deleted, is_over) {
            (_, true, _) => "canceled",
            ("hang", ..) | (_, _, false) => "running",
            ("fail", ..) => "error",
            _ => "finished",
        }
    }
}

impl Service {
    /// On a port of its own on loopback.
    ///
    /// # Panics
    /// If there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one").to_string();
        let service = Self { address, inner: Arc::default() };
        let served = service.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                thread::spawn(move || {
                    let _gone = served.serve(&stream); // whoever asked does not wait any more
                });
            }
        });
        service
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/api/", self.address)
    }

    /// The next so many posts are answered 429 and told to wait so long.
    pub fn throttle(&self, posts: u32, seconds: u64) {
        self.inner().throttled = (posts, seconds);
    }

    /// Whether everything is answered 500 from now on.
    pub fn down(&self, down: bool) {
        self.inner().down = down;
    }

    /// All that was ever taken.
    pub fn works(&self) -> Vec<Work> {
        self.inner().works.values().cloned().collect()
    }

    /// Those of them that are under way.
    pub fn running(&self) -> Vec<Work> {
        self.works().into_iter().filter(|work| work.status() == "running").collect()
    }

    /// Every post that came, in order.
    pub fn posts(&self) -> Vec<Post> {
        self.inner().posts.clone()
    }

    /// Keys that were posted.
    pub fn keys(&self) -> BTreeSet<String> {
        self.posts().into_iter().map(|post| post.key).collect()
    }

    /// The most that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.inner().most_at_once
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        let asked = read(stream)?;
        let answer = self.inner().answer(&asked);
        let (status, more, body) = match answer {
            Answer::Cut => return stream.shutdown(std::net::Shutdown::Both),
            Answer::Json(status, body) => (status, String::new(), body.to_string()),
            Answer::Wait(seconds) => {
                (429, format!("Retry-After: {seconds}\r\n"), r#"{"message": "too many"}"#.to_owned())
            }
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} As Told\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())
    }
}

fn read(stream: &TcpStream) -> io::Result<Asked> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    lines.read_exact(&mut body)?;
    Ok(Asked { method: method.to_owned(), path: path.to_owned(), headers, body })
}

impl Inner {
    fn answer(&mut self, asked: &Asked) -> Answer {
        let id = asked.path.strip_prefix("/api/jobs/").and_then(|id| id.parse().ok());
        match (asked.method.as_str(), id) {
            ("POST", None) if asked.path == "/api/jobs" => self.posted(asked),
            _ if self.down => Answer::Json(500, json!({"message": "out of order"})),
            ("GET", Some(id)) => self.asked(id),
            ("DELETE", Some(id)) => match self.works.get_mut(&id) {
                Some(work) => {
                    work.deleted = true;
                    Answer::Json(204, Value::Null)
                }
                None => Answer::Json(404, json!({"message": "no such job"})),
            },
            _ => Answer::Json(404, json!({"message": format!("nothing at {}", asked.path)})),
        }
    }

    fn posted(&mut self, asked: &Asked) -> Answer {
        let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
        let key = header("idempotency-key");
        let (answer, status) = self.take(&key, asked);
        self.posts.push(Post { key, token: header("authorization"), at: Instant::now(), status });
        let running = self.works.values().filter(|work| work.status() == "running").count();
        self.most_at_once = self.most_at_once.max(running);
        answer
    }

    fn take(&mut self, key: &str, asked: &Asked) -> (Answer, Option<u16>) {
        let json = |status, body| (Answer::Json(status, body), Some(status));
        if self.down {
            return json(500, json!({"message": "out of order"}));
        }
        if let (1.., seconds) = self.throttled {
            self.throttled.0 -= 1;
            return (Answer::Wait(seconds), Some(429));
        }
        let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
            return json(400, json!({"message": "this is no JSON"}));
        };
        if key.is_empty() {
            return json(400, json!({"message": "there is no key"}));
        }
        if let Some((id, _)) = self.works.iter().find(|(_, work)| work.key == key) {
            return json(200, json!({"id": id}));
        }
        let does = body["do"].as_str().unwrap_or_default().to_owned();
        if does == "bad" {
            return json(400, json!({"message": "collection SENTINEL9 is not known"}));
        }
        let id = self.works.len() as u64 + 1;
        let work = Work { key: key.to_owned(), body, deleted: false, since: Instant::now(), asked: 0 };
        self.works.insert(id, work);
        match does.as_str() {
            "lost" => (Answer::Cut, None),
            "late" => json(500, json!({"message": "out of luck"})),
            _ => json(201, json!({"id": id})),
        }
    }

    fn asked(&mut self, id: u64) -> Answer {
        let Some(work) = self.works.get_mut(&id) else {
            return Answer::Json(404, json!({"message": "no such job"}));
        };
        work.asked += 1;
        match work.does() {
            "shy" if work.since.elapsed() < Duration::from_secs(1) => {
                Answer::Json(404, json!({"message": "no such job"}))
            }
            "moody" if work.asked <= work.body["times"].as_u64().unwrap_or(3) => match work.asked % 3 {
                0 => Answer::Cut,
                1 => Answer::Json(503, json!({"message": "later"})),
                _ => Answer::Json(502, Value::Null),
            },
            _ => {
                let status = work.status();
                let message = if status == "error" { "tile 7 has no data" } else { "" };
                Answer::Json(200, json!({"id": id, "status": status, "message": message, "did": work.body}))
            }
        }
    }
}
