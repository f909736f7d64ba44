//! Templates: text in which `${…}` stands for something known when an instance starts.

use serde::{Deserialize, Serialize};

use crate::FileName;

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
