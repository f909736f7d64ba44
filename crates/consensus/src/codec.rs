//! Every byte that consensus writes to disk or sends to a peer, version 1, in one file so that golden files can pin it.
//!
//! Each encoding starts with its version. openraft's own types are never encoded: mirrors of a few fields stand in, so
//! that an upgrade of openraft cannot change what is on disk.
//!
//! ```text
//! entry      version u8 · kind u8 · postcard body      kind 0 blank (no body), 1 batch (Vec<Proposal>), 2 membership
//! log id     term u64 BE · index u64 BE                (raft-log's records carry their own length and checksum)
//! vote       version u8 · postcard
//! position   version u8 · postcard                     what SQLite holds: last applied log id, membership
//! peer       version u8 · kind u8 · postcard head · entries' bytes one after another (append only)
//! ```

use std::cmp::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::BasicNode;
use openraft::entry::RaftEntry;
use serde::{Deserialize, Serialize};
use sheaf_engine::Proposal;

use crate::raft::{self, Entry, EntryPayload, LogId, Membership, Payload, StoredMembership, Vote};

/// The only version so far, of every encoding in this file.
pub const VERSION: u8 = 1;

/// Why bytes could not be read. Never a reason to retry: the bytes stay what they are.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer Sheaf, or not by Sheaf.
    #[error("decode {what}: version {found} is not known to this build (it reads {VERSION})")]
    Version {
        /// What was being read.
        what: &'static str,
        /// The version byte found.
        found: u8,
    },
    /// Cut off, or not what it claims to be.
    #[error("decode {what}: {why}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl CodecError {
    fn malformed(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Malformed { what, why: format!("{why}") }
    }
}

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// One proposal as it stands in a batch. Done by the caller that proposes, so that the proposer only concatenates.
pub fn encode_proposal(proposal: &Proposal) -> Result<Vec<u8>, CodecError> {
    postcard::to_stdvec(proposal).map_err(|error| CodecError::malformed("proposal", error))
}

/// Joins encoded proposals to one entry: byte for byte what postcard makes of a `Vec<Proposal>`.
pub fn encode_batch<'a>(proposals: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Bytes {
    let bytes: usize = proposals.clone().map(<[u8]>::len).sum();
    let mut out = BytesMut::with_capacity(bytes + 12);
    out.put_slice(&[VERSION, BATCH]);
    put_varint(&mut out, proposals.len() as u64);
    for proposal in proposals {
        out.put_slice(proposal);
    }
    out.freeze()
}

/// The proposals of a batch, in order.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<Proposal>, CodecError> {
    let (kind, body) = kind_and_body("log entry", bytes)?;
    if kind != BATCH {
        return Err(CodecError::malformed("log entry", format!("kind {kind} is not a batch")));
    }
    postcard::from_bytes(body).map_err(|error| CodecError::malformed("batch of proposals", error))
}

pub(crate) fn encode_entry(payload: &EntryPayload) -> Bytes {
    match payload {
        EntryPayload::Blank => Bytes::from_static(&[VERSION, BLANK]),
        EntryPayload::Normal(batch) => batch.0.clone(),
        EntryPayload::Membership(membership) => with_kind(MEMBERSHIP, &MembershipV1::from(membership)),
    }
}

pub(crate) fn decode_entry(log_id: LogId, bytes: &Bytes) -> Result<Entry, CodecError> {
    let (kind, body) = kind_and_body("log entry", bytes)?;
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        BATCH => EntryPayload::Normal(Payload(bytes.clone())),
        MEMBERSHIP => EntryPayload::Membership(read::<MembershipV1>("membership", body)?.restore()?),
        other => return Err(CodecError::malformed("log entry", format!("unknown kind {other}"))),
    };
    Ok(Entry::new(log_id, payload))
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    versioned(&VoteV1::from(vote))
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<VoteV1, CodecError> {
    read_versioned("vote", bytes)
}

