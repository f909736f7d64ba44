//! The client side of `sheaf.v1.SecretService`.

use sheaf_model::view::SecretRow;
use tonic::transport::Channel;

use super::{DeleteSecret, ListSecrets, PutSecret, SetSecret};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::secret_service_client::SecretServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Asking, Client, Done, Page};

impl Client {
    fn secrets(&self) -> SecretServiceClient<Channel> {
        SecretServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Sets a secret; the node that this is connected to seals it.
    pub fn set_secret(&self, ask: SetSecret) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::SetSecretRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.secrets().set(request).await).await?.into())
        })
    }

    /// Sets a secret that is sealed.
    pub fn put_secret(&self, ask: PutSecret) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::PutSecretRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.secrets().put(request).await).await?.into())
        })
    }

    /// A page of secrets by name, without their values.
    pub fn list_secrets(&self, ask: ListSecrets) -> Asking<'_, Page<SecretRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListSecretsRequest::from(ask));
            Ok(self.unary(request, async |request| self.secrets().list(request).await).await?.into())
        })
    }

    /// Deletes a secret.
    pub fn delete_secret(&self, ask: DeleteSecret) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::DeleteSecretRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.secrets().delete(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![Probe::plain::<v1::ListSecretsResponse, Page<SecretRow>>()]
}
