//! Opened, refused, damaged, out of space, pruned.

use std::error::Error;
use std::sync::Arc;

use sheaf_engine::{Bucket, Change, Rollout};
use sheaf_model::{BucketName, Event, HistorySettings, Revision, Span, Timestamp};
use sheaf_store::{EventFilter, Store, StoreError};

use crate::kit::{self, commit, folder, holds, revision_of};

#[test]
fn what_is_durable_is_what_was_written() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.make_durable().unwrap(), None);
    commit(&mut store, 1);
    assert_eq!(revision_of(store.make_durable().unwrap()), 1);
    commit(&mut store, 2);
    assert_eq!(revision_of(store.make_durable().unwrap()), 2);
    assert_eq!(store.reader().revision().unwrap(), Revision(2));
}

#[test]
fn a_store_that_was_never_closed_holds_what_was_committed() {
    let (folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=60).for_each(|revision| commit(&mut store, revision));
    // What a killed process leaves behind: both files as they are now.
    let killed = folder.path().join("killed.db");
    std::fs::copy(&path, &killed).unwrap();
    std::fs::copy(folder.path().join("state.db-wal"), folder.path().join("killed.db-wal")).unwrap();
    holds(&killed, 60);
}

#[test]
fn a_cut_off_log_loses_whole_commits_only() {
    let (folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=60).for_each(|revision| commit(&mut store, revision));
    let wal = std::fs::read(folder.path().join("state.db-wal")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for part in 5..10 {
        let killed = folder.path().join(format!("killed{part}.db"));
        std::fs::copy(&path, &killed).unwrap();
        std::fs::write(killed.with_extension("db-wal"), &wal[..wal.len() * part / 10 + 77]).unwrap();
        let revision = Store::open(&killed).unwrap().load().unwrap().0.revision.0;
        holds(&killed, revision);
        seen.insert(revision);
    }
    assert!(seen.len() > 2, "{seen:?}");
}

#[test]
fn garbage_and_strangers_are_refused_and_left_alone() {
    let (_folder, path) = folder();
    std::fs::write(&path, b"not a database at all, but long enough to be looked at").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert!(!error.retry_helps());
    assert!(error.to_string().contains("state.db: not a database of Sheaf"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap().len(), 54);

    std::fs::remove_file(&path).unwrap();
    let stranger = rusqlite::Connection::open(&path).unwrap();
    stranger.execute_batch("CREATE TABLE songs (title)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign { .. })));
    stranger.pragma_update(None, "application_id", 7).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign { .. })));
    stranger.pragma_update(None, "application_id", 0).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[100..], before[100..]);
}

#[test]
fn a_newer_schema_is_refused_with_the_remedy() {
    let (_folder, path) = folder();
    commit(&mut Store::open(&path).unwrap(), 1);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, known: 8, .. }), "{error}");
    assert!(error.to_string().contains("at least as new"), "{error}");
}

#[test]
fn a_torn_file_is_damage_not_a_state() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=500).for_each(|revision| commit(&mut store, revision));
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = Store::open(&path).and_then(|store| store.load()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("damaged; move the data directory away"), "{error}");
}

#[test]
fn a_damaged_row_is_named() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    commit(&mut store, 7);
    let stranger = rusqlite::Connection::open(&path).unwrap();
    stranger.execute("UPDATE buckets SET body = x'0101'", []).unwrap();
    let error = store.load().unwrap_err();
    assert!(error.to_string().starts_with("read row /logs/b7 of table buckets in "), "{error}");
    assert!(error.to_string().contains("start the node as a new one"), "{error}");
    stranger.execute("UPDATE buckets SET body = x'0901'", []).unwrap();
    let error = store.load().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("version 9"), "{error}");
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_lost() {
    let Some(small) = std::env::var_os("SHEAF_SMALL_DISK") else {
        eprintln!("skipped: needs SHEAF_SMALL_DISK, a folder on a file system of a few MiB");
        return;
    };
    let folder = tempfile::tempdir_in(small).unwrap();
    let path = folder.path().join("state.db");
    let mut store = Store::open(&path).unwrap();
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 256 << 10]).unwrap();
    let write = |store: &mut Store, revision: u64| {
        let mut event = kit::event(revision, 0);
        event.message = "x".repeat(10_000);
        store.write(&[Change::Event(event)], Revision(revision), &revision.to_be_bytes())
    };
    let (refused, error) =
        (1..).find_map(|revision| Some((revision, write(&mut store, revision).err()?))).unwrap();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.retry_helps());
    assert!(error.to_string().contains("disk is full"), "{error}");
    assert_eq!(store.load().unwrap().0.revision, Revision(refused - 1));
    assert!(matches!(store.backup(&folder.path().join("snapshot")), Err(StoreError::Full { .. })));
    std::fs::remove_file(ballast).unwrap();
    write(&mut store, refused).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load().unwrap().0.revision, Revision(refused));
}

