//! The server side of `sheaf.v1.ClusterService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{ClusterApi, authority, convert, token};
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::cluster_service_server::ClusterService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn ClusterApi>);

#[tonic::async_trait]
impl ClusterService for Serve {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        call::unary(request, convert::apply, |caller, ask| self.0.apply(caller, ask), Into::into).await
    }

    async fn status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatus>, Status> {
        call::unary(request, |_, _| Ok(()), |caller, ()| self.0.status(caller), Into::into).await
    }

    async fn members(
        &self,
        request: Request<v1::MembersRequest>,
    ) -> Result<Response<v1::MembersResponse>, Status> {
        let write =
            |rows: Vec<_>| v1::MembersResponse { members: rows.into_iter().map(Into::into).collect() };
        call::unary(request, |_, _| Ok(()), |caller, ()| self.0.members(caller), write).await
    }

    async fn settings(
        &self,
        request: Request<v1::SettingsRequest>,
    ) -> Result<Response<v1::SettingsResponse>, Status> {
        let ask = |caller, ask| self.0.settings(caller, ask);
        call::unary(request, convert::settings, ask, Into::into).await
    }

    async fn transfer(
        &self,
        request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let read = |q: v1::TransferRequest, _: &_| Ok((!q.to.is_empty()).then_some(q.to));
        let write = |leader| v1::TransferResponse { leader };
        call::unary(request, read, |caller, to| self.0.transfer(caller, to), write).await
    }

    type SaveSnapshotStream = Messages<v1::SnapshotPart>;

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        let ask = |caller, ()| self.0.save_snapshot(caller);
        call::stream(request, |_, _| Ok(()), ask, |part| Ok(part.into())).await
    }

    type DebugStream = Messages<v1::DebugPart>;

    async fn debug(&self, request: Request<v1::DebugRequest>) -> Result<Response<Self::DebugStream>, Status> {
        let ask = |caller, ask| self.0.debug(caller, ask);
        call::stream(request, |q, _| Ok(q.into()), ask, |part| Ok(part.into())).await
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let ask = |caller, ask| self.0.create_token(caller, ask);
        call::unary(request, |q, _| token::create(&q), ask, Into::into).await
    }

    async fn create_certificate(
        &self,
        request: Request<v1::CreateCertificateRequest>,
    ) -> Result<Response<v1::CreateCertificateResponse>, Status> {
        let ask = |caller, ask| self.0.create_certificate(caller, ask);
        call::unary(request, |q, _| token::certify(q), ask, Into::into).await
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let ask = |caller, ask| self.0.list_tokens(caller, ask);
        call::unary(request, |q, _| token::list(q), ask, Into::into).await
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.revoke_token(caller, ask);
        call::unary(request, token::revoke, ask, Into::into).await
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.rotate_authority(caller, ask);
        call::unary(request, authority::rotate, ask, Into::into).await
    }

    async fn authority_status(
        &self,
        request: Request<v1::AuthorityStatusRequest>,
    ) -> Result<Response<v1::AuthorityStatusResponse>, Status> {
        let ask = |caller, ()| self.0.authority_status(caller);
        call::unary(request, |_, _| Ok(()), ask, Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("ClusterService/Apply", convert::apply, v1::ApplyRequest::from),
        Probe::both("ClusterService/Settings", convert::settings, v1::SettingsRequest::from),
        Probe::both("ClusterService/CreateToken", |q, _| token::create(&q), v1::CreateTokenRequest::from),
        Probe::both(
            "ClusterService/CreateCertificate",
            |q, _| token::certify(q),
            v1::CreateCertificateRequest::from,
        ),
        Probe::both("ClusterService/ListTokens", |q, _| token::list(q), v1::ListTokensRequest::from),
        Probe::both("ClusterService/RevokeToken", token::revoke, v1::RevokeTokenRequest::from),
        Probe::both("ClusterService/RotateAuthority", authority::rotate, v1::RotateAuthorityRequest::from),
    ]
}
