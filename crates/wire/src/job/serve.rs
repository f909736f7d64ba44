//! The server side of `sheaf.v1.JobService`.

use std::sync::Arc;

use sheaf_model::RequestId;
use tonic::{Request, Response, Status, Streaming};

use super::submit::Asked;
use super::{JobApi, convert, spec, submit};
use crate::Caller;
use crate::call::{self, Messages};
use crate::error::to_status;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::job_service_server::JobService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn JobApi>);

/// The caller, with the id that the message has or the metadata.
fn named(caller: Caller, request: Option<RequestId>) -> Caller {
    Caller { request, ..caller }
}

#[tonic::async_trait]
impl JobService for Serve {
    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitJobRequest>>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let long = call::wants_all(&request);
        let answer = async {
            let caller = Caller::of(&request)?;
            match submit::read(request.into_inner(), &caller).await? {
                Asked::Submit(spec, parts) => {
                    let caller = named(caller, spec.request_id.clone());
                    self.0.submit(caller, spec, parts).await
                }
                Asked::Check(ask) => self.0.check(caller, ask).await,
            }
        };
        match answer.await {
            Ok(submitted) => Ok(Response::new(submitted.into())),
            Err(error) => Err(to_status(error, long)),
        }
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::GetJobResponse>, Status> {
        let read = |q: v1::GetJobRequest, _: &_| convert::name(&q.name);
        call::unary(request, read, |caller, ask| self.0.get(caller, ask), Into::into).await
    }

    async fn subtasks(
        &self,
        request: Request<v1::ListSubtasksRequest>,
    ) -> Result<Response<v1::ListSubtasksResponse>, Status> {
        let ask = |caller, ask| self.0.subtasks(caller, ask);
        call::unary(request, |q, _| convert::subtasks(q), ask, Into::into).await
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainJobRequest>,
    ) -> Result<Response<v1::JobExplanation>, Status> {
        let ask = |caller, ask| self.0.explain(caller, ask);
        call::unary(request, |q, _| convert::explain(&q), ask, Into::into).await
    }

    type WatchStream = Messages<v1::JobStatus>;

    async fn watch(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let read = |q: v1::WatchJobRequest, _: &_| convert::name(&q.name);
        let ask = |caller, ask| self.0.watch(caller, ask);
        call::stream(request, read, ask, |status| Ok(status.into())).await
    }

    type LogsStream = Messages<v1::LogLine>;

    async fn logs(&self, request: Request<v1::JobLogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let ask = |caller, ask| self.0.logs(caller, ask);
        call::stream(request, |q, _| convert::logs(&q), ask, |line| Ok(line.into())).await
    }

    async fn pause(
        &self,
        request: Request<v1::PauseJobRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, (ask, id)| self.0.pause(named(caller, id), ask);
        call::unary(request, v1::PauseJobRequest::read, ask, Into::into).await
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeJobRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, (ask, id)| self.0.resume(named(caller, id), ask);
        call::unary(request, v1::ResumeJobRequest::read, ask, Into::into).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, (ask, id)| self.0.delete(named(caller, id), ask);
        call::unary(request, v1::DeleteJobRequest::read, ask, Into::into).await
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelSubtasksRequest>,
    ) -> Result<Response<v1::SubtasksResponse>, Status> {
        let ask = |caller, (ask, id)| self.0.cancel(named(caller, id), ask);
        call::unary(request, v1::CancelSubtasksRequest::read, ask, Into::into).await
    }

    async fn retry(
        &self,
        request: Request<v1::RetrySubtasksRequest>,
    ) -> Result<Response<v1::SubtasksResponse>, Status> {
        let ask = |caller, (ask, id)| self.0.retry(named(caller, id), ask);
        call::unary(request, v1::RetrySubtasksRequest::read, ask, Into::into).await
    }

    async fn reprioritize(
        &self,
        request: Request<v1::ReprioritizeSubtasksRequest>,
    ) -> Result<Response<v1::SubtasksResponse>, Status> {
        let ask = |caller, (ask, id)| self.0.reprioritize(named(caller, id), ask);
        call::unary(request, v1::ReprioritizeSubtasksRequest::read, ask, Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    type On = v1::DeleteJobRequest;
    vec![
        Probe::both("JobService/Submit: the job", spec::read, spec::write),
        Probe::of("JobService/Submit: an item", |q, _| submit::item(q, 0)),
        Probe::both("JobService/List", |q, _| convert::list(q), v1::ListJobsRequest::from),
        Probe::of("JobService/Get", |q: v1::GetJobRequest, _| convert::name(&q.name)),
        Probe::both("JobService/Subtasks", |q, _| convert::subtasks(q), v1::ListSubtasksRequest::from),
        Probe::both("JobService/Explain", |q, _| convert::explain(&q), v1::ExplainJobRequest::from),
        Probe::both("JobService/Logs", |q, _| convert::logs(&q), v1::JobLogsRequest::from),
        Probe::both("JobService/Delete", On::read, |(ask, id)| On::of(&ask, id.as_ref())),
        Probe::both("JobService/Cancel", v1::CancelSubtasksRequest::read, |(ask, id)| {
            v1::CancelSubtasksRequest::of(ask, id.as_ref())
        }),
        Probe::both("JobService/Retry", v1::RetrySubtasksRequest::read, |(ask, id)| {
            v1::RetrySubtasksRequest::of(&ask, id.as_ref())
        }),
        Probe::both("JobService/Reprioritize", v1::ReprioritizeSubtasksRequest::read, |(ask, id)| {
            v1::ReprioritizeSubtasksRequest::of(&ask, id.as_ref())
        }),
    ]
}
