//! Linearizable reads. Many callers share one quorum round: those that come while a round runs wait for the next, so
//! each gets a round that began after it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{Fatal, LinearizableReadError, RaftError};
use sheaf_model::{NodeId, Revision, Term};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::beat::Rounds;
use crate::error::ReadError;
use crate::proof::Proof;
use crate::raft::{self, Raft, Types};

/// A round that is asked for sooner after the one before waits for more callers. A lone one begins at once; a thousand
/// agents, each with two heartbeats a second, cost no more than a hundred rounds.
const PACE: Duration = Duration::from_millis(10);
/// Callers that may wait for the next round; more wait for a place in the queue, each within its own deadline.
const QUEUE: usize = 1024;

type Answer = Result<Term, ReadError>;

/// The callers' side.
#[derive(Clone, Debug)]
pub(crate) struct ReadsHandle {
    asks: mpsc::Sender<oneshot::Sender<Answer>>,
    full: Arc<AtomicU64>,
}

impl ReadsHandle {
    /// See [`crate::Replica::confirm_leadership`].
    pub(crate) async fn confirm(&self) -> Answer {
        let (answer, confirmed) = oneshot::channel();
        if self.asks.capacity() == 0 {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        self.asks.send(answer).await.map_err(|_| ReadError::Stopped)?;
        confirmed.await.map_err(|_| ReadError::Stopped)?
    }

    /// How many callers found no room, and waited for it.
    pub(crate) fn times_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }
}

/// The task that makes the rounds.
pub(crate) struct Reads {
    asks: mpsc::Receiver<oneshot::Sender<Answer>>,
    applied: watch::Receiver<Option<u64>>,
    rounds: Rounds,
    proof: Proof,
    /// How long its proof, and applying what a round found, may take. A leader that lost its term may never have either.
    patience: Duration,
}

pub(crate) fn new(
    applied: watch::Receiver<Option<u64>>,
    rounds: Rounds,
    proof: Proof,
    patience: Duration,
) -> (Reads, ReadsHandle) {
    let (sender, asks) = mpsc::channel(QUEUE);
    (Reads { asks, applied, rounds, proof, patience }, ReadsHandle { asks: sender, full: Arc::default() })
}

impl Reads {
    /// Runs until every handle is gone.
    pub(crate) async fn run(mut self, raft: Raft) {
        let mut waiting = Vec::new();
        let mut last: Option<Instant> = None;
        while self.asks.recv_many(&mut waiting, QUEUE).await > 0 {
            if let Some(last) = last {
                tokio::time::sleep_until(last + PACE).await;
                while waiting.len() < QUEUE
                    && let Ok(another) = self.asks.try_recv()
                {
                    waiting.push(another);
                }
            }
            last = Some(Instant::now());
            let confirmed = self.round(&raft).await;
            for caller in waiting.drain(..) {
                // A caller that stopped waiting needs no answer.
                drop(caller.send(confirmed.clone()));
            }
        }
    }

    /// ReadIndex: a majority answers something sent from now on, and an entry of this very term, and everything
    /// committed until now, is applied.
    async fn round(&mut self, raft: &Raft) -> Answer {
        self.rounds.begin();
        let number = self.proof.begin();
        let (read, _) =
            raft.get_read_log_id(ReadPolicy::ReadIndex).await.map_err(|error| read_error(&error))?;
        let term = raft::term_of(read.log_id());
        let (own, voters) = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.id, metrics.membership_config.get_joint_config().clone())
        };
        tokio::select! {
            () = self.proof.given(number, term.0, own, &voters) => {}
            error = deposed(raft, term) => return Err(error),
            () = tokio::time::sleep(self.patience) => return Err(ReadError::NoQuorum),
        }
        let index = read.index();
        let applied = self.applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
        match tokio::time::timeout(self.patience, applied).await {
            Ok(Ok(_)) => Ok(term),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Behind { after: self.patience }),
        }
    }
}

/// Waits until this member knows of a later term, or stops.
async fn deposed(raft: &Raft, term: Term) -> ReadError {
    let mut metrics = raft.server_metrics();
    while metrics.borrow_watched().vote.leader_id.term <= term.0 {
        if metrics.changed().await.is_err() {
            return ReadError::Stopped;
        }
    }
    ReadError::NotLeader { leader: None }
}

fn read_error(error: &RaftError<Types, LinearizableReadError<Types>>) -> ReadError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            ReadError::NotLeader { leader: forward.leader_id.map(NodeId) }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ReadError::NoQuorum,
        RaftError::Fatal(Fatal::Stopped | Fatal::Panicked | Fatal::StorageError(_)) => ReadError::Stopped,
    }
}

/// Waits until this replica has applied `revision`.
pub(crate) async fn reached(
    revision: &mut watch::Receiver<Revision>,
    wanted: Revision,
    patience: Duration,
) -> Result<(), ReadError> {
    match tokio::time::timeout(patience, revision.wait_for(|now| *now >= wanted)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ReadError::Stopped),
        Err(_) => Err(ReadError::Behind { after: patience }),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn who_finds_no_place_before_a_round_waits_for_one_and_is_counted() {
        let every = Duration::from_millis(100);
        let (_reads, handle) = new(watch::channel(None).1, Rounds::new(every), Proof::default(), every);
        for _ in 0..QUEUE {
            assert!(handle.confirm().now_or_never().is_none(), "nobody makes a round");
        }
        assert_eq!(handle.times_full(), 0);
        for times in 1..=2 {
            assert!(handle.confirm().now_or_never().is_none());
            assert_eq!(handle.times_full(), times);
        }
    }
}
