//! Both sides over a real socket.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::host::{CallError, End, Given, Host, Told, Work};
use crate::serve::serve_at;

/// Does what the item says.
#[derive(Default)]
struct Obedient {
    running: Arc<AtomicU32>,
}

struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Module for Obedient {
    fn at_once(&self) -> u32 {
        3
    }

    async fn on_job(&self, job: Job) -> Result<(), Failure> {
        if job.name == "unwelcome" { Err(Failure::new("not this one")) } else { Ok(()) }
    }

    async fn on_subtask(&self, subtask: Subtask) -> Result<(), Failure> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _counted = Counted(self.running.clone());
        match subtask.item::<String>()?.as_str() {
            "fail" => Err(Failure::new("x".repeat(FAILURE_MAX) + "at last")),
            "bad" => Err(Failure::refused("no such tile")),
            "down" => Err(Failure::of_backend("status 503")),
            "busy" => Err(Failure::not_now(Duration::from_secs(7), "status 429")),
            "panic" => panic!("of subtask {}", subtask.number),
            "hang" => std::future::pending().await,
            "say" => {
                subtask.print("one").await;
                subtask.print_error("two").await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

async fn host(dir: &tempfile::TempDir, module: impl Module, tasks: &mut JoinSet<()>) -> Host {
    let socket = dir.path().join("m");
    let at = socket.clone();
    tasks.spawn(async move { drop(serve_at(module, at, None).await) });
    while tokio::net::UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Host::connect(&socket).await.unwrap()
}

fn bundle(first: u64, items: &[&str]) -> Vec<Subtask> {
    let number = |id: u64| u32::try_from(id).unwrap();
    (first..).zip(items).map(|(id, item)| Subtask::new(id, number(id), 1, format!("{item:?}"))).collect()
}

/// What is told until so many have ended.
async fn until(work: &mut Work, count: usize) -> Told {
    let mut all = Told::default();
    while all.ends.len() < count {
        let told = work.next().await.unwrap().expect("more");
        all.output.extend(told.output);
        all.ends.extend(told.ends);
    }
    all
}

fn results(ends: &[End]) -> Vec<(u64, SubtaskResult)> {
    let mut all: Vec<_> = ends.iter().map(|end| (end.id, end.result)).collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

#[tokio::test]
async fn subtasks_are_run_and_each_is_answered_once() {
    use SubtaskResult::{Failed, Finished, NotBegun, Stopped};
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let module = Obedient::default();
    let running = module.running.clone();
    let host = host(&dir, module, &mut tasks).await;
    let (give, given) = mpsc::channel(8);
    let mut work = host.work(Job { name: "j".into(), ..Job::default() }, given).await.unwrap();
    assert_eq!(work.at_once, 3);
    let bundles =
        vec![bundle(0, &["", "fail", "panic", ""]), bundle(10, &["say"]), bundle(20, &["hang", "", ""])];
    give.send(Given { bundles, stop: vec![] }).await.unwrap();
    let told = until(&mut work, 5).await;
    let ends = [(0, Finished), (1, Failed), (2, Failed), (3, Finished), (10, Finished)];
    assert_eq!(results(&told.ends), ends);
    let message = |id| told.ends.iter().find(|end| end.id == id).map(|end| end.message.as_str()).unwrap();
    assert!(message(1).ends_with("at last") && message(1).len() == FAILURE_MAX);
    assert_eq!(message(2), "it panicked: of subtask 2");
    let printed: Vec<_> = told.output.iter().map(|it| (it.id, it.text.as_slice(), it.error)).collect();
    assert_eq!(printed, [(10, &b"one\n"[..], false), (10, &b"two\n"[..], true)]);
    // One that hangs is broken off, and what stood behind it goes on, but for what is not wanted either.
    give.send(Given { bundles: vec![], stop: vec![20, 21, 7] }).await.unwrap();
    let told = until(&mut work, 3).await;
    assert_eq!(results(&told.ends), [(20, Stopped), (21, NotBegun), (22, Finished)]);
    assert_eq!(running.load(Ordering::SeqCst), 0, "a guard has tidied up");
    // What stands behind one that goes on is answered while that runs.
    give.send(Given { bundles: vec![bundle(30, &["hang", "", ""])], stop: vec![] }).await.unwrap();
    give.send(Given { bundles: vec![], stop: vec![31, 32] }).await.unwrap();
    let told = until(&mut work, 2).await;
    assert_eq!(results(&told.ends), [(31, NotBegun), (32, NotBegun)]);
    give.send(Given { bundles: vec![], stop: vec![30] }).await.unwrap();
    assert_eq!(results(&until(&mut work, 1).await.ends), [(30, Stopped)]);
    drop(give);
    assert_eq!(work.next().await.unwrap(), None);
}

#[tokio::test]
async fn what_kind_of_failure_it_is_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let host = host(&dir, Obedient::default(), &mut tasks).await;
    let (give, given) = mpsc::channel(8);
    let mut work = host.work(Job::default(), given).await.unwrap();
    give.send(Given { bundles: vec![bundle(1, &["bad", "down", "busy"])], stop: vec![] }).await.unwrap();
    let told = until(&mut work, 3).await;
    let seven = SubtaskResult::NotNow(Duration::from_secs(7));
    assert_eq!(results(&told.ends), [(1, SubtaskResult::Refused), (2, SubtaskResult::Backend), (3, seven)]);
    assert_eq!(told.ends[2].message, "status 429");
}

#[tokio::test]
async fn many_ends_share_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let host = host(&dir, Obedient::default(), &mut tasks).await;
    let (give, given) = mpsc::channel(8);
    let mut work = host.work(Job::default(), given).await.unwrap();
    give.send(Given { bundles: vec![bundle(0, &[""; 1000])], stop: vec![] }).await.unwrap();
    let (mut ends, mut messages) = (0, 0);
    while ends < 1000 {
        ends += work.next().await.unwrap().expect("more").ends.len();
        messages += 1;
    }
    assert!(messages < 200, "{messages} messages");
}

#[tokio::test]
async fn whoever_takes_no_subtasks_says_so() {
    struct Idle;
    impl Module for Idle {}
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let host = host(&dir, Idle, &mut tasks).await;
    let (give, given) = mpsc::channel(8);
    let mut work = host.work(Job::default(), given).await.unwrap();
    give.send(Given { bundles: vec![bundle(1, &[""])], stop: vec![] }).await.unwrap();
    let told = until(&mut work, 1).await;
    assert_eq!(told.ends[0].result, SubtaskResult::Failed);
    assert!(told.ends[0].message.contains("no on_subtask"), "{told:?}");
}

#[tokio::test]
async fn a_job_can_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let host = host(&dir, Obedient::default(), &mut tasks).await;
    let (_give, given) = mpsc::channel(8);
    let refused = host.work(Job { name: "unwelcome".into(), ..Job::default() }, given).await.map(drop);
    let why = CallError::Failed { call: "Work", reason: "not this one".to_owned() };
    assert_eq!(refused, Err(why));
}
