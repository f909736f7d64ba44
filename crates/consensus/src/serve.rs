//! The answering side of peers' messages. Whoever carries them has checked that the sender belongs to this cluster.

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use openraft::Snapshot;
use openraft::raft::AppendEntriesResponse;
use openraft::type_config::alias::SnapshotMetaOf;
use tokio::sync::mpsc;

use crate::codec::{self, CodecError, LogIdV1};
use crate::error::ReadError;
use crate::peer::{self, HandleError, ReadIndexV1, kind};
use crate::raft::{StoredMembership, Types};
use crate::replica::Replica;
use crate::snapshot::SnapshotFile;
use crate::space::Space;

impl Replica {
    /// Answers one message. Call it on [`Replica::runtime`].
    pub async fn handle_peer(&self, message: Bytes) -> Result<Bytes, HandleError> {
        let raft = &self.inner.raft;
        let (kind, _) = codec::kind_and_body("a peer's message", &message)?;
        match kind {
            kind::APPEND => {
                let request = self.append_request(&message)?;
                let response = raft.append_entries(request).await.map_err(stopped)?;
                Ok(peer::encode_appended(&response))
            }
            kind::VOTE => {
                let request = peer::decode_vote_request(kind, &message)?;
                let response = raft.vote(request).await.map_err(stopped)?;
                if response.vote_granted {
                    self.inner.election.vacant();
                }
                Ok(peer::encode_voted(kind, &response))
            }
            kind::PRE_VOTE => {
                let request = peer::decode_vote_request(kind, &message)?;
                let response = raft.pre_vote(request).await.map_err(stopped)?;
                Ok(peer::encode_voted(kind, &response))
            }
            kind::TRANSFER => {
                let request = peer::decode_transfer(&message)?;
                let response = raft.handle_transfer_leader(request).await.map_err(stopped)?;
                Ok(peer::encode_transferred(&response))
            }
            kind::READ_INDEX => Ok(peer::encode_read_answer(self.answer_read_index().await?)),
            other => {
                Err(CodecError::Malformed { what: "a peer's message", why: format!("kind {other}") }.into())
            }
        }
    }

    /// Answers a stream of appends, entries or heartbeats, one for one and in order. The first that is not a success is
    /// the last; the stream ends with the next message, or when the messages end.
    pub fn handle_append_stream(
        &self,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> BoxStream<'static, Result<Bytes, HandleError>> {
        // What ends the stream from our side, told after the answers that are still owed. One place is enough: the
        // first failure ends it.
        let (failed, failure) = mpsc::channel(1);
        let replica = self.clone();
        let requests =
            messages.map(move |message| replica.append_request(&message)).scan(failed, |failed, request| {
                let request = request.map_err(|error| failed.try_send(error)).ok();
                futures::future::ready(request)
            });
        // openraft reads the messages in a task of its own: on our runtime, wherever the transport runs.
        let _ours = self.inner.runtime.enter();
        let answers = self.inner.raft.stream_append(requests).map(|answer| {
            let response = match answer.map_err(stopped)? {
                // With its log id: it may be less than what was sent.
                Ok(log_id) => AppendEntriesResponse::PartialSuccess(log_id),
                refused => AppendEntriesResponse::<Types>::from(refused),
            };
            Ok(peer::encode_appended(&response))
        });
        let failure =
            stream::unfold(failure, |mut failure| async move { Some((Err(failure.recv().await?), failure)) });
        answers.chain(failure).boxed()
    }

    fn append_request(
        &self,
        message: &Bytes,
    ) -> Result<openraft::raft::AppendEntriesRequest<Types>, HandleError> {
        let request = peer::decode_append(message)?;
        self.inner.election.heard(&request.vote);
        if !request.entries.is_empty() {
            self.check_space()?;
        }
        Ok(request)
    }

