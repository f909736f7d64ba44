//! The cluster over the wire: documents of every kind in one transaction, and how it stands.

mod client;
mod convert;
mod serve;

use std::future::Future;

use sheaf_model::view::{ClusterStatus, MemberRow};
use sheaf_model::{ModuleSpec, PutBucket, RequestId};

pub(crate) use serve::Serve;

use crate::{ApiError, Applied, Caller};

/// See `ClusterService.Apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apply {
    /// Applied first.
    pub modules: Vec<ModuleSpec>,
    /// Applied then; they may use the modules.
    pub buckets: Vec<PutBucket>,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
    /// Check everything, change nothing.
    pub validate_only: bool,
}

/// What answers `sheaf.v1.ClusterService`. The errors of each call are those of its comment in the proto file.
pub trait ClusterApi: Send + Sync + 'static {
    /// All documents or none.
    fn apply(&self, caller: Caller, ask: Apply) -> impl Future<Output = Result<Applied, ApiError>> + Send;
    /// Leader, members and counts; before there is a quorum, what this node knows.
    fn status(&self, caller: Caller) -> impl Future<Output = Result<ClusterStatus, ApiError>> + Send;
    /// The members alone.
    fn members(&self, caller: Caller) -> impl Future<Output = Result<Vec<MemberRow>, ApiError>> + Send;
}
