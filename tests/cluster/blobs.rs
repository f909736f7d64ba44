//! Artifacts that are not what they should be: damaged on a disk, or made to do harm.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use sheaf_model::{Artifact, Digest, ModuleRef, Shape};
use sheaf_tests::calls::runtime;
use sheaf_tests::{Agent, Cases, Cluster, wait_for};
use sheaf_wire::module::{FinishPush, PushPiece};
use sheaf_wire::{ApiError, Client, Options};

use crate::artifact::{blob, bucket, digest, module, program, push, pushed};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("a copy that a disk damaged is not used, and replaced", || damaged(cluster));
    cases.run("archives that would do harm are refused when they are pushed", || evil(cluster));
}

/// Both followers' copies are damaged, as often as it takes until the node asks one of them first: which one that is follows
/// from the content.
fn damaged(cluster: &Cluster) {
    let asked = (1..=12).any(|n| damage(cluster, &format!("damaged{n}")));
    assert!(asked, "the node always asked the leader first: {}", cluster.watchers()[0].log_tail());
}

/// Whether the node came to know of a damaged copy. Either way it runs what was pushed.
fn damage(cluster: &Cluster, name: &str) -> bool {
    let (watcher, leader) = (cluster.watchers()[0], cluster.leader());
    cluster.apply(&module(name));
    push(cluster, &format!("{name}@1"), &program(cluster, name, 100_000)).ok();
    let digest = digest(cluster, &format!("{name}@1"));
    let whole = fs::read(blob(leader, &digest)).expect("the leader has it");
    let followers: Vec<_> =
        cluster.voters().into_iter().filter(|agent| agent.name() != leader.name()).collect();
    for follower in &followers {
        let copy = blob(follower, &digest);
        let mut bytes = wait_for("it has a copy", Duration::from_secs(30), || {
            fs::read(&copy).map_err(|error| error.to_string())
        });
        bytes[70_000] ^= 1;
        fs::write(&copy, bytes).expect("a damaged copy");
    }
    let bucket_name = format!("/{name}");
    cluster.apply(&bucket(name, &format!("node_list_rules: [{}]", watcher.name())));
    cluster.wait_state(&bucket_name, "running");
    let found = fs::read(blob(watcher, &digest)).expect("it has it now");
    assert!(found == whole, "what runs there was verified");
    cluster.delete(&[&bucket_name]);
    let said = |line: &str| {
        line.contains("asking another node") && line.contains(&format!("and should have {digest}"))
    };
    if !watcher.log().lines().any(said) {
        return false;
    }
    wait_for("the voter that was asked has a good copy again", Duration::from_secs(60), || {
        let good = |agent: &Agent| fs::read(blob(agent, &digest)).is_ok_and(|found| found == whole);
        if followers.iter().any(|agent| good(agent)) {
            Ok(())
        } else {
            Err("both are damaged or gone".to_owned())
        }
    });
    true
}

/// One entry of an archive, as no honest packer makes it.
fn entry(kind: u8, name: &str, link: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar  \0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = [&header[..], content].concat();
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// Pushes bytes over the API, past the command line, which would not pack them.
async fn push_bytes(client: &Client, bytes: &[u8]) -> Result<(), ApiError> {
    let module = ModuleRef::parse("evil@1").expect("a version");
    let send = async |digest| {
        let artifact =
            Artifact { module: module.clone(), digest, size: bytes.len() as u64, shape: Shape::Directory };
        let data = Bytes::copy_from_slice(bytes);
        client.push_piece(PushPiece { artifact: artifact.clone(), offset: 0, data }).await.map(|_| artifact)
    };
    // What is said of bytes with another digest tells which one they have.
    let said = send(Digest([7; 32])).await.expect_err("another digest").to_string();
    assert!(said.contains("push again"), "{said}");
    let found = said.split("has the digest ").nth(1).and_then(|rest| rest.get(..64)).expect("a digest");
    let artifact = send(found.parse().expect("a digest")).await?;
    client.finish_push(FinishPush { artifact, request: None }).await.map(drop)
}

fn evil(cluster: &Cluster) {
    cluster.apply(&module("evil"));
    let end = vec![0; 1024];
    let file = |name: &str| entry(b'0', name, "", 1, b"x");
    let cases = [
        (file("/etc/evil"), "\"/etc/evil\", an absolute path"),
        (file("../evil"), "\"../evil\", a path that leads out of it"),
        (entry(b'2', "l", "/etc/passwd", 0, b""), "\"l\", a link that leads out of it"),
        (entry(b'2', "l", "../../../etc/passwd", 0, b""), "\"l\", a link that leads out of it"),
        (entry(b'1', "l", "/etc/passwd", 0, b""), "\"l\", a hard link"),
        (entry(b'3', "sda", "", 0, b""), "\"sda\", a device or pipe"),
        (entry(b'0', "zeros", "", 5 << 30, b""), "more than 2GiB"),
        (vec![9; 2000], "no archive that can be read"),
    ];
    let runtime = runtime();
    let client = runtime
        .block_on(Client::connect(&cluster.agent(1).address(), Options::default()))
        .expect("a connection");
    for (bytes, problem) in cases {
        let error = runtime.block_on(push_bytes(&client, &[bytes, end.clone()].concat())).expect_err(problem);
        assert!(matches!(error, ApiError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(problem), "{problem}: {error}");
    }
    let status = cluster.json(&["module", "status", "evil@1", "-o", "json"]);
    assert!(status["artifact"].is_null(), "{status:#}");
    // Nothing is left of them, and what is honest is taken.
    pushed(cluster, "evil@1", &program(cluster, "evil", 100), "Module evil@1 pushed");
}
