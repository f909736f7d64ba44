//! What operators get: unit, package, manifests, alerts, and the manual, whose commands are run as they stand there.
//!
//! What needs nodes that are machines of their own is in the target `docker`. A tool that is missing is a reason to skip, and
//! where `CI` is set a failure.

#[path = "deploy/files.rs"]
mod files;
#[path = "deploy/metrics.rs"]
mod metrics;
#[path = "deploy/package.rs"]
mod package;
#[path = "deploy/prometheus.rs"]
mod prometheus;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sheaf_tests::cluster::SOON;
use sheaf_tests::secured::{copy, trust};
use sheaf_tests::{Cases, Cluster, Machine, cli, manual, need, wait_for};

/// What blocks of the manual are run by, each in some test.
const RUNS: [&str; 12] = [
    "cluster",
    "compose",
    "compose-down",
    "forget",
    "install",
    "promtool",
    "purge",
    "recover",
    "remove",
    "restore",
    "stop",
    "upgrade",
];

#[test]
fn every_block_of_the_manual_is_run_by_some_test() {
    let found: BTreeSet<String> = manual::blocks().into_iter().map(|block| block.run).collect();
    assert_eq!(found, RUNS.map(str::to_owned).into());
}

#[test]
fn what_the_manuals_sentences_mention_is_there() {
    let machine = Machine::take();
    let (mentioned, settings) = (manual::mentioned(), manual::settings());
    assert!(mentioned.len() >= 20 && settings.len() >= 3, "{mentioned:?} {settings:?}");
    for command in mentioned {
        let args: Vec<&str> = command.split(' ').skip(1).chain(["--help"]).collect();
        cli::run(&machine, &args, b"").ok();
    }
    let dir = format!("storage.dir={}", machine.path("data").display());
    for text in settings {
        let file = machine.write("manual.toml", &text).display().to_string();
        let checked = cli::run(&machine, &["agent", "check", "--config", &file, "--set", &dir], b"");
        assert_ne!(checked.code, 2, "its files need not be there, its keys must: {text}\n{checked}");
    }
}

#[test]
fn the_manuals_queries_of_prometheus_are_right() {
    if !need::programs(&["promtool"]) {
        return;
    }
    let dir = tempfile_dir();
    for block in manual::of("promtool") {
        block.run(&manual::root(), &dir, &[], &[]);
    }
    fs::remove_dir_all(&dir).expect("the test's own directory");
}

fn tempfile_dir() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("sheaf-deploy.{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory can be made for temporary files");
    dir
}

/// As somebody pastes it: no command that fails ends the shell.
#[test]
fn the_manual_starts_no_node_while_one_is_unfit() {
    let machine = Machine::take();
    let scripts = [
        ("scp", "echo \"scp $*\" >>log\n"),
        ("ssh", "echo \"ssh $*\" >>log\ncase \"$*\" in *\"@$(cat unfit) \"*'agent check') exit 1 ;; esac\n"),
    ];
    for (name, does) in scripts {
        let file = machine.write(&format!("fleet/bin/{name}"), format!("#!/bin/sh\n{does}"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }
    let block = manual::of("install").into_iter().find(|block| block.text.contains("agent check"));
    let block = block.expect("nodes are looked at before they are started");
    let run = |unfit: &str| {
        machine.write("fleet/unfit", unfit);
        machine.write("fleet/log", "");
        let path = format!("{}:/usr/bin:/bin", machine.path("fleet/bin").display());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &block.text]).current_dir(machine.path("fleet")).env("PATH", path);
        let done = shell.output().expect("there is a shell");
        let log = fs::read_to_string(machine.path("fleet/log")).expect("it was written above");
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned(), log)
    };
    let (code, said, log) = run("work-03");
    assert_eq!((code, log.matches("agent check\n").count()), (Some(1), 20), "all are looked at: {log}");
    assert!(!log.contains("systemctl start") && said.contains("work-03,"), "{said}\n{log}");
    let (code, said, log) = run("nobody");
    let counts = ["systemctl start sheaf\n", "agent ready"].map(|part| log.matches(part).count());
    assert_eq!((code, counts, said.as_str()), (Some(0), [20, 20], ""), "{log}");
}

/// A secured cluster of three import nodes and a worker, as in the manual.
struct Scene {
    machine: Arc<Machine>,
    cluster: Cluster,
}

impl Scene {
    fn start() -> Self {
        let machine = Arc::new(Machine::take());
        fs::create_dir_all(machine.path("work")).expect("a directory can be made in the test's own");
        for file in ["work/join.secret", "work/secrets.key"] {
            let path = machine.path(file).display().to_string();
            cli::run(&machine, &["secret", "keygen", &path], b"").ok();
        }
        let [secret, key] = ["work/join.secret", "work/secrets.key"].map(|file| machine.path(file));
        let more = format!(
            "[security]\njoin_secret_file = {:?}\n[secrets]\nkey_file = {:?}\n",
            secret.display().to_string(),
            key.display().to_string()
        );
        let cluster = Cluster::plan(&machine, "", 4, |number, plan| {
            plan.name = if number < 4 { format!("import-{number:02}") } else { "work-07".to_owned() };
            plan.hostname.clone_from(&plan.name);
            plan.more.clone_from(&more);
        });
        // The worker comes last: the three have numbers then, and votes go by these.
        (1..=3).for_each(|number| cluster.agent(number).start());
        for number in 1..=3 {
            let config = cluster.agent(number).config().display().to_string();
            cli::run(&machine, &["agent", "ready", "--config", &config, "--timeout", "60s"], b"").ok();
        }
        cluster.agent(4).start();
        Self { machine, cluster }
    }

