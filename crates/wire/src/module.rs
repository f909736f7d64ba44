//! Modules over the wire.

mod client;
mod convert;
mod serve;

use bytes::Bytes;
use sheaf_model::view::{ArtifactStatus, ModuleOnNode, ModuleRow};
use sheaf_model::{Artifact, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, RequestId, document};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{ApiError, Applied, Caller, Done, Filter, Page, PageOf, async_trait};

/// See `ModuleService.Apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyModule {
    /// The document.
    pub module: ModuleSpec,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
    /// Check everything, change nothing.
    pub validate_only: bool,
}

/// See `ModuleService.Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotModule {
    /// What it is.
    pub spec: ModuleSpec,
    /// Its row in the list.
    pub row: ModuleRow,
    /// Its artifact and where it is, if one was pushed.
    pub artifact: Option<ArtifactStatus>,
    /// What uses it: buckets by path, jobs by name.
    pub used_by: Vec<String>,
    /// Which version runs on which node, by node: all of them, or the one that was asked for.
    pub nodes: Vec<ModuleOnNode>,
}

impl GotModule {
    /// In JSON answers: its row, and what else is known.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::json!(self.row);
        value["module"] = document::module_value(&self.spec);
        value["artifact"] = serde_json::json!(self.artifact);
        value["used_by"] = serde_json::json!(self.used_by);
        value["nodes"] = serde_json::json!(self.nodes);
        value
    }
}

/// Longest piece of a push in bytes.
pub const PIECE_MAX: usize = 4 << 20;

/// See `ModuleService.PushPiece`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPiece {
    /// What is pushed.
    pub artifact: Artifact,
    /// Where the piece begins.
    pub offset: u64,
    /// The bytes, at most [`PIECE_MAX`].
    pub data: Bytes,
}

/// See `ModuleService.FinishPush`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishPush {
    /// What was pushed.
    pub artifact: Artifact,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// How far a push is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushState {
    /// So many bytes are there.
    pub received: u64,
    /// It is registered: nothing is left to do.
    pub registered: bool,
}

/// See `ModuleService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListModules {
    /// Which part.
    pub page: PageOf,
    /// Which modules.
    pub filter: Filter,
}

/// See `ModuleService.Delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteModule {
    /// Which module.
    pub name: ModuleName,
    /// Which version.
    pub version: ModuleVersion,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// What answers `sheaf.v1.ModuleService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait ModuleApi: Send + Sync + 'static {
    /// Registers a version.
    async fn apply(&self, caller: Caller, ask: ApplyModule) -> Result<Applied, ApiError>;
    /// One version, or the newest.
    async fn get(&self, caller: Caller, ask: ModuleRef) -> Result<GotModule, ApiError>;
    /// All versions of all modules, by name, newest version first.
    async fn list(&self, caller: Caller, ask: ListModules) -> Result<Page<ModuleRow>, ApiError>;
    /// Begins a push, or goes on with one.
    async fn begin_push(&self, caller: Caller, ask: Artifact) -> Result<PushState, ApiError>;
    /// The next piece of a push.
    async fn push_piece(&self, caller: Caller, ask: PushPiece) -> Result<PushState, ApiError>;
    /// All pieces are there: copied to the voters, then registered.
    async fn finish_push(&self, caller: Caller, ask: FinishPush) -> Result<Done, ApiError>;
    /// Deletes a version that no bucket uses.
    async fn delete(&self, caller: Caller, ask: DeleteModule) -> Result<Done, ApiError>;
}
