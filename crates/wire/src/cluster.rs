//! The cluster over the wire: documents of every kind in one transaction, and how it stands.

mod authority;
mod client;
mod convert;
mod serve;
mod token;

use std::future::Future;

use bytes::Bytes;
use sheaf_model::view::{AuthorityStatus, ClusterStatus, MemberRow, SnapshotHead, TokenRow};
use sheaf_model::{ModuleSpec, PutBucket, RequestId};

pub use authority::{RotateAuthority, RotationStep};
pub(crate) use serve::{Serve, probes};
pub use token::{CreateCertificate, CreateToken, CreatedCertificate, CreatedToken, ListTokens, RevokeToken};

use crate::debug::{AskDebug, DebugPart};
use crate::{Answers, ApiError, Applied, Caller, Done, Page};

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
pub trait ClusterApi: Send + Sync + 'static {
    /// All documents or none.
    fn apply(&self, caller: Caller, ask: Apply) -> impl Future<Output = Result<Applied, ApiError>> + Send;
    /// Leader, members and counts; before there is a quorum, what this node knows.
    fn status(&self, caller: Caller) -> impl Future<Output = Result<ClusterStatus, ApiError>> + Send;
    /// The members alone.
    fn members(&self, caller: Caller) -> impl Future<Output = Result<Vec<MemberRow>, ApiError>> + Send;
    /// Changes what holds for all nodes, and shows it.
    fn settings(
        &self,
        caller: Caller,
        ask: ChangeSettings,
    ) -> impl Future<Output = Result<AllSettings, ApiError>> + Send;
    /// Hands leadership to another voter, by name or number; answers with the name of the one that leads then.
    fn transfer(
        &self,
        caller: Caller,
        to: Option<String>,
    ) -> impl Future<Output = Result<String, ApiError>> + Send;
    /// A copy of everything agreed on: its head, then the database.
    fn save_snapshot(
        &self,
        caller: Caller,
    ) -> impl Future<Output = Result<Answers<SnapshotPart>, ApiError>> + Send;
    /// What somebody needs to see who is to help, of every node that answers.
    fn debug(
        &self,
        caller: Caller,
        ask: AskDebug,
    ) -> impl Future<Output = Result<Answers<DebugPart>, ApiError>> + Send;
    /// Makes a token, and shows it this once.
    fn create_token(
        &self,
        caller: Caller,
        ask: CreateToken,
    ) -> impl Future<Output = Result<CreatedToken, ApiError>> + Send;
    /// Makes a certificate in place of a token.
    fn create_certificate(
        &self,
        caller: Caller,
        ask: CreateCertificate,
    ) -> impl Future<Output = Result<CreatedCertificate, ApiError>> + Send;
    /// A page of tokens by name.
    fn list_tokens(
        &self,
        caller: Caller,
        ask: ListTokens,
    ) -> impl Future<Output = Result<Page<TokenRow>, ApiError>> + Send;
    /// A token is worth nothing from now on.
    fn revoke_token(
        &self,
        caller: Caller,
        ask: RevokeToken,
    ) -> impl Future<Output = Result<Done, ApiError>> + Send;
    /// Begins to replace the authority that issues, or ends that.
    fn rotate_authority(
        &self,
        caller: Caller,
        ask: RotateAuthority,
    ) -> impl Future<Output = Result<Done, ApiError>> + Send;
    /// Whom the cluster believes, and how far a change of that is.
    fn authority_status(
        &self,
        caller: Caller,
    ) -> impl Future<Output = Result<AuthorityStatus, ApiError>> + Send;
}
