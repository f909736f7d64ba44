//! What an agent and the leader say to each other in a session. Ephemeral; never in the log.
//!
//! ```text
//!  agent                                             leader
//!    ├─ Hello ────────────────────────────────────────►│ the former session of that node ends
//!    │◄──────────────────────────── Welcome or Redirect┤
//!    ├─ Heartbeat{sent_at} ───────────────────────────►│ quorum round begun after receiving it
//!    │◄── Acknowledged{sent_at, ttl, epochs, heartbeat} ┤
//!    ├─ Verdicts, Phases{seq}, GaveUp, NothingLeft ───►│ proposes what follows from them
//!    │◄──────────────────────────────── Recorded{seq} ─┤
//!    │◄────────────────────────────────── Run, StopAttempts ┤ attempts that are granted to the node
//!    ├─ Ends{seq} ──────────────────────────────────────►│ proposes to record them
//!    │◄─────────────────────────── EndsRecorded{seq} ─┤
//!    │◄──────────────────────────────────── JobsGone ─┤ of which it keeps something, as it said in Hello
//!    │◄──────────────────────────────────── GiveBack ─┤ what the node is not to run, if it said in Hello that it does so
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, Attempt, AttemptEnd, BackendName, BootId, BucketName, BucketSpec, ClusterId, Contact, Epoch,
    Facts, Incarnation, Instance, JobId, JobSpec, Json, Load, ModuleSpec, Moment, NodeId, NodeKey, Revision,
    Sealed, SecretName, Span, Traced, Verdict,
};

/// From an agent to the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToLeader {
    /// The first message of a session.
    Hello(Box<Hello>),
    /// I am here, and this is when I said so.
    Heartbeat(Heartbeat),
    /// Answers for buckets; each replaces the former one of that bucket.
    Verdicts(Vec<Arc<Verdict>>),
    /// Instances that changed; kept by the node and sent again until `Recorded` with this number.
    Phases {
        /// Grows with each message of this life of the agent; one that is said again in its session keeps its own, without what
        /// has changed since.
        seq: u64,
        /// The whole of each instance that changed.
        instances: Vec<Instance>,
    },
    /// This epoch is given up, durably, with nothing of it alive. Said again until the binding is gone.
    GaveUp {
        /// The bucket.
        bucket: BucketName,
        /// Every epoch up to this one.
        epoch: Epoch,
    },
    /// Nothing multi-node of this name is alive or will be started from a state up to this revision.
    NothingLeft {
        /// The bucket's name.
        bucket: BucketName,
        /// Up to which ending.
        revision: Revision,
    },
    /// A purge that was asked for is done here, or came to nothing. Said again until it is not waited for any more.
    Purged {
        /// The bucket.
        bucket: BucketName,
        /// Which purge.
        revision: Revision,
        /// Why it failed, for people; empty: it did not.
        failure: String,
    },
    /// The answer to `Judge`.
    Judged {
        /// Echo of the question.
        question: u64,
        /// All three gates, for the bucket as asked; its revision is 0.
        verdict: Verdict,
    },
    /// The node's facts changed (its config was read again).
    Facts(Facts),
    /// This node is to be left without work before its agent stops: what is bound to it is to go elsewhere, and nothing
    /// more is to come. Said again in every session.
    Release,
    /// Attempts that ended; kept by the node and sent again until `EndsRecorded` with this number.
    Ends {
        /// Grows with each message of this life of the agent.
        seq: u64,
        /// By job.
        ends: Vec<(JobId, Vec<AttemptEnd>)>,
    },
    /// Take no more of me: what is granted and not begun here is handed back. Said again in every session.
    NoMoreWork,
    /// The agent stops in an orderly way; what it runs stays for its successor.
    Goodbye,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
    /// Its data directory.
    pub key: NodeKey,
    /// This boot of the machine.
    pub boot: BootId,
    /// This life of the agent.
    pub incarnation: Incarnation,
    /// What it says of itself now; the leader records them if they changed.
    pub facts: Facts,
    /// No leader has welcomed this life of the agent yet: a former one may still run what it runs.
    #[serde(default)]
    pub fresh: bool,
    /// A stand-in speaks for this life of the agent, which is restarting: leases are to be prolonged, nothing is to be
    /// asked or placed.
    #[serde(default)]
    pub stand_in: bool,
    /// What it does of jobs; none: it takes no subtasks.
    #[serde(default)]
    pub work: Option<Work>,
}

/// What an agent does of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// How many subtasks it runs at a time.
    pub slots: u32,
    /// Attempts that it was given in this life and that are not recorded as ended: what else the cluster knows to run there
    /// did not arrive, and is sent again.
    pub held: Vec<Attempt>,
    /// Jobs of which it keeps something on its disk, as what attempts have printed; none: it does not say, and is not told when
    /// they are gone.
    #[serde(default)]
    pub kept: Option<Vec<JobId>>,
    /// It gives back what it is asked for. Agents of earlier versions do not, and would not understand.
    #[serde(default)]
    pub gives_back: bool,
}

