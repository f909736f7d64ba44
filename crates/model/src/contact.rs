//! Where a node is reached, and which one must answer there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// An address, and whose it is as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// `host:port`.
    pub address: String,
    /// The only node that is believed there; none: not known yet, any node of the cluster is.
    pub node: Option<NodeId>,
}

impl Contact {
    /// That node, at this address.
    pub fn of(node: NodeId, address: impl Into<String>) -> Self {
        Self { address: address.into(), node: Some(node) }
    }

    /// Whichever node of the cluster is there: for addresses that people have given.
    pub fn anyone(address: impl Into<String>) -> Self {
        Self { address: address.into(), node: None }
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "node {node} at {}", self.address),
            None => f.write_str(&self.address),
        }
    }
}
