//! Buckets: long-running work bound to a module.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::{BucketName, ModuleRef, NodeListRules, Revision, Span};

/// What a bucket is for; people filter by it, placement does not care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BucketType {
    /// Brings data in.
    #[default]
    Harvest,
    /// Works on data that is there.
    Analytic,
}

impl BucketType {
    /// The word in documents and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Harvest => "harvest",
            Self::Analytic => "analytic",
        }
    }
}

/// How the node of a single-node bucket is chosen among the available ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Fewest single-node instances weighted by load; ties by a hash.
    #[default]
    LeastLoaded,
    /// Any, by a hash of bucket and revision.
    Random,
    /// Fewest of the same module's single-node buckets per value of this label (`zone` in `zone=a`).
    Spread(String),
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LeastLoaded => f.write_str("least_loaded"),
            Self::Random => f.write_str("random"),
            Self::Spread(label) => write!(f, "spread:{label}"),
        }
    }
}

/// What happens to a single-node bucket whose node is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnNodeLost {
    /// It is placed on another node once the lease has surely ended.
    #[default]
    Move,
    /// It keeps its affinity until the node returns or an operator moves it.
    Wait,
}

impl OnNodeLost {
    /// The word in documents and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Wait => "wait",
        }
    }
}

/// A JSON value as canonical text: no white space, the keys of every object sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(String);

impl Json {
    /// Canonical text of `value`; equal values give equal texts.
    pub fn new(value: &serde_json::Value) -> Self {
        let text = serde_json::to_string(&Sorted(value));
        Self(text.expect("a value is always text: the keys of its objects are"))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value; `null` if the text came from elsewhere and is no JSON.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// A value that is written with the keys of every object sorted.
struct Sorted<'a>(&'a serde_json::Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                serializer.collect_map(entries.into_iter().map(|(key, value)| (key, Sorted(value))))
            }
            serde_json::Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            other => other.serialize(serializer),
        }
    }
}

impl Default for Json {
    /// The empty object.
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

/// What a person asks a bucket to be. Everything but its switch (`suspended`) and its revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSpec {
    /// Its path, its identity.
    pub name: BucketName,
    /// Harvest or analytic.
    pub kind: BucketType,
    /// What runs. In the replicated state the version is always there.
    pub module: ModuleRef,
    /// On every available node, or on one.
    pub multi_node: bool,
    /// Which nodes, by hostname and label; empty: every node.
    pub node_list_rules: NodeListRules,
    /// What the module is told, an object.
    pub config: Json,
    /// How often the module is polled.
    pub poll_frequency: Option<Span>,
    /// Single-node: how its node is chosen.
    pub placement: Placement,
    /// Single-node: what happens when its node is lost.
    pub on_node_lost: OnNodeLost,
    /// How many nodes are updated at a time; none: all.
    pub max_parallel: Option<u32>,
    /// Free labels for people to select by.
    pub labels: BTreeMap<String, String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

impl BucketSpec {
    /// A spec with every optional field as when a document leaves it out.
    pub fn new(name: BucketName, module: ModuleRef) -> Self {
        Self {
            name,
            kind: BucketType::default(),
            module,
            multi_node: false,
            node_list_rules: NodeListRules::default(),
            config: Json::default(),
            poll_frequency: None,
            placement: Placement::default(),
            on_node_lost: OnNodeLost::default(),
            max_parallel: None,
            labels: BTreeMap::new(),
            owner: None,
        }
    }
}

/// A request to register or change a bucket: the document of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBucket {
    /// What it shall be.
    pub spec: BucketSpec,
    /// The switch; absent: stays as it is (a new bucket is not suspended).
    pub suspended: Option<bool>,
    /// Refuse as conflicting unless the bucket is at this revision; 0: unless it does not exist.
    pub base: Option<Revision>,
    /// Take the module's newest version even if the bucket already has one (`--latest`).
    pub latest: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_canonical() {
        let a = Json::new(&serde_json::json!({"b": [{"y": 1, "x": 2}], "a": null}));
        assert_eq!(a.as_str(), r#"{"a":null,"b":[{"x":2,"y":1}]}"#);
        assert_eq!(Json::new(&a.value()), a);
    }
}
