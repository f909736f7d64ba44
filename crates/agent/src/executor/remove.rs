//! The end of an instance on this node: what it was not told as it ran is told, then its directory goes.

use std::sync::Arc;

use sheaf_engine::keep::Lease;
use sheaf_engine::node::Done;
use sheaf_model::{BucketName, Call, Span};
use tokio::time::timeout;

use super::task::{blocking, end, patiently};
use super::{HUNG_AFTER, Outcome, Shared};
use crate::error::text;
use crate::keeper::Plan;
use crate::keepers::Keepers;

/// Tells it by its command for that, or by starting its plugin for nothing else, and removes it, whatever came of that.
pub(super) async fn remove(shared: Arc<Shared>, bucket: BucketName, call: Call) -> Outcome {
    let (with, name) = (shared.clone(), bucket.clone());
    if let Some(plan) = blocking(move || untold(&with.keepers, &name, call)).await.flatten() {
        // The next life of the agent does it.
        let Ok(_turn) = shared.farewells.acquire().await else { return Outcome::Nothing };
        tell(&shared, plan, call).await;
    }
    let remove = |keepers: &Keepers, bucket: &BucketName| keepers.remove(bucket);
    patiently(shared, bucket, Done::Removed, remove).await
}

/// The plan of a keeper that only tells it; none: it cannot be told, or was as it ran.
fn untold(keepers: &Keepers, bucket: &BucketName, call: Call) -> Option<Plan> {
    let (plan, status) = keepers.last(bucket);
    let plan = plan.filter(|plan| plan.takes_farewell(call))?;
    // Nothing runs under a lease here any more, and nothing of the bucket is run.
    let lease = Lease::Multi { from: plan.basis };
    // It is given no secrets any more: its bucket is not this node's.
    let plan = plan.without_secrets();
    status.is_none_or(|status| status.told != Some(call)).then_some(Plan {
        farewell: Some(call),
        lease,
        ..plan
    })
}

async fn tell(shared: &Arc<Shared>, plan: Plan, call: Call) {
    let (bucket, within) = (plan.bucket.clone(), plan.farewell_within());
    let handle = match shared.keepers.spawn(plan).await {
        Ok(handle) => handle,
        Err(error) => {
            return tracing::warn!(%bucket, %call, error = text(&error), "could not be told what it was to be told at its end");
        }
    };
    let patience = Span(within.0.saturating_add(HUNG_AFTER.0)).duration();
    match timeout(patience, handle.ended()).await {
        Ok(last) if last.message.is_empty() => {}
        Ok(last) => {
            tracing::warn!(%bucket, %call, message = last.message, "what it was told at its end failed");
        }
        Err(_) => drop(end(shared.clone(), bucket).await),
    }
}
