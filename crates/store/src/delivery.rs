//! History as sinks read it: everything after a revision, in order, the ends of subtasks' failed attempts as events among it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sheaf_engine::job::step::Transitions;
use sheaf_model::sink::{SUBTASK_FAILED, SUBTASK_RETRIED};
use sheaf_model::{Deliverable, Event, Revision, SubtaskEnd};

use crate::ends::{self, AttemptState};
use crate::error::StoreError;
use crate::prune::{PRUNED, PRUNED_JOBS};
use crate::reader::Reader;
use crate::store;

/// The number of a revision's first end of a subtask: above those of all that one command tells of.
const FIRST_END: u32 = 1 << 24;
/// Pieces of jobs' histories read at once; one may hold some thousands of changes.
const PIECES: usize = 64;

/// What is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Everything after this revision.
    pub after: Revision,
    /// At most so many lines of history, but always all of one revision.
    pub limit: usize,
    /// The ends of subtasks' attempts, too.
    pub subtasks: bool,
}

/// A part of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// In order; of a revision all.
    pub found: Vec<Deliverable>,
    /// Everything up to here is in `found`.
    pub to: Revision,
    /// What is committed here goes on after that.
    pub more: bool,
    /// History after `after` was dropped, up to this revision.
    pub dropped_to: Option<Revision>,
}

impl Reader {
    /// Reads a part of history, from what is committed here.
    pub fn ahead(&self, ahead: &Ahead) -> Result<Delivery, StoreError> {
        self.lend(|db| {
            let failed = StoreError::sqlite("read the history of", self.path());
            // First: whatever is written meanwhile is read the next time.
            let committed = store::revision(db).map_err(&failed)?;
            let dropped_to = dropped(db, ahead).map_err(&failed)?.map(|to| to.min(committed));
            let (events, events_to) = events(db, ahead).map_err(&failed)?;
            let mut to = events_to.unwrap_or(committed).min(committed);
            let mut found: Vec<Deliverable> =
                events.into_iter().map(|event| Deliverable { event, end: None }).collect();
            if ahead.subtasks {
                to = self.ends_of_subtasks(db, ahead.after, to, &mut found)?;
            }
            found.retain(|it| it.event.revision <= to);
            // Stable. What happened to subtasks comes before what became of their job by it.
            found.sort_by_key(|it| (it.event.revision, it.end.is_none()));
            Ok(Delivery { found, to, more: to < committed, dropped_to })
        })
    }

    /// Adds the ends of attempts after a revision up to another; how far it came.
    fn ends_of_subtasks(
        &self,
        db: &Connection,
        after: Revision,
        to: Revision,
        found: &mut Vec<Deliverable>,
    ) -> Result<Revision, StoreError> {
        let failed = StoreError::sqlite("read the histories of jobs in", self.path());
        let pieces = pieces(db, after, to).map_err(&failed)?;
        let mut reached = to;
        if pieces.len() > PIECES {
            // All of the last revision, however many jobs it is about, or nothing of it.
            let last = pieces.last().map_or(to, |piece| piece.revision);
            let first = pieces.first().map_or(to, |piece| piece.revision);
            reached = if first == last { last } else { Revision(last.0.saturating_sub(1)) };
        }
        for piece in pieces.iter().filter(|piece| piece.revision <= reached) {
            let key = || format!("{}/{}", piece.job, piece.number);
            let all: Transitions = self.decode("job_transitions", key, &piece.body)?;
            ends_of(db, piece, &all, found).map_err(&failed)?;
        }
        Ok(reached)
    }
}

/// Up to which revision history after `ahead.after` is dropped.
fn dropped(db: &Connection, ahead: &Ahead) -> rusqlite::Result<Option<Revision>> {
    let mut to = None;
    for what in [PRUNED].into_iter().chain(ahead.subtasks.then_some(PRUNED_JOBS)) {
        let mut sql = db.prepare_cached("SELECT value FROM meta WHERE name = ?")?;
        let pruned: Option<i64> = sql.query_row([what], |row| row.get(0)).optional()?;
        to = to.max(pruned.map(|revision| Revision(revision.cast_unsigned())));
    }
    Ok(to.filter(|to| *to > ahead.after))
}

