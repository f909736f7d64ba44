//! History as views read it: events in pages, revisions of buckets.

use std::fmt::Write;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, ToSql, params};
use sheaf_engine::Release;
use sheaf_model::{Behind, BucketName, BucketSpec, Cursor, Event, Revision, Timestamp};

use crate::error::StoreError;
use crate::reader::Reader;
use crate::row::hour;
use crate::steps;

/// Which events are meant; what is none does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Exactly this subject.
    pub subject: Option<String>,
    /// Kinds that begin so, e.g. `bucket.`.
    pub kind: Option<String>,
    /// Exactly this node.
    pub node: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// What became of subtasks, too: each step of a command an event, whose kind begins with `subtask.`. They are
    /// numbered among those of the subject, if it is given.
    pub subtasks: bool,
}

/// Some revisions of a bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Releases {
    /// Newest first.
    pub found: Vec<Release>,
    /// Older ones are kept.
    pub more: bool,
}

/// Of a bucket, before a revision, newest first: read as far as they are taken.
const RELEASES: &str =
    "SELECT revision, body FROM releases WHERE bucket = ? AND revision < ? ORDER BY revision DESC LIMIT ?";

/// A place among what is no step: revision and number within it.
type Place = (i64, i64);

/// Before every event.
const START: Place = (i64::MIN, i64::MIN);
/// After every event.
const END: Place = (i64::MAX, i64::MAX);

impl Reader {
    /// Up to `limit` events after a place, or from the oldest on, oldest first; a page's last event is where the next
    /// begins.
    pub fn events(
        &self,
        after: Option<Cursor>,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.page((after, None), filter, false, limit)
    }

    /// Up to `limit` events before the one at `before`, or up to the newest, newest first.
    pub fn tail(
        &self,
        before: Option<Cursor>,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        self.page((None, before), filter, true, limit)
    }

    /// Up to `limit` events strictly between two places.
    fn page(
        &self,
        (after, before): (Option<Cursor>, Option<Cursor>),
        filter: &EventFilter,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let order = if newest_first { "DESC" } else { "ASC" };
        self.lend(|db| {
            let failed = StoreError::sqlite("read the events of", self.path());
            // One commit throughout: what is written between the two would be left out.
            let db = db.unchecked_transaction().map_err(&failed)?;
            let (first, last) = (after.map_or(START, place), before.map_or(END, place));
            let mut events = between(&db, first, last, filter, order, limit).map_err(&failed)?;
            if steps::are_wanted(filter) {
                let until = Instant::now() + steps::WITHIN;
                let within = (after, before);
                events.extend(steps::between(&db, self, within, filter, newest_first, limit, until)?);
                events.sort_by_key(|event| (event.revision, event.n));
                if newest_first {
                    events.reverse();
                }
                events.truncate(limit);
            }
            Ok(events)
        })
    }

    /// Up to `limit` revisions of a bucket before the one at `before`, or up to the newest; newest first, also of one that
    /// was deleted. As they lie in the database they have at most so many `bytes` together, unless the first alone has more.
    pub fn releases(
        &self,
        bucket: &BucketName,
        before: Option<Revision>,
        limit: usize,
        bytes: usize,
    ) -> Result<Releases, StoreError> {
        let (bodies, more) = self.read("read the releases of", |db| {
            let mut statement = db.prepare_cached(RELEASES)?;
            let before = before.map_or(i64::MAX, revision_before);
            let mut kept =
                statement.query(params![bucket.as_str(), before, rows(limit.saturating_add(1))])?;
            let (mut bodies, mut size) = (Vec::new(), 0_usize);
            while let Some(row) = kept.next()? {
                if bodies.len() == limit {
                    return Ok((bodies, true));
                }
                let found = body(row)?;
                size = size.saturating_add(found.1.len());
                if size > bytes && !bodies.is_empty() {
                    return Ok((bodies, true));
                }
                bodies.push(found);
            }
            Ok((bodies, false))
        })?;
        let found = bodies.into_iter().map(|found| self.decode_release(bucket, found));
        Ok(Releases { found: found.collect::<Result<_, _>>()?, more })
    }

    /// What a bucket was last, before the revision `before`, that is not what `spec` says.
    pub fn release_unlike(
        &self,
        bucket: &BucketName,
        before: Revision,
        spec: &BucketSpec,
    ) -> Result<Option<Release>, StoreError> {
        self.lend(|db| {
            let failed = StoreError::sqlite("read the releases of", self.path());
            let mut statement = db.prepare_cached(RELEASES).map_err(&failed)?;
            let mut kept = statement
                .query(params![bucket.as_str(), revision_before(before), i64::MAX])
                .map_err(&failed)?;
            while let Some(row) = kept.next().map_err(&failed)? {
                let release = self.decode_release(bucket, body(row).map_err(&failed)?)?;
                if *release.spec != *spec {
                    return Ok(Some(release));
                }
            }
            Ok(None)
        })
    }

