//! Artifacts: pushed once, run wherever they may run, never changed, and not lost with a voter.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::{Cases, Cluster, Output, wait_for};

use crate::scene::{explain, gates};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("a program that was pushed runs on every node", || runs_everywhere(cluster));
    cases.run("what is pushed never changes", || never_changes(cluster));
    cases.run("a push that was cut off goes on", || goes_on(cluster));
    cases.run("a version in use is not deleted, and one deleted is nowhere", || deleted(cluster));
    cases.run("a voter that lost its copy gets another", || lost_copy(cluster));
}

fn module(name: &str) -> String {
    format!(
        "kind: Module\nname: {name}\nversion: \"1\"\nexec:\n  command: ${{artifact}}/run.sh\n  env: {{WHERE: \"${{artifact}}\"}}\n---\n"
    )
}

/// A directory with a program of `bytes` bytes of ballast.
fn program(cluster: &Cluster, name: &str, bytes: usize) -> PathBuf {
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

fn push(cluster: &Cluster, module: &str, path: &Path) -> Output {
    cluster.cli(&["module", "push", module, path.to_str().expect("a path that is text")])
}

fn holders(cluster: &Cluster, module: &str) -> Vec<(String, bool)> {
    let status = cluster.json(&["module", "status", module, "-o", "json"]);
    let nodes = status["artifact"]["nodes"].as_array().cloned().unwrap_or_default();
    let whole = nodes.iter().filter(|on| on["percent"] == 100);
    whole.filter_map(|on| Some((on["node"].as_str()?.to_owned(), on["voter"].as_bool()?))).collect()
}

fn runs_everywhere(cluster: &Cluster) {
    let bucket =
        "kind: Bucket\nname: /pushed\nmodule: pushed\nmulti_node: true\nnode_list_rules: [\"-n4\"]\n";
    cluster.apply(&(module("pushed") + bucket));
    let said = wait_for("the gate says what to do", Duration::from_secs(20), || {
        let [.., (pass, reason)] = gates(&explain(cluster, "/pushed"), "n1");
        if pass == Some(false) { Ok(reason) } else { Err(format!("{pass:?} {reason}")) }
    });
    assert!(said.contains("sheaf module push pushed@1 PATH"), "{said}");
    push(cluster, "pushed@1", &program(cluster, "pushed", 3 << 20))
        .ok()
        .says("Module pushed@1 pushed, sha256 ");
    cluster.wait_status("/pushed", "runs on three", |status| status["running"] == 3);
    let logs = cluster.cli(&["bucket", "logs", "/pushed"]).ok();
    assert_eq!(logs.stdout.matches("words of pushed").count(), 3, "{}", logs.stdout);
    let on = holders(cluster, "pushed@1");
    assert!(on.iter().filter(|(_, voter)| *voter).count() >= 2, "{on:?}");
    assert!(
        cluster
            .named("n4")
            .dir()
            .join("artifacts/unpacked")
            .read_dir()
            .expect("a directory")
            .next()
            .is_none(),
        "what the rules refuse is not fetched to be run"
    );
    let status = cluster.json(&["module", "status", "pushed@1", "-o", "json"]);
    assert_eq!(status["used_by"], Value::from(vec!["/pushed"]));
    push(cluster, "pushed@1", &program(cluster, "pushed", 3 << 20)).ok().says("Module pushed@1 unchanged");
}

fn never_changes(cluster: &Cluster) {
    let other = program(cluster, "other", 100);
    push(cluster, "pushed@1", &other).exits(6).mentions(&["pushed@1", "give it a new version"]);
    push(cluster, "pushed@2", &other).exits(3).mentions(&["pushed@2", "register it first"]);
    push(cluster, "pushed", &other).exits(2).mentions(&["has no version"]);
    std::os::unix::fs::symlink("/etc", other.join("out")).expect("a link");
    push(cluster, "pushed@1", &other).exits(1).mentions(&["out: a link that leads out of the directory"]);
}

/// What of a blob is on the leader is not sent again; bytes that are not those of the digest are thrown away.
fn goes_on(cluster: &Cluster) {
    cluster.apply(&module("cut"));
    let path = program(cluster, "cut", 2 << 20);
    let packed = sheaf_artifact::pack(&path).expect("it packs");
    let mut blob = Vec::new();
    packed.write(&mut blob).expect("it is written");
    let leader = cluster.leader();
    let incoming = leader.dir().join("artifacts/incoming").join(packed.digest.to_string());
    fs::write(&incoming, &blob[..1 << 20]).expect("the first half");
    let seen = cluster.cli(&["module", "push", "cut@1", path.to_str().expect("text")]).ok();
    assert!(seen.stdout.contains("cut@1 pushed"), "{}", seen.stdout);
    assert!(!incoming.exists());
    cluster.apply(&module("torn"));
    let path = program(cluster, "torn", 2 << 20);
    let packed = sheaf_artifact::pack(&path).expect("it packs");
    let incoming = cluster.leader().dir().join("artifacts/incoming").join(packed.digest.to_string());
    fs::write(&incoming, vec![1; 1 << 20]).expect("other bytes");
    push(cluster, "torn@1", &path).exits(1).mentions(&["digest", "push again"]);
    assert!(holders(cluster, "torn@1").is_empty());
    push(cluster, "torn@1", &path).ok().says("torn@1 pushed");
}

fn deleted(cluster: &Cluster) {
    cluster.cli(&["module", "delete", "pushed@1", "--yes"]).exits(1).mentions(&["/pushed"]);
    cluster.delete(&["/pushed"]);
    let digest = cluster.json(&["module", "status", "pushed@1", "-o", "json"])["artifact"]["digest"].clone();
    let digest = digest.as_str().expect("a digest").to_owned();
    cluster.cli(&["module", "delete", "pushed@1", "--yes"]).ok();
    wait_for("it is nowhere", Duration::from_secs(30), || {
        let left = cluster.agents().iter().flat_map(|agent| {
            ["blobs", "unpacked"].map(|sub| agent.dir().join("artifacts").join(sub).join(&digest))
        });
        let left: Vec<PathBuf> = left.filter(|path| path.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn lost_copy(cluster: &Cluster) {
    let voters = cluster.voters();
    let loser = voters.iter().find(|agent| agent.name() != cluster.leader().name()).expect("a follower");
    let digest = cluster.json(&["module", "status", "cut@1", "-o", "json"])["artifact"]["digest"].clone();
    let blob = loser.dir().join("artifacts/blobs").join(digest.as_str().expect("a digest"));
    wait_for("it has a copy", Duration::from_secs(30), || {
        if blob.exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
    fs::remove_file(&blob).expect("it is lost");
    wait_for("it has another", Duration::from_secs(60), || {
        if blob.exists() { Ok(()) } else { Err("not yet".to_owned()) }
    });
}
