//! Documents that tests register, and what their programs leave behind.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::manual;

/// A module whose programs write a line when they start and then stay.
pub fn module(name: &str, checks: &str) -> String {
    let script = r#"echo "$SHEAF_NODE $$ ${SHEAF_EPOCH:-0} $SHEAF_REVISION" >> "$TRACE"; exec sleep 100000"#;
    program(name, script, checks)
}

/// An `exec` module that runs a shell script; `more` are further fields. Where the bucket's config has `trace`, the
/// script finds it as `$TRACE`.
pub fn program(name: &str, script: &str, more: &str) -> String {
    let script = script.replace("${", "$${");
    format!(
        "kind: Module\nname: {name}\nversion: '1'\nruntime: exec\nexec:\n  command: /bin/sh\n  args: [-c, {script:?}]\n  \
         env: {{TRACE: '${{bucket.config.trace}}'}}\n{more}\n---\n"
    )
}

/// A bucket; `more` are further fields. Its programs leave their traces in `trace`.
pub fn bucket(name: &str, module: &str, trace: &Trace, more: &str) -> String {
    let trace = trace.0.display();
    let mut text = format!("kind: Bucket\nname: {name}\nmodule: {module}\n");
    if !more.contains("config:") {
        let _ = writeln!(text, "config: {{trace: '{trace}'}}");
    }
    let _ = writeln!(text, "{more}\n---");
    text
}

/// An example of `deploy/examples`, as it stands there.
///
/// # Panics
/// If there is none of this name.
pub fn example(name: &str) -> String {
    let path = manual::root().join("deploy/examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file into which the programs of a bucket write a line when they start.
#[derive(Clone, Debug)]
pub struct Trace(PathBuf);

/// A start of a program of [`module`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The node's name.
    pub node: String,
    /// The program's process.
    pub pid: u32,
    /// `SHEAF_EPOCH`; 0 for multi-node work.
    pub epoch: u64,
    /// `SHEAF_REVISION`
    pub revision: u64,
}

impl Trace {
    /// A trace in this file.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All starts so far.
    pub fn starts(&self) -> Vec<Start> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(start).collect()
    }

    /// Those on a node.
    pub fn on(&self, node: &str) -> Vec<Start> {
        self.starts().into_iter().filter(|start| start.node == node).collect()
    }
}

fn start(line: &str) -> Option<Start> {
    let mut words = line.split(' ');
    let node = words.next()?.to_owned();
    let mut number = || words.next()?.parse::<u64>().ok();
    let (pid, epoch, revision) = (number()?, number()?, number()?);
    Some(Start { node, pid: u32::try_from(pid).ok()?, epoch, revision })
}
