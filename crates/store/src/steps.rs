//! What became of subtasks, in words: as a view has it, and as events of history.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row, params};
use sheaf_engine::job::step::{Step, Transitions, What};
use sheaf_model::{Cursor, Event, FailureClass, JobId, NodeId, StepPlace, Timestamp};

use crate::error::StoreError;
use crate::history::EventFilter;
use crate::reader::{Reader, decode_row};
use crate::row::hour;

/// The number of a revision's first step: above those of all else that one command tells of.
pub(crate) const FIRST_STEP: u32 = 1 << 25;
/// How the kinds of these events begin.
const KIND: &str = "subtask.";
/// How long reading some of them may take: less than callers wait.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);

/// What one command did to subtasks of a job, and what was said about which.
pub(crate) struct Piece {
    pub(crate) all: Arc<Transitions>,
    /// By subtask, and whether the report was stale: which of the details is the first about it.
    details: BTreeMap<(u32, bool), usize>,
}

impl Piece {
    pub(crate) fn new(all: Arc<Transitions>) -> Self {
        let mut details = BTreeMap::new();
        for (place, detail) in all.details.iter().enumerate() {
            details.entry((detail.subtask, detail.is_stale())).or_insert(place);
        }
        Self { all, details }
    }

    /// What the node said of a subtask of a step.
    fn said(&self, step: &Step, subtask: u32) -> Option<&str> {
        let place = self.details.get(&(subtask, step.what == What::Stale))?;
        self.all.details.get(*place).map(|detail| detail.message.trim_end())
    }

    /// Why it became that of the subtasks of a step, as far as the step and what its node said tell; where it did not say the
    /// same of all, of the first.
    pub(crate) fn reason(&self, step: &Step) -> Option<String> {
        let said = self.said(step, step.run.first);
        let tells = matches!(step.what, What::Failed(_) | What::Retried(..) | What::Stale);
        let differ = tells && step.run.numbers().any(|subtask| self.said(step, subtask) != said);
        let whose = if differ { "the first of them: " } else { "" };
        let failure = |class: FailureClass| match (class, said) {
            (_, Some(said)) if !said.is_empty() => format!("{whose}{said}"),
            (FailureClass::Lost, _) => format!("{whose}lost with its node"),
            (class, _) => format!("{whose}{}", class.as_str()),
        };
        match step.what {
            What::Failed(class) => Some(failure(class)),
            What::Retried(class, until) => Some(format!("{}; tried again at {until}", failure(class))),
            What::HandedBack => Some("given back by its node; the attempt does not count".to_owned()),
            What::Woken => Some("the time of its next attempt has come".to_owned()),
            What::Skipped(on) => Some(format!("subtask {on}, which it depends on, did not finish")),
            What::Prioritized(priority) | What::AllPrioritized(priority) => {
                Some(format!("priority {priority}"))
            }
            What::Stale => {
                let said = said.unwrap_or("that it ended");
                Some(format!(
                    "a report of an attempt that did not run any more, which changed nothing: {whose}{said}"
                ))
            }
            What::Granted(..) | What::Finished | What::Canceled | What::Stopping | What::Again => None,
        }
    }

    /// A step as an event, but for its number and its place.
    fn event(&self, step: &Step, job: &str, node: &impl Fn(NodeId) -> String) -> Event {
        let node = match step.what {
            What::Granted(id, _) => node(id),
            _ => self.all.actor.0.strip_prefix("node:").unwrap_or_default().to_owned(),
        };
        let (before, after) = went(step);
        let subtasks = if step.run.first == step.run.last { "subtask" } else { "subtasks" };
        let attempt = if step.attempt > 0 { format!(", attempt {}", step.attempt) } else { String::new() };
        let reason = self.reason(step).map(|why| format!(": {why}")).unwrap_or_default();
        Event {
            revision: self.all.revision,
            n: 0,
            step: None,
            at: self.all.at,
            kind: format!("{KIND}{}", kind(step.what)),
            subject: job.to_owned(),
            actor: self.all.actor.to_string(),
            node,
            before: before.to_owned(),
            after: after.to_owned(),
            message: format!("{subtasks} {}{attempt}{reason}", step.run),
        }
    }
}

