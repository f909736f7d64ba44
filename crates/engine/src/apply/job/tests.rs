use std::sync::Arc;

use sheaf_model::*;

use crate::command::*;
use crate::invariants;
use crate::job::progress::Place;
use crate::testing::{World, failure};

mod properties;
mod submits;
mod verbs;

fn sound(world: &World) {
    assert_eq!(invariants::check(&world.state), Vec::<String>::new());
}

fn counts(world: &World, id: JobId) -> [u64; 6] {
    let counts = world.job(id).counts();
    [counts.waiting, counts.ready, counts.running, counts.finished, counts.failed, counts.canceled]
}

/// J3, J4, J5
#[test]
fn j3_j4_j5_a_job_runs_until_the_last_subtask_has_ended() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 2, |_| {});
    let granted = world.dispatch(2);
    world.finish(granted[0]);
    assert_eq!((world.job(id).state(), world.job(id).counts().progress()), (JobState::Running, 50));
    world.finish(granted[1]);
    assert_eq!((world.job(id).state(), world.job(id).counts().progress()), (JobState::Finished, 100));
    assert_eq!(world.job(id).ended_at, Some(world.now));

    let id = world.submit("b", 2, |_| {});
    let granted = world.dispatch(2);
    world.fail(granted[0]);
    assert_eq!(world.job(id).state(), JobState::Running);
    world.finish(granted[1]);
    assert_eq!(world.job(id).state(), JobState::Failed);
    assert_eq!(
        world.job_events(),
        [
            "job.submitted a: 2 subtasks",
            "job.started a: its first attempt is granted",
            "job.finished a: 2 finished, 0 failed, 0 canceled",
            "job.submitted b: 2 subtasks",
            "job.started b: its first attempt is granted",
            "job.failed b: 1 finished, 1 failed, 0 canceled"
        ]
    );
    sound(&world);
}

/// J8
#[test]
fn j8_what_depends_on_two_waits_for_both_and_runs_once() {
    let mut world = World::with_runners(1);
    let id = world.submit_items("a", &[&[], &[], &[0, 1]]);
    assert_eq!(counts(&world, id), [1, 2, 0, 0, 0, 0]);
    let granted = world.dispatch(9);
    world.finish(granted[0]);
    assert_eq!((world.job(id).progress.blocked(2), world.dispatch(9)), (1, vec![]));
    world.finish(granted[1]);
    let last = world.dispatch(9);
    assert_eq!(last.iter().map(|(_, it)| it.subtask).collect::<Vec<_>>(), [2]);
    assert_eq!(world.dispatch(9), []);
    world.finish(last[0]);
    assert_eq!(world.job(id).state(), JobState::Finished);
    sound(&world);
}

/// J9
#[test]
fn j9_what_depends_on_a_failure_is_canceled_and_what_depends_on_that() {
    let mut world = World::with_runners(1);
    let id = world.submit_items("a", &[&[], &[0], &[1], &[], &[2, 3]]);
    let granted = world.dispatch(9);
    world.fail(granted[0]);
    assert_eq!(counts(&world, id), [0, 0, 1, 0, 1, 3]);
    world.finish(granted[1]);
    assert_eq!(world.job(id).state(), JobState::Failed);
    sound(&world);

    // Tried again, it takes along what was canceled because of it.
    let retry = RetryJob { job: id, subtasks: Ranges::from(Run::one(0)) };
    assert!(matches!(world.propose(Command::RetryJob(retry)), Reply::Touched(_, 4)));
    assert_eq!(counts(&world, id), [3, 1, 0, 1, 0, 0]);
    for subtask in [0, 1, 2, 4] {
        let granted = world.dispatch(9);
        assert_eq!(granted.iter().map(|(_, it)| it.subtask).collect::<Vec<_>>(), [subtask]);
        world.finish(granted[0]);
    }
    assert_eq!(world.job(id).state(), JobState::Finished);
    sound(&world);
}

