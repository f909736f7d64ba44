//! What a module is told of its bucket, its node and itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Failure, proto};

/// A bucket, as its document says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its path, e.g. `/logs/web`.
    pub name: String,
    /// The revision of the cluster's state at which it was last changed; 0 while it is only planned.
    pub revision: u64,
    /// `harvest` or `analytic`.
    pub kind: String,
    /// The module with its version, e.g. `flume@1.11.0`.
    pub module: String,
    /// Whether it runs on every available node, or on one.
    pub multi_node: bool,
    /// Its `config`, a JSON object; see [`Bucket::config`].
    pub config_json: String,
    /// Its labels, by key.
    pub labels: BTreeMap<String, String>,
    /// Whose it is; empty if it does not say.
    pub owner: String,
    /// Its `poll_frequency` in milliseconds; none: it is not polled.
    #[serde(default)]
    pub poll_frequency_ms: Option<u64>,
}

/// A field in which two buckets differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its path in the bucket's document, e.g. `config.port`.
    pub path: String,
    /// The old value as JSON; none: the field was not there.
    pub before_json: Option<String>,
    /// The new value as JSON; none: the field is gone.
    pub after_json: Option<String>,
}

impl Bucket {
    /// The bucket's `config` as a type of the module's.
    ///
    /// # Errors
    /// What of it does not fit, for people.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let text = if self.config_json.is_empty() { "{}" } else { &self.config_json };
        serde_json::from_str(text).map_err(|error| Failure::new(format!("config of {}: {error}", self.name)))
    }
}

/// A node, as it knows itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, e.g. `import-01`.
    pub name: String,
    /// What `node_list_rules` match.
    pub hostname: String,
    /// All its labels, e.g. `gpu` and `zone=a`.
    pub labels: Vec<String>,
}

/// A process of a module, as the instance of a bucket on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The bucket that it runs.
    pub bucket: Bucket,
    /// The node that it runs on.
    pub node: Node,
    /// The epoch of the binding, for systems that refuse smaller ones; none: the bucket is multi-node.
    pub epoch: Option<u64>,
    /// The instance's own directory, absolute; kept over restarts, removed when the bucket leaves the node for good.
    pub dir: PathBuf,
}

impl From<Bucket> for proto::Bucket {
    fn from(bucket: Bucket) -> Self {
        Self {
            name: bucket.name,
            revision: bucket.revision,
            r#type: bucket.kind,
            module: bucket.module,
            multi_node: bucket.multi_node,
            config_json: bucket.config_json,
            labels: bucket.labels,
            owner: bucket.owner,
            poll_frequency_ms: bucket.poll_frequency_ms.unwrap_or_default(),
        }
    }
}

impl From<proto::Bucket> for Bucket {
    fn from(bucket: proto::Bucket) -> Self {
        Self {
            name: bucket.name,
            revision: bucket.revision,
            kind: bucket.r#type,
            module: bucket.module,
            multi_node: bucket.multi_node,
            config_json: bucket.config_json,
            labels: bucket.labels,
            owner: bucket.owner,
            poll_frequency_ms: Some(bucket.poll_frequency_ms).filter(|every| *every > 0),
        }
    }
}

impl From<Difference> for proto::Difference {
    fn from(it: Difference) -> Self {
        Self { path: it.path, before_json: it.before_json, after_json: it.after_json }
    }
}

impl From<proto::Difference> for Difference {
    fn from(it: proto::Difference) -> Self {
        Self { path: it.path, before_json: it.before_json, after_json: it.after_json }
    }
}

impl From<Node> for proto::Node {
    fn from(node: Node) -> Self {
        Self { name: node.name, hostname: node.hostname, labels: node.labels }
    }
}

impl From<proto::Node> for Node {
    fn from(node: proto::Node) -> Self {
        Self { name: node.name, hostname: node.hostname, labels: node.labels }
    }
}

impl From<Instance> for proto::Instance {
    fn from(instance: Instance) -> Self {
        Self {
            bucket: Some(instance.bucket.into()),
            node: Some(instance.node.into()),
            epoch: instance.epoch.unwrap_or_default(),
            dir: instance.dir.to_string_lossy().into_owned(),
        }
    }
}

impl From<proto::Instance> for Instance {
    fn from(instance: proto::Instance) -> Self {
        Self {
            bucket: instance.bucket.unwrap_or_default().into(),
            node: instance.node.unwrap_or_default().into(),
            epoch: Some(instance.epoch).filter(|epoch| *epoch > 0),
            dir: instance.dir.into(),
        }
    }
}
