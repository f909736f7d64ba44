//! Sinks over the wire: registered, shown, tried, deleted.

mod client;
mod convert;
mod serve;

use std::future::Future;

use sheaf_model::view::SinkRow;
use sheaf_model::{RequestId, SinkName, SinkSpec, Span, document};

pub(crate) use serve::{Serve, probes};

use crate::{ApiError, Caller, Done, Filter, Page, PageOf};

/// See `SinkService.Apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplySink {
    /// What it is to be.
    pub spec: SinkSpec,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
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
pub trait SinkApi: Send + Sync + 'static {
    /// Registers or changes one.
    fn apply(&self, caller: Caller, ask: ApplySink) -> impl Future<Output = Result<Done, ApiError>> + Send;
    /// A page of sinks by name.
    fn list(
        &self,
        caller: Caller,
        ask: ListSinks,
    ) -> impl Future<Output = Result<Page<SinkRow>, ApiError>> + Send;
    /// One of them.
    fn get(&self, caller: Caller, ask: SinkName) -> impl Future<Output = Result<GotSink, ApiError>> + Send;
    /// Tries one.
    fn test(
        &self,
        caller: Caller,
        ask: SinkName,
    ) -> impl Future<Output = Result<TestedSink, ApiError>> + Send;
    /// Deletes one.
    fn delete(&self, caller: Caller, ask: DeleteSink) -> impl Future<Output = Result<Done, ApiError>> + Send;
}
