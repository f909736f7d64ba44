//! Answers made for people and scripts. The field names are a promise.

mod access;
mod attention;
mod counts;
mod job;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Event, Gate, GateOutcome};

pub use access::{AuthorityRow, AuthorityStatus, AuthorityWait, TokenRow};
pub use attention::{Concern, Level, concerns};
pub use counts::{BucketCounts, JobCounts, NodeCounts};
pub use job::{FailedAttempts, FailureGroup, JobExplanation, JobRow, JobStatus, SubtaskRow};

/// Where a bucket stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the promised word; `about` says what it means")]
pub enum BucketState {
    Placing,
    Starting,
    Running,
    Partial,
    Unplaced,
    Failed,
    Suspended,
    Quarantined,
    Stopping,
    WaitingForNode,
}

impl BucketState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Placing,
        Self::Starting,
        Self::Running,
        Self::Partial,
        Self::Unplaced,
        Self::Failed,
        Self::Suspended,
        Self::Quarantined,
        Self::Stopping,
        Self::WaitingForNode,
    ];

    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placing => "placing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Partial => "partial",
            Self::Unplaced => "unplaced",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
            Self::Quarantined => "quarantined",
            Self::Stopping => "stopping",
            Self::WaitingForNode => "waiting_for_node",
        }
    }

    /// What it means, in half a sentence.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Placing => "nodes are being asked",
            Self::Starting => "placed, not yet running",
            Self::Running => "runs on every node it should",
            Self::Partial => "runs on some of the nodes it should",
            Self::Unplaced => "no node is available",
            Self::Failed => "gave up restarting everywhere",
            Self::Suspended => "switched off",
            Self::Quarantined => "stopped for a time by its module",
            Self::Stopping => "being stopped",
            Self::WaitingForNode => "waits for its lost node to return",
        }
    }
}

/// An instance, in `bucket status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct InstanceView {
    pub node: String,
    pub phase: String,
    pub epoch: Option<u64>,
    pub pid: Option<u32>,
    pub started_at: Option<String>,
    pub restarts: u32,
    pub message: String,
    pub revision: u64,
    /// The node's number: a lost one and the next may share a name. 0: an agent of a former release does not say it.
    #[serde(default)]
    pub node_id: u64,
}

/// `bucket list` rows, and without `instances` and rules what `bucket status` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct BucketRow {
    pub name: String,
    pub state: BucketState,
    #[serde(rename = "type")]
    pub kind: String,
    pub module: String,
    pub multi_node: bool,
    pub suspended: bool,
    pub node_affinity: Vec<String>,
    pub affinity_epoch: Option<u64>,
    pub affinity_since: Option<String>,
    pub desired: u32,
    pub running: u32,
    pub revision: u64,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// How far a bucket's next release has come, in `bucket status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RolloutView {
    /// The revision that nodes are released to.
    pub revision: u64,
    /// Nodes that are released to it, by name.
    pub released: Vec<String>,
    /// How many nodes there are in all.
    pub nodes: u32,
    /// Nodes that were released to it and are lost.
    pub waits_for: Vec<String>,
    /// Why no further node is released until an operator says so.
    pub stopped: Option<String>,
}

/// `bucket status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct BucketStatus {
    pub name: String,
    pub revision: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub module: String,
    pub multi_node: bool,
    pub suspended: bool,
    pub node_list_rules: Vec<String>,
    pub node_affinity: Vec<String>,
    pub affinity_epoch: Option<u64>,
    pub affinity_since: Option<String>,
    pub state: BucketState,
    pub desired: u32,
    pub running: u32,
    pub instances: Vec<InstanceView>,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Why the bucket is in this state, for people.
    pub message: String,
    /// While nodes are released to a change one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// RFC 3339; its module had it stopped until then.
    pub quarantined_until: Option<String>,
    /// Why its module had it stopped, or suspended.
    pub emergency: Option<String>,
    /// How many objects its module keeps.
    pub objects: u64,
    /// Bytes of their keys and values.
    pub object_bytes: u64,
    /// The last purge that was asked for; none: there was none since the bucket was last deleted.
    #[serde(default)]
    pub purge: Option<PurgeView>,
}

/// How far a purge is, in `bucket status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its word")]
pub struct PurgeView {
    /// The revision at which it was asked for.
    pub revision: u64,
    /// Nodes that have not done it yet.
    pub waiting: Vec<String>,
    /// Nodes where it failed.
    pub failed: Vec<PurgeFailure>,
}

