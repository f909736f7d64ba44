//! The Debian package.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sheaf_tests::{Machine, manual, need};
use toml::{Table, Value};

fn said(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {}\n{errors}", done.status);
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What is said to `cargo deb`.
fn metadata() -> Value {
    let text = fs::read_to_string(manual::root().join("crates/app/Cargo.toml")).expect("it is there");
    let all = Value::Table(text.parse::<Table>().expect("cargo reads it"));
    let found = ["package", "metadata", "deb"].into_iter().try_fold(&all, |value, key| value.get(key));
    found.cloned().expect("something is said")
}

/// Destinations in the metadata of `cargo deb`, of files that stand in the tree.
fn assets() -> BTreeSet<String> {
    let metadata = metadata();
    let assets = metadata.get("assets").and_then(Value::as_array).expect("there are assets");
    let mut found = BTreeSet::new();
    for asset in assets {
        let at = |index: usize| asset.get(index).and_then(Value::as_str).expect("source, destination, mode");
        let (source, to) = (at(0), at(1));
        if source.starts_with("target/") && source != "target/release/sheaf" {
            continue;
        }
        match source.split_once('*') {
            None if to.ends_with('/') => {
                let name = source.rsplit('/').next().expect("a path has a last part");
                found.insert(format!("{to}{name}"));
            }
            None => drop(found.insert(to.to_owned())),
            Some((folder, ending)) => {
                let folder = manual::root().join("crates/app").join(folder);
                for entry in
                    fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                {
                    let name = entry.expect("it can be read").file_name().to_string_lossy().into_owned();
                    if name.ends_with(ending) {
                        found.insert(format!("{to}{name}"));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn the_package_has_what_a_node_needs() {
    if !need::programs(&["dpkg-deb", "gzip", "objdump", "strip"]) {
        return;
    }
    let machine = Machine::take();
    let script = manual::root().join("deploy/debian/build.sh");
    let mut build = Command::new(script);
    // How it is packed says nothing about what is in it, and takes its time.
    build.arg(machine.binary()).arg(machine.place()).env("DEB_COMPRESS", "gzip");
    let package = PathBuf::from(said(&mut build).trim());
    let listed = said(Command::new("dpkg-deb").arg("--contents").arg(&package));
    let files: BTreeSet<String> = listed
        .lines()
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split(" ./").nth(1).map(str::to_owned))
        .collect();
    let static_files = assets();
    let missing: Vec<&String> = static_files.difference(&files).collect();
    assert!(missing.is_empty(), "in the metadata of cargo deb alone: {missing:?}\n{listed}");
    let more: Vec<&String> = files.difference(&static_files).collect();
    let made = |file: &str| file.starts_with("usr/share/man/") || file.contains("bash-completion");
    assert!(more.iter().all(|file| made(file)), "not in the metadata of cargo deb: {more:?}");
    for page in ["sheaf.1.gz", "sheaf-agent-check.1.gz", "sheaf-bucket-apply.1.gz"] {
        assert!(files.contains(&format!("usr/share/man/man1/{page}")), "{page}");
    }
    assert!(listed.lines().all(|line| line.contains("root/root")), "{listed}");
    // Without one cargo-deb says 1, and no agent would ever have that version.
    assert_eq!(metadata().get("revision").and_then(Value::as_str), Some(""));
    let field = |name: &str| said(Command::new("dpkg-deb").arg("-f").arg(&package).arg(name));
    assert_eq!(field("Version").trim(), env!("CARGO_PKG_VERSION"));
    let recommends = metadata().get("recommends").and_then(Value::as_str).map(str::to_owned);
    assert_eq!(recommends.as_deref(), Some(field("Recommends").trim()));
    assert!(field("Depends").contains("libc6 (>= 2."), "{}", field("Depends"));
    let inside = machine.path("control");
    said(Command::new("dpkg-deb").arg("--control").arg(&package).arg(&inside));
    let conffiles = fs::read_to_string(inside.join("conffiles")).expect("it is there");
    assert_eq!(conffiles, "/etc/sheaf/agent.toml\n");
}
