//! The server side of `sheaf.v1.BackendService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{BackendApi, convert};
use crate::call;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::backend_service_server::BackendService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn BackendApi>);

#[tonic::async_trait]
impl BackendService for Serve {
    async fn apply(
        &self,
        request: Request<v1::ApplyBackendRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::apply, |caller, ask| self.0.apply(caller, ask), Into::into).await
    }

    async fn list(
        &self,
        request: Request<v1::ListBackendsRequest>,
    ) -> Result<Response<v1::ListBackendsResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn get(
        &self,
        request: Request<v1::GetBackendRequest>,
    ) -> Result<Response<v1::GetBackendResponse>, Status> {
        call::unary(
            request,
            |q, _| convert::backend_name(&q.name),
            |caller, ask| self.0.get(caller, ask),
            Into::into,
        )
        .await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteBackendRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::delete, |caller, ask| self.0.delete(caller, ask), Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("BackendService/Apply", convert::apply, v1::ApplyBackendRequest::from),
        Probe::both("BackendService/List", |q, _| convert::list(q), v1::ListBackendsRequest::from),
        Probe::of("BackendService/Get", |q: v1::GetBackendRequest, _| convert::backend_name(&q.name)),
        Probe::both("BackendService/Delete", convert::delete, v1::DeleteBackendRequest::from),
    ]
}
