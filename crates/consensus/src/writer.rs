//! The thread that carries applied changes into SQLite: the only one that writes there.
//!
//! It takes everything that waits and writes it as one transaction together with the position it leads to, so SQLite is
//! always the state at some position, a little behind memory. What it has not written yet is in the log.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use sheaf_engine::{Change, State};
use sheaf_model::{HistorySettings, Revision, Timestamp};
use sheaf_store::{Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::codec::{self, CodecError, Position};
use crate::end;
use crate::ring::ChangeSet;
use crate::snapshot::TempFile;

/// Entries that may wait for SQLite: seconds of lag.
const QUEUE: usize = 4096;
/// Rows that may wait for SQLite, where large values count as many. Past it applying waits, and soon proposals do: memory stays bounded while the disk is
/// full or slow.
const WAITING_ROWS: usize = 32_768;
/// Rows in one transaction, about: enough to make its cost vanish, few enough that a reader sees progress.
const ROWS: usize = 8192;
/// Transactions are so far apart: each costs whole pages, so that one for many changes costs little more than one for
/// one. Who reads SQLite and needs what memory has says so ([`Written`]).
const SPACING: Duration = Duration::from_millis(250);
/// How often is looked whether so many rows wait that the next transaction is due before its time.
const LOOK: Duration = Duration::from_millis(25);
/// Pause before a failed transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Portions of old history dropped each time that SQLite is made durable; what remains goes the next time.
const PRUNED_AT_ONCE: usize = 32;
/// How often a failure that lasts is logged.
const REMIND: Duration = Duration::from_secs(30);

/// What one entry changed, and what the state is after it.
pub(crate) struct Batch {
    pub(crate) sets: Vec<ChangeSet>,
    pub(crate) revision: Revision,
    pub(crate) position: Position,
}

enum Job {
    /// The permit gives the rows back to `WAITING_ROWS` when they are written.
    Write(Batch, OwnedSemaphorePermit),
    Sync {
        done: oneshot::Sender<Position>,
    },
    Replace {
        file: TempFile,
        done: oneshot::Sender<io::Result<(State, Position)>>,
    },
}

/// The way to the writer. The thread ends when the last handle is dropped and all jobs are done.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    jobs: mpsc::Sender<Job>,
    budget: Arc<Semaphore>,
    full: Arc<AtomicU64>,
    hurry: Hurry,
}

/// What SQLite holds, for who reads it. Does not keep the writer alive.
#[derive(Clone)]
pub(crate) struct Written {
    revision: watch::Receiver<Revision>,
    hurry: Hurry,
    full: Arc<AtomicU64>,
}

