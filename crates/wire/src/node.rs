//! Nodes over the wire.

mod client;
mod convert;
mod leaving;
mod serve;

use serde::Serialize;
use sheaf_model::view::{AffinityRow, NodeDetail, NodeRow};
use sheaf_model::{BucketName, Drain, RequestId};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{ApiError, Caller, Done, Filter, Page, PageOf, async_trait};

/// See `NodeService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListNodes {
    /// Which part.
    pub page: PageOf,
    /// Which nodes.
    pub filter: Filter,
}

/// See `NodeService.Affinity`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Only of this node, name or number.
    pub node: Option<String>,
    /// Only of this bucket, which may be deleted.
    pub bucket: Option<BucketName>,
    /// Which part.
    pub page: PageOf,
}

/// See `NodeService.Label`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelNode {
    /// Name or number.
    pub node: String,
    /// Labels to give; none is empty.
    pub add: Vec<String>,
    /// Labels to take away.
    pub remove: Vec<String>,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// See `NodeService.Label`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// The change.
    pub done: Done,
    /// All labels it has now.
    pub labels: Vec<String>,
}

/// See `NodeService.Drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainNode {
    /// Name or number.
    pub node: String,
    /// How.
    pub drain: Drain,
    /// Only say what would move where.
    pub validate_only: bool,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// What becomes of one bucket of a node that is drained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Going {
    /// The bucket.
    pub bucket: String,
    /// The node it would go to now; empty: nowhere.
    pub to: String,
    /// Why.
    pub why: String,
}

/// See `NodeService.Drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The change; nothing with `validate_only`.
    pub done: Done,
    /// What runs there, by bucket.
    pub going: Vec<Going>,
    /// Subtasks of jobs that run there or lie ready.
    pub subtasks: u32,
}

/// A change to a node that needs no more than its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnNode {
    /// Name or number.
    pub node: String,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// What answers `sheaf.v1.NodeService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait NodeApi: Send + Sync + 'static {
    /// Nodes in the order of their names.
    async fn list(&self, caller: Caller, ask: ListNodes) -> Result<Page<NodeRow>, ApiError>;
    /// One node, by name or number.
    async fn get(&self, caller: Caller, ask: String) -> Result<NodeDetail, ApiError>;
    /// What runs where, since when and why, by bucket.
    async fn affinity(&self, caller: Caller, ask: Affinity) -> Result<Page<AffinityRow>, ApiError>;
    /// Gives labels and takes them away.
    async fn label(&self, caller: Caller, ask: LabelNode) -> Result<Labelled, ApiError>;
    /// Empties a node.
    async fn drain(&self, caller: Caller, ask: DrainNode) -> Result<Drained, ApiError>;
    /// Lets it take work again.
    async fn undrain(&self, caller: Caller, ask: OnNode) -> Result<Done, ApiError>;
    /// Vouches for a lost one.
    async fn forget(&self, caller: Caller, ask: OnNode) -> Result<Done, ApiError>;
}
