//! openraft's network: turns its requests into messages, `Peers` carries them.

mod heartbeats;
mod spared;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{BasicNode, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::Instant;

use self::heartbeats::Heartbeats;
use self::spared::spared;
use crate::codec::CodecError;
use crate::peer::{self, Peer, PeerError, PeerStream, Peers, Traffic, kind};
use crate::proof::{Proof, Stamp};
use crate::raft::{self, LogId, Types, Vote};
use crate::snapshot::{Copies, SnapshotFile};

type RpcError = RPCError<Types>;
type AppendStream<'a> = BoxStream<'a, Result<StreamAppendResult<Types>, RpcError>>;

/// Makes the clients that openraft's tasks own, three for each peer: entries, heartbeats, snapshots.
pub(crate) struct Network {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) copies: Copies,
    /// How long an append may take: disk and network of the peer together. Longer than an election, so that a slow
    /// disk does not make the leader send everything again.
    pub(crate) append_deadline: Duration,
    pub(crate) proof: Proof,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        Client {
            peer: Peer { node: raft::node_id(target), address: node.addr.clone() },
            peers: self.peers.clone(),
            copies: self.copies.clone(),
            append_deadline: self.append_deadline,
            proof: self.proof.clone(),
            heartbeats: None,
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> Client {
        Client { heartbeats: Some(Heartbeats::default()), ..self.new_client(target, node).await }
    }
}

/// One peer, as one of openraft's tasks sees it.
pub(crate) struct Client {
    peer: Peer,
    peers: Arc<dyn Peers>,
    copies: Copies,
    append_deadline: Duration,
    proof: Proof,
    /// The stream of heartbeats, which never wait behind entries. None: entries go over one if the transport has streams.
    heartbeats: Option<Heartbeats>,
}

impl Client {
    async fn call(&self, message: Bytes, deadline: Duration) -> Result<Bytes, RpcError> {
        self.peers.call(&self.peer, message, deadline).await.map_err(|error| rpc_error(&error))
    }

    async fn append(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let is_heartbeat = request.entries.is_empty();
        let deadline = if is_heartbeat { option.hard_ttl() } else { self.append_deadline };
        let (message, begun) = (peer::encode_append(&request), Instant::now());
        if is_heartbeat && let Some(heartbeats) = &mut self.heartbeats {
            let heartbeat = (message.clone(), request.prev_log_id);
            let answer = heartbeats.send(&*self.peers, &self.peer, heartbeat, deadline).await;
            if let Some(response) = answer.map_err(|error| rpc_error(&error))? {
                return Ok(response);
            }
        }
        let answer = self.call(message, deadline.saturating_sub(begun.elapsed())).await?;
        self.decoded(peer::decode_appended(&answer))
    }

