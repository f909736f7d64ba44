//! The support bundle: all that is to be had, whoever is down, and nothing secret.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::program;
use sheaf_tests::jobs::{job, over};
use sheaf_tests::receiver::Receiver;
use sheaf_tests::{Agent, Cases, Cluster, Machine, secured, wait_for};

/// Stands in every place where something secret may stand, and must not stand in any bundle.
const MARK: &str = "squeamish-ossifrage";
/// What every node shows of itself.
const FILES: [&str; 8] = [
    "about.json",
    "agent.json",
    "config.json",
    "disk.json",
    "facts.json",
    "log.txt",
    "metrics.txt",
    "raft.json",
];

/// A secured cluster of three; then two, then one.
#[test]
fn bundle() {
    let machine = Arc::new(Machine::take());
    let [secret, key] = ["join.secret", "secrets.key"].map(|name| secured::secret(&machine, name));
    let more = format!("{}[secrets]\nkey_file = {:?}\n", secured::config(&secret), key.display().to_string());
    let cluster = Cluster::plan(&machine, "", 3, |_, plan| {
        plan.more.clone_from(&more);
        plan.environment.push(("MARKED".to_owned(), MARK.to_owned()));
    });
    cluster.start_all();
    let admin = secured::of_secret(&machine, &cluster, &secret);
    secured::shows(&machine, Some(&admin));
    cluster.wait_ready();
    let receiver = Receiver::start();
    mark(&cluster, &receiver);
    let mut secrets = Secrets { texts: vec![MARK.to_owned()] };
    secrets.of_token(&admin);
    let mut cases = Cases::of("bundle");
    cases.run("it has all of every node, and nothing secret", || whole(&cluster, &mut secrets));
    cases.run("it is for admins", || roles(&machine, &cluster, &admin));
    cases.run("what a node that is down has is missing, and it says so", || down(&cluster, &secrets));
    cases.run("it needs no leader", || alone(&cluster, &secrets));
    cases.end();
}

/// What must stand nowhere.
struct Secrets {
    texts: Vec<String>,
}

impl Secrets {
    /// All of it but its id and what it pins.
    fn of_token(&mut self, token: &str) {
        self.texts.extend(token.split('.').nth(1).map(str::to_owned));
    }

    /// Every line that is long enough to be a part of a key.
    fn of_file(&mut self, path: &Path) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let found = text.lines().map(str::trim).filter(|line| line.len() >= 16 && !line.starts_with("---"));
        let before = self.texts.len();
        self.texts.extend(found.map(str::to_owned));
        assert!(self.texts.len() > before, "nothing in {}", path.display());
    }
}

/// Puts the mark where something secret may stand.
fn mark(cluster: &Cluster, receiver: &Receiver) {
    cluster.cli_with(&["secret", "set", "app.token"], MARK.as_bytes()).ok();
    cluster.cli_with(&["secret", "set", "hook.key"], MARK.as_bytes()).ok();
    // Its program prints what it was given, and fails: the last lines stand beside its phase.
    let told = "restart: {policy: never}";
    let module = program("telling", "echo \"$SECRET $PLAIN\" >&2; exit 7", told)
        .replace("env: {", &format!("env: {{SECRET: '${{secret.app.token}}', PLAIN: {MARK}, "));
    let asks = "can_run_on_this_node: [{env: 'MARKED=other'}]\n";
    cluster.apply(&format!("{module}{}", program("asking", "exec sleep 1000", asks)));
    let config = format!("config: {{trace: /dev/null, password: {MARK}}}");
    let bucket = |name: &str, module: &str| {
        format!("kind: Bucket\nname: {name}\nmodule: {module}\nmulti_node: true\n{config}\n---\n")
    };
    cluster.apply(&format!("{}{}", bucket("/telling", "telling"), bucket("/unplaced", "asking")));
    let url = format!("{}/{MARK}?token={MARK}", receiver.url());
    let sink = format!(
        "kind: Sink\nname: ops\nwebhook: {{url: '{url}', secret: '${{secret.hook.key}}', timeout: 2s}}\n"
    );
    cluster.cli_with(&["sink", "apply", "-f", "-"], sink.as_bytes()).ok();
    let backend = format!(
        "kind: Backend\nname: service\nconfig: {{url: 'http://127.0.0.1:1/', headers: {{Authorization: 'Bearer {MARK}'}}}}\n"
    );
    cluster.cli_with(&["backend", "apply", "-f", "-"], backend.as_bytes()).ok();
    let quick = "kind: Module\nname: quick\nversion: '1'\nruntime: exec\n\
                 exec: {command: /bin/sh, args: [-c, 'echo ${item.do}; exit 3']}\n";
    cluster.apply(quick);
    let more = format!("subtasks: {{items: [{{do: {MARK}}}]}}\nretry: {{max_attempts: 1}}");
    cluster.cli_with(&["job", "submit", "-f", "-"], job("marked", "quick", &more).as_bytes()).ok();
    over(cluster, "marked");
    cluster.wait_state("/unplaced", "unplaced");
    cluster.wait_status("/telling", "what it printed is known", |status| status.to_string().contains(MARK));
}

