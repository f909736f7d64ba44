//! How fast the subtasks of a job end.

use rusqlite::params;
use sheaf_engine::job::step::{Step, Transitions, What};
use sheaf_model::{JobId, Timestamp};

use crate::error::StoreError;
use crate::reader::{Reader, decode_row};

/// So many of the last commands that did something to a job's subtasks are looked at.
const PIECES: i64 = 100;

/// Subtasks whose attempts came to an end for good, counted since a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lately {
    /// How many.
    pub ended: u64,
    /// Since when.
    pub since: Timestamp,
}

impl Reader {
    /// How many subtasks of a job finished or failed since it was last resumed or tried again, or `started`; of a job that
    /// much happens to since a while ago.
    pub fn ended_lately(&self, job: JobId, started: Timestamp) -> Result<Lately, StoreError> {
        self.lend(|db| {
            let failed = StoreError::sqlite("read the history of a job in", self.path());
            let id = job.0.cast_signed();
            let sql = "SELECT max(at) FROM events WHERE subject = (SELECT name FROM jobs WHERE id = ?)
                       AND kind IN ('job.resumed', 'job.retried')";
            let again = db
                .prepare_cached(sql)
                .and_then(|mut again| again.query_row([id], |row| row.get::<_, Option<i64>>(0)));
            let again = again.map_err(&failed)?.map(|at| Timestamp(at.cast_unsigned()));
            let mut lately = Lately { ended: 0, since: again.unwrap_or(started).max(started) };
            let sql =
                "SELECT number, at, body FROM job_transitions WHERE job_id = ? ORDER BY number DESC LIMIT ?";
            let mut statement = db.prepare_cached(sql).map_err(&failed)?;
            let mut rows = statement.query(params![id, PIECES]).map_err(&failed)?;
            // What the oldest of them ended took time before that, unless it was the first of all.
            let mut oldest = None;
            while let Some(row) = rows.next().map_err(&failed)? {
                let number: i64 = row.get(0).map_err(&failed)?;
                let at = Timestamp(row.get::<_, i64>(1).map_err(&failed)?.cast_unsigned());
                if at < lately.since {
                    return Ok(lately);
                }
                let body = row.get_ref(2).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
                let all: Transitions =
                    decode_row(self.path(), "job_transitions", || format!("{job}/{number}"), body)?;
                let ended: u64 = all.steps.iter().filter(ends).map(|step| step.run.len()).sum();
                lately.ended += ended;
                oldest = Some((number, at, ended));
            }
            if let Some((1.., at, ended)) = oldest {
                lately = Lately { ended: lately.ended - ended, since: at };
            }
            Ok(lately)
        })
    }
}

fn ends(step: &&Step) -> bool {
    matches!(step.what, What::Finished | What::Failed(_))
}
