//! The secrets of a program that its keeper is about to start again: as they are then, not as they were at its birth.

use std::sync::Arc;

use sheaf_model::{BucketName, Epoch};

use super::{Outcome, Shared, blocking};
use crate::keepers::Handle;

/// Gives a keeper that waits to start its program again the secrets as they are now. One that cannot be had leaves
/// it with those that it has: a program that ran must not stay away because nobody can be asked.
pub(super) async fn renew(
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    bucket: BucketName,
    epoch: Option<Epoch>,
) -> Outcome {
    let (with, name) = (shared.clone(), bucket.clone());
    let plan = blocking(move || with.keepers.last(&name).0).await.flatten();
    if let Some(plan) = plan.filter(|plan| !plan.confidential.is_empty()) {
        match shared.open(&plan, epoch).await {
            Ok(opened) => handle.renew(opened),
            Err(reason) => tracing::warn!(%bucket, reason, "starts again with the secrets that it had"),
        }
    }
    Outcome::Nothing
}
