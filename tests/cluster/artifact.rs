//! Artifacts: pushed once, run wherever they may run, never changed, and not lost with a voter.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_model::{Artifact, ClusterId, Contact, ModuleRef, Shape};
use sheaf_tests::calls::runtime;
use sheaf_tests::jobs::{job, over, submit};
use sheaf_tests::screen::{Left, Screen};
use sheaf_tests::wait::wait_until;
use sheaf_tests::{Agent, Cases, Cluster, Output, wait_for};

use crate::plugin::example;
use crate::scene::{explain, gates};

/// A fetch, an unpacking, an answer of gate 3 and a start, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("a program that was pushed runs on every node", || runs_everywhere(cluster));
    cases.run("a node that does not vote runs it, and says what it has", || no_voter(cluster));
    cases.run("a plugin that was pushed is asked and runs", || a_plugin(cluster));
    cases.run("a job of a program that was pushed runs on every node, and waits for the push", || {
        a_job(cluster);
    });
    cases.run("a worker that was pushed takes its job's subtasks", || a_worker(cluster));
    cases.run("what is pushed never changes", || never_changes(cluster));
    cases.run("a push that was cut off goes on", || goes_on(cluster));
    cases.run("a version in use is not deleted, and one deleted is nowhere", || deleted(cluster));
}

/// At last: a voter is lost for good.
pub(crate) fn loss(cases: &mut Cases, cluster: &Cluster) {
    // First: so soon after an election no vote is taken away, which the last case waits for.
    cases.run("a push goes on when the leader is killed", || leader_killed(cluster));
    cases.run("what nobody has any more is said, and a push brings it back", || lost_everywhere(cluster));
    cases.run("what only a node has that does not vote, voters get from there", || only_cached(cluster));
    cases.run("a voter that lost its copy gets another", || lost_copy(cluster));
    cases.run("a new voter gets a copy of everything", || new_voter(cluster));
}

/// Five nodes with room for little.
pub(crate) fn apart(cases: &mut Cases, cluster: &Cluster) {
    cases.run("what nothing here uses any more goes when there is no room, the longest unused first", || {
        evicted(cluster);
    });
    cases.run("what voters cannot give any more comes from another node that does not vote", || {
        from_another(cluster);
    });
}

/// What a node keeps of what it does not use, in the config for [`apart`]: two of three programs.
pub(crate) const ROOM: &str = "artifact_cache = \"9MiB\"\n";

/// A module whose program is `run.sh` of what is pushed for it.
pub(crate) fn module(name: &str) -> String {
    format!(
        "kind: Module\nname: {name}\nversion: \"1\"\nexec:\n  command: ${{artifact}}/run.sh\n  env: {{WHERE: \"${{artifact}}\"}}\n---\n"
    )
}

/// A bucket `/NAME` of the module `NAME`.
pub(crate) fn bucket(name: &str, more: &str) -> String {
    format!("kind: Bucket\nname: /{name}\nmodule: {name}\n{more}\n---\n")
}