/// The word for what became of them.
pub(crate) const fn kind(what: What) -> &'static str {
    match what {
        What::Granted(..) => "granted",
        What::Finished => "finished",
        What::Retried(..) => "retried",
        What::Failed(_) => "failed",
        What::HandedBack => "handed_back",
        What::Woken => "woken",
        What::Canceled => "canceled",
        What::Skipped(_) => "skipped",
        What::Stopping => "stopping",
        What::Again => "again",
        What::Prioritized(_) | What::AllPrioritized(_) => "prioritized",
        What::Stale => "stale",
    }
}

/// The state before and after a step, where it tells.
const fn went(step: &Step) -> (&'static str, &'static str) {
    match step.what {
        What::Granted(..) => ("ready", "running"),
        What::Finished => ("running", "finished"),
        What::Retried(..) => ("running", "waiting"),
        What::Failed(_) => ("running", "failed"),
        What::HandedBack => ("running", "ready"),
        What::Woken => ("waiting", "ready"),
        What::Canceled if step.attempt > 0 => ("running", "canceled"),
        What::Canceled => ("", "canceled"),
        What::Skipped(_) => ("waiting", "canceled"),
        What::Stopping | What::Again | What::Prioritized(_) | What::AllPrioritized(_) | What::Stale => {
            ("", "")
        }
    }
}

/// All that one command did to subtasks, as events, each step one. They come after its others, in the order of their
/// places, which stay whatever else is kept.
pub fn steps_of(
    mut pieces: Vec<Arc<Transitions>>,
    job: impl Fn(JobId) -> String,
    node: impl Fn(NodeId) -> String,
) -> Vec<Event> {
    pieces.sort_by_key(|all| (all.job, all.number));
    let mut events = Vec::new();
    for piece in pieces.into_iter().map(Piece::new) {
        let (of, number) = (piece.all.job, piece.all.number);
        let name = job(of);
        events.extend((0..).zip(&piece.all.steps).map(|(nth, step)| {
            let place = StepPlace { job: of, piece: number, step: nth };
            Event { step: Some(place), ..piece.event(step, &name, &node) }
        }));
    }
    (FIRST_STEP..).zip(&mut events).for_each(|(n, event)| event.n = n);
    events
}

/// Whether a filter may select any of them.
pub(crate) fn are_wanted(filter: &EventFilter) -> bool {
    let kind = filter.kind.as_deref().unwrap_or_default();
    filter.subtasks && (kind.starts_with(KIND) || KIND.starts_with(kind))
}

