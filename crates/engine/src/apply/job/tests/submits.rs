//! Submitting.

use super::*;
use crate::job::submit::{Digest, check};

fn items(count: u32) -> Vec<Item> {
    (0..count).map(|n| Item { value: Json::new(&n.into()), depends_on: vec![] }).collect()
}

fn begin(world: &World, name: &str, request: Option<&str>) -> Command {
    let mut spec = world.job_spec(name, Subtasks::Items);
    spec.request_id = request.map(RequestId::from);
    Command::BeginSubmit(BeginSubmit { spec: Arc::new(spec), most: 1_000 })
}

fn add(job: JobId, first: u32, items: &[Item]) -> Command {
    Command::AddItems(AddItems { job, first, items: Arc::new(items.to_vec()) })
}

fn commit(job: JobId, items: &[Item]) -> Command {
    let digest = Digest::default().and_all(items).value();
    Command::CommitSubmit(CommitSubmit { job, count: items.len() as u32, digest })
}

fn stands(reply: Reply) -> (JobId, u32, bool) {
    match reply {
        Reply::Submit { job, next, committed } => (job, next, committed),
        other => panic!("{other:?}"),
    }
}

fn why(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

/// J1
#[test]
fn j1_a_job_is_there_with_its_last_item_and_not_before() {
    let mut world = World::with_runners(1);
    let all = items(10);
    let asked = begin(&world, "a", None);
    let (id, ..) = stands(world.propose(asked));
    assert_eq!(stands(world.propose(add(id, 0, &all[..4]))), (id, 4, false));
    assert_eq!(stands(world.propose(add(id, 0, &all[..4]))), (id, 4, false), "again");
    assert!(world.state.jobs.is_empty() && world.grants(9).is_empty());
    assert!(why(world.propose(add(id, 5, &all[5..]))).contains("the next item of job a is 4, not 5"));
    assert!(why(world.propose(commit(id, &all))).contains("has 4 subtasks here, 10 where it comes from"));
    world.propose(add(id, 4, &all[4..]));
    assert!(why(world.propose(add(id, 4, &all[..6]))).contains("other items"));
    sound(&world);
    assert_eq!(stands(world.propose(commit(id, &all))), (id, 10, true));
    assert_eq!(stands(world.propose(commit(id, &all))), (id, 10, true), "again");
    assert_eq!(stands(world.propose(add(id, 0, &all[..4]))), (id, 10, true), "late");
    assert_eq!(counts(&world, id), [0, 10, 0, 0, 0, 0]);
    assert_eq!(world.state.jobs.submits().count(), 0);
    sound(&world);
}

/// J2
#[test]
fn j2_the_same_request_is_the_same_job() {
    let mut world = World::with_runners(1);
    let all = items(4);
    let asked = begin(&world, "a", Some("r"));
    let (id, ..) = stands(world.propose(asked.clone()));
    // Two at once go on together.
    assert_eq!(stands(world.propose(asked.clone())), (id, 0, false));
    for _ in 0..2 {
        world.propose(add(id, 0, &all[..2]));
    }
    assert_eq!(stands(world.propose(asked.clone())), (id, 2, false));
    world.propose(add(id, 2, &all[2..]));
    for _ in 0..2 {
        assert_eq!(stands(world.propose(commit(id, &all))), (id, 4, true));
    }
    world.apply_module("sleep", "2", |_| {});
    assert_eq!(stands(world.propose(asked)), (id, 4, true), "though a newer module is there");
    assert_eq!(world.state.jobs.len(), 1);

    let other = begin(&world, "b", Some("r"));
    assert!(why(world.propose(other)).contains("belongs to job a, which was submitted with other content"));
    assert!(why(world.propose(commit(id, &items(3)))).contains("other items"));
    let same_name = begin(&world, "a", None);
    assert!(why(world.propose(same_name)).contains("there is a job a already, which is running"));

    let spec = Arc::new(JobSpec { request_id: Some("r".into()), ..world.job_spec("a", Subtasks::Items) });
    let whole =
        |items: Vec<Item>| Command::Submit(SubmitAll { spec: spec.clone(), most: 9, items: Arc::new(items) });
    assert_eq!(stands(world.propose(whole(all))), (id, 4, true));
    assert!(why(world.propose(whole(items(5)))).contains("other items"));
    sound(&world);
}

#[test]
fn whether_a_job_could_be_submitted_is_known_before() {
    let mut world = World::with_runners(1);
    let of = |world: &World, name: &str, change: fn(&mut JobSpec)| {
        (*world.submit_of(name, 10, change).spec).clone()
    };
    let named = |spec: &mut JobSpec| spec.request_id = Some("r".into());
    let spec = of(&world, "a", named);
    assert_eq!(check(&world.state, &spec, 0, 10), Ok(false));
    world.submit("a", 10, named);
    assert_eq!(check(&world.state, &spec, 0, 10), Ok(true));
    let said = |spec: &JobSpec, items, most| {
        check(&world.state, spec, items, most).expect_err("it is refused").to_string()
    };
    assert!(said(&of(&world, "a", |_| {}), 0, 10).contains("there is a job a already"));
    assert!(said(&of(&world, "b", named), 0, 10).contains("belongs to job a"));
    assert!(said(&of(&world, "c", |_| {}), 0, 9).contains("a job may have 9"));
    let items = world.job_spec("c", Subtasks::Items);
    assert_eq!(check(&world.state, &items, 9, 9), Ok(false));
    assert!(
        said(&items, 10, 9).contains("Job c: subtasks: there are 10 items, and a job may have 9 subtasks")
    );
}

#[test]
fn what_cannot_be_a_job_is_refused_and_changes_nothing() {
    let mut world = World::with_runners(1);
    let item = |needs: &[u32]| Item { value: Json::default(), depends_on: needs.to_vec() };
    let of_items = |world: &World, items: Vec<Item>| {
        let spec = Arc::new(world.job_spec("a", Subtasks::Items));
        Command::Submit(SubmitAll { spec, most: 100, items: Arc::new(items) })
    };
    let array = |world: &World, count, most, change: fn(&mut JobSpec)| {
        Command::Submit(SubmitAll { most, ..world.submit_of("a", count, change) })
    };
    let large = Item { value: Json::new(&"x".repeat(2 << 20).into()), depends_on: vec![] };
    let cases = [
        (of_items(&world, vec![]), "there are no subtasks"),
        (
            of_items(&world, vec![item(&[]), item(&[2])]),
            "subtasks.items[1].depends_on: there is no subtask 2; from 0 to 1",
        ),
        (of_items(&world, vec![item(&[2]), item(&[0]), item(&[1])]), "depends on the next: 0 → 2 → 1 → 0"),
        (
            of_items(&world, vec![item(&[]), large]),
            "subtasks.items[1]: the item has 2097154 bytes, more than 524288",
        ),
        (of_items(&world, items(101)), "job a has more than 100 subtasks"),
        (
            array(&world, 10_000_000, 9_999_999, |_| {}),
            "array 0-9999999 has 10000000 subtasks, and a job may have 9999999",
        ),
        (
            array(&world, 1, 9, |spec| spec.module = ModuleRef::parse("nosuch").expect("a name")),
            "there is no module nosuch",
        ),
        (
            array(&world, 1, 9, |spec| spec.after = vec![JobName::new("b").expect("a name")]),
            "there is no job b",
        ),
        (array(&world, 1, 9, |spec| spec.after = vec![spec.name.clone()]), "a cycle: a comes after a"),
    ];
    for (command, said) in cases {
        let (before, changes) = (world.state.clone(), world.changes.len());
        let text = why(world.propose(command));
        assert!(text.contains(said), "{text}");
        assert_eq!(world.changes.len(), changes);
        assert_eq!(crate::State { revision: before.revision, ..world.state.clone() }, before);
    }
    let id = world.submit("a", 3, |_| {});
    let delete = DeleteModule {
        name: ModuleName::new("sleep").expect("a name"),
        version: ModuleVersion::new("1").expect("one"),
    };
    world.apply_bucket("/x", |_| {});
    world.submit("b", 1, |_| {});
    let text = why(world.propose(Command::DeleteModule(delete)));
    assert!(text.contains("is used by /x, job a, job b; delete these first"), "{text}");
    assert_eq!(counts(&world, id)[1], 3);
}

#[test]
fn a_submit_that_nobody_goes_on_with_is_collected() {
    let mut world = World::with_runners(1);
    let asked = begin(&world, "a", Some("r"));
    let (id, ..) = stands(world.propose(asked.clone()));
    let begun = world.now;
    world.now.0 += 1_000;
    world.propose(add(id, 0, &items(3)));
    let collect = |at| Command::CollectSubmit(CollectSubmit { job: id, at, term: Term(1) });
    assert!(why(world.propose(collect(begun))).contains("goes on"));
    let at = world.now;
    assert!(matches!(world.propose(collect(at)), Reply::Done(_)));
    assert!(why(world.propose(add(id, 3, &items(1)))).contains("there is no submit under way"));
    let (next, ..) = stands(world.propose(asked));
    assert_ne!(next, id, "it begins anew");
    sound(&world);
}
