//! Sinks over the wire: registered, shown, tried, deleted.

mod client;
mod convert;
mod serve;

use sheaf_model::view::SinkRow;
use sheaf_model::{RequestId, SinkName, SinkSpec, Span, document};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{ApiError, Caller, Done, Filter, Page, PageOf, async_trait};

/// See `SinkService.Apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplySink {
    /// What it is to be.
    pub spec: SinkSpec,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
    /// Check it, change nothing.
    pub validate_only: bool,
}

/// See `SinkService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSinks {
    /// Which part.
    pub page: PageOf,
    /// Which sinks.
    pub filter: Filter,
}

/// See `SinkService.Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotSink {
    /// What it is.
    pub spec: SinkSpec,
    /// How it stands.
    pub row: SinkRow,
}

impl GotSink {
    /// In JSON answers: its row and its document.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::json!(self.row);
        value["spec"] = document::sink_value(&self.spec);
        value
    }
}

/// See `SinkService.Test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestedSink {
    /// It was delivered.
    pub delivered: bool,
    /// What the other side said, or why it was not delivered.
    pub message: String,
    /// How long it took.
    pub took: Span,
    /// The name of the node that delivered.
    pub node: String,
}

/// See `SinkService.Delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSink {
    /// Which one.
    pub name: SinkName,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// What answers `sheaf.v1.SinkService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait SinkApi: Send + Sync + 'static {
    /// Registers or changes one.
    async fn apply(&self, caller: Caller, ask: ApplySink) -> Result<Done, ApiError>;
    /// A page of sinks by name.
    async fn list(&self, caller: Caller, ask: ListSinks) -> Result<Page<SinkRow>, ApiError>;
    /// One of them.
    async fn get(&self, caller: Caller, ask: SinkName) -> Result<GotSink, ApiError>;
    /// Tries one.
    async fn test(&self, caller: Caller, ask: SinkName) -> Result<TestedSink, ApiError>;
    /// Deletes one.
    async fn delete(&self, caller: Caller, ask: DeleteSink) -> Result<Done, ApiError>;
}
