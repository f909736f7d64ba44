//! Indexes over the histories of jobs, written with them: where the attempts of a subtask are to be found, and a row for
//! each that did not finish.

use std::collections::{BTreeSet, HashMap};

use rusqlite::params;
use sheaf_engine::job::step::{Step, Transitions, What};
use sheaf_model::JobId;

use crate::codec;
use crate::ends::{self, AttemptState, Granted, RanAttempt};
use crate::error::StoreError;
use crate::row::Rows;

/// Subtasks of one block: a page of them needs few blocks, and a command touches few.
pub(crate) const BLOCK: u32 = sheaf_model::query::BLOCK;

/// What runs, by job and subtask: an end is told without saying where. What was granted before this process began is
/// not in it, and found in the history.
pub(crate) type Grants = HashMap<(JobId, u32), Granted>;

impl Rows<'_> {
    /// Writes the indexes for what one command did.
    pub(crate) fn index(&mut self, all: &Transitions) -> Result<(), StoreError> {
        let mut blocks = BTreeSet::new();
        let told = |step: &&Step| step.attempt > 0 && !matches!(step.what, What::Stale | What::Stopping);
        for step in all.steps.iter().filter(told) {
            blocks.extend(step.run.first / BLOCK..=step.run.last / BLOCK);
        }
        let (job, number) = (all.job.0.cast_signed(), all.number.cast_signed());
        for block in blocks {
            self.run("INSERT OR IGNORE INTO job_blocks VALUES (?, ?, ?)", params![job, block, number])?;
        }
        for step in &all.steps {
            match step.what {
                What::Granted(node, backend) => {
                    let granted = Granted { attempt: step.attempt, node, backend, at: all.at };
                    let keys = step.run.numbers().map(|subtask| ((all.job, subtask), granted));
                    self.grants.extend(keys);
                }
                What::Again => self.run(
                    "UPDATE job_attempts SET stands = 0 WHERE job_id = ? AND subtask BETWEEN ? AND ? AND stands = 1",
                    params![job, step.run.first, step.run.last],
                )?,
                _ => {}
            }
        }
        ends::each(
            all,
            |_| true,
            |end| {
                let known = self.grants.remove(&(all.job, end.subtask));
                let known = known.filter(|granted| granted.attempt == end.step.attempt);
                if end.state == AttemptState::Finished {
                    return Ok(());
                }
                let granted = match known {
                    None => self.granted(all.job, end.subtask, end.step.attempt)?,
                    known => known,
                };
                let stands = matches!(end.step.what, What::Failed(_));
                self.attempt(all.job, end.subtask, &end.attempt(granted), stands)
            },
        )
    }

    fn attempt(&self, job: JobId, subtask: u32, ran: &RanAttempt, stands: bool) -> Result<(), StoreError> {
        self.run(
            "INSERT OR REPLACE INTO job_attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                job.0.cast_signed(),
                subtask,
                ran.number,
                ran.end.as_str(),
                ran.end.class().map(|class| class.as_str()),
                ran.retried,
                ran.node.map(|node| node.0.cast_signed()),
                ran.backend,
                ran.started_at.map(|at| at.0.cast_signed()),
                ran.ended_at.0.cast_signed(),
                ran.exit_code,
                ran.fingerprint.map(|fingerprint| fingerprint.to_string()),
                ran.message,
                stands,
            ],
        )
    }

    /// Where an attempt was granted, from the history. The end that asks may be in it already; its grant is before.
    fn granted(&self, job: JobId, subtask: u32, attempt: u32) -> Result<Option<Granted>, StoreError> {
        let failed = StoreError::sqlite("read the history of a job in", self.path);
        let sql = "SELECT number, body FROM job_blocks JOIN job_transitions USING (job_id, number)
                   WHERE job_id = ? AND block = ? ORDER BY number DESC";
        let mut statement = self.db.prepare_cached(sql).map_err(&failed)?;
        let mut rows = statement.query(params![job.0.cast_signed(), subtask / BLOCK]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
            let all: Transitions = codec::decode(body).map_err(|source| StoreError::Row {
                path: self.path.to_owned(),
                table: "job_transitions",
                key: format!("{job}/{:?}", row.get::<_, i64>(0)),
                source,
            })?;
            let grant = all.steps.iter().find_map(|step| match step.what {
                What::Granted(node, backend) if step.attempt == attempt && step.run.contains(subtask) => {
                    Some(Granted { attempt, node, backend, at: all.at })
                }
                _ => None,
            });
            if grant.is_some() {
                return Ok(grant);
            }
        }
        Ok(None)
    }
}
