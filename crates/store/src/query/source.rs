//! What of jobs is not in columns: their state, which is a row and the history since, and the attempts in their history.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use sheaf_engine::job::dependency::Dependencies;
use sheaf_engine::job::step::Transitions;
use sheaf_engine::{Change, Job, State};
use sheaf_model::{JobId, NodeId, Run};

use crate::attempts;
use crate::codec::Stored;
use crate::ends::RanAttempt;
use crate::error::StoreError;
use crate::reader::decode_row;
use crate::steps::{self, Piece};

/// Jobs kept. Each may have as many entries as it has subtasks that are special.
const JOBS: usize = 4;
/// Blocks kept.
const BLOCKS: usize = 16;

/// The attempts of a block that are over, by subtask and number.
pub(super) type Block = BTreeMap<(u32, u32), RanAttempt>;

/// Reads on a connection of its own, which sees the same commit as the query.
pub(super) struct Source {
    db: Connection,
    path: PathBuf,
    nodes: Option<BTreeMap<NodeId, String>>,
    /// The newest last.
    jobs: VecDeque<(JobId, Option<Arc<State>>)>,
    blocks: VecDeque<((JobId, u32, bool), Arc<Block>)>,
    /// Which subtasks the view of a part of them has.
    pub(super) part: Run,
    /// The one that was read last.
    piece: Option<((JobId, i64), Arc<Piece>)>,
}

impl Source {
    pub(super) fn new(db: Connection, path: PathBuf) -> Self {
        let (jobs, blocks, part) = (VecDeque::new(), VecDeque::new(), Run::new(0, u32::MAX));
        Self { db, path, nodes: None, jobs, blocks, part, piece: None }
    }

    /// A node's name for people.
    pub(super) fn node(&mut self, id: NodeId) -> Result<String, StoreError> {
        if self.nodes.is_none() {
            let failed = StoreError::sqlite("read the nodes of", &self.path);
            self.nodes = Some(steps::nodes(&self.db).map_err(failed)?);
        }
        let known = self.nodes.as_ref().and_then(|nodes| nodes.get(&id));
        Ok(known.cloned().unwrap_or_else(|| format!("node {id}")))
    }

    /// What `view` sees of a job; none: there is no such job.
    pub(super) fn job<T>(
        &mut self,
        id: JobId,
        view: impl FnOnce(&Job) -> T,
    ) -> Result<Option<T>, StoreError> {
        let state = match self.jobs.iter().rposition(|(known, _)| *known == id) {
            Some(at) => self.jobs[at].1.clone(),
            None => {
                let state = self.load(id)?.map(Arc::new);
                if self.jobs.len() == JOBS {
                    self.jobs.pop_front();
                }
                self.jobs.push_back((id, state.clone()));
                state
            }
        };
        Ok(state.as_ref().and_then(|state| state.jobs.get(id)).map(view))
    }

    /// A state with nothing but that job.
    fn load(&self, id: JobId) -> Result<Option<State>, StoreError> {
        let mut state = State::default();
        let key = id.0.cast_signed();
        if let Some(all) = self.row::<Dependencies>(
            "SELECT body FROM job_dependencies WHERE job_id = ?",
            "job_dependencies",
            id,
        )? {
            state.put(&Change::Dependencies(id, Arc::new(all)));
        }
        let Some(job) = self.row::<Job>("SELECT body FROM jobs WHERE id = ?", "jobs", id)? else {
            return Ok(None);
        };
        let history = job.history.cast_signed();
        state.put(&Change::Job(Arc::new(job)));
        let failed = StoreError::sqlite("read the history of a job in", &self.path);
        let sql = "SELECT number, body FROM job_transitions WHERE job_id = ? AND number >= ? ORDER BY number";
        let mut statement = self.db.prepare_cached(sql).map_err(&failed)?;
        let mut rows = statement.query(params![key, history]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let number: i64 = row.get(0).map_err(&failed)?;
            let body = row.get_ref(1).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
            let all: Transitions =
                decode_row(&self.path, "job_transitions", || format!("{id}/{number}"), body)?;
            state.put(&Change::Transitions(Arc::new(all)));
        }
        Ok(Some(state))
    }

    fn row<T: Stored>(&self, sql: &str, table: &'static str, id: JobId) -> Result<Option<T>, StoreError> {
        let found = self.db.prepare_cached(sql).and_then(|mut sql| {
            sql.query_row([id.0.cast_signed()], |row| row.get::<_, Vec<u8>>(0)).optional()
        });
        let body = found.map_err(StoreError::sqlite("read a job in", &self.path))?;
        body.map(|body| decode_row(&self.path, table, || id.to_string(), &body)).transpose()
    }

    /// The blocks of a job that have attempts.
    pub(super) fn blocks(&self, id: JobId) -> Result<Vec<i64>, StoreError> {
        let failed = StoreError::sqlite("read the history of a job in", &self.path);
        // One look for each block, not one for each row.
        let sql = "WITH RECURSIVE b(block) AS (
                     SELECT min(block) FROM job_blocks WHERE job_id = ?1
                     UNION ALL
                     SELECT (SELECT min(block) FROM job_blocks WHERE job_id = ?1 AND block > b.block) FROM b
                     WHERE b.block IS NOT NULL)
                   SELECT block FROM b WHERE block IS NOT NULL";
        let mut statement = self.db.prepare_cached(sql).map_err(&failed)?;
        let rows = statement.query_map([id.0.cast_signed()], |row| row.get(0)).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// The attempts in a block: all, or those that did not finish, which costs much less.
    pub(super) fn block(&mut self, id: JobId, block: u32, whole: bool) -> Result<Arc<Block>, StoreError> {
        let key = (id, block, whole);
        if let Some(at) = self.blocks.iter().rposition(|(known, _)| *known == key) {
            return Ok(Arc::clone(&self.blocks[at].1));
        }
        let read = if whole { attempts::of_block } else { attempts::unfinished };
        let all = Arc::new(read(&self.db, &self.path, id, block)?);
        if self.blocks.len() == BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back((key, Arc::clone(&all)));
        Ok(all)
    }

    /// A piece of a job's history; none: there is none of that number.
    pub(super) fn piece(&mut self, id: JobId, number: i64) -> Result<Option<Arc<Piece>>, StoreError> {
        if let Some((_, piece)) = self.piece.as_ref().filter(|(key, _)| *key == (id, number)) {
            return Ok(Some(Arc::clone(piece)));
        }
        let sql = "SELECT body FROM job_transitions WHERE job_id = ? AND number = ?";
        let found = self.db.prepare_cached(sql).and_then(|mut sql| {
            sql.query_row(params![id.0.cast_signed(), number], |row| row.get::<_, Vec<u8>>(0)).optional()
        });
        let body = found.map_err(StoreError::sqlite("read the history of a job in", &self.path))?;
        let Some(body) = body else { return Ok(None) };
        let key = || format!("{id}/{number}");
        let all: Transitions = decode_row(&self.path, "job_transitions", key, &body)?;
        let piece = Arc::new(Piece::new(Arc::new(all)));
        self.piece = Some(((id, number), Arc::clone(&piece)));
        Ok(Some(piece))
    }
}