    /// Runs a block; nodes are reached where they are here.
    fn try_run(&self, block: &manual::Block, more: &[(&str, &str)]) -> Result<String, String> {
        let address = self.cluster.agent(1).address();
        let block = block.where_said(&[("import-01:7420", &address)]).where_said(more);
        let programs = self.machine.path(".");
        block.try_run(&self.machine.path("work"), self.machine.place(), &[&programs], &[])
    }

    fn run(&self, block: &manual::Block, more: &[(&str, &str)]) -> String {
        self.try_run(block, more).unwrap_or_else(|why| panic!("{why}"))
    }

    /// What is to be kept beside a snapshot: a voter's folder `trust`, as it is then.
    fn keep_trust(&self) {
        copy(&trust(self.cluster.agent(1)), &self.machine.path("kept.trust"), None);
    }

    /// What a command answers as JSON.
    fn json_of(&self, command: &str) -> serde_json::Value {
        let text = format!("sheaf {command} -o json");
        let said = self.run(&manual::Block { run: String::new(), line: 0, text }, &[]);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Waits until a command line prints this.
    fn wait_for(&self, command: &str, wanted: &str, within: Duration) {
        let block = manual::Block { run: String::new(), line: 0, text: command.to_owned() };
        wait_for(&format!("{wanted} in {command}"), within, || {
            let said = self.try_run(&block, &[])?;
            if said.contains(wanted) { Ok(()) } else { Err(said) }
        });
    }
}

#[test]
fn the_manual() {
    let scene = Scene::start();
    let mut cases = Cases::of("the manual");
    let ready = |number: usize| {
        let config = scene.cluster.agent(number).config().display().to_string();
        cli::run(&scene.machine, &["agent", "ready", "--config", &config, "--timeout", "60s"], b"").ok()
    };
    cases.run("an agent that is ready says so without a token", || {
        let said = ready(1).stdout;
        assert!(said.starts_with("import-01 is ready; import-0"), "{said}");
        (2..=4).for_each(|number| drop(ready(number)));
        let config = scene.cluster.agent(1).config().display().to_string();
        let nowhere = ["agent", "ready", "--config", &config, "--set", "listen.http=127.0.0.1:1"];
        cli::run(&scene.machine, &nowhere, b"").exits(1).calm();
        let checked =
            cli::run(&scene.machine, &["agent", "check", "--config", &config, "-o", "json"], b"").ok();
        let report = checked.json();
        let text = report.to_string();
        assert!(report["ok"] == true && text.contains("this node, import-01, which runs"), "{report:#}");
    });
    cases.run("its commands for every day", || {
        for block in manual::of("cluster") {
            // What the first block shows must be there: a worker that joins last has a name by then.
            if block.text.contains("work-07") && !block.text.contains("token create") {
                scene.wait_for("sheaf node list --where status=ready -o name", "work-07", SOON);
            }
            scene.run(&block, &[]);
            if block.text.contains("snapshot save") {
                scene.keep_trust();
            }
        }
    });
    let mut receiver = None;
    cases.run("a sink is told, in the end", || receiver = Some(metrics::sink(&scene.cluster)));
    cases.run("every metric that alerts and dashboard name is there", || metrics::named(&scene.cluster));
    cases.run("a real Prometheus reads them, and has an answer for every panel and alert", || {
        prometheus::asked(&scene.cluster);
    });
    drop(receiver);
    cases.run("a rolling upgrade says its order, and stops at the first trouble", || trouble(&scene));
    cases.run("a node that is gone is forgotten", || {
        if scene.cluster.named("work-07").is_running() {
            scene.cluster.named("work-07").kill_machine();
        }
        scene.wait_for("sheaf node list --where status=lost -o name", "work-07", Duration::from_secs(30));
        for block in manual::of("forget") {
            scene.run(&block, &[]);
        }
    });
    cases.run("without a majority", || disaster(&scene));
    cases.end();
}

/// What reaches nodes fails, then does nothing; after that a node is down. Nothing further is touched then.
fn trouble(scene: &Scene) {
    let (next, version) = scene.machine.next_version();
    let script = manual::root().join("deploy/scripts/rolling-upgrade.sh");
    let run = |options: &str, node: &str| {
        let text = format!("{} {options} {} {node} 2>&1", script.display(), next.display());
        scene.try_run(&manual::Block { run: String::new(), line: 0, text }, &[])
    };
    let leader = scene.json_of("cluster status")["leader"].as_str().expect("one leads").to_owned();
    let said = run("--dry-run", "").expect("the cluster is whole");
    let order: Vec<&str> = said.trim().rsplit(": ").next().unwrap_or_default().split_whitespace().collect();
    assert_eq!((order.len(), order[0], order[3]), (4, "work-07", leader.as_str()), "{said}");
    assert!(said.starts_with(&format!("to version {version}, 4 nodes: ")), "{said}");
    let stopped = |options: &str, node: &str, parts: &[&str]| {
        let said = run(options, node).expect_err("it stops");
        for part in parts {
            assert!(said.contains(part), "{part:?} in {said}");
        }
        assert_eq!(
            said.matches(": install\n").count(),
            usize::from(!parts[0].starts_with("the cluster")),
            "{said}"
        );
    };
    stopped("--transport /bin/false", "", &["could not be put on work-07", "what to do: "]);
    stopped("--transport /bin/true --timeout 2", "", &["work-07 did not come back", "what to do: "]);
    broken_off(scene, &script, &next);
    // While another node begins to lead a call may fail: here when it is asked how buckets run. It is asked again.
    let asked = scene.machine.path("asked").display().to_string();
    let fickle = format!(
        "[ \"$1 $2\" != 'bucket list' ] || {{ echo >>{asked}; [ $(wc -l <{asked}) -ne 2 ] || exit 1; }}\nexec sheaf \"$@\"\n"
    );
    let fickle = scene.machine.write("fickle", fickle).display().to_string();
    let text = format!(
        "SHEAF='sh {fickle}' {} --transport /bin/true --timeout 2 {} 2>&1",
        script.display(),
        next.display()
    );
    let said = scene.try_run(&manual::Block { run: String::new(), line: 0, text }, &[]);
    let said = said.expect_err("it stops");
    assert!(said.contains("work-07 did not come back"), "{said}");
    scene.cluster.named("work-07").kill_machine();
    scene.wait_for("sheaf node list -o json", "\"lost\"", Duration::from_secs(30));
    stopped(
        "--transport /bin/true --timeout 2",
        "",
        &["work-07 did not come back", "work-07 lost", "what to do: ", "FORMER_FILE work-07"],
    );
    // It is looked after by itself; no other is touched while it is away.
    stopped(
        "--transport /bin/true --timeout 2",
        "import-02",
        &["the cluster is not whole", "work-07 is lost", "what to do: "],
    );
}

/// What is copied to a node breaks off: it is not installed.
fn broken_off(scene: &Scene, script: &Path, next: &Path) {
    for (name, does) in [("scp", "exit 1"), ("ssh", "echo reached by ssh")] {
        let file = scene.machine.write(&format!("reach/{name}"), format!("#!/bin/sh\n{does}\n"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }
    let text = format!(
        "PATH={}:$PATH {} {} 2>&1",
        scene.machine.path("reach").display(),
        script.display(),
        next.display()
    );
    let said = scene.try_run(&manual::Block { run: String::new(), line: 0, text }, &[]);
    let said = said.expect_err("it stops");
    assert!(said.contains("could not be put on work-07") && !said.contains("reached by ssh"), "{said}");
}

/// One voter is left, then none.
fn disaster(scene: &Scene) {
    (1..=3).for_each(|number| scene.cluster.agent(number).kill_machine());
    let config = scene.cluster.agent(1).config().display().to_string();
    for block in manual::of("recover") {
        let said = scene.run(&block, &[("/etc/sheaf/agent.toml", &config)]);
        assert!(said.contains("only member"), "{said}");
    }
    let other = scene.cluster.agent(1).plan();
    let dir = scene.machine.path("restored");
    let text = other.toml().replace(&other.dir.display().to_string(), &dir.display().to_string());
    let restored = scene.machine.write("restored.toml", text).display().to_string();
    copy(&scene.machine.path("kept.trust"), &dir.join("trust"), None);
    for block in manual::of("restore") {
        let said = scene.run(&block, &[("/etc/sheaf/agent.toml", &restored)]);
        assert!(said.contains("only member"), "{said}");
    }
}

#[test]
fn every_alert_is_explained_and_tried_and_every_explanation_has_an_alert() {
    let (alerts, tests) = (metrics::read("alerts.yml"), metrics::read("alerts-test.yml"));
    let named: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let text = manual::text();
    let explained: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("#### ")).collect();
    assert_eq!(named, explained);
    for name in named {
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:");
        assert!(tests.contains(&fires), "{name} goes off in no test");
    }
    // Links within the manual lead somewhere.
    let anchors: BTreeSet<String> = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -".contains(*c))
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect();
    for link in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(anchors.contains(link), "#{link} leads nowhere: {anchors:?}");
    }
}

#[test]
fn what_is_run_can_be_run() {
    for script in files::scripts() {
        let mode = fs::metadata(&script).expect("it is there").permissions().mode();
        assert!(mode & 0o111 != 0 || !script.to_string_lossy().ends_with(".sh"), "{}", script.display());
    }
}
