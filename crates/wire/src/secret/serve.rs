//! The server side of `sheaf.v1.SecretService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{SecretApi, convert};
use crate::call;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::secret_service_server::SecretService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn SecretApi>);

#[tonic::async_trait]
impl SecretService for Serve {
    async fn set(
        &self,
        request: Request<v1::SetSecretRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::set, |caller, ask| self.0.set(caller, ask), Into::into).await
    }

    async fn put(
        &self,
        request: Request<v1::PutSecretRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::put, |caller, ask| self.0.put(caller, ask), Into::into).await
    }

    async fn list(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteSecretRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        call::unary(request, convert::delete, |caller, ask| self.0.delete(caller, ask), Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("SecretService/Set", convert::set, v1::SetSecretRequest::from),
        Probe::both("SecretService/Put", convert::put, v1::PutSecretRequest::from),
        Probe::both("SecretService/List", |q, _| convert::list(q), v1::ListSecretsRequest::from),
        Probe::both("SecretService/Delete", convert::delete, v1::DeleteSecretRequest::from),
    ]
}
