//! The one writer.

use std::path::Path;

use crate::error::StoreError;
use crate::reader::Reader;

/// The database, open for writing. One per database; belongs to one thread at a time.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens the database at `path`, or creates it; its folder must exist. Finishes a replacement that a crash cut short.
    /// Refuses what Sheaf did not write and what a newer Sheaf wrote, and leaves it untouched.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        unimplemented!("{path:?}")
    }

    /// A reader of this database.
    pub fn reader(&self) -> Reader {
        unimplemented!()
    }

    /// Waits until everything written so far is on disk and says up to which applied position that is; none: nothing
    /// was ever written. The log may be purged up to there, and no further. Costs one fsync.
    pub fn make_durable(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        unimplemented!()
    }
}
