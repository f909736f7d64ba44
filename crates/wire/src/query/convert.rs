//! Queries, to and from messages.

use sheaf_model::query::{ROWS, ROWS_MAX, SQL_MAX, TIME, TIME_MAX};
use sheaf_model::{Cell, QueryEnd, QueryPart, Span};

use super::RunQuery;
use crate::ApiError;
use crate::proto::v1;
use crate::proto::v1::query_cell::Value;

impl From<RunQuery> for v1::QueryRequest {
    fn from(ask: RunQuery) -> Self {
        Self { sql: ask.sql, limit: ask.limit, timeout_ms: ask.timeout.0 }
    }
}

pub(super) fn read(message: v1::QueryRequest) -> Result<RunQuery, ApiError> {
    let wrong = |field: &str, problem: String, remedy: String| Err(ApiError::invalid(field, problem, remedy));
    let v1::QueryRequest { sql, limit, timeout_ms } = message;
    if sql.trim().is_empty() {
        return wrong(
            "sql",
            "missing".to_owned(),
            "one SELECT, like SELECT name, state FROM jobs".to_owned(),
        );
    }
    if sql.len() > SQL_MAX {
        return wrong("sql", format!("{} bytes", sql.len()), format!("at most {SQL_MAX} bytes"));
    }
    if limit > ROWS_MAX {
        return wrong("limit", format!("{limit} rows"), format!("at most {ROWS_MAX}"));
    }
    if timeout_ms > TIME_MAX.0 {
        return wrong("timeout_ms", format!("{timeout_ms} ms"), format!("at most {}", TIME_MAX.0));
    }
    Ok(RunQuery {
        sql,
        limit: if limit == 0 { ROWS } else { limit },
        timeout: if timeout_ms == 0 { TIME } else { Span(timeout_ms) },
    })
}

impl From<Cell> for v1::QueryCell {
    fn from(cell: Cell) -> Self {
        let value = match cell {
            Cell::Null => None,
            Cell::Integer(number) => Some(Value::Integer(number)),
            Cell::Real(number) => Some(Value::Real(number)),
            Cell::Text(text) => Some(Value::Text(text)),
            Cell::Blob(bytes) => Some(Value::Blob(bytes.into())),
        };
        Self { value }
    }
}

impl From<v1::QueryCell> for Cell {
    fn from(cell: v1::QueryCell) -> Self {
        match cell.value {
            None => Self::Null,
            Some(Value::Integer(number)) => Self::Integer(number),
            Some(Value::Real(number)) => Self::Real(number),
            Some(Value::Text(text)) => Self::Text(text),
            Some(Value::Blob(bytes)) => Self::Blob(bytes.into()),
        }
    }
}

impl From<QueryPart> for v1::QueryResponse {
    fn from(part: QueryPart) -> Self {
        match part {
            QueryPart::Columns(columns) => Self { columns, ..Self::default() },
            QueryPart::Rows(rows) => {
                let row =
                    |cells: Vec<Cell>| v1::QueryRow { cells: cells.into_iter().map(Into::into).collect() };
                Self { rows: rows.into_iter().map(row).collect(), ..Self::default() }
            }
            QueryPart::End(end) => {
                let QueryEnd { rows, revision, cut } = end;
                let end = v1::QueryEnd { rows, revision, cut: cut.unwrap_or_default() };
                Self { end: Some(end), ..Self::default() }
            }
        }
    }
}

/// A part as it came; only the first has columns.
pub(super) fn part(message: v1::QueryResponse, is_first: bool) -> Result<QueryPart, ApiError> {
    if is_first {
        return Ok(QueryPart::Columns(message.columns));
    }
    if let Some(v1::QueryEnd { rows, revision, cut }) = message.end {
        return Ok(QueryPart::End(QueryEnd { rows, revision, cut: (!cut.is_empty()).then_some(cut) }));
    }
    let row = |row: v1::QueryRow| row.cells.into_iter().map(Into::into).collect();
    Ok(QueryPart::Rows(message.rows.into_iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_limits_and_what_is_beyond_is_refused() {
        let ask = |limit, timeout_ms| v1::QueryRequest { sql: "SELECT 1".to_owned(), limit, timeout_ms };
        let plain = read(ask(0, 0)).expect("a query");
        assert_eq!((plain.limit, plain.timeout), (ROWS, TIME));
        let wide = read(ask(ROWS_MAX, TIME_MAX.0)).expect("a query");
        assert_eq!((wide.limit, wide.timeout), (ROWS_MAX, TIME_MAX));
        let refused = |message| match read(message) {
            Err(ApiError::Invalid(defects)) => defects[0].path.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(ask(ROWS_MAX + 1, 0)), "limit");
        assert_eq!(refused(ask(0, TIME_MAX.0 + 1)), "timeout_ms");
        assert_eq!(refused(v1::QueryRequest { sql: "  ".to_owned(), ..ask(0, 0) }), "sql");
        assert_eq!(refused(v1::QueryRequest { sql: "x".repeat(SQL_MAX + 1), ..ask(0, 0) }), "sql");
    }

    #[test]
    fn parts_are_the_same_at_the_other_end() {
        let cells = vec![
            Cell::Null,
            Cell::Integer(-1),
            Cell::Real(0.5),
            Cell::Text(String::new()),
            Cell::Blob(vec![0, 1]),
        ];
        let parts = [
            QueryPart::Columns(vec!["a".to_owned()]),
            QueryPart::Rows(vec![cells, vec![]]),
            QueryPart::End(QueryEnd { rows: 2, revision: 7, cut: Some("enough".to_owned()) }),
        ];
        for (place, there) in parts.into_iter().enumerate() {
            assert_eq!(part(there.clone().into(), place == 0), Ok(there));
        }
    }
}
