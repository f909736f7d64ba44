//! Filling in: what is known when an instance starts, or a check is asked.

use serde_json::Value;

use super::{Part, Template, TemplateName};
use crate::{Revision, SecretName};

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
    /// Where the module's artifact is on this node.
    pub artifact: Option<&'a str>,
    /// The subtask.
    pub subtask: Option<SubtaskScope<'a>>,
}

/// The subtask's part of a [`Scope`].
#[derive(Clone, Copy, Debug)]
pub struct SubtaskScope<'a> {
    /// The job's name.
    pub job: &'a str,
    /// Its number in the job.
    pub subtask: u32,
    /// Which of its attempts.
    pub attempt: u32,
    /// What it is about.
    pub item: &'a Value,
}

/// The bucket's part of a [`Scope`].
#[derive(Clone, Copy, Debug)]
pub struct BucketScope<'a> {
    /// Its path.
    pub name: &'a str,
    /// Its revision.
    pub revision: Revision,
    /// What its module is told.
    pub config: &'a Value,
}

/// What a template is but for its secrets: a text, or where one stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Piece {
    /// Filled in.
    Text(String),
    /// To be filled in where it is used.
    Secret(SecretName),
}

impl Template {
    /// Fills it in but for its secrets.
    pub fn render_but_secrets(&self, scope: &Scope<'_>) -> Result<Vec<Piece>, RenderError> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in &self.0 {
            let text = match part {
                Part::Text(plain) => plain.clone(),
                Part::Name(TemplateName::Secret(name)) => {
                    pieces.push(Piece::Secret(name.clone()));
                    continue;
                }
                Part::Name(name) => name.value(scope)?,
            };
            match pieces.last_mut() {
                Some(Piece::Text(last)) => last.push_str(&text),
                _ => pieces.push(Piece::Text(text)),
            }
        }
        Ok(pieces)
    }

    /// Fills it in. One with secrets cannot be: see [`Template::render_but_secrets`].
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, RenderError> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Name(name) => text.push_str(&name.value(scope)?),
            }
        }
        Ok(text)
    }
}

impl TemplateName {
    fn value(&self, scope: &Scope<'_>) -> Result<String, RenderError> {
        let error = |problem: String| RenderError { template: format!("${{{self}}}"), problem };
        let bucket = || scope.bucket.as_ref().ok_or_else(|| error("there is no bucket here".to_owned()));
        let subtask = || scope.subtask.as_ref().ok_or_else(|| error("there is no subtask here".to_owned()));
        let no_directory = || error("there is no instance's directory here".to_owned());
        Ok(match self {
            Self::BucketName => bucket()?.name.to_owned(),
            Self::BucketRevision => bucket()?.revision.to_string(),
            Self::BucketConfig(keys) => {
                let value = walk("bucket.config", bucket()?.config, keys).map_err(error)?;
                written(value).ok_or_else(|| error("its value is null".to_owned()))?
            }
            Self::NodeName => scope.node_name.to_owned(),
            Self::NodeHostname => scope.node_hostname.to_owned(),
            Self::NodeLabels => scope.node_labels.join(","),
            Self::Dir => scope.dir.ok_or_else(no_directory)?.to_owned(),
            Self::File(name) => format!("{}/{name}", scope.files.ok_or_else(no_directory)?),
            Self::Sheaf => scope.sheaf.to_owned(),
            Self::Artifact => {
                let none = || error("the module's version has no artifact here".to_owned());
                scope.artifact.ok_or_else(none)?.to_owned()
            }
            Self::Secret(_) => return Err(error("no secret is known here".to_owned())),
            Self::Item(keys) => {
                let value = walk("item", subtask()?.item, keys).map_err(error)?;
                written(value).ok_or_else(|| error("its value is null".to_owned()))?
            }
            Self::Job => subtask()?.job.to_owned(),
            Self::Subtask => subtask()?.subtask.to_string(),
            Self::Attempt => subtask()?.attempt.to_string(),
        })
    }
}

/// The value that `keys` lead to from `value`, which is called `root`; or why there is none.
fn walk<'a>(root: &str, value: &'a Value, keys: &[String]) -> Result<&'a Value, String> {
    let mut place = root.to_owned();
    let mut value = value;
    for key in keys {
        let next = match value {
            Value::Object(map) => map.get(key),
            Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        value = next.ok_or_else(|| match value {
            Value::Object(map) if map.is_empty() => format!("{place} has no key {key:?}; it is empty"),
            Value::Object(map) => format!("{place} has no key {key:?}; it has {}", listed(map.keys())),
            Value::Array(items) if items.is_empty() => format!("{place} has no item {key:?}; it is empty"),
            Value::Array(items) => format!("{place} has no item {key:?}; it has 0 to {}", items.len() - 1),
            _ => format!("{place} has no key {key:?}; it is no mapping"),
        })?;
        place = format!("{place}.{key}");
    }
    Ok(value)
}

/// At most twenty of the keys.
fn listed<'a>(keys: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 20;
    let more = keys.len().saturating_sub(SHOWN);
    let shown = keys.take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Strings as they are, all else as compact JSON; `null` is no text.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
