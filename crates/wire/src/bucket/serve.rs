//! The server side of `sheaf.v1.BucketService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{BucketApi, convert, test};
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::bucket_service_server::BucketService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn BucketApi>);

#[tonic::async_trait]
impl BucketService for Serve {
    async fn apply(
        &self,
        request: Request<v1::ApplyBucketRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        call::unary(request, convert::apply, |caller, ask| self.0.apply(caller, ask), Into::into).await
    }

    async fn plan(
        &self,
        request: Request<v1::PlanBucketRequest>,
    ) -> Result<Response<v1::PlanBucketResponse>, Status> {
        call::unary(request, |q, _| convert::plan(q), |caller, ask| self.0.plan(caller, ask), Into::into)
            .await
    }

    async fn get(
        &self,
        request: Request<v1::GetBucketRequest>,
    ) -> Result<Response<v1::GetBucketResponse>, Status> {
        let read = |q: v1::GetBucketRequest, _: &_| convert::name(&q.name);
        call::unary(request, read, |caller, ask| self.0.get(caller, ask), Into::into).await
    }

    async fn list(
        &self,
        request: Request<v1::ListBucketsRequest>,
    ) -> Result<Response<v1::ListBucketsResponse>, Status> {
        call::unary(request, |q, _| convert::list(q), |caller, ask| self.0.list(caller, ask), Into::into)
            .await
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainBucketRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        let read = |q: v1::ExplainBucketRequest, _: &_| convert::name(&q.name);
        call::unary(request, read, |caller, ask| self.0.explain(caller, ask), Into::into).await
    }

    type WatchStream = Messages<v1::WatchBucketsResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchBucketsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let ask = |caller, ask| self.0.watch(caller, ask);
        call::stream(request, |q, _| convert::watch(&q), ask, |step| Ok(step.into())).await
    }

    type LogsStream = Messages<v1::LogLine>;

    async fn logs(
        &self,
        request: Request<v1::BucketLogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let ask = |caller, ask| self.0.logs(caller, ask);
        call::stream(request, |q, _| convert::logs(q), ask, |line| Ok(line.into())).await
    }

    async fn r#move(
        &self,
        request: Request<v1::MoveBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.move_bucket(caller, ask);
        call::unary(request, convert::move_bucket, ask, Into::into).await
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.rollback(caller, ask);
        call::unary(request, convert::rollback, ask, Into::into).await
    }

    async fn suspend(
        &self,
        request: Request<v1::SuspendBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.suspend(caller, ask);
        call::unary(request, v1::SuspendBucketRequest::read, ask, Into::into).await
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.resume(caller, ask);
        call::unary(request, v1::ResumeBucketRequest::read, ask, Into::into).await
    }

    async fn restart(
        &self,
        request: Request<v1::RestartBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.restart(caller, ask);
        call::unary(request, v1::RestartBucketRequest::read, ask, Into::into).await
    }

    async fn purge(
        &self,
        request: Request<v1::PurgeBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.purge(caller, ask);
        call::unary(request, v1::PurgeBucketRequest::read, ask, Into::into).await
    }

    type TestStream = Messages<v1::TestBucketResponse>;

    async fn test(
        &self,
        request: Request<v1::TestBucketRequest>,
    ) -> Result<Response<Self::TestStream>, Status> {
        let ask = |caller, ask| self.0.test(caller, ask);
        call::stream(request, |q, _| test::ask(q), ask, |step| Ok(step.into())).await
    }

    async fn history(
        &self,
        request: Request<v1::BucketHistoryRequest>,
    ) -> Result<Response<v1::BucketHistoryResponse>, Status> {
        let ask = |caller, ask| self.0.history(caller, ask);
        call::unary(request, |q, _| convert::history(q), ask, Into::into).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteBucketRequest>,
    ) -> Result<Response<v1::ChangeResponse>, Status> {
        let ask = |caller, ask| self.0.delete(caller, ask);
        call::unary(request, v1::DeleteBucketRequest::read, ask, Into::into).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    type On = v1::SuspendBucketRequest;
    vec![
        Probe::both("BucketService/Apply", convert::apply, v1::ApplyBucketRequest::from),
        Probe::both("BucketService/Plan", |q, _| convert::plan(q), v1::PlanBucketRequest::from),
        Probe::of("BucketService/Get", |q: v1::GetBucketRequest, _| convert::name(&q.name)),
        Probe::both("BucketService/List", |q, _| convert::list(q), v1::ListBucketsRequest::from),
        Probe::both("BucketService/Watch", |q, _| convert::watch(&q), v1::WatchBucketsRequest::from),
        Probe::both("BucketService/Logs", |q, _| convert::logs(q), v1::BucketLogsRequest::from),
        Probe::both("BucketService/Move", convert::move_bucket, v1::MoveBucketRequest::from),
        Probe::both("BucketService/Rollback", convert::rollback, v1::RollbackBucketRequest::from),
        Probe::both("BucketService/Suspend", On::read, On::from),
        Probe::both("BucketService/Test", |q, _| test::ask(q), v1::TestBucketRequest::from),
        Probe::both("BucketService/History", |q, _| convert::history(q), v1::BucketHistoryRequest::from),
    ]
}
