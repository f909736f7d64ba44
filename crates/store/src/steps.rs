//! What became of subtasks, in words: as a view has it, and as events of history.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use sheaf_engine::job::step::{Step, Transitions, What};
use sheaf_model::{Event, FailureClass, JobId, NodeId, Timestamp};

use crate::error::StoreError;
use crate::history::{EventFilter, Place, place};
use crate::reader::decode_row;
use crate::row::hour;

/// The number of a revision's first step: above those of all else that one command tells of.
const FIRST_STEP: u32 = 1 << 25;
/// How the kinds of these events begin.
const KIND: &str = "subtask.";

/// What one command did to subtasks of a job, and what was said about which.
pub(crate) struct Piece {
    pub(crate) all: Arc<Transitions>,
    /// By subtask: which of the details is the first about it.
    details: BTreeMap<u32, usize>,
}

impl Piece {
    pub(crate) fn new(all: Arc<Transitions>) -> Self {
        let mut details = BTreeMap::new();
        for (place, detail) in all.details.iter().enumerate() {
            details.entry(detail.subtask).or_insert(place);
        }
        Self { all, details }
    }

    /// Why it became that of the first subtask of a step, as far as the step and what its node said tell.
    pub(crate) fn reason(&self, step: &Step) -> Option<String> {
        let detail = self.details.get(&step.run.first).and_then(|place| self.all.details.get(*place));
        let said = detail.map(|detail| detail.message.trim_end());
        let failure = |class: FailureClass| match (class, said) {
            (_, Some(said)) if !said.is_empty() => said.to_owned(),
            (FailureClass::Lost, _) => "lost with its node".to_owned(),
            (class, _) => class.as_str().to_owned(),
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
                    "a report of an attempt that did not run any more, which changed nothing: {said}"
                ))
            }
            What::Granted(..) | What::Finished | What::Canceled | What::Stopping | What::Again => None,
        }
    }

    /// A step as an event, but for its number.
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

/// All that one command did to subtasks, as events, each step one. They come after its others, in an order that is always
/// the same, so that each has its place.
pub fn steps_of(
    mut pieces: Vec<Arc<Transitions>>,
    job: impl Fn(JobId) -> String,
    node: impl Fn(NodeId) -> String,
) -> Vec<Event> {
    pieces.sort_by_key(|all| (all.job, all.number));
    let mut events = Vec::new();
    for piece in pieces.into_iter().map(Piece::new) {
        let name = job(piece.all.job);
        events.extend(piece.all.steps.iter().map(|step| piece.event(step, &name, &node)));
    }
    (FIRST_STEP..).zip(&mut events).for_each(|(n, event)| event.n = n);
    events
}

/// Whether a filter may select any of them.
pub(crate) fn are_wanted(filter: &EventFilter) -> bool {
    let kind = filter.kind.as_deref().unwrap_or_default();
    filter.subtasks && (kind.starts_with(KIND) || KIND.starts_with(kind))
}

/// Up to `limit` of them strictly between two places, in the order asked for.
pub(crate) fn between(
    db: &Connection,
    path: &Path,
    (after, before): (Place, Place),
    filter: &EventFilter,
    newest_first: bool,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let failed = StoreError::sqlite("read the histories of jobs in", path);
    let from = filter.since.map_or(Ok(0), |since| begin(db, since)).map_err(&failed)?.max(after.0);
    let nodes = nodes(db).map_err(&failed)?;
    let order = if newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT t.job_id, t.number, t.revision, t.body, j.name
         FROM job_transitions t INDEXED BY job_transitions_age CROSS JOIN jobs j ON j.id = t.job_id
         WHERE t.revision >= ? AND t.revision <= ?
         ORDER BY t.revision {order}, t.job_id {order}, t.number {order}"
    );
    let mut statement = db.prepare_cached(&sql).map_err(&failed)?;
    let mut rows = statement.query(params![from, before.0]).map_err(&failed)?;
    let (mut found, mut of_one): (Vec<Event>, Vec<Kept>) = (Vec::new(), Vec::new());
    loop {
        let next = rows.next().map_err(&failed)?.map(kept).transpose().map_err(&failed)?;
        let revision = next.as_ref().map(|next| next.revision);
        if of_one.last().is_some_and(|last| Some(last.revision) != revision) {
            let mut told = told(path, std::mem::take(&mut of_one), &nodes)?;
            let within = |at: Place| after < at && at < before;
            told.retain(|event| within(place((event.revision, event.n))) && selects(filter, event));
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

fn nodes(db: &Connection) -> rusqlite::Result<BTreeMap<NodeId, String>> {
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

    #[test]
    fn why_is_told_of_each_step_that_knows() {
        let mut all = Transitions::new(JobId(1), Revision(2), Timestamp(3), Actor::default());
        let detail = |message: &str| Detail {
            subtask: 7,
            exit: None,
            fingerprint: Fingerprint::default(),
            message: message.to_owned(),
        };
        all.details = vec![detail("no file\n"), detail("finished")];
        let piece = Piece::new(Arc::new(all));
        let why = |what, subtask| piece.reason(&Step { what, run: Run::one(subtask), attempt: 1 });
        let until = Timestamp(1_700_000_000_000);
        assert_eq!(
            why(What::Retried(FailureClass::Exit, until), 7).as_deref(),
            Some("no file; tried again at 2023-11-14T22:13:20.000Z")
        );
        assert_eq!(why(What::Failed(FailureClass::Exit), 7).as_deref(), Some("no file"));
        assert_eq!(why(What::Failed(FailureClass::Lost), 8).as_deref(), Some("lost with its node"));
        assert_eq!(why(What::Failed(FailureClass::Timeout), 8).as_deref(), Some("timeout"));
        let skipped = why(What::Skipped(3), 8);
        assert_eq!(skipped.as_deref(), Some("subtask 3, which it depends on, did not finish"));
        assert_eq!(why(What::Finished, 7), None);
    }
}
