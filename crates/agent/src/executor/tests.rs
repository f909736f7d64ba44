use std::path::Path;

use sheaf_engine::keep::End;
use sheaf_engine::node::Told;
use sheaf_engine::reconcile::{Ended, Life};
use sheaf_model::{LeaseSettings, Revision};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::keeper::layout::Layout;
use crate::keeper::{FromKeeper, KeeperProcess};

fn executor(dir: &Path) -> Executor {
    let binary = PathBuf::from("/bin/false");
    let options = crate::keepers::KeeperOptions { data_dir: dir.to_owned(), binary: binary.clone() };
    let keepers = Keepers::open(options).expect("the directory is there");
    Executor::new(keepers, NodeName::new("n1").expect("a name"), clock::boot_id(), binary)
}

/// A new life of the agent gives an instance whose keeper lives and does not answer so long, from when it looks.
async fn gives(dir: &Path, ttl: Span) {
    let mut executor = executor(dir);
    let layout = Layout::new(dir, &BucketName::new("/a").expect("a name"));
    layout.make().expect("a directory");
    let held = layout.try_lock().expect("a lock").expect("nobody else has it");
    let before = clock::now();
    let found = executor.find().await.expect("it can be read");
    let after = clock::now();
    drop(held);
    let seen = found[0].seen.as_ref().expect("an instance");
    assert!(seen.observed.is_alive());
    let deadline = seen.deadline.expect("nobody lives for ever");
    assert!(
        before.after(ttl) <= deadline && deadline <= after.after(ttl),
        "{deadline:?}, looked at {after:?}"
    );
}

#[tokio::test]
async fn an_instance_whose_keeper_is_silent_has_as_long_as_a_lease_of_its_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    gives(dir.path(), LeaseSettings::default().ttl).await;
    let mut former = executor(dir.path());
    for ttl in [Span::seconds(1), Span::seconds(600)] {
        former.lease_lasts(ttl);
        until_idle(&mut former).await;
        gives(dir.path(), ttl).await;
    }
}

async fn until_idle(executor: &mut Executor) {
    while let Some(joined) = executor.tasks.join_next().await {
        assert!(executor.take(joined.expect("it does not panic")).is_none());
    }
}

#[tokio::test]
async fn an_agent_that_stops_begins_nothing_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut executor = executor(dir.path());
    executor.begin_no_more();
    let bucket = BucketName::new("/a").expect("a name");
    executor.perform(Action::Confirm(bucket.clone(), Revision(3)));
    until_idle(&mut executor).await;
    assert_eq!(executor.shared.keepers.fence(&bucket).expect("it can be read"), Fence::default());
}

#[test]
fn what_has_ended_while_it_was_told_of_a_change_is_not_taken_for_alive() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut executor = executor(dir.path());
    let told = Told {
        phase: Phase::Running,
        message: String::new(),
        pid: Some(7),
        started_at: None,
        restarts: 0,
        exit: None,
        end: None,
        purged: None,
    };
    let updated = Done::Updated(Box::new(Birth::unknown().seen(&told)));
    let done = executor.take(Outcome::Done(BucketName::new("/a").expect("a name"), updated));
    assert!(matches!(done, Some(Input::Done(_, Done::Failed { again: true, .. }))), "{done:?}");
}

/// What a keeper says of an instance that was started from this state.
fn running(bucket: &BucketName, basis: Revision) -> Status {
    Status {
        bucket: bucket.clone(),
        basis,
        epoch: None,
        until: None,
        phase: Phase::Running,
        message: String::new(),
        pid: None,
        started_at: None,
        restarts: 0,
        recent: Vec::new(),
        exit: None,
        end: None,
        suspended: false,
        told: None,
        purged: None,
        polled: None,
        purges: true,
        asked: None,
        left: Vec::new(),
        keeper: KeeperProcess { pid: u32::MAX, started: 0 },
        boot: clock::boot_id(),
        at: clock::wall(),
    }
}

async fn say(line: &mut UnixStream, status: &Status) {
    let said = FromKeeper::Status(Box::new(status.clone()));
    let mut said = serde_json::to_vec(&said).expect("it has a form in JSON");
    said.push(b'\n');
    line.write_all(&said).await.expect("the agent listens");
}

/// What gave up is what was before: the change is not to blame for that, and is still to run.
#[tokio::test]
async fn a_change_that_a_keeper_did_not_take_before_it_ended_has_not_run() {
    let of = |state| {
        let revision = Revision(state);
        Origin { revision, basis: revision, content: state, live: Some(1), artifact: None }
    };
    let (former, next) = (of(3), of(5));
    for is_over in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut executor = executor(dir.path());
        let bucket = BucketName::new("/a").expect("a name");
        let layout = Layout::new(dir.path(), &bucket);
        layout.make().expect("a directory");
        let held = layout.try_lock().expect("a lock").expect("nobody else has it");
        let listener = UnixListener::bind(layout.socket()).expect("a socket");
        let status = running(&bucket, former.basis);
        let keeper = async {
            let (mut line, _) = listener.accept().await.expect("an agent comes");
            say(&mut line, &status).await;
            line
        };
        let (handle, mut line) = tokio::join!(executor.shared.keepers.adopt(&bucket), keeper);
        let handle = handle.expect("it answers");
        let (mut heard, birth) = (handle.status(), Birth { origin: former, ..Birth::unknown() });
        executor.hold(&bucket, Fresh { handle, birth, grace: Span(0), speaks: true });
        let last = Status { phase: Phase::Failed, end: Some(End::GaveUp), ..status.clone() };
        if is_over {
            say(&mut line, &last).await;
            heard.wait_for(|said| said.end.is_some()).await.expect("its lock is held");
        }
        let updated = Birth { origin: next, ..birth }.seen(&status.told());
        let told = executor.take(Outcome::Done(bucket, Done::Updated(Box::new(updated))));
        match told {
            Some(Input::Done(_, Done::Failed { again: true, .. })) => assert!(is_over),
            Some(Input::Done(_, Done::Updated(seen))) => assert!(!is_over && seen.observed.origin == next),
            other => panic!("{other:?}"),
        }
        if !is_over {
            say(&mut line, &last).await;
        }
        drop((listener, held, line));
        let Some(Input::Seen(_, Some(seen))) = executor.next().await else { panic!("it has ended") };
        assert_eq!((seen.observed.life, seen.observed.origin), (Life::Dead(Ended::Finished), former));
    }
}
