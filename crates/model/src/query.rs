//! Queries: SQL over views of the replicated state, what can be asked of them and what is answered.

mod views;

use std::fmt;

use crate::Span;

pub use views::VIEWS;

/// Rows of an answer, unless it is asked for more.
pub const ROWS: u32 = 10_000;
/// Most rows of an answer.
pub const ROWS_MAX: u32 = 10_000_000;
/// How long a query may take, unless it is asked for longer.
pub const TIME: Span = Span::seconds(5);
/// How long a query may take at most.
pub const TIME_MAX: Span = Span::seconds(60);
/// Longest query in bytes.
pub const SQL_MAX: usize = 64 << 10;

/// Subtasks of one `block` of the view `attempts`.
pub const BLOCK: u32 = 1_024;

/// A view that queries read. Its names are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryView {
    /// As it is written in SQL.
    pub name: &'static str,
    /// What a row of it is.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: &'static [QueryColumn],
}

/// A column of a [`QueryView`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryColumn {
    /// As it is written in SQL.
    pub name: &'static str,
    /// What it holds, if anything.
    pub kind: QueryKind,
    /// What it means; empty: what its name says.
    pub about: &'static str,
}

/// What a column holds. Any may be NULL where there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// 1 or 0.
    Flag,
    /// A time as RFC 3339 text in UTC with milliseconds, so that texts order as times do.
    Time,
    /// JSON as text, for SQLite's JSON functions.
    Json,
}

impl QueryKind {
    /// The word in documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Flag => "flag",
            Self::Time => "time",
            Self::Json => "json",
        }
    }
}

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// For people; NULL is empty.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Integer(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Blob(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl Cell {
    /// In JSON answers; bytes are hexadecimal digits.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Integer(number) => (*number).into(),
            Self::Real(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Blob(_) => self.to_string().into(),
        }
    }

    /// How much of an answer it is, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len() + 2,
            Self::Blob(bytes) => bytes.len() + 2,
        }
    }
}

/// What a query brings, in this order: the columns, rows, the end.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryPart {
    /// Names of the columns. Always the first.
    Columns(Vec<String>),
    /// Rows, each with a cell for each column.
    Rows(Vec<Vec<Cell>>),
    /// That was all, or enough. Always the last, unless the query failed.
    End(QueryEnd),
}

/// How an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryEnd {
    /// How many rows it has.
    pub rows: u64,
    /// The revision of the state that answered.
    pub revision: u64,
    /// There would have been more, and why they were cut off; none: that was all.
    pub cut: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cells_are_printed() {
        for (cell, text) in [
            (Cell::Null, ""),
            (Cell::Integer(-7), "-7"),
            (Cell::Real(1.5), "1.5"),
            (Cell::Text("a".to_owned()), "a"),
            (Cell::Blob(vec![0, 255]), "00ff"),
        ] {
            assert_eq!(cell.to_string(), text);
            assert!(cell.size() > 0);
        }
    }

    #[test]
    fn views_and_their_columns_have_names_of_their_own() {
        let names: BTreeSet<&str> = VIEWS.iter().map(|view| view.name).collect();
        assert_eq!(names.len(), VIEWS.len());
        for view in VIEWS {
            let columns: BTreeSet<&str> = view.columns.iter().map(|column| column.name).collect();
            assert_eq!(columns.len(), view.columns.len(), "{}", view.name);
            assert!(!view.about.is_empty());
        }
    }
}
