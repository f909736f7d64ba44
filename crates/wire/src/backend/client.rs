//! The client side of `sheaf.v1.BackendService`.

use sheaf_model::BackendName;
use sheaf_model::view::BackendRow;
use tonic::transport::Channel;

use super::{ApplyBackend, DeleteBackend, GotBackend, ListBackends};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::backend_service_client::BackendServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Asking, Client, Done, Page};

impl Client {
    fn backends(&self) -> BackendServiceClient<Channel> {
        BackendServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Registers or changes a backend.
    pub fn apply_backend(&self, ask: ApplyBackend) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ApplyBackendRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.backends().apply(request).await).await?.into())
        })
    }

    /// A page of backends by name.
    pub fn list_backends(&self, ask: ListBackends) -> Asking<'_, Page<BackendRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListBackendsRequest::from(ask));
            Ok(self.unary(request, async |request| self.backends().list(request).await).await?.into())
        })
    }

    /// One backend.
    pub fn backend<'a>(&'a self, name: &'a BackendName) -> Asking<'a, GotBackend> {
        Box::pin(async move {
            let request = self.request(v1::GetBackendRequest { name: name.to_string() });
            self.unary(request, async |request| self.backends().get(request).await).await?.try_into()
        })
    }

    /// Deletes a backend.
    pub fn delete_backend(&self, ask: DeleteBackend) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::DeleteBackendRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.backends().delete(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::plain::<v1::ListBackendsResponse, Page<BackendRow>>(),
        Probe::answered(|got: v1::GetBackendResponse| GotBackend::try_from(got).map(|got| got.json())),
    ]
}
