//! How attempts of subtasks went: from rows what did not finish, from the history of their job what did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, Row, params};
use sheaf_engine::job::step::{Transitions, What};
use sheaf_model::{FailureClass, Fingerprint, JobId, NodeId, Ranges, Run, Timestamp};

use crate::ends::{self, AttemptState, Granted, RanAttempt};
use crate::error::StoreError;
use crate::reader::{Reader, decode_row};
use crate::trail::BLOCK;

/// Subtasks that failed alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAlike {
    /// What they have in common.
    pub fingerprint: Fingerprint,
    /// How many.
    pub subtasks: u64,
    /// What one of them said.
    pub message: String,
}

/// A job's subtasks that are failed now, by what their failure looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedGroups {
    /// The largest groups, the largest first.
    pub largest: Vec<FailedAlike>,
    /// How many groups there are.
    pub all: u64,
}

impl Reader {
    /// The attempts of a subtask that are over, in order.
    pub fn attempts(&self, job: JobId, subtask: u32) -> Result<Vec<RanAttempt>, StoreError> {
        let all = self.ran(job, &Run::one(subtask).into())?;
        Ok(all.into_values().collect())
    }

    /// The last attempt that is over of each of these subtasks that had one.
    pub fn last_attempts(
        &self,
        job: JobId,
        subtasks: &Ranges,
    ) -> Result<BTreeMap<u32, RanAttempt>, StoreError> {
        Ok(self.ran(job, subtasks)?.into_iter().map(|((subtask, _), ran)| (subtask, ran)).collect())
    }

    /// How many of a job's subtasks are failed now, by what their failure looks like: the largest groups, at most `most`.
    pub fn failure_groups(&self, job: JobId, most: usize) -> Result<FailedGroups, StoreError> {
        let sql = "SELECT fingerprint, count(*) AS subtasks, min(subtask), count(*) OVER () FROM job_attempts
                   WHERE job_id = ?1 AND stands = 1 GROUP BY fingerprint ORDER BY subtasks DESC, fingerprint LIMIT ?2";
        self.read("read the failures of a job in", |db| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut said = db.prepare_cached(
                "SELECT message FROM job_attempts WHERE job_id = ? AND subtask = ? AND stands = 1",
            )?;
            let mut groups = db.prepare_cached(sql)?;
            let rows = groups.query_map(params![job.0.cast_signed(), most], |row| {
                let first: u32 = row.get(2)?;
                let alike = FailedAlike {
                    fingerprint: fingerprint(row, 0)?.unwrap_or_default(),
                    subtasks: row.get::<_, i64>(1)?.cast_unsigned(),
                    message: said.query_row(params![job.0.cast_signed(), first], |row| row.get(0))?,
                };
                Ok((alike, row.get::<_, i64>(3)?.cast_unsigned()))
            })?;
            let mut groups = FailedGroups::default();
            for row in rows {
                let (alike, all) = row?;
                groups.all = all;
                groups.largest.push(alike);
            }
            Ok(groups)
        })
    }

    /// Each attempt of these subtasks that is over, by subtask and number.
    fn ran(&self, job: JobId, subtasks: &Ranges) -> Result<BTreeMap<(u32, u32), RanAttempt>, StoreError> {
        self.lend(|db| {
            // One commit throughout.
            let begun = db.unchecked_transaction().map_err(StoreError::sqlite("read", self.path()))?;
            let mut all = BTreeMap::new();
            let blocks: BTreeSet<u32> =
                subtasks.runs().flat_map(|run| run.first / BLOCK..=run.last / BLOCK).collect();
            for block in blocks {
                let mut found = of_block(&begun, self.path(), job, block)?;
                found.retain(|(subtask, _), _| subtasks.contains(*subtask));
                all.append(&mut found);
            }
            Ok(all)
        })
    }
}

/// Each attempt that is over of the subtasks of a block, by subtask and number.
pub(crate) fn of_block(
    db: &Connection,
    path: &Path,
    job: JobId,
    block: u32,
) -> Result<BTreeMap<(u32, u32), RanAttempt>, StoreError> {
    let mut all = finished(db, path, job, block)?;
    all.append(&mut unfinished(db, path, job, block)?);
    Ok(all)
}

