//! Good inputs: what the repository has of them.

use std::fs;
use std::path::Path;

use crate::manual;

/// Files of documents.
const DOCUMENTS: [&str; 8] = [
    "deploy/examples/flume.yaml",
    "deploy/examples/partition.yaml",
    "deploy/examples/rsyslog.yaml",
    "deploy/examples/webcrawl.yaml",
    "deploy/examples/http/backend.yaml",
    "deploy/examples/http/job.yaml",
    "deploy/examples/http/module.yaml",
    "crates/app/src/dev/examples.yaml",
];
/// What none of these has.
const MORE: [&str; 4] = [
    "kind: Bucket\nname: /a\nmodule: m@1\nmulti_node: true\nnode_list_rules: [\"+import-*\", -$zone=b, /^web\\d+$/i]\n\
     config: {a: &x [1, 2.5, null, \"é\"], b: *x}\nsuspended: true\nrevision: 7\npoll_frequency: 1h30m\n\
     placement: spread:zone\non_node_lost: wait\nmax_parallel: 2\nlabels: {team: web}\nowner: ops\ntype: analytic\n",
    "{\"kind\":\"Job\",\"name\":\"j\",\"module\":\"m\",\"subtasks\":{\"items\":[{\"tile\":1},{\"depends_on\":[0]}]},\
     \"retry\":{\"max_attempts\":3,\"backoff\":\"1s..60s\",\"retry_on\":[\"exit\",\"lost\"]},\"priority\":7}\n",
    "kind: Module\nname: m\nversion: '1'\nruntime: plugin\nworker: true\nexec: {command: /x, args: [a, '$${b}'], env: {T: \
     '${secret.a.b}'}}\ncan_run_on_this_node: [{file: /x}, {memory_available: 1GiB}, {port_free: '${bucket.config.port}'},\
     {command: [/bin/true], timeout: 2s}]\nlimits: {memory: 1GiB, cpu: 0.5}\nconfig_schema: {type: object}\nuser: flume\n",
    "kind: Sink\nname: s\nmail: {server: 'm:465', from: a@b.c, to: [d@e.f], user: u, password: '${secret.p}', digest: 1m}\n\
     filter: {kinds: ['job.*'], subjects: ['*'], nodes: [n1]}\n",
];

/// The text of a file of the repository.
pub(super) fn file(path: &str) -> Vec<u8> {
    let path = manual::root().join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Documents: the examples', the readme's, and each of several by itself.
pub(super) fn documents() -> Vec<Vec<u8>> {
    let files = DOCUMENTS.iter().map(|path| String::from_utf8_lossy(&file(path)).into_owned());
    let readme = String::from_utf8_lossy(&file("README.md")).into_owned();
    let shown = readme.split(".yaml <<").skip(1).filter_map(|rest| {
        let (_, text) = rest.split_once('\n')?;
        text.split_once("\nEND\n").map(|(text, _)| text.to_owned())
    });
    let all: Vec<String> = files.chain(shown).chain(MORE.map(str::to_owned)).collect();
    let single = all.iter().flat_map(|text| text.split("\n---\n")).map(str::to_owned);
    single.chain(all.clone()).map(String::into_bytes).collect()
}

/// Entries of the log, and all else that was ever written by consensus, as its golden files have them.
pub(super) fn golden() -> Vec<Vec<u8>> {
    let folder = manual::root().join("crates/consensus/src/codec/golden");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let all: Vec<Vec<u8>> = paths.iter().map(|path| hex(path)).filter(|bytes| !bytes.is_empty()).collect();
    assert!(all.len() > 10, "golden files in {}", folder.display());
    all
}

fn hex(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

/// Texts as inputs.
pub(super) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn there_is_something_to_begin_with() {
    let documents = documents();
    let has =
        |word: &str| documents.iter().any(|text| text.windows(word.len()).any(|it| it == word.as_bytes()));
    for kind in ["Module", "Bucket", "Job", "Backend", "Sink"] {
        assert!(has(&format!("kind: {kind}")), "{kind}");
    }
    assert!(documents.len() > 40, "{}", documents.len());
    assert!(golden().iter().all(|bytes| bytes.first() == Some(&1)), "all are of version 1");
}