/// A bundle, unpacked.
struct Unpacked {
    dir: PathBuf,
    manifest: Value,
}

impl Unpacked {
    /// Has one made by this agent.
    fn of(agent: &Agent, cluster: &Cluster, name: &str) -> Self {
        let path = cluster.machine().path(&format!("{name}.tar.gz"));
        let made = agent.cli(&["cluster", "debug", &path.display().to_string()]).ok();
        assert_eq!(made.stdout.trim(), path.display().to_string());
        let into = cluster.machine().path("bundles");
        fs::create_dir_all(&into).expect("a directory can be made in the test's own");
        let done = Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(&into).output();
        let done = done.expect("tar is everywhere");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let dir = into.join(name);
        let manifest = fs::read_to_string(dir.join("manifest.json")).expect("it has a manifest");
        Self { dir, manifest: serde_json::from_str(&manifest).expect("JSON") }
    }

    /// What the manifest says in a list.
    fn listed(&self, list: &str, key: &str) -> BTreeSet<String> {
        let all = self.manifest[list].as_array().into_iter().flatten();
        all.filter_map(|entry| entry[key].as_str()).map(str::to_owned).collect()
    }

    fn json(&self, file: &str) -> Value {
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}: {text}"))
    }

    /// Every file of it, with its path there.
    fn files(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("it was unpacked").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let text = String::from_utf8_lossy(&fs::read(&path).expect("it is there")).into_owned();
                    let name = path.strip_prefix(&self.dir).expect("it is below").display().to_string();
                    found.push((name, text));
                }
            }
        }
        found
    }

    /// Nothing secret stands anywhere, and the manifest names what is there.
    fn says_nothing(&self, secrets: &Secrets) {
        let files = self.files();
        for (name, text) in &files {
            for secret in &secrets.texts {
                assert!(!text.contains(secret.as_str()), "{secret} in {name}:\n{text}");
            }
            assert!(!text.contains("PRIVATE KEY"), "a key in {name}");
        }
        let mut named = self.listed("files", "path");
        assert!(named.insert("manifest.json".to_owned()));
        assert_eq!(named, files.into_iter().map(|(name, _)| name).collect());
    }
}

