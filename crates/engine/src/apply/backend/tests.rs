use std::sync::Arc;

use sheaf_model::*;

use super::check;
use crate::Change;
use crate::command::{Command, Reply};
use crate::dispatch::{self, Offer, Room};
use crate::testing::World;

fn name() -> BackendName {
    BackendName::new("vito").unwrap()
}

fn put(world: &mut World, change: impl FnOnce(&mut BackendSpec)) -> Reply {
    let mut spec = BackendSpec::new(name());
    spec.breaker = Breaker { failures: 2, pause_min: Span::seconds(10), pause_max: Span::seconds(25) };
    change(&mut spec);
    world.propose(Command::PutBackend(Arc::new(spec)))
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

fn events(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    for change in &world.changes {
        if let Change::Event(event) = change
            && event.kind.starts_with("backend.")
        {
            all.push(event.kind.clone());
        }
    }
    all
}

/// Grants so many through the backend, on node 1.
fn granted(world: &mut World, most: u32) -> Vec<Attempt> {
    let room = Room { incarnation: "life".into(), slots: 100, idle: 100, spare: Span(0) };
    let (nodes, backends) = ([(NodeId(1), room)].into(), [(name(), most)].into());
    let offer = Offer { nodes, may_run: &|_, _| true, takes: &|_, _| Span(1), backends, most: 100 };
    let grants = dispatch::grant(&world.state, offer);
    let term = world.term;
    world.propose(Command::Grant(crate::command::GrantAll { term, grants: grants.clone() }));
    let all = grants.iter().flat_map(|grant| {
        let runs = grant.subtasks.iter();
        runs.flat_map(|(run, number)| {
            run.numbers()
                .map(|subtask| Attempt { job: grant.job, subtask, number: *number })
                .collect::<Vec<_>>()
        })
    });
    all.collect()
}

fn fail(class: FailureClass) -> Ending {
    Ending::Failed(Failure { class, exit: None, message: "status 503\n".to_owned() })
}

#[test]
fn whether_a_backend_could_be_registered_is_known_before() {
    let mut world = World::with_runners(1);
    let spec = BackendSpec::new(name());
    assert_eq!(check(&world.state, &spec), Ok(None));
    let revision = match world.propose(Command::PutBackend(Arc::new(spec.clone()))) {
        Reply::Done(revision) => revision,
        other => panic!("{other:?}"),
    };
    assert_eq!(check(&world.state, &spec), Ok(Some(revision)));
    assert_eq!(check(&world.state, &BackendSpec { max_running: Some(1), ..spec }), Ok(None));
}

#[test]
fn a_backend_in_use_stays_and_what_changes_keeps_how_it_stands() {
    let mut world = World::with_runners(1);
    assert!(matches!(put(&mut world, |_| {}), Reply::Done(_)));
    assert!(matches!(put(&mut world, |_| {}), Reply::Unchanged(_)));
    let job = world.submit("ndvi", 3, |spec| spec.backends = vec![name()]);
    let text = refusal(world.propose(Command::DeleteBackend(name())));
    assert!(text.contains("backend vito is used by jobs that are not over: ndvi"), "{text}");
    assert!(matches!(put(&mut world, |spec| spec.max_running = Some(1)), Reply::Done(_)));
    world.propose(Command::CancelJob(crate::command::CancelJob {
        job,
        subtasks: None,
        reason: String::new(),
    }));
    assert!(matches!(world.propose(Command::DeleteBackend(name())), Reply::Done(_)));
    let text = refusal(world.propose(Command::DeleteBackend(name())));
    assert!(text.contains("backend") && text.contains("vito"), "{text}");
    assert_eq!(events(&world), ["backend.created", "backend.changed", "backend.deleted"]);
}

#[test]
fn a_backend_that_a_submit_under_way_names_stays() {
    let mut world = World::with_runners(1);
    put(&mut world, |_| {});
    let mut spec = world.job_spec("ndvi", Subtasks::Items);
    spec.backends = vec![name()];
    world.propose(Command::BeginSubmit(crate::command::BeginSubmit { spec: Arc::new(spec), most: 100 }));
    let text = refusal(world.propose(Command::DeleteBackend(name())));
    assert!(text.contains("ndvi"), "{text}");
}

#[test]
fn a_breaker_opens_after_failures_in_a_row_longer_each_time_and_closes_with_a_success() {
    let mut world = World::with_runners(1);
    put(&mut world, |_| {});
    world.submit("ndvi", 50, |spec| {
        spec.backends = vec![name()];
        spec.retry.max_attempts = 1;
    });
    let mut attempts = granted(&mut world, 10).into_iter();
    let mut end = |world: &mut World, ending| world.end(1, attempts.next().unwrap(), ending);
    end(&mut world, fail(FailureClass::Backend));
    end(&mut world, fail(FailureClass::Exit));
    end(&mut world, Ending::Finished);
    end(&mut world, fail(FailureClass::Backend));
    assert!(world.state.backends[&name()].opened.is_none(), "not in a row");
    end(&mut world, fail(FailureClass::Backend));
    let until =
        |world: &World| world.state.backends[&name()].opened.as_ref().map(|it| it.until.0 - world.now.0);
    assert_eq!(until(&world), Some(10_000));
    end(&mut world, fail(FailureClass::Backend));
    assert_eq!(until(&world), Some(10_000), "sent before it opened");
    end(&mut world, Ending::Finished);
    assert_eq!(until(&world), Some(10_000), "a success of then closes nothing either");
    for pause in [20_000, 25_000] {
        world.now.0 += 60_000;
        assert_eq!(world.state.backends[&name()].room(0, 9, world.now), 1);
        end(&mut world, fail(FailureClass::Backend));
        assert_eq!(until(&world), Some(pause));
    }
    world.now.0 += 60_000;
    end(&mut world, Ending::Finished);
    assert_eq!(world.state.backends[&name()].room(0, 9, world.now), 9);
    let told = ["backend.created", "backend.opened", "backend.opened", "backend.opened", "backend.closed"];
    assert_eq!(events(&world), told);
}

/// O5
#[test]
fn o5_a_backend_that_asks_for_a_pause_has_it_and_then_takes_as_many_as_ever() {
    let mut world = World::with_runners(1);
    put(&mut world, |spec| spec.max_running = Some(2));
    let id = world.submit("ndvi", 5, |spec| spec.backends = vec![name()]);
    let attempts = granted(&mut world, 2);
    for attempt in attempts {
        world.end(1, attempt, Ending::NotNow(Span::seconds(9), "status 429".to_owned()));
    }
    let backend = world.state.backends[&name()].clone();
    assert_eq!((backend.failures, backend.room(0, 9, world.now)), (0, 0));
    let why = backend.why_not(0, 9, world.now).expect("it takes none");
    assert!(why.contains("backend vito asks to be left alone until") && why.contains("status 429"), "{why}");
    world.now.0 += 10_000;
    assert_eq!(backend.room(0, 9, world.now), 2, "not one at a time");
    assert_eq!((world.job(id).failures, world.job(id).counts().ready), ([0; 5], 5), "it does not count");
    let again = granted(&mut world, 1).remove(0);
    world.end(1, again, fail(FailureClass::Refused));
    assert_eq!(world.job(id).counts().failed, 1, "whatever max_attempts says");
    assert!(world.state.backends[&name()].opened.is_none(), "it answers");
    assert_eq!(events(&world), ["backend.created", "backend.paused", "backend.closed"]);
}
