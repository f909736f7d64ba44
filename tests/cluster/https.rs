//! The dashboard from other machines: by TLS alone, with the cluster's certificate and with one of the operator's own.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use sheaf_model::{Holder, NodeId, Timestamp, TokenId, TokenText};
use sheaf_tests::cluster::SOON;
use sheaf_tests::outside::{self, Believing};
use sheaf_tests::secured::{private, shows, token};
use sheaf_tests::{Agent, Cases, Cluster, Machine, cli, dashboard, need, wait_for};
use sheaf_trust::{Authority, PrivateKey, encode};

use crate::forming;

/// What people type in place of the node's address once it has a certificate for it.
const SITE: &str = "sheaf.example.org";

/// One secured node that other machines can reach, and somebody on another one.
#[test]
fn https() {
    let Some(outer) = outside::address() else {
        need::skipped("an address of this machine that is not loopback");
        return;
    };
    let machine = Arc::new(Machine::take());
    let mut port = String::new();
    let cluster = Cluster::plan(&machine, "", 1, |_, plan| {
        plan.http = plan.http.replace("127.0.0.1", "0.0.0.0");
        port = plan.http.rsplit(':').next().unwrap_or_default().to_owned();
        plan.hostname = "n1.example.org".to_owned();
    });
    let config = cluster.agent(1).config().display().to_string();
    let made = cli::run(&machine, &["cluster", "init", "--config", &config], b"").ok();
    shows(&machine, Some(made.stdout.trim()));
    cluster.start_all();
    cluster.wait_ready();
    let authority = cluster.cli(&["cluster", "ca", "export"]).ok().stdout;
    let (outer, inner) = (format!("{outer}:{port}"), format!("127.0.0.1:{port}"));
    let scene = Scene { machine, cluster, authority, outer, inner };
    let mut cases = Cases::of("https");
    cases.run("whoever believes the cluster's authority logs in by https", || scene.elsewhere());
    cases.run("without TLS pages are for the machine itself, and numbers for everybody", || scene.plain());
    cases.run("whoever tries tokens in a browser is stopped, and no other browser is", || scene.tried());
    cases.run("a certificate of the operator's own is shown, and its names are the node's", || scene.own());
    cases.run("what is new in the files is taken, and a bad pair is not", || scene.renewed());
    cases.run("a bad pair is found before the agent starts, and keeps it from that", || scene.refused());
    cases.run("TLS can be left to others", || scene.off());
    cases.end();
}

struct Scene {
    machine: Arc<Machine>,
    cluster: Cluster,
    /// Whom the cluster believes, in PEM.
    authority: String,
    /// Where the dashboard is, from elsewhere.
    outer: String,
    /// The same from the machine itself.
    inner: String,
}

/// A request; one with a body is a change.
fn request(host: &str, path: &str, more: &str, body: &str) -> String {
    let (method, length) = (if body.is_empty() { "GET" } else { "POST" }, body.len());
    format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
}

impl Scene {
    fn agent(&self) -> &Agent {
        self.cluster.agent(1)
    }

    /// By TLS from elsewhere, by this name.
    fn by_tls(
        &self,
        name: &str,
        authorities: &str,
        path: &str,
        more: &str,
        body: &str,
    ) -> Result<(String, String), String> {
        let host = format!("{name}:{}", self.outer.rsplit(':').next().unwrap_or_default());
        let believing = Believing { name, authorities };
        outside::ask(&self.outer, Some(believing), &request(&host, path, more, body))
    }

    /// Without TLS.
    fn without(&self, at: &str, path: &str, body: &str) -> (String, String) {
        outside::ask(at, None, &request(at, path, "", body)).unwrap_or_else(|why| panic!("{at}{path}: {why}"))
    }

