//! Artifacts of the modules that subtasks here are of: fetched before the first of them starts, and kept for as long as more may
//! come.
//!
//! Gate 3 has had them fetched, so nearly always they are here; but a node that had no room may have lost one since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sheaf_model::{Artifact, Digest};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Job;
use crate::artifacts::Fetcher;

/// An artifact that nothing was of for so long is let go.
const KEPT: Duration = Duration::from_secs(600);
/// So often one that nobody gives is asked for, before what waits for it fails.
const TRIES: u32 = 3;
/// Before the second try; doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Artifacts that are here and not heard of.
const TOLD: usize = 16;

/// One has been fetched, and where its files are; or could not be, and why, for people.
pub(super) type Stocked = (Digest, Result<String, String>);

/// See the module.
pub(super) struct Stock {
    /// None: nothing can be fetched here.
    fetcher: Option<Fetcher>,
    pieces: BTreeMap<Digest, Piece>,
    tell: mpsc::Sender<Stocked>,
    told: mpsc::Receiver<Stocked>,
}

struct Piece {
    at: At,
    used: Instant,
}

enum At {
    /// It is being fetched; dropping it ends that.
    Coming {
        _task: AbortOnDropHandle<()>,
    },
    Here(String),
}

/// What a job's module has to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Equipped<'a> {
    /// Nothing was pushed for it.
    Without,
    /// Its artifact is there.
    With(&'a str),
    /// Not yet.
    Waits,
}

impl<'a> Equipped<'a> {
    /// Where its artifact is, if it has one.
    pub(super) const fn path(self) -> Option<&'a str> {
        match self {
            Self::With(path) => Some(path),
            Self::Without | Self::Waits => None,
        }
    }
}

impl Stock {
    pub(super) fn new(fetcher: Option<Fetcher>) -> Self {
        let (tell, told) = mpsc::channel(TOLD);
        Self { fetcher, pieces: BTreeMap::new(), tell, told }
    }

    /// Has a job's artifact come, if it has one.
    pub(super) fn want(&mut self, job: &Job) {
        let Some(artifact) = &job.artifact else { return };
        let (now, digest) = (Instant::now(), artifact.digest);
        if let Some(piece) = self.pieces.get_mut(&digest) {
            piece.used = now;
            return;
        }
        let task = tokio::spawn(fetch(self.fetcher.clone(), artifact.clone(), self.tell.clone()));
        let at = At::Coming { _task: AbortOnDropHandle::new(task) };
        self.pieces.insert(digest, Piece { at, used: now });
        self.keep();
    }

    /// What a job that was wanted for has.
    pub(super) fn of(&self, job: &Job) -> Equipped<'_> {
        let Some(artifact) = &job.artifact else { return Equipped::Without };
        match self.pieces.get(&artifact.digest).map(|piece| &piece.at) {
            Some(At::Here(path)) => Equipped::With(path),
            Some(At::Coming { .. }) | None => Equipped::Waits,
        }
    }

    /// The next one that came, or did not. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Stocked {
        match self.told.recv().await {
            Some(told) => told,
            None => std::future::pending().await, // never: one end of it is here
        }
    }

    /// Takes in how a fetch went: one that failed is begun anew for whatever comes next.
    pub(super) fn stocked(&mut self, digest: Digest, went: &Result<String, String>) {
        match went {
            Ok(path) => {
                if let Some(piece) = self.pieces.get_mut(&digest) {
                    piece.at = At::Here(path.clone());
                }
            }
            Err(_) => {
                self.pieces.remove(&digest);
                self.keep();
            }
        }
    }

    /// When [`Stock::let_go`] may have something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pieces.values().map(|piece| piece.used + KEPT).min()
    }

    /// Lets go what was not used for long, and is not `in_use`.
    pub(super) fn let_go(&mut self, in_use: &BTreeSet<Digest>) {
        let now = Instant::now();
        let before = self.pieces.len();
        self.pieces.retain(|digest, piece| {
            if in_use.contains(digest) {
                piece.used = now;
            }
            piece.used + KEPT > now
        });
        if self.pieces.len() < before {
            self.keep();
        }
    }

    fn keep(&self) {
        if let Some(fetcher) = &self.fetcher {
            fetcher.cache().keep_for_jobs(self.pieces.keys().copied().collect());
        }
    }
}

async fn fetch(fetcher: Option<Fetcher>, artifact: Arc<Artifact>, tell: mpsc::Sender<Stocked>) {
    let mut went = Err("this node has no place for artifacts".to_owned());
    let mut pause = AGAIN;
    for tried in 1..=TRIES {
        let Some(fetcher) = &fetcher else { break };
        went = fetcher.have(&artifact, &|_| {}).await;
        match &went {
            Ok(_) => break,
            Err(why) => tracing::warn!(module = %artifact.module, why, "its artifact is not here"),
        }
        if tried < TRIES {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    // The loop ends with the agent.
    let _ = tell.send((artifact.digest, went)).await;
}