/// J10
#[test]
fn j10_a_diamond_runs_in_order() {
    let mut world = World::with_runners(1);
    let middle = 10_000_u32;
    let all: Vec<u32> = (1..=middle).collect();
    let mut needs: Vec<&[u32]> = vec![&[]];
    needs.extend((0..middle).map(|_| &[0_u32][..]));
    needs.push(&all);
    let spec = Arc::new(world.job_spec("a", Subtasks::Items));
    let item = |needs: &&[u32]| Item { value: Json::default(), depends_on: needs.to_vec() };
    let items = Arc::new(needs.iter().map(item).collect());
    let id = world.submitted(Command::Submit(SubmitAll { spec, most: 20_000, items }));
    for width in [1, middle, 1] {
        let granted = world.dispatch(u32::MAX);
        assert_eq!(granted.len(), width as usize);
        granted.into_iter().for_each(|it| world.finish(it));
    }
    assert_eq!(world.job(id).state(), JobState::Finished);
}

/// J11
#[test]
fn j11_what_fails_waits_and_is_tried_again_until_its_attempts_are_used_up() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 1, |spec| {
        spec.retry.max_attempts = 3;
        (spec.retry.backoff_min, spec.retry.backoff_max) = (Span::seconds(1), Span::seconds(5));
    });
    for (number, least) in [(1, 1_000), (2, 2_000)] {
        let granted = world.dispatch(1);
        assert_eq!(granted[0].1.number, number);
        world.fail(granted[0]);
        assert_eq!(counts(&world, id), [1, 0, 0, 0, 0, 0]);
        let until = world.job(id).progress.delayed(0).expect("it waits");
        assert!((least..=least * 11 / 10).contains(&(until.0 - world.now.0)));
        assert_eq!(world.dispatch(1), []);
        let wake = |until| Command::WakeSubtasks(WakeSubtasks { until, term: Term(1) });
        assert!(matches!(world.propose(wake(Timestamp(until.0 - 1))), Reply::Refused(Refusal::Stale(_))));
        world.now = until;
        assert!(matches!(world.propose(wake(until)), Reply::Touched(_, 1)));
    }
    let granted = world.dispatch(1);
    world.fail(granted[0]);
    assert_eq!((world.job(id).state(), world.job(id).progress.tries(0).given), (JobState::Failed, 3));
    assert_eq!(world.job(id).failures, [3, 0, 0, 0, 0]);
    sound(&world);
}

/// J12, J13
#[test]
fn j12_j13_what_ran_on_a_lost_node_runs_elsewhere_unless_it_may_not_be_tried_again() {
    let mut world = World::with_runners(2);
    let once = world.submit("once", 1, |_| {});
    let often = world.submit("often", 1, |spec| {
        (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span(0));
    });
    let never = world.submit("never", 1, |spec| {
        (spec.retry.max_attempts, spec.retry.retry_on) = (9, [FailureClass::Exit].into());
    });
    let granted = world.dispatch(9);
    let node = granted[0].0;
    let there: Vec<JobId> = granted.iter().filter(|it| it.0 == node).map(|it| it.1.job).collect();
    assert_eq!(there, [once, often, never], "one node has room for all");
    world.set_status(node, NodeStatus::Lost);
    assert_eq!(world.state.jobs.on_node(NodeId(node)), 0);
    assert_eq!(world.job(once).state(), JobState::Failed);
    assert_eq!(world.job(once).failures, [0, 1, 0, 0, 0], "counted as lost");
    assert_eq!(world.job(never).state(), JobState::Failed);
    let at = world.now;
    world.propose(Command::WakeSubtasks(WakeSubtasks { until: at, term: Term(1) }));
    let elsewhere = world.dispatch(9);
    assert_eq!(elsewhere.len(), 1);
    assert_eq!((elsewhere[0].0 == node, elsewhere[0].1.number), (false, 2));
    let late = world.end(node, granted[1].1, Ending::Finished);
    assert_eq!(late, Reply::Recorded(vec![granted[1].1]), "no result of the lost one counts");
    world.finish(elsewhere[0]);
    assert_eq!(world.job(often).state(), JobState::Finished);
    sound(&world);
}

