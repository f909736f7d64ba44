//! `origin.json` beside a keeper's plan: the content an instance was started from, by which a later life of the agent
//! tells a release that changes what runs from one that changes only where it runs.

use serde::{Deserialize, Serialize};
use sheaf_model::BucketName;

use super::instance_dir;
use crate::keepers::Keepers;

#[derive(Debug, Serialize, Deserialize)]
struct OriginFile {
    content: u64,
}

/// Writes it. Not synced: without it an instance is at worst restarted once more than needed.
pub(super) fn write(keepers: &Keepers, bucket: &BucketName, content: u64) -> std::io::Result<()> {
    let text = serde_json::to_vec(&OriginFile { content })?;
    std::fs::write(instance_dir(keepers, bucket).join("origin.json"), text)
}

/// Reads it; none if it is not there or cannot be read.
pub(super) fn read(keepers: &Keepers, bucket: &BucketName) -> Option<u64> {
    let text = std::fs::read(instance_dir(keepers, bucket).join("origin.json")).ok()?;
    serde_json::from_slice::<OriginFile>(&text).ok().map(|file| file.content)
}
