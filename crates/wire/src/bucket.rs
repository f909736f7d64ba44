//! Buckets over the wire: what is asked, what is answered, and both ends of it.
//!
//! ```text
//!  console ──► Client::apply_bucket ──► sheaf.v1.BucketService ──► Serve (a BucketApi) ──► control
//! ```

mod client;
mod convert;
mod serve;
mod test;
mod view;

use serde::Serialize;
use serde_json::Value;
use sheaf_model::view::{BucketRow, BucketStatus, Explanation, NodeExplanation};
use sheaf_model::{
    BucketName, BucketSpec, Difference, ModuleSpec, PutBucket, RequestId, Revision, Span, Timestamp, document,
};

pub(crate) use client::answers;
pub(crate) use convert::name;
pub(crate) use serve::{Serve, probes};

use crate::logs::{LogLine, LogPlace, LogsOf};
use crate::{Answers, ApiError, Applied, Caller, Done, Filter, Outcome, Page, PageOf, async_trait};

/// See `BucketService.Apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyBucket {
    /// The document.
    pub put: PutBucket,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
    /// Check everything, change nothing.
    pub validate_only: bool,
}

/// A change of a bucket that needs no more than its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnBucket {
    /// Which one.
    pub bucket: BucketName,
    /// Refuse as conflicting unless it is at this revision.
    pub base: Option<Revision>,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// See `BucketService.Move`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveBucket {
    /// Which one.
    pub bucket: BucketName,
    /// To this node, by name or number; none: to any other.
    pub to: Option<String>,
    /// Refuse as conflicting unless it is at this revision.
    pub base: Option<Revision>,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// See `BucketService.Plan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanBucket {
    /// The document.
    pub put: PutBucket,
    /// What would be registered before it.
    pub modules: Vec<ModuleSpec>,
}

/// See `BucketService.Plan`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What Apply would do.
    pub outcome: Outcome,
    /// Field by field.
    pub differences: Vec<Difference>,
    /// Every node: `eligible` as it would be, `running` as it is.
    pub nodes: Vec<NodeExplanation>,
    /// For people.
    pub warnings: Vec<String>,
}

/// See `BucketService.Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotBucket {
    /// What it shall be, the module's version fixed.
    pub spec: BucketSpec,
    /// Where it stands.
    pub status: BucketStatus,
}

/// See `BucketService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListBuckets {
    /// Which part.
    pub page: PageOf,
    /// Which buckets.
    pub filter: Filter,
}

/// See `BucketService.Watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchBuckets {
    /// Which one; none: all.
    pub bucket: Option<BucketName>,
    /// The last revision synced before: only what changed since, if that is still known.
    pub after: Option<Revision>,
}

/// One step of a watch: either `Reset`, every bucket and `Synced`, or what changed and `Synced`; then changes, each
/// group ending with `Synced`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketStep {
    /// The state it belongs to; what to resume with after `Synced`.
    pub revision: Revision,
    /// What is said.
    pub change: BucketChange,
}

/// See [`BucketStep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketChange {
    /// Forget what was known.
    Reset,
    /// A bucket as it is now.
    Bucket(Box<BucketStatus>),
    /// It is gone.
    Gone(BucketName),
    /// Everything up to the revision has been said.
    Synced,
}

/// See `BucketService.Logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketLogs {
    /// Of what, since when, and whether to stay.
    pub of: LogsOf,
    /// Only of the node of this name.
    pub node: Option<String>,
    /// If it stays: where to go on, of nodes whose lines were read before.
    pub after: Vec<LogPlace>,
}

/// See `BucketService.History`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketHistory {
    /// Which one; may be deleted already.
    pub bucket: BucketName,
    /// Which part.
    pub page: PageOf,
}

/// See `BucketService.Test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestBucket {
    /// What it would be.
    pub spec: BucketSpec,
    /// With the newest version of its module.
    pub latest: bool,
    /// It ends after so many objects.
    pub max_objects: u64,
    /// How long it may run.
    pub max_time: Span,
    /// How long it may take until it runs.
    pub start_within: Span,
}

