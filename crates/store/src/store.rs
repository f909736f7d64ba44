//! The one writer.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use sheaf_model::Revision;

use crate::error::StoreError;
use crate::reader::{Pool, Reader};
use crate::trail::Grants;
use crate::{schema, snapshot};

/// How long a lock is waited for. Only strangers hold one, e.g. a SQLite shell: our own readers never stop the writer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages (of 4 KiB) of the write-ahead log at which it is carried over into the database. Larger saves writing a page
/// that changes often, smaller keeps the file small.
const CHECKPOINT_PAGES: i64 = 16_000;
/// To what size the write-ahead log shrinks again after a backup or a long query made it grow.
const LOG_BYTES: i64 = 64 << 20;
/// Memory for pages, in KiB, taken as they are written: about the tables that change often, of 10,000 buckets.
const CACHE_KIB: i64 = 16 << 10;
/// Statements kept prepared: more than there are, so that none is ever prepared twice.
const STATEMENTS: usize = 64;

/// The database, open for writing. One per database; belongs to one thread at a time.
#[derive(Debug)]
pub struct Store {
    /// None after a replacement failed half way.
    pub(crate) db: Option<Connection>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) grants: Grants,
}

impl Store {
    /// Opens the database at `path`, or creates it; its folder must exist. Finishes a replacement that a crash cut short.
    /// Refuses what Sheaf did not write and what a newer Sheaf wrote, and leaves it untouched.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        snapshot::finish_replacement(path)?;
        let db = open_for_writing(path)?;
        Ok(Self { db: Some(db), pool: Arc::new(Pool::new(path.to_owned())), grants: Grants::new() })
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        self.pool.path()
    }

    /// A reader of this database.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.pool))
    }

    /// Waits until everything written so far is on disk and says up to which applied position that is; none: nothing
    /// was ever written. The log may be purged up to there, and no further. Costs one fsync.
    ///
    /// If it fails, nothing is known of what is on disk: purge nothing, and try again only if that helps.
    pub fn make_durable(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let (db, path) = self.db_mut("make durable")?;
        let failed = StoreError::sqlite("make durable", path);
        db.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
        // In this mode a commit ends with an fsync of the write-ahead log, which holds all earlier commits that are not
        // in the database yet. One without a change would be skipped, hence the counter.
        let synced = db.execute("UPDATE meta SET value = value + 1 WHERE name = 'syncs'", []);
        let restored = db.pragma_update(None, "synchronous", "NORMAL");
        synced.and(restored).map_err(&failed)?;
        applied(db).map_err(&failed)
    }

    /// The connection and where it leads.
    pub(crate) fn db(&self, doing: &'static str) -> Result<(&Connection, &Path), StoreError> {
        let path = self.pool.path();
        match &self.db {
            Some(db) => Ok((db, path)),
            None => Err(StoreError::Closed { doing, path: path.to_owned() }),
        }
    }

    /// The same for what needs it alone.
    pub(crate) fn db_mut(&mut self, doing: &'static str) -> Result<(&mut Connection, &Path), StoreError> {
        let path = self.pool.path();
        match &mut self.db {
            Some(db) => Ok((db, path)),
            None => Err(StoreError::Closed { doing, path: path.to_owned() }),
        }
    }
}

/// The applied position as last committed.
pub(crate) fn applied(db: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM meta WHERE name = 'applied'")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// The revision as last committed.
pub(crate) fn revision(db: &Connection) -> rusqlite::Result<Revision> {
    let sql = "SELECT value FROM meta WHERE name = 'revision'";
    db.prepare_cached(sql)?.query_row([], |row| row.get(0).map(i64::cast_unsigned).map(Revision))
}

/// Opens and prepares the writer's connection.
pub(crate) fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    let failed = StoreError::sqlite("open", path);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(&failed)?;
    db.busy_timeout(PATIENCE).map_err(&failed)?;
    let kind = schema::identify(&db, path)?;
    let set = |name: &str, value: &dyn rusqlite::ToSql| db.pragma_update(None, name, value).map_err(&failed);
    set("journal_mode", &"WAL")?;
    // Commits do not wait for the disk; the write-ahead log is synced before it is carried over, so that whatever a
    // power cut takes, what is left is whole.
    set("synchronous", &"NORMAL")?;
    set("wal_autocheckpoint", &CHECKPOINT_PAGES)?;
    set("journal_size_limit", &LOG_BYTES)?;
    set("cache_size", &-CACHE_KIB)?;
    set("temp_store", &"MEMORY")?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_transaction_behavior(TransactionBehavior::Immediate);
    schema::bring_up(&mut db, path, kind)?;
    if kind == schema::Kind::New {
        sync_folder(path)?;
    }
    Ok(db)
}

/// Opens a connection that cannot write.
pub(crate) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    let failed = StoreError::sqlite("open for reading", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(&failed)?;
    db.busy_timeout(PATIENCE).map_err(&failed)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(db)
}

/// Opens a connection to a database of its own in memory, which has the one at `path` beside it for reading, under a name
/// that nobody can guess. Also says that name.
pub(crate) fn open_apart(path: &Path) -> Result<(Connection, String), StoreError> {
    let failed = StoreError::sqlite("open for reading", path);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_in_memory_with_flags(flags).map_err(&failed)?;
    db.busy_timeout(PATIENCE).map_err(&failed)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    let name = "SELECT 'sheaf_' || lower(hex(randomblob(16)))";
    let name: String = db.query_row(name, [], |row| row.get(0)).map_err(&failed)?;
    db.execute("ATTACH ? AS ?", [&read_only(path), &name]).map_err(&failed)?;
    Ok((db, name))
}

/// A path as SQLite takes it to open a file only for reading.
fn read_only(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            // Infallible: it writes into a string.
            byte => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri.push_str("?mode=ro");
    uri
}

/// Makes names created, moved and removed beside `path` last.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(StoreError::io("sync the folder", folder))
}

/// `path` with `suffix` at the end of its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Store {
        /// How SQLite would carry it out, step by step.
        pub(crate) fn plan(&self, sql: &str, values: impl rusqlite::Params) -> Vec<String> {
            let (db, _) = self.db("explain").unwrap();
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map(values, |row| row.get::<_, String>(3)).unwrap();
            steps.collect::<Result<_, _>>().unwrap()
        }
    }

    #[test]
    fn a_database_beside_is_only_read_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("50% of a#b?mode=rw é.db");
        drop(Store::open(&path).unwrap());
        let (db, name) = open_apart(&path).unwrap();
        assert_eq!(revision(&db).unwrap(), Revision(0));
        let error = db.execute(&format!("DELETE FROM {name}.meta"), []).unwrap_err();
        assert!(error.to_string().contains("readonly"), "{error}");
        assert_ne!(open_apart(&path).unwrap().1, name);
    }
}
