//! The server side of `sheaf.v1.NodeService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{NodeApi, convert, leaving};
use crate::call;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::node_service_server::NodeService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn NodeApi>);

#[tonic::async_trait]
impl NodeService for Serve {
    async fn list(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn get(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::NodeDetail>, Status> {
        let read = |q: v1::GetNodeRequest, _: &_| convert::node(q.name);
        call::unary(request, read, |caller, ask| self.0.get(caller, ask), Into::into).await
    }

    async fn affinity(
        &self,
        request: Request<v1::AffinityRequest>,
    ) -> Result<Response<v1::AffinityResponse>, Status> {
        let ask = |caller, ask| self.0.affinity(caller, ask);
        call::unary(request, |q, _| convert::affinity(q), ask, Into::into).await
    }

    async fn label(
        &self,
        request: Request<v1::LabelNodeRequest>,
    ) -> Result<Response<v1::LabelNodeResponse>, Status> {
        call::unary(request, convert::label, |caller, ask| self.0.label(caller, ask), Into::into).await
    }

    async fn drain(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        call::unary(request, leaving::drain, |caller, ask| self.0.drain(caller, ask), Into::into).await
    }

    async fn undrain(
        &self,
        request: Request<v1::UndrainNodeRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.undrain(caller, ask);
        call::unary(request, v1::UndrainNodeRequest::read, ask, Into::into).await
    }

    async fn forget(
        &self,
        request: Request<v1::ForgetNodeRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.forget(caller, ask);
        call::unary(request, v1::ForgetNodeRequest::read, ask, Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    type On = v1::ForgetNodeRequest;
    vec![
        Probe::both("NodeService/List", |q, _| convert::list(q), v1::ListNodesRequest::from),
        Probe::of("NodeService/Get", |q: v1::GetNodeRequest, _| convert::node(q.name)),
        Probe::both("NodeService/Affinity", |q, _| convert::affinity(q), v1::AffinityRequest::from),
        Probe::both("NodeService/Label", convert::label, v1::LabelNodeRequest::from),
        Probe::both("NodeService/Drain", leaving::drain, v1::DrainNodeRequest::from),
        Probe::both("NodeService/Forget", On::read, On::from),
    ]
}
