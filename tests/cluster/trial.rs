//! `sheaf bucket test`: what comes of a bucket, apart from the real one; and schemas of its config.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::{Agent, Cases, Cluster, Follower, wait_for};

use crate::context::Asker;
use crate::died;
use crate::plugin::{bucket, count, lines};
use crate::scene::pids;

const PROGRAM: &str = "\
kind: Module
name: source
version: '1'
runtime: exec
exec:
  command: /bin/sh
  args: [-c, 'echo \"$SHEAF_TEST_MAX_OBJECTS of $SHEAF_BUCKET in $SHEAF_DIR\"; ${bucket.config.does}']
life_cycle:
  on_new_source: {command: [/bin/sh, -c, 'echo begun >> ${bucket.config.trace}']}
  on_delete: {command: [/bin/sh, -c, 'echo deleted >> ${bucket.config.trace}']}
config_schema:
  type: object
  required: [does]
  properties: {does: {type: string}, trace: {type: string}, ports: {type: array, items: {type: integer}}}
---
";

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster, has_python: bool) {
    cluster.apply(PROGRAM);
    cases.run("A34 a test ends with its objects, and leaves nothing", || a34(cluster));
    cases.run("a test ends by itself, after its time, or fails", || ends(cluster));
    cases.run("A35 a module takes longer to start than a test allows", || a35(cluster));
    cases.run("a plugin is tested", || plugin(cluster));
    cases.run("what a plugin keeps while it is tested is not the real one's", || keeps(cluster));
    // What is left of it lives for a while; others go on meanwhile.
    cases.run("who asked for a test is gone", || gone(cluster));
    died::cases(cases, cluster, has_python);
    // From here on the module wants a config.
    cases.run("a config keeps to its module's schema", || schema(cluster));
    cases.run("what nobody asks for any more is over with its time to live", || outlived(cluster));
}

fn document(cluster: &Cluster, name: &str, does: &str, more: &str) -> String {
    let trace = cluster.machine().path(&format!("trace{}", name.replace('/', "+")));
    let config = format!("{{does: '{does}', trace: '{}'}}", trace.display());
    bucket(name, "source", &config, more)
}

fn test(cluster: &Cluster, document: &str, more: &[&str]) -> (i32, Value, String) {
    let args = [&["bucket", "test", "-f", "-", "-o", "json"], more].concat();
    let output = cluster.cli_with(&args, document.as_bytes());
    let answer = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
    (output.code, answer, output.stderr)
}

