//! Opening a replica and running what belongs to it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use sheaf_model::{NodeId, Term};
use sheaf_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::beat::{self, Rounds};
use crate::elect::{self, Patience};
use crate::error::{OpenError, ServiceError};
use crate::log::LogStore;
use crate::machine::{Machine, Shared};
use crate::network::Network;
use crate::options::Options;
use crate::peer::Peers;
use crate::proof::Proof;
use crate::proposer;
use crate::raft::Raft;
use crate::reads;
use crate::replica::{Inner, Leadership, Replica, follow_leadership};
use crate::snapshot::Copies;
use crate::space;
use crate::timer::Timers;
use crate::writer;

/// How long the end may take: openraft's last messages, then SQLite's last transaction.
const CLOSE: Duration = Duration::from_secs(5);
/// How often it is looked whether consensus has failed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Owns the runtime, the tasks and the thread behind a [`Replica`]. Run it; dropping it ends them without order.
pub struct Service {
    replica: Replica,
    tasks: JoinSet<()>,
    writer: JoinHandle<()>,
    runtime: OwnRuntime,
}

/// One thread on which everything of openraft runs: its tasks wake each other without waking a thread, which is most of
/// what an idle member does. The log and SQLite have threads of their own. Dropped, it ends without being waited for.
struct OwnRuntime {
    /// Dropped to end it.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl OwnRuntime {
    fn start() -> io::Result<(Self, Handle)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("sheaf-raft".to_owned()).spawn(move || {
            // Never sent: the other end is dropped.
            drop(runtime.block_on(stopped));
            runtime.shutdown_timeout(CLOSE);
        })?;
        Ok((Self { stop, thread }, handle))
    }

    /// Waits for its last task.
    fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread of consensus panicked");
        }
    }
}

impl Replica {
    /// Opens this node's replica: loads the state that `store` holds, and lets openraft apply the rest of the log. A
    /// directory that is new belongs to no cluster yet: [`Replica::initialize`], or the leader adds this member.
    ///
    /// The store belongs to the replica from now on; take a reader from it before. `node` is the number that this data directory has in the log, always the same one.
    ///
    /// Boxed, so that openraft is compiled here, and not with whoever waits for it.
    pub fn open(
        options: Options,
        store: Store,
        node: NodeId,
        peers: Arc<dyn Peers>,
    ) -> BoxFuture<'static, Result<(Self, Service), OpenError>> {
        Box::pin(Self::open_apart(options, store, node, peers))
    }

    async fn open_apart(
        options: Options,
        store: Store,
        node: NodeId,
        peers: Arc<dyn Peers>,
    ) -> Result<(Self, Service), OpenError> {
        let config = Arc::new(options.raft_config()?);
        let (runtime, handle) = OwnRuntime::start().map_err(OpenError::Threads)?;
        let opening = Opening { options, config, store, node, peers };
        // On its own runtime: openraft starts its tasks where it is opened.
        let opened = handle.spawn(opening.open(handle.clone())).await;
        let Parts { replica, tasks, writer } =
            opened.map_err(|error| OpenError::Start(error.to_string()))??;
        Ok((replica.clone(), Service { replica, tasks, writer, runtime }))
    }
}

#[cfg(test)]
impl Replica {
    /// The same on the caller's runtime, whose time need not be real. Also gives the tasks, and the thread that writes
    /// SQLite.
    pub(crate) async fn open_here(
        options: Options,
        store: Store,
        node: NodeId,
        peers: Arc<dyn Peers>,
    ) -> Result<(Self, JoinSet<()>, JoinHandle<()>), OpenError> {
        let config = Arc::new(options.raft_config()?);
        let opening = Opening { options, config, store, node, peers };
        let opened = tokio::spawn(opening.open(Handle::current())).await;
        let Parts { replica, tasks, writer } =
            opened.map_err(|error| OpenError::Start(error.to_string()))??;
        Ok((replica, tasks, writer))
    }
}

struct Opening {
    options: Options,
    config: Arc<openraft::Config>,
    store: Store,
    node: NodeId,
    peers: Arc<dyn Peers>,
}

struct Parts {
    replica: Replica,
    tasks: JoinSet<()>,
    writer: JoinHandle<()>,
}