/// A step of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestStep {
    /// It has been placed.
    Started {
        /// The bucket that the test is, while it lasts.
        bucket: BucketName,
        /// The node's name.
        node: String,
    },
    /// It has printed a line.
    Line(LogLine),
    /// It is over.
    Ended(TestEnd),
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestEnd {
    /// How it went.
    pub result: TestResult,
    /// What ended it, for people.
    pub message: String,
    /// How many objects were sent.
    pub objects: u64,
}

/// How a test went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestResult {
    /// As it should.
    Passed,
    /// It did not start in time, failed, or was lost with its node.
    Failed,
    /// No node is available for it.
    NotPlaced,
}

/// A return to what a bucket was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackBucket {
    /// Which one.
    pub bucket: BucketName,
    /// To what it was at this revision; none: to the last one that was different.
    pub to: Option<Revision>,
    /// Refuse as conflicting unless it is at this revision.
    pub base: Option<Revision>,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// One revision of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRelease {
    /// The revision.
    pub revision: Revision,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: String,
    /// What the bucket was to be.
    pub spec: BucketSpec,
}

impl BucketRelease {
    /// As people write it; whether it is suspended is no part of a release.
    pub fn document(&self) -> Value {
        document::bucket_value(&self.spec, false, None)
    }
}

/// `bucket history` rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReleaseRow {
    /// Of the change.
    pub revision: u64,
    /// RFC 3339.
    pub at: String,
    /// Who made it.
    pub actor: String,
    /// Paths of the fields that it changed; none known of the oldest.
    pub changed: Vec<String>,
    /// The document.
    pub bucket: Value,
}

impl ReleaseRow {
    /// A release, and the one before it if that is known.
    pub fn new(release: &BucketRelease, before: Option<&BucketRelease>) -> Self {
        let bucket = release.document();
        let changed = before.map_or_else(Vec::new, |before| {
            document::differences(&before.document(), &bucket).into_iter().map(|field| field.path).collect()
        });
        Self {
            revision: release.revision.0,
            at: release.at.to_string(),
            actor: release.actor.clone(),
            changed,
            bucket,
        }
    }
}

/// What answers `sheaf.v1.BucketService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait BucketApi: Send + Sync + 'static {
    /// Registers or changes one bucket.
    async fn apply(&self, caller: Caller, ask: ApplyBucket) -> Result<Applied, ApiError>;
    /// What `apply` would change; changes nothing.
    async fn plan(&self, caller: Caller, ask: PlanBucket) -> Result<Plan, ApiError>;
    /// What it shall be and where it stands.
    async fn get(&self, caller: Caller, ask: BucketName) -> Result<GotBucket, ApiError>;
    /// Buckets in the order of their names.
    async fn list(&self, caller: Caller, ask: ListBuckets) -> Result<Page<BucketRow>, ApiError>;
    /// All gates of all nodes.
    async fn explain(&self, caller: Caller, ask: BucketName) -> Result<Explanation, ApiError>;
    /// As they are, then whenever they change.
    async fn watch(&self, caller: Caller, ask: WatchBuckets) -> Result<Answers<BucketStep>, ApiError>;
    /// What its instances printed, everywhere.
    async fn logs(&self, caller: Caller, ask: BucketLogs) -> Result<Answers<LogLine>, ApiError>;
    /// Takes it from its node.
    async fn move_bucket(&self, caller: Caller, ask: MoveBucket) -> Result<Done, ApiError>;
    /// Switches it off.
    async fn suspend(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError>;
    /// Switches it on.
    async fn resume(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError>;
    /// Restarts its instances once.
    async fn restart(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError>;
    /// Throws away what it has collected.
    async fn purge(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError>;
    /// Runs it once, apart from the real one.
    async fn test(&self, caller: Caller, ask: TestBucket) -> Result<Answers<TestStep>, ApiError>;
    /// Its revisions, newest first.
    async fn history(&self, caller: Caller, ask: BucketHistory) -> Result<Page<BucketRelease>, ApiError>;
    /// Makes it what it was.
    async fn rollback(&self, caller: Caller, ask: RollbackBucket) -> Result<Done, ApiError>;
    /// Deletes it.
    async fn delete(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError>;
}