#[test]
fn history_is_pruned_by_age_and_by_number() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=100).for_each(|revision| commit(&mut store, revision));
    let kept = |store: &Store| {
        let events = store.reader().events(None, &EventFilter::default(), 1000).unwrap();
        events.iter().map(|event| event.revision.0).collect::<Vec<_>>()
    };
    // Event n is of second n.
    let now = Timestamp(100_000);
    let by_age = HistorySettings { age: Span::seconds(60), events: 1000 };
    assert_eq!(store.prune(&by_age, now).unwrap(), 39);
    assert_eq!(store.prune(&by_age, now).unwrap(), 0);
    assert_eq!(kept(&store), (40..=100).collect::<Vec<_>>());
    let by_number = HistorySettings { events: 10, ..by_age };
    assert_eq!(store.prune(&by_number, now).unwrap(), 51);
    assert_eq!(kept(&store), (91..=100).collect::<Vec<_>>());
    // An event that is written again is not counted again.
    commit(&mut store, 100);
    assert_eq!(store.prune(&by_number, now).unwrap(), 0);
    let since = EventFilter { since: Some(Timestamp(95_000)), ..EventFilter::default() };
    assert_eq!(store.reader().tail(None, &since, 100).unwrap().len(), 6);
}

/// Writes a bucket as it is from this revision on, with the event that tells of it.
fn release(store: &mut Store, bucket: Bucket, revision: u64) {
    let newest = bucket.newest().clone();
    let event = Event { subject: bucket.name().to_string(), ..kit::event(revision, 0) };
    let release = Change::Release(bucket.name().clone(), newest);
    let changes = [Change::Bucket(Arc::new(bucket)), release, Change::Event(event)];
    store.write(&changes, Revision(revision), b"").expect("room to write");
}

#[test]
fn releases_go_with_the_events_but_for_what_a_bucket_is_and_was_before() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    let [kept, gone, rolling] = [0, 1, 2].map(kit::bucket_name);
    for revision in (1..=28).step_by(3) {
        release(&mut store, kit::bucket(kept.clone(), revision), revision);
        release(&mut store, kit::bucket(gone.clone(), revision + 1), revision + 1);
        release(&mut store, kit::bucket(rolling.clone(), revision + 2), revision + 2);
    }
    let to = kit::bucket(rolling.clone(), 32).current;
    let next = Rollout { release: to, released: [].into(), ran: [].into(), stopped: None };
    release(&mut store, Bucket { next: Some(next), ..kit::bucket(rolling.clone(), 30) }, 32);
    let event = Event { subject: gone.to_string(), ..kit::event(33, 0) };
    store.write(&[Change::BucketGone(gone.clone()), Change::Event(event)], Revision(33), b"").unwrap();

    let revisions = |store: &Store, bucket: &BucketName| -> Vec<u64> {
        let releases = store.reader().releases(bucket, None, 100, usize::MAX).unwrap().found;
        releases.iter().rev().map(|release| release.revision.0).collect()
    };
    // Event n is of second n.
    let retention = HistorySettings { age: Span::seconds(20), events: 1000 };
    assert_eq!(store.prune(&retention, Timestamp(40_000)).unwrap(), 19);
    assert_eq!(revisions(&store, &kept), [19, 22, 25, 28]);
    assert_eq!(revisions(&store, &gone), [20, 23, 26, 29]);
    assert_eq!(revisions(&store, &rolling), [18, 21, 24, 27, 30, 32]);
    assert_eq!(store.prune(&retention, Timestamp(100_000)).unwrap(), 13);
    assert_eq!(store.prune(&retention, Timestamp(100_000)).unwrap(), 0);
    assert_eq!(revisions(&store, &kept), [25, 28]);
    assert_eq!(revisions(&store, &gone), [0_u64; 0]);
    assert_eq!(revisions(&store, &rolling), [27, 30, 32]);
}

#[test]
fn a_portion_that_is_dropped_ends_where_much_goes_with_it() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    for revision in 1..=4 {
        let mut bucket = kit::bucket(kit::bucket_name(0), revision);
        let mut spec = (*bucket.current.spec).clone();
        spec.owner = Some("x".repeat(3 << 20));
        bucket.current.spec = Arc::new(spec);
        release(&mut store, bucket, revision);
    }
    let nothing = HistorySettings { age: Span::seconds(1), events: 1000 };
    let dropped = [(); 3].map(|()| store.prune(&nothing, Timestamp(100_000)).unwrap());
    assert_eq!(dropped, [2, 2, 0]);
}

#[test]
fn releases_that_an_earlier_version_kept_go_some_at_a_time() {
    let (_folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    let name = kit::bucket_name(0);
    let at = |revision: u64| kit::bucket(name.clone(), revision);
    let mut changes: Vec<Change> =
        (1..=2_500).map(|revision| Change::Release(name.clone(), at(revision).current)).collect();
    changes.push(Change::Bucket(Arc::new(at(2_500))));
    store.write(&changes, Revision(2_500), b"").unwrap();
    release(&mut store, at(2_501), 2_501);
    let nothing = HistorySettings { age: Span::seconds(1), events: 1000 };
    let dropped = [(); 4].map(|()| {
        let dropped = store.prune(&nothing, Timestamp(100_000_000)).unwrap();
        let reader = store.reader();
        let events = reader.events(None, &EventFilter::default(), 10).unwrap().len();
        (dropped, reader.releases(&name, None, 10_000, usize::MAX).unwrap().found.len(), events)
    });
    assert_eq!(dropped, [(1, 1_501, 1), (1, 501, 1), (1, 2, 0), (0, 2, 0)]);
}
