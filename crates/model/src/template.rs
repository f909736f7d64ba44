//! Templates: text in which `${…}` stands for something known when an instance starts.

mod render;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use render::{BucketScope, Piece, RenderError, Scope, SubtaskScope};

use crate::measure::quoted;
use crate::{FileName, SecretName, nearest};

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
    /// `artifact`: the path of what was pushed for the module's version, on this node.
    Artifact,
    /// `secret.NAME`: filled in last of all, and by another hand than the rest.
    Secret(SecretName),
}

impl Template {
    /// The secrets in it.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.names().filter_map(|name| match name {
            TemplateName::Secret(secret) => Some(secret),
            _ => None,
        })
    }

    /// Whether it names the module's artifact.
    pub fn uses_artifact(&self) -> bool {
        self.names().any(|name| *name == TemplateName::Artifact)
    }

    /// Whether it depends on the subtask.
    pub fn uses_subtask(&self) -> bool {
        let is_of_one = |name: &TemplateName| {
            matches!(
                name,
                TemplateName::Item(_) | TemplateName::Job | TemplateName::Subtask | TemplateName::Attempt
            )
        };
        self.names().any(is_of_one)
    }

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
    /// Command, arguments and the like of an instance: `bucket.*`, `node.*`, `dir`, `file.NAME`, `sheaf`, `artifact`.
    Instance,
    /// Environment and files, which nobody else sees: as [`Program`](Self::Program), and `secret.NAME`.
    Confidential,
    /// Which secrets an instance may ask for: `bucket.name` and `bucket.config`.
    SecretNames,
    /// Checks of `can_run_on_this_node`: `bucket.*`, `node.*`, `sheaf`, `artifact`; there is no instance's directory yet.
    Check,
    /// As for an instance, without `bucket.*`, with `item.*`, `job`, `subtask`, `attempt`.
    Subtask,
    /// Where it is not known yet which of the two it will be: either's. What a module is for follows from what it names.
    Program,
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

/// Every name, as written in a template, with the sets that it belongs to.
const NAMES: [(&str, &[TemplateSet]); 15] = {
    use TemplateSet::{Check, Confidential, Instance, SecretNames, Subtask};
    [
        ("bucket.name", &[Instance, Confidential, SecretNames, Check]),
        ("bucket.revision", &[Instance, Confidential, Check]),
        ("bucket.config", &[Instance, Confidential, SecretNames, Check]),
        ("node.name", &[Instance, Confidential, Check, Subtask]),
        ("node.hostname", &[Instance, Confidential, Check, Subtask]),
        ("node.labels", &[Instance, Confidential, Check, Subtask]),
        ("dir", &[Instance, Confidential, Subtask]),
        ("file", &[Instance, Confidential, Subtask]),
        ("sheaf", &[Instance, Confidential, Check, Subtask]),
        ("item", &[Subtask]),
        ("job", &[Subtask]),
        ("subtask", &[Subtask]),
        ("attempt", &[Subtask]),
        ("artifact", &[Instance, Confidential, Check, Subtask]),
        ("secret", &[Confidential]),
    ]
};

impl TemplateSet {
    fn names(self) -> Vec<&'static str> {
        let either = |sets: &[Self]| sets.contains(&Self::Instance) || sets.contains(&Self::Subtask);
        let wide = matches!(self, Self::Program | Self::Confidential);
        let has = |sets: &[Self]| sets.contains(&self) || wide && either(sets);
        NAMES.iter().filter(|(_, sets)| has(sets)).map(|(name, _)| *name).collect()
    }

    /// Why a name of another set has no meaning here.
    const fn lacks(self, name: &TemplateName) -> &'static str {
        match (self, name) {
            (_, TemplateName::Secret(_)) => {
                "a secret stands in exec.env and files alone, which nobody else sees"
            }
            (Self::SecretNames, _) => "which secrets a bucket may have is the same on every node",
            (Self::Check, TemplateName::Dir | TemplateName::File(_)) => {
                "checks are asked before there is an instance and its directory"
            }
            (Self::Subtask, _) => "a subtask has no bucket",
            (Self::Instance | Self::Confidential | Self::Check | Self::Program, _) => {
                "it is known to subtasks only"
            }
        }
    }
}

