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

    /// Answers a stream of appends, one for one and in order. Ends after the first that is not a success, and when
    /// the messages end.
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
