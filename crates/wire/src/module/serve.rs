//! The server side of `sheaf.v1.ModuleService`.

use std::sync::Arc;

use sheaf_model::ModuleRef;
use tonic::{Request, Response, Status};

use super::{ModuleApi, convert};
use crate::call;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::module_service_server::ModuleService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn ModuleApi>);

#[tonic::async_trait]
impl ModuleService for Serve {
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

    async fn begin_push(
        &self,
        request: Request<v1::BeginPushRequest>,
    ) -> Result<Response<v1::PushResponse>, Status> {
        let read = |q: v1::BeginPushRequest, _: &_| convert::artifact(q.artifact);
        call::unary(request, read, |caller, ask| self.0.begin_push(caller, ask), Into::into).await
    }

    async fn push_piece(
        &self,
        request: Request<v1::PushPieceRequest>,
    ) -> Result<Response<v1::PushResponse>, Status> {
        let ask = |caller, ask| self.0.push_piece(caller, ask);
        call::unary(request, |q, _| convert::piece(q), ask, Into::into).await
    }

    async fn finish_push(
        &self,
        request: Request<v1::FinishPushRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::finish, |caller, ask| self.0.finish_push(caller, ask), Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("ModuleService/Apply", convert::apply, v1::ApplyModuleRequest::from),
        Probe::both(
            "ModuleService/Get",
            |q, _| convert::get(&q),
            |module: ModuleRef| v1::GetModuleRequest::from(&module),
        ),
        Probe::both("ModuleService/List", |q, _| convert::list(q), v1::ListModulesRequest::from),
        Probe::both("ModuleService/Delete", convert::delete, v1::DeleteModuleRequest::from),
        Probe::of("ModuleService/BeginPush", |q: v1::BeginPushRequest, _| convert::artifact(q.artifact)),
        Probe::both("ModuleService/PushPiece", |q, _| convert::piece(q), v1::PushPieceRequest::from),
        Probe::both("ModuleService/FinishPush", convert::finish, v1::FinishPushRequest::from),
    ]
}