    fn decoded<T>(&self, answer: Result<T, CodecError>) -> Result<T, RpcError> {
        answer.map_err(|error| {
            RPCError::Unreachable(Unreachable::from_string(format!("{}: {error}", self.peer)))
        })
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let stamp = self.proof.stamp(request.vote.leader_id.term);
        let response = self.append(request, option).await?;
        if is_accepted(&response) {
            self.proof.accepted(self.peer.node.0, stamp);
        }
        Ok(response)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendStream<'s>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if self.heartbeats.is_some() || !self.peers.has_streams() {
            return stream_append_sequential(self, input, option);
        }
        let sent = Sent::default();
        let mut messages = messages(input, sent.clone(), self.proof.clone());
        let (peer, peers, deadline) = (self.peer.clone(), self.peers.clone(), self.append_deadline);
        let proof = self.proof.clone();
        Box::pin(async move {
            // openraft waits out its backoff where it makes the first message. Opened before that, a stream to a peer
            // that refuses connections would be tried again at once, thousands of times a second.
            let Some(first) = messages.next().await else { return Ok(stream::empty().boxed()) };
            let messages = stream::once(future::ready(first)).chain(messages).boxed();
            let answers =
                match tokio::time::timeout(deadline, peers.stream(&peer, Traffic::Entries, messages)).await {
                    Ok(opened) => opened.map_err(|error| rpc_error(&error))?,
                    Err(_) => return Err(rpc_error(&PeerError::TimedOut { peer, after: deadline })),
                };
            Ok(pipelined(Pipeline { peer, answers, sent, deadline, proof }))
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let answer = self.call(peer::encode_vote_request(kind::VOTE, &request), option.hard_ttl()).await?;
        self.decoded(peer::decode_voted(kind::VOTE, &answer))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let answer =
            self.call(peer::encode_vote_request(kind::PRE_VOTE, &request), option.hard_ttl()).await?;
        self.decoded(peer::decode_voted(kind::PRE_VOTE, &answer))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        // openraft's snapshot is a position only; what is sent is the database as it is now, which is never older.
        let failed = |error: std::io::Error| {
            StreamingError::Unreachable(Unreachable::from_string(format!(
                "snapshot for {}: {error}",
                self.peer
            )))
        };
        // openraft asks again after every failure, several times a second: the database is copied only for a peer that
        // answers. Any question that changes nothing there will do.
        let asked = self.peers.call(&self.peer, peer::encode_read_index(), self.append_deadline).await;
        asked.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        let copy = self.copies.make().await.map_err(failed)?;
        let (head, chunks) = copy.open(&vote).await.map_err(failed)?;
        tracing::info!(peer = %self.peer, bytes = copy.bytes(), "sending a snapshot");
        let answer = tokio::select! {
            // Dropping the upload breaks it off; the receiver discards what it got.
            answer = self.peers.upload(&self.peer, head, chunks) => {
                answer.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?
            }
            closed = cancel => return Err(closed.into()),
        };
        let vote = self.decoded(peer::decode_snapshot_answer(&answer))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let answer = self.call(peer::encode_transfer(&request), self.append_deadline).await?;
        self.decoded(peer::decode_transferred(&answer))
    }

    fn backoff(&self) -> Option<Backoff> {
        // Short and bounded: a member that comes back should not wait a second for its entries.
        let delays = [50, 100, 200].into_iter().chain(std::iter::repeat(300));
        Some(Backoff::new(delays.map(Duration::from_millis)))
    }
}

/// What was sent and not answered yet, oldest first.
type Sent = Arc<Mutex<VecDeque<Append>>>;

/// A message, as far as its answer is understood by it.
struct Append {
    /// The log id before it …
    before: Option<LogId>,
    /// … and at its end.
    last: Option<LogId>,
    stamp: Stamp,
}

/// A stream of appends in flight.
struct Pipeline {
    peer: Peer,
    answers: PeerStream,
    sent: Sent,
    /// Within which an answer must come while any is owed.
    deadline: Duration,
    proof: Proof,
}

fn messages(
    input: impl Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    sent: Sent,
    proof: Proof,
) -> BoxStream<'static, Bytes> {
    spared(input)
        .map(move |request| {
            let last = request.entries.last().map(RaftEntry::log_id).or(request.prev_log_id);
            let stamp = proof.stamp(request.vote.leader_id.term);
            let append = Append { before: request.prev_log_id, last, stamp };
            sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(append);
            peer::encode_append(&request)
        })
        .boxed()
}

/// Answers in the order of the messages; ends after the first that is not a success, as openraft expects.
fn pipelined(pipeline: Pipeline) -> AppendStream<'static> {
    stream::unfold(Some(pipeline), |pipeline| async move {
        let mut pipeline = pipeline?;
        let answer = match pipeline.next().await? {
            Ok(answer) => answer,
            Err(error) => return Some((Err(rpc_error(&error)), None)),
        };
        let sent = pipeline.sent.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let (Some(Append { before, last, stamp }), Ok(response)) = (sent, peer::decode_appended(&answer))
        else {
            let error =
                NetworkError::from_string(format!("{}: an answer that fits no message", pipeline.peer));
            return Some((Err(RPCError::Network(error)), None));
        };
        if is_accepted(&response) {
            pipeline.proof.accepted(pipeline.peer.node.0, stamp);
        }
        let result = response.into_stream_result(before, last);
        let next = result.is_ok().then_some(pipeline);
        Some((Ok(result), next))
    })
    .boxed()
}

impl Pipeline {
    /// The next answer. An idle stream may be silent for ever; one that owes an answer may not.
    async fn next(&mut self) -> Option<Result<Bytes, PeerError>> {
        loop {
            match tokio::time::timeout(self.deadline, self.answers.next()).await {
                Ok(answer) => return answer,
                Err(_) if self.sent.lock().unwrap_or_else(PoisonError::into_inner).is_empty() => {}
                Err(_) => {
                    return Some(Err(PeerError::TimedOut { peer: self.peer.clone(), after: self.deadline }));
                }
            }
        }
    }
}

/// Whether the peer had not turned to another leader when it answered.
fn is_accepted(response: &AppendEntriesResponse<Types>) -> bool {
    !matches!(response, AppendEntriesResponse::HigherVote(_))
}

/// Every failure to reach a peer is retried after the backoff, never at once: a connection refused in microseconds
/// must not become a busy loop.
fn rpc_error(error: &PeerError) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}
