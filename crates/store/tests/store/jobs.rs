//! Jobs as the engine makes them, written as consensus would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_engine::dispatch::{self, Offer, Room};
use sheaf_engine::{
    Apply, CancelJob, Command, Form, GrantAll, Proposal, RecordResults, Register, Reply, RetryJob,
    SetNodeStatus, State, SubmitAll, TakeUp, WakeSubtasks, apply,
};
use sheaf_model::*;
use sheaf_store::{Ask, FailedGroups, Lately, QueryError, Store};

use crate::kit;

/// A cluster of two nodes whose state is in a store.
pub(crate) struct World {
    pub(crate) store: Store,
    state: State,
    pub(crate) now: Timestamp,
    _folder: tempfile::TempDir,
}

/// What was granted: the node, and the attempt.
pub(crate) type Granted = (NodeId, Attempt);

impl World {
    pub(crate) fn new() -> Self {
        let (folder, path) = kit::folder();
        let store = Store::open(&path).expect("a new database");
        let now = Timestamp(1_700_000_000_000);
        let mut world = Self { store, state: State::default(), now, _folder: folder };
        world.propose(Command::Form(Form { cluster: "c".into(), settings: Settings::default() }));
        for node in [1, 2] {
            let facts = Facts {
                name: NodeName::new(&format!("n{node}")).expect("a name"),
                hostname: format!("n{node}.example.com"),
                address: format!("n{node}:7420"),
                labels: vec!["gpu".to_owned()],
                allow: if node == 1 { vec![] } else { vec!["s*".to_owned()] },
                deny: vec![],
                version: "1".to_owned(),
                cpu: 2,
                memory_total: Bytes(1 << 30),
                notes: vec![],
            };
            world.propose(Command::Register(Register { key: format!("k{node}").as_str().into(), facts }));
            let (status, term) = (NodeStatus::Ready, Some(Term(1)));
            let set = SetNodeStatus { node: NodeId(node), status, reason: String::new(), term };
            world.propose(Command::SetNodeStatus(set));
            let take = TakeUp { node: NodeId(node), incarnation: "life".into() };
            world.propose(Command::TakeUp(take));
        }
        let name = ModuleName::new("sleep").expect("a name");
        let version = ModuleVersion::new("1").expect("a version");
        let exec = Exec {
            command: Template(vec![Part::Text("/bin/sleep".to_owned())]),
            args: vec![],
            env: BTreeMap::new(),
        };
        let module = ModuleSpec { exec: Some(exec), ..ModuleSpec::new(name, version, Runtime::Exec) };
        world.propose(Command::Apply(Apply { modules: vec![module], buckets: vec![] }));
        world
    }

    pub(crate) fn propose(&mut self, command: Command) -> Reply {
        let proposal = Proposal { actor: Actor::from("test"), at: self.now, request: None, command };
        let mut changes = Vec::new();
        let reply = apply(&mut self.state, Term(1), &proposal, &mut changes);
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        self.store.write(&changes, self.state.revision, b"position").expect("room to write");
        self.now.0 += 1;
        reply
    }