/// Nothing is left of any test: no bucket, no directory.
fn nothing_left(cluster: &Cluster) {
    wait_for("nothing is left of a test", Duration::from_secs(20), || {
        let listed = cluster.cli(&["bucket", "list", "-o", "name"]).ok().stdout;
        let dirs = cluster.agents().iter().flat_map(|node| {
            let entries = fs::read_dir(node.dir().join("instances")).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
        });
        let left: Vec<String> =
            dirs.chain(listed.lines().map(str::to_owned)).filter(|name| name.contains(".test-")).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
}

fn a34(cluster: &Cluster) {
    let name = "/trial/a34";
    let real =
        document(cluster, name, "while :; do echo tick; sleep 0.01; done", "node_list_rules: [n1, n2]");
    cluster.apply_and_wait(&real);
    let before = cluster.status(name);
    let (code, answer, said) = test(cluster, &real, &["--max-objects", "10", "--max-time", "10s"]);
    assert_eq!((code, &answer["result"]), (0, &Value::from("passed")), "{answer:#} {said}");
    let objects = answer["objects"].as_array().expect("a list");
    assert_eq!(objects.len(), 10, "{answer:#}");
    let first = objects[0].as_str().expect("a line");
    assert!(first.starts_with("10 of /trial/a34.test-") && !first.contains("+a34/"), "{first}");
    nothing_left(cluster);
    let after = cluster.status(name);
    assert_eq!(
        (pids(&before), &before["revision"]),
        (pids(&after), &after["revision"]),
        "the real one ran on"
    );
    let trace = fs::read_to_string(cluster.machine().path("trace+trial+a34")).expect("the real one's");
    assert_eq!(trace, "begun\n", "the test's life was told to nobody");
    cluster.delete(&[name]);
}

fn ends(cluster: &Cluster) {
    let run = |does: &str, more: &[&str]| test(cluster, &document(cluster, "/trial/ends", does, ""), more);
    let (code, answer, _) = run("echo two; echo aside >&2", &[]);
    assert_eq!((code, answer["objects"].as_array().map(Vec::len)), (0, Some(2)), "{answer:#}");
    assert_eq!(answer["objects"][1], "two");
    let (code, answer, _) = run("sleep 1000 & sleep 1000", &["--max-time", "1s"]);
    assert_eq!((code, &answer["message"]), (0, &Value::from("it ran for 1s")), "{answer:#}");
    let (code, answer, said) = run("echo no such host >&2; exit 3", &[]);
    assert_eq!((code, &answer["result"]), (1, &Value::from("failed")), "{answer:#}");
    assert!(answer["message"].to_string().contains("exit code 3"), "{answer:#}");
    assert!(said.contains("no such host"), "{said}");
    let elsewhere = document(cluster, "/trial/nowhere", "true", "node_list_rules: [nowhere]");
    let (code, answer, _) = test(cluster, &elsewhere, &[]);
    assert_eq!((code, &answer["result"]), (5, &Value::from("not_placed")), "{answer:#}");
    let (code, _, said) = test(cluster, "kind: Bucket\nname: /trial/x\nmodule: nothing\n", &[]);
    assert!(code == 1 && said.contains("there is no module nothing"), "{code} {said}");
    nothing_left(cluster);
}

fn a35(cluster: &Cluster) {
    let slow = PROGRAM.replace("name: source", "name: slow_source").replace(
        "on_new_source: {command: [/bin/sh, -c, 'echo begun >> ${bucket.config.trace}']}",
        "on_test_source: {command: [/nothing/there]}",
    );
    cluster.apply(&slow);
    let asked = document(cluster, "/trial/a35", "true", "").replace("module: source", "module: slow_source");
    let (code, answer, _) = test(cluster, &asked, &[]);
    assert_eq!(code, 1, "{answer:#}");
    assert!(answer["message"].to_string().contains("/nothing/there"), "{answer:#}");
    // A plugin that does not answer in time.
    let asked = bucket("/trial/a35", "faulty", "{init: hang}", "");
    let (code, answer, _) = test(cluster, &asked, &["--start-within", "2s"]);
    assert_eq!(code, 1, "{answer:#}");
    let message = answer["message"].to_string();
    assert!(
        message.contains("it had not started within 2s on n") && message.contains("OnInit"),
        "{answer:#}"
    );
    nothing_left(cluster);
}

fn plugin(cluster: &Cluster) {
    let (code, answer, said) =
        test(cluster, &bucket("/trial/plugin", "faulty", "{}", ""), &["--max-objects", "3"]);
    assert_eq!((code, answer["objects"].as_array().map(Vec::len)), (0, Some(3)), "{answer:#} {said}");
    let failing = bucket("/trial/plugin", "faulty", "{test: the feed is no feed}", "");
    let (code, answer, _) = test(cluster, &failing, &["--max-objects", "3", "--max-time", "20s"]);
    assert_eq!((code, &answer["result"]), (1, &Value::from("failed")), "{answer:#}");
    assert!(answer["message"].to_string().contains("OnTestSource: the feed is no feed"), "{answer:#}");
    nothing_left(cluster);
}

fn keeps(cluster: &Cluster) {
    let (name, program) = ("/trial/keeps", env!("CARGO_BIN_EXE_asking"));
    cluster.apply(&format!(
        "kind: Module\nname: asking\nversion: '1'\nruntime: plugin\nexec: {{command: '{program}'}}\n---\n"
    ));
    let asker = Asker::start_with(cluster, name, "x: y", "");
    let kept = format!("{} real", asker.done("put k real"));
    asker.done("note real");
    let (code, answer, said) = test(cluster, &bucket(name, "asking", "{}", ""), &["--max-objects", "9"]);
    assert_eq!((code, answer["objects"].as_array().map(Vec::len)), (0, Some(6)), "{answer:#} {said}");
    assert_eq!(
        (&answer["objects"][0], &answer["objects"][1]),
        (&"get k [none]".into(), &"checkpoint []".into())
    );
    assert_eq!(answer["objects"][5], "checkpoint [tested]");
    nothing_left(cluster);
    assert_eq!((asker.done("get k"), asker.done("checkpoint")), (kept, "real".to_owned()));
    cluster.delete(&[name]);
}

fn gone(cluster: &Cluster) {
    // No later case ends that node.
    let rule = format!("node_list_rules: [{}]", cluster.leader().name());
    let asked = document(cluster, "/trial/gone", "echo here; sleep 1000", &rule);
    let args = ["--address", &cluster.agent(1).address(), "bucket", "test", "-f", "-", "--max-time", "2s"];
    let asking = Follower::start(
        cluster.machine(),
        &[&args[..], &["--start-within", "2s"]].concat(),
        asked.as_bytes(),
    );
    wait_for("the test runs", Duration::from_secs(10), || {
        let listed = cluster.cli(&["bucket", "list", "-o", "name"]).ok().stdout;
        if listed.contains("/trial/gone.test-") { Ok(()) } else { Err(listed) }
    });
    assert_eq!(asking.end(Signal::KILL), 128 + 9, "it had not ended by itself");
}

/// Of this one and of the one whose node died.
fn outlived(cluster: &Cluster) {
    wait_for("its time to live is over", Duration::from_secs(40), || {
        let listed = cluster.cli(&["bucket", "list", "-o", "name"]).ok().stdout;
        if listed.contains(".test-") { Err(listed) } else { Ok(()) }
    });
    nothing_left(cluster);
}

/// A test whose node dies.
pub(crate) struct Tested {
    asking: Follower,
    node: String,
}

impl Tested {
    pub(crate) fn begin(cluster: &Cluster, victim: &Agent) -> Self {
        let rule = format!("node_list_rules: [{}]", victim.name());
        let asked = document(cluster, "/trial/node-gone", "echo here; sleep 1000", &rule);
        let times = ["--start-within", "30s", "--max-time", "60s", "-o", "json"];
        let address = cluster.leader().address();
        let args = [&["--address", &address, "bucket", "test", "-f", "-"][..], &times].concat();
        let asking = Follower::start(cluster.machine(), &args, asked.as_bytes());
        wait_for("its keeper is there", Duration::from_secs(30), || {
            let runs =
                victim.processes().iter().any(|process| process.command.contains("/trial/node-gone.test-"));
            if runs { Ok(()) } else { Err(asking.talk()) }
        });
        Self { asking, node: victim.name() }
    }

    pub(crate) fn fails(self) {
        let output = self.asking.finish(Duration::from_secs(80));
        let answer = output.try_json().expect("an answer");
        assert_eq!((output.code, &answer["result"]), (1, &Value::from("failed")), "{output}");
        let why = format!("node {}, where it ran, was lost", self.node);
        assert!(answer["message"].to_string().contains(&why), "{output}");
    }
}

fn schema(cluster: &Cluster) {
    let refused = |text: &str| {
        let output = cluster.cli_with(&["apply", "-f", "-"], text.as_bytes());
        assert_eq!(output.code, 1, "{output}");
        output.stderr
    };
    let said = refused(&bucket("/trial/schema", "source", "{ports: [1, two, x], trace: 7}", ""));
    for defect in
        ["config.ports[1]: ", "config.ports[2]: ", "config.trace: ", "\"does\" is a required property"]
    {
        assert!(said.contains(defect), "{defect} in {said}");
    }
    assert_eq!(cluster.cli(&["bucket", "status", "/trial/schema"]).code, 3, "nothing was changed");
    let planned = cluster.cli_with(
        &["bucket", "plan", "-f", "-"],
        bucket("/trial/schema", "source", "{does: 'true', trace: 7}", "").as_bytes(),
    );
    assert!(planned.code == 1 && planned.stderr.contains("config.trace"), "{planned}");
    let newer = PROGRAM.replace("version: '1'", "version: '2'");
    let said = refused(&newer.replace("type: object", "type: objekt"));
    assert!(said.contains("config_schema: is no JSON Schema"), "{said}");
    // A change to another version is judged by that version's schema.
    let good = bucket("/trial/schema", "source@1", "{does: 'sleep 1000', trace: '/dev/null'}", "");
    cluster.apply_and_wait(&good);
    cluster.apply(&newer.replace("required: [does]", "required: [does, ports]"));
    let said = refused(&good.replace("source@1", "source@2"));
    assert!(said.contains("\"ports\" is a required property") && said.contains("source@2"), "{said}");
    assert_eq!(cluster.status("/trial/schema")["module"], "source@1");
    assert_eq!(count(cluster, "/trial/schema", "begun"), 0, "{:?}", lines(cluster, "/trial/schema"));
    cluster.delete(&["/trial/schema"]);
}