/// Up to `limit` of them strictly between two places, in the order asked for. Of one job only its history is read.
pub(crate) fn between(
    db: &Connection,
    reader: &Reader,
    (after, before): (Option<Cursor>, Option<Cursor>),
    filter: &EventFilter,
    newest_first: bool,
    limit: usize,
    until: Instant,
) -> Result<Vec<Event>, StoreError> {
    let path = reader.path();
    let failed = StoreError::sqlite("read the histories of jobs in", path);
    let revision = |cursor: Cursor| cursor.revision.0.cast_signed();
    let since = filter.since.map_or(Ok(0), |since| begin(db, since)).map_err(&failed)?;
    let revisions =
        (after.map_or(since, |after| since.max(revision(after))), before.map_or(i64::MAX, revision));
    let (job, bounds) = match &filter.subject {
        None => (None, Some(revisions)),
        Some(name) => of_job(db, name, revisions).map_err(&failed)?,
    };
    let Some(bounds) = bounds else { return Ok(Vec::new()) };
    let nodes = nodes(db).map_err(&failed)?;
    let mut statement = db.prepare_cached(&rows_of(job.is_some(), newest_first)).map_err(&failed)?;
    let mut rows = statement.query(params![bounds.0, bounds.1, job]).map_err(&failed)?;
    let (mut found, mut of_one): (Vec<Event>, Vec<Kept>) = (Vec::new(), Vec::new());
    loop {
        if reader.is_replacing() {
            let doing = "read the histories of jobs in";
            return Err(StoreError::Superseded { doing, path: path.to_owned() });
        }
        if Instant::now() >= until {
            return Err(StoreError::TooLong { path: path.to_owned(), within: WITHIN });
        }
        let next = rows.next().map_err(&failed)?.map(kept).transpose().map_err(&failed)?;
        let revision = next.as_ref().map(|next| next.revision);
        if of_one.last().is_some_and(|last| Some(last.revision) != revision) {
            let mut told = told(path, std::mem::take(&mut of_one), &nodes)?;
            let is_within = |event: &Event| {
                after.is_none_or(|after| after.is_before(event))
                    && before.is_none_or(|before| before.is_after(event))
            };
            told.retain(|event| is_within(event) && selects(filter, event));
            if newest_first {
                told.reverse();
            }
            found.append(&mut told);
        }
        match next {
            Some(next) if found.len() < limit => of_one.push(next),
            _ => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Pieces between two revisions, or of a job (`?3`) between two numbers, which grow with the revision.
fn rows_of(one_job: bool, newest_first: bool) -> String {
    let order = if newest_first { "DESC" } else { "ASC" };
    let (by, which, order) = if one_job {
        ("", "t.job_id = ?3 AND t.number >= ?1 AND t.number <= ?2", format!("t.number {order}"))
    } else {
        let order = format!("t.revision {order}, t.job_id {order}, t.number {order}");
        ("INDEXED BY job_transitions_age", "t.revision >= ?1 AND t.revision <= ?2 AND ?3 IS NULL", order)
    };
    format!(
        "SELECT t.job_id, t.number, t.revision, t.body, j.name
         FROM job_transitions t {by} CROSS JOIN jobs j ON j.id = t.job_id WHERE {which} ORDER BY {order}"
    )
}

/// The first piece of a job from a revision on … With the plus SQLite does not take the job for fixed, and sees that the index has
/// the order.
const FIRST: &str = "SELECT number FROM job_transitions INDEXED BY job_transitions_age
    WHERE revision >= ? AND +job_id = ? ORDER BY revision, job_id, number LIMIT 1";
/// … and the last one up to a revision.
const LAST: &str = "SELECT number FROM job_transitions INDEXED BY job_transitions_age
    WHERE revision <= ? AND +job_id = ? ORDER BY revision DESC, job_id DESC, number DESC LIMIT 1";

/// The first and the last.
type Numbers = (i64, i64);

/// A job by its name, and the numbers of its first and its last piece within two revisions; none: it has no piece there.
fn of_job(
    db: &Connection,
    name: &str,
    (from, to): (i64, i64),
) -> rusqlite::Result<(Option<i64>, Option<Numbers>)> {
    let mut named = db.prepare_cached("SELECT id FROM jobs WHERE name = ?")?;
    let Some(job) = named.query_row([name], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok((None, None));
    };
    let number = |sql, revision: i64| {
        db.prepare_cached(sql)?.query_row([revision, job], |row| row.get::<_, i64>(0)).optional()
    };
    let first = if from <= 0 { Some(0) } else { number(FIRST, from)? };
    let last = if to == i64::MAX { Some(to) } else { number(LAST, to)? };
    Ok((Some(job), first.zip(last)))
}

fn selects(filter: &EventFilter, event: &Event) -> bool {
    filter.subject.as_ref().is_none_or(|subject| *subject == event.subject)
        && filter.kind.as_ref().is_none_or(|kind| event.kind.starts_with(kind))
        && filter.node.as_ref().is_none_or(|node| *node == event.node)
        && filter.since.is_none_or(|since| event.at >= since)
}

/// A row of a job's history.
struct Kept {
    job: JobId,
    number: i64,
    revision: i64,
    body: Vec<u8>,
    name: String,
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let job = JobId(row.get::<_, i64>(0)?.cast_unsigned());
    Ok(Kept { job, number: row.get(1)?, revision: row.get(2)?, body: row.get(3)?, name: row.get(4)? })
}

/// All that the command of these rows did.
fn told(path: &Path, rows: Vec<Kept>, nodes: &BTreeMap<NodeId, String>) -> Result<Vec<Event>, StoreError> {
    let (mut pieces, mut names) = (Vec::new(), BTreeMap::new());
    for Kept { job, number, body, name, .. } in rows {
        pieces.push(Arc::new(decode_row(path, "job_transitions", || format!("{job}/{number}"), &body)?));
        names.insert(job, name);
    }
    let job = |id: JobId| names.get(&id).cloned().unwrap_or_default();
    Ok(steps_of(pieces, job, |id| nodes.get(&id).cloned().unwrap_or_else(|| format!("node {id}"))))
}

/// All nodes' names.
pub(crate) fn nodes(db: &Connection) -> rusqlite::Result<BTreeMap<NodeId, String>> {
    let mut statement = db.prepare_cached("SELECT id, name FROM nodes")?;
    let rows =
        statement.query_map([], |row| Ok((NodeId(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?)))?;
    rows.collect()
}

/// A revision before which nothing is as young as that: the first of the last hour before it that had events.
fn begin(db: &Connection, since: Timestamp) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(revision), 0) FROM event_hours WHERE hour < ?";
    db.prepare_cached(sql)?.query_row([hour(since)], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use sheaf_engine::job::step::Detail;
    use sheaf_model::{Actor, Fingerprint, JobId, Revision, Run, Timestamp};

    use super::*;
    use crate::Store;

    #[test]
    fn why_is_told_of_each_step_that_knows() {
        let mut all = Transitions::new(JobId(1), Revision(2), Timestamp(3), Actor::default());
        let detail = |subtask: u32, fingerprint: Fingerprint, message: &str| {
            let message = message.to_owned();
            Detail { subtask, exit: None, fingerprint, message }
        };
        let failed = |subtask, message: &str| detail(subtask, Fingerprint::of(message), message);
        let stale = |message| detail(7, Fingerprint::default(), message);
        all.details =
            vec![stale("finished"), failed(7, "no file\n"), failed(8, "no file"), failed(9, "full")];
        let piece = Piece::new(Arc::new(all));
        let why = |what, subtask| piece.reason(&Step { what, run: Run::one(subtask), attempt: 1 });
        let until = Timestamp(1_700_000_000_000);
        assert_eq!(
            why(What::Retried(FailureClass::Exit, until), 7).as_deref(),
            Some("no file; tried again at 2023-11-14T22:13:20.000Z")
        );
        assert_eq!(why(What::Failed(FailureClass::Exit), 7).as_deref(), Some("no file"));
        assert_eq!(why(What::Failed(FailureClass::Lost), 10).as_deref(), Some("lost with its node"));
        assert_eq!(why(What::Failed(FailureClass::Timeout), 10).as_deref(), Some("timeout"));
        let stale = why(What::Stale, 7);
        assert!(stale.is_some_and(|why| why.ends_with("changed nothing: finished")), "not what failed it");
        let of_all = |first, last| {
            let (what, run) = (What::Failed(FailureClass::Exit), Run::new(first, last));
            piece.reason(&Step { what, run, attempt: 1 })
        };
        assert_eq!(of_all(7, 8).as_deref(), Some("no file"), "the same of both");
        assert_eq!(of_all(7, 9).as_deref(), Some("the first of them: no file"));
        assert_eq!(of_all(9, 10).as_deref(), Some("the first of them: full"), "nothing was said of the last");
        let skipped = why(What::Skipped(3), 8);
        assert_eq!(skipped.as_deref(), Some("subtask 3, which it depends on, did not finish"));
        assert_eq!(why(What::Finished, 7), None);
    }

    #[test]
    fn steps_of_a_job_are_found_by_an_index_and_never_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        for newest_first in [false, true] {
            let of_one = store.plan(&rows_of(true, newest_first), params![1, 2, 3]);
            assert!(
                of_one[0].contains("t USING PRIMARY KEY (job_id=? AND number>? AND number<?)"),
                "{of_one:?}"
            );
            let of_all = store.plan(&rows_of(false, newest_first), params![1, 2, None::<i64>]);
            assert!(of_all[0].contains("t USING INDEX job_transitions_age"), "{of_all:?}");
            let sorts = |step: &String| step.contains("TEMP B-TREE");
            assert!(!of_one.iter().chain(&of_all).any(sorts), "{of_one:?} {of_all:?}");
        }
        for sql in [FIRST, LAST] {
            let steps = store.plan(sql, [1, 2]);
            let found = steps.len() == 1 && steps[0].contains("USING COVERING INDEX job_transitions_age");
            assert!(found, "{steps:?}");
        }
    }

    #[test]
    fn what_is_looked_for_too_long_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        let (db, _) = store.db("read").unwrap();
        let (reader, filter) = (store.reader(), EventFilter { subtasks: true, ..EventFilter::default() });
        let read = |until| between(db, &reader, (None, None), &filter, false, 9, until);
        assert_eq!(read(Instant::now() + WITHIN).unwrap(), []);
        let error = read(Instant::now()).unwrap_err();
        assert!(matches!(error, StoreError::TooLong { .. }) && !error.retry_helps(), "{error}");
        assert!(error.to_string().contains("name the job"), "{error}");
    }
}
