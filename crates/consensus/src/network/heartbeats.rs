//! Heartbeats of one peer, over a stream that is kept from one to the next: a call for each would be most of what an idle
//! leader and an idle member do.
//!
//! ```text
//!  one is kept ──ask──► the answer fits ──────────────────────────────► it is kept
//!      │ none, or it has ended, or anything else came                      ▲
//!      └──open another──► the answer fits ─────────────────────────────────┘
//!                             │ refused, or it has ended, or anything else came
//!                             └──► a call, and calls for a while
//! ```
//!
//! An answer says of no message that it is the answer to that one, and what it confirms is that this member led when that was
//! sent. So there is one message at a time on a stream, and a stream on which an answer is owed is used for nothing else:
//! whoever stops waiting drops it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future;
use futures::stream::{self, StreamExt as _};
use openraft::raft::AppendEntriesResponse;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::peer::{self, Peer, PeerError, PeerStream, Peers, Traffic};
use crate::raft::{LogId, Types};

/// How long a peer that takes no stream gets calls, before it is asked for one again: it may be of another version then.
const CALLS_FOR: Duration = Duration::from_secs(10);

type Response = AppendEntriesResponse<Types>;

/// See the module's doc.
#[derive(Default)]
pub(super) struct Heartbeats {
    /// No answer is owed on it. In a mutex only because openraft asks for what threads can share; nobody ever locks it.
    kept: Mutex<Option<Exchange>>,
    /// Until when this peer gets calls.
    calls_until: Option<Instant>,
}

/// A stream, from our side.
struct Exchange {
    messages: mpsc::Sender<Bytes>,
    answers: PeerStream,
}

impl Heartbeats {
    /// Sends one that names `matching` as the last log id known to be there, and returns its answer, or that there was none
    /// within `deadline`; opening a stream counts. None: the peer wants a call.
    pub(super) async fn send(
        &mut self,
        peers: &dyn Peers,
        to: &Peer,
        (message, matching): (Bytes, Option<LogId>),
        deadline: Duration,
    ) -> Result<Option<Response>, PeerError> {
        if !peers.has_streams() || self.calls_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        let answer = tokio::time::timeout(deadline, self.by_stream(peers, to, message, matching)).await;
        let answer = answer.map_err(|_| PeerError::TimedOut { peer: to.clone(), after: deadline })??;
        self.calls_until = answer.is_none().then(|| Instant::now() + CALLS_FOR);
        Ok(answer)
    }

    async fn by_stream(
        &mut self,
        peers: &dyn Peers,
        to: &Peer,
        message: Bytes,
        matching: Option<LogId>,
    ) -> Result<Option<Response>, PeerError> {
        // Taken out: dropped with this future, it takes the answer along that is still owed.
        if let Some(mut kept) = self.kept().take()
            && let Some(answer) = kept.ask(message.clone()).await
            && let Some(response) = self.fitting(kept, &answer, matching)
        {
            return Ok(Some(response));
        }
        // A heartbeat may be said twice.
        let opened = match Exchange::open(peers, to, message).await {
            Ok(mut opened) => opened.answers.next().await.map(|answer| answer.map(|answer| (opened, answer))),
            Err(error) => Some(Err(error)),
        };
        match opened {
            Some(Ok((opened, answer))) => Ok(self.fitting(opened, &answer, matching)),
            None | Some(Err(PeerError::Refused { .. })) => {
                tracing::debug!(peer = %to, "it takes no stream of heartbeats");
                Ok(None)
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// What an answer says, if it can be one to a heartbeat that names this log id. A stream that goes on is kept.
    fn fitting(&mut self, exchange: Exchange, answer: &[u8], matching: Option<LogId>) -> Option<Response> {
        match peer::decode_appended(answer).ok()? {
            // Over a stream success is told with its log id; by a call it is not.
            AppendEntriesResponse::PartialSuccess(upto) if upto == matching => {
                *self.kept() = Some(exchange);
                Some(AppendEntriesResponse::Success)
            }
            // These are the last answer of a stream. Before the log's beginning nothing can conflict.
            AppendEntriesResponse::Conflict if matching.is_some() => Some(AppendEntriesResponse::Conflict),
            AppendEntriesResponse::HigherVote(vote) => Some(AppendEntriesResponse::HigherVote(vote)),
            _ => None,
        }
    }

    fn kept(&mut self) -> &mut Option<Exchange> {
        self.kept.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Opens a stream with its first message: whoever answers reads that before it takes the stream.
    async fn open(peers: &dyn Peers, to: &Peer, first: Bytes) -> Result<Self, PeerError> {
        let (messages, mut later) = mpsc::channel(1);
        let later = stream::poll_fn(move |context| later.poll_recv(context));
        let all = stream::once(future::ready(first)).chain(later).boxed();
        let answers = peers.stream(to, Traffic::Heartbeats, all).await?;
        Ok(Self { messages, answers })
    }

    /// The answer to one more message; none: it has ended, or broken, or says what nobody asked for.
    async fn ask(&mut self, message: Bytes) -> Option<Bytes> {
        if self.answers.next().now_or_never().is_some() {
            return None;
        }
        self.messages.try_send(message).ok()?;
        self.answers.next().await?.ok()
    }
}

#[cfg(test)]
mod tests;
