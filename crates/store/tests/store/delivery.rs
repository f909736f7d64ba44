//! What sinks read of history: all of it, once, in order, whatever is read at once; and what was dropped before they came.

use sheaf_engine::Command;
use sheaf_model::*;
use sheaf_store::{Ahead, Delivery, EventFilter};

use crate::jobs::{World, broken};

fn ahead(world: &World, after: Revision, limit: usize, subtasks: bool) -> Delivery {
    world.store.reader().ahead(&Ahead { after, limit, subtasks }).expect("it is read")
}

/// Everything after a revision, so many at a time.
fn all(world: &World, mut after: Revision, limit: usize) -> Vec<Deliverable> {
    let mut found = Vec::new();
    loop {
        let Delivery { found: more, to, more: there_is_more, dropped_to } = ahead(world, after, limit, true);
        assert_eq!(dropped_to, None);
        assert!(more.iter().all(|it| it.event.revision > after && it.event.revision <= to));
        found.extend(more);
        if !there_is_more {
            return found;
        }
        assert!(to > after, "it goes on");
        after = to;
    }
}

#[test]
fn all_of_history_is_read_in_order_with_what_failed_whatever_is_read_at_once() {
    let mut world = World::new();
    let begin = Revision(world.ask("SELECT max(revision) FROM events")[0][0].parse().expect("a number"));
    world.submit("a", 90, |spec| (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span(1)));
    world.submit("b", 1, |_| {});
    while let granted @ [_, ..] = &world.dispatch(1)[..] {
        world.end(granted, |subtask| if subtask % 3 == 0 { broken("no licence") } else { Ending::Finished });
    }
    let whole = all(&world, begin, 10_000);
    let kinds = |kind: &str| whole.iter().filter(|it| it.event.kind == kind).count();
    assert_eq!((kinds("subtask.retried"), kinds("subtask.failed")), (30, 1));
    assert_eq!((kinds("job.submitted"), kinds("job.failed")), (2, 1));
    let failed = whole.iter().position(|it| it.event.kind == "job.failed").expect("b failed");
    assert_eq!(whole[failed - 1].event.kind, "subtask.failed", "what made it fail comes before");
    let one = whole.iter().find(|it| it.event.kind == "subtask.failed").expect("one");
    let end = one.end.as_ref().expect("which");
    assert_eq!(
        (one.event.subject.as_str(), end.attempt, end.class.as_str(), end.exit_code),
        ("b", 1, "exit", Some(2))
    );
    assert!(
        one.event.node.starts_with('n') && one.event.message == "no licence" && !end.fingerprint.is_empty()
    );
    let mut ids: Vec<String> = whole.iter().map(Deliverable::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), whole.len(), "each has a name of its own");
    for limit in [1, 2, 7] {
        assert_eq!(all(&world, begin, limit), whole, "{limit} at a time");
    }
    let plain = ahead(&world, begin, 10_000, false).found;
    assert!(plain.iter().all(|it| it.end.is_none()) && plain.len() == whole.len() - 31);
    let end = whole.last().expect("much").event.revision;
    assert_eq!(all(&world, end, 10), []);
}

#[test]
fn more_in_one_revision_than_is_read_at_once_is_read_whole() {
    let mut world = World::new();
    let begin = ahead(&world, Revision(0), 10_000, true).to;
    world.submit("a", 500, |_| {});
    let granted = world.dispatch(500);
    world.end(&granted, |_| broken("no licence"));
    let whole = all(&world, begin, 3);
    assert_eq!(whole.iter().filter(|it| it.end.is_some()).count(), 500);
}

#[test]
fn what_was_dropped_before_it_was_read_is_said() {
    let mut world = World::new();
    world.submit("a", 5, |_| {});
    let granted = world.dispatch(5);
    world.end(&granted, |_| broken("no licence"));
    let end = ahead(&world, Revision(0), 10_000, true).to;
    let retention = HistorySettings { age: Span::seconds(3600), events: 2 };
    let now = world.now;
    while world.store.prune(&retention, now).expect("pruned") > 0 {}
    let late = ahead(&world, Revision(1), 10_000, false);
    assert!(late.dropped_to.is_some_and(|to| to < end) && late.found.len() == 2, "{late:?}");
    let dropped = late.dropped_to.expect("so far");
    assert_eq!(ahead(&world, dropped, 10_000, false).dropped_to, None, "who had read so far missed nothing");
    assert_eq!(ahead(&world, end, 10_000, true).dropped_to, None);
}

/// Everything, so much at a time, from the beginning or from the end.
fn history(world: &World, filter: &EventFilter, limit: usize, newest_first: bool) -> Vec<Event> {
    let (mut all, mut place) = (Vec::new(), None);
    loop {
        let reader = world.store.reader();
        let page = match newest_first {
            true => reader.tail(place, filter, limit),
            false => reader.events(place, filter, limit),
        };
        let page = page.expect("it is read");
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { break };
        place = Some(Cursor::of(last));
        all.extend(page);
    }
    if newest_first {
        all.reverse();
    }
    all
}

