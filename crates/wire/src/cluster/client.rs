//! The client side of `sheaf.v1.ClusterService`.

use sheaf_model::view::{AuthorityStatus, ClusterStatus, MemberRow, TokenRow};
use tonic::transport::Channel;

use super::{
    AllSettings, Apply, ChangeSettings, CreateCertificate, CreateToken, CreatedCertificate, CreatedToken,
    ListTokens, RevokeToken, RotateAuthority, SnapshotPart,
};
use crate::call;
use crate::debug::{AskDebug, DebugPart};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::cluster_service_client::ClusterServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Answers, Applied, Asking, Client, Done, Page};

impl Client {
    fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Applies documents in one transaction: all or none.
    pub fn apply(&self, ask: Apply) -> Asking<'_, Applied> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ApplyRequest::from(ask), id.as_ref());
            self.unary(request, async |request| self.cluster().apply(request).await).await?.try_into()
        })
    }

    /// Leader, members and counts.
    pub fn cluster_status(&self) -> Asking<'_, ClusterStatus> {
        Box::pin(async move {
            let request = self.request(v1::ClusterStatusRequest {});
            Ok(self.unary(request, async |request| self.cluster().status(request).await).await?.into())
        })
    }

    /// The members alone.
    pub fn members(&self) -> Asking<'_, Vec<MemberRow>> {
        Box::pin(async move {
            let request = self.request(v1::MembersRequest {});
            Ok(members(self.unary(request, async |request| self.cluster().members(request).await).await?))
        })
    }

    /// Changes what holds for all nodes, and shows it.
    pub fn settings(&self, ask: ChangeSettings) -> Asking<'_, AllSettings> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::SettingsRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.cluster().settings(request).await).await?.into())
        })
    }

    /// Hands leadership to another voter; returns the name of the one that leads then.
    pub fn transfer(&self, to: Option<String>) -> Asking<'_, String> {
        Box::pin(async move {
            let request = self.request(v1::TransferRequest { to: to.unwrap_or_default() });
            Ok(self.unary(request, async |request| self.cluster().transfer(request).await).await?.leader)
        })
    }

    /// A copy of everything agreed on: its head, then the database.
    pub fn save_snapshot(&self) -> Asking<'_, Answers<SnapshotPart>> {
        Box::pin(async move {
            let request = self.request(v1::SaveSnapshotRequest {});
            let parts =
                self.stream(request, async |request| self.cluster().save_snapshot(request).await).await?;
            Ok(call::incoming(self.address(), parts, TryInto::try_into))
        })
    }

    /// What somebody needs to see who is to help, of every node that answers.
    pub fn debug(&self, ask: AskDebug) -> Asking<'_, Answers<DebugPart>> {
        Box::pin(async move {
            let request = self.request(v1::DebugRequest::from(ask));
            let parts = self.stream(request, async |request| self.cluster().debug(request).await).await?;
            Ok(call::incoming(self.address(), parts, TryInto::try_into))
        })
    }

    /// Makes a token, and shows it this once.
    pub fn create_token(&self, ask: CreateToken) -> Asking<'_, CreatedToken> {
        Box::pin(async move {
            let request = self.request(v1::CreateTokenRequest::from(ask));
            self.unary(request, async |request| self.cluster().create_token(request).await).await?.try_into()
        })
    }

    /// Makes a certificate in place of a token, for a key that stays where it is.
    pub fn create_certificate(&self, ask: CreateCertificate) -> Asking<'_, CreatedCertificate> {
        Box::pin(async move {
            let request = self.request(v1::CreateCertificateRequest::from(ask));
            let made = self.unary(request, async |request| self.cluster().create_certificate(request).await);
            made.await?.try_into()
        })
    }

    /// A page of tokens by name, without their secrets.
    pub fn list_tokens(&self, ask: ListTokens) -> Asking<'_, Page<TokenRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListTokensRequest::from(ask));
            Ok(self.unary(request, async |request| self.cluster().list_tokens(request).await).await?.into())
        })
    }

    /// A token is worth nothing from now on.
    pub fn revoke_token(&self, ask: RevokeToken) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::RevokeTokenRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.cluster().revoke_token(request).await).await?.into())
        })
    }

    /// Begins to replace the authority that issues, or ends that.
    pub fn rotate_authority(&self, ask: RotateAuthority) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::RotateAuthorityRequest::from(ask), id.as_ref());
            Ok(self
                .unary(request, async |request| self.cluster().rotate_authority(request).await)
                .await?
                .into())
        })
    }

    /// Whom the cluster believes, and how far a change of that is.
    pub fn authority_status(&self) -> Asking<'_, AuthorityStatus> {
        Box::pin(async move {
            let request = self.request(v1::AuthorityStatusRequest {});
            Ok(self
                .unary(request, async |request| self.cluster().authority_status(request).await)
                .await?
                .into())
        })
    }
}

fn members(answer: v1::MembersResponse) -> Vec<MemberRow> {
    answer.members.into_iter().map(Into::into).collect()
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::plain::<v1::ClusterStatus, ClusterStatus>(),
        Probe::answered(|answer: v1::MembersResponse| Ok(members(answer))),
        Probe::plain::<v1::SettingsResponse, AllSettings>(),
        Probe::answer::<v1::SnapshotPart, SnapshotPart>(),
        Probe::answer::<v1::DebugPart, DebugPart>(),
        Probe::answer::<v1::CreateTokenResponse, CreatedToken>(),
        Probe::answer::<v1::CreateCertificateResponse, CreatedCertificate>(),
        Probe::plain::<v1::ListTokensResponse, Page<TokenRow>>(),
        Probe::plain::<v1::AuthorityStatusResponse, AuthorityStatus>(),
    ]
}
