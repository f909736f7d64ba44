//! What lies where, what no file may mention, and what the lock file may hold.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::tree::File;

/// The visible top level.
const TOP: [&str; 8] =
    ["Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "crates", "deploy", "proto", "tests"];

/// The one registry, as the lock file writes it. Here and below in two parts, or this file would break its own rule.
const REGISTRY: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

/// Words that belong to a machine or a registry, and what to write in their place.
const MENTIONS: [(&str, &str); 12] = [
    (concat!("../", "shared"), "a folder outside: say it here, or leave it out"),
    (concat!("/wo", "rk/"), "a path of one machine: take it from the environment"),
    (concat!("crates", ".io"), "a registry: its clients know where it is"),
    (concat!("pypi", ".org"), "a registry: its clients know where it is"),
    (concat!("pythonhosted", ".org"), "a registry: its clients know where it is"),
    (concat!("npmjs", ".org"), "a registry: its clients know where it is"),
    (concat!("proxy.golang", ".org"), "a registry: its clients know where it is"),
    (concat!("deb.debian", ".org"), "a registry: its clients know where it is"),
    (concat!("docker", ".io/"), "a registry: name the image alone"),
    (concat!("ghcr", ".io"), "a registry: name the image alone"),
    (concat!("quay", ".io"), "a registry: name the image alone"),
    (concat!("gcr", ".io"), "a registry: name the image alone"),
];

/// Anything visible at the top level that was not agreed, and anything agreed that is missing.
pub(crate) fn top_level(top: &[String]) -> Vec<String> {
    let mut violations = Vec::new();
    for name in top.iter().filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str())) {
        violations
            .push(format!("{name}:1: has no place at the top level: move it below {}", TOP[4..].join(", ")));
    }
    for name in TOP.iter().filter(|name| !top.iter().any(|found| found == *name)) {
        violations.push(format!("{name}:1: is missing from the top level"));
    }
    violations
}

/// Words that belong to a machine or a registry.
pub(crate) fn mentions(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            for (word, remedy) in MENTIONS {
                if line.contains(word) && !is_source(file, line) {
                    violations.push(file.at_line(index + 1, &format!("mentions {word}, {remedy}")));
                }
            }
        }
    }
    violations
}

/// The two files that must say where packages come from; `lock_file` holds the one against the other.
fn is_source(file: &File, line: &str) -> bool {
    let source = |beginning| line.starts_with(beginning);
    (file.path == "Cargo.lock" && source("source = "))
        || (file.path == ".deny.toml" && source("allow-registry = "))
}

/// Packages in the lock file that `.deny.toml` bans, and packages from elsewhere.
pub(crate) fn lock_file(files: &[File]) -> Vec<String> {
    let table = |path| {
        let file = files.iter().find(|file| file.path == path)?;
        Some((file, file.text.parse::<Table>().unwrap_or_else(|error| panic!("{path}: {error}"))))
    };
    let (Some((lock, packages)), Some((_, deny))) = (table("Cargo.lock"), table(".deny.toml")) else {
        return vec!["Cargo.lock:1: must lie at the top level, and .deny.toml beside it".to_owned()];
    };
    let mut violations = Vec::new();
    for package in packages.get("package").and_then(Value::as_array).into_iter().flatten() {
        let text = |key| package.get(key).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let line = lock.text.find(&format!("name = \"{name}\"")).map_or(1, |offset| lock.line(offset));
        if let Some(source) = text("source").filter(|source| *source != REGISTRY) {
            violations.push(
                lock.at_line(
                    line,
                    &format!("{name} comes from {source}: packages come from the one registry"),
                ),
            );
        }
        if let Some(reason) = banned(&deny, name) {
            violations.push(lock.at_line(line, &format!("{name} is banned in .deny.toml: {reason}")));
        }
    }
    violations
}

/// Why `.deny.toml` bans the package, if it does.
fn banned<'deny>(deny: &'deny Table, name: &str) -> Option<&'deny str> {
    let entries = deny.get("bans")?.get("deny")?.as_array()?;
    let entry = entries.iter().find(|entry| entry.get("crate").and_then(Value::as_str) == Some(name))?;
    entry.get("reason")?.as_str()
}

