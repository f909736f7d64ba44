//! The handle that everybody uses: propose, read, watch, change the membership, answer peers.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::{Arc, RwLockReadGuard};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, ServerState};
use sheaf_engine::{Proposal, State};
use sheaf_model::{FullQueues, NodeId, Queue, Revision, Term};
use tokio::sync::watch;

use crate::beat::Rounds;
use crate::elect::Patience;
use crate::error::{ProposeError, ReadError};
use crate::machine::Shared;
use crate::peer::{self, Peer, Peers, ReadIndexV1};
use crate::proposer::{Applied, ProposerHandle};
use crate::raft::Raft;
use crate::reads::{self, ReadsHandle};
use crate::ring::Changes;
use crate::snapshot::Copies;
use crate::space::Space;
use crate::timer::Timers;
use crate::writer::Written;

/// Who leads, as this member sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The newest term seen.
    pub term: Term,
    /// Its leader, if known.
    pub leader: Option<NodeId>,
    /// Whether this member leads. It may have been deposed without knowing: what must not be decided by two is decided
    /// after [`Replica::confirm_leadership`], or proposed with its term.
    pub leading: bool,
    /// When this member saw it become so; never earlier than it did.
    pub since: Instant,
}

/// One member in [`Metrics`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetrics {
    /// Who and where.
    pub peer: Peer,
    /// Whether it votes; otherwise it is a learner.
    pub voter: bool,
    /// On the leader: entries that it is not known to have yet. None elsewhere, and while nothing is known.
    pub match_lag: Option<u64>,
}

/// Where a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Its own number.
    pub node: NodeId,
    /// The newest term seen.
    pub term: Term,
    /// Its leader, if known.
    pub leader: Option<NodeId>,
    /// Index of the last entry in its log.
    pub last: Option<u64>,
    /// Index of the last entry it knows to be committed.
    pub committed: Option<u64>,
    /// Index of the last entry applied in memory.
    pub applied: Option<u64>,
    /// The last entry that SQLite is known to hold durably; the log is cut somewhere before.
    pub durable: Option<u64>,
    /// Index of the last entry that was cut off its log: who lacks it gets a snapshot.
    pub purged: Option<u64>,
    /// Every member, by number.
    pub members: Vec<MemberMetrics>,
}

impl Metrics {
    /// Those members that vote.
    pub fn voters(&self) -> impl Iterator<Item = &MemberMetrics> {
        self.members.iter().filter(|member| member.voter)
    }
}

/// This node's replica of the state. Cheap to clone; every clone is the same replica.
#[derive(Clone)]
pub struct Replica {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) copies: Copies,
    pub(crate) proposer: ProposerHandle,
    pub(crate) reads: ReadsHandle,
    pub(crate) rounds: Rounds,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) space: watch::Receiver<Space>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// How long a follower waits for the leader's answer and then for the leader's state: two elections.
    pub(crate) patience: Duration,
    pub(crate) election: Patience,
    pub(crate) written: Written,
    pub(crate) timers: Timers,
}

impl Replica {
    /// This member's number.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Proposes a command and returns when it is applied here. Only on the leader. Proposals of many callers share
    /// entries and fsyncs. Dropping the future takes nothing back. Without a majority it waits: give it a deadline.
    pub async fn propose(&self, proposal: &Proposal) -> Result<Applied, ProposeError> {
        self.inner.proposer.propose(proposal, None).await
    }

    /// As [`Replica::propose`], but refused in any other term than `term`: for decisions that die with their term.
    pub async fn propose_in_term(&self, term: Term, proposal: &Proposal) -> Result<Applied, ProposeError> {
        self.inner.proposer.propose(proposal, Some(term)).await
    }

    /// ReadIndex, never a lease read: returns the present term after a majority has answered a round begun after this
    /// call, and an entry of this term and all that was committed before the round is applied here. Cheap for many
    /// callers: those that wait share a round.
    pub async fn confirm_leadership(&self) -> Result<Term, ReadError> {
        self.inner.reads.confirm().await
    }

    /// When a leader will ask all members for an answer anyway. Who asks [`Replica::confirm_leadership`] a moment before
    /// costs no round of its own.
    pub fn next_round(&self) -> tokio::time::Instant {
        self.inner.rounds.due()
    }

    /// On any member: returns when everything acknowledged before this call is applied here, and up to where that is.
    /// The leader confirms itself; a follower asks the leader.
    pub async fn read_index(&self) -> Result<Revision, ReadError> {
        let leadership = *self.inner.leadership.borrow();
        let wanted = match leadership.leader {
            Some(leader) if leader != self.inner.node => self.ask(leader).await?,
            _ => {
                self.confirm_leadership().await?;
                return Ok(self.state().revision);
            }
        };
        reads::reached(&mut self.revision(), wanted, self.inner.patience).await?;
        Ok(wanted)
    }

    async fn ask(&self, leader: NodeId) -> Result<Revision, ReadError> {
        let silent = |why: String| ReadError::LeaderSilent { leader, why };
        let peer = self.peer(leader).ok_or_else(|| silent("its address is not known here".to_owned()))?;
        let call = self.inner.peers.call(&peer, peer::encode_read_index(), self.inner.patience);
        let answer = call.await.map_err(|error| silent(error.to_string()))?;
        match peer::decode_read_answer(&answer).map_err(|error| silent(error.to_string()))? {
            ReadIndexV1::Revision(revision) => Ok(Revision(revision)),
            ReadIndexV1::NotLeader(leader) => Err(ReadError::NotLeader { leader: leader.map(NodeId) }),
            ReadIndexV1::Unconfirmed => Err(ReadError::NoQuorum),
        }
    }