impl Template {
    /// Reads a template. Only `${…}` is ours: `$${` writes `${`, `$X` is left alone.
    pub fn parse(text: &str, allowed: TemplateSet) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            plain.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            if let Some(after) = rest.strip_prefix("$${") {
                plain.push_str("${");
                rest = after;
            } else if let Some(inner) = rest.strip_prefix("${") {
                let position = text[..text.len() - rest.len()].chars().count() + 1;
                let error = |problem: String, remedy: String| TemplateError { position, problem, remedy };
                let Some(end) = inner.find('}') else {
                    let remedy = "close it with }, or write $${ for the characters ${";
                    return Err(error("${ is never closed".to_owned(), remedy.to_owned()));
                };
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                let name =
                    parse_name(&inner[..end], allowed).map_err(|(problem, remedy)| error(problem, remedy))?;
                parts.push(Part::Name(name));
                rest = &inner[end + 1..];
            } else {
                plain.push('$');
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The names in it, in order.
    pub fn names(&self) -> impl Iterator<Item = &TemplateName> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// The text, if it names nothing.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text that it begins with, whatever is filled in; none if it begins with a name.
    pub fn prefix(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// What is wrong with its names if it stands where only `allowed` ones have a meaning.
    pub fn misplaced(&self, allowed: TemplateSet) -> Option<(String, String)> {
        self.names().find_map(|name| check_allowed(name, allowed).err())
    }
}

/// A text that reads back as the same template.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(&text.replace("${", "$${"))?,
                Part::Name(name) => write!(f, "${{{name}}}")?,
            }
        }
        Ok(())
    }
}

/// The name as it stands between `${` and `}`.
impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root())?;
        match self {
            Self::BucketConfig(keys) | Self::Item(keys) => {
                keys.iter().try_for_each(|key| write!(f, ".{key}"))
            }
            Self::File(name) => write!(f, ".{name}"),
            Self::Secret(name) => write!(f, ".{name}"),
            _ => Ok(()),
        }
    }
}

/// Problem and remedy.
type Wrong = (String, String);

/// Reads what stands between `${` and `}`.
fn parse_name(text: &str, allowed: TemplateSet) -> Result<TemplateName, Wrong> {
    let name = match text {
        "bucket.name" => TemplateName::BucketName,
        "bucket.revision" => TemplateName::BucketRevision,
        "node.name" => TemplateName::NodeName,
        "node.hostname" => TemplateName::NodeHostname,
        "node.labels" => TemplateName::NodeLabels,
        "dir" => TemplateName::Dir,
        "sheaf" => TemplateName::Sheaf,
        "job" => TemplateName::Job,
        "subtask" => TemplateName::Subtask,
        "attempt" => TemplateName::Attempt,
        "artifact" => TemplateName::Artifact,
        "bucket.config" => TemplateName::BucketConfig(Vec::new()),
        "item" => TemplateName::Item(Vec::new()),
        _ => {
            if let Some(keys) = text.strip_prefix("bucket.config.") {
                TemplateName::BucketConfig(parse_keys(text, keys)?)
            } else if let Some(keys) = text.strip_prefix("item.") {
                TemplateName::Item(parse_keys(text, keys)?)
            } else if let Some(file) = text.strip_prefix("file.") {
                let file = FileName::new(file).map_err(|error| (error.problem, error.remedy))?;
                TemplateName::File(file)
            } else if let Some(secret) = text.strip_prefix("secret.") {
                let secret = SecretName::new(secret).map_err(|error| (error.problem, error.remedy))?;
                TemplateName::Secret(secret)
            } else {
                return Err(unknown(text, allowed));
            }
        }
    };
    check_allowed(&name, allowed)?;
    Ok(name)
}

fn parse_keys(text: &str, keys: &str) -> Result<Vec<String>, Wrong> {
    if keys.split('.').any(str::is_empty) {
        let remedy = "keys with one dot before each, like ${bucket.config.agent}";
        return Err((format!("{} has an empty key", quoted(text)), remedy.to_owned()));
    }
    Ok(keys.split('.').map(str::to_owned).collect())
}

fn check_allowed(name: &TemplateName, allowed: TemplateSet) -> Result<(), Wrong> {
    let known = allowed.names();
    if known.contains(&name.root()) {
        return Ok(());
    }
    let problem = format!("${{{name}}} has no value here: {}", allowed.lacks(name));
    Err((problem, format!("one of {}", known.join(", "))))
}

fn unknown(text: &str, allowed: TemplateSet) -> Wrong {
    let known = allowed.names();
    let remedy = match nearest(text.trim(), &known) {
        Some(name) => format!("did you mean ${{{name}}}? ($${{ writes the characters ${{)"),
        None => format!("one of {}; $${{ writes the characters ${{", known.join(", ")),
    };
    (format!("unknown name {}", quoted(text)), remedy)
}

impl TemplateName {
    /// The name without its keys, as in [`NAMES`].
    const fn root(&self) -> &'static str {
        match self {
            Self::BucketName => "bucket.name",
            Self::BucketRevision => "bucket.revision",
            Self::BucketConfig(_) => "bucket.config",
            Self::NodeName => "node.name",
            Self::NodeHostname => "node.hostname",
            Self::NodeLabels => "node.labels",
            Self::Dir => "dir",
            Self::File(_) => "file",
            Self::Sheaf => "sheaf",
            Self::Item(_) => "item",
            Self::Job => "job",
            Self::Subtask => "subtask",
            Self::Attempt => "attempt",
            Self::Artifact => "artifact",
            Self::Secret(_) => "secret",
        }
    }
}

#[cfg(test)]
mod tests;
