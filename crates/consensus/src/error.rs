//! Errors of the replica's operations. Each says whether trying again can help, and where.

use std::time::Duration;

use sheaf_model::{NodeId, Term};
use sheaf_store::StoreError;

use crate::codec::CodecError;
use crate::writer::LoadError;

/// Why a replica could not be opened. Trying again helps only where another process has the directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Options that contradict each other.
    #[error("open the replica: {0}")]
    Options(String),
    /// The log's directory or files; among others, another process has them open.
    #[error("open the log in {dir}: {source}")]
    Log {
        /// Where.
        dir: String,
        /// What failed.
        source: std::io::Error,
    },
    /// The log holds what was never written like this, and not only at its end. What this member has promised the others
    /// stands there, so it takes no part before it has forgotten all of it.
    #[error(
        "the log in {dir} is damaged: {source}; this node cannot tell any more what it has voted for. Unless it is the \
         only member, the others have everything: move the whole data directory away and start the agent again, so that \
         it joins empty as a new node"
    )]
    LogDamaged {
        /// Where.
        dir: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The log was removed or lost while the database stayed: without its vote the member could vote twice in one term.
    #[error(
        "open the log in {dir}: it is new, but the database beside it is at entry {applied}; this node's log was lost, so move \
         the whole data directory away and start the agent again: it joins empty as a new node"
    )]
    LogLost {
        /// Where the log should be.
        dir: String,
        /// What the database holds.
        applied: u64,
    },
    /// The database.
    #[error("load the state: {0}")]
    Store(#[source] StoreError),
    /// The position stored in the database.
    #[error("load the state: {0}")]
    Position(#[source] CodecError),
    /// Log and database do not fit together, or hold what no correct member writes.
    #[error("start consensus: {0}")]
    Start(String),
    /// A thread or a runtime could not be made.
    #[error("start consensus' threads: {0}")]
    Threads(#[source] std::io::Error),
}

impl From<LoadError> for OpenError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => Self::Store(error),
            LoadError::Position(error) => Self::Position(error),
        }
    }
}

/// Why a proposal was not (or perhaps not) applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing happened; the leader, if one is known, takes proposals.
    #[error("propose: this node is not the leader{}", leader_text(*.leader))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Nothing happened: the decision was made in another term than the present one. Decide again.
    #[error("propose: decided in term {asked}, the term is {current} now")]
    WrongTerm {
        /// The term of the decision.
        asked: Term,
        /// The term now.
        current: Term,
    },
    /// Nothing happened: too many proposals wait already. Trying again later helps.
    #[error("propose: {waiting} proposals wait already")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// Nothing happened: the disk has no room but for votes. Works again when there is room.
    #[error("propose: only {free_bytes} bytes are free on the leader's disk")]
    DiskFull {
        /// What is left.
        free_bytes: u64,
    },
    /// Nothing happened and never will: one proposal must fit in one entry.
    #[error("propose: {bytes} bytes are more than the {limit} of one entry")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// Nothing happened and never will: the command cannot be written down.
    #[error("propose: {why}")]
    Encode {
        /// What the encoding says.
        why: String,
    },
    /// It was written, then leadership changed before it was known to be kept: it may be applied or not. Only a
    /// repetition under the same request id is safe.
    #[error("propose: leadership changed while it was being replicated; it may have been applied or not")]
    Unknown {
        /// Who leads now, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// This replica is closing or has failed. Whether it was applied is not known.
    #[error("propose: this replica has stopped")]
    Stopped,
}

impl ProposeError {
    /// Whether it may be applied nevertheless, now or later.
    pub const fn may_hold(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Stopped)
    }
}

/// Why a read could not be confirmed. Nothing was changed; trying again is safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Ask the leader.
    #[error("confirm leadership: this node is not the leader{}", leader_text(*.leader))]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// This node leads as far as it knows, but no majority said so in time.
    #[error("confirm leadership: no majority answered in time")]
    NoQuorum,
    /// The leader did not answer a follower's question.
    #[error("ask node {leader} for its read index: {why}")]
    LeaderSilent {
        /// Whom.
        leader: NodeId,
        /// What went wrong.
        why: String,
    },
    /// The leader's state did not arrive here in time.
    #[error("wait for what the leader has applied: not here after {after:?}")]
    Behind {
        /// How long it was waited for.
        after: Duration,
    },
    /// This replica is closing or has failed.
    #[error("confirm leadership: this replica has stopped")]
    Stopped,
}

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Ask the leader.
    #[error("{operation}: this node is not the leader{}", leader_text(*.leader))]
    NotLeader {
        /// What was asked.
        operation: &'static str,
        /// Who leads, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Another change is under way, or the leader is too new: trying again helps.
    #[error("{operation}: not now: {why}")]
    NotNow {
        /// What was asked.
        operation: &'static str,
        /// What is in the way.
        why: String,
    },
    /// Never possible as asked: no voter left, a voter that is no member, a cluster that is formed already.
    #[error("{operation}: {why}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Why not.
        why: String,
    },
    /// Leadership changed meanwhile: look at the membership before trying again.
    #[error("{operation}: leadership changed meanwhile; it may have been done or not")]
    Unknown {
        /// What was asked.
        operation: &'static str,
    },
    /// This replica is closing or has failed.
    #[error("{operation}: this replica has stopped")]
    Stopped {
        /// What was asked.
        operation: &'static str,
    },
}

/// Why consensus ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The core has failed; nothing works any more and the process must restart.
    #[error("consensus has failed: {0}")]
    Failed(String),
}

fn leader_text(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| ", and none is known".to_owned(), |leader| format!(", node {leader} is"))
}
