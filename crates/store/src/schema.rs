//! What stands where: `schema.sql` beside this file is the documentation of the tables, and what creates them.

use std::path::Path;

use rusqlite::Connection;
use sheaf_engine::job::step::Transitions;

use crate::error::StoreError;
use crate::reader::decode_row;
use crate::row::Rows;
use crate::trail::Grants;

/// Marks a SQLite file as Sheaf's: "SHEF".
const APPLICATION: i64 = 0x5348_4546;
/// The newest schema this build knows. Grows with each step in [`bring_up`], of which there is one also where only the body of a
/// row has a new version: a build that cannot read it is to refuse the file before anything else.
const SCHEMA: i64 = 8;

/// The first schema with indexes over jobs' histories.
const INDEXED: i64 = 5;

/// One step of [`bring_up`]. A new file takes none: `schema.sql` makes it whole at once.
struct Step {
    /// The schema that it leads to, from the one before.
    to: i64,
    sql: &'static str,
}

const STEPS: [Step; 7] = [
    Step { to: 2, sql: include_str!("schema/to-2.sql") },
    Step { to: 3, sql: include_str!("schema/to-3.sql") },
    Step { to: 4, sql: include_str!("schema/to-4.sql") },
    Step { to: 5, sql: include_str!("schema/to-5.sql") },
    Step { to: 6, sql: include_str!("schema/to-6.sql") },
    Step { to: 7, sql: include_str!("schema/to-7.sql") },
    Step { to: 8, sql: include_str!("schema/to-8.sql") },
];

/// What a file is, before anything of it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing in it yet.
    New,
    /// Ours, of this schema.
    Ours(i64),
}

/// Tells what the file is; refuses strangers and what a newer Sheaf wrote.
pub(crate) fn identify(db: &Connection, path: &Path) -> Result<Kind, StoreError> {
    let ask = |sql: &str| {
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(StoreError::sqlite("open", path))
    };
    let application = ask("PRAGMA application_id")?;
    let found = ask("PRAGMA user_version")?;
    let foreign = |why: String| StoreError::Foreign { path: path.to_owned(), why };
    match application {
        0 if found == 0 && ask("SELECT count(*) FROM sqlite_schema")? == 0 => Ok(Kind::New),
        APPLICATION if found > SCHEMA => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA })
        }
        APPLICATION if found >= 1 => Ok(Kind::Ours(found)),
        APPLICATION => Err(foreign(format!("it claims to be of schema {found}"))),
        other => Err(foreign(format!("application id {other:#x}"))),
    }
}