/// Attempts of one job for one node. An attempt that the node was given before is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job: JobId,
    /// What it is.
    pub spec: Arc<JobSpec>,
    /// Its module.
    pub module: Arc<ModuleSpec>,
    /// What to run.
    pub subtasks: Vec<OrderedSubtask>,
    /// What the module names in environment, files and its list, as far as it is set; sealed, for the node to open.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, Sealed>,
    /// What the documents of backends say in `config`, of those that its subtasks go through.
    #[serde(default)]
    pub backends: BTreeMap<BackendName, Json>,
    /// What was pushed for the module's version; none: nothing.
    #[serde(default)]
    pub artifact: Option<Arc<Artifact>>,
    /// Before what else lies ready these begin, and behind what; none: as the job's document says. Leaders of earlier versions do not
    /// say.
    #[serde(default)]
    pub priority: Option<u8>,
}

/// See [`Order`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderedSubtask {
    /// Which.
    pub subtask: u32,
    /// Which of its attempts.
    pub attempt: u32,
    /// Through which backend.
    #[serde(default)]
    pub backend: Option<BackendName>,
    /// What it is about: an array's number, or an item's value.
    pub item: Json,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When it was sent, by the node's own clock; echoed in the acknowledgement.
    pub sent_at: Moment,
    /// How busy the node is.
    pub load: Load,
    /// The newest state the node has seen.
    pub seen: Revision,
}

/// From the leader to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    /// The session stands.
    Welcome {
        /// How far apart heartbeats are to be, until an acknowledgement says otherwise.
        heartbeat: Span,
        /// For so long no single-node work may be started (what runs is prolonged): a former life of this node's agent
        /// was heard lately.
        #[serde(default)]
        start_in: Span,
    },
    /// Not the leader. The session ends here.
    Redirect {
        /// Where the leader is, as far as known.
        leader: Option<String>,
        /// Which node it is, as far as known. Nodes of earlier versions do not say.
        #[serde(default)]
        node: Option<NodeId>,
    },
    /// Not welcome, and why: another cluster, an unknown node, a second incarnation. The session ends here.
    Refused {
        /// For people.
        reason: String,
        /// Whether asking again later can help.
        retry: bool,
        /// The node was forgotten: nothing of it may run any more.
        #[serde(default)]
        left: bool,
    },
    /// A heartbeat is acknowledged: the epochs named are valid until `sent_at + ttl`.
    Acknowledged(Acknowledged),
    /// Would you run this, and why not? For `plan`: nothing is started, kept or reported of it but the one `Judged`,
    /// also after checks that take long; gate 3 is asked as before a start.
    Judge {
        /// Number of the question, echoed.
        question: u64,
        /// The bucket as it would be, its module's version fixed.
        spec: Arc<BucketSpec>,
        /// That module; it need not be registered.
        module: Arc<ModuleSpec>,
        /// It stands for a job: the module's artifact is fetched if it is not here, and this is asked again then.
        #[serde(default)]
        fetch: bool,
    },
    /// Attempts that are granted to this node.
    Run(Vec<Order>),
    /// These attempts are to be stopped, as their subtasks are canceled.
    StopAttempts(Vec<Attempt>),
    /// The ends of attempts in this message are in the log; of those before it that says nothing.
    EndsRecorded {
        /// Number of the message.
        seq: u64,
    },
    /// The phases in this message are in the log; of those before it that says nothing.
    Recorded {
        /// Number of the message.
        seq: u64,
    },
    /// These jobs are deleted: nothing is to be kept of them.
    JobsGone(Vec<JobId>),
    /// What this node has of these jobs and has not begun is not to begin here: it is handed back. What comes of them later is to run
    /// again. Said only to those that say [`Work::gives_back`].
    GiveBack {
        /// The jobs.
        jobs: Vec<JobId>,
        /// What has begun is stopped and handed back as well.
        begun: bool,
    },
}

/// See [`ToNode::Acknowledged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Echo of the boot that the heartbeat came from.
    pub boot: BootId,
    /// Echo of the heartbeat.
    pub sent_at: Moment,
    /// How long, counted from `sent_at`.
    pub ttl: Span,
    /// What the applied state binds to this node and the leader has not fenced. What is not named is not prolonged.
    pub epochs: Vec<(BucketName, Epoch)>,
    /// How far apart heartbeats are to be from now on; 0: a leader of an earlier version does not say.
    #[serde(default)]
    pub heartbeat: Span,
    /// When this node's own record last changed, in the applied state: what the node has seen of itself may be older.
    /// Leaders of earlier versions do not say.
    #[serde(default)]
    pub own: Revision,
    /// What changed buckets since the acknowledgement before, where a trace is kept of it. For telemetry alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Traced>,
}

impl ToNode {
    /// Ask there; none: who leads is not known now.
    pub fn redirect(leader: Option<Contact>) -> Self {
        let node = leader.as_ref().and_then(|leader| leader.node);
        Self::Redirect { leader: leader.map(|leader| leader.address), node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_agents_do_not_say_is_not_asked_of_them() {
        let former: Work = serde_json::from_str(r#"{"slots": 4, "held": []}"#).unwrap();
        assert_eq!(former, Work { slots: 4, ..Work::default() });
        assert!(!former.gives_back && former.kept.is_none());
    }
}
