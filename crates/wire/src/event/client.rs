//! The client side of `sheaf.v1.EventService`.

use sheaf_model::Event;
use tonic::transport::Channel;

use super::{EventPage, ListEvents, WatchEvents};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Answers, Asking, Client, call};

impl Client {
    fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// A page of history.
    pub fn list_events(&self, ask: ListEvents) -> Asking<'_, EventPage> {
        Box::pin(async move {
            let request = self.request(v1::ListEventsRequest::from(ask));
            self.unary(request, async |request| self.events().list(request).await).await?.try_into()
        })
    }

    /// History from a place on, then what happens.
    pub fn watch_events(&self, ask: WatchEvents) -> Asking<'_, Answers<Event>> {
        Box::pin(async move {
            let request = self.request(v1::WatchEventsRequest::from(ask));
            let events = self.stream(request, async |request| self.events().watch(request).await).await?;
            Ok(call::incoming(self.address(), events, |event| Ok(event.into())))
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![Probe::answer::<v1::ListEventsResponse, EventPage>(), Probe::plain::<v1::Event, Event>()]
}
