//! What operators do.

use super::*;

fn cancel(job: JobId, subtasks: Option<Run>) -> Command {
    Command::CancelJob(CancelJob { job, subtasks: subtasks.map(Ranges::from), reason: "enough".to_owned() })
}

/// How many subtasks a verb changes, as a copy that has nothing but its job said before.
fn touched(world: &mut World, command: Command) -> u64 {
    let id = match &command {
        Command::CancelJob(CancelJob { job, .. })
        | Command::RetryJob(RetryJob { job, .. })
        | Command::ReprioritizeJob(ReprioritizeJob { job, .. }) => *job,
        other => panic!("{other:?}"),
    };
    let mut copy = world.state.with_only(id);
    let proposal =
        Proposal { actor: Actor::from("test"), at: world.now, request: None, command: command.clone() };
    let tried = crate::apply(&mut copy, world.term, &proposal, &mut Vec::new());
    let reply = world.propose(command);
    assert_eq!(tried, reply);
    sound(world);
    match reply {
        Reply::Touched(_, count) => count,
        Reply::Done(_) => 0,
        other => panic!("{other:?}"),
    }
}

fn retry(job: JobId, subtasks: Run) -> Command {
    Command::RetryJob(RetryJob { job, subtasks: subtasks.into() })
}

fn reprioritize(job: JobId, subtasks: Option<Run>, priority: u8) -> Command {
    Command::ReprioritizeJob(ReprioritizeJob { job, subtasks: subtasks.map(Ranges::from), priority })
}

/// J19
#[test]
fn j19_a_verb_says_how_many_it_changed_and_a_copy_of_the_job_says_the_same() {
    let mut world = World::with_runners(1);
    let id = world.submit_items("a", &[&[], &[0], &[1], &[], &[2, 3], &[]]);
    world.submit("follower", 1, |spec| spec.after = vec![JobName::new("a").expect("a name")]);
    let granted = world.dispatch(2);
    assert_eq!(counts(&world, id), [3, 1, 2, 0, 0, 0]);
    assert_eq!(touched(&mut world, reprioritize(id, Some(Run::new(0, 3)), 60)), 4, "what runs, too");
    assert_eq!(touched(&mut world, reprioritize(id, None, 90)), 6);
    world.finish(granted[1]);
    world.fail(granted[0]);
    assert_eq!(counts(&world, id), [0, 1, 0, 1, 1, 3]);
    assert_eq!(
        touched(&mut world, retry(id, Run::new(2, 4))),
        0,
        "1, on which they depend, is not tried again"
    );
    assert_eq!(touched(&mut world, retry(id, Run::one(0))), 4, "and what was canceled because of it");
    assert_eq!(touched(&mut world, cancel(id, Some(Run::new(1, 5)))), 4, "3 has finished");
    assert_eq!(touched(&mut world, cancel(id, None)), 1);
    assert_eq!(world.job(id).state(), JobState::Canceled);
    assert_eq!(touched(&mut world, reprioritize(id, None, 10)), 0);
    assert_eq!(world.job(id).priority, 10);
    assert_eq!(touched(&mut world, retry(id, Run::new(0, 5))), 5);
    assert_eq!(counts(&world, id), [3, 2, 0, 1, 0, 0]);
}

/// J17
#[test]
fn j17_a_canceled_job_starts_nothing_and_is_over_with_its_last_attempt() {
    let mut world = World::with_runners(2);
    let id = world.submit("a", 50_000, |spec| spec.retry.max_attempts = 5);
    let granted = world.dispatch(2);
    world.propose(cancel(id, None));
    assert_eq!(world.dispatch(9), []);
    assert_eq!((world.job(id).state(), counts(&world, id)), (JobState::Running, [0, 0, 4, 0, 0, 49_996]));
    assert!(matches!(world.propose(cancel(id, None)), Reply::Unchanged(_)));
    let again = world.propose(retry(id, Run::new(0, 49_999)));
    assert!(matches!(again, Reply::Refused(Refusal::Precondition(_))), "{again:?}");
    world.finish(granted[0]);
    world.fail(granted[1]);
    assert_eq!(world.end(granted[2].0, granted[2].1, Ending::Canceled), Reply::Recorded(vec![]));
    assert_eq!(world.job(id).state(), JobState::Running);
    world.set_status(granted[3].0, NodeStatus::Lost);
    assert_eq!((world.job(id).state(), counts(&world, id)), (JobState::Canceled, [0, 0, 0, 1, 0, 49_999]));
    assert_eq!(world.job(id).canceled.as_deref(), Some("enough"));
    sound(&world);
}

