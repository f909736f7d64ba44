//! How attempts of subtasks went, read from the history of their job.

use std::collections::BTreeMap;

use rusqlite::params;
use sheaf_engine::job::step::{Detail, Step, Transitions, What};
use sheaf_model::{Exit, FailureClass, Fingerprint, JobId, NodeId, Ranges, Run, Timestamp};

use crate::error::StoreError;
use crate::reader::Reader;

/// Rows of history read at once.
const ROWS: u32 = 256;

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RanAttempt {
    /// Which of the subtask's.
    pub number: u32,
    /// Where.
    pub node: NodeId,
    /// Through the backend at this place of the job's list.
    pub backend: Option<u8>,
    /// When it began, by its node; or when it was granted, if the node did not say.
    pub started_at: Timestamp,
    /// When its end was recorded.
    pub ended_at: Timestamp,
    /// Why it failed; none: it did not.
    pub failed: Option<FailureClass>,
    /// How its program ended, if that is known.
    pub exit: Option<Exit>,
    /// What was said about its end.
    pub message: String,
    /// Of the message of a failure.
    pub fingerprint: Option<Fingerprint>,
}

/// An attempt that was granted.
#[derive(Clone, Copy)]
struct Granted {
    node: NodeId,
    backend: Option<u8>,
    at: Timestamp,
}

impl Reader {
    /// The attempts of a subtask that are over, in order. Reads the whole history of its job.
    pub fn attempts(&self, job: JobId, subtask: u32) -> Result<Vec<RanAttempt>, StoreError> {
        let mut all = Vec::new();
        self.ends(job, &Run::one(subtask).into(), |_, ran| all.push(ran))?;
        Ok(all)
    }

    /// The last attempt that is over of each of these subtasks that had one. Reads the whole history of their job.
    pub fn last_attempts(
        &self,
        job: JobId,
        subtasks: &Ranges,
    ) -> Result<BTreeMap<u32, RanAttempt>, StoreError> {
        let mut last = BTreeMap::new();
        self.ends(job, subtasks, |subtask, ran| drop(last.insert(subtask, ran)))?;
        Ok(last)
    }

    /// Of these subtasks, which have failed: how many by what their failure looks like, with what one of them said. The
    /// largest groups, at most `most`. Reads as much of the history of their job as it takes to find them all.
    pub fn failure_groups(
        &self,
        job: JobId,
        failed: &Ranges,
        most: usize,
    ) -> Result<Vec<(Fingerprint, u64, String)>, StoreError> {
        let mut left = failed.clone();
        let mut groups: BTreeMap<Fingerprint, (u64, String)> = BTreeMap::new();
        self.history(job, true, |all| {
            let mut here = Ranges::default();
            let failures = all.steps.iter().filter(|step| matches!(step.what, What::Failed(_)));
            failures.flat_map(|step| left.within(step.run)).for_each(|run| here.insert(run));
            for detail in all.details.iter().rev() {
                if here.contains(detail.subtask) && left.contains(detail.subtask) {
                    left.remove(Run::one(detail.subtask));
                    let group = groups.entry(detail.fingerprint).or_insert((0, String::new()));
                    group.0 += 1;
                    if group.1.is_empty() {
                        group.1.clone_from(&detail.message);
                    }
                }
            }
            // What was lost with its node has no words of its own.
            for run in here.runs().flat_map(|run| left.within(run).collect::<Vec<_>>()).collect::<Vec<_>>() {
                let message = "lost with its node".to_owned();
                groups.entry(Fingerprint::of(&message)).or_insert((0, message)).0 += run.len();
                left.remove(run);
            }
            !left.is_empty()
        })?;
        let mut sorted: Vec<_> = groups.into_iter().map(|(it, (count, said))| (it, count, said)).collect();
        sorted.sort_by_key(|(fingerprint, count, _)| (std::cmp::Reverse(*count), *fingerprint));
        sorted.truncate(most);
        Ok(sorted)
    }

