//! `sheaf query 'SELECT …'`

use std::time::Duration;

use clap::Args;
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use sheaf_model::query::{ROWS, ROWS_MAX, TIME_MAX, VIEWS};
use sheaf_model::{Cell, QueryPart, Span};
use sheaf_wire::Client;
use sheaf_wire::query::RunQuery;

use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::options::Options;
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::wait::or_interrupted;
use crate::when;

/// How much longer than the query may take the beginning of its answer is waited for: the node may have to catch up first.
const PATIENCE: Duration = Duration::from_secs(10);

/// `sheaf query`
#[derive(Args, Debug)]
#[command(after_long_help = "\
One SELECT in SQLite's dialect over views of everything that the cluster remembers: nodes, modules, buckets, instances, jobs,
subtasks, attempts, transitions, failures, sinks, events. --tables says what they have. Nothing can be changed by it. Times are
texts like 2026-01-10T12:00:00.000Z; lists and maps are JSON, for json_each and its like. Ask subtasks, attempts and failures
for a job where you can, and for a state: then nothing else is read.

Examples:
  sheaf query 'SELECT name, state, failed FROM jobs'
  sheaf query \"SELECT node, count(*) FROM attempts WHERE job = 'ndvi-2024' GROUP BY node\"
  sheaf query 'SELECT fingerprint, count(*), min(message) FROM failures GROUP BY 1 ORDER BY 2 DESC'
  sheaf query \"SELECT * FROM events WHERE subject = '/logs/web' ORDER BY revision DESC LIMIT 20\" -o json
  sheaf query --tables")]
pub struct Query {
    /// The query
    #[arg(required_unless_present = "tables")]
    sql: Option<String>,
    /// Cut the answer off after so many rows
    #[arg(long, default_value_t = ROWS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
    limit: u32,
    /// Cut the query off after so long, at most 60s
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = timeout)]
    timeout: Span,
    /// Print the views and their columns
    #[arg(long, conflicts_with = "sql")]
    tables: bool,
}

/// Reads `--timeout`.
fn timeout(text: &str) -> Result<Span, String> {
    let duration = when::duration(text)?;
    let span = Span(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    match span.0 {
        0 => Err("at least 1ms".to_owned()),
        ms if ms > TIME_MAX.0 => Err(format!("at most {}s", TIME_MAX.0 / 1000)),
        _ => Ok(span),
    }
}

impl Query {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let format = options.output;
        let Some(sql) = self.sql else {
            Listing::whole(out, format, &tables())?;
            return Ok(Exit::Done);
        };
        let client = connect(options, out).await?.with_deadline(self.timeout.duration() + PATIENCE);
        let ask = RunQuery { sql, limit: self.limit, timeout: self.timeout };
        or_interrupted(answer(&client, ask, format, out)).await
    }
}

/// Prints an answer as it comes.
async fn answer(client: &Client, ask: RunQuery, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    let mut parts = client.query(ask).await?;
    let mut listing = Listing::new(format);
    let mut columns = Vec::new();
    let filled = async {
        while let Some(part) = parts.try_next().await? {
            match part {
                QueryPart::Columns(names) => columns = names,
                QueryPart::Rows(rows) => print(&mut listing, &columns, &rows, format, out)?,
                QueryPart::End(end) => return Ok(end),
            }
        }
        Err(Failure::Refused("the answer broke off before its end; ask again".to_owned()))
    }
    .await;
    let end = listing.over(out, filled)?;
    if end.rows == 0 && format.is_table() {
        out.say("no rows");
    }
    if let Some(cut) = end.cut {
        out.say(&format!("{cut}: the answer is cut off; --limit asks for more"));
    }
    Ok(Exit::Done)
}

