//! The server side of `sheaf.peer.v1.LogService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{LogsApi, convert};
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::peer::v1::log_service_server::LogService;
use crate::proto::peer::v1::{ReadAttemptRequest, ReadLogsRequest};
use crate::proto::v1;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn LogsApi>);

#[tonic::async_trait]
impl LogService for Serve {
    type ReadStream = Messages<v1::LogLine>;

    async fn read(&self, request: Request<ReadLogsRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let ask = |caller, ask| self.0.read(caller, ask);
        call::stream(request, |q, _| convert::read(&q), ask, |line| Ok(line.into())).await
    }

    type ReadAttemptStream = Messages<v1::LogLine>;

    async fn read_attempt(
        &self,
        request: Request<ReadAttemptRequest>,
    ) -> Result<Response<Self::ReadAttemptStream>, Status> {
        let ask = |caller, ask| self.0.read_attempt(caller, ask);
        call::stream(request, |q, _| Ok(convert::read_attempt(&q)), ask, |line| Ok(line.into())).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("LogService/Read", |q, _| convert::read(&q), ReadLogsRequest::from),
        Probe::both("LogService/ReadAttempt", |q, _| Ok(convert::read_attempt(&q)), ReadAttemptRequest::from),
    ]
}
