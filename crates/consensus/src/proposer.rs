//! Group commit: collects the proposals that wait into entries, keeps a few entries in flight, and splits the replies.
//!
//! ```text
//!  callers ──encoded──► bounded queue ──collect──► entry ≤ 1 MiB ──► openraft (log, fsync, quorum, apply)
//!     ▲                                                                 │
//!     └──────────────── one Applied each ◄──split── Replies ◄───────────┘
//! ```
//!
//! While entries are in flight, proposals gather: the slower the disk, the bigger the batches. Another entry follows once as
//! many proposals wait as are under way, and not for each that comes. A lone proposal goes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use sheaf_engine::{Proposal, Reply};
use sheaf_model::{NodeId, Revision, Term};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::codec;
use crate::error::ProposeError;
use crate::raft::{Payload, Raft, Types};
use crate::replica::Leadership;
use crate::space::Space;

/// Bytes of one entry, and so of one proposal.
pub const ENTRY_BYTES: usize = 1 << 20;
/// Proposals that may wait; the next one is told so. At 10,000 a second it is under half a second of work.
const QUEUE: usize = 4096;
/// Encoded bytes that may wait: bounds memory where proposals are large.
const QUEUE_BYTES: usize = 16 << 20;
/// Entries on their way at once: one being written while the former is being acknowledged. More only makes entries
/// smaller.
const IN_FLIGHT: usize = 3;

/// A proposal that was applied; the reply may still be a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its own revision: the state has it, and every replica will.
    pub revision: Revision,
    /// The term its entry was written in.
    pub term: Term,
    /// What the engine answered.
    pub reply: Reply,
    /// When its entry was applied here, from when on, and for how long; telemetry's.
    pub at: Option<(Instant, Duration)>,
}

struct Waiting {
    bytes: Vec<u8>,
    /// The only term in which it may be written.
    term: Option<Term>,
    answer: oneshot::Sender<Result<Applied, ProposeError>>,
    /// Gives the bytes back to the queue's budget when it is answered.
    _budget: OwnedSemaphorePermit,
}

/// When another entry may follow those that are under way. Each costs every member messages and a sync, whatever is in it: many
/// small ones would be most of what busy members do.
#[derive(Debug, Default)]
struct Pace {
    /// Proposals in the entries under way.
    under_way: AtomicUsize,
    /// As many wait.
    enough: Notify,
}

impl Pace {
    /// One more has come: so many wait. Counts that are a moment old do no harm: it is looked again whenever an entry is through.
    fn came(&self, waiting: usize) {
        let under_way = self.under_way.load(Ordering::Relaxed);
        if under_way > 0 && waiting >= under_way {
            self.enough.notify_one();
        }
    }
}

/// The callers' side of the queue.
#[derive(Clone, Debug)]
pub(crate) struct ProposerHandle {
    queue: mpsc::Sender<Waiting>,
    pace: Arc<Pace>,
    budget: Arc<Semaphore>,
    full: Arc<AtomicU64>,
    leadership: watch::Receiver<Leadership>,
    space: watch::Receiver<Space>,
}

impl ProposerHandle {
    /// See [`crate::Replica::propose`].
    pub(crate) async fn propose(
        &self,
        proposal: &Proposal,
        term: Option<Term>,
    ) -> Result<Applied, ProposeError> {
        self.check(term)?;
        let bytes = encoded(proposal)?;
        let budget = self.budget.clone().try_acquire_many_owned(bytes.len() as u32);
        let budget = budget.map_err(|_| self.full())?;
        let (answer, applied) = oneshot::channel();
        let waiting = Waiting { bytes, term, answer, _budget: budget };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => self.full(),
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        self.pace.came(self.waiting());
        applied.await.map_err(|_| ProposeError::Stopped)?
    }

    /// How many proposals found no room.
    pub(crate) fn times_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    fn check(&self, term: Option<Term>) -> Result<(), ProposeError> {
        let leadership = self.leadership.borrow();
        if !leadership.leading {
            return Err(ProposeError::NotLeader { leader: leadership.leader });
        }
        if let Some(asked) = term
            && asked != leadership.term
        {
            return Err(ProposeError::WrongTerm { asked, current: leadership.term });
        }
        match *self.space.borrow() {
            Space::Enough => Ok(()),
            Space::Short { free_bytes } => Err(ProposeError::DiskFull { free_bytes }),
        }
    }

    fn full(&self) -> ProposeError {
        self.full.fetch_add(1, Ordering::Relaxed);
        ProposeError::Full { waiting: self.waiting() }
    }

