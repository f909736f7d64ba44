//! The server side of `sheaf.v1.InstanceService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{InstanceApi, convert};
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::instance_service_server::InstanceService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn InstanceApi>);

#[tonic::async_trait]
impl InstanceService for Serve {
    async fn get_object(
        &self,
        request: Request<v1::GetObjectRequest>,
    ) -> Result<Response<v1::Object>, Status> {
        let ask = |caller, ask| self.0.get_object(caller, ask);
        call::unary(request, |q, _| convert::get(&q), ask, Into::into).await
    }

    async fn list_objects(
        &self,
        request: Request<v1::ListObjectsRequest>,
    ) -> Result<Response<v1::ListObjectsResponse>, Status> {
        let ask = |caller, ask| self.0.list_objects(caller, ask);
        call::unary(request, |q, _| convert::list(q), ask, Into::into).await
    }

    type WatchObjectsStream = Messages<v1::ObjectChange>;

    async fn watch_objects(
        &self,
        request: Request<v1::WatchObjectsRequest>,
    ) -> Result<Response<Self::WatchObjectsStream>, Status> {
        let ask = |caller, ask| self.0.watch_objects(caller, ask);
        call::stream(request, |q, _| convert::watch(q), ask, |step| Ok(step.into())).await
    }

    async fn put_object(
        &self,
        request: Request<v1::PutObjectRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.put_object(caller, ask);
        call::unary(request, |q, _| convert::put(&q), ask, Into::into).await
    }

    async fn delete_object(
        &self,
        request: Request<v1::DeleteObjectRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.delete_object(caller, ask);
        call::unary(request, |q, _| convert::delete(&q), ask, Into::into).await
    }

    async fn add_status_line(
        &self,
        request: Request<v1::AddStatusLineRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.add_status_line(caller, ask);
        call::unary(request, convert::add_status_line, ask, Into::into).await
    }

    async fn disable(
        &self,
        request: Request<v1::DisableRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.disable(caller, ask);
        call::unary(request, |q, _| convert::disable(&q), ask, Into::into).await
    }

    async fn quarantine(
        &self,
        request: Request<v1::QuarantineRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.quarantine(caller, ask);
        call::unary(request, |q, _| convert::quarantine(&q), ask, Into::into).await
    }

    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        let ask = |caller, ask| self.0.peers(caller, ask);
        call::unary(request, |q, _| convert::peers(&q), ask, Into::into).await
    }

    async fn get_secret(
        &self,
        request: Request<v1::GetSecretRequest>,
    ) -> Result<Response<v1::GetSecretResponse>, Status> {
        let ask = |caller, ask| self.0.secret(caller, ask);
        call::unary(request, |q, _| convert::secret(&q), ask, Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("InstanceService/GetObject", |q, _| convert::get(&q), v1::GetObjectRequest::from),
        Probe::both("InstanceService/ListObjects", |q, _| convert::list(q), v1::ListObjectsRequest::from),
        Probe::both("InstanceService/WatchObjects", |q, _| convert::watch(q), v1::WatchObjectsRequest::from),
        Probe::both("InstanceService/PutObject", |q, _| convert::put(&q), v1::PutObjectRequest::from),
        Probe::both(
            "InstanceService/DeleteObject",
            |q, _| convert::delete(&q),
            v1::DeleteObjectRequest::from,
        ),
        Probe::both(
            "InstanceService/AddStatusLine",
            convert::add_status_line,
            v1::AddStatusLineRequest::from,
        ),
        Probe::both("InstanceService/Disable", |q, _| convert::disable(&q), v1::DisableRequest::from),
        Probe::both(
            "InstanceService/Quarantine",
            |q, _| convert::quarantine(&q),
            v1::QuarantineRequest::from,
        ),
        Probe::of("InstanceService/ListPeers", |q: v1::ListPeersRequest, _| convert::peers(&q)),
        Probe::both("InstanceService/GetSecret", |q, _| convert::secret(&q), v1::GetSecretRequest::from),
    ]
}
