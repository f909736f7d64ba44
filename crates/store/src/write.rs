//! Changes become rows.

use sheaf_engine::Change;
use sheaf_model::Revision;

use crate::error::StoreError;
use crate::row::Rows;
use crate::store::Store;

impl Store {
    /// Commits `changes`, the revision they lead to and the applied position, all in one transaction or nothing.
    /// The commit is visible to readers at once and survives this process, a power cut only after
    /// [`Store::make_durable`]. `applied` is kept unread. When it fails, the same changes can be written again.
    pub fn write<'c>(
        &mut self,
        changes: impl IntoIterator<Item = &'c Change>,
        revision: Revision,
        applied: &[u8],
    ) -> Result<(), StoreError> {
        let (db, path) = self.db_mut("write to")?;
        let failed = StoreError::sqlite("write to", path);
        let transaction = db.transaction().map_err(&failed)?;
        let mut rows = Rows::new(&transaction, path);
        for change in changes {
            rows.put(change)?;
        }
        let events = rows.events().cast_signed();
        let meta = |sql: &str, value: &dyn rusqlite::ToSql| {
            transaction.prepare_cached(sql).and_then(|mut sql| sql.execute([value])).map_err(&failed)
        };
        if events > 0 {
            meta("UPDATE meta SET value = value + ? WHERE name = 'events'", &events)?;
        }
        meta("UPDATE meta SET value = ? WHERE name = 'revision'", &revision.0.cast_signed())?;
        meta("INSERT OR REPLACE INTO meta VALUES ('applied', ?)", &applied)?;
        transaction.commit().map_err(&failed)
    }
}