/// A node where a purge failed, in `bucket status`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its word")]
pub struct PurgeFailure {
    pub node: String,
    pub message: String,
}

/// One gate of one node, in `bucket explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct GateView {
    pub gate: String,
    pub pass: Option<bool>,
    pub reason: String,
}

impl GateView {
    /// All gates, in their order.
    pub fn all(gates: &[GateOutcome; 3]) -> Vec<Self> {
        let view = |(gate, outcome): (Gate, &GateOutcome)| Self {
            gate: gate.as_str().to_owned(),
            pass: outcome.pass,
            reason: outcome.reason.to_string(),
        };
        Gate::ALL.into_iter().zip(gates).map(view).collect()
    }
}

/// One node, in `bucket explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct NodeExplanation {
    pub node: String,
    pub status: String,
    pub eligible: bool,
    pub running: bool,
    pub gates: Vec<GateView>,
    /// What keeps it from there whatever the gates say, for people; empty: nothing.
    pub obstacle: String,
    /// The node's number, as in [`InstanceView`].
    #[serde(default)]
    pub node_id: u64,
}

impl NodeExplanation {
    /// Whether the bucket may run there: all gates let it, and nothing else keeps it away.
    pub const fn is_open(&self) -> bool {
        self.eligible && self.obstacle.is_empty()
    }
}

/// Why a node was chosen, in `bucket explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct DecisionView {
    pub chosen: String,
    pub epoch: u64,
    pub at: String,
    pub why: String,
    /// Others that were available, best first: node and what spoke against it.
    pub runners_up: Vec<String>,
    /// The number of the node that was chosen, as in [`InstanceView`].
    #[serde(default)]
    pub chosen_id: u64,
}

/// `bucket explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct Explanation {
    pub name: String,
    pub state: BucketState,
    pub nodes: Vec<NodeExplanation>,
    pub decision: Option<DecisionView>,
    /// What stands in the way of a single-node start, if anything, for people.
    pub message: String,
}

/// `node list` rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct NodeRow {
    pub name: String,
    pub id: u64,
    pub hostname: String,
    pub address: String,
    pub status: String,
    pub voter: bool,
    pub leader: bool,
    pub labels: Vec<String>,
    /// First what is allowed, `*`: all; then what is denied, each with a `-` before it, which wins.
    pub allowed_modules: Vec<String>,
    pub version: String,
    pub cpu: u32,
    pub memory_used: u64,
    pub memory_total: u64,
    pub load: f64,
    pub buckets: u32,
    pub since: String,
}

/// `node status NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct NodeDetail {
    #[serde(flatten)]
    pub row: NodeRow,
    pub facts: NodeFacts,
    pub affinity: Vec<AffinityRow>,
    /// Subtasks of jobs that run there or lie ready.
    pub subtasks: u32,
}

/// What a node says of itself, in `node status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the config file and of `node list`")]
pub struct NodeFacts {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub config_labels: Vec<String>,
    pub given_labels: Vec<String>,
    pub disk_available: u64,
    pub late_timers: u64,
    /// By the queue's name; those that were never full are left out.
    #[serde(default)]
    pub full_queues: BTreeMap<String, u64>,
    pub notes: Vec<String>,
    pub reason: String,
    /// The newest revision that it has seen, as far as it told the present leader.
    #[serde(default)]
    pub seen: u64,
}

/// `node affinity` rows: what runs where, since when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct AffinityRow {
    pub bucket: String,
    pub node: String,
    pub hostname: String,
    pub epoch: Option<u64>,
    pub since: Option<String>,
    pub phase: String,
    pub why: String,
    pub multi_node: bool,
    /// The node's number, as in [`InstanceView`].
    #[serde(default)]
    pub node_id: u64,
}

/// A member, in `cluster status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct MemberRow {
    pub name: String,
    pub id: u64,
    pub voter: bool,
    pub role: String,
    pub match_lag: Option<u64>,
    pub address: String,
}

/// `cluster status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct ClusterStatus {
    pub leader: Option<String>,
    pub term: u64,
    pub commit: u64,
    pub members: Vec<MemberRow>,
    pub nodes: NodeCounts,
    pub buckets: BucketCounts,
    pub jobs: JobCounts,
    /// How many voters may fail now with the control plane still working.
    pub fault_tolerance: u32,
    pub cluster: String,
    pub revision: u64,
    /// What is wrong or still missing, for people; empty when all is well.
    pub message: String,
    /// Calls and nodes must say who they are; without it whoever reaches the port may do everything.
    pub secured: bool,
    /// Who asks, as its token says; none: it shows none, or nothing is secured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<Asker>,
}

