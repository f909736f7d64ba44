//! What can go wrong, said so that an operator knows what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::codec::CodecError;

/// Why something was not done. Nothing of it was done then: every operation is whole or not at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space. The database is as before and takes writes again when there is space.
    #[error("{doing} {}: the disk is full; free space on it and it goes on by itself", path.display())]
    Full {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite or the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else, perhaps a SQLite shell, holds the database for longer than we wait.
    #[error("{doing} {}: the database is locked by another process; end it or try again", path.display())]
    Busy {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Written by a newer Sheaf.
    #[error(
        "open {}: its schema is {found}, this build knows {known}; start a Sheaf at least as new as the one that wrote it",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema's version.
        found: i64,
        /// The newest this build knows.
        known: i64,
    },
    /// A file that Sheaf did not write.
    #[error("open {}: not a database of Sheaf ({why}); move it away or use another data directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Damaged on disk.
    #[error(
        "{doing} {}: the database is damaged; move the data directory away and start the node as a new one, or restore \
         a snapshot of the cluster",
        path.display()
    )]
    Corrupt {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A row whose content cannot be read.
    #[error(
        "read row {key} of table {table} in {}; unless a newer Sheaf wrote it the database is damaged: move the data directory \
         away and start the node as a new one, or restore a snapshot of the cluster",
        path.display()
    )]
    Row {
        /// The database.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// A value that cannot be written.
    #[error("write a row of table {table}")]
    Encode {
        /// The table.
        table: &'static str,
        /// Why not.
        source: CodecError,
    },
    /// A snapshot that carries no applied position.
    #[error("install {}: it holds no applied position, so it is no snapshot", path.display())]
    NoSnapshot {
        /// The file.
        path: PathBuf,
    },
    /// Given up because the database was replaced meanwhile.
    #[error("{doing} {}: it was replaced by a snapshot meanwhile", path.display())]
    Superseded {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// What was looked for is too rare among what was to be looked through.
    #[error(
        "look through the histories of jobs in {}: not found within {} s; name the job whose subtasks they are, or a later time to begin at",
        path.display(),
        within.as_secs()
    )]
    TooLong {
        /// The database.
        path: PathBuf,
        /// How long it may take.
        within: Duration,
    },
    /// A replacement failed half way; opening the database again finishes it.
    #[error("{doing} {}: closed since its replacement by a snapshot failed; restart the agent", path.display())]
    Closed {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else that SQLite says.
    #[error("{doing} {}", path.display())]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether the same call can succeed later without anybody changing the database: space freed, a lock released.
    pub fn retry_helps(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Busy { .. } | Self::Superseded { .. })
    }

    /// Turns what SQLite said while `doing` something to the database at `path` into what it means.
    pub(crate) fn sqlite<'a>(doing: &'static str, path: &'a Path) -> impl Fn(rusqlite::Error) -> Self + 'a {
        move |source| {
            let path = path.to_owned();
            let Some(code) = source.sqlite_error().copied() else {
                return Self::Sqlite { doing, path, source };
            };
            match code.code {
                ErrorCode::DiskFull => Self::Full { doing, path, source: source.into() },
                // The index of the write-ahead log could not grow.
                _ if code.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
                    Self::Full { doing, path, source: source.into() }
                }
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { doing, path, source },
                ErrorCode::DatabaseCorrupt => Self::Corrupt { doing, path, source },
                ErrorCode::NotADatabase => {
                    Self::Foreign { path, why: "not a SQLite file, or its head is damaged".to_owned() }
                }
                _ => Self::Sqlite { doing, path, source },
            }
        }
    }

    /// The same for what the file system said.
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::Full { doing, path, source: source.into() }
                }
                _ => Self::Io { doing, path, source },
            }
        }
    }
}