fn whole(cluster: &Cluster, secrets: &mut Secrets) {
    secrets.of_file(&cluster.machine().path("join.secret"));
    secrets.of_file(&cluster.machine().path("secrets.key"));
    for agent in cluster.agents() {
        let trust = secured::trust(agent);
        secrets.of_file(&trust.join("node.pem"));
        secrets.of_file(&trust.join("authority.key"));
    }
    let join = cluster.cli(&["cluster", "token", "create", "--role", "agent"]).ok();
    secrets.of_token(join.stdout.trim());
    let bundle = Unpacked::of(cluster.agent(2), cluster, "whole");
    bundle.says_nothing(secrets);
    assert_eq!(bundle.manifest["missing"], serde_json::json!([]), "{:#}", bundle.manifest);
    let files = bundle.listed("files", "path");
    for node in ["n1", "n2", "n3"] {
        for file in FILES {
            assert!(files.contains(&format!("nodes/{node}/{file}")), "{file} of {node} in {files:?}");
        }
        let config = bundle.json(&format!("nodes/{node}/config.json"));
        assert_eq!(
            config["security"]["join_secret_file"],
            cluster.machine().path("join.secret").display().to_string()
        );
        let agent = bundle.json(&format!("nodes/{node}/agent.json"));
        assert_eq!(agent["has_session"], true, "{agent:#}");
        let read = |file: &str| {
            fs::read_to_string(bundle.dir.join("nodes").join(node).join(file)).expect("it is there")
        };
        assert!(read("log.txt").contains("agent starts") && read("metrics.txt").contains("sheaf_build_info"));
    }
    assert_eq!(bundle.json("cluster/status.json")["leader"], cluster.leader().name());
    assert!(bundle.json("cluster/settings.json")["lease.ttl"].is_string());
    let explained = bundle.json("cluster/explain.json").to_string();
    assert!(
        explained.contains("/unplaced") && explained.contains("environment variable MARKED is [redacted]"),
        "{explained}"
    );
    let events = bundle.json("cluster/events.json");
    assert!(events.as_array().is_some_and(|events| events.len() > 5), "{events:#}");
    assert_eq!(bundle.json("cluster/jobs.json")[0]["counts"]["failed"], 1);
    let leading =
        ["n1", "n2", "n3"].map(|node| bundle.json(&format!("nodes/{node}/raft.json"))["leading"] == true);
    assert_eq!(leading.iter().filter(|leads| **leads).count(), 1);
}

fn roles(machine: &Machine, cluster: &Cluster, admin: &str) {
    for (name, role) in [("vera", "viewer"), ("olaf", "operator")] {
        let token = cluster.cli(&["cluster", "token", "create", "--name", name, "--role", role]).ok().stdout;
        secured::shows(machine, Some(token.trim()));
        let path = machine.path(&format!("{name}.tar.gz"));
        let refused = cluster.cli(&["cluster", "debug", &path.display().to_string()]);
        refused.exits(1).mentions(&[name, "needs the role admin"]);
        assert!(!path.exists());
        secured::shows(machine, Some(admin));
    }
    cluster.cli(&["cluster", "debug", "--node", "n9"]).exits(3).mentions(&["there is no node n9"]);
}

fn down(cluster: &Cluster, secrets: &Secrets) {
    cluster.agent(3).kill();
    let bundle = Unpacked::of(cluster.agent(1), cluster, "down");
    bundle.says_nothing(secrets);
    let missing = bundle.listed("missing", "what");
    assert!(missing.contains("nodes/n3"), "{missing:?}");
    let files = bundle.listed("files", "path");
    assert!(files.contains("nodes/n2/log.txt") && !files.contains("nodes/n3/log.txt"), "{files:?}");
}

fn alone(cluster: &Cluster, secrets: &Secrets) {
    cluster.agent(2).kill();
    wait_for("nobody leads", SOON, || {
        let output = cluster.agent(1).cli(&["cluster", "status", "-o", "json"]);
        if output.code == 1 { Ok(()) } else { Err(output.to_string()) }
    });
    let bundle = Unpacked::of(cluster.agent(1), cluster, "alone");
    bundle.says_nothing(secrets);
    let missing = bundle.listed("missing", "what");
    for what in ["nodes/n2", "nodes/n3", "cluster/settings.json"] {
        assert!(missing.contains(what), "{what} in {missing:?}");
    }
    let files = bundle.listed("files", "path");
    for file in ["nodes/n1/raft.json", "nodes/n1/log.txt", "cluster/status.json", "cluster/buckets.json"] {
        assert!(files.contains(file), "{file} in {files:?}");
    }
    assert_eq!(bundle.json("nodes/n1/raft.json")["heard_by_a_majority"], false);
}
