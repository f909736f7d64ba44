//! Items of jobs, which memory does not keep.

use rusqlite::{OptionalExtension, params};
use sheaf_engine::job::submit::Items;
use sheaf_model::{Item, JobId};

use crate::error::StoreError;
use crate::reader::Reader;

impl Reader {
    /// The items of these subtasks, in the order asked for, as committed here. A subtask that has none gets what an empty
    /// one would be: `null`. Cheapest for subtasks that lie together.
    pub fn items(&self, job: JobId, subtasks: &[u32]) -> Result<Vec<Item>, StoreError> {
        let mut chunk: Option<Items> = None;
        let mut found = Vec::with_capacity(subtasks.len());
        for subtask in subtasks {
            let holds = |chunk: &Items| {
                let place = subtask.checked_sub(chunk.first)? as usize;
                chunk.items.get(place).cloned()
            };
            if let Some(item) = chunk.as_ref().and_then(holds) {
                found.push(item);
                continue;
            }
            chunk = self.chunk(job, *subtask)?;
            let nothing =
                || Item { value: sheaf_model::Json::new(&serde_json::Value::Null), depends_on: Vec::new() };
            found.push(chunk.as_ref().and_then(holds).unwrap_or_else(nothing));
        }
        Ok(found)
    }

    /// The chunk of items in which a subtask's is.
    fn chunk(&self, job: JobId, subtask: u32) -> Result<Option<Items>, StoreError> {
        let body = self.read("read items of", |db| {
            let sql =
                "SELECT body FROM job_items WHERE job_id = ? AND first <= ? ORDER BY first DESC LIMIT 1";
            let key = params![job.0.cast_signed(), subtask];
            db.prepare_cached(sql)?.query_row(key, |row| row.get::<_, Vec<u8>>(0)).optional()
        })?;
        let Some(body) = body else { return Ok(None) };
        self.decode("job_items", || format!("{job}/{subtask}"), &body).map(Some)
    }
}
