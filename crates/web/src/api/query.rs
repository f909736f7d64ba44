//! SQL, and what of jobs is told by it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use futures::TryStreamExt as _;
use serde_json::{Map, Value, json};
use sheaf_model::query::{BLOCK, ROWS_MAX, TIME, TIME_MAX, VIEWS};
use sheaf_model::{Cell, JobName, QueryEnd, QueryPart, Span};
use sheaf_wire::query::RunQuery;
use sheaf_wire::{ApiError, Client};

use crate::answer::{self, Answer, Failed};
use crate::ask::Ask;
use crate::serve::Shared;

/// Rows of an answer to a page.
const ROWS: u32 = 1000;
/// Rows of an answer at most: it is held whole.
const ROWS_HELD: u32 = 10_000;
/// How much longer than the query may take its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// A plot is not worth more.
const PLOT_WITHIN: Span = Span::millis(1500);
/// Points of a plot.
const POINTS: i64 = 120;

/// A whole answer.
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    end: QueryEnd,
}

async fn run(client: &Client, sql: String, limit: u32, timeout: Span) -> Result<Table, ApiError> {
    let client = client.with_deadline(timeout.duration() + PATIENCE);
    let mut parts = client.query(RunQuery { sql, limit, timeout }).await?;
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    while let Some(part) = parts.try_next().await? {
        match part {
            QueryPart::Columns(names) => columns = names,
            QueryPart::Rows(more) => rows.extend(more),
            QueryPart::End(end) => return Ok(Table { columns, rows, end }),
        }
    }
    Err(ApiError::unavailable("the answer broke off before its end; ask again"))
}

/// `query 'SELECT …'`: columns, rows, and why there are no more.
pub(super) async fn query(ask: Ask) -> Answer {
    let ask = ask.only(&["sql", "limit", "timeout"])?;
    let limit = ask.read("limit")?.unwrap_or(ROWS);
    if !(1..=ROWS_HELD).contains(&limit) {
        let remedy = format!("from 1 to {ROWS_HELD}; `sheaf query` answers up to {ROWS_MAX}");
        return Err(Failed::invalid("limit", format!("{limit} rows"), remedy));
    }
    let timeout: Span = ask.read("timeout")?.unwrap_or(TIME);
    if timeout.0 == 0 || timeout > TIME_MAX {
        return Err(Failed::invalid("timeout", timeout.to_string(), format!("at most {TIME_MAX}")));
    }
    let table = run(&ask.client, ask.needed("sql")?.to_owned(), limit, timeout).await?;
    let rows: Vec<Vec<Value>> = table.rows.iter().map(|row| row.iter().map(Cell::json).collect()).collect();
    Ok(answer::value(&json!({
        "columns": table.columns,
        "rows": rows,
        "cut": table.end.cut,
        "revision": table.end.revision,
    })))
}

/// `query --tables`
pub(super) async fn tables(ask: Ask) -> Answer {
    ask.only(&[])?;
    let views = VIEWS.iter().map(|view| {
        let columns = view.columns.iter().map(
            |column| json!({ "column": column.name, "type": column.kind.as_str(), "about": column.about }),
        );
        json!({ "table": view.name, "about": view.about, "columns": columns.collect::<Vec<_>>() })
    });
    Ok(answer::value(&views.collect()))
}

/// The attempts at one subtask, the newest last; of very many the newest.
pub(super) async fn attempts(ask: Ask) -> Answer {
    let ask = ask.only(&["name", "subtask"])?;
    let job = ask.name("name", JobName::new)?;
    let subtask: u32 = ask.read_needed("subtask")?;
    let sql = format!(
        "SELECT attempt, state, class, retried, node, backend, started_at, ended_at, exit_code, message, fingerprint \
         FROM attempts WHERE job = {} AND subtask = {subtask} AND block = {} ORDER BY attempt DESC",
        quoted(job.as_str()),
        subtask / BLOCK
    );
    let table = run(&ask.client, sql, ROWS, TIME).await?;
    let rows = table.rows.iter().rev().map(|row| {
        let fields = table.columns.iter().cloned().zip(row.iter().map(Cell::json));
        Value::Object(fields.collect::<Map<_, _>>())
    });
    Ok(answer::rows(&rows.collect::<Vec<_>>(), ""))
}

/// How many subtasks had ended when: for a plot. `cut` says that there was too much to look through.
pub(super) async fn progress(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let job = quoted(ask.name("name", JobName::new)?.as_str());
    let question = ask.question("job/progress");
    let drawn = shared.fresh.look(question, async move { draw(&ask.client, &job).await });
    Ok(answer::made(Box::pin(drawn).await?))
}

async fn draw(client: &Client, job: &str) -> Result<Value, ApiError> {
    // When it was begun and ended is known without a look at its subtasks.
    let span = format!(
        "SELECT unixepoch(coalesce(started_at, created_at)), unixepoch(coalesce(ended_at, 'now')) FROM jobs WHERE name = {job}"
    );
    let table = run(client, span, 1, PLOT_WITHIN).await?;
    let (first, last) = match table.rows.first().map(Vec::as_slice) {
        Some([Cell::Integer(first), Cell::Integer(last)]) => (*first, *last),
        _ => return Ok(json!({ "points": [], "step_s": 1, "cut": table.end.cut })),
    };
    let step = ((last - first) / POINTS).max(1);
    let over = |kind: &str| format!("sum(CASE WHEN kind = '{kind}' THEN last - first + 1 ELSE 0 END)");
    let sql = format!(
        "SELECT (unixepoch(at) - {first}) / {step}, {}, {}, {} FROM transitions WHERE job = {job} \
         AND kind IN ('finished', 'failed', 'again') GROUP BY 1 ORDER BY 1",
        over("finished"),
        over("failed"),
        over("again")
    );
    let table = run(client, sql, ROWS, PLOT_WITHIN).await?;
    let points = points(&table.rows)
        .into_iter()
        .map(|(at, finished, failed)| json!([first + at * step, finished, failed]));
    Ok(json!({ "points": points.collect::<Vec<_>>(), "step_s": step, "cut": table.end.cut }))
}

/// When, and how many had finished and failed by then. What is wanted again has not failed any more.
fn points(rows: &[Vec<Cell>]) -> Vec<(i64, i64, i64)> {
    let (mut finished, mut failed) = (0, 0);
    let point = |row: &Vec<Cell>| match row.as_slice() {
        [Cell::Integer(at), Cell::Integer(more), Cell::Integer(wrong), Cell::Integer(again)] => {
            finished += more;
            // Of those some may have been canceled.
            failed = (failed + wrong - again).max(0);
            Some((*at, finished, failed))
        }
        _ => None,
    };
    rows.iter().filter_map(point).collect()
}

/// A text as SQL writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_ends_no_text() {
        assert_eq!(quoted("a' OR '1'='1"), "'a'' OR ''1''=''1'");
    }

    #[test]
    fn what_is_tried_again_has_not_failed_any_more() {
        let row = |numbers: [i64; 4]| numbers.map(Cell::Integer).to_vec();
        let rows = [row([0, 50, 7, 0]), row([3, 0, 0, 7]), row([4, 7, 3, 0]), row([5, 0, 0, 4])];
        assert_eq!(points(&rows), [(0, 50, 7), (3, 50, 0), (4, 57, 3), (5, 57, 0)]);
    }
}