/// Brings the file to the newest schema, in one transaction.
pub(crate) fn bring_up(db: &mut Connection, path: &Path, kind: Kind) -> Result<(), StoreError> {
    if kind == Kind::Ours(SCHEMA) {
        return Ok(());
    }
    let failed = StoreError::sqlite("create the tables of", path);
    let transaction = db.transaction().map_err(&failed)?;
    match kind {
        Kind::New => transaction.execute_batch(include_str!("schema.sql")).map_err(&failed)?,
        Kind::Ours(found) => {
            for step in STEPS.iter().filter(|step| step.to > found) {
                transaction.execute_batch(step.sql).map_err(&failed)?;
            }
            if found < INDEXED {
                index_histories(&transaction, path)?;
            }
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(&failed)?;
    transaction.pragma_update(None, "user_version", SCHEMA).map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

/// Writes the indexes over histories that were written before there were any.
fn index_histories(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = StoreError::sqlite("index the histories of jobs in", path);
    let mut grants = Grants::new();
    let mut rows = Rows::new(db, path, &mut grants);
    let mut touched = 0;
    let sql = "SELECT job_id, number, body FROM job_transitions ORDER BY job_id, number";
    let mut statement = db.prepare(sql).map_err(&failed)?;
    let mut pieces = statement.query([]).map_err(&failed)?;
    while let Some(row) = pieces.next().map_err(&failed)? {
        let key = |column| row.get::<_, i64>(column).unwrap_or_default();
        let body = row.get_ref(2).and_then(|body| Ok(body.as_blob()?)).map_err(&failed)?;
        let all: Transitions =
            decode_row(path, "job_transitions", || format!("{}/{}", key(0), key(1)), body)?;
        rows.index(&all)?;
        let mut count = db
            .prepare_cached("UPDATE job_transitions SET touched = ? WHERE job_id = ? AND number = ?")
            .map_err(&failed)?;
        let here = all.len().cast_signed();
        count.execute([here, key(0), key(1)]).map_err(&failed)?;
        touched += here;
    }
    db.execute("UPDATE meta SET value = ? WHERE name = 'touched'", [touched]).map(drop).map_err(&failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table and index, as SQLite tells of them.
    fn everything(db: &Connection) -> Vec<(String, String)> {
        let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut all: Vec<(String, String)> = rows.collect::<Result<_, _>>().unwrap();
        // Where a column was added its definition stands on the last line.
        all.iter_mut().for_each(|(_, sql)| *sql = plain(sql));
        all.sort();
        all
    }

    /// Without comments and spaces.
    fn plain(sql: &str) -> String {
        let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
    }

    /// As they were first shipped, from 1 on.
    const FORMER: [&str; 7] = [
        include_str!("schema/1.sql"),
        include_str!("schema/2.sql"),
        include_str!("schema/3.sql"),
        include_str!("schema/4.sql"),
        include_str!("schema/5.sql"),
        include_str!("schema/6.sql"),
        include_str!("schema/7.sql"),
    ];

    #[test]
    fn a_file_of_a_former_schema_becomes_what_a_new_one_is() {
        let path = Path::new("state.db");
        let mut new = Connection::open_in_memory().unwrap();
        bring_up(&mut new, path, Kind::New).unwrap();
        for (schema, sql) in (1..).zip(FORMER) {
            let mut old = Connection::open_in_memory().unwrap();
            old.execute_batch(sql).unwrap();
            old.pragma_update(None, "application_id", APPLICATION).unwrap();
            old.pragma_update(None, "user_version", schema).unwrap();
            assert_eq!(identify(&old, path).unwrap(), Kind::Ours(schema));
            bring_up(&mut old, path, Kind::Ours(schema)).unwrap();
            assert_eq!(identify(&old, path).unwrap(), Kind::Ours(SCHEMA));
            assert_eq!(everything(&old), everything(&new), "from {schema}");
        }
    }

    #[test]
    fn releases_of_deleted_buckets_go_whose_events_went_before() {
        let path = Path::new("state.db");
        let left = |pruned: &str| -> Vec<(String, i64)> {
            let mut old = Connection::open_in_memory().unwrap();
            old.execute_batch(include_str!("schema/7.sql")).unwrap();
            old.execute_batch(
                "INSERT INTO buckets (name, revision, release, created, type, module, multi_node, suspended,
                   node_list_rules, config, placement, on_node_lost, labels, body)
                 VALUES ('/is', 1, 1, 1, '', 'm@1', 0, 0, '[]', '{}', '', '', '{}', x'')",
            )
            .unwrap();
            for (bucket, revision) in [("/is", 1), ("/was", 2), ("/was", 3), ("/was", 4)] {
                let release = "INSERT INTO releases VALUES (?, ?, 0, '', 'm@1', x'')";
                old.execute(release, rusqlite::params![bucket, revision]).unwrap();
            }
            old.execute_batch(pruned).unwrap();
            bring_up(&mut old, path, Kind::Ours(7)).unwrap();
            let mut kept = old.prepare("SELECT bucket, revision FROM releases ORDER BY revision").unwrap();
            let kept = kept.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            kept.collect::<Result<_, _>>().unwrap()
        };
        let of = |all: &[(&str, i64)]| -> Vec<(String, i64)> {
            all.iter().map(|(bucket, revision)| ((*bucket).to_owned(), *revision)).collect()
        };
        let pruned = left("INSERT INTO meta VALUES ('pruned', 3)");
        assert_eq!(pruned, of(&[("/is", 1), ("/was", 4)]));
        assert_eq!(left("").len(), 4, "no event ever went");
    }
}
