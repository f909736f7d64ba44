//! What was collected, and the manifest of it.

use std::io;

use serde::Serialize;
use serde_json::{Value, json};
use sheaf_artifact::Bundle;
use sheaf_model::{Timestamp, first_lines, redacted};

/// What is never in a bundle, for whoever asks for it.
const NEVER: [&str; 6] = [
    "values of secrets, tokens, join secrets, keys and certificates",
    "documents of modules, buckets, backends and sinks: only what lists show of them",
    "what programs printed, beyond what a message quotes of it on its first line; items of jobs",
    "objects that modules keep",
    "environment variables",
    "artifacts",
];

/// A bundle that grows.
pub(super) struct Collected {
    bundle: Bundle,
    /// Names of the nodes that were asked.
    pub(super) nodes: Vec<String>,
    files: Vec<Entry>,
    missing: Vec<Missing>,
}

/// A file in the bundle.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    path: String,
    bytes: u64,
}

/// What could not be collected.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Missing {
    what: String,
    why: String,
}

/// What is there, what is not, and why.
pub(super) struct Manifest {
    asked: String,
    made_at: Timestamp,
    nodes: Vec<String>,
    pub(super) files: Vec<Entry>,
    pub(super) missing: Vec<Missing>,
}

impl Collected {
    /// Nothing yet.
    pub(super) fn new(bundle: Bundle) -> Self {
        Self { bundle, nodes: Vec::new(), files: Vec::new(), missing: Vec::new() }
    }

    /// Adds a text, without what looks like a secret. One that is there already stays as it is.
    pub(super) fn add(&mut self, path: &str, text: &str) -> io::Result<()> {
        if self.files.iter().any(|entry| entry.path == path) {
            self.lacks(path, "it came twice; the first one is here");
            return Ok(());
        }
        let text = redacted(text);
        self.bundle.add(path, text.as_bytes())?;
        self.files.push(Entry { path: path.to_owned(), bytes: text.len() as u64 });
        Ok(())
    }

    /// Adds a value as JSON, without what programs printed.
    pub(super) fn add_json(&mut self, path: &str, mut value: Value) -> io::Result<()> {
        first_lines(&mut value);
        self.add(path, &format!("{value:#}\n"))
    }

    /// Notes what could not be collected.
    pub(super) fn lacks(&mut self, what: &str, why: &str) {
        self.missing.push(Missing { what: what.to_owned(), why: redacted(why) });
    }

    /// What there is now.
    pub(super) fn manifest(&self, asked: &str, made_at: Timestamp) -> Manifest {
        let (files, missing) = (self.files.clone(), self.missing.clone());
        Manifest { asked: asked.to_owned(), made_at, nodes: self.nodes.clone(), files, missing }
    }

    /// Ends the bundle with its manifest; its size in bytes.
    pub(super) fn finish(mut self, manifest: &Manifest) -> io::Result<u64> {
        self.add_json("manifest.json", manifest.json())?;
        self.bundle.finish()
    }
}

impl Manifest {
    pub(super) fn json(&self) -> Value {
        json!({
            "format": 1,
            "made_at": self.made_at.to_string(),
            "sheaf": sheaf_model::version(),
            "asked": self.asked,
            "nodes": self.nodes,
            "files": self.files,
            "missing": self.missing,
            "never_collected": NEVER,
        })
    }
}
