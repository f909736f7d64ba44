//! What a program gets, what becomes of it, and what is kept of its output.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use sheaf_agent::keeper::{Commands, Confided, Confidential, Status};
use sheaf_agent::keepers::{Found, KeeperError};
use sheaf_agent::logs::{LogQuery, LogReader};
use sheaf_engine::keep::End;
use sheaf_model::{
    BucketName, Bytes, Call, Epoch, Exit, FileName, Phase, Piece, Restart, RestartWhen, SecretName, Span,
    Timestamp,
};

use crate::world::{World, ended, kill, open, until, until_phase};

#[tokio::test]
async fn a_program_gets_its_directory_its_environment_and_nothing_else() {
    let world = World::new();
    let mut plan = world.plan(
        r#"echo "$SHEAF_NODE $SHEAF_BUCKET $SHEAF_REVISION ${SHEAF_EPOCH-none} $OWN"
           cat own.conf; pwd; echo oops >&2; cat; ls -l /proc/self/fd | grep -c ' [3-9] -> '
           grep SigBlk /proc/self/status
           grep SigIgn /proc/self/status | grep -oE '.{7}$'; env | grep -c '^sheaf:'"#,
    );
    plan.env = vec![("OWN".to_owned(), "my own".to_owned())];
    plan.files = vec![(FileName::new("own.conf").unwrap(), "port: 5140\n".to_owned())];
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let last = ended(&handle).await;
    assert_eq!((last.phase, last.exit), (Phase::Failed, Some(Exit::Code(1))), "grep -c finds none: {last:?}");
    let mut lines = world.output(&plan);
    lines.sort();
    let dir = world.keepers.program_dir(&plan.bucket);
    let mut expected = vec![
        "import-01 /logs/web 12 none my own",
        "port: 5140",
        dir.to_str().unwrap(),
        "oops",
        // `ls` has its own directory open, and nothing more.
        "1",
        "SigBlk:\t0000000000000000",
        // Ignored signals up to 28; the C library keeps two beyond 31 for itself.
        "0000000",
        "0",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    for dir in [dir.as_path(), dir.parent().unwrap()] {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
    world.until_nothing_runs().await;
}

#[tokio::test]
async fn a_good_end_is_no_failure_and_files_of_a_former_plan_go() {
    let world = World::new();
    let mut plan = world.plan("exit 0");
    plan.restart.policy = RestartWhen::OnFailure;
    plan.files = vec![(FileName::new("old.conf").unwrap(), String::new())];
    let last = ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
    assert_eq!((last.phase, last.end, last.exit), (Phase::Stopped, Some(End::Finished), Some(Exit::Code(0))));
    assert_eq!(last.message, "exited with 0, policy on_failure does not restart it");
    fs::write(world.file(&plan, "kept"), "by the program").unwrap();
    plan.files = vec![(FileName::new("new.conf").unwrap(), String::new())];
    ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
    let there = ["old.conf", "new.conf", "kept"].map(|name| world.file(&plan, name).exists());
    assert_eq!(there, [false, true, true]);
}

/// A42: it crashes each time.
#[tokio::test]
async fn a_program_that_crashes_each_time_fails_with_its_last_output() {
    let world = World::new();
    let mut plan =
        world.plan("for n in 1 2 3 4 5 6 7 8 9 10 11; do echo line $n; done; echo boom >&2; exit 3");
    plan.restart = Restart {
        policy: RestartWhen::OnFailure,
        backoff_min: Span::millis(20),
        backoff_max: Span::millis(30),
        give_up_count: 2,
        give_up_window: Span::seconds(600),
    };
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let last = ended(&handle).await;
    assert_eq!((last.phase, last.end.clone(), last.restarts), (Phase::Failed, Some(End::GaveUp), 2));
    let (why, output) = last.message.split_once('\n').unwrap();
    assert_eq!(why, "exit code 3; gave up after 2 restarts within 10m");
    let mut shown: Vec<&str> = output.lines().collect();
    assert_eq!(shown.len(), 10);
    shown.retain(|line| *line != "boom");
    assert_eq!(shown.last(), Some(&"line 11"), "{shown:?}");
    assert!(output.contains("boom"));
    assert_eq!(world.output(&plan).len(), 3 * 12, "it ran three times and no more");
    assert_eq!(world.keepers.last(&plan.bucket).1.unwrap(), last, "and that is on disk");
    let previous = LogQuery { previous: true, ..LogQuery::default() };
    let mut reader = LogReader::open(&world.keepers.output_dir(&plan.bucket), &previous).unwrap();
    assert_eq!(reader.batch().unwrap().len(), 12);
    // The next keeper goes on counting, so that its agent cannot be made to restart it in a loop either.
    let mut next = plan;
    next.carry_on(&last, &last.boot);
    let last = ended(&world.keepers.spawn(next).await.unwrap()).await;
    assert_eq!((last.phase, last.restarts), (Phase::Failed, 2));
}

#[tokio::test]
async fn what_cannot_be_executed_is_said_precisely() {
    let world = World::new();
    let mut plan = world.plan("");
    plan.args.clear();
    let script = world.dir.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let plain = world.dir.path().join("plain");
    fs::write(&plain, "text").unwrap();
    let (script, plain) = (script.to_str().unwrap(), plain.to_str().unwrap());
    for (program, said) in [
        ("/opt/flume/bin/flume-ng", "/opt/flume/bin/flume-ng: No such file or directory".to_owned()),
        ("no-such-program", "no-such-program: not found in PATH".to_owned()),
        (script, format!("{script}: the interpreter it names, or its loader, does not exist")),
        (plain, format!("{plain}: Permission denied")),
        ("/etc", "/etc: is a directory".to_owned()),
    ] {
        plan.program = program.to_owned();
        let last = ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
        assert_eq!((last.phase, last.exit), (Phase::Failed, Some(Exit::NotStarted)), "{program}");
        assert_eq!(last.message, format!("{said}; could not be started, policy never does not restart it"));
    }
    // Its own exit with 127 is something else.
    let last = ended(&world.keepers.spawn(world.plan("exit 127")).await.unwrap()).await;
    assert_eq!(last.exit, Some(Exit::Code(127)));
}

#[tokio::test]
async fn much_output_is_rotated_and_none_of_the_rest_is_lost() {
    let world = World::new();
    let mut plan = world.plan("n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); done");
    plan.output.file = Bytes(10_000);
    plan.output.files = 3;
    ended(&world.keepers.spawn(plan.clone()).await.unwrap()).await;
    let lines = world.output(&plan);
    assert!(lines.len() > 800 && lines.len() < 3000, "{} lines are kept", lines.len());
    let first = 3000 - lines.len();
    assert!(lines.iter().enumerate().all(|(n, line)| *line == format!("line {}", first + n)));
    let kept = fs::read_dir(world.keepers.output_dir(&plan.bucket)).unwrap().flatten();
    assert_eq!(kept.map(|file| file.metadata().unwrap().len()).filter(|&size| size <= 10_000).count(), 3);
}

#[tokio::test]
async fn a_follower_sees_lines_as_they_come() {
    let world = World::new();
    let plan = world.plan("echo first; while [ ! -e go ]; do sleep 0.01; done; echo second");
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let mut reader = LogReader::open(&world.keepers.output_dir(&plan.bucket), &LogQuery::default()).unwrap();
    assert_eq!(reader.follow().await.unwrap()[0].text, "first");
    fs::write(world.file(&plan, "go"), "").unwrap();
    assert_eq!(reader.follow().await.unwrap()[0].text, "second");
    ended(&handle).await;
}

#[tokio::test]
async fn paths_may_be_longer_than_a_sockets() {
    let world = World::new();
    let deep = world.dir.path().join("d".repeat(200)).join("e".repeat(200));
    let keepers = open(&deep);
    let mut plan = world.plan("sleep 1000");
    plan.bucket = BucketName::new(&format!("/{}", "b".repeat(199))).unwrap();
    let handle = keepers.spawn(plan.clone()).await.unwrap();
    let running = until_phase(&handle, Phase::Running).await;
    drop(handle);
    let handle = keepers.adopt(&plan.bucket).await.unwrap();
    assert_eq!(handle.status().borrow().pid, running.pid);
    handle.stop();
    assert_eq!(ended(&handle).await.end, Some(End::Stopped));
}

#[tokio::test]
async fn garbage_ends_its_own_connection_and_no_other() {
    let world = World::new();
    let plan = world.plan("sleep 1000");
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    until_phase(&handle, Phase::Running).await;
    let socket = world.keepers.data_dir().join("instances/logs+web/keeper.sock");
    let long = vec![b'x'; 5 << 20];
    for garbage in [b"rubbish\n".as_slice(), b"{\"Deadline\":{}}\n", b"\xff\xfe\n", &long] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // It may be closed before all of it is written.
        let _ = stream.write_all(garbage);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
    }
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"\"Status\"\n").unwrap();
    let mut said = [0; 10];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"{\"Status\":");
    assert_eq!(handle.status().borrow().phase, Phase::Running);
    handle.stop();
    ended(&handle).await;
}