    /// How many wait in the queue.
    fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

/// Whether a proposal is one that an entry holds.
///
/// # Errors
/// [`ProposeError::TooLarge`] or [`ProposeError::Encode`], as proposing it would answer.
pub fn fits(proposal: &Proposal) -> Result<(), ProposeError> {
    encoded(proposal).map(drop)
}

fn encoded(proposal: &Proposal) -> Result<Vec<u8>, ProposeError> {
    let bytes =
        codec::encode_proposal(proposal).map_err(|error| ProposeError::Encode { why: error.to_string() })?;
    // An entry's own few bytes must fit too.
    if bytes.len() + 16 > ENTRY_BYTES {
        return Err(ProposeError::TooLarge { bytes: bytes.len(), limit: ENTRY_BYTES - 16 });
    }
    Ok(bytes)
}

/// The task that makes entries.
pub(crate) struct Proposer {
    queue: mpsc::Receiver<Waiting>,
    pace: Arc<Pace>,
    leadership: watch::Receiver<Leadership>,
}

pub(crate) fn new(
    leadership: watch::Receiver<Leadership>,
    space: watch::Receiver<Space>,
) -> (Proposer, ProposerHandle) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let budget = Arc::new(Semaphore::new(QUEUE_BYTES));
    let (pace, full) = (Arc::<Pace>::default(), Arc::default());
    let handle = ProposerHandle {
        queue: sender,
        pace: pace.clone(),
        budget,
        full,
        leadership: leadership.clone(),
        space,
    };
    (Proposer { queue, pace, leadership }, handle)
}

impl Proposer {
    /// Runs until every handle is gone or openraft has stopped.
    pub(crate) async fn run(mut self, raft: Raft) {
        let mut in_flight = FuturesUnordered::new();
        let mut held: Option<Waiting> = None;
        loop {
            let under_way = self.pace.under_way.load(Ordering::Relaxed);
            // As long as nothing is under way, whatever comes is.
            let is_due = held.is_some() || self.queue.len() >= under_way;
            let has_slot = in_flight.len() < IN_FLIGHT;
            tokio::select! {
                biased;
                // Dropping `next` loses nothing: the future stays in the set.
                Some(through) = in_flight.next(), if !in_flight.is_empty() => {
                    self.pace.under_way.fetch_sub(through, Ordering::Relaxed);
                }
                // A permit is kept; one that is left over only has us look again.
                () = self.pace.enough.notified(), if has_slot && !is_due => {}
                // `recv` is cancel safe.
                first = next(&mut held, &mut self.queue), if has_slot && is_due => {
                    let Some(first) = first else { break };
                    // Callers woken by the last reply are about to propose again: let them.
                    tokio::task::yield_now().await;
                    let batch = self.collect(first, &mut held);
                    if batch.waiting.is_empty() {
                        continue;
                    }
                    match self.submit(&raft, batch).await {
                        Some(sent) => {
                            self.pace.under_way.fetch_add(sent.waiting.len(), Ordering::Relaxed);
                            in_flight.push(sent.finish());
                        }
                        None => break,
                    }
                }
            }
        }
        while in_flight.next().await.is_some() {}
    }

    /// Takes what waits, as long as it fits and is bound to no other term than the first that is bound.
    fn collect(&mut self, first: Waiting, held: &mut Option<Waiting>) -> Batch {
        let mut batch = Batch { bytes: first.bytes.len(), term: first.term, waiting: vec![first] };
        while let Ok(next) = self.queue.try_recv() {
            let other_term = next.term.is_some() && batch.term.is_some() && next.term != batch.term;
            if other_term || batch.bytes + next.bytes.len() + 16 > ENTRY_BYTES {
                *held = Some(next);
                break;
            }
            batch.bytes += next.bytes.len();
            batch.term = batch.term.or(next.term);
            batch.waiting.push(next);
        }
        batch.refuse_other_terms(self.leadership.borrow().term);
        batch
    }

    /// Hands a batch to openraft. Returns none when openraft has stopped.
    async fn submit(&self, raft: &Raft, batch: Batch) -> Option<Sent> {
        let entry = codec::encode_batch(batch.waiting.iter().map(|waiting| waiting.bytes.as_slice()));
        let (responder, result) = ProgressResponder::complete_only();
        let mut request = raft.write(Payload(entry)).responder(responder);
        if let Some(term) = batch.waiting.iter().find_map(|waiting| waiting.term) {
            request = request.with_leader(term.0);
        }
        request.await.ok()?;
        let sent = Sent { result, waiting: batch.waiting, leadership: self.leadership.clone() };
        Some(sent)
    }
}

async fn next(held: &mut Option<Waiting>, queue: &mut mpsc::Receiver<Waiting>) -> Option<Waiting> {
    match held.take() {
        Some(waiting) => Some(waiting),
        None => queue.recv().await,
    }
}