/// Paths in documents and doc comments, between backticks, that lead nowhere.
pub(crate) fn dead_paths(files: &[File]) -> Vec<String> {
    let mut known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for file in files {
        known.extend(file.path.match_indices('/').map(|(end, _)| &file.path[..end]));
    }
    let mut violations = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate().filter(|(_, line)| is_document(file, line)) {
            for path in line.split('`').skip(1).step_by(2).filter_map(meant_path) {
                if !known.contains(path) {
                    violations
                        .push(file.at_line(index + 1, &format!("{path} does not exist: name what is there")));
                }
            }
        }
    }
    violations
}

fn is_document(file: &File, line: &str) -> bool {
    let comment = line.trim_start();
    let doc = comment.starts_with("//!") || comment.starts_with("///");
    file.has_extension("md") || (file.has_extension("rs") && doc)
}

/// A path of this workspace, without a line number; patterns and commands are none.
fn meant_path(quoted: &str) -> Option<&str> {
    let path = quoted.split(':').next().unwrap_or(quoted).trim_end_matches('/');
    let ours = ["crates/", "tests/", "proto/", "deploy/"].iter().any(|folder| path.starts_with(folder));
    (ours && !path.contains(['*', '<', '{', ' ', '…', '$', '('])).then_some(path)
}

/// Copies of protos that a crate carries along to be published, where they differ from `proto/`.
pub(crate) fn packaged_protos(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for copy in files.iter().filter(|file| file.path.starts_with("crates/") && file.has_extension("proto")) {
        let Some((_, within)) = copy.path.split_once("/proto/") else { continue };
        let original = format!("proto/{within}");
        let what = match files.iter().find(|file| file.path == original) {
            Some(file) if file.text == copy.text => continue,
            Some(_) => format!("differs from {original}: copy it again"),
            None => format!("{original} does not exist: protos begin there"),
        };
        violations.push(copy.at_line(1, &what));
    }
    violations
}

#[test]
fn a_stranger_at_the_top_level_is_found() {
    let agreed: Vec<String> = TOP.iter().map(|name| (*name).to_owned()).collect();
    assert!(top_level(&agreed).is_empty());
    let mut changed = agreed;
    changed.retain(|name| name != "LICENSE");
    changed.extend(["docs".to_owned(), ".ci".to_owned()]);
    let found = top_level(&changed);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_machine_or_a_registry_is_found() {
    for (word, _) in MENTIONS {
        assert_eq!(mentions(&[File::new("README.md", &format!("a\nsee {word} b"))]).len(), 1, "{word}");
    }
    let source = format!("source = \"{REGISTRY}\"\n");
    assert!(mentions(&[File::new("Cargo.lock", &source)]).is_empty());
    assert_eq!(mentions(&[File::new("deploy/Cargo.lock", &source)]).len(), 1);
}

#[test]
fn a_banned_package_or_source_is_found() {
    let deny = "[bans]\ndeny = [{ crate = \"openssl\", reason = \"rustls\" }]\n";
    let lock = format!(
        "[[package]]\nname = \"serde\"\nsource = \"{REGISTRY}\"\n[[package]]\nname = \"openssl\"\n[[package]]\nname = \"a\"\nsource = \"git+b\"\n"
    );
    let found = lock_file(&[File::new("Cargo.lock", &lock), File::new(".deny.toml", deny)]);
    assert_eq!(
        found,
        [
            "Cargo.lock:5: openssl is banned in .deny.toml: rustls",
            "Cargo.lock:7: a comes from git+b: packages come from the one registry",
        ]
    );
    assert_eq!(lock_file(&[]).len(), 1);
}

#[test]
fn a_dead_path_is_found() {
    let text =
        "See `tests/gone.rs:3`, `tests/tidy/`, `crates/*/src`, `tests/tidy/house.rs` and `cargo test`.\n";
    let files =
        [File::new("README.md", text), File::new("tests/tidy/house.rs", "/// `crates/none`\n// `tests/x`\n")];
    let found = dead_paths(&files);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("README.md:1: tests/gone.rs") && found[1].contains("crates/none"));
}

#[test]
fn a_stale_copy_is_found() {
    let original = File::new("proto/a.proto", "one");
    assert!(
        packaged_protos(&[
            File::new("proto/a.proto", "one"),
            File::new("crates/module/proto/a.proto", "one")
        ])
        .is_empty()
    );
    assert_eq!(packaged_protos(&[original, File::new("crates/module/proto/a.proto", "two")]).len(), 1);
    assert_eq!(packaged_protos(&[File::new("crates/module/proto/b.proto", "")]).len(), 1);
}