/// J14
#[test]
fn j14_a_report_of_an_old_attempt_is_stale_and_noted() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 1, |spec| (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span(0)));
    let first = world.dispatch(1)[0];
    world.fail(first);
    let at = world.now;
    world.propose(Command::WakeSubtasks(WakeSubtasks { until: at, term: Term(1) }));
    let second = world.dispatch(1)[0];
    let before = world.job(id).clone();
    assert_eq!(world.end(1, first.1, Ending::Finished), Reply::Recorded(vec![first.1]));
    let last = world.changes.last().expect("noted");
    let crate::Change::Transitions(noted) = last else { panic!("{last:?}") };
    assert_eq!((noted.steps[0].what, noted.steps[0].attempt), (crate::job::step::What::Stale, 1));
    assert_eq!(noted.details[0].message, "finished");
    assert_eq!(world.job(id).progress, before.progress);
    assert_eq!(
        world.end(2, second.1, Ending::Finished),
        Reply::Refused(Refusal::NotFound("node".into(), "2".into()))
    );
    world.finish(second);
    assert_eq!(world.end(1, second.1, Ending::Finished), Reply::Recorded(vec![second.1]), "once");
    let unknown = Attempt { job: JobId(4711), subtask: 7, number: 1 };
    assert_eq!(world.end(1, unknown, Ending::Finished), Reply::Recorded(vec![unknown]));
    assert_eq!(world.job(id).state(), JobState::Finished);
}

/// J21
#[test]
fn j21_what_is_handed_back_is_no_attempt_lost() {
    let mut world = World::with_runners(2);
    let id = world.submit("a", 2, |_| {});
    let granted = world.dispatch(2);
    for (node, attempt) in granted {
        assert_eq!(world.end(node, attempt, Ending::HandedBack), Reply::Recorded(vec![]));
    }
    assert_eq!(counts(&world, id), [0, 2, 0, 0, 0, 0]);
    let again = world.dispatch(2);
    assert!(again.iter().all(|(_, attempt)| attempt.number == 2), "no number twice");
    again.into_iter().for_each(|it| world.finish(it));
    assert_eq!((world.job(id).state(), world.job(id).failures), (JobState::Finished, [0; 5]));
    sound(&world);
}

#[test]
fn what_a_former_life_of_an_agent_ran_is_lost() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 3, |spec| spec.retry.max_attempts = 2);
    let grants = world.grants(2);
    let granted = world.dispatch(2);
    world.take_up(1, "next life");
    assert_eq!(counts(&world, id), [2, 1, 0, 0, 0, 0]);
    assert_eq!(world.job(id).failures, [0, 2, 0, 0, 0]);
    let old = Command::Grant(GrantAll { term: Term(1), grants });
    assert!(matches!(world.propose(old), Reply::Refused(Refusal::Stale(_))), "for the former life");
    assert_eq!(world.end(1, granted[0].1, Ending::Finished), Reply::Recorded(vec![granted[0].1]));
    let late = Command::Grant(GrantAll { term: Term(7), grants: world.grants(1) });
    assert!(matches!(world.propose(late), Reply::Refused(Refusal::Stale(_))), "of another term");
    sound(&world);
}

/// J24
#[test]
fn j24_never_more_than_max_running_also_if_the_leader_decides_twice() {
    let mut world = World::with_runners(3);
    let id = world.submit("a", 100, |spec| spec.max_running = Some(5));
    let grants = world.grants(9);
    let all = Command::Grant(GrantAll { term: Term(1), grants: grants.clone() });
    assert!(matches!(world.propose(all.clone()), Reply::Touched(_, 5)));
    assert!(matches!(world.propose(all), Reply::Refused(Refusal::Stale(_))));
    let many = Grant { subtasks: vec![(Run::new(0, 99), 1)], ..grants[0].clone() };
    let many = Command::Grant(GrantAll { term: Term(1), grants: vec![many] });
    assert!(matches!(world.propose(many), Reply::Refused(Refusal::Stale(_))));
    assert_eq!((world.grants(9).len(), counts(&world, id)[2]), (0, 5));
    let of_one =
        world.job(id).progress.running().iter().next().map(|(subtask, it)| (*subtask, *it)).expect("one");
    let attempt = Attempt { job: id, subtask: of_one.0, number: 1 };
    world.finish((of_one.1.node.0, attempt));
    assert_eq!(world.dispatch(9).len(), 1);
    sound(&world);
}

/// J25
#[test]
fn j25_a_timeout_is_a_class_of_its_own() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 2, |spec| {
        (spec.retry.max_attempts, spec.retry.retry_on) = (2, [FailureClass::Timeout].into());
    });
    let granted = world.dispatch(2);
    for ((node, attempt), class) in granted.into_iter().zip([FailureClass::Timeout, FailureClass::Exit]) {
        world.end(node, attempt, Ending::Failed(failure(class, "over")));
    }
    assert_eq!(counts(&world, id), [1, 0, 0, 0, 1, 0]);
    assert_eq!(world.job(id).failures, [1, 0, 1, 0, 0]);
}