#[tokio::test]
async fn one_keeper_at_a_time() {
    let world = World::new();
    let plan = world.plan("sleep 1000");
    let (one, two) = tokio::join!(world.keepers.spawn(plan.clone()), world.keepers.spawn(plan.clone()));
    let (handle, other) = match (one, two) {
        (Ok(handle), Err(error)) | (Err(error), Ok(handle)) => (handle, error),
        both => panic!("{both:?}"),
    };
    assert!(matches!(other, KeeperError::Busy { .. }), "{other}");
    assert!(matches!(world.keepers.scan().unwrap()[..], [Found::Alive { .. }]));
    let pid = until_phase(&handle, Phase::Running).await.pid;
    let busy = world.keepers.spawn(plan.clone()).await.unwrap_err();
    assert!(matches!(busy, KeeperError::Busy { .. }));
    for refused in [world.keepers.give_up(&plan.bucket, Epoch(1)), world.keepers.remove(&plan.bucket)] {
        assert!(matches!(refused, Err(KeeperError::Busy { .. })), "{refused:?}");
    }
    assert_eq!(handle.status().borrow().pid, pid, "it was not disturbed");
    handle.stop();
    ended(&handle).await;
    world.keepers.remove(&plan.bucket).unwrap();
    assert!(world.keepers.scan().unwrap().is_empty());
    world.keepers.remove(&plan.bucket).unwrap();
}