/// The lines of history after a revision; if there are more, up to where these go.
fn events(db: &Connection, ahead: &Ahead) -> rusqlite::Result<(Vec<Event>, Option<Revision>)> {
    let after = ahead.after.0.cast_signed();
    let limit = i64::try_from(ahead.limit.max(1)).unwrap_or(i64::MAX - 1);
    let sql = "SELECT revision, n, at, kind, subject, actor, node, before, after, message FROM events
               WHERE revision > ? ORDER BY revision, n LIMIT ?";
    let mut statement = db.prepare_cached(sql)?;
    let read = statement.query_map(params![after, limit + 1], crate::history::event)?;
    let mut events: Vec<Event> = read.collect::<Result<_, _>>()?;
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok((events, None)) };
    if events.len() <= ahead.limit {
        return Ok((events, None));
    }
    let (first, last) = (first.revision, last.revision);
    if first < last {
        events.retain(|event| event.revision < last);
        return Ok((events, Some(Revision(last.0 - 1))));
    }
    let sql = "SELECT revision, n, at, kind, subject, actor, node, before, after, message FROM events
               WHERE revision = ? ORDER BY n";
    let mut statement = db.prepare_cached(sql)?;
    let read = statement.query_map([last.0.cast_signed()], crate::history::event)?;
    Ok((read.collect::<Result<_, _>>()?, Some(last)))
}

/// What a command did to subtasks of a job.
struct Piece {
    job: i64,
    number: i64,
    revision: Revision,
    body: Vec<u8>,
}

/// Up to one more than [`PIECES`], or all of the first revision.
fn pieces(db: &Connection, after: Revision, to: Revision) -> rusqlite::Result<Vec<Piece>> {
    let read = |row: &Row<'_>| {
        let revision = Revision(row.get::<_, i64>(2)?.cast_unsigned());
        Ok(Piece { job: row.get(0)?, number: row.get(1)?, revision, body: row.get(3)? })
    };
    let sql = "SELECT job_id, number, revision, body FROM job_transitions INDEXED BY job_transitions_age
               WHERE revision > ? AND revision <= ? ORDER BY revision, job_id, number LIMIT ?";
    let mut statement = db.prepare_cached(sql)?;
    let (after, to) = (after.0.cast_signed(), to.0.cast_signed());
    let limit = i64::try_from(PIECES).unwrap_or(i64::MAX - 1) + 1;
    let pieces: Vec<Piece> =
        statement.query_map(params![after, to, limit], read)?.collect::<Result<_, _>>()?;
    match (pieces.first(), pieces.last()) {
        (Some(first), Some(last)) if pieces.len() > PIECES && first.revision == last.revision => {
            let one = last.revision.0.cast_signed();
            statement.query_map(params![one - 1, one, i64::MAX], read)?.collect()
        }
        _ => Ok(pieces),
    }
}

/// Adds the failed attempts of a piece.
fn ends_of(
    db: &Connection,
    piece: &Piece,
    all: &Transitions,
    found: &mut Vec<Deliverable>,
) -> rusqlite::Result<()> {
    let mut sql = db.prepare_cached("SELECT name FROM jobs WHERE id = ?")?;
    let name: Option<String> = sql.query_row([piece.job], |row| row.get(0)).optional()?;
    let name = name.unwrap_or_else(|| format!("job {}", piece.job));
    // All of a revision is read at once, and what was read before is of earlier ones: the numbers are the same each time.
    let before = found.iter().rev().take_while(|it| it.end.is_some() && it.event.revision == piece.revision);
    let mut n = FIRST_END + u32::try_from(before.count()).unwrap_or_default();
    ends::each(
        all,
        |_| true,
        |end| {
            let AttemptState::Failed(class) = end.state else { return Ok(()) };
            let (subtask, attempt) = (end.subtask, end.attempt(None));
            let kind = if attempt.retried { SUBTASK_RETRIED } else { SUBTASK_FAILED };
            let after = if attempt.retried { "waiting" } else { "failed" };
            let event = Event {
                revision: piece.revision,
                n,
                step: None,
                at: attempt.ended_at,
                kind: kind.to_owned(),
                subject: name.clone(),
                actor: String::new(),
                node: node_of(db, piece.job, subtask, attempt.number)?,
                before: "running".to_owned(),
                after: after.to_owned(),
                message: attempt.message,
            };
            let end = SubtaskEnd {
                job_id: piece.job.cast_unsigned(),
                subtask,
                attempt: attempt.number,
                class: class.as_str().to_owned(),
                exit_code: attempt.exit_code,
                fingerprint: attempt.fingerprint.map(|it| it.to_string()).unwrap_or_default(),
            };
            found.push(Deliverable { event, end: Some(end) });
            n += 1;
            Ok(())
        },
    )
}

/// The name of the node that an attempt ran on; empty: that is forgotten.
fn node_of(db: &Connection, job: i64, subtask: u32, attempt: u32) -> rusqlite::Result<String> {
    let mut sql = db.prepare_cached(
        "SELECT coalesce(n.name, 'node ' || a.node_id) FROM job_attempts a LEFT JOIN nodes n ON n.id = a.node_id
         WHERE a.job_id = ? AND a.subtask = ? AND a.attempt = ? AND a.node_id IS NOT NULL",
    )?;
    let name: Option<String> = sql.query_row(params![job, subtask, attempt], |row| row.get(0)).optional()?;
    Ok(name.unwrap_or_default())
}
