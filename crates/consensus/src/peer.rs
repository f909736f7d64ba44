//! Messages between members, and the trait by which they travel. `sheaf.peer.v1` carries the bytes without reading them.
//!
//! ```text
//!  leader                                  member
//!    │ append, heartbeat  ────────────────►  │ handle_peer / handle_append_stream
//!    │ vote, pre-vote     ────────────────►  │
//!    │ transfer           ────────────────►  │
//!    │ snapshot head, then the database file ► handle_snapshot
//!    │ ◄──────────────── read index ─────────┤
//! ```

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use sheaf_model::NodeId;

use crate::codec::{self, CodecError, LogIdV1, MembershipV1, VoteV1};
use crate::raft::{Types, Vote};

/// A member, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number in the log.
    pub node: NodeId,
    /// Its address as recorded in the membership, `host:port`.
    pub address: String,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} at {}", self.node, self.address)
    }
}

/// How messages reach other members. Implementations connect when first asked and reconnect by themselves; all methods
/// are called on the runtime of consensus, many at a time for one peer.
pub trait Peers: Send + Sync + 'static {
    /// Sends one message and returns the answer; the other side hands it to [`crate::Replica::handle_peer`]. Gives up
    /// after `deadline`. Votes come this way and must not queue behind anything.
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>>;

    /// Whether [`Peers::stream`] works. Where not, entries and heartbeats go by [`Peers::call`], one message at a time.
    fn has_streams(&self) -> bool {
        false
    }

    /// Opens a stream of messages that are answered one for one, in order, by
    /// [`crate::Replica::handle_append_stream`]. It lives as long as the leader's term at most; dropping the answers ends it.
    /// A peer that refuses one of heartbeats gets calls in its place.
    fn stream<'a>(
        &'a self,
        peer: &'a Peer,
        _: Traffic,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        drop(messages);
        let refused = PeerError::Refused { peer: peer.clone(), why: "no streams".to_owned() };
        Box::pin(async move { Err(refused) })
    }

    /// Sends a snapshot: its head, then the database file in order, and returns the answer
    /// ([`crate::Replica::handle_snapshot`]). No deadline; gives up when nothing moves for a while.
    fn upload<'a>(
        &'a self,
        peer: &'a Peer,
        head: Bytes,
        chunks: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>>;
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// One at a time, each with a deadline: they must not queue behind anything.
    Heartbeats,
    /// As many as there are.
    Entries,
}

/// Answers of a stream of messages.
pub type PeerStream = BoxStream<'static, Result<Bytes, PeerError>>;

/// Why a peer gave no answer. Consensus retries all of them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection, or it broke.
    #[error("reach {peer}: {why}")]
    Unreachable {
        /// Whom.
        peer: Peer,
        /// The transport's error, with its causes.
        why: String,
    },
    /// Connected, but no answer in time.
    #[error("{peer} did not answer within {after:?}")]
    TimedOut {
        /// Who.
        peer: Peer,
        /// The deadline.
        after: Duration,
    },
    /// It answered that it cannot: another cluster, starting, shutting down, its disk full.
    #[error("{peer} refused: {why}")]
    Refused {
        /// Who.
        peer: Peer,
        /// What it said.
        why: String,
    },
}

