//! SQL over the views: read only, cut off, of one commit throughout.
//!
//! ```text
//!  SQL ──guard──► one connection: views.sql ──┬── tables
//!                                             └── functions ──► Source, another connection on the same commit:
//!                                                               jobs with their history, blocks of attempts
//! ```
//!
//! SQLite does not ask the guard about every column: not about those that a join compares. So a query's connection has the
//! database under a name that is made up for it, and empty tables where a query would look for those of the database.
//!
//! A query has connections of its own, opened for it: nothing that it does to one is left to the next. What it sorts and
//! groups spills into temporary files, what it brings is handed over as it comes.

mod functions;
mod guard;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, Row, Statement, ToSql};
use sheaf_model::query::{SQL_MAX, VIEWS};
use sheaf_model::{Cell, JobName, QueryEnd, QueryPart, Ranges, Revision, Run, SubtaskState};

use crate::error::StoreError;
use crate::reader::{Pool, Reader};
use crate::store;
use functions::Shared;
use guard::Guard;
use source::Source;

/// Rows handed over at once, at most.
const BATCH_ROWS: usize = 256;
/// Their size in bytes, about.
const BATCH_BYTES: usize = 256 << 10;
/// Longest value in bytes: SQLite holds a whole row of them.
const VALUE_BYTES: usize = 1 << 20;
/// Longest row in bytes.
const ROW_BYTES: usize = 8 << 20;
/// Size of a whole answer in bytes, about.
const ANSWER_BYTES: usize = 256 << 20;
/// Memory for pages of each connection, in KiB; what sorting needs beyond goes to a file.
const CACHE_KIB: i64 = 8 << 10;
/// Subtasks that a condition is asked about first, if few of them may be enough; then twice as many, and so on.
const PART: u32 = 1 << 16;
/// What the view of a part of the subtasks is called, after what is made up.
const SUBTASKS_PART: &str = "part";
/// How often both connections are asked for the same commit. The writer commits a few times a second.
const TRIES: usize = 100;

/// A query.
#[derive(Clone, Debug)]
pub struct Ask {
    /// One statement that reads.
    pub sql: String,
    /// Rows after which it is cut off.
    pub rows: u64,
    /// When it is cut off.
    pub until: Instant,
}

/// Which subtasks of a job are looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of this job.
    pub job: JobName,
    /// What may follow WHERE in a query of the view `subtasks`.
    pub condition: String,
    /// Only those in one of these states; none: in any.
    pub states: Vec<SubtaskState>,
    /// Only these; none: any.
    pub among: Option<Ranges>,
    /// Only from this one on.
    pub from: u32,
    /// So many are enough, though it may be more.
    pub most: u64,
    /// When it is cut off.
    pub until: Instant,
}

/// The subtasks that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// All that there are …
    pub subtasks: Ranges,
    /// … up to this one; none: all.
    pub to: Option<u32>,
}

impl Wanted {
    /// What is looked at first: not all, if few of them may be enough.
    fn first_part(&self) -> Run {
        let last = if self.most == u64::MAX { u32::MAX } else { self.from.saturating_add(PART) };
        Run::new(self.from, last)
    }

