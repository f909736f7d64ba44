//! The secrets of a program that its keeper is about to start again: as they are then, not as they were at its birth.

use std::sync::Arc;

use sheaf_model::{BucketName, Epoch};

use super::task::blocking;
use super::{Outcome, Shared};
use crate::keeper::Opened;
use crate::keepers::Handle;

/// Gives a keeper the secrets as they are now, as the answer to its question (none: it did not ask). Where they cannot be had it
/// starts with those that it has: a program that ran must not stay away because nobody can be asked.
pub(super) async fn renew(
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    bucket: BucketName,
    (epoch, asked): (Option<Epoch>, Option<u64>),
) -> Outcome {
    let (with, name) = (shared.clone(), bucket.clone());
    let plan = blocking(move || with.keepers.last(&name).0).await.flatten();
    let opened = match plan.filter(|plan| !plan.confidential.is_empty()) {
        Some(plan) => shared.open(&plan, epoch).await.unwrap_or_else(|reason| {
            tracing::warn!(%bucket, reason, "starts again with the secrets that it had");
            Opened::default()
        }),
        None => Opened::default(),
    };
    if asked.is_some() || !opened.is_empty() {
        handle.renew(asked, opened);
    }
    Outcome::Nothing
}
