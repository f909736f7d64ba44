//! The cluster over the wire: documents of every kind in one transaction, and how it stands.

mod authority;
mod client;
mod convert;
mod serve;
mod token;

use bytes::Bytes;
use sheaf_model::view::{AuthorityStatus, ClusterStatus, MemberRow, SnapshotHead, TokenRow};
use sheaf_model::{ModuleSpec, PutBucket, RequestId};

pub use authority::{RotateAuthority, RotationStep};
pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};
pub use token::{CreateCertificate, CreateToken, CreatedCertificate, CreatedToken, ListTokens, RevokeToken};

use crate::debug::{AskDebug, DebugPart};
use crate::{Answers, ApiError, Applied, Caller, Done, Page, async_trait};

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
    /// If only checked: they are to be applied as several transactions.
    pub in_parts: bool,
}

/// See `ClusterService.Settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSettings {
    /// Keys and values; none: only answer.
    pub changes: Vec<(String, String)>,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// Every setting of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllSettings {
    /// The change, if one was asked for.
    pub done: Option<Done>,
    /// Keys and values, as people write them.
    pub settings: Vec<(String, String)>,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    /// The first one.
    Head(SnapshotHead),
    /// Bytes of the database, in order.
    Data(Bytes),
}

/// What answers `sheaf.v1.ClusterService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait ClusterApi: Send + Sync + 'static {
    /// All documents or none.
    async fn apply(&self, caller: Caller, ask: Apply) -> Result<Applied, ApiError>;
    /// Leader, members and counts; before there is a quorum, what this node knows.
    async fn status(&self, caller: Caller) -> Result<ClusterStatus, ApiError>;
    /// The members alone.
    async fn members(&self, caller: Caller) -> Result<Vec<MemberRow>, ApiError>;
    /// Changes what holds for all nodes, and shows it.
    async fn settings(&self, caller: Caller, ask: ChangeSettings) -> Result<AllSettings, ApiError>;
    /// Hands leadership to another voter, by name or number; answers with the name of the one that leads then.
    async fn transfer(&self, caller: Caller, to: Option<String>) -> Result<String, ApiError>;
    /// A copy of everything agreed on: its head, then the database.
    async fn save_snapshot(&self, caller: Caller) -> Result<Answers<SnapshotPart>, ApiError>;
    /// What somebody needs to see who is to help, of every node that answers.
    async fn debug(&self, caller: Caller, ask: AskDebug) -> Result<Answers<DebugPart>, ApiError>;
    /// Makes a token, and shows it this once.
    async fn create_token(&self, caller: Caller, ask: CreateToken) -> Result<CreatedToken, ApiError>;
    /// Makes a certificate in place of a token.
    async fn create_certificate(
        &self,
        caller: Caller,
        ask: CreateCertificate,
    ) -> Result<CreatedCertificate, ApiError>;
    /// A page of tokens by name.
    async fn list_tokens(&self, caller: Caller, ask: ListTokens) -> Result<Page<TokenRow>, ApiError>;
    /// A token is worth nothing from now on.
    async fn revoke_token(&self, caller: Caller, ask: RevokeToken) -> Result<Done, ApiError>;
    /// Begins to replace the authority that issues, or ends that.
    async fn rotate_authority(&self, caller: Caller, ask: RotateAuthority) -> Result<Done, ApiError>;
    /// Whom the cluster believes, and how far a change of that is.
    async fn authority_status(&self, caller: Caller) -> Result<AuthorityStatus, ApiError>;
}