/// What SQLite holds of the log, stored with the changes in one transaction: `store` keeps these bytes unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

pub(crate) fn encode_position(position: &Position) -> Vec<u8> {
    versioned(&PositionV1 {
        applied: position.applied.as_ref().map(LogIdV1::from),
        membership_log_id: position.membership.log_id().as_ref().map(LogIdV1::from),
        membership: MembershipV1::from(position.membership.membership()),
    })
}

pub(crate) fn decode_position(bytes: &[u8]) -> Result<Position, CodecError> {
    let stored: PositionV1 = read_versioned("applied position", bytes)?;
    Ok(Position {
        applied: stored.applied.map(LogIdV1::restore),
        membership: StoredMembership::new(
            stored.membership_log_id.map(LogIdV1::restore),
            stored.membership.restore()?,
        ),
    })
}

/// A log id as stored and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogIdV1 {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl From<&LogId> for LogIdV1 {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl LogIdV1 {
    pub(crate) fn restore(self) -> LogId {
        raft::log_id(self.term, self.index)
    }
}

/// A vote as stored and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteV1 {
    term: u64,
    node: u64,
    committed: bool,
}

/// Within one term a vote can only be committed, perhaps for another node than the one voted for.
impl PartialOrd for VoteV1 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let by_term = (self.term, self.committed).cmp(&(other.term, other.committed));
        (by_term != Ordering::Equal || self.node == other.node).then_some(by_term)
    }
}

impl From<&Vote> for VoteV1 {
    fn from(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
    }
}

impl VoteV1 {
    pub(crate) fn restore(self) -> Vote {
        if self.committed {
            Vote::new_committed(self.term, self.node)
        } else {
            Vote::new(self.term, self.node)
        }
    }
}

/// Voter sets (two while a change of voters is under way) and the address of every member, learners included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MembershipV1 {
    voters: Vec<Vec<u64>>,
    members: Vec<(u64, String)>,
}

impl From<&Membership> for MembershipV1 {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
            members: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }
}

impl MembershipV1 {
    pub(crate) fn restore(self) -> Result<Membership, CodecError> {
        let voters: Vec<_> = self.voters.into_iter().map(|set| set.into_iter().collect()).collect();
        let members: std::collections::BTreeMap<u64, BasicNode> =
            self.members.into_iter().map(|(id, address)| (id, BasicNode::new(address))).collect();
        if voters.is_empty() && members.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(voters, members).map_err(|error| CodecError::malformed("membership", error))
    }
}

#[derive(Serialize, Deserialize)]
struct PositionV1 {
    applied: Option<LogIdV1>,
    membership_log_id: Option<LogIdV1>,
    membership: MembershipV1,
}

pub(crate) fn versioned<T: Serialize>(value: &T) -> Vec<u8> {
    let out = vec![VERSION];
    postcard::to_extend(value, out)
        .expect("postcard into memory fails only on types without a length, none of ours")
}

pub(crate) fn with_kind<T: Serialize>(kind: u8, value: &T) -> Bytes {
    let out = vec![VERSION, kind];
    postcard::to_extend(value, out)
        .expect("postcard into memory fails only on types without a length, none of ours")
        .into()
}

pub(crate) fn read_versioned<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => read(what, body),
        Some((&found, _)) => Err(CodecError::Version { what, found }),
        None => Err(CodecError::malformed(what, "no bytes")),
    }
}

pub(crate) fn read<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, CodecError> {
    postcard::from_bytes(body).map_err(|error| CodecError::malformed(what, error))
}

pub(crate) fn kind_and_body<'a>(what: &'static str, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), CodecError> {
    match bytes {
        [VERSION, kind, body @ ..] => Ok((*kind, body)),
        [found, ..] if *found != VERSION => Err(CodecError::Version { what, found: *found }),
        _ => Err(CodecError::malformed(what, "cut off in its first two bytes")),
    }
}

/// postcard's length prefix: seven bits a byte, the lowest first.
fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests;
