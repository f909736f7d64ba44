//! Reading beside the writer.

use std::path::Path;

use sheaf_model::Revision;

use crate::error::StoreError;

/// Reads what the store has committed, on connections of its own: never waits for the writer nor stops it.
/// Cheap to clone; every clone may be used from any thread. Outlives replacements of the database.
#[derive(Clone, Debug)]
pub struct Reader {}

impl Reader {
    /// The revision that is committed here: what is read now is at least as new.
    pub fn revision(&self) -> Result<Revision, StoreError> {
        unimplemented!()
    }

    /// See [`crate::Store::backup`]; for threads that do not own the store.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        unimplemented!("{to:?}")
    }
}
