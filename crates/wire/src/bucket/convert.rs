//! Questions and answers about buckets, to and from messages.

use sheaf_model::view::BucketRow;
use sheaf_model::{BucketName, Difference, PutBucket, Revision, Timestamp};

use super::{
    ApplyBucket, BucketChange, BucketHistory, BucketLogs, BucketRelease, BucketStep, GotBucket, ListBuckets,
    MoveBucket, OnBucket, Plan, PlanBucket, RollbackBucket, WatchBuckets,
};
use crate::change::{page_of, timestamp, timestamp_from};
use crate::logs::LogsOf;
use crate::proto::v1;
use crate::spec::{BucketMessage, bucket_answer, bucket_request, bucket_spec, module_request, read};
use crate::{ApiError, Caller, Filter, Outcome, PAGE_MAX, Page};

const KEYS: &[&str] =
    &["name", "state", "type", "module", "owner", "node", "suspended", "multi_node", "label."];
const HISTORY: u32 = 100;

/// A name as a question has it.
pub(crate) fn name(text: &str) -> Result<BucketName, ApiError> {
    BucketName::new(text).map_err(|error| ApiError::invalid("name", error.problem, error.remedy))
}

pub(super) fn put(message: BucketMessage) -> Result<PutBucket, ApiError> {
    let mut documents = read(Vec::new(), vec![message])?;
    documents.buckets.pop().ok_or_else(|| ApiError::invalid("bucket", "missing", "a BucketSpec"))
}

pub(super) fn apply(message: v1::ApplyBucketRequest, caller: &Caller) -> Result<ApplyBucket, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let put = put(BucketMessage {
        bucket: message.bucket,
        base_revision: message.base_revision,
        latest: message.latest,
        suspended: message.suspended,
    })?;
    Ok(ApplyBucket { put, request, validate_only: message.validate_only })
}

impl From<ApplyBucket> for v1::ApplyBucketRequest {
    fn from(ask: ApplyBucket) -> Self {
        Self {
            bucket: Some(bucket_request(ask.put.spec)),
            base_revision: ask.put.base.map(|revision| revision.0),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
            validate_only: ask.validate_only,
            latest: ask.put.latest,
            suspended: ask.put.suspended,
        }
    }
}

pub(super) fn plan(message: v1::PlanBucketRequest) -> Result<PlanBucket, ApiError> {
    let bucket = BucketMessage {
        bucket: message.bucket,
        base_revision: message.base_revision,
        latest: message.latest,
        suspended: message.suspended,
    };
    let mut documents = read(message.modules.into_iter().map(Some).collect(), vec![bucket])?;
    let put = documents.buckets.pop();
    let put = put.ok_or_else(|| ApiError::invalid("bucket", "missing", "a BucketSpec"))?;
    Ok(PlanBucket { put, modules: documents.modules })
}

impl From<PlanBucket> for v1::PlanBucketRequest {
    fn from(PlanBucket { put, modules }: PlanBucket) -> Self {
        Self {
            bucket: Some(bucket_request(put.spec)),
            base_revision: put.base.map(|revision| revision.0),
            latest: put.latest,
            suspended: put.suspended,
            modules: modules.into_iter().map(module_request).collect(),
        }
    }
}

impl From<Plan> for v1::PlanBucketResponse {
    fn from(plan: Plan) -> Self {
        let difference = |difference: Difference| v1::Difference {
            path: difference.path,
            before_json: difference.before.map(|value| value.to_string()),
            after_json: difference.after.map(|value| value.to_string()),
        };
        Self {
            outcome: Some(plan.outcome.into()),
            differences: plan.differences.into_iter().map(difference).collect(),
            nodes: plan.nodes.into_iter().map(Into::into).collect(),
            warnings: plan.warnings,
        }
    }
}

impl TryFrom<v1::PlanBucketResponse> for Plan {
    type Error = ApiError;

    fn try_from(plan: v1::PlanBucketResponse) -> Result<Self, ApiError> {
        let value =
            |text: Option<String>| text.map(|text| serde_json::from_str(&text).unwrap_or(text.into()));
        let difference = |difference: v1::Difference| Difference {
            path: difference.path,
            before: value(difference.before_json),
            after: value(difference.after_json),
        };
        let outcome = plan.outcome.ok_or_else(|| ApiError::Internal("the plan has no outcome".to_owned()))?;
        Ok(Self {
            outcome: Outcome::try_from(outcome)?,
            differences: plan.differences.into_iter().map(difference).collect(),
            nodes: plan.nodes.into_iter().map(Into::into).collect(),
            warnings: plan.warnings,
        })
    }
}

