//! How a row's body is written: a version byte, then postcard, then a checksum. Stored types know their predecessor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sheaf_engine::backend::Backend;
use sheaf_engine::job::JobV1;
use sheaf_engine::job::dependency::Dependencies;
use sheaf_engine::job::step::{Detail, Ran, Step, Transitions};
use sheaf_engine::job::submit::{Items, Submit};
use sheaf_engine::sink::Sink;
use sheaf_engine::{
    Bucket, Cluster, Emergency, Job, Module, Object, Pushed, Release, Reply, Request, Rollout, Secret,
};
use sheaf_model::fingerprint::{FNV_BASIS, fnv};
use sheaf_model::{
    Actor, AuthorityRecord, AuthorityStage, Binding, ClusterEpoch, ClusterId, Digest, Drain, Facts,
    HistorySettings, Instance, JobId, JobSettings, ModuleSpecV1, ModuleSpecV2, Node, NodeId, NodeKey,
    NodeStatus, ObjectValue, Repair, RequestId, Residue, Revision, Settings, Timestamp, TokenRecord,
};

/// A type whose encoding lies on disk.
///
/// When its shape changes, the old shape is kept as a type of its own beside the new one and becomes `Previous`, and
/// `VERSION` grows by one: what any earlier Sheaf wrote is read through the chain of predecessors.
pub(crate) trait Stored: Serialize + DeserializeOwned {
    /// The version byte.
    const VERSION: u8;
    /// What was written before this version.
    type Previous: Stored;
    /// The same value in today's shape.
    fn from_previous(previous: Self::Previous) -> Self;
}

/// The predecessor of every first version. Has no values.
#[derive(Serialize, Deserialize)]
pub(crate) enum Nothing {}

impl Stored for Nothing {
    const VERSION: u8 = 0;
    type Previous = Self;
    fn from_previous(previous: Self) -> Self {
        previous
    }
}

macro_rules! first_version {
    ($($stored:ty),* $(,)?) => {$(
        impl Stored for $stored {
            const VERSION: u8 = 1;
            type Previous = Nothing;
            fn from_previous(previous: Nothing) -> Self {
                match previous {}
            }
        }
    )*};
}

first_version!(
    ClusterV1,
    NodeV1,
    ModuleV1,
    BucketV1,
    Binding,
    Residue,
    Instance,
    RequestV1,
    Release,
    Object,
    Pushed,
    JobV1,
    Submit,
    Items,
    Dependencies,
    TransitionsV1,
    Secret,
    Backend,
    TokenRecord,
    AuthorityRecordV1,
    Sink
);

impl Stored for Job {
    const VERSION: u8 = 2;
    type Previous = JobV1;
    fn from_previous(previous: JobV1) -> Self {
        previous.into()
    }
}

/// What a command did to subtasks before it was kept who caused it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransitionsV1 {
    job: JobId,
    number: u64,
    revision: Revision,
    at: Timestamp,
    steps: Vec<Step>,
    ran: Vec<Ran>,
    details: Vec<Detail>,
}

impl Stored for Transitions {
    const VERSION: u8 = 2;
    type Previous = TransitionsV1;
    fn from_previous(previous: TransitionsV1) -> Self {
        let TransitionsV1 { job, number, revision, at, steps, ran, details } = previous;
        Self { job, number, revision, at, steps, ran, details, actor: Actor::default() }
    }
}

/// An authority before another one could take its place: each that is there issued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AuthorityRecordV1 {
    fingerprint: Digest,
    certificate: ObjectValue,
    revision: Revision,
    added_at: Timestamp,
}

impl Stored for AuthorityRecord {
    const VERSION: u8 = 2;
    type Previous = AuthorityRecordV1;
    fn from_previous(previous: AuthorityRecordV1) -> Self {
        let AuthorityRecordV1 { fingerprint, certificate, revision, added_at } = previous;
        let (stage, bridge) = (AuthorityStage::Issues, None);
        Self { fingerprint, certificate, revision, added_at, stage, bridge }
    }
}

/// A request of which it was not kept what it asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestV1 {
    id: RequestId,
    revision: Revision,
    at: Timestamp,
    reply: Reply,
}

impl Stored for Request {
    const VERSION: u8 = 2;
    type Previous = RequestV1;
    fn from_previous(previous: RequestV1) -> Self {
        let RequestV1 { id, revision, at, reply } = previous;
        Self { id, revision, at, reply, asked: None }
    }
}

/// A node before it could be drained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeV1 {
    id: NodeId,
    key: NodeKey,
    facts: Facts,
    given_labels: Vec<String>,
    status: NodeStatus,
    since: Timestamp,
    reason: String,
    registered: Revision,
    revision: Revision,
}

/// A node before some of them could not become voters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeV2 {
    id: NodeId,
    key: NodeKey,
    facts: Facts,
    given_labels: Vec<String>,
    status: NodeStatus,
    since: Timestamp,
    reason: String,
    registered: Revision,
    revision: Revision,
    drain: Option<Drain>,
}

