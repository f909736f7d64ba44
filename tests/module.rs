//! `sheaf module try`: a module on its developer's machine, run and checked without any cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::web::Web;
use sheaf_tests::{Follower, Machine, Output, cli, need, processes, wait_for};

const BUCKET: &str = "kind: Bucket\nname: /try/it\nmodule: it\n";

fn faulty() -> &'static str {
    env!("CARGO_BIN_EXE_faulty")
}

fn collector() -> PathBuf {
    need::example_program(faulty().as_ref(), "collector")
}

/// The documents that lie beside an example, with one of their texts replaced.
fn example(name: &str, text: &str, by: &str) -> String {
    let path = need::example_file(name);
    let document = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(document.matches(text).count(), 1, "{text} in {document}");
    document.replace(text, by)
}

/// What each check came to, by its name.
fn checks(output: &Output) -> Vec<(String, String, String)> {
    let value = output.json();
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    let all = value["checks"].as_array().unwrap_or_else(|| panic!("a list of checks: {output}"));
    all.iter().map(|it| (text(it, "check"), text(it, "result"), text(it, "message"))).collect()
}

/// Every check passes, and there are all of them.
fn conforms(output: &Output) {
    let all = checks(output);
    let failed: Vec<_> = all.iter().filter(|(_, result, _)| result != "ok").collect();
    assert!(failed.is_empty() && output.code == 0, "{failed:?} {output}");
    assert!(all.len() >= 29, "{} checks: {output}", all.len());
    for strange in [
        "an unknown call is not implemented",
        "bytes that are no message are refused",
        "unknown fields are passed over",
        "it still answers after all that",
    ] {
        assert!(all.iter().any(|(check, ..)| check == strange), "{strange}: {output}");
    }
    assert_eq!(output.json()["passed"], true);
}

/// These checks fail with these words, and no other does.
fn fails(machine: &Machine, args: &[&str], document: &str, wanted: &[(&str, &str)]) {
    let args = [&["module", "try", "-f", "-", "--conformance", "-o", "json", faulty()], args].concat();
    let output = cli::run(machine, &args, document.as_bytes());
    assert_eq!(output.code, 1, "{output}");
    let failed: Vec<_> = checks(&output).into_iter().filter(|(_, result, _)| result == "failed").collect();
    let as_wanted = |(found, wanted): (&(String, String, String), &(&str, &str))| {
        found.0 == wanted.0 && found.2.contains(wanted.1)
    };
    let same = failed.len() == wanted.len() && failed.iter().zip(wanted).all(as_wanted);
    assert!(same, "{wanted:?} in {failed:#?}\n{output}");
    assert_eq!(output.json()["passed"], false);
}

/// Nothing of a trial is left: no process, no directory.
fn nothing_left(machine: &Machine) {
    let left = processes::of(machine.place());
    assert!(left.is_empty(), "{left:?}");
    let entries = fs::read_dir(machine.place()).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let dirs: Vec<String> = names.filter(|name| name.starts_with("sheaf-try-")).collect();
    assert!(dirs.is_empty(), "{dirs:?}");
}

#[test]
fn modules_are_tried_and_checked() {
    let machine = Machine::take();
    well(&machine);
    works(&machine);
    strange(&machine);
    wrong(&machine);
    runs(&machine);
    python(&machine);
    nothing_left(&machine);
    killed(&machine);
}

fn well(machine: &Machine) {
    let dir = machine.path("collected");
    fs::create_dir(&dir).expect("a directory");
    fs::write(dir.join("a.log"), "one\ntwo\n").expect("a file");
    let document = example("rust/collector.yaml", "/var/log", &dir.display().to_string());
    let program = collector().display().to_string();
    let args = ["module", "try", &program, "-f", "-", "--conformance", "-o", "json"];
    conforms(&cli::run(machine, &args, document.as_bytes()));
    let args = ["module", "try", "-f", "-", "--conformance", faulty()];
    let output = cli::run(machine, &args, BUCKET.as_bytes()).ok();
    assert!(output.stdout.lines().all(|line| line.starts_with("ok ")), "{output}");
    assert!(output.stdout.contains("OnUpdatedSource: taken as it runs"), "{output}");
}