/// Who asks and what it may do, in `cluster status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct Asker {
    /// Of its token.
    pub name: String,
    /// viewer, operator or admin.
    pub role: String,
    /// Of the buckets that it may change; empty: all that its role may.
    pub prefix: String,
}

/// What a snapshot is of: the head of its file, and `cluster snapshot inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SnapshotHead {
    pub cluster: String,
    /// How often the cluster had been founded anew.
    pub cluster_epoch: u64,
    pub revision: u64,
    pub nodes: u32,
    pub modules: u32,
    pub buckets: u32,
    /// The node whose database it is a copy of.
    pub node: String,
    /// Of the Sheaf that made it.
    pub version: String,
    /// By that node's clock.
    pub taken_at: String,
    /// Size of the database.
    pub bytes: u64,
}

/// The artifact of a module's version, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct ArtifactStatus {
    pub digest: String,
    pub size: u64,
    /// The name of the one file that was pushed; empty: a directory.
    pub file: String,
    pub revision: u64,
    /// Nodes that have it or some of it, as far as they answered.
    pub nodes: Vec<ArtifactOnNode>,
}

/// How much of an artifact a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct ArtifactOnNode {
    pub node: String,
    pub voter: bool,
    /// Hundredths; 100: all of it, verified.
    pub percent: u32,
    pub state: Holds,
}

/// So many instances of a module's version on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct ModuleOnNode {
    pub node: String,
    /// Empty: one that its bucket had before those it has now, and that was not looked up.
    pub version: String,
    /// The phase of these instances; `lost`: their node is, and nobody knows.
    pub state: String,
    pub instances: u32,
}

/// What a node is to an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// A voter, which keeps it.
    Held,
    /// Another node, which has it as long as it needs it or has room.
    Cached,
    /// Part of it is there, and the rest comes.
    Fetching,
    /// A voter that has nothing of it yet.
    Missing,
}

/// `module list` rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct ModuleRow {
    pub name: String,
    pub version: String,
    pub runtime: String,
    pub supports_multi_node: bool,
    pub buckets: u32,
    pub newest: bool,
    pub revision: u64,
}

/// `backend list` rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct BackendRow {
    pub name: String,
    /// `closed`, `open` or `trying`.
    pub state: String,
    pub running: u32,
    pub max_running: Option<u32>,
    pub rate: Option<String>,
    /// In a row.
    pub failures: u32,
    pub open_until: Option<String>,
    pub message: String,
    pub revision: u64,
    pub labels: BTreeMap<String, String>,
    pub owner: Option<String>,
}

/// `sink list` rows. What only the leader knows (`lag_…`, `next_try`) is absent where another node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct SinkRow {
    pub name: String,
    /// webhook, mail or exec.
    pub target: String,
    /// Where events go; of what is secret only its name.
    pub place: String,
    /// `idle`: all is delivered; `delivering`, `failing` or `suspended`.
    pub state: String,
    /// Everything up to this revision is delivered, or was not wanted.
    pub cursor: u64,
    /// Events that it wants and has not got; 10000: that many or more.
    pub lag_events: Option<u64>,
    /// How long ago the oldest of these happened.
    pub lag_seconds: Option<u64>,
    /// Events delivered, at least: what was delivered twice counts once or twice.
    pub delivered: u64,
    pub last_success: Option<String>,
    pub failing_since: Option<String>,
    /// In a row.
    pub failures: u32,
    pub last_error: String,
    pub next_try: Option<String>,
    /// How often history was dropped before it was delivered.
    pub missed: u64,
    /// What of history was dropped last, e.g. `revisions 17 to 4711`.
    pub missed_last: Option<String>,
    pub revision: u64,
    pub labels: BTreeMap<String, String>,
    pub owner: Option<String>,
}

/// `secret list` rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct SecretRow {
    pub name: String,
    pub key: String,
    pub revision: u64,
    pub at: String,
    pub actor: String,
}

/// `events` rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct EventRow {
    pub revision: u64,
    pub at: String,
    pub kind: String,
    pub subject: String,
    pub actor: String,
    pub node: String,
    pub before: String,
    pub after: String,
    pub message: String,
}

impl From<Event> for EventRow {
    fn from(event: Event) -> Self {
        Self {
            revision: event.revision.0,
            at: event.at.to_string(),
            kind: event.kind,
            subject: event.subject,
            actor: event.actor,
            node: event.node,
            before: event.before,
            after: event.after,
            message: event.message,
        }
    }
}