impl Stored for NodeV2 {
    const VERSION: u8 = 2;
    type Previous = NodeV1;
    fn from_previous(previous: NodeV1) -> Self {
        let NodeV1 { id, key, facts, given_labels, status, since, reason, registered, revision } = previous;
        let drain = None;
        Self { id, key, facts, given_labels, status, since, reason, registered, revision, drain }
    }
}

impl Stored for Node {
    const VERSION: u8 = 3;
    type Previous = NodeV2;
    fn from_previous(previous: NodeV2) -> Self {
        let NodeV2 { id, key, facts, given_labels, status, since, reason, registered, revision, drain } =
            previous;
        let may_vote = true;
        Self { id, key, facts, given_labels, status, since, reason, registered, revision, drain, may_vote }
    }
}

/// A module before it could say anything of the calls of a bucket's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModuleV1 {
    spec: ModuleSpecV1,
    revision: Revision,
    at: Timestamp,
}

/// A module before it could name secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModuleV2 {
    spec: ModuleSpecV2,
    revision: Revision,
    at: Timestamp,
}

impl Stored for ModuleV2 {
    const VERSION: u8 = 2;
    type Previous = ModuleV1;
    fn from_previous(previous: ModuleV1) -> Self {
        let ModuleV1 { spec, revision, at } = previous;
        Self { spec: spec.into(), revision, at }
    }
}

impl Stored for Module {
    const VERSION: u8 = 3;
    type Previous = ModuleV2;
    fn from_previous(previous: ModuleV2) -> Self {
        let ModuleV2 { spec, revision, at } = previous;
        Self { spec: Arc::new(spec.into()), revision, at }
    }
}

/// A cluster before lost voters were replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClusterV1 {
    id: Option<ClusterId>,
    epoch: ClusterEpoch,
    settings: Settings,
    former: Option<Settings>,
    nodes_ever: u64,
    formed_at: Timestamp,
}

/// A cluster before it knew when its lease's settings last changed, and what jobs may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClusterV2 {
    id: Option<ClusterId>,
    epoch: ClusterEpoch,
    settings: Settings,
    former: Option<Settings>,
    nodes_ever: u64,
    formed_at: Timestamp,
    repair: Repair,
}

impl Stored for ClusterV2 {
    const VERSION: u8 = 2;
    type Previous = ClusterV1;
    fn from_previous(previous: ClusterV1) -> Self {
        let ClusterV1 { id, epoch, settings, former, nodes_ever, formed_at } = previous;
        Self { id, epoch, settings, former, nodes_ever, formed_at, repair: Repair::default() }
    }
}

/// A cluster before it knew how much history is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClusterV3 {
    id: Option<ClusterId>,
    epoch: ClusterEpoch,
    settings: Settings,
    former: Option<Settings>,
    nodes_ever: u64,
    formed_at: Timestamp,
    repair: Repair,
    lease_changed: Revision,
    jobs: JobSettings,
}

impl Stored for Cluster {
    const VERSION: u8 = 4;
    type Previous = ClusterV3;
    fn from_previous(previous: ClusterV3) -> Self {
        let ClusterV3 { id, epoch, settings, former, nodes_ever, formed_at, repair, lease_changed, jobs } =
            previous;
        let history = HistorySettings::default();
        Self { id, epoch, settings, former, nodes_ever, formed_at, repair, lease_changed, jobs, history }
    }
}

impl Stored for ClusterV3 {
    const VERSION: u8 = 3;
    type Previous = ClusterV2;
    fn from_previous(previous: ClusterV2) -> Self {
        let ClusterV2 { id, epoch, settings, former, nodes_ever, formed_at, repair } = previous;
        let (lease_changed, jobs) = (Revision(0), JobSettings::default());
        Self { id, epoch, settings, former, nodes_ever, formed_at, repair, lease_changed, jobs }
    }
}

/// A bucket before rollouts could stop, and nodes could begin anew one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BucketV1 {
    current: Release,
    next: Option<RolloutV1>,
    suspended: bool,
    revision: Revision,
    created: Revision,
    restarted: Revision,
    gave_up: BTreeMap<NodeId, String>,
}

/// See [`BucketV1`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RolloutV1 {
    release: Release,
    released: BTreeSet<NodeId>,
}

/// A bucket before its module could have it stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BucketV2 {
    current: Release,
    next: Option<Rollout>,
    suspended: bool,
    revision: Revision,
    created: Revision,
    restarted: Revision,
    gave_up: BTreeMap<NodeId, String>,
    again: BTreeMap<NodeId, Revision>,
}

impl Stored for BucketV2 {
    const VERSION: u8 = 2;
    type Previous = BucketV1;
    fn from_previous(previous: BucketV1) -> Self {
        let BucketV1 { current, next, suspended, revision, created, restarted, gave_up } = previous;
        let next = next.map(|RolloutV1 { release, released }| Rollout {
            release,
            released,
            ran: BTreeSet::new(),
            stopped: None,
        });
        let again = BTreeMap::new();
        Self { current, next, suspended, revision, created, restarted, gave_up, again }
    }
}