/// A worker is given the subtasks of a job.
fn works(machine: &Machine) {
    let words = machine.path("words");
    fs::write(&words, "one two  three\nfour\n").expect("a file");
    let counter = collector().with_file_name("word_counter").display().to_string();
    let rust = vec![counter];
    let python = need::python().map(|python| {
        let counter = need::example_file("python/word_counter.py");
        vec![python.display().to_string(), "-B".to_owned(), counter.display().to_string()]
    });
    for (place, program) in [("rust", Some(rust)), ("python", python)] {
        let Some(program) = program else { continue };
        let path = format!("{place}/word_counter.yaml");
        let document = example(&path, "/etc/passwd", &words.display().to_string());
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let args =
            [&["module", "try", "-f", "-", "--conformance", "-o", "json", "--"], &program[..]].concat();
        let output = cli::run(machine, &args, document.as_bytes());
        let all = checks(&output);
        let failed: Vec<_> = all.iter().filter(|(_, result, _)| result != "ok").collect();
        assert!(failed.is_empty() && output.code == 0 && all.len() >= 20, "{failed:?} {output}");
        let args = [&["module", "try", "-f", "-", "--"], &program[..]].concat();
        let document = document.replace("{file: /etc/hosts}", "{file: /no/such}");
        let output = cli::run(machine, &args, document.as_bytes());
        assert_eq!((output.code, output.stdout.as_str()), (1, "4 words\n"), "{output}");
        assert!(
            output.stderr.contains("/no/such") && output.stderr.contains("1 finished, 1 failed"),
            "{output}"
        );
    }
    let program = faulty();
    let module = format!(
        "kind: Module\nname: it\nversion: '1'\nruntime: plugin\nworker: true\nexec: {{command: '{program}'}}\n\
         stop: {{grace: 1s}}\n---\n"
    );
    let job = "kind: Job\nname: j\nmodule: it\nsubtasks: {items: [{do: crash}]}\n";
    let args = ["module", "try", program, "-f", "-", "--conformance", "-o", "json"];
    let output = cli::run(machine, &args, format!("{module}{job}").as_bytes());
    let failed: Vec<_> = checks(&output).into_iter().filter(|(_, result, _)| result == "failed").collect();
    // Its line may be seen to break before it is seen to have ended.
    let told = failed.iter().any(|(_, _, why)| why.contains("signal 6"));
    assert!(failed[0].0 == "a bundle is answered" && told, "{failed:?}");
    let output = cli::run(machine, &["module", "try", program, "-f", "-"], module.as_bytes());
    assert!(output.code != 0 && output.stderr.contains("there is no bucket"), "{output}");
}

fn strange(machine: &Machine) {
    for (how, reason) in [
        ("exit", "the module's program ended: exit code 7; it said last: no mood today"),
        ("deaf", "Hello: nothing listens at SHEAF_MODULE_SOCKET 10s after its start"),
        ("silent", "Hello: no answer within 10s of its start"),
        ("garbage", "Hello: no answer came over its socket"),
        ("large", "decoded message length too large: found 104857600 bytes, the limit is: 4194304 bytes"),
        ("version", "it speaks version 9 of sheaf.module.v1's protocol, this node speaks version 1"),
    ] {
        fails(machine, &[how], BUCKET, &[("handshake", reason)]);
    }
}

fn wrong(machine: &Machine) {
    let with = |config: &str| {
        let module = "kind: Module\nname: it\nversion: '1'\nruntime: plugin\nstop: {grace: 2s}\n\
                      exec: {command: /replaced}\nlife_cycle: {on_new_source: {timeout: 1s}}\n---\n";
        format!("{module}{BUCKET}config: {config}\n")
    };
    let fails = |config: &str, wanted: &[(&str, &str)]| fails(machine, &[], &with(config), wanted);
    fails(
        "{init: 'no such thing'}",
        &[("OnInit", "OnInit: no such thing"), ("OnInit", ""), ("OnInit", ""), ("OnInit", "")],
    );
    fails("{start: hang}", &[("OnNewSource", "OnNewSource: no answer within 1s")]);
    fails(
        "{poll: 'nobody there'}",
        &[
            ("OnPeriodicPoll", "OnPeriodicPoll: nobody there"),
            ("OnPeriodicPoll again", ""),
            ("OnPeriodicPoll after a change", ""),
            ("OnPeriodicPoll after a purge", ""),
        ],
    );
    let late = "it had not ended when its grace of 2s was over, and was killed";
    fails(
        "{stop: hang}",
        &[
            ("OnStop", "OnStop: no answer within 2s"),
            ("it ends within its grace", late),
            ("it leaves nothing behind", late),
            ("OnStop again", "OnStop: no answer within 2s"),
            ("it ends within its grace again", late),
            ("it leaves nothing behind again", late),
            ("OnStop at last", "OnStop: no answer within 2s"),
            ("it ends within its grace at last", late),
            ("it leaves nothing behind at last", late),
        ],
    );
    fails("{start: detach}", &[("it leaves nothing behind", "sleep (")]);
    fails(
        "{gate: crash}",
        &[
            ("gate 3 is answered", "famous last words"),
            ("a large message is taken", ""),
            ("the process for gate 3 ends when asked to", ""),
        ],
    );
}

