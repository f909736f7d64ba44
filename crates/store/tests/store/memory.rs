//! What the store reads back equals what memory and the caller had, whatever was written in whatever batches.

use proptest::collection::vec;
use proptest::prelude::*;
use sheaf_engine::{Change, Release, State};
use sheaf_model::{BucketName, Cursor, Event, Revision, Timestamp};
use sheaf_store::{EventFilter, Reader, Store};

use crate::kit;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_read_back_as_it_is_in_memory(batches in vec(vec(kit::row(), 0..12), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut store = Store::open(&path).unwrap();
        let mut memory = State::default();
        prop_assert_eq!(store.load().unwrap(), (State::default(), None));
        for (number, batch) in batches.iter().enumerate() {
            batch.iter().for_each(|change| memory.put(change));
            memory.revision = Revision(number as u64 + 1);
            let applied = [number as u8; 3];
            store.write(batch, memory.revision, &applied).unwrap();
            prop_assert_eq!(store.load().unwrap(), (memory.clone(), Some(applied.to_vec())));
        }
        drop(store);
        let reopened = Store::open(&path).unwrap();
        prop_assert_eq!(&reopened.load().unwrap().0, &memory);

        // The state's own rows, written to an empty store, make the same state.
        let copy = folder.path().join("copy.db");
        let mut copy = Store::open(&copy).unwrap();
        let rows: Vec<Change> = memory.rows().collect();
        copy.write(&rows, memory.revision, b"").unwrap();
        prop_assert_eq!(copy.load().unwrap().0, memory);
    }

    #[test]
    fn the_value_of_an_object_is_that_of_its_version(batches in vec(vec(kit::object_change(), 0..6), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("state.db")).unwrap();
        let mut values = std::collections::BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        for batch in batches {
            let batch = batch.concat();
            for change in &batch {
                match change {
                    Change::ObjectValue(bucket, key, value) => {
                        seen.insert((bucket.clone(), key.clone()));
                        values.insert((bucket.clone(), key.clone()), (Revision(0), value.clone()));
                    }
                    Change::Object(object) => {
                        let found = values.get_mut(&(object.bucket.clone(), object.key.clone()));
                        found.expect("its value comes first").0 = object.entry.version;
                    }
                    Change::ObjectGone(bucket, key) => drop(values.remove(&(bucket.clone(), key.clone()))),
                    Change::ObjectsGone(bucket) => values.retain(|(of, _), _| of != bucket),
                    other => panic!("{other:?}"),
                }
            }
            store.write(&batch, Revision(1), b"").unwrap();
            for (bucket, key) in &seen {
                let read = store.reader().object(bucket, key).unwrap();
                prop_assert_eq!(read.as_ref(), values.get(&(bucket.clone(), key.clone())));
            }
        }
    }

    #[test]
    fn releases_are_read_back_newest_first(written in vec(kit::any_release(), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("state.db")).unwrap();
        let mut memory = std::collections::BTreeMap::new();
        for (name, release) in &written {
            memory.insert((name.clone(), release.revision), release.clone());
        }
        let changes: Vec<_> = written.iter().map(|(name, release)| Change::Release(name.clone(), release.clone())).collect();
        store.write(&changes, Revision(1), b"").unwrap();
        let reader = store.reader();
        for (name, _) in &written {
            let mine = || memory.iter().rev().filter(|((bucket, _), _)| bucket == name).map(|(_, release)| release.clone());
            let all: Vec<_> = mine().collect();
            prop_assert_eq!(paged(&reader, name, 100, usize::MAX), all.clone());
            prop_assert_eq!(paged(&reader, name, 2, usize::MAX), all.clone());
            prop_assert_eq!(paged(&reader, name, 100, 300), all.clone());
            let two = reader.releases(name, None, 2, usize::MAX).unwrap();
            prop_assert_eq!((two.more, two.found), (all.len() > 2, mine().take(2).collect::<Vec<_>>()));
            let one = reader.releases(name, None, 100, 0).unwrap();
            prop_assert_eq!((one.more, one.found.len()), (all.len() > 1, 1));
            let other = mine().find(|release| release.revision < all[0].revision && release.spec != all[0].spec);
            let unlike = reader.release_unlike(name, all[0].revision, &all[0].spec);
            prop_assert_eq!(unlike.unwrap(), other);
            let first = mine().next().unwrap();
            prop_assert_eq!(reader.release(name, first.revision).unwrap(), Some(first));
            prop_assert_eq!(reader.release(name, Revision(99)).unwrap(), None);
        }
    }

    #[test]
    fn pages_of_events_put_together_are_what_the_filter_lets_through(
        content in vec((kit::any_event(), any::<bool>()), 0..60),
        filter in any_filter(),
        page in 1..7_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&folder.path().join("state.db")).unwrap();
        let history = numbered(content);
        let changes: Vec<_> = history.iter().cloned().map(Change::Event).collect();
        for batch in changes.chunks(13) {
            store.write(batch, Revision(1), b"").unwrap();
        }
        let mut expected: Vec<_> = history.into_iter().filter(|event| lets_through(&filter, event)).collect();

        let reader = store.reader();
        let mut read: Vec<Event> = Vec::new();
        loop {
            let events = reader.events(read.last().map(Cursor::of), &filter, page).unwrap();
            prop_assert!(events.len() <= page);
            if events.is_empty() {
                break;
            }
            read.extend(events);
        }
        prop_assert_eq!(&read, &expected);

        expected.reverse();
        let mut read: Vec<Event> = Vec::new();
        loop {
            let events = reader.tail(read.last().map(Cursor::of), &filter, page).unwrap();
            if events.is_empty() {
                break;
            }
            read.extend(events);
        }
        prop_assert_eq!(&read, &expected);
    }
}

