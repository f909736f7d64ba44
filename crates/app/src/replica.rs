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
pub(crate) struct ReplicaOpener {
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
        Self { config, dir, data, transport, cluster, opened: OnceCell::new(), services }
    }

    /// The cluster this node is registered in.
    pub(crate) fn belongs_to(&self, cluster: ClusterId) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }

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
        Box::pin(async move {
            let member = self.opened.get_or_try_init(|| self.open_once(node)).await?;
            Ok(member.clone())
        })
    }
}
