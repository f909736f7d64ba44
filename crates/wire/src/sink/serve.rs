//! The server side of `sheaf.v1.SinkService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{SinkApi, convert};
use crate::call;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::sink_service_server::SinkService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn SinkApi>);

#[tonic::async_trait]
impl SinkService for Serve {
    async fn apply(
        &self,
        request: Request<v1::ApplySinkRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::apply, |caller, ask| self.0.apply(caller, ask), Into::into).await
    }

    async fn list(
        &self,
        request: Request<v1::ListSinksRequest>,
    ) -> Result<Response<v1::ListSinksResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn get(
        &self,
        request: Request<v1::GetSinkRequest>,
    ) -> Result<Response<v1::GetSinkResponse>, Status> {
        let read = |q: v1::GetSinkRequest, _: &crate::Caller| convert::sink_name(&q.name);
        call::unary(request, read, |caller, ask| self.0.get(caller, ask), Into::into).await
    }

    async fn test(
        &self,
        request: Request<v1::TestSinkRequest>,
    ) -> Result<Response<v1::TestSinkResponse>, Status> {
        let read = |q: v1::TestSinkRequest, _: &crate::Caller| convert::sink_name(&q.name);
        call::unary(request, read, |caller, ask| self.0.test(caller, ask), Into::into).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteSinkRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::delete, |caller, ask| self.0.delete(caller, ask), Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("SinkService/Apply", convert::apply, v1::ApplySinkRequest::from),
        Probe::both("SinkService/List", |q, _| convert::list(q), v1::ListSinksRequest::from),
        Probe::of("SinkService/Get", |q: v1::GetSinkRequest, _| convert::sink_name(&q.name)),
        Probe::both("SinkService/Delete", convert::delete, v1::DeleteSinkRequest::from),
    ]
}