/// Each attempt of a block that is over and did not finish: what a subtask had that has not finished.
pub(crate) fn unfinished(
    db: &Connection,
    path: &Path,
    job: JobId,
    block: u32,
) -> Result<BTreeMap<(u32, u32), RanAttempt>, StoreError> {
    let failed = StoreError::sqlite("read the attempts of a job in", path);
    let sql =
        "SELECT subtask, attempt, node_id, backend, started_at, ended_at, state, class, retried, exit_code,
               message, fingerprint FROM job_attempts WHERE job_id = ? AND subtask BETWEEN ? AND ?";
    let mut statement = db.prepare_cached(sql).map_err(&failed)?;
    let first = block * BLOCK;
    let key = params![job.0.cast_signed(), first, first.saturating_add(BLOCK - 1)];
    let rows = statement.query_map(key, special).map_err(&failed)?;
    rows.collect::<Result<_, _>>().map_err(&failed)
}

/// An attempt that did not finish, with its subtask and number.
fn special(row: &Row<'_>) -> rusqlite::Result<((u32, u32), RanAttempt)> {
    let time = |at: Option<i64>| at.map(|at| Timestamp(at.cast_unsigned()));
    let class: Option<String> = row.get(7)?;
    let class = FailureClass::ALL.into_iter().find(|known| class.as_deref() == Some(known.as_str()));
    let end = match (row.get_ref(6)?.as_str()?, class) {
        ("canceled", _) => AttemptState::Canceled,
        ("failed", Some(class)) => AttemptState::Failed(class),
        _ => AttemptState::HandedBack,
    };
    let ran = RanAttempt {
        number: row.get(1)?,
        node: row.get::<_, Option<i64>>(2)?.map(|node| NodeId(node.cast_unsigned())),
        backend: row.get(3)?,
        started_at: time(row.get(4)?),
        ended_at: Timestamp(row.get::<_, i64>(5)?.cast_unsigned()),
        end,
        retried: row.get(8)?,
        exit_code: row.get(9)?,
        message: row.get(10)?,
        fingerprint: fingerprint(row, 11)?,
    };
    Ok(((row.get(0)?, ran.number), ran))
}

fn fingerprint(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Fingerprint>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| u64::from_str_radix(&text, 16).ok()).map(Fingerprint))
}

/// The attempts of a block that finished, from those pieces of the history that speak of the block.
fn finished(
    db: &Connection,
    path: &Path,
    job: JobId,
    block: u32,
) -> Result<BTreeMap<(u32, u32), RanAttempt>, StoreError> {
    let failed = StoreError::sqlite("read the history of a job in", path);
    let sql = "SELECT number, body FROM job_blocks JOIN job_transitions USING (job_id, number)
               WHERE job_id = ? AND block = ? ORDER BY number";
    let mut statement = db.prepare_cached(sql).map_err(&failed)?;
    let mut rows = statement.query(params![job.0.cast_signed(), block]).map_err(&failed)?;
    let here = Run::new(block * BLOCK, (block * BLOCK).saturating_add(BLOCK - 1));
    let mut granted: BTreeMap<u32, Granted> = BTreeMap::new();
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let number: i64 = row.get(0).map_err(&failed)?;
        let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
        let all: Transitions = decode_row(path, "job_transitions", || format!("{job}/{number}"), body)?;
        for step in &all.steps {
            if let (What::Granted(node, backend), Some(run)) = (step.what, step.run.overlap(here)) {
                let grant = Granted { attempt: step.attempt, node, backend, at: all.at };
                granted.extend(run.numbers().map(|subtask| (subtask, grant)));
            }
        }
        ends::each(
            &all,
            |subtask| here.contains(subtask),
            |end| {
                let grant = granted.remove(&end.subtask).filter(|grant| grant.attempt == end.step.attempt);
                if end.state == AttemptState::Finished {
                    found.insert((end.subtask, end.step.attempt), end.attempt(grant));
                }
                Ok::<_, StoreError>(())
            },
        )?;
    }
    Ok(found)
}
