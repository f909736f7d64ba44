//! The replicated state machine: applies committed entries to `State` in memory, publishes what changed, and hands it to
//! the writer thread for SQLite.
//!
//! ```text
//!  committed entry ─decode─► proposals ─engine::apply─► State (memory)  ──► replies to the proposers
//!                                          │ changes
//!                                          ├─publish──► Ring ──► watchers
//!                                          └─bounded──► Writer thread ─one transaction a batch─► SQLite
//! ```

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use sheaf_engine::{Proposal, State};
use sheaf_model::Term;
use tokio::sync::watch;

use crate::codec::{self, Position};
use crate::end;
use crate::raft::{self, Entry, EntryPayload, LogId, Replies, StoredMembership, Types};
use crate::ring::{ChangeSet, Ring};
use crate::snapshot::SnapshotFile;
use crate::writer::{Batch, WriterHandle};

/// Proposals applied under one hold of the write lock: readers and watchers wait some hundred microseconds at most.
const HOLD: usize = 64;

/// What the machine, the replica and its readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    // Many readers (every API call), one writer; all holds are short and none crosses an await.
    state: RwLock<State>,
    pub(crate) ring: Arc<Ring>,
    /// Index of the last entry applied in memory.
    pub(crate) applied: watch::Sender<Option<u64>>,
    /// What is known to be on disk in SQLite, whatever happens: the log may be purged up to here.
    pub(crate) durable: watch::Sender<Position>,
}

impl Shared {
    /// `state` is what SQLite holds, at `position`.
    pub(crate) fn new(state: State, position: Position, ring_rows: usize) -> Self {
        let ring = Arc::new(Ring::new(state.revision, ring_rows));
        let applied = watch::Sender::new(index(&position));
        Self { state: RwLock::new(state), ring, applied, durable: watch::Sender::new(position) }
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a batch in order. Returns the replies, and what changed per command that changed something.
    fn apply(&self, term: Term, proposals: &[Proposal]) -> (Replies, Vec<ChangeSet>) {
        let begun = Instant::now();
        let mut replies = Replies { term, items: Vec::with_capacity(proposals.len()), applied: None };
        let mut sets = Vec::new();
        for some in proposals.chunks(HOLD) {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for proposal in some {
                let mut changes = Vec::new();
                let reply = sheaf_engine::apply(&mut state, term, proposal, &mut changes);
                replies.items.push((state.revision, reply));
                if !changes.is_empty() {
                    sets.push(ChangeSet { revision: state.revision, changes: changes.into() });
                }
            }
        }
        replies.applied = Some((begun, begun.elapsed()));
        (replies, sets)
    }

    fn replace(&self, state: State, position: &Position) {
        let revision = state.revision;
        self.durable.send_replace(position.clone());
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.ring.reset(revision);
        self.applied.send_replace(index(position));
    }
}

/// openraft's view of it. Owned by openraft's state machine task, which calls one method at a time.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    writer: WriterHandle,
    /// What memory holds.
    position: Position,
}

impl Machine {
    /// `position` is what `shared` holds.
    pub(crate) fn new(shared: Arc<Shared>, writer: WriterHandle, position: Position) -> Self {
        Self { shared, writer, position }
    }

    async fn apply_entry(&mut self, entry: Entry) -> io::Result<Replies> {
        let log_id = entry.log_id();
        // A snapshot is the sender's database as it was when sent, which may be newer than the position that openraft
        // knows of it; what it already contains comes once more.
        if self.position.applied.is_some_and(|applied| log_id.index <= applied.index) {
            return Ok(Replies::default());
        }
        let _unharmed = EndOnPanic;
        let (replies, sets) = match entry.payload {
            EntryPayload::Blank => Default::default(),
            EntryPayload::Membership(membership) => {
                self.position.membership = StoredMembership::new(Some(log_id), membership);
                Default::default()
            }
            EntryPayload::Normal(batch) => {
                let proposals = codec::decode_batch(&batch.0).map_err(io::Error::other)?;
                self.shared.apply(raft::term_of(&log_id), &proposals)
            }
        };
        self.position.applied = Some(log_id);
        let revision = self.shared.state().revision;
        self.shared.ring.publish(sets.iter().map(ChangeSet::without_values), revision);
        self.shared.applied.send_replace(Some(log_id.index));
        self.writer.write(Batch { sets, revision, position: self.position.clone() }).await?;
        Ok(replies)
    }
}

/// A panic while applying leaves a state that may be half of a change, and openraft waiting for ever: the process ends
/// instead, as it would for a broken disk.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            end::broken("applying a committed entry panicked, see above");
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    /// At start: what SQLite holds; openraft applies the log from there.
    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.position.applied, self.position.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let replies = self.apply_entry(entry).await?;
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { writer: self.writer.clone(), shared: self.shared.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let SnapshotFile::Received(file) = snapshot else {
            // Asked at start to go back to its own database, which is where it is.
            return Ok(());
        };
        let (state, position) = self.writer.replace(file).await?;
        if position.applied < meta.last_log_id {
            let why =
                format!("the snapshot holds {:?}, its head says {:?}", position.applied, meta.last_log_id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        tracing::info!(revision = %state.revision, "installed a snapshot");
        self.shared.replace(state, &position);
        self.position = position;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, SnapshotFile>>, io::Error> {
        let durable = self.shared.durable.borrow().clone();
        Ok(durable.applied.is_some().then(|| snapshot(durable)))
    }
}

/// Makes what is applied durable in SQLite. That is all a snapshot is until somebody needs a copy: the database itself,
/// and a position up to which the log may be purged.
pub(crate) struct Builder {
    writer: WriterHandle,
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotFile>, io::Error> {
        let position = self.writer.sync().await?;
        self.shared.durable.send_if_modified(|durable| {
            let newer = position.applied > durable.applied;
            if newer {
                durable.clone_from(&position);
            }
            newer
        });
        Ok(snapshot(self.shared.durable.borrow().clone()))
    }
}

fn index(position: &Position) -> Option<u64> {
    position.applied.map(|log_id| log_id.index)
}

fn snapshot(position: Position) -> SnapshotOf<Types, SnapshotFile> {
    let meta =
        SnapshotMetaOf::<Types> { last_log_id: position.applied, last_membership: position.membership };
    openraft::Snapshot { meta, snapshot: SnapshotFile::Live }
}
