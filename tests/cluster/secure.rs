//! A secured cluster: who gets in, as whom, and who does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{Trace, bucket, module};
use sheaf_tests::screen::{Left, Screen};
use sheaf_tests::secured::{of_secret, private, shows, token, trust};
use sheaf_tests::{Agent, Cases, Cluster, Machine, NodePlan, cli, dashboard, wait_for};

use crate::certified::certified;
use crate::scene::{only_node, trace};
use crate::{forming, hostile};

/// How long certificates are good here: they are renewed after two thirds of it.
const CERTIFICATE: &str = "30s";
/// Longer than it takes until one is renewed.
const RENEWED_WITHIN: Duration = Duration::from_secs(40);
/// What a program is given, and a module that gives it.
const CONFIDED: &str = "rumpled-quartermaster";
const CONFIDING: &str = "kind: Module\nname: confiding\nversion: '1'\nruntime: exec\nexec: {command: /bin/sh, \
    args: ['-c', 'exec sleep 100000'], env: {TOKEN: '${secret.debug.token}'}}\n---\n";

/// One cluster that formed by a join secret; then nodes and people that come in, and some that must not.
#[test]
fn secured() {
    let machine = Arc::new(Machine::take());
    // Agents are started where any core may be left.
    let hard = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: hard, maximum: hard }).expect("below the hard limit");
    let secret = machine.path("join.secret");
    cli::run(&machine, &["secret", "keygen", &secret.display().to_string()], b"").ok();
    let keys = sheaf_tests::secured::secret(&machine, "secrets.key").display().to_string();
    let mut cluster = Cluster::plan(&machine, "", 3, |_, plan| {
        plan.more = format!("[secrets]\nkey_file = {keys:?}\n{}", security("join_secret_file", &secret));
    });
    cluster.start_all();
    let first = of_secret(&machine, &cluster, &secret);
    shows(&machine, Some(&first));
    cluster.wait_ready();
    cluster.apply(&module("steady", ""));
    let mut cases = Cases::of("secured");
    cases.run("a call without a token, with a bad one, with a foreign one", || {
        strangers(&machine, &cluster, &first);
    });
    cases.run("roles and prefixes say what may be changed", || roles(&machine, &cluster, &first));
    cases.run("a token that expired or was revoked is worth nothing", || gone(&machine, &cluster, &first));
    cases.run("the dashboard asks for a token, too", || on_pages(&machine, &cluster, &first));
    cases.run("the whole screen is for whoever has a token", || screen(&machine, &cluster, &first));
    cases.now_of("hostile");
    hostile::cases(&mut cases, &machine, &cluster);
    cases.now_of("secured");
    // Until each is renewed takes a while, in which others join or are refused.
    let mut renewing = Renewing::begin(&cluster);
    cases.run("a node joins by a token, and comes back without it", || by_token(&machine, &mut cluster));
    cluster.agents().iter().skip(3).for_each(|agent| renewing.with(agent));
    cases.run("a certificate says who somebody is, as a token does", || {
        certified(&machine, &cluster, &first);
    });
    cases.run("a node with a bad token is refused", || refused(&machine, &cluster));
    cases.run("certificates are renewed, and nothing of it is felt", || renewing.end(&cluster));
    cases.run("an agent's planned restart leaves its instance untouched", || planned(&cluster));
    cases.run("whoever leads next can issue certificates, too", || handed_over(&machine, &mut cluster));
    cases.run("no log holds a secret", || {
        logs_say_nothing(&machine, &mut cluster, &first, &secret);
    });
    cases.run("a revoked join secret brings nobody in, without any restart", || {
        revoked(&machine, &cluster, &secret);
    });
    cases.end();
}