    /// Receives a snapshot: writes the chunks to disk, then makes them the state. Returns the answer for the sender.
    pub async fn handle_snapshot<E>(
        &self,
        head: Bytes,
        chunks: impl Stream<Item = Result<Bytes, E>> + Unpin + Send,
    ) -> Result<Bytes, HandleError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let head = peer::decode_snapshot_head(&head)?;
        self.inner.election.heard(&head.vote.restore());
        self.inner.copies.check_space(head.bytes)?;
        let file = self.inner.copies.receive(head.bytes, chunks).await?;
        let membership = head.membership.restore()?;
        let last_membership = StoredMembership::new(head.membership_log_id.map(LogIdV1::restore), membership);
        let meta = SnapshotMetaOf::<Types> { last_log_id: head.last.map(LogIdV1::restore), last_membership };
        let snapshot = Snapshot { meta, snapshot: SnapshotFile::Received(file) };
        let installed = self.inner.raft.install_full_snapshot(head.vote.restore(), snapshot).await;
        let response = installed.map_err(stopped)?;
        Ok(peer::encode_snapshot_answer(&response.vote))
    }

    async fn answer_read_index(&self) -> Result<ReadIndexV1, HandleError> {
        match self.confirm_leadership().await {
            Ok(_) => Ok(ReadIndexV1::Revision(self.state().revision.0)),
            Err(ReadError::NotLeader { leader }) => Ok(ReadIndexV1::NotLeader(leader.map(|leader| leader.0))),
            Err(ReadError::Stopped) => Err(HandleError::Stopped("while confirming leadership".to_owned())),
            Err(_) => Ok(ReadIndexV1::Unconfirmed),
        }
    }

    fn check_space(&self) -> Result<(), HandleError> {
        match *self.inner.space.borrow() {
            Space::Enough => Ok(()),
            Space::Short { free_bytes } => Err(HandleError::DiskFull { free_bytes }),
        }
    }
}

fn stopped(error: impl std::fmt::Display) -> HandleError {
    HandleError::Stopped(error.to_string())
}

#[cfg(test)]
mod tests {
    use openraft::raft::AppendEntriesRequest;

    use super::*;
    use crate::faults::harness::{Cluster, patient, proposal};
    use crate::raft::{Vote, log_id};

    type Response = AppendEntriesResponse<Types>;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_heartbeat_is_answered_the_same_over_a_stream_and_by_a_call() {
        let mut cluster = Cluster::of_three(true, patient).await;
        let leader = cluster.leader().await;
        let follower = cluster.members[cluster.follower(leader.node())].replica().clone();
        let newest = leader.propose(&proposal(1)).await.unwrap();
        cluster.agree(newest.revision).await;
        let applied = (*follower.inner.shared.applied.borrow()).unwrap();
        let vote = |term| Vote::new_committed(term, leader.node().0);
        let (term, there) = (newest.term.0, log_id(newest.term.0, applied));
        let cases = [
            (vote(term), Some(there), Response::Success),
            (vote(term), None, Response::Success),
            (vote(term), Some(log_id(term, applied + 1000)), Response::Conflict),
            (vote(0), Some(there), Response::HigherVote(vote(term))),
        ];
        for (vote, prev_log_id, expected) in cases {
            let request =
                AppendEntriesRequest { vote, prev_log_id, leader_commit: None, entries: Vec::new() };
            let message = peer::encode_append(&request);
            let by_call = follower.handle_peer(message.clone()).await.unwrap();
            assert_eq!(peer::decode_appended(&by_call).unwrap(), expected);
            let answers = follower.handle_append_stream(stream::iter([message.clone(), message]));
            let answers: Vec<_> = answers
                .map(|answer| peer::decode_appended(&answer.unwrap()).unwrap())
                .map(|response| response.into_stream_result(prev_log_id, prev_log_id))
                .collect()
                .await;
            let expected = expected.into_stream_result(prev_log_id, prev_log_id);
            let times = if expected.is_ok() { 2 } else { 1 };
            assert_eq!(answers, vec![expected; times], "with {prev_log_id:?}");
        }
        cluster.stop().await;
    }
}
