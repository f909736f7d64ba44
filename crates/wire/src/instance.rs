//! Instances over the wire: what a bucket's module asks, and the objects that it keeps.

mod client;
mod convert;
mod serve;

use sheaf_model::{
    BucketName, Claim, ObjectKey, ObjectValue, RequestId, Revision, Sealed, SecretName, Timestamp,
};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{Answers, ApiError, Caller, Done, Page, PageOf, async_trait};

/// See `InstanceService.GetObject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetObject {
    /// The bucket.
    pub bucket: BucketName,
    /// Which of its objects.
    pub key: ObjectKey,
}

/// An object without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its key.
    pub key: ObjectKey,
    /// The revision of its last change.
    pub version: Revision,
    /// Bytes of its value.
    pub size: u32,
    /// When it last changed.
    pub at: Timestamp,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GotObject {
    /// What else is known of it.
    pub head: ObjectHead,
    /// Its value.
    pub value: ObjectValue,
}

/// See `InstanceService.ListObjects`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjects {
    /// The bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// Which part.
    pub page: PageOf,
}

/// See `InstanceService.WatchObjects`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchObjects {
    /// The bucket.
    pub bucket: BucketName,
    /// Keys that begin so.
    pub prefix: String,
    /// Only what changed after it; none: everything first.
    pub after: Option<Revision>,
}

/// One step of a watch of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStep {
    /// Of which revision.
    pub revision: Revision,
    /// What happened.
    pub change: ObjectChange,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange {
    /// Forget what was known: all of it follows.
    Reset,
    /// It was written, or is there.
    Put(ObjectHead),
    /// It is gone.
    Gone(ObjectKey),
    /// All up to this revision has been said.
    Synced,
}

/// See `InstanceService.PutObject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutObject {
    /// The bucket.
    pub bucket: BucketName,
    /// Which of its objects.
    pub key: ObjectKey,
    /// Its new value.
    pub value: ObjectValue,
    /// Refused as conflicting unless it is at this version; 0: unless there is none.
    pub base: Option<Revision>,
    /// Who writes.
    pub claim: Claim,
    /// The same again is answered as the first time; 0: none.
    pub token: u64,
}

/// See `InstanceService.DeleteObject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteObject {
    /// The bucket.
    pub bucket: BucketName,
    /// Which of its objects.
    pub key: ObjectKey,
    /// Refused as conflicting if it is at another version.
    pub base: Option<Revision>,
    /// Who deletes.
    pub claim: Claim,
}

/// See `InstanceService.AddStatusLine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddStatusLine {
    /// The bucket.
    pub bucket: BucketName,
    /// Who says it.
    pub claim: Claim,
    /// Of what kind; not empty, not too long.
    pub kind: String,
    /// The line; not empty, not too long.
    pub text: String,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

/// See `InstanceService.Disable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisableBucket {
    /// The bucket.
    pub bucket: BucketName,
    /// Who asks.
    pub claim: Claim,
    /// Why; not empty, not too long.
    pub reason: String,
}

/// See `InstanceService.Quarantine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineBucket {
    /// The bucket.
    pub bucket: BucketName,
    /// Who asks.
    pub claim: Claim,
    /// Until when.
    pub until: Timestamp,
    /// Why; not empty, not too long.
    pub reason: String,
}

/// A node that runs a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNode {
    /// Its name.
    pub name: String,
    /// Its hostname.
    pub hostname: String,
    /// All its labels.
    pub labels: Vec<String>,
}

/// See `InstanceService.GetSecret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetSecret {
    /// The bucket.
    pub bucket: BucketName,
    /// Who asks.
    pub claim: Claim,
    /// Which secret.
    pub name: SecretName,
}

/// What answers `sheaf.v1.InstanceService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait InstanceApi: Send + Sync + 'static {
    /// An object with its value.
    async fn get_object(&self, caller: Caller, ask: GetObject) -> Result<GotObject, ApiError>;
    /// A page of objects by key.
    async fn list_objects(&self, caller: Caller, ask: ListObjects) -> Result<Page<ObjectHead>, ApiError>;
    /// Every object, then what changes.
    async fn watch_objects(&self, caller: Caller, ask: WatchObjects)
    -> Result<Answers<ObjectStep>, ApiError>;
    /// Writes an object.
    async fn put_object(&self, caller: Caller, ask: PutObject) -> Result<Done, ApiError>;
    /// Deletes an object.
    async fn delete_object(&self, caller: Caller, ask: DeleteObject) -> Result<Done, ApiError>;
    /// Adds a line to the bucket's history.
    async fn add_status_line(&self, caller: Caller, ask: AddStatusLine) -> Result<Done, ApiError>;
    /// Has the bucket suspended.
    async fn disable(&self, caller: Caller, ask: DisableBucket) -> Result<Done, ApiError>;
    /// Has the bucket stopped for a time.
    async fn quarantine(&self, caller: Caller, ask: QuarantineBucket) -> Result<Done, ApiError>;
    /// The nodes that run the bucket.
    async fn peers(&self, caller: Caller, ask: BucketName) -> Result<Vec<PeerNode>, ApiError>;
    /// A secret that the bucket's module names, sealed.
    async fn secret(&self, caller: Caller, ask: GetSecret) -> Result<Sealed, ApiError>;
}
