//! Opens this node's replica when it becomes a member, and hands what belongs to it to whoever runs services.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use sheaf_consensus::{Options, Replica, Service};
use sheaf_control::{Member, Opener, RemotePeers};
use sheaf_model::{ClusterId, NodeId};
use sheaf_store::Store;
use sheaf_wire::Transport;
use tokio::sync::{OnceCell, mpsc};

use crate::config::{Config, Raft};
use crate::data::{Record, SharedDir, ballast, replica_dir};
use crate::disk;

/// Opens once; see [`Opener`].
pub(crate) struct ReplicaOpener(Arc<Opening>);

struct Opening {
    config: Arc<Config>,
    dir: PathBuf,
    data: SharedDir,
    /// How members are reached.
    transport: Transport,
    /// Known when the node is registered, which is before it can become a member.
    cluster: Mutex<Option<ClusterId>>,
    opened: OnceCell<Member>,
    services: mpsc::Sender<Service>,
}

impl ReplicaOpener {
    /// `services` receives the one service that must be run.
    pub(crate) fn new(
        config: Arc<Config>,
        (dir, data): (std::path::PathBuf, SharedDir),
        transport: Transport,
        services: mpsc::Sender<Service>,
    ) -> Self {
        let cluster = Mutex::new(None);
        let opened = OnceCell::new();
        Self(Arc::new(Opening { config, dir, data, transport, cluster, opened, services }))
    }

    /// The cluster this node is registered in.
    pub(crate) fn belongs_to(&self, cluster: ClusterId) {
        *self.0.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }
}

impl Opening {
    async fn open_once(&self, node: NodeId) -> Result<Member, String> {
        let cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cluster = cluster.ok_or_else(|| "this node belongs to no cluster".to_owned())?;
        // On disk before the first vote is: a member that forgot that it is one would not come back by itself.
        let of = |record: &Record| record.cluster.as_ref() == Some(&cluster);
        self.data.update(|record| record.member |= of(record)).map_err(|error| error.to_string())?;
        let dir = replica_dir(&self.dir, &cluster);
        std::fs::create_dir_all(&dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
        let path = dir.join(sheaf_consensus::DATABASE);
        let opening = tokio::task::spawn_blocking(move || Store::open(&path));
        let store = opening.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let reader = store.reader();
        let raft = timings(self.config.raft, dir.clone()).await;
        let options = Options {
            heartbeat: raft.heartbeat.duration(),
            election_min: raft.election_min.duration(),
            election_max: raft.election_max.duration(),
            ballast: Some(ballast(&self.dir)),
            ..Options::new(dir.join(sheaf_consensus::LOG))
        };
        let peers = RemotePeers::new(cluster, node, self.transport.clone());
        let opened = Replica::open(options, store, node, peers).await;
        let (replica, service) = opened.map_err(|error| error.to_string())?;
        self.services.send(service).await.map_err(|_| "this node is stopping".to_owned())?;
        Ok(Member { replica, reader })
    }
}

/// As configured, or more where the disk is too slow for that.
async fn timings(raft: Raft, dir: PathBuf) -> Raft {
    match tokio::task::spawn_blocking(move || disk::synced_writes(&dir, disk::FEW)).await {
        Ok(Ok(times)) => disk::too_slow(raft, &times).map_or(raft, |slow| {
            tracing::warn!("{slow}");
            slow.raised
        }),
        // Whoever opens the log here next says what is wrong.
        Ok(Err(_)) | Err(_) => raft,
    }
}

impl Opener for ReplicaOpener {
    fn open(&self, node: NodeId) -> BoxFuture<'_, Result<Member, String>> {
        let it = Arc::clone(&self.0);
        // Whoever asks may hang up: a member that sends its log waits no longer than it must. What it has begun goes on, or the
        // next one would find files that are locked.
        let opening =
            tokio::spawn(async move { it.opened.get_or_try_init(|| it.open_once(node)).await.cloned() });
        Box::pin(async move {
            match opening.await {
                Ok(opened) => opened,
                Err(error) if error.is_panic() => {
                    Err("the replica was being opened, and that broke off".to_owned())
                }
                Err(_) => Err("this node is stopping".to_owned()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data::DataDir;

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_hangs_up_while_it_is_opened_does_not_keep_the_next_from_it() {
        for hangs_up_after in [0, 1, 3, 10, 30, 100].map(Duration::from_millis) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let config = Config::load(None, [], &[]).expect("the defaults");
            let data = SharedDir::new(DataDir::open(dir.path()).expect("a new directory"));
            let (sender, _services) = mpsc::channel(1);
            let dirs = (dir.path().to_owned(), data);
            let opener = ReplicaOpener::new(Arc::new(config), dirs, Transport::plain(), sender);
            opener.belongs_to(ClusterId("c".to_owned()));
            tokio::time::timeout(hangs_up_after, opener.open(NodeId(1))).await.ok();
            let opened = opener.open(NodeId(1)).await;
            assert!(opened.is_ok(), "after {hangs_up_after:?}: {:?}", opened.err());
        }
    }
}