fn print(
    listing: &mut Listing,
    columns: &[String],
    rows: &[Vec<Cell>],
    format: Format,
    out: &mut Terminal,
) -> Result<(), Failure> {
    if format.is_table() {
        let numbers: Vec<bool> = (0..columns.len())
            .map(|at| rows.iter().all(|row| matches!(row.get(at), Some(Cell::Integer(_) | Cell::Real(_)))))
            .collect();
        let titles: Vec<(String, bool)> =
            columns.iter().map(|name| name.to_uppercase()).zip(numbers).collect();
        let cell = |cell: &Cell| if *cell == Cell::Null { "-".to_owned() } else { cell.to_string() };
        let cells = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        return listing.cells(out, &titles, cells);
    }
    let rows = rows.iter().map(|row| {
        let name = row.first().map(ToString::to_string).unwrap_or_default();
        let fields: Map<String, Value> = columns.iter().cloned().zip(row.iter().map(Cell::json)).collect();
        (name, Value::Object(fields))
    });
    listing.values(out, rows)
}

/// A column of a view.
#[derive(Debug, serde::Serialize)]
struct TableRow {
    table: &'static str,
    column: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    about: &'static str,
}

fn tables() -> Vec<TableRow> {
    let rows = VIEWS.iter().flat_map(|view| {
        let head = TableRow { table: view.name, column: "", kind: "", about: view.about };
        let columns = view.columns.iter().map(|column| TableRow {
            table: view.name,
            column: column.name,
            kind: column.kind.as_str(),
            about: column.about,
        });
        std::iter::once(head).chain(columns)
    });
    rows.collect()
}

impl Listed for TableRow {
    const COLUMNS: &'static [Column] =
        &[Column::new("TABLE"), Column::new("COLUMN"), Column::new("TYPE"), Column::new("WHAT IT IS")];

    fn name(&self) -> String {
        format!("{}.{}", self.table, self.column).trim_end_matches('.').to_owned()
    }

    fn cells(&self, _now: sheaf_model::Timestamp) -> Vec<String> {
        [self.table, self.column, self.kind, self.about].map(str::to_owned).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::recorded;

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        let mut listing = Listing::new(format);
        let columns = ["name".to_owned(), "count(*)".to_owned(), "x".to_owned()];
        let rows = [
            vec![Cell::Text("a".to_owned()), Cell::Integer(12), Cell::Null],
            vec![Cell::Text("b\nc".to_owned()), Cell::Integer(3), Cell::Blob(vec![255])],
        ];
        print(&mut listing, &columns, &rows, format, &mut out).expect("it prints");
        print(&mut listing, &columns, &rows[..1], format, &mut out).expect("it prints");
        assert_eq!(listing.end(&mut out).expect("it ends"), 3);
        recording.data()
    }

    #[test]
    fn rows_are_printed_in_every_format() {
        insta::assert_snapshot!(printed(Format::Table), @r"
        NAME  COUNT(*)  X
        a           12  -
        b c          3  ff
        a           12  -
        ");
        insta::assert_snapshot!(printed(Format::Json), @r#"
        [
          {"name":"a","count(*)":12,"x":null},
          {"name":"b\nc","count(*)":3,"x":"ff"},
          {"name":"a","count(*)":12,"x":null}
        ]
        "#);
        assert_eq!(printed(Format::Name), "a\nb\nc\na\n");
    }

    #[test]
    fn a_time_limit_is_a_duration_within_bounds() {
        assert_eq!(timeout("500ms"), Ok(Span(500)));
        assert_eq!(timeout("60s"), Ok(TIME_MAX));
        assert_eq!(timeout("61s"), Err("at most 60s".to_owned()));
        assert!(timeout("0s").is_err() && timeout("x").is_err());
    }

    #[test]
    fn every_view_is_listed_with_its_columns() {
        let rows = tables();
        assert_eq!(rows[0].name(), "nodes");
        assert_eq!(rows[1].name(), "nodes.name");
        assert!(rows.iter().any(|row| row.table == "subtasks" && row.column == "fingerprint"));
    }
}
