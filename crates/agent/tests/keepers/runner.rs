//! The runner, with programs of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sheaf_agent::keeper::{Confine, OutputLimits};
use sheaf_agent::runner::host::Runner;
use sheaf_agent::runner::{Ended, FromRunner, Start, Stopped, ToRunner, sweep};
use sheaf_model::{Bytes, Exit, Limits, Span, Stop};
use tokio::time::timeout;

fn probe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keeper-probe"))
}

fn start(dir: &Path, ticket: u64, script: &str) -> Box<Start> {
    Box::new(Start {
        ticket,
        program: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("WORD".to_owned(), "hello".to_owned())],
        files: vec![("greeting".to_owned(), "hello".to_owned())],
        dir: dir.join(format!("work/{ticket}")),
        lent: false,
        output: dir.join(format!("output/{ticket}")),
        limits: OutputLimits { file: Bytes(1 << 20), files: 2 },
        timeout: None,
        stop: Stop { grace: Span::millis(200), ..Stop::default() },
        confine: Confine::default(),
        shared: Vec::new(),
    })
}

async fn ended(runner: &mut Runner) -> Ended {
    let heard = timeout(Duration::from_secs(20), runner.hear()).await;
    match heard.expect("it answers").expect("it lives") {
        FromRunner::Ended(ended) => ended,
        started @ FromRunner::Started {} => panic!("{started:?}"),
    }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 10 s: {what}");
}

#[tokio::test]
async fn programs_run_side_by_side_and_each_end_is_told_with_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    runner.say(ToRunner::Start(start(dir.path(), 1, "echo $WORD; cat greeting >&2; exit 3"))).await;
    runner.say(ToRunner::Start(start(dir.path(), 2, "exit 0"))).await;
    let mut missing = start(dir.path(), 3, "");
    missing.program = "no-such-program".to_owned();
    runner.say(ToRunner::Start(missing)).await;
    let mut ends = BTreeMap::new();
    while ends.len() < 3 {
        let end = ended(&mut runner).await;
        ends.insert(end.ticket, end);
    }
    assert_eq!((ends[&1].exit, ends[&1].stopped), (Some(Exit::Code(3)), None));
    assert_eq!(ends[&1].message, "hello\nhello");
    assert!(!dir.path().join("work").join("1").exists(), "its directory was for itself");
    let kept = std::fs::read_to_string(dir.path().join("output/1/current.log")).unwrap();
    assert!(kept.contains(" o hello\n") && kept.contains(" e hello\n"), "{kept}");
    assert_eq!(ends[&2].exit, Some(Exit::Code(0)));
    assert!(!dir.path().join("output/2").exists(), "what says nothing leaves nothing");
    assert_eq!(ends[&3].exit, None);
    assert!(ends[&3].message.contains("there is no such program in /usr/bin:/bin"), "{}", ends[&3].message);
}

#[tokio::test]
async fn what_takes_too_long_or_is_not_wanted_is_stopped_and_killed_if_it_will_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    let timed = Box::new(Start { timeout: Some(Span::millis(100)), ..*start(dir.path(), 1, "sleep 60") });
    runner.say(ToRunner::Start(timed)).await;
    runner
        .say(ToRunner::Start(start(dir.path(), 2, "trap '' TERM; echo deaf; while :; do sleep 1; done")))
        .await;
    let end = ended(&mut runner).await;
    assert_eq!((end.ticket, end.stopped), (1, Some(Stopped::TimedOut)));
    assert_eq!(end.exit, Some(Exit::Signal(15)));
    let said = dir.path().join("output/2/current.log");
    until("it says that it is deaf", || said.exists()).await;
    runner.say(ToRunner::Stop(2)).await;
    let end = ended(&mut runner).await;
    assert_eq!((end.ticket, end.stopped, end.exit), (2, Some(Stopped::Asked), Some(Exit::Signal(9))));
}

#[tokio::test]
async fn a_directory_that_is_lent_is_empty_for_whoever_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    let place = dir.path().join("places/0");
    for (ticket, script, stays) in [
        (1, "", true),
        (2, "echo secret > .left; mkdir -p a/b; touch a/b/c; chmod 500 a/b", true),
        (3, "chmod 755 .", false),
        (4, "cd ..; rm -r 0; ln -s /tmp 0", false),
        (5, "", true),
    ] {
        let script = format!("ls -A; stat -c %a .; {script}");
        let start = Start { dir: place.clone(), lent: true, ..*start(dir.path(), ticket, &script) };
        runner.say(ToRunner::Start(Box::new(start))).await;
        let end = ended(&mut runner).await;
        assert_eq!((end.exit, end.message.as_str()), (Some(Exit::Code(0)), "greeting\n700"), "{ticket}");
        assert_eq!(place.symlink_metadata().is_ok(), stays, "{ticket}");
        assert!(!stays || place.read_dir().unwrap().next().is_none(), "{ticket}: nothing is left in it");
    }
}

