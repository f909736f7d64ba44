//! Snapshots: the database as one file, made while it is written, and put in its place.
//!
//! A backup copies pages inside one read transaction, which sees one commit throughout: the writer goes on beside it in
//! the write-ahead log, and nothing is copied twice. (Without it every commit would make the copy begin anew.
//! `VACUUM INTO` would do too, but builds every tree again, which takes processor time from a node that has work to do,
//! and cannot be given up between steps.) While it runs, the write-ahead log grows by what is written.
//!
//! A replacement must never leave one database with the write-ahead log of the other:
//!
//! ```text
//!  snapshot ──move──► state.db.next    from here on it counts, whatever happens: the next open goes on below
//!                         remove state.db-wal, state.db-shm; sync the folder
//!                     state.db.next ──move──► state.db
//! ```

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use sheaf_engine::State;

use crate::error::StoreError;
use crate::reader::Pool;
use crate::schema;
use crate::store::{self, Store, beside, sync_folder};
use crate::trail::Grants;

/// Pages copied in one step, 4 MiB: between steps a backup can be given up.
const STEP_PAGES: i32 = 1024;

impl Store {
    /// Writes the database as committed now to the file `to`, whole and on disk when this returns; a file that was
    /// there is replaced. Writing goes on meanwhile. Needs no store of its own: [`crate::Reader::backup`] does the
    /// same on any thread.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.reader().backup(to)
    }

    /// The applied position that the snapshot file at `path` carries; none: it never had any.
    pub fn read_applied(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let db = store::open_for_reading(path)?;
        match schema::identify(&db, path)? {
            schema::Kind::New => Ok(None),
            schema::Kind::Ours(_) => {
                store::applied(&db).map_err(StoreError::sqlite("read the position of", path))
            }
        }
    }

    /// Puts the snapshot file `with` in the database's place; `with` must lie on the same file system and is gone
    /// afterwards. Readers wait for it and then see the new content; a backup under way ends as superseded. After a
    /// crash the database is the old one or the new one. Answers as [`Store::load`] would then.
    ///
    /// A file that is no snapshot, or of which a row cannot be read, is refused, and the database stays what it was. What
    /// goes wrong later closes the store, since which of the two databases counts is then for [`Store::open`] to see.
    pub fn replace(&mut self, with: &Path) -> Result<(State, Option<Vec<u8>>), StoreError> {
        if Self::read_applied(with)?.is_none() {
            return Err(StoreError::NoSnapshot { path: with.to_owned() });
        }
        let loaded = load_received(with)?;
        sync_file(with)?;
        self.grants.clear();
        let pool = self.pool.clone();
        let path = pool.path();
        let db = &mut self.db;
        pool.closed(|| {
            if let Some(old) = db.take() {
                abandon(old, path)?;
            }
            rename(with, &beside(path, NEXT))?;
            sync_folder(path)?;
            finish_replacement(path)?;
            *db = Some(store::open_for_writing(path)?);
            Ok(())
        })?;
        Ok(loaded)
    }
}

/// All that a received file holds, after it was brought to the schema of this build.
fn load_received(path: &Path) -> Result<(State, Option<Vec<u8>>), StoreError> {
    // Without a write-ahead log: as one file it must not come to need one.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(StoreError::sqlite("open", path))?;
    let kind = schema::identify(&db, path)?;
    schema::bring_up(&mut db, path, kind)?;
    Store { db: Some(db), pool: Arc::new(Pool::new(path.to_owned())), grants: Grants::new() }.load()
}

/// What a snapshot is called from the moment it counts.
const NEXT: &str = ".next";
/// What a backup is called until it is whole.
const PARTIAL: &str = ".partial";

/// Closes a database that is about to go, without carrying its write-ahead log over.
fn abandon(db: Connection, path: &Path) -> Result<(), StoreError> {
    let failed = StoreError::sqlite("close", path);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&failed)?;
    db.close().map_err(|(_, error)| failed(error))
}

/// Puts a snapshot that counts in the database's place; nothing to do if there is none. No connection may be open.
pub(crate) fn finish_replacement(path: &Path) -> Result<(), StoreError> {
    let next = beside(path, NEXT);
    if !next.try_exists().map_err(StoreError::io("look for", &next))? {
        return Ok(());
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        remove(&beside(path, suffix))?;
    }
    sync_folder(path)?;
    rename(&next, path)?;
    sync_folder(path)?;
    tracing::info!(path = %path.display(), "a snapshot is now the database");
    Ok(())
}

/// Copies the database behind `source` to `to`.
pub(crate) fn backup(source: &Connection, pool: &Pool, to: &Path) -> Result<(), StoreError> {
    let partial = beside(to, PARTIAL);
    let journal = beside(&partial, "-journal");
    remove(&partial)?;
    remove(&journal)?;
    let copied = copy(source, pool, &partial).and_then(|()| sync_file(&partial));
    if let Err(error) = copied.and_then(|()| rename(&partial, to)) {
        // Of the two errors the first says more; what is left is removed by the next backup.
        let _ = remove(&partial).and_then(|()| remove(&journal));
        return Err(error);
    }
    sync_folder(to)
}

fn copy(source: &Connection, pool: &Pool, to: &Path) -> Result<(), StoreError> {
    let reading = StoreError::sqlite("back up", pool.path());
    let writing = StoreError::sqlite("write the backup", to);
    let mut target = Connection::open(to).map_err(&writing)?;
    // Synced once, at the end.
    target.pragma_update(None, "synchronous", "OFF").map_err(&writing)?;
    let one_commit = source.unchecked_transaction().map_err(&reading)?;
    // The transaction begins with its first read.
    one_commit.query_row("SELECT count(*) FROM meta", [], |_| Ok(())).map_err(&reading)?;
    {
        let backup = Backup::new(source, &mut target).map_err(&writing)?;
        while backup.step(STEP_PAGES).map_err(&writing)? != StepResult::Done {
            if pool.is_replacing() {
                return Err(StoreError::Superseded { doing: "back up", path: pool.path().to_owned() });
            }
        }
    }
    one_commit.commit().map_err(&reading)?;
    // The copy says of itself that it has a write-ahead log; as one file it must not need one.
    target.pragma_update(None, "journal_mode", "DELETE").map_err(&writing)?;
    target.close().map_err(|(_, error)| writing(error))
}

fn sync_file(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", path))
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(StoreError::io("move", from))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
