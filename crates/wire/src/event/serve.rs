//! The server side of `sheaf.v1.EventService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{EventApi, convert};
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::event_service_server::EventService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn EventApi>);

#[tonic::async_trait]
impl EventService for Serve {
    async fn list(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    type WatchStream = Messages<v1::Event>;

    async fn watch(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let ask = |caller, ask| self.0.watch(caller, ask);
        call::stream(request, |q, _| convert::watch(q), ask, |event| Ok(event.into())).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("EventService/List", |q, _| convert::list(q), v1::ListEventsRequest::from),
        Probe::both("EventService/Watch", |q, _| convert::watch(q), v1::WatchEventsRequest::from),
    ]
}
