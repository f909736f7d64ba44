//! A secured cluster's dashboard: who must log in, what each role is offered, and logins that end.

use std::sync::Arc;

use sheaf_tests::browser::{Browser, Complaint};
use sheaf_tests::documents::{Trace, bucket, module};
use sheaf_tests::{Cases, Cluster, Machine, cli, secured};

use crate::scene::{address, of};
use crate::shape::{SHAPES, is_read};
use crate::{case, quiet};

/// A secured cluster of one node, and a browser.
struct Office {
    browser: Browser,
    cluster: Cluster,
    admin: String,
}

pub(crate) fn run(cases: &mut Cases, machine: &Arc<Machine>) {
    let office = Office::open(machine);
    // What was refused.
    let refused = |said: &Complaint| {
        said.source == "network" && ["400", "401", "403"].iter().any(|code| said.message.contains(code))
    };
    let browser = &office.browser;
    case(cases, browser, "nothing is shown before a login, and a bad token is refused", refused, || {
        office.strangers();
    });
    case(cases, browser, "a viewer is offered no act, and the node refuses them all", refused, || {
        office.viewer();
    });
    case(cases, browser, "an operator of a part is offered what it may do", quiet, || office.operator());
    case(cases, browser, "an admin is offered all, and logs out", quiet, || office.boss());
    case(cases, browser, "a token that is revoked or expires ends what is open", refused, || office.gone());
    case(
        cases,
        browser,
        "a node that was started again knows nobody, and the page asks",
        |said| said.source == "network",
        || {
            office.forgotten();
        },
    );
    // Some of what is refused is the certificate, until it is taken all the same.
    let refused = |said: &Complaint| ["network", "security"].contains(&said.source.as_str());
    case(cases, browser, "by https it is the same, and no script sees the session", refused, || {
        office.by_tls();
    });
}

impl Office {
    fn open(machine: &Arc<Machine>) -> Self {
        let cluster = Cluster::plan(machine, "", 1, |_, _| {});
        let config = cluster.agent(1).config().display().to_string();
        let made = cli::run(machine, &["cluster", "init", "--config", &config], b"").ok();
        let admin = made.stdout.trim().to_owned();
        secured::shows(machine, Some(&admin));
        cluster.start_all();
        cluster.wait_ready();
        cluster.apply(&module("steady", ""));
        let trace = Trace::new(machine.path("trace"));
        cluster.apply_and_wait(&bucket("/team-a/x", "steady", &trace, ""));
        cluster.apply_and_wait(&bucket("/team-b/x", "steady", &trace, ""));
        let sink =
            b"kind: Sink\nname: hook\nwebhook: {url: 'http://127.0.0.1:1/', timeout: 1s}\nsuspended: true\n";
        cluster.cli_with(&["sink", "apply", "-f", "-"], sink).ok();
        let browser = Browser::start(machine);
        Self { browser, cluster, admin }
    }

    fn token(&self, args: &[&str]) -> String {
        secured::token(&self.cluster, args)
    }

    fn see(&self, page: &str, shows: &[&str]) -> String {
        self.browser.goto(&address(self.cluster.agent(1), page));
        self.browser.shows(shows)
    }

    /// The acts that the page offers.
    fn offered(&self) -> String {
        let script = "return [...document.querySelectorAll('button')].map((one) => one.innerText) \
                      .filter((words) => words.endsWith(' …')).join(', ')";
        self.browser.evaluate(script).as_str().unwrap_or_default().to_owned()
    }

    /// Logs in where the page asks for it.
    fn log_in(&self, token: &str) {
        self.browser.shows(&["Log in", "This cluster asks for a token."]);
        self.browser.fill("input[name=token]", token);
        self.browser.push("Log in");
    }

    /// Logs out, and in as somebody else.
    fn log_in_anew(&self, token: &str) {
        self.browser.push("Log out");
        self.log_in(token);
    }

    fn strangers(&self) {
        let text = self.see(&of("bucket", "/team-a/x"), &["Log in", "This cluster asks for a token."]);
        assert!(!text.contains("steady") && !text.contains("Why there"), "{text}");
        for shape in SHAPES {
            let (width, height, scheme) = shape;
            self.browser.sized(width, height);
            self.browser.prefers(scheme);
            is_read(&self.browser, "the login", shape);
        }
        self.log_in("hunter2");
        self.browser.shows(&["what is given is no token of Sheaf"]);
        let (id, _) = self.admin.split_once('.').expect("an id and the rest");
        self.browser.fill("input[name=token]", &format!("{id}.{}", "0".repeat(64)));
        self.browser.push("Log in");
        self.browser.shows(&["is not known here"]);
        let field = self.browser.evaluate("return document.querySelector('input[name=token]').type");
        assert_eq!(field, "password");
    }

