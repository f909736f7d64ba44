//! `origin.json` beside a keeper's plan: what an instance was started from, as far as its plan does not say it, by which a
//! later life of the agent tells a release that changes what runs from one that changes only where it runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_engine::node::Birth;
use sheaf_engine::reconcile::Origin;
use sheaf_model::{BootId, BucketName, Digest};

use crate::keeper::{Plan, Status};
use crate::keepers::Keepers;

/// What the file holds. None of it known is told apart from everything that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartedFrom {
    /// As in [`Origin`].
    pub(crate) content: u64,
    /// As in [`Origin`].
    #[serde(default)]
    pub(crate) live: Option<u64>,
    /// As in [`Origin`].
    #[serde(default)]
    pub(crate) artifact: Option<Digest>,
}

impl From<Origin> for StartedFrom {
    fn from(origin: Origin) -> Self {
        Self { content: origin.content, live: origin.live, artifact: origin.artifact }
    }
}

impl StartedFrom {
    /// How an instance that is found on disk was started. An unknown `content` is told apart from every known one, so
    /// that a change while the agent was away is not missed.
    pub(super) fn birth(self, plan: &Plan, boot: &BootId) -> Birth {
        let Self { content, live, artifact } = self;
        let origin = Origin { revision: plan.revision, basis: plan.basis, content, live, artifact };
        Birth::of(&plan.lease, origin, boot)
    }
}

/// The same, with the deadline that its keeper got since.
pub(super) fn prolonged(birth: Birth, status: &Status, boot: &BootId) -> Birth {
    let told = status.until.filter(|_| status.boot == *boot && status.epoch == birth.mode.epoch());
    Birth { until: birth.until.max(told), ..birth }
}

/// Writes it. Not synced: without it an instance is at worst restarted once more than needed.
pub(super) fn write(keepers: &Keepers, bucket: &BucketName, from: StartedFrom) -> std::io::Result<()> {
    let text = serde_json::to_vec(&from)?;
    std::fs::write(instance_dir(keepers, bucket).join("origin.json"), text)
}

/// Reads it; nothing is known if it is not there or cannot be read.
pub(super) fn read(keepers: &Keepers, bucket: &BucketName) -> StartedFrom {
    let text = std::fs::read(instance_dir(keepers, bucket).join("origin.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The directory of a bucket's instance.
fn instance_dir(keepers: &Keepers, bucket: &BucketName) -> PathBuf {
    let dir = keepers.program_dir(bucket);
    dir.parent().map_or(dir.clone(), Path::to_path_buf)
}
