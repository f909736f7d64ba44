//! Nodes over the wire.

mod client;
mod convert;
mod serve;

use std::future::Future;

use sheaf_model::RequestId;
use sheaf_model::view::{AffinityRow, NodeDetail, NodeRow};

pub(crate) use serve::Serve;

use crate::{ApiError, Caller, Done, Filter, Page, PageOf};

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

/// What answers `sheaf.v1.NodeService`. The errors of each call are those of its comment in the proto file.
pub trait NodeApi: Send + Sync + 'static {
    /// Nodes in the order of their names.
    fn list(
        &self,
        caller: Caller,
        ask: ListNodes,
    ) -> impl Future<Output = Result<Page<NodeRow>, ApiError>> + Send;
    /// One node, by name or number.
    fn get(&self, caller: Caller, ask: String) -> impl Future<Output = Result<NodeDetail, ApiError>> + Send;
    /// What runs where, since when and why, by bucket.
    fn affinity(
        &self,
        caller: Caller,
        ask: Affinity,
    ) -> impl Future<Output = Result<Page<AffinityRow>, ApiError>> + Send;
    /// Gives labels and takes them away.
    fn label(
        &self,
        caller: Caller,
        ask: LabelNode,
    ) -> impl Future<Output = Result<Labelled, ApiError>> + Send;
}
