//! Backends over the wire: registered, shown, deleted.

mod client;
mod convert;
mod serve;

use sheaf_model::view::BackendRow;
use sheaf_model::{BackendName, BackendSpec, RequestId, document};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{ApiError, Caller, Done, Filter, Page, PageOf, async_trait};

/// See `BackendService.Apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyBackend {
    /// What it is to be.
    pub spec: BackendSpec,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
    /// Check it, change nothing.
    pub validate_only: bool,
}

/// See `BackendService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListBackends {
    /// Which part.
    pub page: PageOf,
    /// Which backends.
    pub filter: Filter,
}

/// See `BackendService.Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotBackend {
    /// What it is.
    pub spec: BackendSpec,
    /// How it stands.
    pub row: BackendRow,
    /// Jobs that are not over and name it.
    pub jobs: Vec<String>,
}

impl GotBackend {
    /// In JSON answers: its row, its document, and who needs it.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::json!(self.row);
        value["spec"] = document::backend_value(&self.spec);
        value["jobs"] = serde_json::json!(self.jobs);
        value
    }
}

/// See `BackendService.Delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteBackend {
    /// Which one.
    pub name: BackendName,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// What answers `sheaf.v1.BackendService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait BackendApi: Send + Sync + 'static {
    /// Registers or changes one.
    async fn apply(&self, caller: Caller, ask: ApplyBackend) -> Result<Done, ApiError>;
    /// A page of backends by name.
    async fn list(&self, caller: Caller, ask: ListBackends) -> Result<Page<BackendRow>, ApiError>;
    /// One of them.
    async fn get(&self, caller: Caller, ask: BackendName) -> Result<GotBackend, ApiError>;
    /// Deletes one.
    async fn delete(&self, caller: Caller, ask: DeleteBackend) -> Result<Done, ApiError>;
}
