//! What a query may not do, and when it has done enough.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use sheaf_model::query::{SQL_MAX, VIEWS};

use super::{QueryError, VALUE_BYTES, refused};
use crate::reader::Pool;

/// Steps of SQLite's machine between two looks at the clock: some ten microseconds.
const STEPS: i32 = 1_000;
/// What views are made of, and nobody reads but they.
const MADE_OF: [&str; 9] = [
    "nodes",
    "modules",
    "buckets",
    "bindings",
    "instances",
    "jobs",
    "job_attempts",
    "job_transitions",
    "events",
];
/// The same, but not of the database: there is nothing in them.
const HELPERS: [&str; 2] = ["sheaf_states", "rarray"];
/// Functions that reach out of the database, or into SQLite itself.
const FORBIDDEN: [&str; 4] = ["load_extension", "fts3_tokenizer", "sqlite_log", "rtreecheck"];
/// Tables that are functions, and read nothing but what they are given.
const OPEN: [&str; 2] = ["json_each", "json_tree"];

/// Watches one query.
pub(super) struct Guard {
    until: Instant,
    /// How names begin that only this session knows. SQLite tells of who reads no more than a name, and a query calls its
    /// parts as it likes.
    own: String,
    is_heard: Box<dyn Fn() -> bool + Send + Sync>,
    /// What was refused first: SQLite itself only says that something was.
    refusal: Mutex<Option<(String, &'static str)>>,
    stopped: Mutex<Option<Stop>>,
}

/// Why a query is to end before its time.
#[derive(Clone, Copy)]
enum Stop {
    Replaced,
    Unheard,
}

impl Guard {
    pub(super) fn new(
        until: Instant,
        own: String,
        is_heard: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let is_heard = Box::new(is_heard);
        Self { until, own, is_heard, refusal: Mutex::default(), stopped: Mutex::default() }
    }

    /// How names begin that only this session knows.
    pub(super) fn own(&self) -> &str {
        &self.own
    }

    /// Why the query was not allowed to go on, if it was not.
    pub(super) fn refusal(&self) -> Option<QueryError> {
        match *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Stop::Replaced) => return Some(replaced()),
            Some(Stop::Unheard) => return Some(QueryError::Unheard),
            None => {}
        }
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        refusal.map(|(problem, remedy)| refused(problem, remedy))
    }

    /// Watches what is prepared and run from now on.
    pub(super) fn watch(self: &Arc<Self>, db: &mut Connection, pool: &Arc<Pool>) -> rusqlite::Result<()> {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        for (limit, most) in [
            (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 2 * SQL_MAX),
            (Limit::SQLITE_LIMIT_COLUMN, 200),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 20),
            (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
            (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 10),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            db.set_limit(limit, i32::try_from(most).unwrap_or(i32::MAX))?;
        }
        let guard = Arc::clone(self);
        db.authorizer(Some(move |asked: AuthContext<'_>| guard.authorize(&asked)))?;
        let (guard, pool) = (Arc::clone(self), Arc::clone(pool));
        db.progress_handler(STEPS, Some(move || guard.is_enough(&pool)))
    }

    fn is_enough(&self, pool: &Pool) -> bool {
        let stop = match () {
            () if pool.is_replacing() => Stop::Replaced,
            () if !(self.is_heard)() => Stop::Unheard,
            () => return Instant::now() >= self.until,
        };
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
        true
    }

    fn authorize(&self, asked: &AuthContext<'_>) -> Authorization {
        let is_own = |name: &str| name.starts_with(&self.own);
        let within = asked.accessor.is_some_and(is_own);
        let refusal = match asked.action {
            AuthAction::Select | AuthAction::Recursive => None,
            AuthAction::Read { table_name, column_name } => {
                // Parts of a query have names, too, and are asked for without a schema.
                let named =
                    asked.database_name != Some("main") && (is_view(table_name) || is_own(table_name));
                let is_ours = asked.database_name == Some(self.own.as_str());
                let allowed = named
                    || OPEN.contains(&table_name)
                    // Without a column it is asked for once more when views have become parts of the query.
                    || ((within || column_name.is_empty())
                        && (HELPERS.contains(&table_name) || is_ours && MADE_OF.contains(&table_name)))
                    || (asked.database_name.is_none() && !is_table(table_name));
                (!allowed).then(|| {
                    let names: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
                    (format!("{table_name} cannot be read; there are {}", names.join(", ")), TABLES)
                })
            }
            AuthAction::Function { function_name } => {
                let own = function_name.starts_with("sheaf_") && !within;
                let forbidden = FORBIDDEN.iter().any(|name| function_name.eq_ignore_ascii_case(name));
                (own || forbidden).then(|| (format!("the function {function_name} cannot be used"), READS))
            }
            AuthAction::Pragma { pragma_name, .. } => {
                Some((format!("PRAGMA {pragma_name} cannot be used"), READS))
            }
            AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
                Some(("ATTACH and DETACH cannot be used".to_owned(), READS))
            }
            AuthAction::Insert { table_name } if !table_name.starts_with("sqlite_") => {
                Some((format!("INSERT INTO {table_name}: queries change nothing"), CHANGES))
            }
            AuthAction::Update { table_name, .. } => {
                Some((format!("UPDATE {table_name}: queries change nothing"), CHANGES))
            }
            AuthAction::Delete { table_name } => {
                Some((format!("DELETE FROM {table_name}: queries change nothing"), CHANGES))
            }
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
                Some(("transactions cannot be used: a query is one by itself".to_owned(), READS))
            }
            _ => Some(("queries create, drop and change nothing".to_owned(), CHANGES)),
        };
        let Some(refusal) = refusal else { return Authorization::Allow };
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(refusal);
        Authorization::Deny
    }
}

const READS: &str = "one SELECT over the views that `sheaf query --tables` shows";
const TABLES: &str = "`sheaf query --tables` says what each has";
const CHANGES: &str = "changes are made by `sheaf apply`, `sheaf bucket`, `sheaf job` and so on";

/// What ends a query while the database is replaced.
pub(super) fn replaced() -> QueryError {
    QueryError::Failed("this node is receiving the cluster's state anew; ask again".to_owned())
}

fn is_view(name: &str) -> bool {
    VIEWS.iter().any(|view| view.name == name)
}

/// Whether a table of the database, of SQLite or of the views is called so.
fn is_table(name: &str) -> bool {
    let ours = include_str!("../schema.sql").lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
    let mut ours = ours.filter_map(|rest| rest.split_whitespace().next());
    let beginnings = ["sqlite_", "sheaf_", "pragma_", "fts", "rtree"];
    let others = ["rarray", "dbstat", "bytecode", "tables_used"];
    ours.any(|table| table.eq_ignore_ascii_case(name))
        || others.iter().any(|other| other.eq_ignore_ascii_case(name))
        || beginnings.iter().any(|beginning| name.to_ascii_lowercase().starts_with(beginning))
}