#[test]
fn subtasks_are_found_by_state_and_number_in_order() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 1_000, |_| {});
    let granted = world.dispatch(6);
    granted.into_iter().for_each(|it| if it.1.subtask % 2 == 0 { world.fail(it) } else { world.finish(it) });
    let some: Ranges = [1, 2, 3, 4, 5, 9, 700].into_iter().collect();
    let of = |within, states: &[SubtaskState], among: Option<&Ranges>| -> Vec<u32> {
        world.job(id).subtasks(within, states, among).take(5).map(|(subtask, _)| subtask).collect()
    };
    let (all, failed) = (Run::new(0, 999), [SubtaskState::Failed]);
    assert_eq!(of(all, &[], None), [0, 1, 2, 3, 4]);
    assert_eq!(of(all, &failed, None), [0, 2, 4]);
    assert_eq!(of(Run::new(1, 999), &failed, Some(&some)), [2, 4]);
    assert_eq!(of(all, &[SubtaskState::Ready, SubtaskState::Finished], Some(&some)), [1, 3, 5, 9, 700]);
    assert!(of(Run::new(701, 999), &[], Some(&some)).is_empty());
}

/// J26
#[test]
fn j26_a_job_after_one_that_fails_is_canceled_with_the_reason() {
    let mut world = World::with_runners(1);
    let after = |name: &'static str| {
        move |spec: &mut JobSpec| spec.after = vec![JobName::new(name).expect("a job's name")]
    };
    let first = world.submit("a", 1, |_| {});
    let second = world.submit("b", 3, after("a"));
    let third = world.submit("c", 3, after("b"));
    assert_eq!(counts(&world, second), [3, 0, 0, 0, 0, 0]);
    let in_state = |state| world.job(second).in_state(state).to_string();
    assert_eq!([SubtaskState::Waiting, SubtaskState::Ready].map(in_state), ["0-2", ""]);
    let granted = world.dispatch(9);
    assert_eq!(granted.len(), 1);
    world.fail(granted[0]);
    assert_eq!(world.job(first).state(), JobState::Failed);
    for (id, reason) in [
        (second, "job a, which it comes after, failed"),
        (third, "job b, which it comes after, was canceled"),
    ] {
        assert_eq!(world.job(id).state(), JobState::Canceled);
        assert_eq!(world.job(id).canceled.as_deref(), Some(reason));
    }
    let late = world.submit("d", 1, after("a"));
    assert_eq!(world.job(late).state(), JobState::Canceled);
    sound(&world);

    let ids = [world.submit("e", 1, |_| {}), world.submit("f", 1, after("e"))];
    for id in ids {
        let granted = world.dispatch(9);
        assert_eq!(granted.iter().map(|(_, it)| it.job).collect::<Vec<_>>(), [id]);
        world.finish(granted[0]);
    }
    sound(&world);
}

/// J20, as far as memory goes.
#[test]
fn j20_a_million_subtasks_are_a_few_runs() {
    let mut world = World::with_runners(20);
    let id = world.submit("a", 1_000_000, |_| {});
    assert_eq!(world.job(id).progress.runs(), 1);
    for _ in 0..3 {
        let granted = world.dispatch(100);
        assert_eq!(granted.len(), 2_000);
        let mut results = std::collections::BTreeMap::<u64, Vec<AttemptEnd>>::new();
        for (node, attempt) in granted {
            let ending = Ending::Finished;
            let (started_at, took) = (world.now, Span(1));
            let end =
                AttemptEnd { subtask: attempt.subtask, attempt: attempt.number, started_at, took, ending };
            results.entry(node).or_default().push(end);
        }
        for (node, ends) in results {
            let record = RecordResults { node: NodeId(node), results: vec![(id, ends)] };
            assert_eq!(world.propose(Command::RecordResults(record)), Reply::Recorded(vec![]));
        }
    }
    assert_eq!((world.job(id).progress.runs(), counts(&world, id)[3]), (2, 6_000));
    assert_eq!(world.job(id).progress.count(Place::Finished), 6_000);
}
