//! Bindings: the replicated affinity of single-node buckets, and what is left behind by multi-node ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{BucketName, Epoch, Gate, NodeId, Revision, Timestamp};

/// Why a node was chosen, recorded with the binding. At most 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// In words: the strategy and what spoke for the node.
    pub why: String,
    /// Up to five others that were available, best first, with what spoke against them.
    pub runners_up: Vec<(NodeId, String)>,
    /// Refusals counted by gate and reason.
    pub refusals: Vec<(Gate, String, u32)>,
    /// Nodes that had not answered when the decision fell.
    pub silent: u32,
}

/// Why a binding is to end. It stays bound until it is freed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaveReason {
    /// The bucket was suspended.
    Suspended,
    /// The bucket was deleted.
    Deleted,
    /// The bucket became multi-node.
    MultiNode,
    /// An operator moves it, to this node if one is named.
    Move(Option<NodeId>),
    /// Its node is being emptied.
    Drained,
    /// Its node was forgotten.
    Forgotten,
    /// Its node is no longer available: this gate, this reason.
    NotAvailable(Gate, String),
    /// Its instance gave up restarting.
    GaveUp(String),
    /// Its node was lost.
    NodeLost,
    /// Its module had it stopped, and why.
    Emergency(String),
}

impl std::fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Suspended => f.write_str("the bucket was suspended"),
            Self::Deleted => f.write_str("the bucket was deleted"),
            Self::MultiNode => f.write_str("the bucket became multi-node"),
            Self::Move(Some(node)) => write!(f, "an operator moves it to node {node}"),
            Self::Move(None) => f.write_str("an operator moves it"),
            Self::Drained => f.write_str("its node is being drained"),
            Self::Forgotten => f.write_str("its node was forgotten"),
            Self::NotAvailable(gate, reason) => {
                write!(f, "its node is no longer available ({}: {reason})", gate.as_str())
            }
            Self::GaveUp(message) => write!(f, "its instance gave up restarting: {message}"),
            Self::NodeLost => f.write_str("its node was lost"),
            Self::Emergency(reason) => write!(f, "its module had it stopped: {reason}"),
        }
    }
}

/// The affinity of a single-node bucket. Keyed by the bucket's name; survives the bucket's deletion until freed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The bucket.
    pub bucket: BucketName,
    /// The node it is bound to.
    pub node: NodeId,
    /// Its fencing token.
    pub epoch: Epoch,
    /// When it was bound.
    pub since: Timestamp,
    /// The revision of its `Bind`.
    pub revision: Revision,
    /// The bucket's revision the choice was made for.
    pub basis: Revision,
    /// Whether, and why, it is to end.
    pub leaving: Option<LeaveReason>,
    /// Why this node.
    pub decision: Decision,
}

/// What an ended multi-node bucket leaves behind: the nodes that may still run something of that name.
/// While any remain, nothing single-node of that name is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residue {
    /// The bucket's name.
    pub bucket: BucketName,
    /// Nodes that have not confirmed, each with the revision of the newest ending it must confirm.
    pub nodes: BTreeMap<NodeId, Revision>,
}
