//! What several tasks are made of: words that are waited for, work on the disk, what needs a bucket's lock, a last resort.

use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::node::Done;
use sheaf_model::BucketName;
use tokio::sync::watch;

use super::{Outcome, Shared};
use crate::error::text;
use crate::keeper::Status;
use crate::keepers::{KeeperError, Keepers};

/// Between two looks at something that is about to end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often to look before it is a failure.
const LOOKS: u32 = 50;

/// Waits for a keeper's next word. Its last one counts only once the keeper is gone and the bucket's lock is free:
/// what follows an end needs the lock.
pub(super) async fn listen(bucket: BucketName, serial: u64, mut status: watch::Receiver<Status>) -> Outcome {
    let closed = loop {
        match status.changed().await {
            Ok(()) if status.borrow().end.is_some() => {}
            Ok(()) => break false,
            Err(_) => break true,
        }
    };
    Outcome::Said { bucket, serial, status, closed }
}

/// Runs what blocks on the disk; none if it broke off.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// Does what needs the bucket's lock, waiting a while for a keeper that is about to end.
pub(super) async fn patiently(
    shared: Arc<Shared>,
    bucket: BucketName,
    done: Done,
    work: impl Fn(&Keepers, &BucketName) -> Result<(), KeeperError> + Clone + Send + 'static,
) -> Outcome {
    let Ok(_slot) = shared.slots.acquire().await else { return Outcome::Nothing };
    for look in 0.. {
        let (work, with, name) = (work.clone(), shared.clone(), bucket.clone());
        let error = match blocking(move || work(&with.keepers, &name)).await {
            Some(Ok(())) => return Outcome::Done(bucket, done),
            Some(Err(KeeperError::Busy { .. })) if look < LOOKS => {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Some(Err(error)) => text(&error),
            None => "it broke off".to_owned(),
        };
        tracing::warn!(%bucket, error, "could not be carried out; trying again later");
        return Outcome::Done(bucket, Done::Failed { reason: error, again: true });
    }
    Outcome::Nothing
}

/// SIGKILL to everything of a bucket, until nothing is left.
pub(super) async fn end(shared: Arc<Shared>, bucket: BucketName) -> Outcome {
    for _ in 0..LOOKS {
        let (with, name) = (shared.clone(), bucket.clone());
        match blocking(move || with.keepers.kill(&name)).await {
            Some(Ok(true)) => return Outcome::Nothing,
            Some(Ok(false)) | None => tokio::time::sleep(LOOK_AGAIN).await,
            Some(Err(error)) => {
                tracing::error!(%bucket, error = text(&error), "cannot be killed");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
    Outcome::Nothing
}