/// A directory with a program of `bytes` bytes of ballast, and bytes that no other has.
pub(crate) fn program(cluster: &Cluster, name: &str, bytes: usize) -> PathBuf {
    let dir = cluster.machine().path(&format!("pushed.{name}"));
    fs::create_dir_all(dir.join("lib")).expect("a directory");
    let script = "#!/bin/sh\n[ \"$WHERE\" = \"$SHEAF_ARTIFACT\" ] || exit 3\ncat \"$SHEAF_ARTIFACT/lib/words\"\nexec sleep 100000\n";
    fs::write(dir.join("run.sh"), script).expect("a program");
    fs::set_permissions(dir.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("executable");
    fs::write(dir.join("lib/words"), format!("words of {name}\n")).expect("a file");
    let ballast: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
    fs::write(dir.join("ballast"), ballast).expect("a file");
    dir
}

pub(crate) fn push(cluster: &Cluster, module: &str, path: &Path) -> Output {
    cluster.cli(&["module", "push", module, text(path)])
}

/// Pushes, and looks at what the command prints.
pub(crate) fn pushed(cluster: &Cluster, module: &str, path: &Path, wanted: &str) {
    let output = push(cluster, module, path).ok();
    assert!(output.stdout.contains(wanted), "{wanted:?}: {output}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// What nodes are to an artifact: `held`, `cached` and so on, by name. An error, while nobody answers who knows.
fn states(cluster: &Cluster, module: &str) -> Result<Vec<(String, String)>, String> {
    let status = cluster.try_json(&["module", "status", module, "-o", "json"])?;
    let nodes = status["artifact"]["nodes"].as_array().cloned().unwrap_or_default();
    let state = |on: &Value| Some((on["node"].as_str()?.to_owned(), on["state"].as_str()?.to_owned()));
    Ok(nodes.iter().filter_map(state).collect())
}

fn wait_states(cluster: &Cluster, module: &str, what: &str, is_so: impl Fn(&[(String, String)]) -> bool) {
    wait_for(what, Duration::from_secs(60), || {
        let found = states(cluster, module)?;
        if is_so(&found) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Waits until the three voters hold it.
fn wait_held(cluster: &Cluster, module: &str) {
    wait_states(cluster, module, "the voters hold it", |found| {
        found.iter().filter(|(_, state)| state == "held").count() == 3
    });
}

/// The digest of a version's artifact.
pub(crate) fn digest(cluster: &Cluster, module: &str) -> String {
    let status = cluster.json(&["module", "status", module, "-o", "json"]);
    status["artifact"]["digest"].as_str().expect("a digest").to_owned()
}

/// Where an agent keeps a blob.
pub(crate) fn blob(agent: &Agent, digest: &str) -> PathBuf {
    agent.dir().join("artifacts/blobs").join(digest)
}

/// Waits until gate 3 of a node refuses a bucket with a text.
pub(crate) fn wait_refusal(cluster: &Cluster, bucket: &str, node: &str, wanted: &str) {
    wait_for(&format!("gate 3 of {node} says {wanted:?}"), SOON, || {
        let [.., (pass, reason)] = gates(&explain(cluster, bucket), node);
        if pass == Some(false) && reason.contains(wanted) {
            Ok(())
        } else {
            Err(format!("{pass:?} {reason}"))
        }
    });
}

fn runs_everywhere(cluster: &Cluster) {
    let (voter, watcher) = (cluster.leader().name(), cluster.watchers()[0].name());
    let more = format!("multi_node: true\nnode_list_rules: ['-{watcher}']");
    let applied = cluster.apply(&(module("pushed") + &bucket("pushed", &more)));
    assert!(applied.stderr.contains("it starts after `sheaf module push pushed@1 PATH`"), "{applied}");
    wait_refusal(cluster, "/pushed", &voter, "none was pushed for it yet: sheaf module push pushed@1 PATH");
    let dir = program(cluster, "pushed", 3 << 20);
    pushed(cluster, "pushed@1", &dir, "Module pushed@1 pushed, sha256 ");
    cluster.wait_status("/pushed", "runs on three", |status| status["running"] == 3);
    let logs = cluster.cli(&["bucket", "logs", "/pushed"]).ok();
    assert_eq!(logs.stdout.matches("words of pushed").count(), 3, "{}", logs.stdout);
    wait_states(cluster, "pushed@1", "each voter holds it, and nobody else", |found| {
        found.len() == 3 && found.iter().all(|(_, state)| state == "held")
    });
    let status = cluster.json(&["module", "status", "pushed@1", "-o", "json"]);
    assert_eq!(status["used_by"], Value::from(vec!["/pushed"]));
    pushed(cluster, "pushed@1", &dir, "Module pushed@1 unchanged");
}

fn no_voter(cluster: &Cluster) {
    let watcher = cluster.watchers()[0].name();
    cluster.apply(&(module("far") + &bucket("far", &format!("node_list_rules: [{watcher}]"))));
    push(cluster, "far@1", &program(cluster, "far", 1 << 20)).ok();
    cluster.wait_state("/far", "running");
    let on_watcher =
        |found: &[(String, String)], state: &str| found.contains(&(watcher.clone(), state.to_owned()));
    wait_states(cluster, "far@1", "it is cached there", |found| on_watcher(found, "cached"));
    wait_held(cluster, "far@1");
    let shown = cluster.cli(&["module", "status", "far@1"]).ok().stdout;
    for part in ["held by", "cached on", &watcher, "used by", "/far"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    cluster.delete(&["/far"]);
}

/// Its process for gate 3 runs from the artifact, too.
fn a_plugin(cluster: &Cluster) {
    let dir = cluster.machine().path("pushed.collected");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("a.log"), "one\ntwo\n").expect("a file");
    let watcher = cluster.watchers()[0].name();
    cluster.apply(&format!(
        "kind: Module\nname: carried\nversion: '1'\nruntime: plugin\nexec: {{command: '${{artifact}}'}}\n---\n\
         kind: Bucket\nname: /carried\nmodule: carried\nconfig: {{directory: '{}', suffix: .log}}\nnode_list_rules: [{watcher}]\n",
        dir.display()
    ));
    push(cluster, "carried@1", &example("collector")).ok();
    cluster.wait_state("/carried", "running");
    let lines = || cluster.cli(&["bucket", "logs", "/carried"]).ok().stdout;
    wait_until("it collects", SOON, || lines().contains("two"));
    cluster.delete(&["/carried"]);
}

/// Voters have it lying there, and the node that does not vote fetches it for the job alone.
fn a_job(cluster: &Cluster) {
    let command = "exec: {command: '${artifact}', args: [-c, 'echo $0 on $SHEAF_NODE; sleep 1']}";
    cluster.apply(&format!("kind: Module\nname: carries-out\nversion: '1'\n{command}\n"));
    let document = job("carried-out", "carries-out", "subtasks: {array: 0-39}");
    let output = cluster.cli_with(&["job", "submit", "-f", "-"], document.as_bytes()).ok();
    assert!(output.stderr.contains("it starts after `sheaf module push carries-out@1 PATH`"), "{output}");
    wait_for("it says what it waits for", SOON, || {
        let explained = cluster.json(&["job", "explain", "carried-out", "-o", "json"]);
        let text = explained["nodes"].to_string();
        if text.contains("none was pushed for it yet") { Ok(()) } else { Err(text) }
    });
    let shell = cluster.machine().path("pushed.sh");
    fs::copy("/bin/sh", &shell).expect("a program");
    push(cluster, "carries-out@1", &shell).ok();
    let status = over(cluster, "carried-out");
    assert_eq!((&status["state"], &status["counts"]["finished"]), (&"finished".into(), &40.into()));
    let module = cluster.json(&["module", "status", "carries-out@1", "-o", "json"]);
    assert_eq!(module["used_by"], Value::from(vec!["carried-out"]));
    let rows = cluster.json(&["job", "subtasks", "carried-out", "-o", "json"]);
    let node = |row: &Value| row["node"].as_str().map(str::to_owned);
    let nodes: BTreeSet<String> = rows.as_array().into_iter().flatten().filter_map(node).collect();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    let logs = cluster.cli(&["job", "logs", "carried-out", "0"]).ok().stdout;
    let unpacked = format!("artifacts/unpacked/{}/pushed.sh on n", digest(cluster, "carries-out@1"));
    assert!(logs.contains(&unpacked), "{unpacked}: {logs}");
}

fn a_worker(cluster: &Cluster) {
    let words = cluster.machine().path("pushed.words");
    fs::write(&words, "one two three\n").expect("a file");
    let watcher = cluster.watchers()[0].name();
    cluster.apply(
        "kind: Module\nname: counts\nversion: '1'\nruntime: plugin\nworker: true\nexec: {command: '${artifact}'}\n",
    );
    push(cluster, "counts@1", &example("word_counter")).ok();
    let more = format!(
        "subtasks: {{items: [{{file: '{0}'}}, {{file: '{0}'}}]}}\nnode_list_rules: [{watcher}]",
        words.display()
    );
    submit(cluster, &job("counted", "counts", &more));
    assert_eq!(over(cluster, "counted")["counts"]["finished"], 2);
    assert!(cluster.cli(&["job", "logs", "counted", "1"]).ok().stdout.contains("3 words"));
}

fn never_changes(cluster: &Cluster) {
    let other = program(cluster, "other", 100);
    push(cluster, "pushed@1", &other).exits(6).mentions(&["pushed@1", "give it a new version"]);
    push(cluster, "pushed@2", &other).exits(3).mentions(&["pushed@2", "register it first"]);
    push(cluster, "pushed", &other).exits(2).mentions(&["has no version"]);
    push(cluster, "pushed@1", &other.join("none"))
        .exits(1)
        .mentions(&["nothing was pushed", "none: No such file"]);
    std::os::unix::fs::symlink("/etc", other.join("out")).expect("a link");
    push(cluster, "pushed@1", &other).exits(1).mentions(&["out: a link that leads out of the directory"]);
}

/// What of a blob is on the leader is not sent again; bytes that are not those of the digest are thrown away.
fn goes_on(cluster: &Cluster) {
    cluster.apply(&module("cut"));
    let path = program(cluster, "cut", 96 << 20);
    let packed = sheaf_artifact::pack(&path).expect("it packs");
    let incoming = cluster.leader().dir().join("artifacts/incoming").join(packed.digest.to_string());
    let here = || fs::metadata(&incoming).map_or(0, |found| found.len());
    let pushing = cluster.agent(1).begin(&["module", "push", "cut@1", text(&path)], b"");
    wait_until("some of it is there", SOON, || here() > 4 << 20);
    assert_eq!(pushing.end(Signal::KILL), 128 + 9, "it had not ended by itself");
    let before = here();
    assert!(before > 0 && before < packed.size, "{before} of {}", packed.size);
    let file = |path: &Path| fs::metadata(path).expect("a file").ino();
    let begun = file(&incoming);
    on_a_terminal(cluster, &["module", "push", "cut@1", text(&path)], "Module cut@1 pushed");
    let whole = blob(cluster.leader(), &packed.digest.to_string());
    assert_eq!(file(&whole), begun, "it was sent from the beginning");
    assert!(!incoming.exists());
    cluster.apply(&module("torn"));
    let path = program(cluster, "torn", 2 << 20);
    let packed = sheaf_artifact::pack(&path).expect("it packs");
    let incoming = cluster.leader().dir().join("artifacts/incoming").join(packed.digest.to_string());
    fs::write(&incoming, vec![1; 1 << 20]).expect("other bytes");
    push(cluster, "torn@1", &path).exits(1).mentions(&["digest", "push again"]);
    assert_eq!(states(cluster, "torn@1"), Ok(Vec::new()));
    pushed(cluster, "torn@1", &path, "torn@1 pushed");
    // What is left of it on a node that does not fetch it comes no further, and is not waited for.
    let left = cluster.watchers()[0].dir().join("artifacts/incoming").join(packed.digest.to_string());
    fs::write(&left, vec![1; 1 << 20]).expect("half of it");
    let waited = cluster.cli(&["module", "push", "torn@1", text(&path), "--wait", "--timeout", "30s"]).ok();
    assert!(waited.stdout.contains("torn@1 unchanged") && left.exists(), "{waited}");
    fs::remove_file(&left).expect("it is there");
}

/// Somebody looks on: a bar shows how far it is, and is gone at the end.
fn on_a_terminal(cluster: &Cluster, args: &[&str], last: &str) {
    let address = cluster.agent(1).address();
    let args = [args, &["--address", &address]].concat();
    let screen = Screen::start(cluster.machine(), &args, (120, 24), false);
    let shown = wait_for(last, Duration::from_secs(60), || {
        let text = screen.text();
        if text.contains(last) { Ok(text) } else { Err(text) }
    });
    let drawn = String::from_utf8_lossy(&screen.bytes()).into_owned();
    for bar in ["sending [", "copying to the voters ["] {
        assert!(drawn.contains(bar) && !shown.contains(bar), "{bar}: {drawn:?}");
    }
    assert_eq!(screen.end(), Left { code: 0, restored: true });
}

fn deleted(cluster: &Cluster) {
    cluster.cli(&["module", "delete", "pushed@1", "--yes"]).exits(1).mentions(&["/pushed"]);
    let digest = digest(cluster, "pushed@1");
    cluster.delete(&["/pushed"]);
    cluster.cli(&["module", "delete", "pushed@1", "--yes"]).ok();
    wait_for("it is nowhere", SOON, || {
        let left = cluster.agents().iter().flat_map(|agent| {
            ["blobs", "unpacked", "incoming"].map(|sub| agent.dir().join("artifacts").join(sub).join(&digest))
        });
        let left: Vec<PathBuf> = left.filter(|path| path.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    // The same content for a version that comes later is no leftover.
    cluster.apply(&module("pushed"));
    pushed(cluster, "pushed@1", &program(cluster, "pushed", 3 << 20), "Module pushed@1 pushed");
    wait_held(cluster, "pushed@1");
}

fn lost_everywhere(cluster: &Cluster) {
    let (digest, watcher) = (digest(cluster, "torn@1"), cluster.watchers()[0].name());
    let copies: Vec<PathBuf> = cluster.agents().iter().map(|agent| blob(agent, &digest)).collect();
    wait_until("no node has it", SOON, || {
        copies.iter().for_each(|copy| drop(fs::remove_file(copy)));
        !copies.iter().any(|copy| copy.exists())
    });
    cluster.apply(&bucket("torn", &format!("node_list_rules: [{watcher}]")));
    wait_refusal(
        cluster,
        "/torn",
        &watcher,
        &format!("artifact {} is not here: no node that answers has it", &digest[..12]),
    );
    push(cluster, "torn@1", &program(cluster, "torn", 2 << 20)).ok();
    cluster.wait_state("/torn", "running");
    wait_held(cluster, "torn@1");
    cluster.delete(&["/torn"]);
}

/// Every member knows who has a copy.
fn only_cached(cluster: &Cluster) {
    let watcher = cluster.watchers()[0];
    cluster.apply(&bucket("torn", &format!("node_list_rules: [{}]", watcher.name())));
    cluster.wait_state("/torn", "running");
    let digest = digest(cluster, "torn@1");
    assert!(blob(watcher, &digest).exists());
    let voters = cluster.voters();
    let copies: Vec<PathBuf> = voters.iter().map(|agent| blob(agent, &digest)).collect();
    // Whoever lost one may have another from a voter that still has it.
    wait_until("no voter has it", SOON, || {
        copies.iter().for_each(|copy| drop(fs::remove_file(copy)));
        !copies.iter().any(|copy| copy.exists())
    });
    wait_until("all have it again", Duration::from_secs(60), || copies.iter().all(|copy| copy.exists()));
    let cluster_id = cluster.json(&["cluster", "status", "-o", "json"])["cluster"].clone();
    let cluster_id = ClusterId(cluster_id.as_str().expect("an id").to_owned());
    let packed = sheaf_artifact::pack(&program(cluster, "torn", 2 << 20)).expect("it packs");
    let module = ModuleRef::parse("torn@1").expect("a version");
    let artifact = Artifact { module, digest: packed.digest, size: packed.size, shape: Shape::Directory };
    let (members, plain) = ([Contact::anyone(voters[1].address())], sheaf_wire::Transport::plain());
    let found = runtime().block_on(sheaf_artifact::holders(&cluster_id, &artifact, &members, &plain));
    assert_eq!(found.len(), 4, "{found:?}");
    let is_watcher = |holder: &Contact| holder.address == watcher.address() && holder.node.is_some();
    assert!(found.iter().any(is_watcher), "{found:?}");
    cluster.delete(&["/torn"]);
}

fn leader_killed(cluster: &Cluster) {
    cluster.apply(&module("long"));
    let path = program(cluster, "long", 160 << 20);
    let packed = sheaf_artifact::pack(&path).expect("it packs");
    let leader = cluster.leader();
    let incoming = leader.dir().join("artifacts/incoming").join(packed.digest.to_string());
    let asked = cluster.watchers()[0];
    let pushing = asked.begin(&["module", "push", "long@1", text(&path)], b"");
    wait_until("some of it is there", SOON, || {
        fs::metadata(&incoming).is_ok_and(|found| found.len() > 4 << 20)
    });
    leader.kill();
    let output = pushing.finish(Duration::from_secs(60)).ok();
    assert!(output.stdout.contains("Module long@1 pushed"), "{output}");
    leader.start();
    cluster.wait_back(leader);
    wait_held(cluster, "long@1");
}

fn lost_copy(cluster: &Cluster) {
    let loser = cluster.following_voter();
    let blob = blob(loser, &digest(cluster, "torn@1"));
    wait_until("it has a copy", SOON, || blob.exists());
    fs::remove_file(&blob).expect("it is lost");
    wait_until("it has another", Duration::from_secs(60), || blob.exists());
}

fn new_voter(cluster: &Cluster) {
    let watcher = cluster.watchers()[0].name();
    cluster.cli(&["cluster", "settings", "repair.after=1s"]).ok();
    let lost = cluster.following_voter();
    lost.kill_machine();
    for module in ["cut@1", "torn@1", "pushed@1"] {
        wait_states(cluster, module, &format!("{watcher} holds {module}"), |found| {
            found.contains(&(watcher.clone(), "held".to_owned()))
        });
    }
}

/// Each takes 4 MiB of the disk: the blob, and what was unpacked of it.
fn evicted(cluster: &Cluster) {
    let watcher = cluster.watchers()[0];
    let names = ["room1", "room2", "room3"];
    let run = |name: &str| {
        cluster.apply(&bucket(name, &format!("node_list_rules: [{}]", watcher.name())));
        cluster.wait_state(&format!("/{name}"), "running");
    };
    let mut blobs = Vec::new();
    for name in names {
        cluster.apply(&module(name));
        push(cluster, &format!("{name}@1"), &program(cluster, name, 2 << 20)).ok();
        run(name);
        blobs.push(blob(watcher, &digest(cluster, &format!("{name}@1"))));
        cluster.delete(&[&format!("/{name}")]);
        let here: Vec<bool> = blobs.iter().map(|path| path.exists()).collect();
        assert!(here[0] || here.len() == 3, "nothing goes while there is room: {here:?}");
    }
    let here = || blobs.iter().map(|path| path.exists()).collect::<Vec<_>>();
    wait_until("the first one is gone, the others stay", SOON, || here() == [false, true, true]);
    let unpacked =
        |at: usize| watcher.dir().join("artifacts/unpacked").join(blobs[at].file_name().expect("a name"));
    assert!(!unpacked(0).exists() && unpacked(2).exists());
    // It is registered all the same, and comes again when it is needed; then the next goes.
    wait_held(cluster, "room1@1");
    run("room1");
    wait_until("the second one is gone for it", SOON, || here() == [true, false, true]);
    // What runs stays, however little room there is for the others.
    run("room2");
    wait_until("what runs is here", SOON, || here()[..2] == [true, true]);
    cluster.delete(&["/room1", "/room2"]);
}

/// Voters that have lost their copies and cannot take new ones: a file is where they would be received.
fn from_another(cluster: &Cluster) {
    let [one, other] = cluster.watchers()[..] else { panic!("two nodes do not vote") };
    let rules = |agent: &Agent| format!("node_list_rules: [{}]", agent.name());
    cluster.apply(&(module("passed") + &bucket("passed", &rules(one))));
    push(cluster, "passed@1", &program(cluster, "passed", 1 << 20)).ok();
    cluster.wait_state("/passed", "running");
    let digest = digest(cluster, "passed@1");
    let voters = cluster.voters();
    for voter in &voters {
        let incoming = voter.dir().join("artifacts/incoming");
        fs::rename(&incoming, incoming.with_extension("away")).expect("moved");
        fs::write(&incoming, "").expect("a file in its place");
        fs::remove_file(blob(voter, &digest)).expect("it had a copy");
    }
    assert!(blob(one, &digest).exists() && !blob(other, &digest).exists());
    cluster.apply(&bucket("passed", &rules(other)));
    wait_for("it runs on the other node", Duration::from_secs(60), || {
        let status = cluster.try_json(&["bucket", "status", "/passed", "-o", "json"])?;
        let node = &status["instances"][0]["node"];
        if status["state"] == "running" && *node == *other.name() {
            Ok(())
        } else {
            Err(format!("{status:#}"))
        }
    });
    assert!(blob(other, &digest).exists());
    assert!(voters.iter().all(|voter| !blob(voter, &digest).exists()), "no voter could give it");
    for voter in &voters {
        let incoming = voter.dir().join("artifacts/incoming");
        fs::remove_file(&incoming).expect("the file");
        fs::rename(incoming.with_extension("away"), &incoming).expect("moved back");
    }
    wait_held(cluster, "passed@1");
    cluster.delete(&["/passed"]);
}
