//! Modules over the wire.

mod client;
mod convert;
mod serve;

use std::future::Future;

use sheaf_model::view::ModuleRow;
use sheaf_model::{ModuleName, ModuleRef, ModuleSpec, ModuleVersion, RequestId};

pub(crate) use serve::Serve;

use crate::{ApiError, Applied, Caller, Done, Filter, Page, PageOf};

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
pub trait ModuleApi: Send + Sync + 'static {
    /// Registers a version.
    fn apply(
        &self,
        caller: Caller,
        ask: ApplyModule,
    ) -> impl Future<Output = Result<Applied, ApiError>> + Send;
    /// One version, or the newest.
    fn get(&self, caller: Caller, ask: ModuleRef)
    -> impl Future<Output = Result<GotModule, ApiError>> + Send;
    /// All versions of all modules, by name, newest version first.
    fn list(
        &self,
        caller: Caller,
        ask: ListModules,
    ) -> impl Future<Output = Result<Page<ModuleRow>, ApiError>> + Send;
    /// Deletes a version that no bucket uses.
    fn delete(
        &self,
        caller: Caller,
        ask: DeleteModule,
    ) -> impl Future<Output = Result<Done, ApiError>> + Send;
}