#[tokio::test]
async fn dead_children_of_the_programs_children_do_not_stay() {
    let world = World::new();
    // Each subshell ends at once and leaves a child, which then is the keeper's and ends.
    let plan = world.plan("for n in 1 2 3 4 5; do (sleep 0.01 & ); done; echo done; exec sleep 1000");
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    let status = until_phase(&handle, Phase::Running).await;
    until("it has started them", || world.output(&plan) == ["done"]).await;
    let children = format!("/proc/{0}/task/{0}/children", status.keeper.pid);
    until("only the program is left", || {
        fs::read_to_string(&children).unwrap().trim() == status.pid.unwrap().to_string()
    })
    .await;
    handle.stop();
    ended(&handle).await;
}

/// Days between two polls, and a start each night.
#[tokio::test]
async fn a_poll_comes_when_it_is_due_however_often_the_program_was_started_meanwhile() {
    let world = World::new();
    let mut plan = world.plan("echo started; exec sleep 1000");
    plan.stop.grace = Span::seconds(5);
    let bucket = sheaf_module::Bucket {
        name: plan.bucket.to_string(),
        config_json: "{}".to_owned(),
        poll_frequency_ms: Some(Span::seconds(3600).0),
        ..sheaf_module::Bucket::default()
    };
    let poll = ["/bin/sh", "-c", "echo polled"].map(str::to_owned).to_vec();
    let lines = BTreeMap::from([(Call::PeriodicPoll, poll)]);
    plan.commands = Some(Box::new(Commands { bucket, lines }));
    let path = world.keepers.data_dir().join("instances/logs+web/status.json");
    let on_disk = || serde_json::from_slice::<Status>(&fs::read(&path).unwrap()).unwrap();
    let handle = world.keepers.spawn(plan.clone()).await.unwrap();
    until_phase(&handle, Phase::Running).await;
    until("the time of the first poll counts", || on_disk().polled.is_some()).await;
    handle.stop();
    let first = ended(&handle).await.polled;
    // As if it had run for half of the time, twice.
    for (hours, polled) in [(0, false), (2, true)] {
        let before = on_disk();
        assert_eq!(before.polled, first, "a start changes nothing of it");
        let long_ago = first.map(|at| Timestamp(at.0 - Span::seconds(3600 * hours).0));
        fs::write(&path, serde_json::to_vec(&Status { polled: long_ago, ..before }).unwrap()).unwrap();
        let handle = world.keepers.spawn(plan.clone()).await.unwrap();
        until_phase(&handle, Phase::Running).await;
        if polled {
            until("it is polled", || world.output(&plan).contains(&"polled".to_owned())).await;
            until("that is noted", || on_disk().polled > first).await;
        }
        handle.stop();
        ended(&handle).await;
        assert_eq!(world.output(&plan).contains(&"polled".to_owned()), polled);
    }
    assert_eq!(world.output(&plan).iter().filter(|line| *line == "polled").count(), 1, "once");
}

