//! Nodes: machines that run the agent, and what they say of themselves.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Contact, FullQueues, NodeId, NodeKey, NodeName, Revision, Span, Timestamp, Trusting};

/// Where a node stands, as recorded in the replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeStatus {
    /// Registered, not yet heard in a session.
    Joining,
    /// Heard, and takes work.
    Ready,
    /// Its agent is away by plan and a stand-in holds its leases, or it is about to go and hands them over: nothing new is
    /// bound to it.
    Restarting,
    /// An operator is emptying it.
    Draining,
    /// Not heard of for as long as a lease lasts and a margin.
    Lost,
    /// Said goodbye, or was forgotten.
    Left,
}

impl NodeStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Joining, Self::Ready, Self::Restarting, Self::Draining, Self::Lost, Self::Left];

    /// The word in answers. (`suspect` is said by the leader alone and never recorded.)
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Draining => "draining",
            Self::Lost => "lost",
            Self::Left => "left",
        }
    }

    /// Whether the node can hold its name against another: it is neither lost nor left.
    pub const fn is_alive(self) -> bool {
        !matches!(self, Self::Lost | Self::Left)
    }
}

/// What a node says of itself when it registers and when its config changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name, unique among nodes that are alive.
    pub name: NodeName,
    /// What `node_list_rules` match; need not be unique.
    pub hostname: String,
    /// Where others reach its gRPC port, `host:port`.
    pub address: String,
    /// Labels from its config file.
    pub labels: Vec<String>,
    /// Names or globs of modules it allows; empty: all.
    pub allow: Vec<String>,
    /// Names or globs of modules it denies; wins over `allow`.
    pub deny: Vec<String>,
    /// Version of its binary.
    pub version: String,
    /// Number of processor cores.
    pub cpu: u32,
    /// Memory of the machine.
    pub memory_total: Bytes,
    /// What else is worth knowing, one line each, e.g. `limits: memory not enforceable (no cgroup)`.
    pub notes: Vec<String>,
}

impl Facts {
    /// What people may call it by: the host of its address, its hostname, its name. Some may be the same.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let address = self.address.rsplit_once(':').map(|(host, _)| host);
        address.into_iter().chain([self.hostname.as_str(), self.name.as_str()])
    }
}

/// How an operator empties a node. Stands until it is undone, also while the node is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// After so long what could not go elsewhere is stopped; each leader counts from when it first sees the drain.
    /// None: it stays until it can go.
    pub deadline: Option<Span>,
    /// Multi-node buckets go on running there.
    pub keep_multi_node: bool,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// The data directory that holds this registration.
    pub key: NodeKey,
    /// What it says of itself.
    pub facts: Facts,
    /// Labels given by `sheaf node label`.
    pub given_labels: Vec<String>,
    /// Where it stands.
    pub status: NodeStatus,
    /// Since when.
    pub since: Timestamp,
    /// Why, when that is not plain.
    pub reason: String,
    /// When it registered; it starts nothing from a state older than this.
    pub registered: Revision,
    /// When this record last changed.
    pub revision: Revision,
    /// It is being emptied.
    pub drain: Option<Drain>,
    /// It may become a voter. Members of earlier versions do not say.
    #[serde(default = "yes")]
    pub may_vote: bool,
}

const fn yes() -> bool {
    true
}

impl Node {
    /// Where it is reached, and that it must be this one.
    pub fn contact(&self) -> Contact {
        Contact::of(self.id, &self.facts.address)
    }

    /// All its labels, config file first, each once.
    pub fn labels(&self) -> Vec<String> {
        let mut all = self.facts.labels.clone();
        for label in &self.given_labels {
            if !all.contains(label) {
                all.push(label.clone());
            }
        }
        all
    }
}

/// How busy a node is. Ephemeral: in heartbeats and the leader's memory, never in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// One-minute load average.
    pub load: f64,
    /// Memory in use.
    pub memory_used: Bytes,
    /// Space available where instances are kept.
    pub disk_available: Bytes,
    /// That is not known, and says 0: its file system did not answer. Agents of earlier versions do not say.
    #[serde(default)]
    pub disk_unknown: bool,
    /// Own timers that fired more than 50 ms late since the agent started: a starved machine must be visible.
    pub late_timers: u64,
    /// How often its bounded queues were full since then. Agents of earlier versions do not say.
    #[serde(default)]
    pub full_queues: FullQueues,
    /// Whom it believes. Agents of earlier versions do not say.
    #[serde(default)]
    pub trust: Trusting,
}
