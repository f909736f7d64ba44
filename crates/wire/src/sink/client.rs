//! The client side of `sheaf.v1.SinkService`.

use sheaf_model::SinkName;
use sheaf_model::view::SinkRow;
use tonic::transport::Channel;

use super::{ApplySink, DeleteSink, GotSink, ListSinks, TestedSink};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::sink_service_client::SinkServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Asking, Client, Done, Page};

impl Client {
    fn sinks(&self) -> SinkServiceClient<Channel> {
        SinkServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Registers or changes a sink.
    pub fn apply_sink(&self, ask: ApplySink) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ApplySinkRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.sinks().apply(request).await).await?.into())
        })
    }

    /// A page of sinks by name.
    pub fn list_sinks(&self, ask: ListSinks) -> Asking<'_, Page<SinkRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListSinksRequest::from(ask));
            Ok(self.unary(request, async |request| self.sinks().list(request).await).await?.into())
        })
    }

    /// One sink.
    pub fn sink<'a>(&'a self, name: &'a SinkName) -> Asking<'a, GotSink> {
        Box::pin(async move {
            let request = self.request(v1::GetSinkRequest { name: name.to_string() });
            self.unary(request, async |request| self.sinks().get(request).await).await?.try_into()
        })
    }

    /// Delivers a test.
    pub fn test_sink<'a>(&'a self, name: &'a SinkName) -> Asking<'a, TestedSink> {
        Box::pin(async move {
            let request = self.request(v1::TestSinkRequest { name: name.to_string() });
            Ok(self.unary(request, async |request| self.sinks().test(request).await).await?.into())
        })
    }

    /// Deletes a sink.
    pub fn delete_sink(&self, ask: DeleteSink) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::DeleteSinkRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.sinks().delete(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::plain::<v1::ListSinksResponse, Page<SinkRow>>(),
        Probe::answered(|got: v1::GetSinkResponse| GotSink::try_from(got).map(|got| got.json())),
        Probe::plain::<v1::TestSinkResponse, TestedSink>(),
    ]
}
