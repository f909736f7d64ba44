//! What is wrong with something a person wrote: where, what, and what would be right.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One defect. Defects are collected, never thrown one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Defect {
    /// File, or empty when what was read has no file.
    pub file: String,
    /// Which document of the file or request, e.g. `Bucket /logs/web` or `document 2`; may be empty.
    pub document: String,
    /// Field path within the document, e.g. `node_list_rules[1]`; empty: the document as a whole.
    pub path: String,
    /// What is wrong, with the offending value.
    pub problem: String,
    /// What would be right; may be empty.
    pub remedy: String,
}

impl Defect {
    /// A defect of the field at `path`.
    pub fn new(path: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into(), remedy: remedy.into(), ..Self::default() }
    }

    /// The same defect, said of `document`.
    #[must_use]
    pub fn of(mut self, document: impl Into<String>) -> Self {
        self.document = document.into();
        self
    }

    /// The same defect with its path put under `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path = match (prefix.is_empty(), self.path.is_empty()) {
            (true, _) => self.path,
            (false, true) => prefix.to_owned(),
            (false, false) if self.path.starts_with('[') => format!("{prefix}{}", self.path),
            (false, false) => format!("{prefix}.{}", self.path),
        };
        self
    }
}

/// `file: document: path: problem; remedy` with the empty parts left out.
impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.file, &self.document, &self.path] {
            if !place.is_empty() {
                write!(f, "{place}: ")?;
            }
        }
        f.write_str(&self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}
