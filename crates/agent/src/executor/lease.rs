//! `lease.json` in the data directory: how long a lease of this cluster lasts. A later life of the agent needs to know
//! before it has heard of any settings: an instance may be there whose keeper lives and does not say its deadline.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sheaf_model::{LeaseSettings, Span};

use crate::keeper::layout::{FileError, read_json, write_json};

const FILE: &str = "lease.json";

#[derive(Serialize, Deserialize)]
struct Lease {
    ttl: Span,
}

/// Writes it. Not synced: after another boot no lease of this one holds.
pub(super) fn write(data_dir: &Path, ttl: Span) -> Result<(), FileError> {
    write_json(&data_dir.join(FILE), &Lease { ttl }, false)
}

/// Reads it; what a cluster begins with if it is not there or cannot be read.
pub(super) fn read(data_dir: &Path) -> Span {
    let written = read_json::<Lease>(&data_dir.join(FILE)).ok().flatten();
    written.map_or_else(|| LeaseSettings::default().ttl, |lease| lease.ttl)
}
