use std::path::Path;

use sheaf_engine::node::Told;
use sheaf_model::{LeaseSettings, Revision};

use super::*;
use crate::keeper::layout::Layout;

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
