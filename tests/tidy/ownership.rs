//! Who uses what, read from the code: a manifest cannot say who handles processes, and a re-export would get past it.

use crate::rust;
use crate::tree::File;

/// Paths that only some places may use.
struct Owned {
    /// A path is meant if it is one of these or lies below one.
    paths: &'static [&'static str],
    /// Beginnings of the file paths that may use them.
    by: &'static [&'static str],
    /// Whether tests of other crates may, too.
    tests: bool,
    remedy: &'static str,
}

const OWNED: &[Owned] = &[
    Owned {
        paths: &["tonic"],
        by: &["crates/wire/", "crates/module/", "crates/app/"],
        tests: false,
        remedy: "gRPC belongs to wire: ask it for a trait or a client that speaks model",
    },
    Owned {
        paths: &["prost", "prost_types", "tonic_prost", "tonic_health", "tonic_reflection", "tonic_types"],
        by: &["crates/wire/", "crates/module/"],
        tests: false,
        remedy: "gRPC belongs to wire: ask it for a trait or a client that speaks model",
    },
    Owned {
        paths: &["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp", "opentelemetry_proto"],
        by: &["crates/wire/"],
        tests: false,
        remedy: "traces belong to wire: ask it for a span",
    },
    Owned {
        paths: &["openraft", "raft_log"],
        by: &["crates/consensus/"],
        tests: false,
        remedy: "Raft belongs to consensus: ask its Replica",
    },
    Owned {
        paths: &["rusqlite"],
        by: &["crates/store/"],
        tests: false,
        remedy: "SQLite belongs to store: ask it",
    },
    Owned {
        paths: &[
            "std::process::Command",
            "std::process::Child",
            "std::process::Stdio",
            "std::os::unix::process::CommandExt",
            "process::Command",
            "process::Child",
            "tokio::process",
            "rustix::process",
        ],
        // `control` has one place, the sink that runs a command.
        by: &[
            "crates/agent/",
            "crates/app/src/dev.rs",
            "crates/app/src/dev/",
            "crates/control/src/sink/exec.rs",
        ],
        tests: true,
        remedy: "processes belong to agent (and to app's dev): return an action, and let agent carry it out",
    },
];

/// Owned paths in the code of crates that do not own them.
pub(crate) fn paths(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("rs") && file.path.starts_with("crates/")) {
        for (offset, path) in rust::paths(&file.code) {
            let path = without_reexport(&path);
            for owned in OWNED.iter().filter(|owned| owned.paths.iter().any(|root| lies_below(path, root))) {
                let tests = owned.tests && (file.in_test_item(offset) || file.path.contains("/tests/"));
                if !tests && !owned.by.iter().any(|place| file.path.starts_with(place)) {
                    violations.push(file.at(offset, &format!("{path}: {}", owned.remedy)));
                }
            }
            let pure = ["crates/model/", "crates/engine/"].iter().any(|place| file.path.starts_with(place));
            if pure && (lies_below(path, "tokio") || lies_below(path, "futures")) {
                violations
                    .push(file.at(offset, &format!("{path}: no async here: take a value, return an action")));
            }
        }
    }
    violations
}

fn lies_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `sheaf_wire::tonic::Status` is tonic's all the same.
fn without_reexport(path: &str) -> &str {
    match path.split_once("::") {
        Some((first, rest)) if first.starts_with("sheaf_") => rest,
        _ => path,
    }
}

#[test]
fn an_owned_path_elsewhere_is_found() {
    let bad = [
        ("crates/agent/src/link.rs", "use tonic::Status;"),
        ("crates/agent/src/link.rs", "fn f() -> sheaf_wire::tonic::Status { todo() }"),
        ("crates/app/src/main.rs", "fn f(x: prost::DecodeError) {}"),
        ("crates/store/src/lib.rs", "use openraft::{Raft};"),
        ("crates/control/src/lib.rs", "rusqlite::Connection::open(x)"),
        ("crates/control/src/lib.rs", "use std::{io, process::{Command}};"),
        ("crates/control/src/lib.rs", "use std::process;\nfn f() { process::Command::new(x); }"),
        ("crates/app/src/serve.rs", "use rustix::{fs, process};"),
        ("crates/console/src/lib.rs", "tokio::process::Command::new(x)"),
        ("crates/engine/src/lib.rs", "tokio::spawn(x)"),
    ];
    for (path, text) in bad {
        assert_eq!(paths(&[File::new(path, text)]).len(), 1, "{path}: {text}");
    }
}

#[test]
fn owners_tests_and_talk_are_let_pass() {
    let good = [
        ("crates/wire/src/lib.rs", "use tonic::Status; use prost::Message;"),
        ("crates/app/src/main.rs", "use tonic::transport::Server; use std::process::ExitCode;"),
        ("crates/app/src/dev.rs", "use std::process::Command; use rustix::process::kill_process;"),
        ("crates/console/src/lib.rs", "#[cfg(test)]\nmod tests { use std::process::Command; }"),
        ("crates/model/src/lib.rs", "// tokio::spawn\nconst X: &str = \"tonic::Status\";"),
        ("tests/cluster.rs", "use std::process::Command;"),
    ];
    for (path, text) in good {
        assert_eq!(paths(&[File::new(path, text)]), [""; 0], "{path}: {text}");
    }
}