    /// Of rows with a number each, those that are wanted.
    fn of_rows(&self, rows: &[Vec<Cell>]) -> impl Iterator<Item = Run> {
        let numbers = rows.iter().filter_map(|row| match row.first() {
            Some(Cell::Integer(number)) => u32::try_from(*number).ok(),
            _ => None,
        });
        let among = move |number: &u32| self.among.as_ref().is_none_or(|among| among.contains(*number));
        numbers.filter(among).map(Run::one)
    }
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is wrong, or asks for what is not allowed. Nothing was read.
    #[error("{problem}; {remedy}")]
    Refused {
        /// What is wrong, and where.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// It took too long.
    #[error("the query took longer than it may; narrow it (job = '…', state = '…'), or give it more time")]
    TooLong,
    /// It failed at what it found, e.g. a value that is too long.
    #[error("the query failed: {0}")]
    Failed(String),
    /// Whoever asked does not listen any more.
    #[error("nobody waits for the answer any more")]
    Unheard,
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reader {
    /// Answers a query: gives its parts to `take` as they come, until that says that nobody waits. `is_heard` says the same
    /// while there is nothing to give, and is asked often.
    pub fn query(
        &self,
        ask: &Ask,
        is_heard: impl Fn() -> bool + Send + Sync + 'static,
        mut take: impl FnMut(QueryPart) -> bool,
    ) -> Result<(), QueryError> {
        self.session(ask.until, is_heard, |session| {
            let mut statement = session.prepare(&ask.sql)?;
            let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
            let mut heard = |part| match take(part) {
                true => Ok(()),
                false if self.is_replacing() => Err(guard::replaced()),
                false => Err(QueryError::Unheard),
            };
            heard(QueryPart::Columns(columns))?;
            let end = session.run(&mut statement, &[], ask.rows, |rows| heard(QueryPart::Rows(rows)))?;
            heard(QueryPart::End(end))
        })
    }

    /// The subtasks of a job for which a condition holds, those with the lowest numbers first.
    pub fn subtasks_where(&self, wanted: &Wanted) -> Result<Found, QueryError> {
        self.session(wanted.until, || true, |session| session.subtasks_where(wanted))
    }

    fn session<T>(
        &self,
        until: Instant,
        is_heard: impl Fn() -> bool + Send + Sync + 'static,
        work: impl FnOnce(&Session) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let pool = self.pool();
        let done = pool.apart(|| {
            let session = Session::open(self.path(), pool, |own| Guard::new(until, own, is_heard));
            Ok(session.and_then(|session| work(&session)))
        });
        done?
    }
}

/// What one query works with.
struct Session {
    db: Connection,
    revision: Revision,
    source: Shared,
    guard: Arc<Guard>,
}

impl Session {
    fn open(path: &Path, pool: &Arc<Pool>, guard: impl FnOnce(String) -> Guard) -> Result<Self, QueryError> {
        let failed = StoreError::sqlite("prepare a query of", path);
        let inner = store::open_for_reading(path)?;
        inner.pragma_update(None, "cache_size", -CACHE_KIB).map_err(&failed)?;
        let (mut db, own) = store::open_apart(path)?;
        db.pragma_update(Some(own.as_str()), "cache_size", -CACHE_KIB).map_err(&failed)?;
        db.pragma_update(None, "temp_store", "FILE").map_err(&failed)?;
        let revision = same_commit(&db, &inner).map_err(&failed)?;
        let source = Source::new(inner, path.to_owned());
        let source = functions::register(&db, source).map_err(&failed)?;
        // Only now, so that above it is the database where names are looked for.
        db.execute_batch(include_str!("schema.sql")).map_err(&failed)?;
        db.execute_batch(&views(&own)).map_err(&failed)?;
        let guard = Arc::new(guard(own));
        guard.watch(&mut db, pool).map_err(&failed)?;
        Ok(Self { db, revision, source, guard })
    }

    fn subtasks_where(&self, wanted: &Wanted) -> Result<Found, QueryError> {
        let mut statement = self.prepare_where(wanted)?;
        let (mut subtasks, mut part) = (Ranges::default(), wanted.first_part());
        loop {
            self.source.show(part);
            self.run(&mut statement, &[&wanted.job.as_str()], u64::MAX, |rows| {
                wanted.of_rows(&rows).for_each(|run| subtasks.insert(run));
                Ok(())
            })?;
            let Some(next) = part.last.checked_add(1) else { return Ok(Found { subtasks, to: None }) };
            if subtasks.len() >= wanted.most {
                return Ok(Found { subtasks, to: Some(part.last) });
            }
            let width = u32::try_from(part.len()).unwrap_or(u32::MAX).saturating_mul(2);
            part = Run::new(next, next.saturating_add(width));
        }
    }

    /// Reads what finds subtasks of the part that is shown, of the job that is its parameter.
    fn prepare_where(&self, wanted: &Wanted) -> Result<Statement<'_>, QueryError> {
        let condition = &wanted.condition;
        // First within a CASE: what closes the bracket below to go on with something else than a condition, or makes
        // a comment of the rest, cannot be read there.
        drop(self.prepare(&format!("SELECT CASE WHEN (\n{condition}\n) THEN 1 END FROM subtasks"))?);
        let states: Vec<String> = wanted.states.iter().map(|state| format!("'{}'", state.as_str())).collect();
        let states = match &states[..] {
            [] => String::new(),
            some => format!(" AND state IN ({})", some.join(", ")),
        };
        let part = format!("temp.{}_{SUBTASKS_PART}", self.guard.own());
        let statement = self.prepare(&format!(
            "SELECT subtask FROM (SELECT * FROM {part} WHERE job = ?1) AS subtasks WHERE (\n{condition}\n){states}"
        ))?;
        if statement.parameter_count() != 1 {
            return Err(refused("the condition has parameters", "values in their place"));
        }
        Ok(statement)
    }

    /// Reads one statement, and refuses what is none, or more than one, or does more than read.
    fn prepare(&self, sql: &str) -> Result<Statement<'_>, QueryError> {
        if sql.len() > SQL_MAX {
            return Err(refused(format!("the query has {} bytes", sql.len()), format!("at most {SQL_MAX}")));
        }
        let mut statements = Batch::new(&self.db, sql);
        let one = "one statement, like SELECT name, state FROM jobs";
        let statement = statements.next().map_err(|error| self.explain(error, false))?;
        let statement = statement.ok_or_else(|| refused("the query is empty", one))?;
        if !matches!(statements.next(), Ok(None)) {
            return Err(refused("the query goes on after its first statement", one));
        }
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(refused("the statement does something else than read", one));
        }
        Ok(statement)
    }

    /// Runs a statement; gives its rows to `take`, some at a time.
    fn run(
        &self,
        statement: &mut Statement<'_>,
        values: &[&dyn ToSql],
        most: u64,
        mut take: impl FnMut(Vec<Vec<Cell>>) -> Result<(), QueryError>,
    ) -> Result<QueryEnd, QueryError> {
        let columns = statement.column_count();
        let mut found = statement.query(values).map_err(|error| self.explain(error, true))?;
        let mut end = QueryEnd { rows: 0, revision: self.revision.0, cut: None };
        let (mut rows, mut size, mut whole) = (Vec::new(), 0, 0);
        while let Some(row) = found.next().map_err(|error| self.explain(error, true))? {
            if end.rows == most {
                end.cut = Some(format!("there are more than {most} rows"));
                break;
            }
            if whole > ANSWER_BYTES {
                end.cut = Some(format!("the answer is larger than {} MiB", ANSWER_BYTES >> 20));
                break;
            }
            if length(row, columns) > ROW_BYTES {
                let why = format!("a row is longer than {} MiB; read fewer columns at once", ROW_BYTES >> 20);
                return Err(QueryError::Failed(why));
            }
            let cells =
                (0..columns).map(|column| row.get_ref(column).map(cell)).collect::<Result<Vec<_>, _>>();
            let cells = cells.map_err(|error| self.explain(error, true))?;
            size += cells.iter().map(Cell::size).sum::<usize>();
            end.rows += 1;
            rows.push(cells);
            if rows.len() >= BATCH_ROWS || size >= BATCH_BYTES {
                whole += size;
                size = 0;
                take(std::mem::take(&mut rows))?;
            }
        }
        if !rows.is_empty() {
            take(rows)?;
        }
        Ok(end)
    }

    /// What an error of SQLite means to who asked.
    fn explain(&self, error: rusqlite::Error, is_running: bool) -> QueryError {
        if let Some(refusal) = self.guard.refusal() {
            return refusal;
        }
        let remedy = "`sheaf query --tables` says what can be read";
        match error {
            rusqlite::Error::SqlInputError { msg, offset, .. } => {
                let place = usize::try_from(offset).map_or(String::new(), |at| format!(" (at byte {at})"));
                refused(format!("{msg}{place}"), remedy)
            }
            rusqlite::Error::SqliteFailure(code, message) => {
                let message = message.unwrap_or_else(|| code.to_string());
                match code.code {
                    ErrorCode::OperationInterrupted => QueryError::TooLong,
                    ErrorCode::TooBig => {
                        let why = format!("a value is longer than {VALUE_BYTES} bytes; read a part of it");
                        QueryError::Failed(why)
                    }
                    ErrorCode::AuthorizationForStatementDenied => refused(message, remedy),
                    // What cannot be prepared is the asker's mistake; what fails later is in what is there.
                    ErrorCode::Unknown if !is_running => refused(message, remedy),
                    _ => QueryError::Failed(message),
                }
            }
            other => QueryError::Failed(other.to_string()),
        }
    }
}

