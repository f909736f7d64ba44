//! Queries over the wire.

mod client;
mod convert;
mod serve;

use sheaf_model::{QueryPart, Span};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{Answers, ApiError, Caller, async_trait};

/// See `QueryService.Query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuery {
    /// One statement.
    pub sql: String,
    /// Rows after which it is cut off, at most [`sheaf_model::query::ROWS_MAX`].
    pub limit: u32,
    /// How long it may take, at most [`sheaf_model::query::TIME_MAX`].
    pub timeout: Span,
}

/// What answers `sheaf.v1.QueryService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait QueryApi: Send + Sync + 'static {
    /// Answers one statement that reads.
    async fn query(&self, caller: Caller, ask: RunQuery) -> Result<Answers<QueryPart>, ApiError>;
}
