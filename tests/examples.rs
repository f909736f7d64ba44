//! The examples of `deploy/examples`, each tried for real. Flume's is tried in the target `cluster`, on 20 nodes.
//!
//! A tool that is missing is a reason to skip, and where `CI` is set a failure.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::example;
use sheaf_tests::{Agent, Cluster, need, wait_for};

/// The example with a setting of its bucket changed.
fn with(document: &str, setting: &str, value: &str) -> String {
    assert_eq!(document.matches(setting).count(), 1, "{setting:?} in\n{document}");
    document.replace(setting, value)
}

/// Two import nodes, which allow what import nodes allow, and a worker.
fn start() -> Cluster {
    Cluster::start_with(3, |number, plan| {
        plan.name = if number < 3 { format!("import-{number:02}") } else { "worker".to_owned() };
        plan.hostname.clone_from(&plan.name);
        if number < 3 {
            plan.allow = ["flume", "rsyslog"].map(str::to_owned).to_vec();
        }
    })
}

/// A file that an instance keeps, somewhere in its node's data directory.
fn find(agent: &Agent, ending: &str) -> Option<PathBuf> {
    let mut folders = vec![agent.dir()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with(ending) {
                return Some(path);
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    None
}

/// Waits until the file holds a text, and gives all of it.
fn wait_for_text(agent: &Agent, file: &str, wanted: &str) -> String {
    wait_for(&format!("{wanted:?} in {file} of {}", agent.name()), SOON, || {
        let path = find(agent, file).ok_or_else(|| "there is no such file".to_owned())?;
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.contains(wanted) { Ok(text) } else { Err(text) }
    })
}

fn wait_for_log(cluster: &Cluster, bucket: &str, wanted: &str) -> String {
    wait_for(&format!("{wanted:?} is printed"), SOON, || {
        let logs = cluster.cli(&["bucket", "logs", bucket]).ok().stdout;
        if logs.contains(wanted) { Ok(logs) } else { Err(logs) }
    })
}

/// The first of three ports in a row that nobody listens on.
fn base_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let begin = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap_or(0);
    let found = (begin..32_000).find(|base| (0..3).all(|offset| free(base + offset)));
    found.expect("three free ports in a row")
}

#[test]
fn rsyslog_receives_on_every_import_node() {
    if !need::programs(&["rsyslogd"]) {
        return;
    }
    let cluster = start();
    let base = base_port();
    let document = with(
        &example("rsyslog.yaml"),
        "address: 0.0.0.0, base_port: 5140",
        &format!("address: 127.0.0.1, base_port: {base}"),
    );
    cluster.apply_and_wait(&document);
    let status = cluster.status("/logs/syslog");
    assert_eq!(status["node_affinity"], serde_json::json!(["import-01", "import-02"]), "{status:#}");
    for number in [1, 2] {
        let port = base + number;
        let mut stream = wait_for("rsyslogd listens", SOON, || {
            TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))
        });
        writeln!(stream, "<13>Nov 21 10:00:00 web1 shop: order {number} was paid")
            .expect("rsyslogd takes a line");
        drop(stream);
        let agent = cluster.agent(usize::from(number));
        let text = wait_for_text(agent, "received.log", &format!("order {number} was paid"));
        assert!(text.contains("127.0.0.1 shop:") && text.lines().count() == 1, "{text}");
    }
    wait_for_log(&cluster, "/logs/syslog", &format!("import-02 | receiving at port {}", base + 2));
    cluster.delete(&["/logs/syslog"]);
    for number in 1..=2 {
        let port = base + number;
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens at port {port} any more");
    }
}

#[test]
fn wget_crawls_where_the_local_config_lets_it() {
    if !need::programs(&["wget"]) {
        return;
    }
    let cluster = start();
    let site = Site::start();
    let url = format!("http://127.0.0.1:{}/", site.port);
    cluster.apply_and_wait(&with(
        &example("webcrawl.yaml"),
        "url: http://www.example.com/",
        &format!("url: {url}"),
    ));
    assert_eq!(cluster.status("/crawl/site")["node_affinity"], serde_json::json!(["worker"]));
    let worker = cluster.named("worker");
    for (path, text) in
        [("index.html", "the front page"), ("a.html", "the first page"), ("b/c.html", "the second page")]
    {
        wait_for_text(worker, &format!("mirror/127.0.0.1:{}/{path}", site.port), text);
    }
    wait_for_log(&cluster, "/crawl/site", &format!("worker | crawled {url}, wget ended with "));
    let explanation = cluster.json(&["bucket", "explain", "/crawl/site", "-o", "json"]);
    let refused = "module \\\"webcrawl\\\" is not in this node's [modules] allow list (flume, rsyslog)";
    assert_eq!(explanation.to_string().matches(refused).count(), 2, "{explanation:#}");
    cluster.delete(&["/crawl/site"]);
}

/// A few pages that link to each other.
struct Site {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it listens").port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                // A client that goes away in the middle is no concern of the others.
                let _ = stream.and_then(answer);
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 10_000 && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let page = match request.split(' ').nth(1) {
        Some("/") => Some(
            "the front page <a href='a.html'>one</a> <a href='b/c.html'>two</a> <a href='gone.html'>three</a>",
        ),
        Some("/a.html") => Some("the first page <a href='/'>back</a>"),
        Some("/b/c.html") => Some("the second page"),
        _ => None,
    };
    let (status, body) = page.map_or(("404 Not Found", ""), |page| ("200 OK", page));
    let length = body.len() + "<html></html>".len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n<html>{body}</html>"
    )
}

#[test]
fn gpmetis_partitions_a_graph_on_one_node() {
    if !need::programs(&["gpmetis"]) {
        return;
    }
    // Import nodes would refuse it: here all allow everything.
    let cluster = Cluster::start(3);
    cluster.apply_and_wait(&example("partition.yaml"));
    let status = cluster.status("/graph/partition");
    let epoch = status["affinity_epoch"].as_u64().expect("it is bound");
    let node = status["node_affinity"][0].as_str().expect("to a node").to_owned();
    let logs = wait_for_log(&cluster, "/graph/partition", "vertices in 2 parts");
    let line = logs.lines().find(|line| line.contains("vertices in 2 parts")).unwrap_or_default();
    assert!(
        line.starts_with(&format!("{node} | /graph/partition: 7 vertices in 2 parts, Edgecut: ")),
        "{line}"
    );
    assert!(line.ends_with(&format!(", epoch {epoch}")), "{line}");
    let parts = wait_for_text(cluster.named(&node), "parts.txt", "1");
    assert_eq!(parts.lines().count(), 7);
    assert!(parts.lines().all(|part| matches!(part.trim(), "0" | "1")), "{parts}");
    // Another graph: the program is restarted once and reads it.
    let smaller = with(&example("partition.yaml"), "parts: 2", "parts: 3");
    cluster.apply_and_wait(&smaller);
    wait_for_log(&cluster, "/graph/partition", "7 vertices in 3 parts, ");
    cluster.delete(&["/graph/partition"]);
}