/// The views over the database called `own`. Each that people read is a plain one over the real one, whose name also begins
/// so: from that the guard knows who reads.
fn views(own: &str) -> String {
    let mut real = include_str!("query/views.sql").replace("main.", &format!("{own}."));
    // The same with another function, and nobody's to read but for conditions.
    let subtasks = "CREATE TEMP VIEW subtasks ";
    let part = real.split_inclusive(';').find_map(|sql| sql.trim_start().strip_prefix(subtasks));
    let part = part.unwrap_or_default().replace("sheaf_pieces(", "sheaf_part(");
    real.push_str(&format!("\nCREATE TEMP VIEW {SUBTASKS_PART} {part}"));
    let mut all = real.replace("CREATE TEMP VIEW ", &format!("CREATE TEMP VIEW {own}_"));
    for view in VIEWS {
        let name = view.name;
        all.push_str(&format!("\nCREATE TEMP VIEW {name} AS SELECT * FROM temp.{own}_{name};"));
    }
    all
}

/// Bytes of a row's texts and blobs.
fn length(row: &Row<'_>, columns: usize) -> usize {
    let bytes = |column| match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.len(),
        _ => 0,
    };
    (0..columns).map(bytes).sum()
}

/// Begins reading on both, until they see the same commit.
fn same_commit(one: &Connection, other: &Connection) -> rusqlite::Result<Revision> {
    let mut tries = 0;
    loop {
        for db in [one, other] {
            db.execute_batch("BEGIN")?;
        }
        let (here, there) = (version(one)?, version(other)?);
        tries += 1;
        if here == there || tries == TRIES {
            return store::revision(one);
        }
        for db in [one, other] {
            db.execute_batch("COMMIT")?;
        }
    }
}

/// Tells commits apart.
fn version(db: &Connection) -> rusqlite::Result<(Revision, Option<Vec<u8>>)> {
    Ok((store::revision(db)?, store::applied(db)?))
}

fn refused(problem: impl Into<String>, remedy: impl Into<String>) -> QueryError {
    QueryError::Refused { problem: problem.into(), remedy: remedy.into() }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_owned()),
    }
}
