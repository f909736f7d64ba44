//! SQL that people send, and conditions on subtasks.

use std::time::{Duration, Instant};

use sheaf_model::{Cell, JobName, QueryPart, Revision};
use sheaf_store::{Ask, QueryError, Reader, Store, Wanted};

use super::corpus::texts;
use super::log::{HIDDEN, Place, grown};
use super::mutate::Soil;
use super::run::{Target, demand, is_told};

pub(super) const QUERIES: Target = Target {
    name: "queries",
    about: "SQL over a small cluster's history, and conditions on subtasks: what they may see, and how long",
    inputs: 400,
    prepare: || {
        let place = Place::new();
        let mut store = Store::open(&place.0.join("state.db")).expect("a database can be made");
        let (state, changes) = grown();
        store.write(&changes, state.revision, b"position").expect("there is room for a few rows");
        let revision = state.revision;
        let soil = Soil { corpus: corpus(), words: words(), longest: 4096, anew: None };
        let run = move |input: &[u8]| {
            let _kept = &place;
            ask(&store.reader(), revision, input)
        };
        (soil, Box::new(run))
    },
};

/// How long a query may take.
const WITHIN: Duration = Duration::from_millis(300);
/// Rows that are read of an answer.
const ROWS: u64 = 50;

/// The first byte says which it is: `Q` a query, all else a condition.
fn corpus() -> Vec<Vec<u8>> {
    texts(&[
        "QSELECT name, state FROM jobs",
        "QSELECT node, count(*), max(ended_at) FROM attempts WHERE job = 'j' GROUP BY node",
        "QSELECT * FROM events WHERE kind LIKE 'bucket.%' ORDER BY revision DESC LIMIT 5",
        "QWITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 100) SELECT max(n) FROM t",
        "QSELECT b.name, i.node FROM buckets b JOIN instances i ON i.bucket = b.name",
        "QSELECT fingerprint, count(*), min(message) FROM failures GROUP BY 1 ORDER BY 2 DESC",
        "QSELECT json_extract(labels, '$.team') FROM buckets, json_each(buckets.labels)",
        "QSELECT hex(zeroblob(100)), printf('%d', 1), group_concat(name, x'00') FROM nodes",
        "Cstate = 'failed' AND exit_code = 9",
        "Csubtask IN (SELECT subtask FROM attempts WHERE node = 'n1')",
        "C1) OR (1",
    ])
}

fn words() -> Vec<Vec<u8>> {
    texts(&[
        "SELECT ",
        " FROM ",
        " WHERE ",
        " JOIN ",
        " UNION ALL ",
        "main.",
        "temp.",
        "sqlite_master",
        "sqlite_schema",
        "pragma_table_info('requests')",
        "requests",
        "access",
        "secrets",
        "objects",
        "load_extension(",
        "randomblob(1e9)",
        "zeroblob(2000000000)",
        "sheaf_job(1,'state')",
        "rarray(1)",
        "PRAGMA ",
        "ATTACH ",
        "; DELETE FROM ",
        "--",
        "/*",
        "*/",
        ") ",
        " (",
        "'",
        "\"",
        "*",
        "?1",
        "CASE WHEN 1 THEN ",
        " END",
        "json_each(",
        "RAISE(ABORT,1)",
        "x'00'",
        "\u{0}",
        "replace(hex(zeroblob(100000)),'0','aaaaaaaaaa')",
        " NATURAL JOIN subtasks a",
        ", subtasks b, subtasks c",
        "dbstat",
    ])
}

fn ask(reader: &Reader, revision: Revision, input: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(input).into_owned();
    let begun = Instant::now();
    let until = begun + WITHIN;
    let answered = if let Some(sql) = text.strip_prefix('Q') {
        let mut seen = false;
        let ask = Ask { sql: sql.to_owned(), rows: ROWS, until };
        let answered = reader.query(
            &ask,
            || true,
            |part| {
                seen |= shows(&part);
                true
            },
        );
        demand(!seen, || "it shows what no query may see".to_owned())?;
        answered
    } else {
        let job = JobName::new("j").map_err(|error| error.to_string())?;
        let condition = text.get(1..).unwrap_or_default().to_owned();
        let (states, among) = (Vec::new(), None);
        let wanted = Wanted { job, condition, states, among, from: 0, most: u64::MAX, until };
        reader.subtasks_where(&wanted).map(drop)
    };
    match answered {
        Ok(()) | Err(QueryError::TooLong) => {}
        Err(error @ (QueryError::Refused { .. } | QueryError::Failed(_))) => {
            is_told(&error.to_string(), input)?;
        }
        Err(error @ (QueryError::Store(_) | QueryError::Unheard)) => {
            return Err(format!("the database: {error}"));
        }
    }
    let now = reader.revision().map_err(|error| format!("nothing can be read any more: {error}"))?;
    demand(now == revision, || format!("the revision is {now}, and was {revision}"))
}

/// Whether a part of an answer has something of the tables in it that are nobody's to see.
fn shows(part: &QueryPart) -> bool {
    let of = |cell: &Cell| match cell {
        Cell::Text(text) => text.contains(HIDDEN),
        Cell::Blob(bytes) => bytes.windows(HIDDEN.len()).any(|part| part == HIDDEN.as_bytes()),
        Cell::Null | Cell::Integer(_) | Cell::Real(_) => false,
    };
    matches!(part, QueryPart::Rows(rows) if rows.iter().flatten().any(of))
}
