//! How long history is kept.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, params};
use sheaf_model::{HistorySettings, Timestamp};

use crate::error::StoreError;
use crate::store::Store;

/// Events dropped at a time: some ten milliseconds on a busy machine.
const PORTION: u64 = 1_000;
/// Bytes of releases that go with them, about.
const PORTION_BYTES: i64 = 4 << 20;

/// Attempts of a job that ended by a time, without those that its failed subtasks failed by.
const DROP_ATTEMPTS: &str = "DELETE FROM job_attempts WHERE job_id = ? AND ended_at <= ? AND stands = 0";

const DROP_RELEASES: &str = "DELETE FROM releases WHERE bucket = ? AND revision < ?";

/// In `meta`: the last revision whose events were dropped …
pub(crate) const PRUNED: &str = "pruned";
/// … and the last whose changes of subtasks were.
pub(crate) const PRUNED_JOBS: &str = "pruned_jobs";

impl Store {
    /// Drops a portion of the events, and of what subtasks went through, that exceed `retention` at `now`, and says how
    /// many of these: 0 when none is left to drop. What a job has come to stays with it, and so does what failed its
    /// subtasks. With the events about a bucket go those of its releases that were over by then; while many of them are
    /// left of before, some of these go, and the event waits. Called from time to time between writes; a portion is small,
    /// so that writing never waits long for it.
    ///
    /// The same database, retention and time give the same result. Events go in the order they came: an old one behind
    /// a younger one, left by a leader whose clock was ahead, waits for it.
    pub fn prune(&mut self, retention: &HistorySettings, now: Timestamp) -> Result<u64, StoreError> {
        let (db, path) = self.db_mut("prune the history of")?;
        let failed = StoreError::sqlite("prune the history of", path);
        let oldest_kept = now.0.saturating_sub(retention.age.0).cast_signed();
        let transaction = db.transaction().map_err(&failed)?;
        let mut dropped = drop_portion(&transaction, retention.events, oldest_kept).map_err(&failed)?;
        dropped += drop_histories(&transaction, retention.events, oldest_kept).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(dropped)
    }
}

fn drop_portion(db: &Connection, kept: u64, oldest_kept: i64) -> rusqlite::Result<u64> {
    let count: i64 =
        db.prepare_cached("SELECT value FROM meta WHERE name = 'events'")?.query_row([], |row| row.get(0))?;
    let too_many = count.cast_unsigned().saturating_sub(kept);
    let mut oldest =
        db.prepare_cached("SELECT revision, n, at, kind, subject FROM events ORDER BY revision, n LIMIT ?")?;
    let mut rows = oldest.query([PORTION.cast_signed()])?;
    let (mut dropped, mut bytes): (u64, i64) = (0, 0);
    let mut last: Option<(i64, i64)> = None;
    let mut buckets = BTreeSet::new();
    let mut are_left = false;
    while let Some(row) = rows.next()? {
        let exceeds = dropped < too_many || row.get::<_, i64>(2)? < oldest_kept;
        if !exceeds || bytes > PORTION_BYTES {
            break;
        }
        let revision: i64 = row.get(0)?;
        if row.get_ref(3)?.as_str()?.starts_with("bucket.") {
            let bucket: String = row.get(4)?;
            if !buckets.contains(&bucket) {
                let former = drop_left(db, &bucket, revision)?;
                bytes += former.bytes;
                are_left = former.more;
            }
            if are_left {
                break;
            }
            bytes += release_size(db, &bucket, revision)?;
            buckets.insert(bucket);
        }
        last = Some((revision, row.get(1)?));
        dropped += 1;
    }
    drop(rows);
    if let Some((revision, n)) = last {
        db.prepare_cached("DELETE FROM events WHERE (revision, n) <= (?, ?)")?
            .execute(params![revision, n])?;
        note_pruned(db, PRUNED, revision)?;
        db.prepare_cached("UPDATE meta SET value = value - ? WHERE name = 'events'")?
            .execute([dropped.cast_signed()])?;
        for bucket in buckets {
            if let Some(first) = first_kept(db, &bucket, revision)? {
                db.prepare_cached(DROP_RELEASES)?.execute(params![bucket, first])?;
            }
        }
    }
    Ok(dropped.max(u64::from(are_left)))
}

/// The size of the release that a bucket got by a revision.
fn release_size(db: &Connection, bucket: &str, revision: i64) -> rusqlite::Result<i64> {
    let sql = "SELECT length(body) FROM releases WHERE revision = ? AND bucket = ?";
    let size = db.prepare_cached(sql)?.query_row(params![revision, bucket], |row| row.get(0)).optional()?;
    Ok(size.unwrap_or_default())
}

