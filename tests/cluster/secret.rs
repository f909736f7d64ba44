//! Secrets: set once, given to the instances that are to have them, and plain nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::jobs::{job, over};
use sheaf_tests::wait::watch_for;
use sheaf_tests::{Agent, Cases, Cluster, Machine, cli, processes, wait_for};

use crate::context::Asker;
use crate::scene::only_node;

/// What must stand nowhere.
const VALUE: &str = "squeamish-ossifrage";
/// The same as the program of `/told` writes it down.
const TURNED: &str = "fdhrnzvfu-bffvsentr";

/// Four agents; the last one has no key.
pub(crate) fn cluster() -> Cluster {
    let machine = Arc::new(Machine::take());
    let key = machine.path("secrets.key");
    let made = cli::run(&machine, &["secret", "keygen", &key.display().to_string()], b"").ok();
    assert!(made.stdout.starts_with("key ") && made.stderr.contains("[secrets] key_file"), "{made}");
    cli::run(&machine, &["secret", "keygen", &key.display().to_string()], b"")
        .exits(1)
        .mentions(&["File exists"]);
    let cluster = Cluster::plan(&machine, "", 4, |number, plan| {
        if number < 4 {
            plan.more = format!("[secrets]\nkey_file = \"{}\"\n", key.display());
        }
    });
    cluster.start_all();
    cluster.wait_ready();
    cluster
}

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("a secret that is not set is warned of, and what needs it starts once it is", || {
        missing(cluster);
    });
    cases.run("a plugin gets the secrets that its module names, and no other", || plugin(cluster));
    cases.run("a job's worker gets the secrets that its module lists, and no other", || worker(cluster));
    cases.run("secrets are shown without their values, and one that is named stays", || people(cluster));
    cases.run("a node without the key neither sets nor opens one, and says what to do", || keyless(cluster));
    cases.run("a secret that is set anew is read at the next start", || anew(cluster));
    cases.run("a program that its keeper starts again gets a secret as it is then", || crashed(cluster));
    cases
        .run("a start waits for a secret that changes while nobody can tell its keeper", || held_up(cluster));
    cases.run("a killed leader and a restart of all take no secret away", || restarts(cluster));
    cases.run("no value stands anywhere but where its instance finds it", || nowhere(cluster));
}

fn set(agent: &Agent, name: &str, value: &str) {
    agent.cli_with(&["secret", "set", name], value.as_bytes()).ok();
}

/// Where the program of `/told` writes what it was given.
fn told(cluster: &Cluster) -> PathBuf {
    cluster.machine().path("told")
}

/// Waits until it has written this.
fn wait_told(cluster: &Cluster, text: &str) {
    let path = told(cluster);
    wait_for(&format!("{} holds {text}", path.display()), SOON, || {
        let found = fs::read_to_string(&path).unwrap_or_default();
        if found.trim() == text { Ok(()) } else { Err(found) }
    });
}

fn missing(cluster: &Cluster) {
    let script = format!(
        "umask 077; printf \"%s %s\" \"$TOKEN\" \"$(cat app.conf)\" | tr a-z n-za-m > {0}.new; mv {0}.new {0}; exec sleep 1000",
        told(cluster).display()
    );
    let module = format!(
        "kind: Module\nname: told\nversion: '1'\nruntime: exec\n\
         exec: {{command: /bin/sh, args: ['-c', '{}'], env: {{TOKEN: '${{secret.exec.token}}'}}}}\n\
         files: {{app.conf: 'conf=${{secret.exec.token}}'}}\nstop: {{grace: 2s}}\n\
         restart: {{backoff: 10ms..10ms, give_up_after: 100 in 10m}}\n",
        script.replace('\'', "''")
    );
    let applied = cluster.apply(&format!("{module}---\n{}", bucket("/told", "told", "['-n4']")));
    let warning = "Module told@1: secret exec.token does not exist; it starts once you set it with `sheaf secret set exec.token`";
    assert!(applied.stderr.contains(warning), "{applied}");
    cluster.wait_status("/told", "it says what is missing", |status| {
        let message = status["instances"][0]["message"].as_str().unwrap_or_default();
        message.contains("there is no secret exec.token; set it with `sheaf secret set exec.token`")
    });
    // Set on a node that need not be the leader.
    set(cluster.agent(2), "exec.token", VALUE);
    cluster.cli(&["bucket", "resume", "/told", "--wait"]).ok();
    wait_told(cluster, &format!("{TURNED} pbas={TURNED}"));
    let node = cluster.named(&only_node(&cluster.status("/told"))).dir();
    let file = node.join("instances/told/dir/app.conf");
    assert_eq!(fs::read_to_string(&file).expect("rendered"), format!("conf={VALUE}"));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    let plan = fs::read_to_string(node.join("instances/told/plan.json")).expect("a plan");
    assert!(plan.contains("exec.token") && !plan.contains(VALUE), "{plan}");
}

