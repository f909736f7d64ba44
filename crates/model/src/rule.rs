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
