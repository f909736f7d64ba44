//! Backed up while it is written, and put in another's place.

use std::sync::atomic::{AtomicBool, Ordering};

use sheaf_model::Revision;
use sheaf_store::{Store, StoreError};

use crate::kit::{commit, folder, holds, revision_of};

#[test]
fn a_backup_made_while_writing_is_one_commit() {
    let (folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=2000).for_each(|revision| commit(&mut store, revision));
    let reader = store.reader();
    let done = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let (reader, done, folder) = (&reader, &done, folder.path());
        scope.spawn(move || {
            for n in 0..5 {
                reader.backup(&folder.join(format!("snapshot{n}"))).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut revision = 2000;
        while !done.load(Ordering::Relaxed) {
            revision += 1;
            commit(&mut store, revision);
        }
        revision
    });
    assert!(last > 2000, "nothing was written meanwhile");
    for n in 0..5 {
        let snapshot = folder.path().join(format!("snapshot{n}"));
        assert_eq!(std::fs::read(&snapshot).unwrap()[18..20], [1, 1], "needs no other file");
        let revision = revision_of(Store::read_applied(&snapshot).unwrap());
        assert!((2000..=last).contains(&revision));
        holds(&snapshot, revision);
    }
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("partial")), "{names:?}");
}

#[test]
fn a_snapshot_takes_the_databases_place() {
    let (folder, path) = folder();
    let snapshot = folder.path().join("snapshot");
    let mut other = Store::open(&folder.path().join("other.db")).unwrap();
    (1..=70).for_each(|revision| commit(&mut other, revision));
    other.backup(&snapshot).unwrap();

    let mut store = Store::open(&path).unwrap();
    (1..=3).for_each(|revision| commit(&mut store, revision));
    let reader = store.reader();
    assert_eq!(reader.revision().unwrap(), Revision(3));
    assert_eq!(store.replace(&snapshot).unwrap(), other.load().unwrap());
    assert!(!snapshot.exists());
    assert_eq!(reader.revision().unwrap(), Revision(70), "readers follow");
    assert_eq!(store.load().unwrap(), other.load().unwrap());
    commit(&mut store, 71);
    assert_eq!(reader.revision().unwrap(), Revision(71));
    drop((store, reader));
    holds(&path, 71);
}

#[test]
fn a_replacement_cut_short_is_finished_by_the_next_open() {
    let (folder, path) = folder();
    let mut other = Store::open(&folder.path().join("other.db")).unwrap();
    (1..=70).for_each(|revision| commit(&mut other, revision));
    let mut store = Store::open(&path).unwrap();
    (1..=3).for_each(|revision| commit(&mut store, revision));
    // Died right after the snapshot began to count: the old database lies there with its write-ahead log.
    let killed = folder.path().join("killed.db");
    std::fs::copy(&path, &killed).unwrap();
    std::fs::copy(folder.path().join("state.db-wal"), folder.path().join("killed.db-wal")).unwrap();
    other.backup(&folder.path().join("killed.db.next")).unwrap();
    holds(&killed, 70);
    holds(&killed, 70);
}

#[test]
fn what_is_no_snapshot_is_refused_and_changes_nothing() {
    let (folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    commit(&mut store, 1);
    let empty = folder.path().join("empty");
    drop(Store::open(&empty).unwrap());
    assert!(matches!(store.replace(&empty), Err(StoreError::NoSnapshot { .. })));
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, [0x5a; 9000]).unwrap();
    assert!(matches!(store.replace(&garbage), Err(StoreError::Foreign { .. })));
    assert!(matches!(store.replace(&folder.path().join("none")), Err(StoreError::Sqlite { .. })));
    commit(&mut store, 2);
    drop(store);
    holds(&path, 2);
}

#[test]
fn a_row_of_a_newer_version_is_refused_before_anything_is_lost() {
    let (folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=3).for_each(|revision| commit(&mut store, revision));
    let mut other = Store::open(&folder.path().join("other.db")).unwrap();
    (1..=70).for_each(|revision| commit(&mut other, revision));
    let snapshot = folder.path().join("snapshot");
    let received = |sql: &str| {
        other.backup(&snapshot).unwrap();
        rusqlite::Connection::open(&snapshot).unwrap().execute_batch(sql).unwrap();
    };
    received("UPDATE buckets SET body = x'0901' WHERE name = '/logs/b7'");
    let error = store.replace(&snapshot).unwrap_err();
    assert!(matches!(&error, StoreError::Row { key, .. } if key == "/logs/b7"), "{error}");
    received("PRAGMA user_version = 99");
    assert!(matches!(store.replace(&snapshot), Err(StoreError::Newer { found: 99, .. })));
    assert_eq!(store.reader().revision().unwrap(), Revision(3));
    commit(&mut store, 4);
    assert_eq!(store.load().unwrap().0.revision, Revision(4), "it is written as before");
    // What an older one sent is brought up.
    received("PRAGMA user_version = 7");
    let replaced = store.replace(&snapshot).unwrap();
    assert_eq!(replaced, store.load().unwrap());
    assert_eq!(replaced.0.revision, Revision(70));
    drop(store);
    holds(&path, 70);
}

#[test]
fn a_backup_whose_database_is_replaced_ends() {
    let (folder, path) = folder();
    let mut store = Store::open(&path).unwrap();
    (1..=200).for_each(|revision| commit(&mut store, revision));
    let snapshot = folder.path().join("snapshot");
    let reader = store.reader();
    std::thread::scope(|scope| {
        let backups = scope.spawn(|| {
            let mut superseded = 0;
            for _ in 0..40 {
                match reader.backup(&folder.path().join("other")) {
                    Ok(()) => {}
                    Err(error @ StoreError::Superseded { .. }) => {
                        assert!(error.retry_helps());
                        superseded += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            superseded
        });
        for _ in 0..20 {
            store.backup(&snapshot).unwrap();
            store.replace(&snapshot).unwrap();
        }
        backups.join().unwrap();
    });
    drop((store, reader));
    holds(&path, 200);
}
