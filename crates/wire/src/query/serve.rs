//! The server side of `sheaf.v1.QueryService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{QueryApi, convert};
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::query_service_server::QueryService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn QueryApi>);

#[tonic::async_trait]
impl QueryService for Serve {
    type QueryStream = Messages<v1::QueryResponse>;

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let ask = |caller, ask| self.0.query(caller, ask);
        call::stream(request, |q, _| convert::read(q), ask, |part| Ok(part.into())).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![Probe::both("QueryService/Query", |q, _| convert::read(q), v1::QueryRequest::from)]
}