impl Written {
    /// How often applying waited because so much waited already.
    pub(crate) fn times_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Returns once SQLite holds `revision`. Until then transactions are not held back.
    pub(crate) async fn reached(&mut self, revision: Revision) {
        if *self.revision.borrow() >= revision {
            return;
        }
        self.hurry.up();
        if self.revision.wait_for(|now| *now >= revision).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Makes the writer write what waits, now.
#[derive(Clone)]
struct Hurry {
    wanted: Arc<AtomicBool>,
    thread: Thread,
}

impl Hurry {
    fn up(&self) {
        self.wanted.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl WriterHandle {
    /// Queues what one entry changed. Waits while SQLite is far behind.
    pub(crate) async fn write(&self, batch: Batch) -> io::Result<()> {
        // Never zero, and never more than there is: a huge entry goes when nothing else waits.
        let rows = batch.rows().clamp(1, WAITING_ROWS) as u32;
        if self.budget.available_permits() < rows as usize || self.jobs.capacity() == 0 {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        let permit = self.budget.clone().acquire_many_owned(rows).await.map_err(|_| stopped())?;
        self.jobs.send(Job::Write(batch, permit)).await.map_err(|_| stopped())
    }

    /// Returns once everything queued before is on disk for good, and up to where that is.
    pub(crate) async fn sync(&self) -> io::Result<Position> {
        self.hurry.up();
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Sync { done }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    /// Puts a received database in the place of the present one, durably, and loads it.
    pub(crate) async fn replace(&self, file: TempFile) -> io::Result<(State, Position)> {
        self.hurry.up();
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Replace { file, done }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> io::Error {
    io::Error::other("the thread that writes SQLite has stopped")
}

/// The thread, and the ways to it.
pub(crate) struct Started {
    pub(crate) handle: WriterHandle,
    pub(crate) written: Written,
    pub(crate) thread: JoinHandle<()>,
}

/// Starts the thread, which owns the store from now on. What is given beside is what the store holds.
pub(crate) fn start(
    store: Store,
    position: Position,
    (revision, history): (Revision, HistorySettings),
) -> io::Result<Started> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let budget = Arc::new(Semaphore::new(WAITING_ROWS));
    let wanted = Arc::new(AtomicBool::new(false));
    let pace = Pace { written: None, hurry: wanted.clone(), budget: budget.clone() };
    let (says, revision) = watch::channel(revision);
    let writer = Writer { store, queue, position, history, pace, says };
    let thread = std::thread::Builder::new().name("sheaf-store".to_owned()).spawn(move || writer.run())?;
    let hurry = Hurry { wanted, thread: thread.thread().clone() };
    let full = Arc::<AtomicU64>::default();
    let written = Written { revision, hurry: hurry.clone(), full: full.clone() };
    Ok(Started { handle: WriterHandle { jobs, budget, full, hurry }, written, thread })
}

struct Writer {
    store: Store,
    queue: mpsc::Receiver<Job>,
    /// What SQLite holds.
    position: Position,
    /// How much history is kept, as of there.
    history: HistorySettings,
    pace: Pace,
    /// The revision that SQLite holds.
    says: watch::Sender<Revision>,
}

/// When the next transaction is due.
struct Pace {
    /// When SQLite was last written.
    written: Option<Instant>,
    hurry: Arc<AtomicBool>,
    /// What is missing from it waits.
    budget: Arc<Semaphore>,
}

impl Pace {
    /// Waits until a transaction is due: a while after the last, when many rows wait, or when somebody needs it.
    fn wait(&self) {
        while let Some(early) = self.written.and_then(|at| SPACING.checked_sub(at.elapsed())) {
            let waiting = WAITING_ROWS.saturating_sub(self.budget.available_permits());
            if waiting >= ROWS || self.hurry.swap(false, Ordering::Acquire) {
                return;
            }
            // A thread of its own, with nothing else to do; looks now and then how many rows wait.
            std::thread::park_timeout(early.min(LOOK));
        }
    }
}

impl Writer {
    fn run(mut self) {
        let mut next = self.queue.blocking_recv();
        while let Some(job) = next.take() {
            match job {
                Job::Write(batch, permit) => next = self.write(batch, permit),
                Job::Sync { done } => {
                    self.prune();
                    if self.persevere("make SQLite durable", |store| store.make_durable().map(drop)) {
                        // Whoever stopped waiting for it needs no answer.
                        drop(done.send(self.position.clone()));
                    }
                }
                Job::Replace { file, done } => drop(done.send(self.replace(&file))),
            }
            if next.is_none() {
                next = self.queue.blocking_recv();
            }
        }
    }

    /// Writes this batch and those that wait behind it; returns the first job that is something else.
    fn write(&mut self, first: Batch, permit: OwnedSemaphorePermit) -> Option<Job> {
        self.pace.wait();
        let mut rows = first.rows();
        let mut batches = vec![first];
        let mut permits = vec![permit];
        let mut other = None;
        while rows < ROWS {
            match self.queue.try_recv() {
                Ok(Job::Write(batch, permit)) => {
                    rows += batch.rows();
                    batches.push(batch);
                    permits.push(permit);
                }
                Ok(job) => {
                    other = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        let Some(Batch { revision, position, .. }) = batches.last() else { return other };
        let encoded = codec::encode_position(position);
        let changes = || batches.iter().flat_map(|batch| &batch.sets).flat_map(|set| set.changes.iter());
        if self.persevere("write SQLite", |store| store.write(changes(), *revision, &encoded)) {
            self.position = position.clone();
            self.says.send_replace(*revision);
            for change in changes() {
                if let Change::Cluster(cluster) = change {
                    self.history = cluster.history;
                }
            }
        }
        self.pace.written = Some(Instant::now());
        other
    }

    /// Drops history that is older, or more, than is kept.
    fn prune(&mut self) {
        let now = Timestamp::from_system(SystemTime::now());
        let history = self.history;
        for _ in 0..PRUNED_AT_ONCE {
            let dropped = Cell::new(0);
            let pruned = self.persevere("prune the history", |store| {
                dropped.set(store.prune(&history, now)?);
                Ok(())
            });
            if !pruned || dropped.get() == 0 {
                return;
            }
        }
    }

    fn replace(&mut self, file: &TempFile) -> io::Result<(State, Position)> {
        // Before the file takes the place of what is there: what this build cannot read must not.
        let position = Store::read_applied(file.path()).map_err(io::Error::other)?;
        let position = position.as_deref().map(codec::decode_position).transpose();
        let position = position.map_err(io::Error::other)?.unwrap_or_default();
        let (state, _) = self.store.replace(file.path()).map_err(io::Error::other)?;
        self.position = position.clone();
        self.history = state.cluster.history;
        self.says.send_replace(state.revision);
        Ok((state, position))
    }

    /// Tries until it works where that can help: a full disk passes, and until then the log holds everything. Any other
    /// failure ends the process, as it does for the log. False only if the replica is closed meanwhile.
    fn persevere(&mut self, doing: &str, attempt: impl Fn(&mut Store) -> Result<(), StoreError>) -> bool {
        let mut reminded: Option<Instant> = None;
        loop {
            let Err(error) = attempt(&mut self.store) else { return true };
            if !error.retry_helps() {
                end::disk_failed(doing, &error);
            }
            if self.queue.is_closed() {
                tracing::warn!("cannot {doing} while closing: {error}; the log still holds what is missing");
                return false;
            }
            if reminded.is_none_or(|at| at.elapsed() > REMIND) {
                tracing::error!("cannot {doing}: {error}; trying again every {RETRY:?}");
                reminded = Some(Instant::now());
            }
            // A thread of its own, with nothing else to do.
            std::thread::park_timeout(RETRY);
        }
    }
}

impl Batch {
    fn rows(&self) -> usize {
        self.sets.iter().map(ChangeSet::weight).sum()
    }
}

/// Why the store's content could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Position(#[from] CodecError),
}

/// The state in the store, and the position it stands for.
pub(crate) fn load(store: &Store) -> Result<(State, Position), LoadError> {
    let (state, position) = store.load()?;
    let position = position.as_deref().map(codec::decode_position).transpose()?;
    Ok((state, position.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::FutureExt as _;
    use sheaf_engine::Cluster;
    use sheaf_model::{Event, Span};
    use sheaf_store::EventFilter;
    use tempfile::TempDir;

    use super::*;
    use crate::raft::log_id;
    use crate::snapshot::Copies;

    /// An event, and before it how many of them are to be kept, if that changes.
    fn set(revision: u64, kept: Option<u64>) -> ChangeSet {
        let event = Event {
            revision: Revision(revision),
            n: 0,
            step: None,
            at: Timestamp::from_system(SystemTime::now()),
            kind: "node.ready".to_owned(),
            subject: "a".to_owned(),
            actor: "leader:1".to_owned(),
            node: "a".to_owned(),
            before: String::new(),
            after: String::new(),
            message: String::new(),
        };
        let history = kept.map(|events| HistorySettings { age: Span::seconds(86_400), events });
        let cluster = history.map(|history| Change::Cluster(Cluster { history, ..Cluster::default() }));
        let changes = cluster.into_iter().chain([Change::Event(event)]).collect();
        ChangeSet { revision: Revision(revision), changes }
    }

    fn position(index: u64) -> Position {
        Position { applied: Some(log_id(1, index)), ..Position::default() }
    }

    /// A database of a cluster that had so many events, and keeps so many.
    fn database(path: &Path, events: u64, kept: u64) -> Store {
        let mut store = Store::open(path).unwrap();
        for revision in 1..=events {
            let set = set(revision, (revision == 1).then_some(kept));
            let position = codec::encode_position(&position(revision));
            store.write(set.changes.iter(), Revision(revision), &position).unwrap();
        }
        store
    }

    #[test]
    fn who_applies_and_finds_no_room_waits_and_is_counted() {
        let (jobs, _queue) = mpsc::channel(1);
        let hurry = Hurry { wanted: Arc::default(), thread: std::thread::current() };
        let (budget, full) = (Arc::new(Semaphore::new(WAITING_ROWS)), Arc::<AtomicU64>::default());
        let revision = watch::channel(Revision(0)).1;
        let written = Written { revision, hurry: hurry.clone(), full: full.clone() };
        let handle = WriterHandle { jobs, budget, full, hurry };
        let is_queued = || {
            let batch = Batch { sets: Vec::new(), revision: Revision(1), position: position(1) };
            handle.write(batch).now_or_never().is_some_and(|queued| queued.is_ok())
        };
        assert!(is_queued());
        assert_eq!(written.times_full(), 0);
        assert!(!is_queued(), "nobody writes what is there");
        assert_eq!(written.times_full(), 1);
    }

    #[tokio::test]
    async fn so_much_history_is_kept_as_the_cluster_says_from_the_start_and_whenever_it_changes() {
        let dir = TempDir::new().unwrap();
        let store = database(&dir.path().join("state.db"), 40, 20);
        let reader = store.reader();
        let kept = || reader.events(None, &EventFilter::default(), 1000).unwrap().len();
        let (state, at) = load(&store).unwrap();
        let started = start(store, at, (state.revision, state.cluster.history)).unwrap();
        let Started { handle, thread, .. } = started;
        handle.sync().await.unwrap();
        assert_eq!(kept(), 20);

        let sets = vec![set(41, Some(10))];
        handle.write(Batch { sets, revision: Revision(41), position: position(41) }).await.unwrap();
        handle.sync().await.unwrap();
        assert_eq!(kept(), 10);

        // What another member keeps comes with its database.
        let other = database(&dir.path().join("other.db"), 30, 5);
        let copies = Copies::new(other.reader(), dir.path(), 0).unwrap();
        let file = copies.make().await.unwrap().into_file();
        assert_eq!(handle.replace(file).await.unwrap().0.revision, Revision(30));
        assert_eq!(kept(), 30);
        handle.sync().await.unwrap();
        assert_eq!(kept(), 5);
        drop(handle);
        thread.join().unwrap();
    }
}