/// Why a message from a peer was not handled. The sender retries all of them.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Not a message this build knows.
    #[error("handle a peer's message: {0}")]
    Malformed(#[from] CodecError),
    /// This replica is closing or has failed.
    #[error("handle a peer's message: this replica has stopped: {0}")]
    Stopped(String),
    /// No room for entries; votes and heartbeats are still answered.
    #[error("append a peer's entries: only {free_bytes} bytes are free on this node's disk")]
    DiskFull {
        /// What is left.
        free_bytes: u64,
    },
    /// A snapshot could not be written or was cut off.
    #[error("receive a snapshot: {0}")]
    Snapshot(#[from] std::io::Error),
}

/// A message's second byte.
pub(crate) mod kind {
    pub(crate) const APPEND: u8 = 1;
    pub(crate) const VOTE: u8 = 2;
    pub(crate) const PRE_VOTE: u8 = 3;
    pub(crate) const TRANSFER: u8 = 4;
    pub(crate) const READ_INDEX: u8 = 5;
    pub(crate) const SNAPSHOT: u8 = 6;
}

#[derive(Serialize, Deserialize)]
struct AppendV1 {
    vote: VoteV1,
    prev: Option<LogIdV1>,
    commit: Option<LogIdV1>,
    /// Log id and size of each entry; their bytes follow the head.
    entries: Vec<(LogIdV1, u32)>,
}

pub(crate) fn encode_append(request: &AppendEntriesRequest<Types>) -> Bytes {
    let stored: Vec<Bytes> =
        request.entries.iter().map(|entry| codec::encode_entry(&entry.payload)).collect();
    let sizes = stored.iter().map(|bytes| bytes.len() as u32);
    let head = AppendV1 {
        vote: VoteV1::from(&request.vote),
        prev: request.prev_log_id.as_ref().map(LogIdV1::from),
        commit: request.leader_commit.as_ref().map(LogIdV1::from),
        entries: request.entries.iter().map(|entry| LogIdV1::from(&entry.log_id())).zip(sizes).collect(),
    };
    let head = codec::with_kind(kind::APPEND, &head);
    if stored.is_empty() {
        return head;
    }
    let mut message = BytesMut::with_capacity(head.len() + stored.iter().map(Bytes::len).sum::<usize>());
    message.extend_from_slice(&head);
    for bytes in &stored {
        message.extend_from_slice(bytes);
    }
    message.freeze()
}

pub(crate) fn decode_append(message: &Bytes) -> Result<AppendEntriesRequest<Types>, CodecError> {
    const WHAT: &str = "append message";
    let malformed = |why: String| CodecError::Malformed { what: WHAT, why };
    let (_, body) = codec::kind_and_body(WHAT, message)?;
    let (head, rest) =
        postcard::take_from_bytes::<AppendV1>(body).map_err(|error| malformed(error.to_string()))?;
    // The entries share the message's memory: a follower copies them only once, into its log.
    let mut rest = message.slice_ref(rest);
    let mut entries = Vec::with_capacity(head.entries.len());
    for (log_id, size) in head.entries {
        if rest.len() < size as usize {
            return Err(malformed(format!("entry {} is cut off", log_id.index)));
        }
        entries.push(codec::decode_entry(log_id.restore(), &rest.split_to(size as usize))?);
    }
    Ok(AppendEntriesRequest {
        vote: head.vote.restore(),
        prev_log_id: head.prev.map(LogIdV1::restore),
        entries,
        leader_commit: head.commit.map(LogIdV1::restore),
    })
}

#[derive(Serialize, Deserialize)]
enum AppendedV1 {
    All,
    UpTo(Option<LogIdV1>),
    Conflict,
    HigherVote(VoteV1),
}

pub(crate) fn encode_appended(response: &AppendEntriesResponse<Types>) -> Bytes {
    let response = match response {
        AppendEntriesResponse::Success => AppendedV1::All,
        AppendEntriesResponse::PartialSuccess(log_id) => AppendedV1::UpTo(log_id.as_ref().map(LogIdV1::from)),
        AppendEntriesResponse::Conflict => AppendedV1::Conflict,
        AppendEntriesResponse::HigherVote(vote) => AppendedV1::HigherVote(VoteV1::from(vote)),
    };
    codec::with_kind(kind::APPEND, &response)
}

pub(crate) fn decode_appended(answer: &[u8]) -> Result<AppendEntriesResponse<Types>, CodecError> {
    Ok(match read(kind::APPEND, "answer to append", answer)? {
        AppendedV1::All => AppendEntriesResponse::Success,
        AppendedV1::UpTo(log_id) => AppendEntriesResponse::PartialSuccess(log_id.map(LogIdV1::restore)),
        AppendedV1::Conflict => AppendEntriesResponse::Conflict,
        AppendedV1::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.restore()),
    })
}

#[derive(Serialize, Deserialize)]
struct AskVoteV1 {
    vote: VoteV1,
    last: Option<LogIdV1>,
    transfer: bool,
}

pub(crate) fn encode_vote_request(kind: u8, request: &VoteRequest<Types>) -> Bytes {
    let last = request.last_log_id.as_ref().map(LogIdV1::from);
    let request =
        AskVoteV1 { vote: VoteV1::from(&request.vote), last, transfer: request.leadership_transfer };
    codec::with_kind(kind, &request)
}

pub(crate) fn decode_vote_request(kind: u8, message: &[u8]) -> Result<VoteRequest<Types>, CodecError> {
    let asked: AskVoteV1 = read(kind, "vote message", message)?;
    let mut request = VoteRequest::new(asked.vote.restore(), asked.last.map(LogIdV1::restore));
    request.leadership_transfer = asked.transfer;
    Ok(request)
}

#[derive(Serialize, Deserialize)]
struct VotedV1 {
    vote: VoteV1,
    granted: bool,
    last: Option<LogIdV1>,
}

pub(crate) fn encode_voted(kind: u8, response: &VoteResponse<Types>) -> Bytes {
    let last = response.last_log_id.as_ref().map(LogIdV1::from);
    codec::with_kind(
        kind,
        &VotedV1 { vote: VoteV1::from(&response.vote), granted: response.vote_granted, last },
    )
}