fn bucket(name: &str, module: &str, rules: &str) -> String {
    format!("kind: Bucket\nname: {name}\nmodule: {module}\nnode_list_rules: {rules}\n")
}

fn plugin(cluster: &Cluster) {
    let program = env!("CARGO_BIN_EXE_asking");
    cluster.apply(&format!(
        "kind: Module\nname: asking\nversion: '1'\nruntime: plugin\nexec: {{command: '{program}'}}\n\
         secrets: [listed, '${{bucket.config.token}}']\n"
    ));
    let asker = Asker::start_with(cluster, "/asks", "token: of.the.bucket", "node_list_rules: ['-n4']\n");
    asker.refused(
        "secret listed",
        "NotFound",
        "there is no secret listed; set it with `sheaf secret set listed`",
    );
    set(cluster.agent(3), "listed", VALUE);
    set(cluster.agent(1), "of.the.bucket", &format!("{VALUE}\n"));
    set(cluster.agent(1), "other", VALUE);
    // As it was set, the last line feed too; turned round, or the answer would be one more place.
    assert_eq!(asker.done("secret listed"), turned(VALUE));
    assert_eq!(asker.done("secret of.the.bucket"), turned(&format!("{VALUE}\n")).trim());
    asker.refused(
        "secret other",
        "Invalid",
        "secret other is none that module asking@1 names for bucket /asks",
    );
    asker.refused("secret no/name", "Invalid", "contains '/'");
}

/// The value of `exec.token` is printed, so that it would stand in the attempt's output: another one is asked for.
fn worker(cluster: &Cluster) {
    let program = env!("CARGO_BIN_EXE_faulty");
    set(cluster.agent(1), "of.jobs", "plainly said");
    cluster.apply(&format!(
        "kind: Module\nname: working\nversion: '1'\nruntime: plugin\nworker: true\nexec: {{command: '{program}'}}\n\
         secrets: [of.jobs, not.set]\n"
    ));
    let items = ["of.jobs", "not.set", "exec.token"].map(|name| format!("{{do: secret, name: {name}}}"));
    let more = format!(
        "subtasks: {{items: [{}]}}\nretry: {{max_attempts: 1}}\nnode_list_rules: ['-n4']",
        items.join(", ")
    );
    let document = job("asked", "working", &more);
    let output = cluster.cli_with(&["job", "submit", "-f", "-"], document.as_bytes()).ok();
    assert!(output.stderr.contains("secret not.set does not exist"), "{output}");
    let status = over(cluster, "asked");
    assert_eq!(
        (&status["counts"]["finished"], &status["counts"]["failed"]),
        (&1.into(), &2.into()),
        "{status:#}"
    );
    let lines = cluster.cli(&["job", "logs", "asked", "0"]).ok().stdout;
    assert!(lines.contains("of.jobs is plainly said"), "{lines}");
    let rows = cluster.json(&["job", "subtasks", "asked", "-o", "json"]);
    for (which, said) in [
        (1, "secret not.set is not set yet: sheaf secret set not.set"),
        (2, "module working@1 does not name secret exec.token"),
    ] {
        let message = rows[which]["message"].as_str().unwrap_or_default();
        assert!(message.contains(said), "{message}");
    }
    cluster.cli(&["module", "delete", "working@1", "--yes"]).exits(1).mentions(&["asked"]);
    cluster.cli(&["job", "delete", "asked", "--yes"]).ok();
    cluster.cli(&["module", "delete", "working@1", "--yes"]).ok();
    cluster.cli(&["secret", "delete", "of.jobs", "--yes"]).ok();
}

fn turned(text: &str) -> String {
    text.chars().rev().collect()
}