#[test]
fn some_subtasks_are_canceled_and_the_others_go_on() {
    let mut world = World::with_runners(1);
    let id = world.submit_items("a", &[&[], &[], &[1], &[]]);
    let granted = world.dispatch(1);
    assert!(matches!(world.propose(cancel(id, Some(Run::new(0, 1)))), Reply::Touched(_, 2)));
    assert_eq!(counts(&world, id), [0, 1, 1, 0, 0, 2]);
    assert!(world.job(id).progress.running()[&0].stopping);
    world.end(1, granted[0].1, Ending::Canceled);
    let last = world.dispatch(1);
    assert_eq!(last[0].1.subtask, 3);
    world.finish(last[0]);
    assert_eq!(world.job(id).state(), JobState::Failed, "2 was canceled because of 1");
    assert_eq!(touched(&mut world, retry(id, Run::one(2))), 0);
    assert_eq!(counts(&world, id), [0, 0, 0, 1, 0, 3], "1 is not tried again, so 2 cannot be");
    sound(&world);
}

#[test]
fn a_paused_job_starts_nothing_and_what_runs_goes_on() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 2, |_| {});
    let granted = world.dispatch(1);
    let grants = world.grants(1);
    world.propose(Command::PauseJob(id));
    assert!(matches!(world.propose(Command::PauseJob(id)), Reply::Unchanged(_)));
    let late = Command::Grant(GrantAll { term: Term(1), grants });
    assert!(matches!(world.propose(late), Reply::Refused(Refusal::Stale(_))));
    assert_eq!((world.job(id).state(), world.dispatch(1)), (JobState::Paused, vec![]));
    world.finish(granted[0]);
    assert_eq!(counts(&world, id), [0, 1, 0, 1, 0, 0]);
    world.propose(Command::ResumeJob(id));
    let granted = world.dispatch(1);
    world.finish(granted[0]);
    assert_eq!(world.job(id).state(), JobState::Finished);
    assert!(matches!(world.propose(Command::PauseJob(id)), Reply::Refused(Refusal::Precondition(_))));
    sound(&world);
}

/// J19
#[test]
fn j19_what_failed_is_tried_again_with_all_its_attempts_and_new_numbers() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 4, |spec| (spec.retry.max_attempts, spec.retry.backoff_min) = (2, Span(0)));
    for _ in 0..2 {
        let granted = world.dispatch(9);
        granted.into_iter().for_each(|it| if it.1.subtask < 3 { world.fail(it) } else { world.finish(it) });
        let at = Timestamp(world.now.0 + 10);
        world.propose(Command::WakeSubtasks(WakeSubtasks { until: at, term: Term(1) }));
    }
    assert_eq!((world.job(id).state(), counts(&world, id)), (JobState::Failed, [0, 0, 0, 1, 3, 0]));
    let subtasks: Ranges = [1, 2, 3, 99].into_iter().collect();
    let retry = Command::RetryJob(RetryJob { job: id, subtasks });
    assert!(matches!(world.propose(retry.clone()), Reply::Touched(_, 2)), "3 has finished");
    assert!(matches!(world.propose(retry), Reply::Touched(_, 0)));
    assert_eq!((world.job(id).state(), world.job(id).ended_at), (JobState::Running, None));
    for number in [3, 4] {
        let granted = world.dispatch(9);
        assert_eq!(
            granted.iter().map(|it| (it.1.subtask, it.1.number)).collect::<Vec<_>>(),
            [(1, number), (2, number)]
        );
        granted.into_iter().for_each(|it| world.fail(it));
        let at = Timestamp(world.now.0 + 10);
        world.propose(Command::WakeSubtasks(WakeSubtasks { until: at, term: Term(1) }));
    }
    assert_eq!(counts(&world, id), [0, 0, 0, 1, 3, 0]);
    sound(&world);
}

#[test]
fn a_priority_takes_effect_on_what_waits() {
    let mut world = World::with_runners(1);
    let first = world.submit("a", 4, |_| {});
    let second = world.submit("b", 4, |_| {});
    world.propose(reprioritize(second, Some(Run::new(2, 3)), 60));
    world.propose(reprioritize(first, Some(Run::one(3)), 40));
    let order = world.dispatch(8);
    let order: Vec<(JobId, u32)> = order.iter().map(|(_, it)| (it.job, it.subtask)).collect();
    assert_eq!(
        order,
        [(second, 2), (second, 3), (first, 0), (first, 1), (first, 2), (second, 0), (second, 1), (first, 3)]
    );
    assert!(matches!(
        world.propose(reprioritize(first, None, 101)),
        Reply::Refused(Refusal::Precondition(_))
    ));
    world.propose(reprioritize(first, None, 90));
    assert_eq!((world.job(first).priority, world.job(first).progress.own_priority(3)), (90, None));
    sound(&world);
}

#[test]
fn only_a_job_that_is_over_is_deleted() {
    let mut world = World::with_runners(1);
    let id = world.submit("a", 1, |spec| spec.request_id = Some("r".into()));
    assert!(matches!(world.propose(Command::DeleteJob(id)), Reply::Refused(Refusal::Precondition(_))));
    let granted = world.dispatch(1);
    world.finish(granted[0]);
    assert!(matches!(world.propose(Command::DeleteJob(id)), Reply::Done(_)));
    assert!(world.state.jobs.is_empty() && world.state.jobs.requested(&"r".into()).is_none());
    assert!(matches!(world.propose(Command::DeleteJob(id)), Reply::Refused(Refusal::NotFound(..))));
    world.submit("a", 1, |_| {});
    sound(&world);
}
