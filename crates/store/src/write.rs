//! Changes become rows.

use sheaf_engine::Change;
use sheaf_model::Revision;

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Commits `changes`, the revision they lead to and the applied position, all in one transaction or nothing.
    /// The commit is visible to readers at once and survives this process, a power cut only after
    /// [`Store::make_durable`]. `applied` is kept unread.
    pub fn write<'c>(
        &mut self,
        changes: impl IntoIterator<Item = &'c Change>,
        revision: Revision,
        applied: &[u8],
    ) -> Result<(), StoreError> {
        let _ = (changes.into_iter().count(), revision, applied);
        unimplemented!()
    }
}