pub(crate) fn decode_voted(kind: u8, answer: &[u8]) -> Result<VoteResponse<Types>, CodecError> {
    let voted: VotedV1 = read(kind, "answer to vote", answer)?;
    Ok(VoteResponse::new(voted.vote.restore(), voted.last.map(LogIdV1::restore), voted.granted))
}

#[derive(Serialize, Deserialize)]
struct TransferV1 {
    from: VoteV1,
    to: u64,
    last: Option<LogIdV1>,
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<Types>) -> Bytes {
    let last = request.last_log_id().map(LogIdV1::from);
    let request = TransferV1 { from: VoteV1::from(request.from_leader()), to: *request.to_node_id(), last };
    codec::with_kind(kind::TRANSFER, &request)
}

pub(crate) fn decode_transfer(message: &[u8]) -> Result<TransferLeaderRequest<Types>, CodecError> {
    let request: TransferV1 = read(kind::TRANSFER, "transfer message", message)?;
    Ok(TransferLeaderRequest::new(request.from.restore(), request.to, request.last.map(LogIdV1::restore)))
}

#[derive(Serialize, Deserialize)]
enum TransferredV1 {
    Accepted,
    VoteChanged { expected: VoteV1, actual: VoteV1 },
    LogBehind { expected: Option<LogIdV1>, actual: Option<LogIdV1> },
}

pub(crate) fn encode_transferred(response: &TransferLeaderResponse<Types>) -> Bytes {
    let response = match response {
        Ok(()) => TransferredV1::Accepted,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            TransferredV1::VoteChanged { expected: VoteV1::from(expected), actual: VoteV1::from(actual) }
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => TransferredV1::LogBehind {
            expected: expected.as_ref().map(LogIdV1::from),
            actual: actual.as_ref().map(LogIdV1::from),
        },
    };
    codec::with_kind(kind::TRANSFER, &response)
}

pub(crate) fn decode_transferred(answer: &[u8]) -> Result<TransferLeaderResponse<Types>, CodecError> {
    Ok(match read(kind::TRANSFER, "answer to transfer", answer)? {
        TransferredV1::Accepted => Ok(()),
        TransferredV1::VoteChanged { expected, actual } => {
            Err(TransferLeaderError::VoteChanged { expected: expected.restore(), actual: actual.restore() })
        }
        TransferredV1::LogBehind { expected, actual } => Err(TransferLeaderError::LogNotFlushed {
            expected: expected.map(LogIdV1::restore),
            actual: actual.map(LogIdV1::restore),
        }),
    })
}

/// What the leader answers to a follower that wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadIndexV1 {
    /// Everything acknowledged before the question is at or before this revision.
    Revision(u64),
    NotLeader(Option<u64>),
    Unconfirmed,
}

pub(crate) fn encode_read_index() -> Bytes {
    codec::with_kind(kind::READ_INDEX, &())
}

pub(crate) fn encode_read_answer(answer: ReadIndexV1) -> Bytes {
    codec::with_kind(kind::READ_INDEX, &answer)
}

pub(crate) fn decode_read_answer(answer: &[u8]) -> Result<ReadIndexV1, CodecError> {
    read(kind::READ_INDEX, "answer to read index", answer)
}

/// What precedes a snapshot's bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotHeadV1 {
    pub(crate) vote: VoteV1,
    pub(crate) last: Option<LogIdV1>,
    pub(crate) membership_log_id: Option<LogIdV1>,
    pub(crate) membership: MembershipV1,
    /// Size of the file; fewer bytes are a broken transfer.
    pub(crate) bytes: u64,
}

pub(crate) fn encode_snapshot_head(head: &SnapshotHeadV1) -> Bytes {
    codec::with_kind(kind::SNAPSHOT, head)
}

pub(crate) fn decode_snapshot_head(head: &[u8]) -> Result<SnapshotHeadV1, CodecError> {
    read(kind::SNAPSHOT, "snapshot head", head)
}

pub(crate) fn encode_snapshot_answer(vote: &Vote) -> Bytes {
    codec::with_kind(kind::SNAPSHOT, &VoteV1::from(vote))
}

pub(crate) fn decode_snapshot_answer(answer: &[u8]) -> Result<Vote, CodecError> {
    read::<VoteV1>(kind::SNAPSHOT, "answer to snapshot", answer).map(VoteV1::restore)
}

fn read<'a, T: Deserialize<'a>>(kind: u8, what: &'static str, bytes: &'a [u8]) -> Result<T, CodecError> {
    match codec::kind_and_body(what, bytes)? {
        (found, body) if found == kind => codec::read(what, body),
        (found, _) => Err(CodecError::Malformed { what, why: format!("kind {found} instead of {kind}") }),
    }
}