    /// The state now. Hold it shortly and across no await: while it is held nothing is applied.
    pub fn state(&self) -> impl Deref<Target = State> + '_ {
        StateGuard(self.inner.shared.state())
    }

    /// The newest revision applied here.
    pub fn revision(&self) -> watch::Receiver<Revision> {
        self.inner.shared.ring.subscribe()
    }

    /// Returns when `revision` is applied here. Waits for ever if it never comes: give it a deadline.
    pub async fn wait_for(&self, revision: Revision) {
        if self.revision().wait_for(|now| *now >= revision).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when SQLite holds `revision`, which is soon after it is applied. Waits for ever if it never comes, and
    /// while the disk is full: give it a deadline.
    pub async fn stored(&self, revision: Revision) {
        self.inner.written.clone().reached(revision).await;
    }

    /// How often each bounded queue between callers, log, watchers and SQLite was full since this replica was opened.
    pub fn full_queues(&self) -> FullQueues {
        let inner = &self.inner;
        FullQueues::default()
            .with(Queue::Proposals, inner.proposer.times_full())
            .with(Queue::Reads, inner.reads.times_full())
            .with(Queue::Rows, inner.written.times_full())
            .with(Queue::Watches, inner.shared.ring.cut_off())
    }

    /// Heartbeats and elections of this member whose timer came over 50 ms late.
    pub fn late_timers(&self) -> u64 {
        self.inner.timers.late()
    }

    /// The changes after `after`. For a snapshot and then changes: read `State`, take its revision, start here.
    pub fn changes(&self, after: Revision) -> Changes {
        Changes::new(self.inner.shared.ring.clone(), after)
    }

    /// Who leads, now and whenever it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// On the leader: whether a majority answered it lately, within two elections; a new one has as long for its first
    /// answer. A leader that was cut off goes on calling itself one, since nobody tells it otherwise. False elsewhere.
    pub fn is_heard(&self) -> bool {
        let leadership = *self.inner.leadership.borrow();
        if !leadership.leading || leadership.since.elapsed() < self.inner.patience {
            return leadership.leading;
        }
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().eq([self.inner.node.0])
            || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < self.inner.patience)
    }

    /// Where this member stands.
    pub fn metrics(&self) -> Metrics {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let last = metrics.last_log_index;
        let lag = |node: u64| {
            let matched = metrics.replication.as_ref()?.get(&node)?;
            Some(
                last.map_or(0, |last| last + 1).saturating_sub(matched.as_ref().map_or(0, |at| at.index + 1)),
            )
        };
        Metrics {
            node: self.inner.node,
            term: Term(metrics.current_term),
            leader: metrics.current_leader.map(NodeId),
            last,
            committed: metrics.local_committed.map(|log_id| log_id.index),
            applied: *self.inner.shared.applied.borrow(),
            durable: self.inner.shared.durable.borrow().applied.map(|log_id| log_id.index),
            purged: metrics.purged.map(|log_id| log_id.index),
            members: metrics
                .membership_config
                .nodes()
                .map(|(id, node)| MemberMetrics {
                    peer: Peer { node: NodeId(*id), address: node.addr.clone() },
                    voter: voters.contains(id),
                    match_lag: lag(*id),
                })
                .collect(),
        }
    }

    /// Who votes.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().map(NodeId).collect()
    }

    /// Of each of these sets a majority is needed. More than one only while who votes is being changed.
    pub fn voter_sets(&self) -> Vec<BTreeSet<NodeId>> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let sets = metrics.membership_config.get_joint_config().iter();
        sets.map(|set| set.iter().copied().map(NodeId).collect()).collect()
    }

    /// Whether its disk has room for entries, and not only for votes.
    pub fn has_room(&self) -> bool {
        *self.inner.space.borrow() == Space::Enough
    }

    /// Bytes on the disk that only votes may use; see [`crate::Options::reserve_bytes`].
    pub fn reserve_bytes(&self) -> u64 {
        self.inner.copies.reserve()
    }

    /// Where a member is reached, as the membership says.
    pub fn peer(&self, node: NodeId) -> Option<Peer> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let address = metrics.membership_config.get_node(&node.0)?.addr.clone();
        Some(Peer { node, address })
    }

    /// How long members wait at most before they stand for election; those without room on their disks may wait longer.
    pub fn longest_election(&self) -> Duration {
        self.inner.patience / 2
    }

    /// The runtime of consensus. Serve peers' calls here, so that no storm of API calls delays a heartbeat; nothing
    /// else belongs on it.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.inner.runtime
    }
}

/// A read lock on the state.
struct StateGuard<'a>(RwLockReadGuard<'a, State>);

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

/// Follows openraft's metrics and keeps `Leadership` up to date, until openraft has stopped.
pub(crate) async fn follow_leadership(raft: Raft, node: NodeId, leadership: watch::Sender<Leadership>) {
    let mut metrics = raft.server_metrics();
    loop {
        let (term, leader, leading) = {
            let metrics = metrics.borrow_and_update();
            let leading = metrics.state == ServerState::Leader;
            (Term(metrics.vote.leader_id.term), metrics.current_leader.map(NodeId), leading)
        };
        leadership.send_if_modified(|known| {
            if (known.term, known.leader, known.leading) == (term, leader, leading) {
                return false;
            }
            tracing::info!(%node, %term, leader = ?leader.map(|leader| leader.0), leading, "leadership");
            *known = Leadership { term, leader, leading, since: Instant::now() };
            true
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