/// The first revision of a bucket that is kept when the events up to `pruned` are dropped: what it was then, but also what
/// it is now and the one before that, to which it can go back; of a deleted one none up to that revision. None: all are.
fn first_kept(db: &Connection, bucket: &str, pruned: i64) -> rusqlite::Result<Option<i64>> {
    let mut current = db.prepare_cached("SELECT release FROM buckets WHERE name = ?")?;
    let current: Option<i64> = current.query_row([bucket], |row| row.get(0)).optional()?;
    let last_before = |revision: i64| -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT max(revision) FROM releases WHERE bucket = ? AND revision < ?";
        db.prepare_cached(sql)?.query_row(params![bucket, revision], |row| row.get(0))
    };
    let after = pruned.saturating_add(1);
    Ok(match current {
        None => Some(after),
        Some(current) => last_before(after)?.min(last_before(current)?),
    })
}

/// What was dropped of a bucket's releases.
struct Former {
    bytes: i64,
    /// There may be more to drop.
    more: bool,
}

/// Drops, oldest first, some of those releases that should have gone with events that were dropped before this revision:
/// an earlier version kept them.
fn drop_left(db: &Connection, bucket: &str, revision: i64) -> rusqlite::Result<Former> {
    let mut former = Former { bytes: 0, more: false };
    let Some(first) = first_kept(db, bucket, revision.saturating_sub(1))? else { return Ok(former) };
    let mut left = db.prepare_cached(
        "SELECT revision, length(body) FROM releases WHERE bucket = ? AND revision < ? ORDER BY revision LIMIT ?",
    )?;
    let mut rows = left.query(params![bucket, first, PORTION.cast_signed()])?;
    let (mut count, mut end) = (0, None);
    while let Some(row) = rows.next()? {
        let revision: i64 = row.get(0)?;
        end = Some(revision.saturating_add(1));
        former.bytes += row.get::<_, i64>(1)?;
        count += 1;
        former.more = count == PORTION || former.bytes > PORTION_BYTES;
        if former.more {
            break;
        }
    }
    drop(rows);
    if let Some(end) = end {
        db.prepare_cached(DROP_RELEASES)?.execute(params![bucket, end])?;
    }
    Ok(former)
}

/// Whoever has not read so far has missed something.
fn note_pruned(db: &Connection, what: &str, revision: i64) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
    db.prepare_cached(sql)?.execute(params![what, revision]).map(drop)
}

/// The same for the histories of jobs, as far as the rows of their jobs contain them.
fn drop_histories(db: &Connection, kept: u64, oldest_kept: i64) -> rusqlite::Result<u64> {
    let count: i64 = db
        .prepare_cached("SELECT value FROM meta WHERE name = 'touched'")?
        .query_row([], |row| row.get(0))?;
    let too_many = count.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX));
    let mut oldest = db.prepare_cached(
        "SELECT t.job_id, t.number, t.at, t.touched, t.revision
         FROM job_transitions t INDEXED BY job_transitions_age CROSS JOIN jobs j ON j.id = t.job_id
         WHERE t.number < j.history ORDER BY t.revision LIMIT ?",
    )?;
    let mut rows = oldest.query([PORTION.cast_signed()])?;
    let (mut dropped, mut touched, mut pruned) = (0, 0, None);
    // By job, the last piece that goes and when it was; those before it went before it.
    let mut last: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(2)?;
        if touched >= too_many && at >= oldest_kept {
            break;
        }
        last.insert(row.get(0)?, (row.get(1)?, at));
        touched += row.get::<_, i64>(3)?;
        pruned = Some(row.get::<_, i64>(4)?);
        dropped += 1;
    }
    drop(rows);
    for (job, (number, at)) in last {
        for sql in [
            "DELETE FROM job_transitions WHERE job_id = ? AND number <= ?",
            "DELETE FROM job_blocks WHERE job_id = ? AND number <= ?",
        ] {
            db.prepare_cached(sql)?.execute([job, number])?;
        }
        db.prepare_cached(DROP_ATTEMPTS)?.execute([job, at])?;
    }
    if let Some(revision) = pruned {
        note_pruned(db, PRUNED_JOBS, revision)?;
    }
    if touched > 0 {
        db.prepare_cached("UPDATE meta SET value = value - ? WHERE name = 'touched'")?.execute([touched])?;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_drop_is_found_by_an_index() {
        let attempts = "SEARCH job_attempts USING INDEX job_attempts_ended (job_id=? AND ended_at<?)";
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        assert_eq!(store.plan(DROP_ATTEMPTS, [1, 2]), [attempts]);
        let steps = store.plan(DROP_RELEASES, params!["/a", 2]);
        let ended = steps.iter().all(|step| step.ends_with("releases_bucket (bucket=? AND revision<?)"));
        assert!(steps.len() == 1 && ended, "{steps:?}");
    }
}
