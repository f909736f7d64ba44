//! What openraft's type parameters are here, and conversions that would otherwise be written everywhere.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::impls::{BasicNode, leader_id_std};
use openraft::type_config::alias;
use openraft::vote::leader_id_std::CommittedLeaderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sheaf_engine::Reply;
use sheaf_model::{NodeId, Revision, Term};

openraft::declare_raft_types!(
    /// One leader per term (standard Raft), so that a term alone names a leader and a log id is (term, index).
    pub(crate) Types:
        D = Payload,
        R = Replies,
        NodeId = u64,
        Node = BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, BasicNode>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type Raft = openraft::Raft<Types, crate::machine::Machine>;

/// A batch of proposals in its stored form (`codec::encode_batch`): encoded once, by the callers that propose, then
/// the same bytes go to the log, to the peers and to their logs, and every replica applies what it decodes from them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying one entry answered, one item per proposal in the batch's order; empty for entries that carry none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies {
    pub(crate) term: Term,
    pub(crate) items: Vec<(Revision, Reply)>,
    /// When applying began, and how long it took; none: nothing was applied.
    pub(crate) applied: Option<(Instant, Duration)>,
}

// openraft's feature `serde` demands these of every type; nothing of ours is ever encoded by them (see `codec`).
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a payload is encoded by codec"))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a payload is decoded by codec"))
    }
}

impl Serialize for Replies {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("replies stay in memory"))
    }
}

impl<'de> Deserialize<'de> for Replies {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("replies stay in memory"))
    }
}

/// The log id of `index` written in `term`.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// The term a log id was written in.
pub(crate) fn term_of(log_id: &LogId) -> Term {
    Term(log_id.leader_id.term)
}

/// A member as openraft names it.
pub(crate) fn node_id(raw: u64) -> NodeId {
    NodeId(raw)
}