    fn viewer(&self) {
        self.log_in(&self.token(&["--name", "vera", "--role", "viewer"]));
        // Where one wanted to go.
        let text = self.browser.shows(&["/team-a/x", "Why there", "vera (viewer) on n1", "Log out"]);
        assert!(!text.contains("NOT secured"), "{text}");
        for (page, shows) in [
            (of("bucket", "/team-a/x"), "Why there"),
            (of("node", "n1"), "What it runs"),
            ("sinks".to_owned(), "hook"),
            (of("sink", "hook"), "How deliveries go"),
        ] {
            self.see(&page, &[shows]);
            assert_eq!(self.offered(), "", "on {page}");
        }
        let post = |path: &str, body: &str| {
            let script = format!(
                "return (async () => {{ const {{ csrf }} = await (await fetch('/api/v1/session')).json(); \
                 const answer = await fetch('/api/v1/{path}', {{ method: 'POST', body: '{body}', \
                 headers: {{ 'content-type': 'application/json', 'sheaf-csrf': csrf }} }}); \
                 return `${{answer.status}} ${{await answer.text()}}`; }})()"
            );
            self.browser.evaluate(&script).as_str().unwrap_or_default().to_owned()
        };
        for (path, body) in [
            ("bucket/suspend", r#"{"name": "/team-a/x"}"#),
            ("bucket/delete", r#"{"name": "/team-a/x"}"#),
            ("node/drain", r#"{"node": "n1"}"#),
            ("node/drain", r#"{"node": "n1", "dry_run": true}"#),
            ("cluster/transfer", "{}"),
            ("sink/test", r#"{"name": "hook"}"#),
        ] {
            let answer = post(path, body);
            assert!(answer.starts_with("403") && answer.contains("vera (viewer)"), "{path}: {answer}");
        }
        self.cluster.wait_state("/team-a/x", "running");
    }

    fn operator(&self) {
        self.log_in_anew(&self.token(&["--name", "olaf", "--role", "operator", "--on", "/team-a/"]));
        self.browser.shows(&["olaf (operator on /team-a/) on n1"]);
        self.see(&of("bucket", "/team-b/x"), &["Why there"]);
        assert_eq!(self.offered(), "");
        self.see(&of("node", "n1"), &["What it runs"]);
        assert_eq!(self.offered(), "", "nodes are for operators of everything");
        self.see(&of("bucket", "/team-a/x"), &["Suspend …", "Delete …"]);
        self.browser.push("Suspend …");
        self.browser.shows(&["Suspend /team-a/x?"]);
        self.browser.push("Suspend it");
        self.browser.shows(&["suspended", "It runs nowhere."]);
        let events = self.cluster.cli(&["events", "--where", "kind=bucket.suspended", "-o", "json"]).ok();
        assert!(events.json_lines().iter().any(|event| event["actor"] == "user:olaf"), "{events}");
        self.browser.push("Resume …");
        self.browser.push("Resume it");
        self.cluster.wait_state("/team-a/x", "running");
    }

    fn boss(&self) {
        self.log_in_anew(&self.admin);
        self.browser.shows(&["(admin) on n1"]);
        self.see(&of("node", "n1"), &["Drain …", "Labels …"]);
        self.see(&of("sink", "hook"), &["Test …"]);
        self.browser.push("Log out");
        let text = self.browser.shows(&["This cluster asks for a token."]);
        assert!(!text.contains("admin)") && !text.contains("Log out"), "{text}");
        self.browser.reload();
        self.browser.shows(&["This cluster asks for a token."]);
    }

    fn gone(&self) {
        self.log_in(&self.token(&["--name", "long", "--role", "viewer"]));
        self.see("nodes", &["n1", "long (viewer) on n1"]);
        self.cluster.cli(&["cluster", "token", "revoke", "long", "--yes"]).ok();
        self.browser.shows(&["You are logged out: ", "Log in"]);
        self.log_in(&self.token(&["--name", "short", "--role", "viewer", "--ttl", "4s"]));
        self.browser.shows(&["short (viewer) on n1", "ready"]);
        self.browser.shows(&["You are logged out: ", "expired"]);
    }

    fn by_tls(&self) {
        let http = self.cluster.agent(1).plan().http;
        self.browser.goto(&format!("https://{http}/#/nodes"));
        // The session without TLS, which has logged in, is another one.
        self.log_in(&self.admin);
        self.browser.shows(&["(admin) on n1", "ready", "live"]);
        let script = "return [location.protocol, isSecureContext, document.cookie].join(' ')";
        assert_eq!(self.browser.evaluate(script), "https: true ");
        self.browser.reload();
        self.browser.shows(&["(admin) on n1", "ready", "live"]);
        self.see(&of("bucket", "/team-a/x"), &["(admin) on n1", "Why there"]);
        self.browser.goto(&format!("https://{http}/#/nodes"));
        self.browser.push("Log out");
        self.browser.shows(&["This cluster asks for a token."]);
    }

    fn forgotten(&self) {
        self.log_in(&self.admin);
        self.browser.shows(&["(admin) on n1", "ready"]);
        self.browser.evaluate("window.stays = true");
        let agent = self.cluster.agent(1);
        agent.stop();
        self.browser.shows(&["The node does not answer; trying again."]);
        agent.change(|plan| plan.binary = Some(self.cluster.machine().next_version().0));
        agent.start();
        self.cluster.wait_back(agent);
        self.browser.shows(&["Log in", "This cluster asks for a token."]);
        self.log_in(&self.admin);
        self.browser.shows(&["(admin) on n1", "ready", "live"]);
        // It was upgraded, and has other pages.
        self.browser.waits("the page is loaded anew", "return window.stays === undefined");
    }
}
