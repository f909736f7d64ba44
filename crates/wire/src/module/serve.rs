//! The server side of `sheaf.v1.ModuleService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{ModuleApi, convert};
use crate::call;
use crate::proto::v1;
use crate::proto::v1::module_service_server::ModuleService;

/// Messages in, questions to `A`, messages out.
#[derive(Debug)]
pub(crate) struct Serve<A>(pub(crate) Arc<A>);

#[tonic::async_trait]
impl<A: ModuleApi> ModuleService for Serve<A> {
    async fn apply(
        &self,
        request: Request<v1::ApplyModuleRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        call::unary(request, convert::apply, |caller, ask| self.0.apply(caller, ask), Into::into).await
    }

    async fn get(
        &self,
        request: Request<v1::GetModuleRequest>,
    ) -> Result<Response<v1::GetModuleResponse>, Status> {
        call::unary(request, |q, _| convert::get(&q), |caller, ask| self.0.get(caller, ask), Into::into).await
    }

    async fn list(
        &self,
        request: Request<v1::ListModulesRequest>,
    ) -> Result<Response<v1::ListModulesResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteModuleRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::delete, |caller, ask| self.0.delete(caller, ask), Into::into).await
    }
}