fn people(cluster: &Cluster) {
    let rows = cluster.json(&["secret", "list", "-o", "json"]);
    let names: Vec<&str> =
        rows.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["exec.token", "listed", "of.the.bucket", "other"], "{rows:#}");
    assert!(
        rows[0]["at"].is_string() && rows[0]["actor"].as_str().is_some_and(|by| by.starts_with("cli:")),
        "{rows:#}"
    );
    let refused = cluster.cli(&["secret", "delete", "listed", "--yes"]).exits(1);
    refused.mentions(&["secret listed is named by Bucket /asks, Module asking@1"]);
    cluster.cli(&["secret", "delete", "of.the.bucket", "--yes"]).exits(1).mentions(&["Bucket /asks"]);
    cluster.cli(&["secret", "delete", "other", "--yes"]).ok();
    cluster.cli(&["secret", "delete", "other", "--yes"]).exits(3).mentions(&["there is no secret other"]);
    let events = cluster.cli(&["events", "-o", "json"]).ok().json_lines();
    let told: Vec<_> = events.iter().filter(|event| event["subject"] == "other").collect();
    assert_eq!(
        (&told[0]["kind"], &told[1]["kind"]),
        (&"secret.set".into(), &"secret.deleted".into()),
        "{told:?}"
    );
    for (args, input, said) in [
        (&["secret", "set", "no name"][..], "x", "contains ' '"),
        (&["secret", "set", "empty"], "", "the value is empty"),
    ] {
        cluster.cli_with(args, input.as_bytes()).exits(2).mentions(&[said]);
    }
    let long = "x".repeat(65_537);
    cluster
        .cli_with(&["secret", "set", "long"], long.as_bytes())
        .exits(2)
        .mentions(&["at most 65536 are kept"]);
}

fn keyless(cluster: &Cluster) {
    let refused = cluster.agent(4).cli_with(&["secret", "set", "x"], b"y").exits(1);
    refused
        .mentions(&["node n4 cannot seal a secret: it has no key for secrets", "`sheaf secret keygen FILE`"]);
    // What is sealed elsewhere is listed and deleted there as everywhere.
    assert!(cluster.agent(4).cli(&["secret", "list", "-o", "name"]).ok().stdout.contains("exec.token"));
    cluster.apply(&bucket("/keyless", "told", "['+n4']"));
    cluster.wait_status("/keyless", "it says what its node lacks", |status| {
        let message = status["instances"][0]["message"].as_str().unwrap_or_default();
        message.contains("node n4 cannot open secret exec.token: it has no key for secrets")
    });
    cluster.delete(&["/keyless"]);
}

fn anew(cluster: &Cluster) {
    set(cluster.agent(1), "exec.token", "other");
    fs::remove_file(told(cluster)).expect("it was told");
    cluster.cli(&["bucket", "restart", "/told", "--wait"]).ok();
    wait_told(cluster, "bgure pbas=bgure");
    set(cluster.agent(1), "exec.token", VALUE);
    let asker = Asker::of(cluster, "/asks");
    set(cluster.agent(1), "listed", "new");
    assert_eq!(asker.done("secret listed"), "wen", "a plugin that asks again gets it at once");
    set(cluster.agent(1), "listed", VALUE);
}

fn crashed(cluster: &Cluster) {
    set(cluster.agent(1), "exec.token", "after");
    let before = &cluster.status("/told")["instances"][0];
    let pid = before["pid"].as_u64().expect("it runs");
    fs::remove_file(told(cluster)).expect("it was told");
    processes::signal(u32::try_from(pid).expect("a pid"), Signal::KILL);
    wait_told(cluster, "nsgre pbas=nsgre");
    let now = cluster.wait_status("/told", "it runs again", |status| {
        status["state"] == "running" && status["instances"][0]["pid"] != before["pid"]
    });
    assert_eq!(now["instances"][0]["epoch"], before["epoch"], "its keeper did it");
    set(cluster.agent(1), "exec.token", VALUE);
}