fn runs(machine: &Machine) {
    let program = faulty();
    let document = format!("{BUCKET}poll_frequency: 100ms\nconfig: {{poll: 'the source is away'}}\n");
    let trial = Follower::start(machine, &["module", "try", program, "-f", "-"], document.as_bytes());
    trial.wait_for_line("that it was polled", Duration::from_secs(20), |line| line == "polled /try/it");
    wait_for("a failed poll is said", Duration::from_secs(10), || {
        let talk = trial.talk();
        let all = ["CanRunOnThisNode: yes", "/try/it runs", "OnPeriodicPoll: the source is away"];
        if all.iter().all(|text| talk.contains(text)) { Ok(()) } else { Err(talk) }
    });
    assert_eq!(trial.end(Signal::INT), 0);
    let refused = |config: &str, reason: &str| {
        let document = format!("{BUCKET}config: {config}\n");
        let output = cli::run(machine, &["module", "try", program, "-f", "-"], document.as_bytes());
        assert!(output.code == 1 && output.stderr.contains(reason), "{output}");
    };
    refused("{gate: 'no'}", "CanRunOnThisNode: no: here lacks what it takes");
    refused("{start: 'the port is taken'}", "OnNewSource: the port is taken");
    refused("{start: crash}", "OnNewSource: the module's program ended: signal 6; it said last:");
    refused(
        "{start: crash}",
        "a node would start it again (restart.policy: on_failure); here it is started once",
    );
    let schema = "kind: Module\nname: it\nversion: '1'\nruntime: plugin\nexec: {command: /replaced}\n\
                  config_schema: {required: [port], properties: {sources: {items: {type: string}}}}\n---\n";
    let document = format!("{schema}{BUCKET}config: {{sources: [a, 1, 2]}}\n");
    for more in [&[][..], &["--conformance"]] {
        let output =
            cli::run(machine, &[&["module", "try", program, "-f", "-"], more].concat(), document.as_bytes());
        let all = [
            "config.sources[1]: ",
            "config.sources[2]: ",
            "\"port\" is a required property",
            "config_schema of module it@1",
        ];
        assert!(output.code == 1 && all.iter().all(|text| output.stderr.contains(text)), "{output}");
        assert_eq!(output.stdout, "", "nothing was started");
    }
}

fn killed(machine: &Machine) {
    let program = faulty();
    // Killed, it takes its processes with it; its directory stays among the temporary files.
    let trial = Follower::start(machine, &["module", "try", program, "-f", "-"], BUCKET.as_bytes());
    trial.wait_for_line("that it runs", Duration::from_secs(20), |line| line == "new source /try/it");
    trial.end(Signal::KILL);
    wait_for("nothing of it is left", Duration::from_secs(10), || {
        let left = processes::of(machine.place());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn python(machine: &Machine) {
    let Some(python) = need::python() else {
        need::skipped("python grpcio-tools (grpcio, grpcio-reflection, grpcio-tools, protobuf)");
        return;
    };
    let web = Web::start("one\ntwo\nthree\n");
    let (python, poller) = (python.display().to_string(), need::example_file("python/http_poller.py"));
    let poller = poller.display().to_string();
    let document = example("python/http_poller.yaml", "http://127.0.0.1:8000/http_poller.yaml", &web.url());
    let document = document.replace("poll_frequency: 5s", "poll_frequency: 100ms");
    let program = ["--", &python, "-B", &poller];
    let args = [&["module", "try", "-f", "-", "--conformance", "-o", "json"], &program[..]].concat();
    conforms(&cli::run(machine, &args, document.as_bytes()));
    let args = [&["module", "try", "-f", "-"], &program[..]].concat();
    let trial = Follower::start(machine, &args, document.as_bytes());
    trial.wait_for_line("the last line", Duration::from_secs(30), |line| line == "three");
    web.set("one\ntwo\nthree\nfour\n");
    trial.wait_for_line("what is new", Duration::from_secs(10), |line| line == "four");
    assert_eq!(trial.lines(), ["one", "two", "three", "four"]);
    assert_eq!(trial.end(Signal::INT), 0);
    cancelled(machine, &python, &document);
}

/// The poller, whose polls wait until they are cancelled. What is told of the end waits for that.
const WAITS: &str = r#"
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import http_poller
cancelled = threading.Event()

def note(word):
    with open(sys.argv[2], "a") as file:
        print(word, file=file)

class Waits(http_poller.Poller):
    def OnPeriodicPoll(self, request, call):
        note("polled")
        while call.is_active():
            time.sleep(0.01)
        note("cancelled")
        cancelled.set()
        return http_poller.messages.OnPeriodicPollResponse()

    def OnStop(self, request, call):
        note("told to stop" if cancelled.wait(5) else "not cancelled")
        return http_poller.messages.OnStopResponse()

http_poller.Poller = Waits
http_poller.main()
"#;

/// A call under way is cancelled when its process is to end, and says so in other languages, too.
fn cancelled(machine: &Machine, python: &str, document: &str) {
    let (dir, noted) = (need::example_file("python").display().to_string(), machine.path("noted"));
    let file = noted.display().to_string();
    let args = ["module", "try", "-f", "-", "--", python, "-B", "-c", WAITS, &dir, &file];
    let trial = Follower::start(machine, &args, document.as_bytes());
    let read = || fs::read_to_string(&noted).unwrap_or_default();
    wait_for("it is polled", Duration::from_secs(30), || {
        if read() == "polled\n" { Ok(()) } else { Err(trial.talk()) }
    });
    assert_eq!(trial.end(Signal::INT), 0);
    assert_eq!(read(), "polled\ncancelled\ntold to stop\n");
}
