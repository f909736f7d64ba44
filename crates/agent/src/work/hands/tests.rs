use sheaf_model::Json;

use super::*;

/// A clock that is moved by hand.
fn clock() -> impl Fn(u64) -> Now {
    let begin = Instant::now();
    move |millis| Now { at: begin + Duration::from_millis(millis), wall: Timestamp(1_000 + millis) }
}

fn hands(at_once: usize, timeout: Option<u64>) -> Hands {
    Hands::new(Terms {
        at_once,
        timeout: timeout.map(Duration::from_millis),
        grace: Duration::from_millis(500),
    })
}

fn subtasks(numbers: std::ops::Range<u32>) -> Vec<OrderedSubtask> {
    let item = |subtask: u32| Json::new(&subtask.into());
    numbers
        .map(|subtask| OrderedSubtask { subtask, attempt: 1, backend: None, item: item(subtask) })
        .collect()
}

use SubtaskResult::{Finished, NotBegun, Stopped};

#[test]
fn the_next_of_a_bundle_begins_when_the_one_before_is_answered() {
    let at = clock();
    let mut hands = hands(2, Some(100));
    let given = hands.take(subtasks(0..3), at(0));
    assert_eq!(given.iter().map(|it| (it.id, it.number)).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 2)]);
    assert!(hands.has_room() && hands.bundles() == 1);
    assert_eq!(hands.due(), Some(at(100).at), "of what has begun");
    let over = hands.ended(0, Finished, at(70)).unwrap();
    assert_eq!((over.subtask.subtask, over.begun), (0, Some(at(0))));
    assert_eq!(hands.due(), Some(at(170).at));
    assert_eq!(hands.ended(1, Finished, at(90)).unwrap().begun, Some(at(70)));
    // What the process leaves behind tells what had begun.
    hands.take(subtasks(3..5), at(95));
    assert!(!hands.has_room());
    let left: Vec<_> = hands.drain().into_iter().map(|it| (it.subtask.subtask, it.begun)).collect();
    assert_eq!(left, [(2, Some(at(90))), (3, Some(at(95))), (4, None)]);
    assert_eq!(hands.bundles(), 0);
}

#[test]
fn bundles_grow_as_subtasks_are_quick() {
    let at = clock();
    let mut hands = hands(1, None);
    assert_eq!(hands.bundle_size(), 1, "nothing is known yet");
    hands.take(subtasks(0..1), at(0));
    hands.ended(0, Finished, at(1000)).unwrap();
    assert_eq!(hands.bundle_size(), 1);
    for id in 1..30 {
        hands.take(subtasks(0..1), at(2000));
        hands.ended(id, Finished, at(2002)).unwrap();
    }
    assert!((9..=10).contains(&hands.bundle_size()), "{}", hands.bundle_size());
    for id in 30..90 {
        hands.take(subtasks(0..1), at(3000));
        hands.ended(id, Finished, at(3000)).unwrap();
    }
    assert_eq!(hands.bundle_size(), BUNDLE_MAX);
}

#[test]
fn what_makes_no_sense_is_told_apart() {
    let at = clock();
    let mut hands = hands(1, None);
    hands.take(subtasks(0..2), at(0));
    assert_eq!(hands.ended(2, Finished, at(1)), Err(Strange::NeverGiven(2)));
    assert_eq!(hands.ended(1, NotBegun, at(1)), Err(Strange::NotAsked(1)));
    assert_eq!(hands.ended(0, Stopped, at(1)), Err(Strange::NotAsked(0)));
    hands.ended(0, Finished, at(1)).unwrap();
    assert_eq!(hands.ended(0, Finished, at(1)), Err(Strange::Twice(0)));
    assert_eq!(hands.drain().len(), 1, "none of that changed anything");
}

#[test]
fn what_waits_behind_a_long_one_is_wanted_back() {
    let at = clock();
    let mut hands = hands(1, None);
    hands.take(subtasks(0..3), at(0));
    assert_eq!(hands.due(), Some(at(1000).at));
    assert_eq!(hands.tick(at(999)), Due::default());
    assert_eq!(hands.tick(at(1000)), Due { stop: vec![1, 2], disobeyed: false });
    assert_eq!((hands.tick(at(99_000)), hands.due()), (Due::default(), None), "it is no order");
    let over = hands.ended(1, NotBegun, at(1010)).unwrap();
    assert_eq!((over.begun, over.why), (None, Some(Why::Back)));
    // The other one is canceled meanwhile: that is one.
    assert_eq!(hands.cancel(|it| it.subtask == 2, at(1020)), [2]);
    assert_eq!(hands.cancel(|it| it.subtask == 2, at(1030)), [] as [u64; 0]);
    assert_eq!(hands.due(), Some(at(1520).at));
    assert_eq!(hands.ended(2, NotBegun, at(1040)).unwrap().why, Some(Why::Canceled));
    assert_eq!(hands.due(), None);
}

#[test]
fn what_takes_too_long_is_stopped_and_must_obey() {
    let at = clock();
    let mut hands = hands(2, Some(100));
    hands.take(subtasks(0..1), at(0));
    hands.take(subtasks(1..2), at(50));
    assert_eq!(hands.tick(at(100)), Due { stop: vec![0], disobeyed: false });
    assert_eq!(hands.tick(at(110)), Due::default(), "asked once");
    assert_eq!(hands.due(), Some(at(150).at));
    assert_eq!(hands.tick(at(150)).stop, [1]);
    let over = hands.ended(1, Stopped, at(160)).unwrap();
    assert_eq!((over.why, over.begun), (Some(Why::TimedOut), Some(at(50))));
    assert_eq!(hands.due(), Some(at(600).at));
    assert!(hands.tick(at(600)).disobeyed);
}

#[test]
fn what_has_not_begun_is_wanted_back_once_when_it_is_asked_for() {
    let at = clock();
    let mut hands = hands(2, None);
    hands.take(subtasks(0..3), at(0));
    hands.take(subtasks(3..4), at(0));
    assert_eq!(hands.break_up(), [1, 2], "of each bundle the first has begun");
    assert_eq!((hands.break_up(), hands.due()), (Vec::new(), None));
    let back = hands.ended(1, NotBegun, at(10)).unwrap();
    assert_eq!((back.subtask.subtask, back.why, back.begun), (1, Some(Why::Back), None));
    assert_eq!(hands.ended(0, Finished, at(20)).unwrap().why, None);
}