    /// What a bucket was at `revision`; none if it was not changed by that command.
    pub fn release(&self, bucket: &BucketName, revision: Revision) -> Result<Option<Release>, StoreError> {
        let found = self.read("read a release of", |db| {
            let sql = "SELECT revision, body FROM releases WHERE bucket = ? AND revision = ?";
            let mut statement = db.prepare_cached(sql)?;
            let mut found = statement.query_map(params![bucket.as_str(), revision.0.cast_signed()], body)?;
            found.next().transpose()
        })?;
        found.map(|found| self.decode_release(bucket, found)).transpose()
    }

    fn decode_release(
        &self,
        bucket: &BucketName,
        (revision, body): (i64, Vec<u8>),
    ) -> Result<Release, StoreError> {
        self.decode("releases", || format!("{bucket} at {revision}"), &body)
    }
}

fn body(row: &Row<'_>) -> rusqlite::Result<(i64, Vec<u8>)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// A revision as a bound; one that SQLite cannot count to is above all.
fn revision_before(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// Where a cursor stands among what is no step: all of that comes before a revision's steps.
fn place(cursor: Cursor) -> Place {
    let n = match cursor.behind {
        Behind::Number(n) => n,
        Behind::Step(_) => steps::FIRST_STEP,
        Behind::All => u32::MAX,
    };
    (cursor.revision.0.cast_signed(), i64::from(n))
}

/// A limit as SQLite takes it; more than it can count is all.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Up to `limit` events strictly between two places, in `order`.
fn between(
    db: &Connection,
    mut after: Place,
    before: Place,
    filter: &EventFilter,
    order: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Event>> {
    if let Some(since) = filter.since {
        // The primary key finds where to begin; the exact time is looked at below.
        let sql = "SELECT min(revision) FROM event_hours WHERE hour >= ?";
        match db.prepare_cached(sql)?.query_row([hour(since)], |row| row.get::<_, Option<i64>>(0))? {
            Some(first) => after = after.max((first, -1)),
            None => return Ok(Vec::new()),
        }
    }
    let mut sql = "SELECT revision, n, at, kind, subject, actor, node, before, after, message FROM events \
                   WHERE (revision, n) > (?, ?) AND (revision, n) < (?, ?)"
        .to_owned();
    let mut values: Vec<Value> = [after.0, after.1, before.0, before.1].map(Value::Integer).into();
    let mut only = |condition: &str, value: Value| {
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(subject) = &filter.subject {
        only(" AND subject = ?", subject.clone().into());
    }
    if let Some(kind) = &filter.kind {
        only(" AND substr(kind, 1, ?) = ", rows(kind.chars().count()).into());
        only("?", kind.clone().into());
    }
    if let Some(node) = &filter.node {
        only(" AND node = ?", node.clone().into());
    }
    if let Some(since) = filter.since {
        only(" AND at >= ?", since.0.cast_signed().into());
    }
    only("", rows(limit).into());
    // Infallible: it writes into a string.
    let _ = write!(sql, " ORDER BY revision {order}, n {order} LIMIT ?");
    let mut statement = db.prepare_cached(&sql)?;
    let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    statement.query_map(values.as_slice(), event)?.collect()
}

pub(crate) fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        revision: Revision(row.get(0).map(i64::cast_unsigned)?),
        n: row.get(1)?,
        step: None,
        at: Timestamp(row.get(2).map(i64::cast_unsigned)?),
        kind: row.get(3)?,
        subject: row.get(4)?,
        actor: row.get(5)?,
        node: row.get(6)?,
        before: row.get(7)?,
        after: row.get(8)?,
        message: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    /// How SQLite would answer, step by step.
    fn plan(store: &Store, condition: &str, order: &str) -> Vec<String> {
        let sql = format!(
            "SELECT message FROM events WHERE (revision, n) > (1, 2) AND (revision, n) < (8, 9)
             {condition} ORDER BY revision {order}, n {order} LIMIT 10"
        );
        store.plan(&sql, [])
    }

    #[test]
    fn a_page_is_found_by_an_index_and_never_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        for order in ["ASC", "DESC"] {
            let any = plan(&store, "AND node = 'a' AND at >= 7", order);
            assert_eq!(any, ["SEARCH events USING PRIMARY KEY ((revision,n)>(?,?) AND (revision,n)<(?,?))"]);
            let subject = plan(&store, "AND subject = '/a'", order);
            assert_eq!(
                subject,
                [
                    "SEARCH events USING INDEX events_subject (subject=? AND (revision,n)>(?,?) AND (revision,n)<(?,?))"
                ]
            );
        }
    }

    #[test]
    fn revisions_of_a_bucket_are_found_by_an_index_and_never_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        let steps = store.plan(RELEASES, params!["/a", 8, 10]);
        assert_eq!(steps, ["SEARCH releases USING INDEX releases_bucket (bucket=? AND revision<?)"]);
    }
}
