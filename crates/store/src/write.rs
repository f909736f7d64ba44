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
        let mut grants = std::mem::take(&mut self.grants);
        let (db, path) = self.db_mut("write to")?;
        let failed = StoreError::sqlite("write to", path);
        let transaction = db.transaction().map_err(&failed)?;
        let mut rows = Rows::new(&transaction, path, &mut grants);
        for change in changes {
            rows.put(change)?;
        }
        let (events, touched) = (rows.events().cast_signed(), rows.touched);
        // Its statements go back to the connection.
        drop(rows);
        let meta = |sql: &str, value: &dyn rusqlite::ToSql| {
            transaction.prepare_cached(sql).and_then(|mut sql| sql.execute([value])).map_err(&failed)
        };
        if events > 0 {
            meta("UPDATE meta SET value = value + ? WHERE name = 'events'", &events)?;
        }
        if touched != 0 {
            meta("UPDATE meta SET value = value + ? WHERE name = 'touched'", &touched)?;
        }
        meta("UPDATE meta SET value = ? WHERE name = 'revision'", &revision.0.cast_signed())?;
        meta("INSERT OR REPLACE INTO meta VALUES ('applied', ?)", &applied)?;
        let committed = transaction.commit().map_err(&failed);
        drop(failed);
        committed?;
        // Lost when it failed: then they are found in the history.
        self.grants = grants;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Event, Timestamp};

    use super::*;

    fn long_event(revision: u64) -> Change {
        Change::Event(Event {
            revision: Revision(revision),
            n: 0,
            step: None,
            at: Timestamp(revision),
            kind: "bucket.updated".to_owned(),
            subject: "/logs/web".to_owned(),
            actor: "cli:alice@ops1".to_owned(),
            node: String::new(),
            before: String::new(),
            after: String::new(),
            message: "x".repeat(10_000),
        })
    }

    #[test]
    fn what_does_not_fit_is_refused_whole_and_can_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("state.db")).unwrap();
        let room = |store: &Store, pages: u32| {
            let (db, _) = store.db("limit").unwrap();
            db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        };
        room(&store, 60);
        let write = |store: &mut Store, revision: u64| {
            store.write(
                &[long_event(revision), long_event(revision + 1)],
                Revision(revision + 1),
                b"position",
            )
        };
        let mut revision = 1;
        let error = loop {
            match write(&mut store, revision) {
                Ok(()) => revision += 2,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.retry_helps());
        assert_eq!(store.load().unwrap().0.revision, Revision(revision - 1));
        room(&store, 1000);
        write(&mut store, revision).unwrap();
        assert_eq!(store.load().unwrap().0.revision, Revision(revision + 1));
    }
}
