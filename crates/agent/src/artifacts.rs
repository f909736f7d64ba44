//! Has the artifacts here that the node wants: fetched, verified, unpacked; and tells the node how far it is.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sheaf_artifact::{Cache, FetchError, holders};
use sheaf_engine::artifact::sources;
use sheaf_engine::node::Input;
use sheaf_engine::node::artifact::Wanted;
use sheaf_model::{Artifact, ClusterId, Contact, Digest, Holding, NodeId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::Options;
use crate::error::text;
use crate::link::Members;

/// After a failure what is wanted is tried again; each further time after twice as long, up to the longest: whoever looks for
/// what nobody has asks all nodes.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_LONGEST: Duration = Duration::from_secs(15);
/// What is here is looked at so often all the same: somebody may have removed it.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The node hears of progress at most so often: each time is a verdict of every bucket that waits.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Has artifacts here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetcher {
    cache: Cache,
    cluster: ClusterId,
    node: NodeId,
    members: Members,
}

/// What it takes.
pub(crate) struct Artifacts {
    fetcher: Fetcher,
    wanted: watch::Receiver<Option<Wanted>>,
    /// To the agent's loop.
    inputs: mpsc::Sender<Input>,
}

impl Artifacts {
    /// Of an agent that takes `inputs`; what it wants is sent to the other end.
    pub(crate) fn new(
        options: &Options,
        inputs: mpsc::Sender<Input>,
    ) -> (Self, watch::Sender<Option<Wanted>>) {
        let (want, wanted) = watch::channel(None);
        (Self { fetcher: Fetcher::new(options), wanted, inputs }, want)
    }

    /// Runs until told to stop. One artifact after the other: the disk is shared with what runs.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            // What was fetched of a blob is on disk, and gone on with by the next life.
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut again = AGAIN;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let mut failed = false;
            if let Some(Wanted { needed, keep }) = wanted {
                self.fetcher.cache.keep(keep).await;
                for artifact in &needed {
                    if self.wanted.has_changed().unwrap_or(true) {
                        break;
                    }
                    let holding = self.have(artifact).await;
                    if let Holding::Failed(why) = &holding {
                        tracing::warn!(module = %artifact.module, why, "its artifact is not here");
                        failed = true;
                    }
                    self.tell(artifact.digest, holding).await;
                }
                self.fetcher.cache.sweep().await;
            }
            let wait = if failed { again } else { LOOK_EVERY };
            again = if failed { (again * 2).min(AGAIN_LONGEST) } else { AGAIN };
            tokio::select! {
                // Dropping `changed` loses nothing: the value stays.
                changed = self.wanted.changed() => if changed.is_err() { return std::future::pending().await },
                () = tokio::time::sleep(wait) => {} // dropping a wait loses nothing
            }
        }
    }

    /// Nobody listens any more when the agent stops.
    async fn tell(&self, digest: Digest, holding: Holding) {
        let _ = self.inputs.send(Input::Holds(digest, holding)).await;
    }

    async fn have(&self, artifact: &Artifact) -> Holding {
        let told = Mutex::new(Instant::now());
        let progress = |have: u64| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.elapsed() >= TELL_EVERY {
                *told = Instant::now();
                let percent = u8::try_from(have * 100 / artifact.size.max(1)).unwrap_or(100);
                // A loop that has no room for it is busy with what matters more.
                let _ = self.inputs.try_send(Input::Holds(artifact.digest, Holding::Fetching(percent)));
            }
        };
        match self.fetcher.have(artifact, &progress).await {
            Ok(path) => Holding::Ready(path),
            Err(why) => Holding::Failed(why),
        }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// For the node of these options.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            cache: options.cache.clone(),
            cluster: options.cluster.clone(),
            node: options.node,
            members: options.members.clone(),
        }
    }

    /// Where what it fetches is kept.
    pub(crate) const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Where an artifact's files are, once they are here; `progress` hears of the bytes that have come. The error is for people.
    pub(crate) async fn have(&self, artifact: &Artifact, progress: &impl Fn(u64)) -> Result<String, String> {
        if !self.cache.has(&artifact.digest) {
            let from = sources(self.node, &artifact.digest, (self.members)());
            self.fetch(artifact, &from, progress).await.map_err(|error| text(&error))?;
        }
        let unpacked = self.cache.unpacked(artifact).await.map_err(|error| text(&error))?;
        Ok(unpacked.to_string_lossy().into_owned())
    }

    /// From a member, or else from any node that has it.
    async fn fetch(
        &self,
        artifact: &Artifact,
        members: &[Contact],
        progress: &impl Fn(u64),
    ) -> Result<(), FetchError> {
        let error = match self.cache.fetch(&self.cluster, artifact, members, progress).await {
            Err(error @ FetchError::Nowhere(_)) => error,
            done => return done,
        };
        let others = holders(&self.cluster, artifact, members, self.cache.transport()).await;
        let others: Vec<Contact> = others.into_iter().filter(|other| !members.contains(other)).collect();
        if others.is_empty() {
            return Err(error);
        }
        let others = sources(self.node, &artifact.digest, others);
        self.cache.fetch(&self.cluster, artifact, &others, progress).await
    }
}
