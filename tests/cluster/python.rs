//! A plugin in another language, written from the comments of the interface alone: `crates/module/examples/python`.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use sheaf_tests::web::Web;
use sheaf_tests::{Agent, Cases, Cluster, need, wait_for};

use crate::plugin::{bucket, count, lines, wait_line};
use crate::scene::{explain, gates, only_node, pids};

/// Silence until the lease is surely over, an election, and the start of a Python on a busy machine.
const FAILOVER: Duration = Duration::from_secs(40);
/// One that has not ended by then is killed.
const GRACE: Duration = Duration::from_secs(8);

/// Whether there is a Python for them.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) -> bool {
    let Some(python) = need::python() else {
        return need::skipped("python grpcio-tools (grpcio, grpcio-reflection, grpcio-tools, protobuf)");
    };
    let (python, poller) = (python.display(), need::example_file("python/http_poller.py"));
    cluster.apply(&format!(
        "kind: Module\nname: http_poller\nversion: '1'\nruntime: plugin\nstop: {{grace: {}s}}\n\
         exec: {{command: '{python}', args: [-B, '{}'], env: {{no_proxy: '*'}}}}\n---\n",
        GRACE.as_secs(),
        poller.display()
    ));
    cases.run("a plugin in Python polls, takes changes as it runs, is tested and purged", || polls(cluster));
    cases.run("a poll that gets no answer does not hold up the end of a plugin in Python", || hangs(cluster));
    true
}

fn polled(name: &str, url: &str, more: &str) -> String {
    bucket(name, "http_poller", &format!("{{url: '{url}'}}"), &format!("poll_frequency: 200ms\n{more}"))
}

fn polls(cluster: &Cluster) {
    let web = Web::start("one\ntwo\n");
    cluster.apply(&polled("/python/wrong", "ftp://nowhere", "node_list_rules: [n1]"));
    let third = wait_for("gate 3 is answered", Duration::from_secs(15), || {
        let third = gates(&explain(cluster, "/python/wrong"), "n1")[2].clone();
        if third.0.is_some() { Ok(third) } else { Err(format!("{third:?}")) }
    });
    assert_eq!(third.0, Some(false), "{third:?}");
    assert!(third.1.contains("ftp://nowhere is no URL of the web"), "{third:?}");
    cluster.delete(&["/python/wrong"]);
    let name = "/python/polls";
    cluster.apply_and_wait(&polled(name, &web.url(), "node_list_rules: [n1]"));
    wait_line(cluster, name, " two");
    web.set("one\ntwo\nthree\n");
    wait_line(cluster, name, " three");
    assert_eq!(count(cluster, name, " one"), 1, "{:?}", lines(cluster, name));
    wait_for("what is unchanged is not sent again", Duration::from_secs(10), || {
        let (sent, unchanged) = web.answers();
        if unchanged >= 2 { Ok(()) } else { Err(format!("{sent} sent, {unchanged} unchanged")) }
    });
    assert_eq!(web.answers().0, 2, "sent once for each text");
    cluster.wait_status(name, "it says how far it is", |status| {
        status["instances"][0]["message"] == "3 lines polled"
    });
    // A change is taken as it runs: another URL begins anew.
    let before = pids(&cluster.status(name));
    let other = Web::start("other\n");
    cluster.apply_and_wait(&polled(name, &other.url(), "node_list_rules: [n1]"));
    wait_line(cluster, name, " other");
    assert_eq!(before, pids(&cluster.status(name)), "the process goes on");
    cluster.cli(&["bucket", "purge", name, "--wait"]).ok();
    wait_for("it has forgotten what it read", Duration::from_secs(10), || {
        match count(cluster, name, " other") {
            2 => Ok(()),
            times => Err(format!("{times} times")),
        }
    });
    let tested = cluster.cli_with(
        &["bucket", "test", "-f", "-", "--max-objects", "2", "-o", "json"],
        polled(name, &web.url(), "").as_bytes(),
    );
    assert_eq!(tested.ok().json()["objects"], serde_json::json!(["one", "two"]));
    cluster.delete(&[name]);
}

fn hangs(cluster: &Cluster) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("a socket");
    let url = format!("http://{}/", silent.local_addr().expect("its own"));
    let name = "/python/hangs";
    cluster.apply_and_wait(&polled(name, &url, "node_list_rules: [n1]"));
    let asked =
        wait_for("it polls", Duration::from_secs(15), || silent.accept().map_err(|error| error.to_string()));
    let begun = Instant::now();
    cluster.cli(&["bucket", "suspend", name, "--wait"]).ok();
    let took = begun.elapsed();
    let events = cluster.cli(&["events", "-o", "json", "--all"]).ok().stdout;
    let of_it: Vec<&str> = events.lines().filter(|line| line.contains(name)).collect();
    // One that ends at once may not be seen to be stopping.
    assert!(of_it.iter().any(|line| line.contains("bucket.freed")), "{of_it:#?}");
    assert!(!of_it.iter().any(|line| line.contains("killed")), "{of_it:#?}");
    assert!(took < GRACE, "it was killed after {took:?}: {of_it:#?}");
    drop(asked);
    cluster.delete(&[name]);
}

/// A bucket whose node dies when what it has read is noted.
pub(crate) struct Moves<'c> {
    cluster: &'c Cluster,
    node: String,
    web: Web,
}

const MOVES: &str = "/python/moves";

impl<'c> Moves<'c> {
    pub(crate) fn begin(cluster: &'c Cluster, victim: &Agent) -> Self {
        let (web, node) = (Web::start("one\ntwo\n"), victim.name());
        cluster.apply_and_wait(&polled(MOVES, &web.url(), &format!("node_list_rules: [{node}]")));
        wait_line(cluster, MOVES, " two");
        wait_for("it has noted what it read", Duration::from_secs(10), || match web.answers() {
            (1, unchanged) if unchanged > 0 => Ok(()),
            answers => Err(format!("{answers:?}")),
        });
        cluster.apply_and_wait(&polled(MOVES, &web.url(), ""));
        assert_eq!(only_node(&cluster.status(MOVES)), node);
        Self { cluster, node, web }
    }

    pub(crate) fn goes_on(&self) {
        let Self { cluster, node, web } = self;
        let after = cluster.wait_status_within(MOVES, "runs elsewhere", FAILOVER, |status| {
            status["state"] == "running" && !status["node_affinity"].to_string().contains(node)
        });
        assert_ne!(only_node(&after), *node);
        web.set("one\ntwo\nthree\n");
        let said = wait_for("what is new", Duration::from_secs(15), || {
            let said = cluster.cli(&["bucket", "logs", MOVES]).stdout;
            if said.contains(" three") { Ok(said) } else { Err(said) }
        });
        let again = said.lines().filter(|line| line.ends_with(" one") || line.ends_with(" two"));
        // The dead node's lines cannot be read; whoever took over has said none of them.
        assert_eq!(again.count(), 0, "{said}");
        assert_eq!(web.answers().0, 2, "and was sent nothing twice");
        cluster.delete(&[MOVES]);
    }
}
