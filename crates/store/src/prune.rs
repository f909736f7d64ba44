//! How long history is kept.

use rusqlite::{Connection, params};
use sheaf_model::{Span, Timestamp};

use crate::error::StoreError;
use crate::store::Store;

/// Events dropped at a time: some ten milliseconds on a busy machine.
const PORTION: u64 = 1_000;

/// How much history is kept; what exceeds either bound goes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old an event may become.
    pub age: Span,
    /// How many events are kept.
    pub events: u64,
}

impl Default for Retention {
    /// 30 days or 10 million events.
    fn default() -> Self {
        Self { age: Span::seconds(30 * 24 * 3600), events: 10_000_000 }
    }
}

impl Store {
    /// Drops a portion of the events that exceed `retention` at `now`, and says how many: 0 when none is left to drop.
    /// Called from time to time between writes; a portion is small, so that writing never waits long for it.
    ///
    /// The same database, retention and time give the same result. Events go in the order they came: an old one behind
    /// a younger one, left by a leader whose clock was ahead, waits for it.
    pub fn prune(&mut self, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
        let (db, path) = self.db_mut("prune the history of")?;
        let failed = StoreError::sqlite("prune the history of", path);
        let oldest_kept = now.0.saturating_sub(retention.age.0).cast_signed();
        let transaction = db.transaction().map_err(&failed)?;
        let dropped = drop_portion(&transaction, retention.events, oldest_kept).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(dropped)
    }
}

fn drop_portion(db: &Connection, kept: u64, oldest_kept: i64) -> rusqlite::Result<u64> {
    let count: i64 =
        db.prepare_cached("SELECT value FROM meta WHERE name = 'events'")?.query_row([], |row| row.get(0))?;
    let too_many = count.cast_unsigned().saturating_sub(kept);
    let mut oldest = db.prepare_cached("SELECT revision, n, at FROM events ORDER BY revision, n LIMIT ?")?;
    let mut rows = oldest.query([PORTION.cast_signed()])?;
    let mut dropped: u64 = 0;
    let mut last: Option<(i64, i64)> = None;
    while let Some(row) = rows.next()? {
        if dropped >= too_many && row.get::<_, i64>(2)? >= oldest_kept {
            break;
        }
        last = Some((row.get(0)?, row.get(1)?));
        dropped += 1;
    }
    if let Some((revision, n)) = last {
        db.prepare_cached("DELETE FROM events WHERE (revision, n) <= (?, ?)")?
            .execute(params![revision, n])?;
        db.prepare_cached("UPDATE meta SET value = value - ? WHERE name = 'events'")?
            .execute([dropped.cast_signed()])?;
    }
    Ok(dropped)
}