/// Suspended, failed or about to be started again: nobody is there who needs them.
#[tokio::test]
async fn files_with_secrets_are_there_only_while_something_is_that_reads_them() {
    let world = World::new();
    let mut plan = world.plan("cat key conf; echo; while [ ! -e go ]; do sleep 0.01; done; exit 3");
    plan.stop.grace = Span::seconds(5);
    plan.files = vec![(FileName::new("conf").unwrap(), "plain".to_owned())];
    let key = FileName::new("key").unwrap();
    let pieces = vec![Piece::Secret(SecretName::new("token").unwrap())];
    plan.confidential = vec![Confidential { place: Confided::File(key), pieces }];
    let opened = || serde_json::from_str(r#"{"token": "hunter2"}"#).unwrap();
    let (key, conf) = (world.file(&plan, "key"), world.file(&plan, "conf"));
    let read = || world.output(&plan).iter().filter(|line| *line == "hunter2plain").count();
    for (time, fails) in [(1, false), (2, true)] {
        let handle = world.keepers.spawn_with(plan.clone(), opened()).await.unwrap();
        until_phase(&handle, Phase::Running).await;
        until("it has read them", || read() == time).await;
        assert_eq!(fs::read_to_string(&key).unwrap(), "hunter2");
        if fails {
            fs::write(world.file(&plan, "go"), "").unwrap();
        } else {
            handle.stop();
        }
        assert_eq!(ended(&handle).await.phase == Phase::Failed, fails);
        assert_eq!((key.exists(), conf.exists()), (false, true));
    }
    plan.restart = Restart { policy: RestartWhen::Always, backoff_min: Span::seconds(60), ..plan.restart };
    let handle = world.keepers.spawn_with(plan.clone(), opened()).await.unwrap();
    until_phase(&handle, Phase::Backoff).await;
    assert!(!key.exists(), "it waits for its next start");
    handle.stop();
    ended(&handle).await;
}

/// With its machine, or by hand: nobody was there to remove them.
#[tokio::test]
async fn files_with_secrets_of_a_killed_keeper_go_when_it_is_found_dead() {
    let world = World::new();
    let mut plan = world.plan("cat key; echo; sleep 1000");
    let key = FileName::new("key").unwrap();
    let pieces = vec![Piece::Secret(SecretName::new("token").unwrap())];
    plan.confidential = vec![Confidential { place: Confided::File(key), pieces }];
    let opened = || serde_json::from_str(r#"{"token": "hunter2"}"#).unwrap();
    let key = world.file(&plan, "key");
    for agent_looks in [true, false] {
        let handle = world.keepers.spawn_with(plan.clone(), opened()).await.unwrap();
        let keeper = until_phase(&handle, Phase::Running).await.keeper;
        until("it is written", || key.exists()).await;
        let handle = Some(handle).filter(|_| agent_looks);
        kill(keeper.pid.cast_signed(), Signal::KILL);
        match handle {
            Some(handle) => drop(ended(&handle).await),
            None => {
                let is_dead = || matches!(world.keepers.scan().unwrap()[..], [Found::Dead { .. }]);
                until("the keeper is found dead", is_dead).await;
            }
        }
        assert!(!key.exists(), "with an agent that looks: {agent_looks}");
    }
}