impl Opening {
    async fn open(self, runtime: Handle) -> Result<Parts, OpenError> {
        let Self { options, config, store, node, peers } = self;
        let log = open_log(&options.dir)?;
        let copies = Copies::new(store.reader(), &options.dir, options.reserve_bytes);
        let copies = copies.map_err(|source| log_error(&options.dir, source))?;
        let (state, position) = writer::load(&store)?;
        if let Some(applied) = position.applied
            && log.is_pristine()
        {
            return Err(OpenError::LogLost {
                dir: options.dir.display().to_string(),
                applied: applied.index,
            });
        }
        let writer = writer::start(store, position.clone(), (state.revision, state.cluster.history))
            .map_err(OpenError::Threads)?;
        let writer::Started { handle: jobs, written, thread: writer } = writer;

        let shared = Arc::new(Shared::new(state, position.clone(), options.ring_rows));
        let machine = Machine::new(shared.clone(), jobs, position);
        let patience = 2 * options.election_max;
        let (proof, append_deadline) = (Proof::default(), patience);
        let network =
            Network { peers: peers.clone(), copies: copies.clone(), append_deadline, proof: proof.clone() };
        let raft = Raft::new(node.0, config, network, log.clone(), machine).await;
        let raft = raft.map_err(|error| OpenError::Start(error.to_string()))?;

        let unknown = Leadership { term: Term(0), leader: None, leading: false, since: Instant::now() };
        let (leadership_sender, leadership) = watch::channel(unknown);
        let (space_sender, space) = watch::channel(space::look(&options.dir, options.reserve_bytes));
        let (proposer, proposer_handle) = proposer::new(leadership.clone(), space.clone());
        let rounds = Rounds::new(options.heartbeat);
        let (reads, reads_handle) = reads::new(shared.applied.subscribe(), rounds.clone(), proof, patience);
        let election = Patience::new(&options, leadership.clone());
        let timers = Timers::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(elect::run(raft.clone(), node, election.clone(), space.clone(), timers.clone()));
        tasks.spawn(follow_leadership(raft.clone(), node, leadership_sender));
        tasks.spawn(beat::run(raft.clone(), leadership.clone(), rounds.clone(), timers.clone()));
        let (dir, ballast) = (options.dir.clone(), options.ballast.clone());
        tasks.spawn(space::watch(dir, options.reserve_bytes, ballast, space_sender));
        tasks.spawn(proposer.run(raft.clone()));
        tasks.spawn(reads.run(raft.clone()));
        tasks.spawn(compact(raft.clone(), log, shared.clone(), options.log_bytes));
        elect_if_alone(&raft, node).await;

        let inner = Inner {
            node,
            raft,
            shared,
            peers,
            copies,
            proposer: proposer_handle,
            reads: reads_handle,
            rounds,
            leadership,
            space,
            runtime,
            patience,
            election,
            written,
            timers,
        };
        Ok(Parts { replica: Replica { inner: Arc::new(inner) }, tasks, writer })
    }
}

fn open_log(dir: &Path) -> Result<LogStore, OpenError> {
    std::fs::create_dir_all(dir).and_then(|()| LogStore::open(dir)).map_err(|source| log_error(dir, source))
}

pub(crate) fn log_error(dir: &Path, source: std::io::Error) -> OpenError {
    let dir = dir.display().to_string();
    match source.kind() {
        // An older file that ends too early is no torn end: what followed it is there.
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            OpenError::LogDamaged { dir, source }
        }
        _ => OpenError::Log { dir, source },
    }
}

/// A cluster of one has nobody to wait for.
async fn elect_if_alone(raft: &Raft, node: NodeId) {
    let alone = {
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().eq([node.0])
    };
    if alone && let Err(error) = raft.trigger().elect(false).await {
        tracing::warn!("cannot stand for election at once: {error}");
    }
}

/// Keeps the log's files below `limit` where entries are large: openraft counts entries only. Keeps a few for members
/// that are a moment behind. Runs until it is dropped.
async fn compact(raft: Raft, log: LogStore, shared: Arc<Shared>, limit: u64) {
    const EVERY: Duration = Duration::from_secs(2);
    const KEEP: u64 = 32;
    loop {
        tokio::time::sleep(EVERY).await;
        if log.bytes() <= limit {
            continue;
        }
        // What is durable now may be cut; what is applied now becomes durable, for the next time.
        let durable = shared.durable.borrow().applied.map_or(0, |log_id| log_id.index);
        if raft.trigger().purge_log(durable.saturating_sub(KEEP)).await.is_err()
            || raft.trigger().snapshot().await.is_err()
        {
            return;
        }
    }
}

impl Service {
    /// Runs until `stop`, then closes in order: openraft, the proposals still waiting (each gets an answer), SQLite.
    /// Returns earlier only when consensus has failed.
    ///
    /// Boxed, so that all of it is compiled here, and not with whoever waits for it.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, Result<(), ServiceError>> {
        Box::pin(self.run_all(stop))
    }

    async fn run_all(self, stop: CancellationToken) -> Result<(), ServiceError> {
        let metrics = self.replica.inner.raft.metrics();
        let mut server = self.replica.inner.raft.server_metrics();
        let said = || metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        let failed = async {
            loop {
                if let Some(error) = said() {
                    return error;
                }
                tokio::select! {
                    // These change seldom; those that tell of a failure change with every message, and would wake us for
                    // each. Dropping either loses nothing.
                    changed = server.changed() => if changed.is_err() {
                        return said().unwrap_or_else(|| "its core is gone".to_owned());
                    },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        };
        let failure = tokio::select! {
            // Both only watch: dropping one loses nothing.
            () = stop.cancelled() => None,
            failure = failed => Some(failure),
        };
        self.close().await;
        failure.map_or(Ok(()), |why| Err(ServiceError::Failed(why)))
    }

    async fn close(mut self) {
        let raft = self.replica.inner.raft.clone();
        if tokio::time::timeout(CLOSE, raft.shutdown()).await.is_err() {
            tracing::warn!("openraft did not stop within {CLOSE:?}");
        }
        self.tasks.shutdown().await;
        // openraft's tasks hold the machine, the machine holds the writer's queue: first they end, then the writer
        // finishes what waits. The runtime's end also closes the log's files.
        let (runtime, writer) = (self.runtime, self.writer);
        let ended = tokio::task::spawn_blocking(move || {
            runtime.end();
            writer.join()
        });
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the thread that writes SQLite panicked; the log still holds what is missing");
        }
    }
}
