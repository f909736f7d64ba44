//! Templates: text in which `${…}` stands for something known when an instance starts.

mod render;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use render::{BucketScope, RenderError, Scope, SubtaskScope};

use crate::measure::quoted;
use crate::{FileName, nearest};

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
}

impl Template {
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
    /// Command, arguments, environment and files of an instance: `bucket.*`, `node.*`, `dir`, `file.NAME`, `sheaf`,
    /// `artifact`.
    Instance,
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
const NAMES: [(&str, &[TemplateSet]); 14] = {
    use TemplateSet::{Check, Instance, Subtask};
    [
        ("bucket.name", &[Instance, Check]),
        ("bucket.revision", &[Instance, Check]),
        ("bucket.config", &[Instance, Check]),
        ("node.name", &[Instance, Check, Subtask]),
        ("node.hostname", &[Instance, Check, Subtask]),
        ("node.labels", &[Instance, Check, Subtask]),
        ("dir", &[Instance, Subtask]),
        ("file", &[Instance, Subtask]),
        ("sheaf", &[Instance, Check, Subtask]),
        ("item", &[Subtask]),
        ("job", &[Subtask]),
        ("subtask", &[Subtask]),
        ("attempt", &[Subtask]),
        ("artifact", &[Instance, Check, Subtask]),
    ]
};

impl TemplateSet {
    fn names(self) -> Vec<&'static str> {
        let either = |sets: &[Self]| sets.contains(&Self::Instance) || sets.contains(&Self::Subtask);
        let has = |sets: &[Self]| sets.contains(&self) || self == Self::Program && either(sets);
        NAMES.iter().filter(|(_, sets)| has(sets)).map(|(name, _)| *name).collect()
    }

    /// Why a name of another set has no meaning here.
    const fn lacks(self, name: &TemplateName) -> &'static str {
        match (self, name) {
            (Self::Check, TemplateName::Dir | TemplateName::File(_)) => {
                "checks are asked before there is an instance and its directory"
            }
            (Self::Subtask, _) => "a subtask has no bucket",
            (Self::Instance | Self::Check | Self::Program, _) => "it is known to subtasks only",
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
        }
    }
}

#[cfg(test)]
mod tests;
