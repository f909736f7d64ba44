//! Jobs: their rows, items, and history.
//!
//! A job's row is what the job was when it was written last; its history since then, a row for each command, makes it what
//! it is. Both are read at start.

use rusqlite::params;
use sheaf_engine::job::dependency::Dependencies;
use sheaf_engine::job::step::Transitions;
use sheaf_engine::job::submit::{Items, Submit};
use sheaf_engine::{Change, Job, State};
use sheaf_model::{Incarnation, JobId, NodeId};
use std::sync::Arc;

use crate::error::StoreError;
use crate::row::Rows;
use crate::store::Store;

impl Rows<'_> {
    pub(crate) fn put_of_jobs(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Job(job) => self.job(job),
            Change::JobGone(id) => {
                self.of_job("DELETE FROM jobs WHERE id = ?", *id)?;
                self.of_job("DELETE FROM job_dependencies WHERE job_id = ?", *id)?;
                self.forget_history(*id)?;
                self.of_job("DELETE FROM job_items WHERE job_id = ?", *id)
            }
            Change::Dependencies(id, all) => {
                self.encode("job_dependencies", &**all)?;
                let row = params![id.0.cast_signed(), self.body];
                self.run("INSERT OR REPLACE INTO job_dependencies VALUES (?, ?)", row)
            }
            Change::Transitions(all) => {
                self.encode("job_transitions", &**all)?;
                let touched = all.len().cast_signed();
                self.run(
                    "INSERT OR REPLACE INTO job_transitions VALUES (?, ?, ?, ?, ?, ?)",
                    params![
                        all.job.0.cast_signed(),
                        all.number.cast_signed(),
                        all.revision.0.cast_signed(),
                        all.at.0.cast_signed(),
                        self.body,
                        touched,
                    ],
                )?;
                self.touched += touched;
                self.index(all)
            }
            Change::Submit(submit) => {
                self.encode("submits", &**submit)?;
                let row = params![submit.id.0.cast_signed(), submit.spec.name.as_str(), self.body];
                self.run("INSERT OR REPLACE INTO submits VALUES (?, ?, ?)", row)
            }
            Change::SubmitGone(id) => {
                self.of_job("DELETE FROM submits WHERE id = ?", *id)?;
                self.of_job("DELETE FROM job_items WHERE job_id = ?", *id)
            }
            Change::Items(chunk) => {
                self.encode("job_items", chunk)?;
                let row = params![chunk.job.0.cast_signed(), chunk.first, self.body];
                self.run("INSERT OR REPLACE INTO job_items VALUES (?, ?, ?)", row)
            }
            Change::Runner(node, life) => self.run(
                "INSERT OR REPLACE INTO runners VALUES (?, ?)",
                params![node.0.cast_signed(), life.0.as_str()],
            ),
            Change::RunnerGone(node) => {
                self.run("DELETE FROM runners WHERE node_id = ?", &[&node.0.cast_signed()])
            }
            // Every other one is known to who calls this.
            _ => Ok(()),
        }
    }

    /// Everything that its subtasks went through.
    fn forget_history(&mut self, id: JobId) -> Result<(), StoreError> {
        let sum = "SELECT coalesce(sum(touched), 0) FROM job_transitions WHERE job_id = ?";
        let asked = self.db.prepare_cached(sum);
        let touched =
            asked.and_then(|mut sum| sum.query_row([id.0.cast_signed()], |row| row.get::<_, i64>(0)));
        self.touched -= touched.map_err(StoreError::sqlite("write to", self.path))?;
        self.of_job("DELETE FROM job_transitions WHERE job_id = ?", id)?;
        self.of_job("DELETE FROM job_blocks WHERE job_id = ?", id)?;
        self.of_job("DELETE FROM job_attempts WHERE job_id = ?", id)
    }

    fn of_job(&self, sql: &'static str, id: JobId) -> Result<(), StoreError> {
        self.run(sql, &[&id.0.cast_signed()])
    }

    fn job(&mut self, job: &Job) -> Result<(), StoreError> {
        self.of_job("DELETE FROM submits WHERE id = ?", job.id)?;
        self.encode("jobs", job)?;
        self.run(
            "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                job.id.0.cast_signed(),
                job.spec.name.as_str(),
                job.spec.module.to_string(),
                job.created.0.cast_signed(),
                job.count,
                job.history.cast_signed(),
                self.body,
            ],
        )
    }
}

impl Store {
    /// Everything about jobs; items only of submits under way.
    pub(crate) fn load_jobs(&self, state: &mut State) -> Result<(), StoreError> {
        let mut all = Vec::new();
        self.pairs(
            "SELECT job_id, body, job_id FROM job_dependencies",
            "job_dependencies",
            |id, row: Dependencies| {
                all.push(Change::Dependencies(JobId(id), Arc::new(row)));
            },
        )?;
        self.rows("jobs", "name", |row: Job| all.push(Change::Job(Arc::new(row))))?;
        self.rows("submits", "name", |row: Submit| all.push(Change::Submit(Arc::new(row))))?;
        all.drain(..).for_each(|change| state.put(&change));
        let since = "SELECT job_id, t.body, job_id FROM jobs JOIN job_transitions t ON job_id = id AND number >= history \
                     ORDER BY job_id, number";
        self.pairs(since, "job_transitions", |_, row: Transitions| {
            state.put(&Change::Transitions(Arc::new(row)));
        })?;
        let open = "SELECT job_id, i.body, job_id FROM submits JOIN job_items i ON job_id = id ORDER BY job_id, first";
        self.pairs(open, "job_items", |_, row: Items| state.put(&Change::Items(row)))?;
        self.runners(|node, life| state.put(&Change::Runner(node, life)))
    }

    fn runners(&self, mut put: impl FnMut(NodeId, Incarnation)) -> Result<(), StoreError> {
        let (db, path) = self.db("load")?;
        let failed = StoreError::sqlite("load", path);
        let mut statement = db.prepare("SELECT node_id, incarnation FROM runners").map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let (node, life): (i64, String) =
                row.get(0).and_then(|node| Ok((node, row.get(1)?))).map_err(&failed)?;
            put(NodeId(node.cast_unsigned()), Incarnation(life));
        }
        Ok(())
    }
}