/// All revisions of a bucket, from pages of at most so many and so large.
fn paged(reader: &Reader, bucket: &BucketName, limit: usize, bytes: usize) -> Vec<Release> {
    let (mut all, mut before): (Vec<Release>, _) = (Vec::new(), None);
    loop {
        let page = reader.releases(bucket, before, limit, bytes).expect("a page");
        assert!((1..=limit).contains(&page.found.len()), "{page:?}");
        before = page.found.last().map(|release| release.revision);
        all.extend(page.found);
        if !page.more {
            return all;
        }
    }
}

/// Gives each event its place; `true`: another one of the same revision as the one before.
fn numbered(content: Vec<(Event, bool)>) -> Vec<Event> {
    let mut place = (1, 0);
    let numbered = content.into_iter().map(|(event, same)| {
        place = if same { (place.0, place.1 + 1) } else { (place.0 + 1, 0) };
        Event { revision: Revision(place.0), n: place.1, ..event }
    });
    numbered.collect()
}

fn any_filter() -> impl Strategy<Value = EventFilter> {
    use proptest::option::of;
    let subject = of((0..3_u8).prop_map(|n| kit::bucket_name(n).to_string()));
    let kind = of(prop_oneof![
        Just("bucket.".to_owned()),
        Just("i".to_owned()),
        Just("instance.running".to_owned())
    ]);
    let node = of(prop_oneof![Just(String::new()), Just("import-01".to_owned())]);
    (subject, kind, node, of((0..25_000_000_u64).prop_map(Timestamp)))
        .prop_map(|(subject, kind, node, since)| EventFilter { subject, kind, node, since, subtasks: false })
}

fn lets_through(filter: &EventFilter, event: &Event) -> bool {
    filter.subject.as_ref().is_none_or(|subject| *subject == event.subject)
        && filter.kind.as_ref().is_none_or(|kind| event.kind.starts_with(kind))
        && filter.node.as_ref().is_none_or(|node| *node == event.node)
        && filter.since.is_none_or(|since| event.at >= since)
}
