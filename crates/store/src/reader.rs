//! Reading beside the writer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::Connection;
use sheaf_model::Revision;

use crate::codec::{self, Stored};
use crate::error::StoreError;
use crate::{snapshot, store};

/// Connections kept open when nobody uses them; each may cache 2 MiB of pages.
const IDLE: usize = 4;

/// Reads what the store has committed, on connections of its own: never waits for the writer nor stops it.
/// Cheap to clone; every clone may be used from any thread. Outlives replacements of the database.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: Arc<Pool>,
}

impl Reader {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// The revision that is committed here: what is read now is at least as new.
    pub fn revision(&self) -> Result<Revision, StoreError> {
        self.read("read the revision of", store::revision)
    }

    /// See [`crate::Store::backup`]; for threads that do not own the store.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.pool.lend(|db| snapshot::backup(db, &self.pool, to))
    }

    /// Size of the database in bytes, without what is still beside it in the write-ahead log.
    pub fn size(&self) -> std::io::Result<u64> {
        Ok(std::fs::metadata(self.path())?.len())
    }

    /// Whether the database is about to be replaced, which waits for what is under way.
    pub fn is_replacing(&self) -> bool {
        self.pool.is_replacing()
    }

    /// Where the database is.
    pub(crate) fn path(&self) -> &Path {
        self.pool.path()
    }

    /// Reads a row's body; if it is damaged the error names the row by `key`.
    pub(crate) fn decode<T: Stored>(
        &self,
        table: &'static str,
        key: impl FnOnce() -> String,
        body: &[u8],
    ) -> Result<T, StoreError> {
        decode_row(self.path(), table, key, body)
    }

    /// Lends a connection to `work`.
    pub(crate) fn lend<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.pool.lend(work)
    }

    /// What its database and all connections to it share.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Runs a query; `doing` what, for the error.
    pub(crate) fn read<T>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.pool.lend(|db| query(db).map_err(StoreError::sqlite(doing, self.path())))
    }
}

/// Reads a row's body; if it is damaged the error names the row by `key`.
pub(crate) fn decode_row<T: Stored>(
    path: &Path,
    table: &'static str,
    key: impl FnOnce() -> String,
    body: &[u8],
) -> Result<T, StoreError> {
    codec::decode(body).map_err(|source| StoreError::Row { path: path.to_owned(), table, key: key(), source })
}

/// What the writer and all readers of one database share.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    /// Held shared while a connection is in use, alone while the file is replaced: a connection must not see the
    /// write-ahead log of another file than its own.
    /// True once a replacement failed, after which nobody knows which file is there.
    in_use: RwLock<bool>,
    idle: Mutex<Vec<Connection>>,
    /// A replacement waits for what is under way.
    replacing: AtomicBool,
}

impl Pool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, in_use: RwLock::new(false), idle: Mutex::default(), replacing: AtomicBool::new(false) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what is under way should end.
    pub(crate) fn is_replacing(&self) -> bool {
        self.replacing.load(Ordering::Relaxed)
    }

    /// Lends a connection to `work`; one that failed is closed, as it may be in any state.
    fn lend<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // Guards only the right to be here and whether there still is a file: a panic spoils neither.
        let in_use = self.in_use.read().unwrap_or_else(PoisonError::into_inner);
        if *in_use {
            return Err(StoreError::Closed { doing: "read", path: self.path.clone() });
        }
        let kept = self.idle().pop();
        let db = kept.map_or_else(|| store::open_for_reading(&self.path), Ok)?;
        let answer = work(&db)?;
        let mut idle = self.idle();
        if idle.len() < IDLE {
            idle.push(db);
        }
        Ok(answer)
    }

    /// Runs `work`, which opens connections of its own and closes them before it returns.
    pub(crate) fn apart<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let in_use = self.in_use.read().unwrap_or_else(PoisonError::into_inner);
        if *in_use {
            return Err(StoreError::Closed { doing: "read", path: self.path.clone() });
        }
        work()
    }

    /// Runs `work` while no connection of a reader exists; if it fails, there will be none any more.
    pub(crate) fn closed(&self, work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.replacing.store(true, Ordering::Relaxed);
        let mut is_lost = self.in_use.write().unwrap_or_else(PoisonError::into_inner);
        self.idle().clear();
        *is_lost = true;
        work()?;
        *is_lost = false;
        self.replacing.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
