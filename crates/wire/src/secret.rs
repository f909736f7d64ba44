//! Secrets over the wire: set, shown without their values, deleted.

mod client;
mod convert;
mod serve;

use sheaf_model::view::SecretRow;
use sheaf_model::{RequestId, Sealed, SecretName, SecretValue};

pub(crate) use client::answers;
pub(crate) use convert::{sealed_answered, secret_name};
pub(crate) use serve::{Serve, probes};

use crate::{ApiError, Caller, Done, Filter, Page, PageOf, async_trait};

/// See `SecretService.Set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSecret {
    /// Which one.
    pub name: SecretName,
    /// Its value.
    pub value: SecretValue,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// See `SecretService.Put`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutSecret {
    /// Which one.
    pub name: SecretName,
    /// Its value.
    pub sealed: Sealed,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// See `SecretService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSecrets {
    /// Which part.
    pub page: PageOf,
    /// Which secrets.
    pub filter: Filter,
}

/// See `SecretService.Delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSecret {
    /// Which one.
    pub name: SecretName,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// What answers `sheaf.v1.SecretService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait SecretApi: Send + Sync + 'static {
    /// Seals a value here and has it set.
    async fn set(&self, caller: Caller, ask: SetSecret) -> Result<Done, ApiError>;
    /// Sets one that is sealed.
    async fn put(&self, caller: Caller, ask: PutSecret) -> Result<Done, ApiError>;
    /// A page of secrets by name.
    async fn list(&self, caller: Caller, ask: ListSecrets) -> Result<Page<SecretRow>, ApiError>;
    /// Deletes one.
    async fn delete(&self, caller: Caller, ask: DeleteSecret) -> Result<Done, ApiError>;
}