#[tokio::test]
async fn a_confined_program_is_held_to_its_limits_and_says_why_it_cannot_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    let limits = Limits { open_files: Some(40), ..Limits::default() };
    let confine = Confine { limits, user: None };
    let some = Box::new(Start {
        confine: confine.clone(),
        ..*start(dir.path(), 1, "ulimit -n; echo $WORD; exit 3")
    });
    runner.say(ToRunner::Start(some)).await;
    let end = ended(&mut runner).await;
    assert_eq!((end.exit, end.message.as_str()), (Some(Exit::Code(3)), "40\nhello"));
    let missing = Start { program: "/no/such".to_owned(), confine, ..*start(dir.path(), 2, "") };
    runner.say(ToRunner::Start(Box::new(missing))).await;
    let end = ended(&mut runner).await;
    assert!(end.exit.is_none() && end.message.contains("/no/such"), "{end:?}");
    let nobody = Confine { user: Some("no-such-user".to_owned()), ..Confine::default() };
    runner.say(ToRunner::Start(Box::new(Start { confine: nobody, ..*start(dir.path(), 3, "") }))).await;
    let end = ended(&mut runner).await;
    assert!(end.exit.is_none() && end.message.contains("there is no user no-such-user"), "{end:?}");
}

#[tokio::test]
async fn nothing_that_a_program_started_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    let script = "setsid sh -c 'sleep 1000 & echo $! > ../../pid' & wait; sleep 0.1";
    runner.say(ToRunner::Start(start(dir.path(), 1, "sleep 0.3"))).await;
    runner.say(ToRunner::Start(start(dir.path(), 2, script))).await;
    let mut order = Vec::new();
    while order.len() < 2 {
        order.push(ended(&mut runner).await.ticket);
    }
    let pid: u32 = std::fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    assert!(!alive(pid), "it left its group and its session, and ended all the same");
}

/// It is killed with its parent's group, as the runner looks at what is left: its own child becomes the runner's meanwhile.
#[tokio::test]
async fn what_a_child_leaves_that_ends_while_it_is_looked_for_does_not_outlive_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    // The look takes longer where much runs.
    for ticket in 100..250 {
        runner.say(ToRunner::Start(start(dir.path(), ticket, "exec sleep 1000"))).await;
    }
    let file = |ticket: u64| dir.path().join(format!("pid.{ticket}"));
    for ticket in 1..=16 {
        let leaves =
            format!("setsid sh -c 'echo $$ > ../../pid.{ticket}; exec sleep 1000' & exec sleep 1000");
        let script = format!("({leaves}) & until [ -s ../../pid.{ticket} ]; do sleep 0.01; done");
        runner.say(ToRunner::Start(start(dir.path(), ticket, &script))).await;
    }
    for _ in 0..16 {
        let end = ended(&mut runner).await;
        assert_eq!((end.exit, end.stopped), (Some(Exit::Code(0)), None), "{}", end.ticket);
    }
    for ticket in 1..=16 {
        let pid: u32 = std::fs::read_to_string(file(ticket)).unwrap().trim().parse().unwrap();
        until("what left its group and its session has ended, too", || !alive(pid)).await;
    }
}

/// Starts a program that goes on, and gives its process.
async fn goes_on(runner: &Runner, dir: &Path) -> u32 {
    goes_on_as(runner, dir, "sleep 1000").await
}

async fn goes_on_as(runner: &Runner, dir: &Path, program: &str) -> u32 {
    let line = format!("echo $$ > ../../pid; exec {program}");
    runner.say(ToRunner::Start(start(dir, 1, &line))).await;
    let pid =
        || -> Option<u32> { std::fs::read_to_string(dir.join("pid")).ok()?.strip_suffix('\n')?.parse().ok() };
    until("it says which process it is", || pid().is_some()).await;
    pid().unwrap()
}

#[tokio::test]
async fn everything_ends_with_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let runner = Runner::start(probe(), dir.path()).unwrap();
    let pid = goes_on(&runner, dir.path()).await;
    assert!(alive(pid));
    drop(runner);
    until("the program has ended", || !alive(pid)).await;
}

#[tokio::test]
async fn what_a_killed_runner_leaves_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = Runner::start(probe(), dir.path()).unwrap();
    let pid = goes_on(&runner, dir.path()).await;
    let parent = rustix::process::Pid::from_raw(parent_of(pid)).unwrap();
    rustix::process::kill_process(parent, rustix::process::Signal::KILL).unwrap();
    assert_eq!(timeout(Duration::from_secs(20), runner.hear()).await.expect("its end is noticed"), None);
    assert!(alive(pid), "nobody has ended it");
    assert!(sweep(dir.path()) >= 1);
    assert!(!alive(pid));
    assert_eq!(sweep(&dir.path().join("other")), 0);
}

#[tokio::test]
async fn what_shows_no_mark_is_swept_with_its_runner() {
    let dir = tempfile::tempdir().unwrap();
    let runner = Runner::start(probe(), dir.path()).unwrap();
    let pid = goes_on_as(&runner, dir.path(), "env -i sleep 1000").await;
    let shows = || std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    until("it has nothing in its environment", || shows().is_empty()).await;
    // A runner that is stopped ends nothing when it is killed.
    let runners = rustix::process::Pid::from_raw(parent_of(pid)).unwrap();
    rustix::process::kill_process(runners, rustix::process::Signal::STOP).unwrap();
    assert!(sweep(dir.path()) >= 1);
    until("it has ended with it", || !alive(pid)).await;
}

fn parent_of(pid: u32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[test]
fn a_runner_of_an_earlier_version_may_say_that_a_program_runs() {
    let said = r#"{"Started":{"ticket":1,"pid":2}}"#;
    assert_eq!(serde_json::from_str::<FromRunner>(said).unwrap(), FromRunner::Started {});
}
