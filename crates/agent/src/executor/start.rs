//! Starting an instance, and taking one over.

use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::node::{Birth, Done, Start};
use sheaf_model::{BucketName, Span};

use super::task::blocking;
use super::{Fresh, Outcome, Shared, StartedFrom, origin, plan};
use crate::error::text;
use crate::keeper::Plan;
use crate::keepers::KeeperError;

/// Between two tries to reach a keeper that does not answer.
const ADOPT_AGAIN: Duration = Duration::from_secs(1);

/// So often a keeper is spawned whose place is still held by one that then turns out to have just ended.
const TRIES: u32 = 3;

/// Starts an instance; its former one is dead.
pub(super) async fn start(shared: Arc<Shared>, start: Box<Start>) -> Outcome {
    let bucket = start.bucket.name.clone();
    let Ok(_slot) = shared.slots.acquire().await else {
        return Outcome::Done(bucket, Done::Failed { reason: "the agent stops".to_owned(), again: true });
    };
    match spawn(&shared, &start).await {
        Ok(fresh) => Outcome::Started(bucket, Box::new(fresh)),
        Err((reason, again)) => {
            tracing::warn!(%bucket, reason, "cannot be started");
            Outcome::Done(bucket, Done::Failed { reason, again })
        }
    }
}

/// Spawns the keeper; an error says why, and whether trying again can help.
async fn spawn(shared: &Arc<Shared>, start: &Start) -> Result<Fresh, (String, bool)> {
    let bucket = &start.bucket.name;
    let dir = shared.keepers.program_dir(bucket);
    let binary = shared.binary.to_string_lossy();
    let place = plan::Place { node: &shared.node, boot: &shared.boot, dir: &dir, binary: &binary };
    let mut plan = plan::plan(start, &place).map_err(|error| (error.to_string(), false))?;
    let (with, name) = (shared.clone(), bucket.clone());
    if let Some((_, Some(former))) = blocking(move || with.keepers.last(&name)).await {
        plan.carry_on(&former, &shared.boot);
    }
    let opened = shared.open(&plan, start.mode.epoch()).await.map_err(|reason| (reason, true))?;
    let birth = Birth { mode: start.mode, origin: start.origin, until: start.until };
    let (grace, speaks) = (plan.stop.grace, plan.tells());
    let mut tries = TRIES;
    let handle = loop {
        tries -= 1;
        match shared.keepers.spawn_with(plan.clone(), opened.clone()).await {
            Ok(handle) => break handle,
            // A keeper that this agent did not know: whatever it runs, the node decides about it.
            Err(KeeperError::Busy { .. }) => {}
            // It takes its time: without a lease nothing would end what nobody knows of.
            Err(KeeperError::Silent { .. }) => write_origin(shared, start).await,
            Err(error) => return Err((text(&error), true)),
        }
        match adopt(shared, bucket).await {
            // It was the former one, on its last steps, or saw that nobody waited for it; its place is free now.
            Err(KeeperError::Gone { .. }) if tries > 0 => {}
            adopted => return adopted.map_err(|error| (text(&error), true)),
        }
    };
    write_origin(shared, start).await;
    Ok(Fresh { handle, birth, grace, speaks })
}

/// What it was started from: whoever takes it over reads that.
async fn write_origin(shared: &Arc<Shared>, start: &Start) {
    let (with, name, from) = (shared.clone(), start.bucket.name.clone(), start.origin.into());
    match blocking(move || origin::write(&with.keepers, &name, from)).await {
        Some(Ok(())) => {}
        failed => {
            tracing::warn!(bucket = %start.bucket.name, ?failed, "its origin.json could not be written");
        }
    }
}

/// Takes over a keeper that lives.
pub(super) async fn adopt(shared: &Arc<Shared>, bucket: &BucketName) -> Result<Fresh, KeeperError> {
    let handle = shared.keepers.adopt(bucket).await?;
    let (with, name) = (shared.clone(), bucket.clone());
    let read = move || (with.keepers.last(&name).0, origin::read(&with.keepers, &name));
    let (plan, from): (Option<Plan>, StartedFrom) = blocking(read).await.unwrap_or_default();
    let speaks = plan.as_ref().is_some_and(Plan::tells);
    let grace = plan.as_ref().map_or(Span::default(), |plan| plan.stop.grace);
    let birth = plan.map_or_else(Birth::unknown, |plan| from.birth(&plan, &shared.boot));
    let birth = origin::prolonged(birth, &handle.status().borrow(), &shared.boot);
    Ok(Fresh { handle, birth, grace, speaks })
}

/// Tries to take over a keeper until it answers or is gone.
pub(super) async fn adopt_again(shared: Arc<Shared>, bucket: BucketName) -> Outcome {
    loop {
        tokio::time::sleep(ADOPT_AGAIN).await;
        match adopt(&shared, &bucket).await {
            Ok(fresh) => return Outcome::Adopted(bucket, Some(Box::new(fresh))),
            Err(KeeperError::Gone { .. }) => return Outcome::Adopted(bucket, None),
            Err(error) => tracing::debug!(%bucket, %error, "its keeper still does not answer"),
        }
    }
}
