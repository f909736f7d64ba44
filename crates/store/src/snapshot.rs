//! Snapshots: the database as one file, made while it is written, and put in its place.

use std::path::Path;

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Writes the database as committed now to the file `to`, whole and on disk when this returns; a file that was
    /// there is replaced. Writing goes on meanwhile. Needs no store of its own: [`crate::Reader::backup`] does the
    /// same on any thread.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.reader().backup(to)
    }

    /// The applied position that the snapshot file at `path` carries; none: it never had any.
    pub fn read_applied(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        unimplemented!("{path:?}")
    }

    /// Puts the snapshot file `with` in the database's place; `with` must lie on the same file system and is gone
    /// afterwards. Readers wait for it and then see the new content; a backup under way ends as superseded. After a
    /// crash the database is the old one or the new one. Call [`Store::load`] next.
    pub fn replace(&mut self, with: &Path) -> Result<(), StoreError> {
        unimplemented!("{with:?}")
    }
}
