//! What queries may do, and what they may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sheaf_engine::{CancelJob, Command, ReprioritizeJob};
use sheaf_model::query::VIEWS;
use sheaf_model::{Ending, JobName, QueryPart, Run, Span, SubtaskState};
use sheaf_store::{Ask, QueryError, Wanted};

use crate::jobs::{World, broken};

fn refusal(world: &World, sql: &str) -> String {
    match world.try_ask(sql, 10, Duration::from_secs(5)) {
        Err(error @ QueryError::Refused { .. }) => error.to_string(),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn views_have_the_columns_that_are_documented() {
    let world = World::new();
    for view in VIEWS {
        let ask = Ask {
            sql: format!("SELECT * FROM {}", view.name),
            rows: 1,
            until: Instant::now() + Duration::from_secs(5),
        };
        let mut columns = Vec::new();
        let read = world.store.reader().query(
            &ask,
            || true,
            |part| {
                if let QueryPart::Columns(names) = part {
                    columns = names;
                }
                true
            },
        );
        read.expect("it reads");
        let documented: Vec<&str> = view.columns.iter().map(|column| column.name).collect();
        assert_eq!(columns, documented, "{}", view.name);
    }
}

#[test]
fn nothing_is_changed_and_nothing_else_is_read() {
    let world = World::new();
    for (sql, said) in [
        ("DELETE FROM nodes", "cannot modify nodes because it is a view"),
        ("DELETE FROM main.nodes", "DELETE FROM nodes: queries change nothing"),
        ("UPDATE main.nodes SET name = 'x'", "UPDATE nodes: queries change nothing"),
        ("INSERT INTO main.jobs VALUES (1)", "queries change nothing"),
        ("DROP TABLE main.jobs", "queries"),
        ("CREATE TABLE x (y)", "queries"),
        ("CREATE TEMP VIEW nodes2 AS SELECT 1", "queries"),
        ("ATTACH '/tmp/x.db' AS x", "ATTACH and DETACH cannot be used"),
        ("PRAGMA user_version", "PRAGMA user_version cannot be used"),
        ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode cannot be used"),
        ("BEGIN", "transactions cannot be used"),
        ("VACUUM", ""),
        ("VACUUM INTO '/tmp/x.db'", ""),
        ("SELECT load_extension('x')", "the function load_extension cannot be used"),
        ("SELECT sheaf_job(1, 'state')", "the function sheaf_job cannot be used"),
        ("SELECT * FROM rarray(sheaf_running(1))", "cannot be"),
        ("SELECT * FROM pragma_table_info('nodes')", "cannot be read"),
        ("SELECT * FROM main.nodes", "nodes cannot be read"),
        ("SELECT count(*) FROM main.nodes", "nodes cannot be read"),
        ("SELECT count(*) FROM job_attempts", "job_attempts cannot be read"),
        ("SELECT * FROM secrets", "secrets cannot be read; there are nodes, modules, buckets"),
        ("SELECT count(*) FROM secrets", "secrets cannot be read"),
        ("SELECT * FROM tokens", "tokens cannot be read"),
        ("SELECT count(*) FROM main.authorities", "authorities cannot be read"),
        ("WITH nodes AS (SELECT * FROM main.secrets) SELECT * FROM nodes", "secrets cannot be read"),
        ("WITH nodes AS (SELECT body FROM main.nodes) SELECT body FROM nodes", "nodes cannot be read"),
        (
            "WITH nodes AS (SELECT sheaf_numbers(4294967295) AS v) SELECT v FROM nodes",
            "the function sheaf_numbers cannot be used",
        ),
        ("SELECT * FROM (SELECT value FROM object_values) AS jobs", "object_values cannot be read"),
        ("SELECT sql FROM sqlite_schema", "cannot be read"),
        ("SELECT 1; SELECT 2", "the query goes on after its first statement"),
        ("SELECT 1; DROP TABLE main.jobs", "the query goes on after its first statement"),
        ("", "the query is empty"),
        ("-- nothing", "the query is empty"),
        ("SELEC 1", "near \"SELEC\": syntax error (at byte 0)"),
        ("SELECT nme FROM nodes", "no such column: nme (at byte 7)"),
        ("SELECT * FROM jbs", "no such table: jbs"),
    ] {
        let refused = refusal(&world, sql);
        assert!(refused.contains(said), "{sql}: {refused}");
    }
    let many = "SELECT 1;".repeat(7_000);
    assert!(refusal(&world, &many).contains("goes on after"));
    assert_eq!(world.ask("SELECT count(*) FROM nodes"), [["2"]]);
}

/// SQLite asks nobody about columns that a join compares.
#[test]
fn a_join_reads_no_more_than_views() {
    let world = World::new();
    for table in ["nodes", "main.nodes", "secrets", "main.secrets", "meta", "job_attempts"] {
        let column = if table == "meta" { "value" } else { "body" };
        let column = if table == "job_attempts" { "message" } else { column };
        let sql = format!("SELECT {column} FROM (SELECT 'x' AS {column}) FULL JOIN {table} USING ({column})");
        match world.try_ask(&sql, 10, Duration::from_secs(5)) {
            Ok((rows, _)) if table == "meta" => {
                assert!(rows.concat().iter().all(|it| it == "x" || it == "0"));
            }
            Ok((rows, _)) => assert_eq!(rows, [["x"]], "{sql}"),
            Err(error) => assert!(matches!(error, QueryError::Refused { .. }), "{sql}: {error}"),
        }
    }
}

#[test]
fn what_a_query_is_good_for() {
    let mut world = World::new();
    world.submit("a", 5, |_| {});
    let granted = world.dispatch(1);
    world.end(&granted[..1], |_| broken("it broke"));
    for (sql, rows) in [
        ("SELECT name, status FROM nodes ORDER BY 1", vec!["n1 ready", "n2 ready"]),
        ("WITH x AS (SELECT 1) SELECT count(*) FROM x", vec!["1"]),
        (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT x FROM n",
            vec!["1", "2", "3"],
        ),
        ("SELECT value FROM nodes, json_each(labels) WHERE name = 'n1'", vec!["gpu"]),
        ("SELECT name, allowed_modules FROM nodes ORDER BY 1", vec!["n1 [\"*\"]", "n2 [\"s*\"]"]),
        ("SELECT name FROM nodes, json_each(allowed_modules) WHERE 'flume' GLOB value", vec!["n1"]),
        ("SELECT kind FROM events WHERE subject = 'a'", vec!["job.submitted", "job.started"]),
        ("SELECT DISTINCT job FROM events WHERE job IS NOT NULL", vec!["a"]),
        ("SELECT name, version, runtime FROM modules", vec!["sleep 1 exec"]),
        (
            "SELECT j.state, count(*) FROM jobs j JOIN subtasks s ON s.job = j.name GROUP BY 1",
            vec!["running 5"],
        ),
        (
            "SELECT state, count(*) FROM subtasks GROUP BY 1 ORDER BY 1",
            vec!["failed 1", "ready 3", "running 1"],
        ),
        ("SELECT since LIKE '2023-%Z', julianday(since) > 0 FROM nodes WHERE id = 1", vec!["1 1"]),
        (
            "SELECT kind, first, last, attempt, node IS NULL, class FROM transitions WHERE job = 'a' AND kind <> 'granted'",
            vec!["failed 0 0 1 1 exit"],
        ),
        ("SELECT count(*) FROM buckets", vec!["0"]),
        ("SELECT count(*) FROM instances", vec!["0"]),
    ] {
        let found: Vec<String> = world.ask(sql).iter().map(|row| row.join(" ")).collect();
        assert_eq!(found, rows, "{sql}");
    }
}

#[test]
fn transitions_say_who_and_why() {
    let mut world = World::new();
    let id = world.submit("a", 4, |spec| {
        (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span::seconds(60));
    });
    let granted = world.dispatch(1);
    world.end(&granted[..1], |_| broken("no file\n"));
    let (subtasks, reason) = (Some(Run::one(3).into()), "a wrong tile".to_owned());
    world.propose(Command::CancelJob(CancelJob { job: id, subtasks, reason }));
    let subtasks = Some(Run::one(2).into());
    world.propose(Command::ReprioritizeJob(ReprioritizeJob { job: id, subtasks, priority: 7 }));
    let rows = world.ask("SELECT kind, first, actor, reason FROM transitions ORDER BY revision, first");
    let rows: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
    let until =
        world.ask("SELECT substr(reason, 25) FROM transitions WHERE kind = 'retried'").concat().concat();
    assert_eq!(
        rows,
        [
            "granted 0 test ",
            "granted 1 test ",
            &format!("retried 0 test no file; tried again at {until}"),
            "canceled 3 test 1 subtasks: a wrong tile",
            "prioritized 2 test priority 7",
        ]
    );
    assert!(until.ends_with('Z'), "{until}");
}

#[test]
fn an_answer_is_cut_off_where_it_was_said() {
    let mut world = World::new();
    world.submit("a", 50_000, |_| {});
    let within = Duration::from_secs(20);
    let (rows, end) = world.try_ask("SELECT subtask FROM subtasks", 1_000, within).expect("rows");
    assert_eq!((rows.len(), end.rows), (1_000, 1_000));
    assert_eq!(end.cut.as_deref(), Some("there are more than 1000 rows"));
    let (rows, end) = world.try_ask("SELECT subtask FROM subtasks", 50_000, within).expect("rows");
    assert_eq!((rows.len(), end.cut), (50_000, None));

    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";
    let began = Instant::now();
    let error = world.try_ask(endless, 10, Duration::from_millis(200));
    assert!(matches!(error, Err(QueryError::TooLong)), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let long = "SELECT hex(zeroblob(600000))";
    assert!(matches!(world.try_ask(long, 10, within), Err(QueryError::Failed(_))));
    let wide = |columns: usize| {
        let sql = format!("SELECT {}", vec!["hex(zeroblob(500000))"; columns].join(", "));
        world.try_ask(&sql, 10, within)
    };
    assert_eq!(wide(8).expect("a row").1.rows, 1);
    let error = wide(9).expect_err("too long").to_string();
    assert!(error.contains("a row is longer than 8 MiB; read fewer columns"), "{error}");

    let (asked, asks) =
        (Arc::new(AtomicU32::new(0)), Ask { sql: endless.to_owned(), rows: 1, until: began + within });
    let is_heard = move || asked.fetch_add(1, Ordering::Relaxed) < 50;
    let left = world.store.reader().query(&asks, is_heard, |_| true);
    assert!(matches!(left, Err(QueryError::Unheard)), "{left:?}");

    let mut heard = 0;
    let ask = Ask { sql: "SELECT subtask FROM subtasks".to_owned(), rows: 50_000, until: began + within };
    let unheard = world.store.reader().query(
        &ask,
        || true,
        |_| {
            heard += 1;
            heard < 3
        },
    );
    assert!(matches!(unheard, Err(QueryError::Unheard)), "{unheard:?}");
}

/// J19: what a condition means is a set of subtasks.
#[test]
fn j19_a_condition_selects_subtasks_and_nothing_else() {
    let mut world = World::new();
    world.submit("a", 100, |_| {});
    world.submit("b", 100, |_| {});
    let granted = world.dispatch(100);
    world.end(&granted, |subtask| if subtask % 10 < 2 { broken("full") } else { Ending::Finished });
    let until = Instant::now() + Duration::from_secs(20);
    let reader = world.store.reader();
    let [a, b] = ["a", "b"].map(|name| Wanted {
        job: JobName::new(name).expect("a name"),
        condition: String::new(),
        states: vec![],
        among: None,
        from: 0,
        most: u64::MAX,
        until,
    });
    let of = |wanted: &Wanted, condition: &str| {
        let found = reader.subtasks_where(&Wanted { condition: condition.to_owned(), ..wanted.clone() })?;
        assert_eq!(found.to, None, "all of it");
        Ok::<_, QueryError>(found.subtasks)
    };
    assert_eq!(of(&a, "state = 'failed' AND subtask < 20").expect("a set").to_string(), "0-1,10-11");
    assert_eq!(of(&a, "subtask IN (3, 5) -- these").expect("a set").to_string(), "3,5");
    assert_eq!(of(&b, "message = 'full'").expect("a set").len(), 20);
    let failed = Wanted { states: vec![SubtaskState::Failed], ..a.clone() };
    assert_eq!(of(&failed, "subtask < 15").expect("a set").to_string(), "0-1,10-11");
    let among = Wanted { among: Some(Run::new(1, 10).into()), from: 1, ..failed };
    assert_eq!(of(&among, "1").expect("a set").to_string(), "1,10");
    // Of its own only a part is looked at, of others everything.
    let elsewhere = "subtask IN (SELECT subtask FROM subtasks WHERE job = 'b' AND state = 'failed')";
    assert_eq!(of(&Wanted { from: 95, ..b }, "1").expect("a set").to_string(), "95-99");
    assert_eq!(of(&Wanted { from: 20, ..a.clone() }, elsewhere).expect("a set").len(), 16);
    for bad in [
        "",
        "state",
        "1) OR (1",
        "1; DELETE FROM nodes",
        "sate = 'failed'",
        "subtask = ?",
        "1 LIMIT 1",
        "1) UNION SELECT value FROM json_each('[1,2]') WHERE (1",
        "1) UNION SELECT value FROM json_each('[1,2]') /*",
        "1) THEN 1 END UNION SELECT CASE WHEN (1",
        "1 /*",
    ] {
        if bad == "state" {
            assert!(of(&a, bad).expect("no number").is_empty());
            continue;
        }
        let error = of(&a, bad);
        assert!(matches!(error, Err(QueryError::Refused { .. })) || bad == "1) OR (1", "{bad}: {error:?}");
    }
}

#[test]
fn no_more_is_looked_at_than_it_takes_to_find_enough() {
    let mut world = World::new();
    world.submit("a", 300_000, |_| {});
    let wanted = |from: u32, most: u64, condition: &str| {
        let (job, condition) = (JobName::new("a").expect("a name"), condition.to_owned());
        let until = Instant::now() + Duration::from_secs(20);
        let wanted = Wanted { job, condition, states: vec![], among: None, from, most, until };
        let found = world.store.reader().subtasks_where(&wanted).expect("a set");
        (found.subtasks.to_string(), found.to)
    };
    let (first, to) = wanted(7, 10, "subtask % 2 = 0 AND subtask < 12");
    assert_eq!((first.as_str(), to), ("8,10", None), "there are no more");
    let (first, to) = wanted(7, 10, "1");
    let to = to.expect("enough");
    assert_eq!(first, format!("7-{to}"));
    assert!((16..150_000).contains(&to), "not all was looked at, but up to {to}");
    assert_eq!(wanted(to + 1, 1, "subtask = 299999").0, "299999");
    assert_eq!(wanted(300_000, 1, "1"), (String::new(), None));
}