impl From<GotBucket> for v1::GetBucketResponse {
    fn from(got: GotBucket) -> Self {
        Self { spec: Some(bucket_answer(got.spec)), status: Some(got.status.into()) }
    }
}

impl TryFrom<v1::GetBucketResponse> for GotBucket {
    type Error = ApiError;

    fn try_from(got: v1::GetBucketResponse) -> Result<Self, ApiError> {
        let status = got.status.ok_or_else(|| ApiError::Internal("the answer has no status".to_owned()))?;
        Ok(Self { spec: bucket_spec(got.spec)?, status: status.try_into()? })
    }
}

pub(super) fn list(message: v1::ListBucketsRequest) -> Result<ListBuckets, ApiError> {
    Ok(ListBuckets {
        page: page_of(message.page_size, message.page_token, PAGE_MAX)?,
        filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)?,
    })
}

impl From<ListBuckets> for v1::ListBucketsRequest {
    fn from(ask: ListBuckets) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<Page<BucketRow>> for v1::ListBucketsResponse {
    fn from(page: Page<BucketRow>) -> Self {
        Self { buckets: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl TryFrom<v1::ListBucketsResponse> for Page<BucketRow> {
    type Error = ApiError;

    fn try_from(page: v1::ListBucketsResponse) -> Result<Self, ApiError> {
        let rows = page.buckets.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { rows, next: page.next_page_token })
    }
}

pub(super) fn watch(message: &v1::WatchBucketsRequest) -> Result<WatchBuckets, ApiError> {
    let bucket = if message.name.is_empty() { None } else { Some(name(&message.name)?) };
    Ok(WatchBuckets { bucket, after: message.after_revision.map(Revision) })
}

impl From<WatchBuckets> for v1::WatchBucketsRequest {
    fn from(ask: WatchBuckets) -> Self {
        let name = ask.bucket.map(|name| name.as_str().to_owned()).unwrap_or_default();
        Self { name, after_revision: ask.after.map(|revision| revision.0) }
    }
}

impl From<BucketStep> for v1::WatchBucketsResponse {
    fn from(step: BucketStep) -> Self {
        use v1::watch_buckets_response::Change;
        let change = match step.change {
            BucketChange::Reset => Change::Reset(v1::WatchReset {}),
            BucketChange::Bucket(status) => Change::Bucket((*status).into()),
            BucketChange::Gone(name) => Change::Gone(name.as_str().to_owned()),
            BucketChange::Synced => Change::Synced(v1::WatchSynced {}),
        };
        Self { revision: step.revision.0, change: Some(change) }
    }
}

impl TryFrom<v1::WatchBucketsResponse> for BucketStep {
    type Error = ApiError;

    fn try_from(step: v1::WatchBucketsResponse) -> Result<Self, ApiError> {
        use v1::watch_buckets_response::Change;
        let change = match step.change {
            Some(Change::Reset(_)) => BucketChange::Reset,
            Some(Change::Bucket(status)) => BucketChange::Bucket(Box::new(status.try_into()?)),
            Some(Change::Gone(text)) => BucketChange::Gone(name(&text)?),
            Some(Change::Synced(_)) => BucketChange::Synced,
            None => {
                return Err(ApiError::Internal(
                    "the watch has a step of nothing this version knows".to_owned(),
                ));
            }
        };
        Ok(Self { revision: Revision(step.revision), change })
    }
}

pub(super) fn logs(message: v1::BucketLogsRequest) -> Result<BucketLogs, ApiError> {
    let of = LogsOf {
        bucket: name(&message.name)?,
        follow: message.follow,
        since: message.since.as_ref().map(timestamp_from),
        tail: message.tail,
        previous: message.previous,
    };
    if !of.follow && !message.after.is_empty() {
        return Err(ApiError::invalid("after", "there is nothing to go on with", "together with follow"));
    }
    let after = message.after.into_iter().map(Into::into).collect();
    Ok(BucketLogs { of, node: (!message.node.is_empty()).then_some(message.node), after })
}

impl From<BucketLogs> for v1::BucketLogsRequest {
    fn from(ask: BucketLogs) -> Self {
        Self {
            name: ask.of.bucket.as_str().to_owned(),
            node: ask.node.unwrap_or_default(),
            follow: ask.of.follow,
            since: ask.of.since.map(timestamp),
            tail: ask.of.tail,
            previous: ask.of.previous,
            after: ask.after.into_iter().map(Into::into).collect(),
        }
    }
}

/// The five changes that need no more than a name have messages alike.
macro_rules! on_bucket {
    ($($message:ident)*) => {$(
        impl From<OnBucket> for v1::$message {
            fn from(ask: OnBucket) -> Self {
                Self {
                    name: ask.bucket.as_str().to_owned(),
                    base_revision: ask.base.map(|revision| revision.0),
                    request_id: ask.request.map(|id| id.0).unwrap_or_default(),
                }
            }
        }

        impl v1::$message {
            pub(super) fn read(self, caller: &Caller) -> Result<OnBucket, ApiError> {
                Ok(OnBucket {
                    bucket: name(&self.name)?,
                    base: self.base_revision.map(Revision),
                    request: caller.request_id(self.request_id)?,
                })
            }
        }
    )*};
}

on_bucket! { SuspendBucketRequest ResumeBucketRequest RestartBucketRequest PurgeBucketRequest DeleteBucketRequest }

pub(super) fn rollback(
    message: v1::RollbackBucketRequest,
    caller: &Caller,
) -> Result<RollbackBucket, ApiError> {
    Ok(RollbackBucket {
        bucket: name(&message.name)?,
        to: message.to_revision.map(Revision),
        base: message.base_revision.map(Revision),
        request: caller.request_id(message.request_id)?,
    })
}

impl From<RollbackBucket> for v1::RollbackBucketRequest {
    fn from(ask: RollbackBucket) -> Self {
        Self {
            name: ask.bucket.as_str().to_owned(),
            to_revision: ask.to.map(|revision| revision.0),
            base_revision: ask.base.map(|revision| revision.0),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

pub(super) fn move_bucket(message: v1::MoveBucketRequest, caller: &Caller) -> Result<MoveBucket, ApiError> {
    Ok(MoveBucket {
        bucket: name(&message.name)?,
        to: (!message.to.is_empty()).then_some(message.to),
        base: message.base_revision.map(Revision),
        request: caller.request_id(message.request_id)?,
    })
}

impl From<MoveBucket> for v1::MoveBucketRequest {
    fn from(ask: MoveBucket) -> Self {
        Self {
            name: ask.bucket.as_str().to_owned(),
            to: ask.to.unwrap_or_default(),
            base_revision: ask.base.map(|revision| revision.0),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

pub(super) fn history(message: v1::BucketHistoryRequest) -> Result<BucketHistory, ApiError> {
    Ok(BucketHistory {
        bucket: name(&message.name)?,
        page: page_of(message.page_size, message.page_token, HISTORY)?,
    })
}

impl From<BucketHistory> for v1::BucketHistoryRequest {
    fn from(ask: BucketHistory) -> Self {
        let name = ask.bucket.as_str().to_owned();
        Self { name, page_size: ask.page.size, page_token: ask.page.token }
    }
}

impl From<Page<BucketRelease>> for v1::BucketHistoryResponse {
    fn from(page: Page<BucketRelease>) -> Self {
        let release = |release: BucketRelease| v1::BucketRelease {
            revision: release.revision.0,
            at: Some(timestamp(release.at)),
            actor: release.actor,
            spec: Some(bucket_answer(release.spec)),
        };
        Self { releases: page.rows.into_iter().map(release).collect(), next_page_token: page.next }
    }
}

impl TryFrom<v1::BucketHistoryResponse> for Page<BucketRelease> {
    type Error = ApiError;

    fn try_from(page: v1::BucketHistoryResponse) -> Result<Self, ApiError> {
        let release = |release: v1::BucketRelease| {
            Ok(BucketRelease {
                revision: Revision(release.revision),
                at: release.at.as_ref().map_or(Timestamp(0), timestamp_from),
                actor: release.actor,
                spec: bucket_spec(release.spec)?,
            })
        };
        let rows = page.releases.into_iter().map(release).collect::<Result<_, ApiError>>()?;
        Ok(Self { rows, next: page.next_page_token })
    }
}