/// The agent stands still while the program ends and the secret changes: the wait of 10 ms is long over by then.
fn held_up(cluster: &Cluster) {
    let (name, file) = ("/renewed", cluster.machine().path("renewed"));
    let script = format!("printf %s \"$TOKEN\" > {0}.new; mv {0}.new {0}; exec sleep 1000", file.display());
    let module = format!(
        "kind: Module\nname: renewed\nversion: '1'\nruntime: exec\n\
         exec: {{command: /bin/sh, args: ['-c', '{script}'], env: {{TOKEN: '${{secret.renewed}}'}}}}\n\
         restart: {{backoff: 10ms..10ms, give_up_after: 100 in 10m}}\n"
    );
    let leader = cluster.leader();
    let agent = cluster.agent(if leader.name() == "n1" { 2 } else { 1 });
    set(leader, "renewed", "before");
    // Without a lease, which could end meanwhile.
    let rules = format!("[{}]", agent.name());
    cluster.apply_and_wait(&format!("{module}---\n{}multi_node: true\n", bucket(name, "renewed", &rules)));
    let written = |wanted: &str| {
        wait_for(&format!("it has {wanted}"), SOON, || {
            let found = fs::read_to_string(&file).unwrap_or_default();
            if found == wanted { Ok(()) } else { Err(found) }
        });
    };
    let runs = |former: u64| {
        let pid = |status: &Value| status["instances"][0]["pid"].as_u64().unwrap_or(former);
        pid(&cluster.wait_status(name, "another program runs", |status| pid(status) != former))
    };
    let kill = |pid: u64| {
        fs::remove_file(&file).expect("it was written");
        processes::signal(u32::try_from(pid).expect("a pid"), Signal::KILL);
    };
    written("before");
    let first = runs(0);
    agent.signal(Signal::STOP);
    kill(first);
    watch_for("it is not started with what is old", Duration::from_millis(300), || {
        if file.exists() { Err(fs::read_to_string(&file).unwrap_or_default()) } else { Ok(()) }
    });
    set(leader, "renewed", "after");
    agent.signal(Signal::CONT);
    written("after");
    // Where nobody is there to be asked it does not stay away for that.
    let second = runs(first);
    agent.kill();
    kill(second);
    written("after");
    agent.start();
    cluster.wait_back(agent);
    cluster.delete(&[name]);
    cluster.cli(&["module", "delete", "renewed@1", "--yes"]).ok();
    cluster.cli(&["secret", "delete", "renewed", "--yes"]).ok();
}

fn restarts(cluster: &Cluster) {
    let wanted = format!("{TURNED} pbas={TURNED}");
    let leader = cluster.leader();
    leader.kill_machine();
    cluster.leader();
    leader.start();
    cluster.wait_back(leader);
    for bucket in ["/told", "/asks"] {
        cluster.wait_state(bucket, "running");
    }
    fs::remove_file(told(cluster)).unwrap_or_default();
    cluster.cli(&["bucket", "restart", "/told", "--wait"]).ok();
    wait_told(cluster, &wanted);
    cluster.agents().iter().for_each(Agent::kill_machine);
    fs::remove_file(told(cluster)).expect("it was told");
    cluster.start_all();
    cluster.wait_ready();
    wait_told(cluster, &wanted);
    let status = cluster.wait_status_within("/asks", "running", Duration::from_secs(60), |status| {
        status["state"] == "running"
    });
    assert_eq!(
        Asker::of(cluster, "/asks").ask_on(&only_node(&status), "secret listed"),
        format!("ok {}", turned(VALUE))
    );
}

fn nowhere(cluster: &Cluster) {
    let snapshot = cluster.machine().path("snapshot");
    cluster.cli(&["cluster", "snapshot", "save", &snapshot.display().to_string()]).ok();
    let mut found = Vec::new();
    look(&snapshot, &mut found);
    for agent in cluster.agents() {
        look(&agent.dir(), &mut found);
        assert!(!agent.log().contains(VALUE), "the log of {}", agent.name());
    }
    let own = |path: &PathBuf| path.ends_with("instances/told/dir/app.conf");
    assert!(found.iter().any(own), "what is looked for is found where it should be: {found:?}");
    found.retain(|path| !own(path));
    assert!(found.is_empty(), "{found:?}");
    let mut commands = vec![vec!["events", "-o", "json"], vec!["secret", "list", "-o", "json"]];
    for bucket in ["/told", "/asks"] {
        for verb in ["status", "explain", "history"] {
            commands.push(vec!["bucket", verb, bucket, "-o", "json"]);
        }
    }
    commands.push(vec!["module", "status", "told", "-o", "json"]);
    for command in commands {
        let output = cluster.cli(&command).ok();
        assert!(!output.stdout.contains(VALUE) && !output.stderr.contains(VALUE), "{output}");
    }
}

/// Files at or below a path that hold the value.
fn look(path: &Path, found: &mut Vec<PathBuf>) {
    let Ok(about) = fs::symlink_metadata(path) else { return };
    if about.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            look(&entry.path(), found);
        }
    } else if about.is_file() {
        let bytes = fs::read(path).unwrap_or_default();
        if bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()) {
            found.push(path.to_owned());
        }
    }
}