    /// Each end of an attempt of these subtasks, in order.
    fn ends(
        &self,
        job: JobId,
        subtasks: &Ranges,
        mut found: impl FnMut(u32, RanAttempt),
    ) -> Result<(), StoreError> {
        let mut granted: BTreeMap<u32, Granted> = BTreeMap::new();
        self.history(job, false, |all| {
            // A node says of all the attempts whose ends it reports when they ran; of what is lost with it, nothing.
            let reported =
                all.steps.iter().filter(|step| is_end(step)).map(|step| step.run.len()).sum::<u64>()
                    == all.ran.len() as u64;
            let mut nth = 0_usize;
            for step in &all.steps {
                if let What::Granted(node, backend) = step.what {
                    let here = subtasks.within(step.run).flat_map(Run::numbers);
                    granted.extend(here.map(|subtask| (subtask, Granted { node, backend, at: all.at })));
                }
                if !is_end(step) {
                    continue;
                }
                for subtask in subtasks.within(step.run).flat_map(Run::numbers) {
                    let place = nth + (subtask - step.run.first) as usize;
                    let ran = all.ran.get(place).filter(|_| reported);
                    let Some(grant) = granted.remove(&subtask) else { continue };
                    let detail = all.details.iter().find(|detail| detail.subtask == subtask);
                    found(subtask, ended(all, step, grant, ran.map(|ran| ran.started_at), detail));
                }
                nth += usize::try_from(step.run.len()).unwrap_or(usize::MAX);
            }
            true
        })
    }

    /// The history of a job, from its beginning or from its end, for as long as `goes_on` says.
    fn history(
        &self,
        job: JobId,
        backwards: bool,
        mut goes_on: impl FnMut(&Transitions) -> bool,
    ) -> Result<(), StoreError> {
        let (sql, mut from) = match backwards {
            true => (
                "SELECT number, body FROM job_transitions WHERE job_id = ? AND number <= ? ORDER BY number DESC LIMIT ?",
                i64::MAX,
            ),
            false => (
                "SELECT number, body FROM job_transitions WHERE job_id = ? AND number >= ? ORDER BY number LIMIT ?",
                0,
            ),
        };
        loop {
            let rows: Vec<(i64, Vec<u8>)> = self.read("read the history of a job in", |db| {
                let mut statement = db.prepare_cached(sql)?;
                let key = params![job.0.cast_signed(), from, ROWS];
                statement.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })?;
            let is_last = rows.len() < ROWS as usize;
            for (number, body) in rows {
                from = if backwards { number - 1 } else { number + 1 };
                let key = || format!("{job}/{number}");
                let all: Transitions = self.decode("job_transitions", key, &body)?;
                if !goes_on(&all) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Whether it is the end of attempts.
const fn is_end(step: &Step) -> bool {
    step.attempt > 0
        && matches!(
            step.what,
            What::Finished | What::Retried(..) | What::Failed(_) | What::HandedBack | What::Canceled
        )
}

fn ended(
    all: &Transitions,
    step: &Step,
    grant: Granted,
    started_at: Option<Timestamp>,
    detail: Option<&Detail>,
) -> RanAttempt {
    let failed = match step.what {
        What::Retried(class, _) | What::Failed(class) => Some(class),
        _ => None,
    };
    let words = match (step.what, failed) {
        (_, Some(FailureClass::Lost)) => "lost with its node",
        (What::HandedBack, _) => "handed back by its node, to be run again",
        (What::Canceled, _) => "canceled",
        _ => "",
    };
    RanAttempt {
        number: step.attempt,
        node: grant.node,
        backend: grant.backend,
        started_at: started_at.unwrap_or(grant.at),
        ended_at: all.at,
        failed,
        exit: detail
            .and_then(|detail| detail.exit)
            .or((step.what == What::Finished).then_some(Exit::Code(0))),
        message: detail.map_or_else(|| words.to_owned(), |detail| detail.message.clone()),
        fingerprint: failed.and(detail.map(|detail| detail.fingerprint)),
    }
}