struct Batch {
    waiting: Vec<Waiting>,
    bytes: usize,
    term: Option<Term>,
}

impl Batch {
    /// A term may have passed while they waited; those bound to it must not make openraft refuse the others.
    fn refuse_other_terms(&mut self, current: Term) {
        let (kept, refused) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.term.is_none_or(|term| term == current));
        self.waiting = kept;
        for waiting in refused {
            let error = waiting.term.map(|asked| ProposeError::WrongTerm { asked, current });
            drop(waiting.answer.send(Err(error.unwrap_or(ProposeError::Stopped))));
        }
    }
}

/// An entry on its way, and who waits for its replies.
struct Sent {
    result: OneshotReceiverOf<Types, ClientWriteResult<Types>>,
    waiting: Vec<Waiting>,
    leadership: watch::Receiver<Leadership>,
}

impl Sent {
    /// Waits until it is through, and answers; how many proposals that were.
    async fn finish(self) -> usize {
        let count = self.waiting.len();
        let result = self.result.await;
        // Callers that stopped waiting need no answer: every `send` may fail.
        match result {
            Ok(Ok(response)) => {
                let (term, at) = (response.data.term, response.data.applied);
                for (waiting, (revision, reply)) in self.waiting.into_iter().zip(response.data.items) {
                    drop(waiting.answer.send(Ok(Applied { revision, term, reply, at })));
                }
            }
            Ok(Err(error)) => {
                for waiting in self.waiting {
                    drop(waiting.answer.send(Err(refusal(&error, waiting.term, &self.leadership))));
                }
            }
            Err(_) => {
                for waiting in self.waiting {
                    drop(waiting.answer.send(Err(ProposeError::Stopped)));
                }
            }
        }
        count
    }
}

fn refusal(
    error: &ClientWriteError<Types>,
    asked: Option<Term>,
    leadership: &watch::Receiver<Leadership>,
) -> ProposeError {
    let current = leadership.borrow().term;
    match (error, asked) {
        (ClientWriteError::LogEntryDiscarded(forward), _) => {
            ProposeError::Unknown { leader: forward.leader_id.map(NodeId) }
        }
        (_, Some(asked)) if asked != current => ProposeError::WrongTerm { asked, current },
        (ClientWriteError::ForwardToLeader(forward), _) => {
            ProposeError::NotLeader { leader: forward.leader_id.map(NodeId) }
        }
        // These two answer membership changes only.
        (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_), _) => {
            ProposeError::NotLeader { leader: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use sheaf_engine::Command;

    use super::*;
    use crate::faults::harness::proposal;

    /// Of a leader of which nobody makes entries.
    fn queue() -> (Proposer, ProposerHandle) {
        let since = Instant::now();
        let leads = Leadership { term: Term(1), leader: Some(NodeId(1)), leading: true, since };
        new(watch::channel(leads).1, watch::channel(Space::Enough).1)
    }

    /// The next two are refused, and counted.
    fn is_full(handle: &ProposerHandle, proposal: &Proposal, waiting: usize) {
        assert_eq!(handle.times_full(), 0);
        for times in 1..=2 {
            let asked = handle.propose(proposal, None).now_or_never();
            assert_eq!(asked, Some(Err(ProposeError::Full { waiting })));
            assert_eq!(handle.times_full(), times);
        }
    }

    #[test]
    fn what_finds_no_room_in_the_queue_is_refused_and_counted() {
        let ((_proposer, handle), one) = (queue(), proposal(1));
        for _ in 0..QUEUE {
            assert_eq!(handle.propose(&one, None).now_or_never(), None);
        }
        is_full(&handle, &one, QUEUE);
    }

    #[test]
    fn large_ones_have_room_for_so_many_bytes() {
        let ((_proposer, handle), mut large) = (queue(), proposal(1));
        if let Command::Register(register) = &mut large.command {
            register.facts.labels = vec!["x".repeat(1_000_000)];
        }
        for _ in 0..QUEUE_BYTES / ENTRY_BYTES {
            assert_eq!(handle.propose(&large, None).now_or_never(), None);
        }
        is_full(&handle, &large, QUEUE_BYTES / ENTRY_BYTES);
    }

    #[test]
    fn another_entry_is_due_once_as_many_wait_as_are_under_way() {
        let pace = Pace::default();
        let is_due = |waiting: usize| {
            pace.came(waiting);
            pace.enough.notified().now_or_never().is_some()
        };
        assert!(!is_due(7), "nothing is under way: whoever makes entries sees what comes by itself");
        pace.under_way.store(3, Ordering::Relaxed);
        assert!(!is_due(2) && is_due(3) && is_due(4));
    }
}
