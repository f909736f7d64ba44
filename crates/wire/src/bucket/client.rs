//! The client side of `sheaf.v1.BucketService`.

use sheaf_model::BucketName;
use sheaf_model::view::{BucketRow, Explanation};
use tonic::transport::Channel;

use super::{
    ApplyBucket, BucketHistory, BucketLogs, BucketRelease, BucketStep, GotBucket, ListBuckets, MoveBucket,
    OnBucket, Plan, PlanBucket, RollbackBucket, TestBucket, TestStep, WatchBuckets,
};
use crate::logs::LogLine;
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::bucket_service_client::BucketServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Answers, Applied, Asking, Client, Done, Page, PageOf, call};

impl Client {
    fn buckets(&self) -> BucketServiceClient<Channel> {
        BucketServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Registers or changes one bucket.
    pub fn apply_bucket(&self, ask: ApplyBucket) -> Asking<'_, Applied> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ApplyBucketRequest::from(ask), id.as_ref());
            self.unary(request, async |request| self.buckets().apply(request).await).await?.try_into()
        })
    }

    /// What [`Client::apply_bucket`] would change.
    pub fn plan_bucket(&self, ask: PlanBucket) -> Asking<'_, Plan> {
        Box::pin(async move {
            let request = self.request(v1::PlanBucketRequest::from(ask));
            self.unary(request, async |request| self.buckets().plan(request).await).await?.try_into()
        })
    }

    /// What a bucket shall be and where it stands.
    pub fn bucket<'a>(&'a self, name: &'a BucketName) -> Asking<'a, GotBucket> {
        Box::pin(async move {
            let request = self.request(v1::GetBucketRequest { name: name.as_str().to_owned() });
            self.unary(request, async |request| self.buckets().get(request).await).await?.try_into()
        })
    }

    /// A page of buckets, in the order of their names.
    pub fn list_buckets(&self, ask: ListBuckets) -> Asking<'_, Page<BucketRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListBucketsRequest::from(ask));
            self.unary(request, async |request| self.buckets().list(request).await).await?.try_into()
        })
    }

    /// All gates of all nodes, and why the present node was chosen.
    pub fn explain_bucket<'a>(&'a self, name: &'a BucketName) -> Asking<'a, Explanation> {
        Box::pin(async move {
            let request = self.request(v1::ExplainBucketRequest { name: name.as_str().to_owned() });
            self.unary(request, async |request| self.buckets().explain(request).await).await?.try_into()
        })
    }

    /// Buckets as they are, then whenever they change.
    pub fn watch_buckets(&self, ask: WatchBuckets) -> Asking<'_, Answers<BucketStep>> {
        Box::pin(async move {
            let request = self.request(v1::WatchBucketsRequest::from(ask));
            let steps = self.stream(request, async |request| self.buckets().watch(request).await).await?;
            Ok(call::incoming(self.address(), steps, TryInto::try_into))
        })
    }

    /// What a bucket's instances printed, everywhere.
    pub fn bucket_logs(&self, ask: BucketLogs) -> Asking<'_, Answers<LogLine>> {
        Box::pin(async move {
            let request = self.request(v1::BucketLogsRequest::from(ask));
            let lines = self.stream(request, async |request| self.buckets().logs(request).await).await?;
            Ok(call::incoming(self.address(), lines, TryInto::try_into))
        })
    }

    /// Takes a single-node bucket from its node.
    pub fn move_bucket(&self, ask: MoveBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::MoveBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().r#move(request).await).await?.into())
        })
    }

    /// Makes a bucket what it was.
    pub fn rollback_bucket(&self, ask: RollbackBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::RollbackBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().rollback(request).await).await?.into())
        })
    }

    /// Switches a bucket off.
    pub fn suspend_bucket(&self, ask: OnBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::SuspendBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().suspend(request).await).await?.into())
        })
    }

    /// Switches a bucket on.
    pub fn resume_bucket(&self, ask: OnBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ResumeBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().resume(request).await).await?.into())
        })
    }

    /// Restarts a bucket's instances once, everywhere.
    pub fn restart_bucket(&self, ask: OnBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::RestartBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().restart(request).await).await?.into())
        })
    }

    /// Throws away what a bucket has collected, wherever it runs.
    pub fn purge_bucket(&self, ask: OnBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::PurgeBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().purge(request).await).await?.into())
        })
    }

    /// Runs a bucket once, apart from the real one.
    pub fn test_bucket(&self, ask: TestBucket) -> Asking<'_, Answers<TestStep>> {
        Box::pin(async move {
            let request = self.request(v1::TestBucketRequest::from(ask));
            let steps = self.stream(request, async |request| self.buckets().test(request).await).await?;
            Ok(call::incoming(self.address(), steps, TryInto::try_into))
        })
    }

    /// A page of a bucket's revisions, newest first.
    pub fn bucket_history(&self, ask: BucketHistory) -> Asking<'_, Page<BucketRelease>> {
        Box::pin(async move {
            let request = self.request(v1::BucketHistoryRequest::from(ask));
            self.unary(request, async |request| self.buckets().history(request).await).await?.try_into()
        })
    }

    /// The revision before the last one of a page of [`Client::bucket_history`], by the page's `next`: by it is known what that last
    /// one changed. None: there is none.
    pub fn release_before<'a>(
        &'a self,
        bucket: &'a BucketName,
        next: String,
    ) -> Asking<'a, Option<BucketRelease>> {
        Box::pin(async move {
            if next.is_empty() {
                return Ok(None);
            }
            let page = PageOf { size: 1, token: next };
            Ok(self.bucket_history(BucketHistory { bucket: bucket.clone(), page }).await?.rows.pop())
        })
    }

    /// Deletes a bucket.
    pub fn delete_bucket(&self, ask: OnBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::DeleteBucketRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.buckets().delete(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::answer::<v1::PlanBucketResponse, Plan>(),
        Probe::answer::<v1::GetBucketResponse, GotBucket>(),
        Probe::answer::<v1::ListBucketsResponse, Page<BucketRow>>(),
        Probe::answer::<v1::Explanation, Explanation>(),
        Probe::answer::<v1::WatchBucketsResponse, BucketStep>(),
        Probe::answer::<v1::LogLine, LogLine>(),
        Probe::answer::<v1::TestBucketResponse, TestStep>(),
        Probe::answer::<v1::BucketHistoryResponse, Page<BucketRelease>>(),
    ]
}