    pub(crate) fn submit(&mut self, name: &str, count: u64, change: impl FnOnce(&mut JobSpec)) -> JobId {
        let range = ArrayRange { first: 0, last: count - 1, step: 1 };
        let module = ModuleRef::parse("sleep").expect("a module");
        let mut spec = JobSpec::new(JobName::new(name).expect("a name"), module, Subtasks::Array(range));
        spec.retry.max_attempts = 1;
        change(&mut spec);
        let all = SubmitAll { spec: Arc::new(spec), most: 10_000_000, items: Arc::new(vec![]) };
        match self.propose(Command::Submit(all)) {
            Reply::Submit { job, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    /// Grants up to so many to every node.
    pub(crate) fn dispatch(&mut self, free: u32) -> Vec<Granted> {
        let room = |node: &NodeId| {
            let incarnation = self.state.jobs.runner(*node)?.clone();
            Some((*node, Room { incarnation, slots: free, idle: free, spare: Span(0) }))
        };
        let nodes: BTreeMap<NodeId, Room> = self.state.nodes.keys().filter_map(room).collect();
        let backends = BTreeMap::new();
        let offer = Offer { nodes, may_run: &|_, _| true, takes: &|_, _| Span(1), backends, most: u32::MAX };
        let grants = dispatch::grant(&self.state, offer);
        let attempts = grants.iter().flat_map(|grant| {
            let all = grant.subtasks.iter();
            let all = all.flat_map(|(run, number)| run.numbers().map(move |subtask| (subtask, *number)));
            all.map(|(subtask, number)| (grant.node, Attempt { job: grant.job, subtask, number }))
        });
        let attempts = attempts.collect();
        if !grants.is_empty() {
            self.propose(Command::Grant(GrantAll { term: Term(1), grants }));
        }
        attempts
    }

    /// Ends attempts, in one command for each node; `how` says how.
    pub(crate) fn end(&mut self, granted: &[Granted], how: impl Fn(u32) -> Ending) {
        let mut by_node: BTreeMap<NodeId, BTreeMap<JobId, Vec<AttemptEnd>>> = BTreeMap::new();
        for (node, attempt) in granted {
            let end = AttemptEnd {
                subtask: attempt.subtask,
                attempt: attempt.number,
                started_at: self.now,
                took: Span::millis(5),
                ending: how(attempt.subtask),
            };
            by_node.entry(*node).or_default().entry(attempt.job).or_default().push(end);
        }
        for (node, results) in by_node {
            let results = results.into_iter().collect();
            self.propose(Command::RecordResults(RecordResults { node, results }));
        }
    }

    /// Asks for rows, as text.
    pub(crate) fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        match self.try_ask(sql, 10_000, Duration::from_secs(20)) {
            Ok((rows, _)) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    pub(crate) fn try_ask(
        &self,
        sql: &str,
        rows: u64,
        within: Duration,
    ) -> Result<(Vec<Vec<String>>, QueryEnd), QueryError> {
        let ask = Ask { sql: sql.to_owned(), rows, until: Instant::now() + within };
        let (mut found, mut ended) = (Vec::new(), None);
        self.store.reader().query(
            &ask,
            || true,
            |part| {
                match part {
                    QueryPart::Columns(_) => {}
                    QueryPart::Rows(rows) => {
                        found.extend(rows.into_iter().map(|row| row.iter().map(Cell::to_string).collect()));
                    }
                    QueryPart::End(end) => ended = Some(end),
                }
                true
            },
        )?;
        Ok((found, ended.expect("an answer has an end")))
    }
}

pub(crate) fn broken(message: &str) -> Ending {
    let failure =
        Failure { class: FailureClass::Exit, exit: Some(Exit::Code(2)), message: message.to_owned() };
    Ending::Failed(failure)
}

/// J18: three kinds of failures among 5 %, each down to its attempts.
#[test]
fn j18_failures_are_groups_and_each_is_found() {
    let mut world = World::new();
    let id = world.submit("tiles", 3_000, |_| {});
    while let granted @ [_, ..] = &world.dispatch(100)[..] {
        world.end(granted, |subtask| match subtask % 60 {
            7 => broken(&format!("cannot read /data/{subtask}.tif")),
            27 => broken(&format!("out of memory at {subtask}")),
            47 if subtask < 600 => broken("no licence"),
            _ => Ending::Finished,
        });
    }
    let reader = world.store.reader();
    let groups = reader.failure_groups(id, 10).expect("groups");
    assert_eq!(groups.all, 3);
    let said: Vec<(u64, &str)> = groups.largest.iter().map(|it| (it.subtasks, it.message.as_str())).collect();
    assert_eq!(said.len(), 3);
    assert_eq!(said[2], (10, "no licence"));
    assert_eq!(said[0].0 + said[1].0, 100);
    let cut = reader.failure_groups(id, 1).expect("groups");
    assert_eq!((cut.largest.len(), cut.all), (1, 3), "it is known that there are more");

    let same = world.ask("SELECT fingerprint, count(*), min(message) FROM failures GROUP BY 1 ORDER BY 2, 3");
    let of = |sql: &str| world.ask(sql);
    assert_eq!(same.len(), 3);
    assert_eq!(same[0][1..], ["10", "no licence"]);
    let of_one = format!(
        "SELECT subtask, attempt, node IS NOT NULL, exit_code FROM subtasks
         WHERE job = 'tiles' AND state = 'failed' AND fingerprint = '{}' ORDER BY subtask LIMIT 2",
        same[0][0]
    );
    assert_eq!(of(&of_one), [["47", "1", "1", "2"], ["107", "1", "1", "2"]]);
    assert_eq!(
        of("SELECT state, count(*) FROM subtasks WHERE job = 'tiles' GROUP BY state ORDER BY 1"),
        [["failed", "110"], ["finished", "2890"]]
    );
    assert_eq!(
        of("SELECT state, count(*), count(node), count(started_at) FROM attempts GROUP BY state ORDER BY 1"),
        [["failed", "110", "110", "110"], ["finished", "2890", "2890", "2890"]]
    );
    assert_eq!(
        of("SELECT block, count(*), min(subtask) FROM attempts GROUP BY 1 ORDER BY 1"),
        [["0", "1024", "0"], ["1", "1024", "1024"], ["2", "952", "2048"]]
    );
    assert_eq!(of("SELECT state FROM attempts WHERE subtask = 2000 AND block = 2000 / 1024"), [["finished"]]);
    assert_eq!(
        of("SELECT state, subtasks, finished, failed, progress FROM jobs WHERE name = 'tiles'"),
        [["failed", "3000", "2890", "110", "100"]]
    );
    assert_eq!(reader.attempts(id, 47).expect("attempts").len(), 1);
}

#[test]
fn attempts_are_kept_over_retries_and_an_operators_will() {
    let mut world = World::new();
    let id = world.submit("a", 3, |spec| {
        (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span(1));
    });
    let granted = world.dispatch(9);
    world.end(&granted, |subtask| if subtask == 1 { broken("once") } else { Ending::Finished });
    world.now.0 += 1_000;
    world.propose(Command::WakeSubtasks(WakeSubtasks { until: world.now, term: Term(1) }));
    let granted = world.dispatch(9);
    assert_eq!(
        world.ask("SELECT subtask, attempt, state, retried, message FROM attempts ORDER BY 1, 2"),
        [
            ["0", "1", "finished", "", ""],
            ["1", "1", "failed", "1", "once"],
            ["1", "2", "running", "", ""],
            ["2", "1", "finished", "", ""]
        ]
    );
    world.end(&granted, |_| broken("twice"));
    assert_eq!(world.ask("SELECT subtask, attempt, message FROM failures"), [["1", "2", "twice"]]);
    // An operator wants it again: it stands as failed no more, and is still known.
    world.propose(Command::RetryJob(RetryJob { job: id, subtasks: Run::one(1).into() }));
    assert_eq!(world.ask("SELECT count(*) FROM failures"), [["0"]]);
    assert_eq!(world.store.reader().failure_groups(id, 10).expect("groups"), FailedGroups::default());
    // A store that is opened again knows where it was granted.
    let granted = world.dispatch(9);
    let path = world.store.path().to_owned();
    world.store = Store::open(&path).expect("the same database");
    world.end(&granted, |_| broken("thrice"));
    assert_eq!(
        world.ask(
            "SELECT attempt, node IS NULL, retried, message FROM attempts WHERE subtask = 1 AND attempt = 3"
        ),
        [["3", "0", "1", "thrice"]]
    );
    let all = world.store.reader().attempts(id, 1).expect("attempts");
    assert_eq!(all.iter().map(|ran| ran.message.as_str()).collect::<Vec<_>>(), ["once", "twice", "thrice"]);
    assert!(all.iter().all(|ran| ran.node.is_some() && ran.fingerprint.is_some()));

    world.propose(Command::CancelJob(CancelJob { job: id, subtasks: None, reason: String::new() }));
    world.propose(Command::DeleteJob(id));
    assert_eq!(
        world.ask("SELECT (SELECT count(*) FROM attempts), (SELECT count(*) FROM subtasks)"),
        [["0", "0"]]
    );
}

/// Neither a pause nor the time before a retry is one in which nothing ended.
#[test]
fn how_fast_subtasks_end_is_counted_lately() {
    let mut world = World::new();
    let id = world.submit("a", 5_000, |_| {});
    let started = world.now;
    let lately = |world: &World| world.store.reader().ended_lately(id, started).expect("a count");
    let go_on = |world: &mut World, times: usize| {
        for _ in 0..times {
            let granted = world.dispatch(5);
            world.end(&granted, |_| Ending::Finished);
        }
    };
    go_on(&mut world, 3);
    assert_eq!(lately(&world), Lately { ended: 30, since: started });
    world.propose(Command::PauseJob(id));
    world.now.0 += 86_400_000;
    let resumed = world.now;
    world.propose(Command::ResumeJob(id));
    assert_eq!(lately(&world), Lately { ended: 0, since: resumed });
    go_on(&mut world, 1);
    assert_eq!(lately(&world), Lately { ended: 10, since: resumed });
    go_on(&mut world, 100);
    let Lately { ended, since } = lately(&world);
    // Each time three commands, of which the last hundred are looked at.
    assert_eq!(ended, 330);
    assert!(since > resumed, "{since} {resumed}");
}

/// What was written before there were indexes is found after the upgrade.
#[test]
fn histories_of_the_former_schema_are_indexed_when_it_is_opened() {
    let mut world = World::new();
    let id = world.submit("a", 2_000, |_| {});
    while let granted @ [_, ..] = &world.dispatch(300)[..] {
        world.end(granted, |subtask| if subtask % 100 == 0 { broken("full") } else { Ending::Finished });
    }
    let tables = "SELECT job, subtask, attempt, state, node, started_at, ended_at, message FROM attempts ORDER BY 1, 2, 3";
    let before = world.ask(tables);
    let path = world.store.path().to_owned();
    let db = rusqlite::Connection::open(&path).expect("a database");
    db.execute_batch(
        "DROP TABLE sinks; DROP TABLE tokens; DROP TABLE authorities; DROP TABLE backends; DROP TABLE job_attempts; DROP TABLE job_blocks; DROP INDEX job_transitions_age;
         ALTER TABLE job_transitions DROP COLUMN touched; DELETE FROM meta WHERE name = 'touched';
         PRAGMA user_version = 4;",
    )
    .expect("what it was");
    drop(db);
    world.store = Store::open(&path).expect("it is brought up");
    assert_eq!(world.ask(tables), before);
    assert_eq!(world.store.reader().failure_groups(id, 9).expect("groups").largest[0].subtasks, 20);
}

/// What is too old or too much goes, but what jobs have come to stays.
#[test]
fn histories_are_forgotten_and_what_they_came_to_is_not() {
    let mut world = World::new();
    let id = world.submit("old", 1_000, |_| {});
    while let granted @ [_, ..] = &world.dispatch(100)[..] {
        world.end(granted, |subtask| if subtask % 100 == 0 { broken("full") } else { Ending::Finished });
    }
    let open = world.submit("open", 1_000, |_| {});
    let granted = world.dispatch(100);
    world.end(&granted, |_| Ending::Finished);
    let jobs = "SELECT name, state, finished, failed, started_at, ended_at FROM jobs ORDER BY 1";
    let before = world.ask(jobs);
    let everything = HistorySettings { events: u64::MAX, ..HistorySettings::default() };
    assert_eq!(world.store.prune(&everything, world.now).expect("it prunes"), 0);
    let nothing = HistorySettings { events: 0, age: Span(u64::MAX) };
    while world.store.prune(&nothing, world.now).expect("it prunes") > 0 {}
    assert_eq!(world.ask(jobs), before);
    assert_eq!(
        world.ask("SELECT job, state, count(*) FROM attempts GROUP BY 1, 2 ORDER BY 1, 2"),
        [["old", "failed", "10"], ["open", "finished", "200"]],
        "what the row of a job does not contain yet cannot be forgotten"
    );
    assert_eq!(
        world.ask(
            "SELECT state, count(*), count(started_at) FROM subtasks WHERE job = 'old' GROUP BY 1 ORDER BY 1"
        ),
        [["failed", "10", "10"], ["finished", "990", "0"]]
    );
    let (state, _) = world.store.load().expect("it loads");
    assert_eq!(state.jobs.get(open).expect("the job").counts().finished, 200);
    assert_eq!(state.jobs.get(id).expect("the job").counts().failed, 10);
    let path = world.store.path().to_owned();
    let db = rusqlite::Connection::open(&path).expect("a database");
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(
        count("SELECT value FROM meta WHERE name = 'touched'"),
        count("SELECT coalesce(sum(touched), 0) FROM job_transitions")
    );
}
