//! What stands where: `schema.sql` beside this file is the documentation of the tables, and what creates them.

use std::path::Path;

use rusqlite::Connection;

use crate::error::StoreError;

/// Marks a SQLite file as Sheaf's: "SHEF".
const APPLICATION: i64 = 0x5348_4546;
/// The newest schema this build knows. Grows with each step in [`bring_up`].
const SCHEMA: i64 = 2;
/// From schema 1 to 2: artifacts.
const TO_2: &str = include_str!("schema/2.sql");

/// What a file is, before anything of it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing in it yet.
    New,
    /// Ours, of this schema.
    Ours(i64),
}

/// Tells what the file is; refuses strangers and what a newer Sheaf wrote.
pub(crate) fn identify(db: &Connection, path: &Path) -> Result<Kind, StoreError> {
    let ask = |sql: &str| {
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(StoreError::sqlite("open", path))
    };
    let application = ask("PRAGMA application_id")?;
    let found = ask("PRAGMA user_version")?;
    let foreign = |why: String| StoreError::Foreign { path: path.to_owned(), why };
    match application {
        0 if found == 0 && ask("SELECT count(*) FROM sqlite_schema")? == 0 => Ok(Kind::New),
        APPLICATION if found > SCHEMA => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA })
        }
        APPLICATION if found >= 1 => Ok(Kind::Ours(found)),
        APPLICATION => Err(foreign(format!("it claims to be of schema {found}"))),
        other => Err(foreign(format!("application id {other:#x}"))),
    }
}

/// Brings the file to the newest schema, in one transaction.
pub(crate) fn bring_up(db: &mut Connection, path: &Path, kind: Kind) -> Result<(), StoreError> {
    if kind == Kind::Ours(SCHEMA) {
        return Ok(());
    }
    let failed = StoreError::sqlite("create the tables of", path);
    let transaction = db.transaction().map_err(&failed)?;
    // A step from an older schema stands here, before the one below, which makes a new file whole at once.
    if kind == Kind::Ours(1) {
        transaction.execute_batch(TO_2).map_err(&failed)?;
    }
    if kind == Kind::New {
        transaction.execute_batch(include_str!("schema.sql")).map_err(&failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(&failed)?;
    transaction.pragma_update(None, "user_version", SCHEMA).map_err(&failed)?;
    transaction.commit().map_err(&failed)
}