#[test]
fn what_became_of_subtasks_stands_among_events_whatever_is_read_at_once() {
    let mut world = World::new();
    world.submit("a", 9, |spec| (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span::seconds(60)));
    world.submit("b", 9, |_| {});
    while let granted @ [_, ..] = &world.dispatch(4)[..] {
        world.end(granted, |subtask| if subtask % 3 == 0 { broken("no licence") } else { Ending::Finished });
    }
    let subtasks = EventFilter { subtasks: true, ..EventFilter::default() };
    let whole = history(&world, &subtasks, 10_000, false);
    let places: Vec<(Revision, u32)> = whole.iter().map(|event| (event.revision, event.n)).collect();
    assert!(places.is_sorted_by(|one, next| one < next), "each has its place: {places:?}");
    for limit in [1, 2, 7, 10_000] {
        assert_eq!(history(&world, &subtasks, limit, false), whole);
        assert_eq!(history(&world, &subtasks, limit, true), whole);
    }
    for event in &whole {
        let after = |place| world.store.reader().events(Some(place), &subtasks, 10_000).expect("it is read");
        let former = Cursor { revision: event.revision, behind: Behind::Number(event.n) };
        assert_eq!(after(former), after(Cursor::of(event)), "as former versions wrote it");
    }
    let is_step = |event: &&Event| event.kind.starts_with("subtask.");
    let others: Vec<Event> = whole.iter().filter(|event| !is_step(event)).cloned().collect();
    assert_eq!(history(&world, &EventFilter::default(), 10_000, false), others);
    let of = |kind: &str| {
        let filter =
            EventFilter { kind: Some(kind.to_owned()), subject: Some("b".to_owned()), ..subtasks.clone() };
        history(&world, &filter, 3, false)
    };
    assert!(of("job.").iter().all(|event| !event.kind.starts_with("subtask.")));
    let mut failed: Vec<String> = of("subtask.failed").into_iter().map(|event| event.message).collect();
    failed.sort();
    assert_eq!(failed, [0, 3, 6].map(|n| format!("subtask {n}, attempt 1: no licence")));
    let since = EventFilter { since: Some(world.now), ..subtasks.clone() };
    assert!(history(&world, &since, 10, false).is_empty());
    let steps_of = |name: &str| -> Vec<Event> {
        let of_it = |event: &&Event| is_step(event) && event.subject == name;
        whole.iter().filter(of_it).cloned().collect()
    };
    for name in ["a", "b"] {
        let filter = EventFilter {
            kind: Some("subtask.".to_owned()),
            subject: Some(name.to_owned()),
            ..subtasks.clone()
        };
        // Numbered among themselves, so that only the order is the same.
        let plain = |events: Vec<Event>| -> Vec<Event> {
            events.into_iter().map(|event| Event { n: 0, ..event }).collect()
        };
        for (limit, newest_first) in [(1, false), (2, true), (10_000, false)] {
            let found = history(&world, &filter, limit, newest_first);
            assert_eq!(plain(found), plain(steps_of(name)), "{name}, {limit}");
        }
    }
    let early = EventFilter { since: whole.first().map(|event| event.at), ..subtasks.clone() };
    assert_eq!(history(&world, &early, 10, true), whole);
}

#[test]
fn a_page_goes_on_where_the_last_one_ended_though_a_job_was_deleted_meanwhile() {
    let mut world = World::new();
    let deleted = world.submit("a", 4, |_| {});
    world.submit("b", 4, |_| {});
    let granted = world.dispatch(4);
    let kind = Some("subtask.granted".to_owned());
    let filter = EventFilter { kind, subtasks: true, ..EventFilter::default() };
    let whole = history(&world, &filter, 10_000, false);
    let is_of = |event: &Event, name: &str| event.subject == name;
    assert!(is_of(&whole[0], "a") && whole.last().is_some_and(|last| is_of(last, "b")), "{whole:?}");
    assert!(whole.iter().all(|event| event.revision == whole[0].revision), "by one command: {whole:?}");

    let of_it: Vec<_> = granted.into_iter().filter(|(_, attempt)| attempt.job == deleted).collect();
    world.end(&of_it, |_| Ending::Finished);
    world.propose(Command::DeleteJob(deleted));
    let places = |events: &[Event]| -> Vec<StepPlace> {
        events.iter().filter(|event| is_of(event, "b")).filter_map(|event| event.step).collect()
    };
    for (place, event) in whole.iter().enumerate() {
        let (reader, cursor) = (world.store.reader(), Some(Cursor::of(event)));
        let after = reader.events(cursor, &filter, 100).expect("it is read");
        assert_eq!(places(&after), places(&whole[place + 1..]), "after {event:?}");
        let mut before = reader.tail(cursor, &filter, 100).expect("it is read");
        before.reverse();
        assert_eq!(places(&before), places(&whole[..place]), "before {event:?}");
        assert!(after.iter().chain(&before).all(|event| is_of(event, "b")));
    }
}