/// A bucket before it could be purged, or be a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BucketV3 {
    current: Release,
    next: Option<Rollout>,
    suspended: bool,
    revision: Revision,
    created: Revision,
    restarted: Revision,
    gave_up: BTreeMap<NodeId, String>,
    again: BTreeMap<NodeId, Revision>,
    emergency: Option<Emergency>,
}

impl Stored for BucketV3 {
    const VERSION: u8 = 3;
    type Previous = BucketV2;
    fn from_previous(previous: BucketV2) -> Self {
        let BucketV2 { current, next, suspended, revision, created, restarted, gave_up, again } = previous;
        Self { current, next, suspended, revision, created, restarted, gave_up, again, emergency: None }
    }
}

impl Stored for Bucket {
    const VERSION: u8 = 4;
    type Previous = BucketV3;
    fn from_previous(previous: BucketV3) -> Self {
        let BucketV3 { current, next, suspended, revision, created, restarted, gave_up, again, emergency } =
            previous;
        Self {
            current,
            next,
            suspended,
            revision,
            created,
            restarted,
            gave_up,
            again,
            emergency,
            purge: None,
            trial: None,
        }
    }
}

/// Why a body cannot be read or written. The bytes stay what they are: trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer Sheaf.
    #[error("version {found} of its encoding is not known to this build, which reads up to {known}")]
    Newer {
        /// The version byte found.
        found: u8,
        /// The newest known.
        known: u8,
    },
    /// Not what it claims to be.
    #[error("its content is damaged: {0}")]
    Malformed(postcard::Error),
    /// What stands there can be read, and is not what was written.
    #[error("its content is damaged: it does not match its checksum")]
    Changed,
    /// No bytes at all.
    #[error("its content is missing")]
    Empty,
}

/// Bytes of the checksum behind a row: the lower ones of an FNV-1a, by which no change of a single byte goes unseen. SQLite has none
/// for its pages, and postcard reads most of what a flipped bit makes of a row. Earlier releases write none, and overlook what stands
/// behind a row. So many that one flipped bit of a length does not take it for a part of the row, which would have none then.
const SUM: usize = 7;

/// Of a row with its version byte.
fn sum(row: &[u8]) -> [u8; SUM] {
    let [sum @ .., _] = fnv(FNV_BASIS, row).to_le_bytes();
    sum
}

/// Puts the encoding of `value` in the place of what `out` holds.
pub(crate) fn encode<T: Stored>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.clear();
    out.push(T::VERSION);
    *out = postcard::to_extend(value, std::mem::take(out)).map_err(CodecError::Malformed)?;
    let sum = sum(out);
    out.extend_from_slice(&sum);
    Ok(())
}

/// Reads what this or any earlier version wrote.
pub(crate) fn decode<T: Stored>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if version == T::VERSION {
        let (value, behind) = postcard::take_from_bytes(body).map_err(CodecError::Malformed)?;
        let row = &bytes[..bytes.len() - behind.len()];
        match behind.len() {
            0 => Ok(value), // of an earlier release
            SUM if behind == sum(row) => Ok(value),
            _ => Err(CodecError::Changed),
        }
    } else if version < T::VERSION {
        decode(bytes).map(T::from_previous)
    } else {
        Err(CodecError::Newer { found: version, known: T::VERSION })
    }
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old(u8);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New(String);

    impl Stored for Old {
        const VERSION: u8 = 1;
        type Previous = Nothing;
        fn from_previous(previous: Nothing) -> Self {
            match previous {}
        }
    }

    impl Stored for New {
        const VERSION: u8 = 2;
        type Previous = Old;
        fn from_previous(previous: Old) -> Self {
            Self(previous.0.to_string())
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let mut bytes = Vec::new();
        encode(&Old(7), &mut bytes).unwrap();
        assert_eq!(decode::<New>(&bytes), Ok(New("7".to_owned())));
        encode(&New("8".to_owned()), &mut bytes).unwrap();
        assert_eq!(bytes[0], 2);
        assert_eq!(decode::<New>(&bytes), Ok(New("8".to_owned())));
    }

    #[test]
    fn what_is_not_as_it_was_written_is_not_read_and_what_has_no_checksum_is() {
        let mut bytes = Vec::new();
        encode(&New("a name".to_owned()), &mut bytes).unwrap();
        let (row, sum) = bytes.split_at(bytes.len() - SUM);
        let value = || Ok(New("a name".to_owned()));
        assert_eq!(decode::<New>(row), value(), "as an earlier release writes it");
        assert_eq!(postcard::from_bytes(&bytes[1..]).ok(), value().ok(), "as an earlier release reads it");
        assert_eq!(decode::<New>(&[row, &sum[1..]].concat()), Err(CodecError::Changed));
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(decode::<New>(&flipped).is_err(), "byte {at}, bit {bit}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(decode::<Old>(&[2, 7]), Err(CodecError::Newer { found: 2, known: 1 }));
        assert_eq!(decode::<Old>(&[]), Err(CodecError::Empty));
        assert!(matches!(decode::<Old>(&[1]), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<New>(&[0, 1]), Err(CodecError::Malformed(_))));
    }
}
