//! What a bucket keeps in the cluster, as its module sees it.

use crate::proto;

/// Longest value of an object, and longest checkpoint, in bytes.
pub const OBJECT_MAX: usize = 512 << 10;

/// An object with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Grows with each write to it, and is never given twice.
    pub version: u64,
    /// What was written.
    pub value: Vec<u8>,
}

/// An object without its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its key.
    pub key: String,
    /// See [`Object::version`].
    pub version: u64,
    /// Bytes of its value.
    pub size: u32,
}

/// A part of a list of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// By key.
    pub objects: Vec<ObjectHead>,
    /// To go on with; empty: that was all.
    pub next: String,
}

/// One step of a watch of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStep {
    /// The revision that it is of.
    pub revision: u64,
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
    /// The object of this key is gone.
    Gone(String),
    /// All so far has been said.
    Synced,
}

impl From<ObjectHead> for proto::ObjectHead {
    fn from(it: ObjectHead) -> Self {
        Self { key: it.key, version: it.version, size: it.size }
    }
}

impl From<proto::ObjectHead> for ObjectHead {
    fn from(it: proto::ObjectHead) -> Self {
        Self { key: it.key, version: it.version, size: it.size }
    }
}

impl From<ObjectPage> for proto::ListObjectsResponse {
    fn from(page: ObjectPage) -> Self {
        Self { objects: page.objects.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<proto::ListObjectsResponse> for ObjectPage {
    fn from(page: proto::ListObjectsResponse) -> Self {
        Self { objects: page.objects.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

impl From<ObjectStep> for proto::ObjectChange {
    fn from(step: ObjectStep) -> Self {
        use proto::ObjectChangeKind as Kind;
        let (kind, object) = match step.change {
            ObjectChange::Reset => (Kind::Reset, None),
            ObjectChange::Put(head) => (Kind::Put, Some(head)),
            ObjectChange::Gone(key) => (Kind::Gone, Some(ObjectHead { key, ..ObjectHead::default() })),
            ObjectChange::Synced => (Kind::Synced, None),
        };
        Self { revision: step.revision, kind: kind.into(), object: object.map(Into::into) }
    }
}

impl ObjectStep {
    /// None: of a kind that came later than this crate, and can be left out.
    pub(crate) fn read(step: proto::ObjectChange) -> Option<Self> {
        use proto::ObjectChangeKind as Kind;
        let (kind, revision) = (step.kind(), step.revision);
        let head = ObjectHead::from(step.object.unwrap_or_default());
        let change = match kind {
            Kind::Reset => ObjectChange::Reset,
            Kind::Put => ObjectChange::Put(head),
            Kind::Gone => ObjectChange::Gone(head.key),
            Kind::Synced => ObjectChange::Synced,
            Kind::Unspecified => return None,
        };
        Some(Self { revision, change })
    }
}