    fn elsewhere(&self) {
        let ask = |path: &str, more: &str, body: &str| {
            let answer = self.by_tls("n1.example.org", &self.authority, path, more, body);
            answer.unwrap_or_else(|why| panic!("{path}: {why}"))
        };
        let (head, _) = ask("/", "", "");
        assert!(head.starts_with("HTTP/1.1 200") && !head.contains("strict-transport-security"), "{head}");
        let (head, body) = ask("/api/v1/session", "", "");
        assert!(head.contains("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{head}");
        let cookie = dashboard::cookie(&head);
        assert!(cookie.starts_with("cookie: __Host-sheaf-"), "{cookie}");
        let with = |cookie: &str, body: &str| -> String {
            dashboard::page(cookie, &serde_json::from_str(body).expect("JSON"))
        };
        let list = "/api/v1/node/list";
        let own = with(&cookie, &body);
        assert!(ask(list, &own, "").0.starts_with("HTTP/1.1 401"), "nobody has logged in");
        let viewer = token(&self.cluster, &["--name", "vera", "--role", "viewer"]);
        let (head, body) = ask("/api/v1/login", &own, &format!("{{\"token\":{viewer:?}}}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
        let cookie = dashboard::cookie(&head);
        assert!(cookie.starts_with("cookie: __Host-sheaf-"), "{cookie}");
        let (_, body) = ask("/api/v1/session", &cookie, "");
        let own = with(&cookie, &body);
        assert!(ask(list, &own, "").0.starts_with("HTTP/1.1 200"));
        let (head, body) = ask("/api/v1/node/drain", &own, "{\"node\":\"n1\"}");
        assert!(head.starts_with("HTTP/1.1 403") && body.contains("vera (viewer)"), "{head} {body}");
        for origin in ["http://n1.example.org", "https://evil.example"] {
            let port = self.outer.rsplit(':').next().unwrap_or_default();
            let more = format!("{own}origin: {origin}:{port}\r\n");
            assert!(ask(list, &more, "").0.starts_with("HTTP/1.1 403"), "{origin}");
        }
        // On the machine itself it opens nothing without TLS, by whatever name.
        for cookie in [cookie.clone(), cookie.replace("__Host-", "")] {
            let asked = request(&self.inner, list, &cookie, "");
            let (head, _) = outside::ask(&self.inner, None, &asked).expect("it answers");
            assert!(head.starts_with("HTTP/1.1 401"), "{head}");
        }
        let (_, metrics) = ask("/metrics", "", "");
        let until = "sheaf_http_certificate_expiry_timestamp_seconds{source=\"cluster\"} ";
        assert!(metrics.contains(until), "{metrics}");
        for at in ["expiry", "renewal"] {
            let line = format!("\nsheaf_node_certificate_{at}_timestamp_seconds ");
            assert!(metrics.contains(&line), "{metrics}");
        }
        // The certificate has the names that the node has, and no other.
        self.by_tls("n1", &self.authority, "/", "", "").expect("its name");
        self.by_tls("n2", &self.authority, "/", "", "").expect_err("not its name");
        self.by_tls("n1", &issued(&[]).authority, "/", "", "").expect_err("another authority is believed");
    }

    fn tried(&self) {
        let foreign = TokenText::new(TokenId([7; 6]), [8; 32], None).reveal();
        let body = format!("{{\"token\":{foreign:?}}}");
        type Ask<'a> = &'a dyn Fn(&str, &str, &str) -> (String, String);
        let come = |ask: Ask<'_>| {
            let (head, session) = ask("/api/v1/session", "", "");
            dashboard::page(&dashboard::cookie(&head), &serde_json::from_str(&session).expect("JSON"))
        };
        let outer = |path: &str, more: &str, body: &str| {
            let answer = self.by_tls("n1.example.org", &self.authority, path, more, body);
            answer.unwrap_or_else(|why| panic!("{path}: {why}"))
        };
        let inner = |path: &str, more: &str, body: &str| {
            let asked = request(&self.inner, path, more, body);
            outside::ask(&self.inner, None, &asked).unwrap_or_else(|why| panic!("{path}: {why}"))
        };
        let (attacker, other) = (come(&outer), come(&inner));
        let stopped = || {
            let (head, said) = outer("/api/v1/login", &attacker, &body);
            assert!(head.starts_with("HTTP/1.1 401") || head.starts_with("HTTP/1.1 429"), "{head} {said}");
            head.starts_with("HTTP/1.1 429").then_some(said)
        };
        let said = (0..100).find_map(|_| stopped()).expect("it is stopped after some");
        // From which of the machine's addresses a browser on it comes is the kernel's choice.
        assert!(said.contains("too many calls from ") && !said.contains(" 127.0.0.1 "), "{said}");
        let (head, said) = inner("/api/v1/login", &other, &body);
        assert!(head.starts_with("HTTP/1.1 401"), "another browser is told what is wrong: {head} {said}");
    }

    fn plain(&self) {
        let (head, _) = self.without(&self.outer, "/?x=y", "");
        let leads = format!("location: https://{}/?x=y", self.outer);
        assert!(head.starts_with("HTTP/1.1 307") && head.lines().any(|line| line == leads), "{head}");
        for (path, body) in [("/api/v1/session", ""), ("/api/v1/login", "{}"), ("/api/v1/node/list", "")] {
            let (head, said) = self.without(&self.outer, path, body);
            assert!(head.starts_with("HTTP/1.1 403") && said.contains("ask by https://"), "{head} {said}");
            assert!(!head.contains("set-cookie"), "{head}");
        }
        for path in ["/metrics", "/healthz", "/readyz"] {
            assert!(self.without(&self.outer, path, "").0.starts_with("HTTP/1.1 200"), "{path}");
        }
        for path in ["/", "/api/v1/session", "/metrics", "/readyz"] {
            let (head, _) = self.without(&self.inner, path, "");
            assert!(head.starts_with("HTTP/1.1 200") && !head.contains("Secure"), "{path}: {head}");
        }
        let config = self.agent().config().display().to_string();
        cli::run(&self.machine, &["agent", "ready", "--config", &config], b"").ok();
    }

    /// Puts a pair where the config file says.
    fn put(&self, certificate: &str, key: &str) {
        // One after the other and each as a whole, as programs that renew certificates do.
        for (name, text) in [("https.pem", certificate), ("https.key", key)] {
            let fresh = private(&self.machine, &format!("{name}.new"), text);
            fs::rename(fresh, self.machine.path(name)).expect("the test's own files");
        }
    }

    fn own(&self) {
        let first = issued(&[SITE]);
        self.put(&first.certificate, &first.key);
        let [certificate, key] = ["https.pem", "https.key"].map(|name| self.machine.path(name));
        self.restart(&format!(
            "[http]\ncertificate_file = {:?}\nkey_file = {:?}\nstrict_transport = \"7d\"\n",
            certificate.display().to_string(),
            key.display().to_string()
        ));
        let (head, _) = self.by_tls(SITE, &first.authority, "/", "", "").expect("it is believed");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("strict-transport-security: max-age=604800"), "{head}");
        self.by_tls("n1", &self.authority, "/", "", "").expect_err("the cluster's is shown no more");
        self.agent().cli(&["node", "list"]).ok();
        let (head, _) = self.without(&self.outer, "/", "");
        assert!(head.starts_with("HTTP/1.1 307"), "{head}");
    }

    fn restart(&self, more: &str) {
        let agent = self.agent();
        agent.change(|plan| more.clone_into(&mut plan.more));
        if agent.is_running() {
            agent.stop();
        }
        agent.start();
        self.cluster.wait_back(agent);
    }

    /// Waits until this is shown.
    fn wait_shown(&self, what: &str, shown: &Issued) {
        wait_for(what, SOON, || self.by_tls(SITE, &shown.authority, "/", "", "").map(drop));
    }

    fn renewed(&self) {
        let second = issued(&[SITE, "other.example.org"]);
        self.put(&second.certificate, &second.key);
        self.wait_shown("the files have changed, and nobody says so", &second);
        let bad = issued(&[SITE]);
        self.put(&bad.certificate, &second.key);
        self.agent().signal(Signal::HUP);
        wait_for("the agent says what is wrong", SOON, || {
            let log = self.agent().log();
            let parts = ["the key does not belong to the certificate", "the former one stays", "https.pem"];
            let said = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            if said { Ok(()) } else { Err(self.agent().log_tail()) }
        });
        self.by_tls("other.example.org", &second.authority, "/", "", "").expect("the former one stays");
        let third = issued(&[SITE]);
        self.put(&third.certificate, &third.key);
        self.agent().signal(Signal::HUP);
        self.wait_shown("the files are right again", &third);
        let log = self.agent().log();
        assert!(!log.contains("BEGIN") && !log.contains("MIG"), "no key is in the log");
    }

    fn refused(&self) {
        let (good, bad) = (issued(&[SITE]), issued(&[SITE]));
        self.put(&good.certificate, &bad.key);
        let agent = self.agent();
        let config = agent.config().display().to_string();
        let check = || cli::run(&self.machine, &["agent", "check", "--config", &config, "-o", "json"], b"");
        let report = check().exits(1).calm().json().to_string();
        assert!(report.contains("the key does not belong to the certificate"), "{report}");
        agent.stop();
        forming::refused(agent, &["https.key", "the key does not belong to the certificate"]);
        self.put(&good.certificate, &good.key);
        let report = check().ok().json().to_string();
        assert!(report.contains(SITE) && report.contains("good until"), "{report}");
        agent.start();
        self.cluster.wait_back(agent);
        self.wait_shown("the pair that is right now", &good);
    }

    fn off(&self) {
        self.restart("[http]\ntls = \"off\"\n");
        self.by_tls("n1", &self.authority, "/", "", "").expect_err("it speaks no TLS");
        let (head, said) = self.without(&self.outer, "/", "");
        assert!(head.starts_with("HTTP/1.1 403") && said.contains("ssh -L"), "{head} {said}");
        assert!(self.without(&self.inner, "/", "").0.starts_with("HTTP/1.1 200"));
    }
}

/// A certificate from an authority that has nothing to do with the cluster's; all in PEM.
pub(crate) struct Issued {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// One for these names and addresses.
pub(crate) fn issued(hosts: &[&str]) -> Issued {
    let now = Timestamp::from_system(SystemTime::now());
    let (authority, key) = (Authority::new(now).expect("an authority"), PrivateKey::new().expect("a key"));
    let (holder, days) = (Holder::Node(NodeId(1)), Duration::from_secs(90 * 24 * 3600));
    let hosts = hosts.iter().copied();
    let certificate = authority.issue(&key.public(), holder, hosts, now, days).expect("signed");
    Issued {
        authority: encode(&[authority.certificate().to_vec()]),
        certificate: encode(&[certificate]),
        key: key.pem(),
    }
}