/// A first node that was prepared, whatever its list of others says; the others come by tokens.
#[test]
fn prepared() {
    let machine = Arc::new(Machine::take());
    let mut cluster = Cluster::plan(&machine, "", 1, |_, plan| {
        plan.join = vec![plan.address.clone(), "127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        plan.expect = 3;
    });
    let mut cases = Cases::of("prepared");
    cases.run("nothing that others can reach runs unsecured", || open_to_all(&machine));
    let config = cluster.agent(1).config().display().to_string();
    let made = cli::run(&machine, &["cluster", "init", "--config", &config], b"").ok();
    let admin = made.stdout.trim().to_owned();
    assert!(made.stderr.contains("shown this once"), "{made}");
    cli::run(&machine, &["cluster", "init", "--config", &config], b"")
        .exits(1)
        .mentions(&["was prepared already"]);
    shows(&machine, Some(&admin));
    cluster.start_all();
    cluster.wait_ready();
    cli::run(&machine, &["cluster", "init", "--config", &config], b"").exits(1).calm();
    let voter = token(&cluster, &["--name", "v", "--role", "voter"]);
    for number in [2, 3] {
        let file = private(&machine, &format!("voter.{number}"), &voter);
        cluster.add(|plan| plan.more = security("join_token_file", &file)).start();
    }
    cluster.wait_ready();
    cases.end();
}

fn security(key: &str, path: &Path) -> String {
    format!("[security]\n{key} = {:?}\ncertificate_lifetime = {CERTIFICATE:?}\n", path.display().to_string())
}

fn strangers(machine: &Machine, cluster: &Cluster, first: &str) {
    let ask = || cluster.agent(2).cli(&["node", "list"]);
    shows(machine, None);
    ask().exits(1).mentions(&["sheaf login"]);
    let (id_and_secret, pin) = first.rsplit_once('.').expect("it pins the authority");
    let wrong = format!(
        "{}.{pin}",
        id_and_secret.split('.').next().map_or(String::new(), |id| format!("{id}.{}", "0".repeat(64)))
    );
    shows(machine, Some(&wrong));
    ask().exits(1).mentions(&["is not known here"]);
    // Of another cluster: it is not even shown there.
    shows(machine, Some(&format!("{id_and_secret}.{}", "0".repeat(64))));
    ask().exits(1).mentions(&["belongs to another cluster"]);
    shows(machine, Some("hunter2"));
    let refused = ask();
    assert!(refused.code != 0 && !refused.stderr.contains("hunter2"), "{refused}");
    shows(machine, Some(first));
    ask().ok();
}

fn roles(machine: &Machine, cluster: &Cluster, first: &str) {
    let viewer = token(cluster, &["--name", "vera", "--role", "viewer"]);
    let operator = token(cluster, &["--name", "olaf", "--role", "operator", "--on", "/team-a/"]);
    let apply =
        |number: usize, text: &str| cluster.agent(number).cli_with(&["apply", "-f", "-"], text.as_bytes());
    let trace = trace(cluster, "roles");
    let (mine, others) =
        (bucket("/team-a/x", "steady", &trace, ""), bucket("/team-b/x", "steady", &trace, ""));
    shows(machine, Some(&viewer));
    cluster.agent(1).cli(&["bucket", "list"]).ok();
    cluster.agent(3).cli(&["query", "SELECT name FROM nodes"]).ok();
    for number in 1..=3 {
        apply(number, &mine).exits(1).mentions(&["vera (viewer) may not", "needs the role operator"]);
    }
    cluster.cli(&["cluster", "token", "list"]).exits(1).mentions(&["needs the role admin"]);
    cluster.cli(&["cluster", "settings", "lease.ttl=5s"]).exits(1).mentions(&["needs the role admin"]);
    shows(machine, Some(&operator));
    apply(2, &mine).ok();
    apply(3, &others).exits(1).mentions(&["olaf (operator on /team-a/)", "/team-b/x"]);
    apply(1, &module("own", "")).exits(1).mentions(&["needs the role admin"]);
    // Neither half of a file is applied if one is not for it.
    let both = format!("{}---\n{others}", bucket("/team-a/y", "steady", &trace, ""));
    apply(1, &both).exits(1).mentions(&["/team-b/x"]);
    cluster.cli(&["bucket", "status", "/team-a/y"]).exits(3);
    cluster.cli(&["node", "drain", "n1"]).exits(1).mentions(&["olaf"]);
    shows(machine, Some(first));
    let events = cluster.cli(&["events", "-o", "json"]).ok();
    let made = events
        .json_lines()
        .into_iter()
        .find(|event| event["kind"] == "bucket.created" && event["subject"] == "/team-a/x");
    assert_eq!(made.expect("the event of the bucket")["actor"], "user:olaf");
    cluster.delete(&["/team-a/x"]);
}

fn gone(machine: &Machine, cluster: &Cluster, first: &str) {
    let short = token(cluster, &["--name", "short", "--role", "viewer", "--ttl", "2s"]);
    let long = token(cluster, &["--name", "long", "--role", "viewer"]);
    shows(machine, Some(&long));
    let watch = cluster.agent(2).follow(&["events", "--follow"]);
    cluster.agent(2).cli(&["node", "list"]).ok();
    shows(machine, Some(first));
    cluster.cli(&["cluster", "token", "revoke", "long", "--yes"]).ok();
    shows(machine, Some(&long));
    for number in 1..=3 {
        wait_for("a revoked token is not taken", SOON, || {
            let output = cluster.agent(number).cli(&["node", "list"]);
            if output.code == 1 { Ok(()) } else { Err(output.to_string()) }
        });
    }
    assert_ne!(watch.finish(SOON).code, 0, "a stream ends with the token that opened it");
    shows(machine, Some(&short));
    wait_for("an expired token is not taken", SOON, || {
        let output = cluster.agent(3).cli(&["node", "list"]);
        if output.code == 1 && output.stderr.contains("has expired") {
            Ok(())
        } else {
            Err(output.to_string())
        }
    });
    shows(machine, Some(first));
}

fn on_pages(machine: &Machine, cluster: &Cluster, first: &str) {
    let agent = cluster.agent(2);
    let get = |path: &str, more: &str| dashboard::ask(agent, "GET", path, more, "");
    for path in ["/", "/assets/app.js", "/healthz", "/readyz", "/metrics"] {
        assert!(get(path, "").0.starts_with("HTTP/1.1 200"), "{path}");
    }
    let list = "/api/v1/node/list";
    assert!(get(list, "").0.starts_with("HTTP/1.1 401"));
    let viewer = token(cluster, &["--name", "wanda", "--role", "viewer"]);
    let (cookie, with) = dashboard::enter(agent);
    let post = |path: &str, more: &str, body: &str| dashboard::ask(agent, "POST", path, more, body);
    let login = |token: &str, more: &str| post("/api/v1/login", more, &format!("{{\"token\":{token:?}}}")).0;
    assert!(login(&viewer, &cookie).starts_with("HTTP/1.1 403"), "no token of the page");
    assert!(login("hunter2", &with).starts_with("HTTP/1.1 400"));
    let head = login(&viewer, &with);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // Whoever knew the session before the login has nothing of it.
    assert!(get(list, &with).0.starts_with("HTTP/1.1 401"));
    let cookie = dashboard::cookie(&head);
    let known: serde_json::Value = serde_json::from_str(&get("/api/v1/session", &cookie).1).expect("JSON");
    assert_eq!(
        known["asker"],
        serde_json::json!({"name": "wanda", "role": "viewer", "prefix": ""}),
        "the page knows what to offer: {known:#}"
    );
    let with = dashboard::page(&cookie, &known);
    assert!(get(list, &with).0.starts_with("HTTP/1.1 200"));
    // What programs ask, and no page.
    for (path, part) in
        [("cluster/members", "\"voter\""), ("module/list", "\"steady"), ("backend/list", "[]")]
    {
        let (head, body) = get(&format!("/api/v1/{path}"), &with);
        assert!(head.starts_with("HTTP/1.1 200") && body.contains(part), "{path}: {head} {body}");
    }
    let (head, body) = get("/api/v1/cluster/settings", &with);
    assert!(head.starts_with("HTTP/1.1 403") && body.contains("wanda (viewer)"), "{head} {body}");
    let (head, body) = post("/api/v1/node/drain", &with, "{\"node\":\"n3\"}");
    assert!(head.starts_with("HTTP/1.1 403") && body.contains("wanda (viewer)"), "{head} {body}");
    assert!(get(list, &with.replace("cookie: sheaf", "cookie: other")).0.starts_with("HTTP/1.1 401"));
    let evil = with.replace("content-type", "origin: http://evil.example\r\ncontent-type");
    assert!(get(list, &evil).0.starts_with("HTTP/1.1 403"), "a page of another site");
    shows(machine, Some(first));
    cluster.cli(&["cluster", "token", "revoke", "wanda", "--yes"]).ok();
    wait_for("its token is worth nothing any more", SOON, || {
        let head = get(list, &with).0;
        if head.starts_with("HTTP/1.1 401") { Ok(()) } else { Err(head) }
    });
}

/// `sheaf top`, with a viewer's token and without one.
fn screen(machine: &Machine, cluster: &Cluster, first: &str) {
    let viewer = token(cluster, &["--name", "walter", "--role", "viewer"]);
    let top = || {
        let address = cluster.agent(2).address();
        Screen::start(machine, &["top", "--address", &address], (160, 24), false)
    };
    shows(machine, Some(&viewer));
    let mut seen = top();
    let text = seen.shows(&["3 nodes ready", "[1 Overview]"]);
    assert!(!text.contains("NOT secured"), "{text}");
    seen.press("3");
    seen.shows(&["[3 Nodes]", "n2"]);
    seen.press("5");
    seen.shows(&["bucket.created"]);
    // Its token ends while it looks: it says so, and goes on being asked.
    shows(machine, Some(first));
    cluster.cli(&["cluster", "token", "revoke", "walter", "--yes"]).ok();
    seen.press("3");
    seen.wait_for("that nobody knows it any more", |text| {
        text.contains("NO ANSWER") && text.contains("is not known here")
    });
    seen.press("q");
    assert_eq!(seen.end(), Left { code: 0, restored: true });
    shows(machine, Some(&viewer));
    let refused = top();
    assert_eq!(refused.end(), Left { code: 1, restored: true }, "said before the screen is taken");
    shows(machine, Some(first));
}

pub(crate) fn with_token(machine: &Machine, name: &str, token: &str) -> impl FnOnce(&mut NodePlan) + use<> {
    let file = private(machine, name, token);
    move |plan| plan.more = security("join_token_file", &file)
}

fn by_token(machine: &Machine, cluster: &mut Cluster) {
    let join = token(cluster, &["--name", "agents", "--role", "agent"]);
    cluster.add(with_token(machine, "agents.token", &join)).start();
    cluster.wait_ready();
    let agent = cluster.agent(4);
    agent.cli(&["node", "list"]).ok();
    fs::remove_file(machine.path("agents.token")).expect("it was there");
    agent.kill();
    agent.start();
    cluster.wait_back(agent);
}

fn refused(machine: &Machine, cluster: &Cluster) {
    let person = token(cluster, &["--name", "person", "--role", "admin"]);
    let (id, rest) = person.split_once('.').expect("an id and the rest");
    let spoilt = format!("{id}.{}{}", "0".repeat(64), &rest[64..]);
    let stale = token(cluster, &["--name", "stale", "--role", "agent", "--ttl", "1s"]);
    let revoked = token(cluster, &["--name", "revoked", "--role", "agent"]);
    cluster.cli(&["cluster", "token", "revoke", "revoked", "--yes"]).ok();
    wait_for("a token has expired", SOON, || {
        let expired = ["cluster", "token", "list", "--where", "name=stale,expired=true", "-o", "name"];
        let output = cluster.cli(&expired);
        if output.stdout.contains("stale") { Ok(()) } else { Err(output.to_string()) }
    });
    for (name, token, said) in [
        ("person", &person, "is for people"),
        ("spoilt", &spoilt, "is not known here"),
        ("stale", &stale, "token stale has expired at"),
        ("revoked", &revoked, "is not known here: it was revoked"),
    ] {
        let file = with_token(machine, &format!("{name}.token"), token);
        forming::refused(&forming::more(cluster, name, file), &[said]);
    }
    let bare =
        forming::more(cluster, "bare", |plan| plan.address = plan.address.replace("127.0.0.1", "0.0.0.0"));
    forming::refused(&bare, &["nothing secures this node yet", "sheaf cluster init"]);
}

pub(crate) fn certificate(agent: &Agent) -> Vec<u8> {
    fs::read(agent.dir().join("trust/node.pem")).expect("a secured node has one")
}

/// A bucket that runs while certificates are renewed.
struct Renewing {
    trace: Trace,
    /// By the name of their node, as they were.
    before: BTreeMap<String, Vec<u8>>,
}

impl Renewing {
    fn begin(cluster: &Cluster) -> Self {
        let trace = trace(cluster, "renewed");
        cluster.apply_and_wait(&bucket("/renewed", "steady", &trace, ""));
        let mut renewing = Self { trace, before: BTreeMap::new() };
        cluster.agents().iter().for_each(|agent| renewing.with(agent));
        renewing
    }

    /// The node's certificate is to be renewed, too.
    fn with(&mut self, agent: &Agent) {
        self.before.insert(agent.name(), certificate(agent));
    }

    fn end(&self, cluster: &Cluster) {
        assert_eq!(self.before.len(), cluster.agents().len(), "{:?}", self.before.keys());
        for agent in cluster.agents() {
            let what = format!("the certificate of {} is renewed", agent.name());
            wait_for(&what, RENEWED_WITHIN, || {
                if certificate(agent) == self.before[&agent.name()] { Err(agent.log_tail()) } else { Ok(()) }
            });
            agent.cli(&["node", "list"]).ok();
        }
        assert_eq!(self.trace.starts().len(), 1, "the bucket's program was started once");
        let rows = cluster.json(&["node", "list", "-o", "json"]);
        assert!(rows.as_array().into_iter().flatten().all(|row| row["status"] == "ready"), "{rows:#}");
    }
}

fn planned(cluster: &Cluster) {
    let node = only_node(&cluster.status("/renewed"));
    let agent = cluster.named(&node);
    let pids = |agent: &Agent| agent.programs("/renewed").iter().map(|it| it.pid).collect::<Vec<_>>();
    let before = pids(agent);
    assert_eq!(before.len(), 1);
    let [soft, hard] = core_limits(agent.pid());
    assert_eq!(soft, if hard == "0" { "0" } else { "1" }, "keys are in its memory");
    let [soft, hard] = core_limits(before[0]);
    assert_eq!(soft, hard, "what it runs may leave a core, as without it");
    let command = agent.follow(&["events", "--follow"]);
    wait_for("a command, which knows a token, leaves none", SOON, || {
        let [soft, hard] = core_limits(command.pid());
        let is_so = soft == if hard == "0" { "0" } else { "1" };
        if is_so { Ok(()) } else { Err(format!("{soft}, {hard}")) }
    });
    drop(command);
    assert_eq!(agent.stop(), 0);
    assert!(agent.stand_in().is_some(), "somebody holds its leases");
    // Longer than a lease: only a session of the stand-in's keeps it.
    let begun = Instant::now();
    wait_for("a lease's time is over", SOON, || {
        if begun.elapsed() > Duration::from_secs(6) { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(pids(agent), before);
    agent.start();
    cluster.wait_back(agent);
    assert_eq!((pids(agent), only_node(&cluster.status("/renewed"))), (before, node));
    cluster.delete(&["/renewed"]);
}

/// How large a core of a process may be, softly and hardly.
pub(crate) fn core_limits(pid: u32) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.expect("the kernel says it").split_whitespace().map(str::to_owned);
    [(); 2].map(|()| words.next().expect("two numbers"))
}

fn handed_over(machine: &Machine, cluster: &mut Cluster) {
    let leader = cluster.leader().name();
    for agent in cluster.voters() {
        trust(agent);
    }
    assert!(!cluster.agent(4).dir().join("trust/authority.key").exists(), "it may not vote");
    let join = token(cluster, &["--name", "after", "--role", "agent"]);
    cluster.named(&leader).kill();
    let change = with_token(machine, "after.token", &join);
    cluster
        .add(|plan| {
            change(plan);
            logs_all(plan);
        })
        .start();
    wait_for("a node joins while the former leader is away", SOON, || {
        let row = cluster.try_json(&["node", "status", "n5", "-o", "json"])?;
        if row["status"] == "ready" { Ok(()) } else { Err(format!("{row:#}")) }
    });
    let former = cluster.named(&leader);
    former.change(logs_all);
    former.start();
    cluster.wait_ready();
}

/// From its next start on the node's agent logs all that it can.
fn logs_all(plan: &mut NodePlan) {
    plan.environment.push(("SHEAF_LOG".to_owned(), "debug".to_owned()));
}

/// Of those that log all they can, one has joined by a token, one joins by the join secret, and one is a member.
fn logs_say_nothing(machine: &Machine, cluster: &mut Cluster, first: &str, secret: &Path) {
    cluster
        .add(|plan| {
            plan.more = security("join_secret_file", secret);
            logs_all(plan);
        })
        .start();
    let hidden = confided(machine, cluster, first, secret);
    cluster.wait_ready();
    for agent in cluster.agents() {
        let all = !agent.plan().environment.is_empty();
        assert!(!all || agent.log().contains(" DEBUG "), "{} logs no more than others", agent.name());
        for (place, text) in written(agent) {
            assert!(!text.contains("PRIVATE KEY"), "{place}");
            let found = hidden.iter().find(|(_, forms)| forms.iter().any(|form| text.contains(form)));
            assert!(found.is_none(), "{} stands in {place}", found.map_or("", |(what, _)| *what));
        }
        for file in ["authority.key", "node.pem", "authorities.pem"] {
            let path = agent.dir().join("trust").join(file);
            if let Ok(found) = fs::metadata(&path) {
                assert_eq!(found.permissions().mode() & 0o777, 0o600, "{}", path.display());
            }
        }
    }
    let events = cluster.cli(&["events", "-o", "json", "--all"]).ok();
    for (what, forms) in &hidden {
        assert!(!forms.iter().any(|form| events.stdout.contains(form)), "{what} stands in an event");
    }
    cluster.delete(&["/confided"]);
}

/// Shows a member that logs all it can what nobody else is to see: by commands, on its page, and for a program that it runs. All
/// of that and what nodes have joined by, as it would be logged.
fn confided(
    machine: &Machine,
    cluster: &Cluster,
    first: &str,
    secret: &Path,
) -> Vec<(&'static str, Vec<String>)> {
    let asked = cluster.agents().iter().take(3).find(|agent| !agent.plan().environment.is_empty());
    let asked = asked.unwrap_or_else(|| cluster.agent(1));
    shows(machine, None);
    asked.cli(&["login", "--join-secret", &secret.display().to_string()]).ok();
    fs::remove_file(machine.path(".config/sheaf/config.toml")).expect("login has written it");
    shows(machine, Some(first));
    let user = token(cluster, &["--name", "uma", "--role", "admin"]);
    let (_, with) = dashboard::enter(asked);
    let login = |token: &str| {
        dashboard::ask(asked, "POST", "/api/v1/login", &with, &format!("{{\"token\":{token:?}}}")).0
    };
    assert!(login("hunter2").starts_with("HTTP/1.1 400"));
    let head = login(&user);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let cookie = dashboard::cookie(&head);
    shows(machine, Some(&user));
    asked.cli_with(&["secret", "set", "debug.token"], CONFIDED.as_bytes()).ok();
    let rules = format!("node_list_rules: [{}]", asked.name());
    cluster
        .apply_and_wait(&format!("{CONFIDING}kind: Bucket\nname: /confided\nmodule: confiding\n{rules}\n"));
    shows(machine, Some(first));
    let part = |token: &str| token.trim().split('.').nth(1).expect("a secret").to_owned();
    let mut hidden = vec![
        ("the join secret", fs::read_to_string(secret).expect("it is the test's own").trim().to_owned()),
        ("the token that it is", part(first)),
        ("a person's token", part(&user)),
        ("what is no token", "hunter2".to_owned()),
        ("a page's session", cookie.split('=').nth(1).expect("a value").trim().to_owned()),
        ("a module's secret", CONFIDED.to_owned()),
    ];
    let join = fs::read_to_string(machine.path("after.token")).ok();
    hidden.extend(join.map(|join| ("a join token", part(&join))));
    hidden.into_iter().map(|(what, text)| (what, forms(&text))).collect()
}

/// A text, and its bytes as they are printed: its own, and those that it has the digits of.
fn forms(text: &str) -> Vec<String> {
    let printed = |bytes: &[u8]| bytes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let digits =
        text.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
    let digits = digits.collect::<Option<Vec<u8>>>();
    let mut forms = vec![text.to_owned(), printed(text.as_bytes())];
    forms.extend(digits.map(|bytes| printed(&bytes)));
    forms
}

/// What an agent has logged, and all that lies where its keepers write, each with its place.
fn written(agent: &Agent) -> Vec<(String, String)> {
    let mut all = vec![(format!("the log of {}", agent.name()), agent.log())];
    let mut folders = vec![agent.dir().join("instances")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
                folders.push(path);
            } else if kind.is_ok_and(|kind| kind.is_file()) {
                let bytes = fs::read(&path).unwrap_or_default();
                all.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    all
}

/// All nodes still have the secret. Commands have shown the token that it is, so this comes last.
fn revoked(machine: &Machine, cluster: &Cluster, secret: &Path) {
    let admin = token(cluster, &["--name", "root", "--role", "admin"]);
    shows(machine, Some(&admin));
    cluster.cli(&["cluster", "token", "revoke", "join-secret", "--yes"]).ok();
    let late = forming::more(cluster, "late", |plan| plan.more = security("join_secret_file", secret));
    forming::refused(&late, &["the join secret was revoked", "sheaf cluster token create"]);
}

fn open_to_all(machine: &Arc<Machine>) {
    let alone = Cluster::plan(machine, "open-", 1, |_, plan| {
        plan.address = plan.address.replace("127.0.0.1", "0.0.0.0");
    });
    forming::refused(alone.agent(1), &["can be reached from other machines", "sheaf cluster init"]);
}
