use std::cmp::Reverse;

use sheaf_model::*;

use super::*;
use crate::command::{CancelJob, Command, ReprioritizeJob};
use crate::testing::World;

/// So many begin there at once, and nothing lies ready.
fn idle(idle: u32) -> Room {
    Room { incarnation: "life".into(), slots: u32::MAX, idle, spare: Span(0) }
}

fn order(grants: &[Grant]) -> Vec<(JobId, u32)> {
    let runs = grants.iter().flat_map(|grant| grant.subtasks.iter().map(|(run, _)| (grant.job, *run)));
    runs.flat_map(|(job, run)| run.numbers().map(move |subtask| (job, subtask))).collect()
}

/// J6
#[test]
fn j6_the_higher_priority_is_next_whatever_is_queued() {
    let mut world = World::with_runners(1);
    world.submit("low", 60_000, |spec| spec.priority = 10);
    let high = world.submit("high", 1, |spec| spec.priority = 90);
    assert_eq!(order(&world.grants(1)), [(high, 0)]);
}

/// J7
#[test]
fn j7_of_equal_priority_the_earlier_job_goes_first() {
    let mut world = World::with_runners(1);
    let (a, b) = (world.submit("a", 2, |_| {}), world.submit("b", 2, |_| {}));
    assert_eq!(order(&world.grants(3)), [(a, 0), (a, 1), (b, 0)]);
}

#[test]
fn what_goes_before_a_job_is_told_in_order_and_each_once() {
    let mut world = World::with_runners(1);
    let (a, b) = (world.submit("a", 3, |_| {}), world.submit("b", 3, |_| {}));
    let high = world.submit("high", 1, |spec| spec.priority = 90);
    for (job, priority) in [(a, 60), (b, 70)] {
        let subtasks = Some(Ranges::from(Run::one(2)));
        world.propose(Command::ReprioritizeJob(ReprioritizeJob { job, subtasks, priority }));
    }
    let ahead = |job: JobId, priority: u8| -> Vec<(u8, JobId)> {
        let turn = (Reverse(priority), world.job(job).created, job);
        before(&world.state, turn).map(|(priority, other)| (priority, other.id)).collect()
    };
    assert_eq!(ahead(b, 50), [(90, high), (60, a)], "of equal priority, too");
    assert_eq!(ahead(a, 50), [(90, high), (70, b)]);
    assert_eq!(ahead(b, 70), [(90, high)]);
    assert!(ahead(high, 90).is_empty());
}

#[test]
fn a_job_that_cannot_run_holds_up_no_other() {
    let mut world = World::with_runners(2);
    let nowhere = world.submit("nowhere", 5, |_| {});
    let limited = world.submit("limited", 5, |spec| spec.max_running = Some(1));
    let backed = world.submit("backed", 5, |spec| {
        spec.backends = ["full", "free"].map(|name| BackendName::new(name).unwrap()).into();
    });
    let last = world.submit("last", 50, |_| {});
    let may_run = |job: &Job, node: NodeId| job.id != nowhere && (job.id != limited || node == NodeId(2));
    let nodes = world.state.nodes.keys().map(|node| (*node, idle(4))).collect();
    let backends = [(BackendName::new("free").unwrap(), 2), (BackendName::new("full").unwrap(), 0)].into();
    let offer = Offer { nodes, may_run: &may_run, takes: &|_, _| Span(1), backends, most: 100 };
    let grants = grant(&world.state, offer);
    let sums = |job| {
        grants.iter().filter(|it| it.job == job).flat_map(|it| &it.subtasks).map(|it| it.0.len()).sum::<u64>()
    };
    assert_eq!([nowhere, limited, backed, last].map(sums), [0, 1, 2, 5]);
    assert!(grants.iter().filter(|it| it.job == limited).all(|it| it.node == NodeId(2)));
    assert!(
        grants
            .iter()
            .filter(|it| it.job == backed)
            .all(|it| it.backend.as_ref().is_some_and(|it| it.as_str() == "free"))
    );
}

#[test]
fn work_is_shared_by_room_and_what_is_not_ready_gets_none() {
    let mut world = World::with_runners(4);
    world.submit("a", 90, |_| {});
    world.set_status(4, NodeStatus::Restarting);
    let room = |(node, free): (u64, u32)| (NodeId(node), idle(free));
    let nodes: BTreeMap<NodeId, Room> = [(1, 20), (2, 40), (3, 60), (4, 80)].map(room).into();
    let share = |most| {
        let (nodes, backends) = (nodes.clone(), BTreeMap::new());
        let offer = Offer { nodes, may_run: &|_, _| true, takes: &|_, _| Span(1), backends, most };
        let grants = grant(&world.state, offer);
        grants
            .iter()
            .map(|it| (it.node.0, it.subtasks.iter().map(|it| it.0.len()).sum::<u64>()))
            .collect::<Vec<_>>()
    };
    assert_eq!(share(100), [(1, 15), (2, 30), (3, 45)]);
    assert_eq!(share(2), [(1, 1), (2, 1)]);
    let stranger = Room { incarnation: "another".into(), ..idle(9) };
    let (nodes, backends) = ([(NodeId(1), stranger)].into(), BTreeMap::new());
    let offer = Offer { nodes, may_run: &|_, _| true, takes: &|_, _| Span(1), backends, most: 9 };
    assert_eq!(grant(&world.state, offer), []);
}

/// How many of which job each node is given: `rooms` are nodes, how many begin there at once, and how much work may lie
/// ready there.
fn given(world: &World, rooms: &[(u64, u32, u64)], takes: &[(JobId, u64)]) -> Vec<(JobId, u64, u64)> {
    let room =
        |(node, free, spare): &(u64, u32, u64)| (NodeId(*node), Room { spare: Span(*spare), ..idle(*free) });
    let nodes = rooms.iter().map(room).collect();
    let takes: BTreeMap<JobId, u64> = takes.iter().copied().collect();
    let takes = |job: &Job, _: NodeId| Span(takes[&job.id]);
    let offer =
        Offer { nodes, may_run: &|_, _| true, takes: &takes, backends: BTreeMap::new(), most: u32::MAX };
    let grants = grant(&world.state, offer);
    let count = |it: &Grant| it.subtasks.iter().map(|(run, _)| run.len()).sum::<u64>();
    grants.iter().map(|it| (it.job, it.node.0, count(it))).collect()
}

#[test]
fn as_much_lies_ready_as_is_soon_done_and_an_idle_slot_goes_before_it() {
    let mut world = World::with_runners(2);
    let one = world.submit("one", 1, |_| {});
    let many = world.submit("many", 500, |_| {});
    let rooms = [(1, 0, 105), (2, 2, 400)];
    // Of node 2's room one is taken by then, with 10 ms.
    let wanted = [(one, 2, 1), (many, 1, 10), (many, 2, 39)];
    assert_eq!(given(&world, &rooms, &[(one, 10), (many, 10)]), wanted);
    let long = [(one, 2, 1), (many, 2, 1)];
    assert_eq!(given(&world, &rooms, &[(one, 300), (many, 200)]), long, "what takes long lies nowhere");
}

#[test]
fn room_that_is_too_little_for_a_job_is_not_filled_by_those_behind_it() {
    let mut world = World::with_runners(2);
    let short = world.submit("short", 500, |_| {});
    let rooms = [(1, 0, 100), (2, 1, 250)];
    assert_eq!(given(&world, &rooms, &[(short, 10)]), [(short, 1, 10), (short, 2, 25)]);
    let long = world.submit("long", 9, |spec| spec.priority = 60);
    assert_eq!(given(&world, &rooms, &[(short, 10), (long, 200)]), [(long, 2, 1)]);
    world.propose(Command::CancelJob(CancelJob { job: long, subtasks: None, reason: String::new() }));
    let limited = world.submit("limited", 9, |spec| (spec.priority, spec.max_running) = (60, Some(1)));
    let takes = [(short, 10), (long, 200), (limited, 200)];
    let others = [(limited, 2, 1), (short, 1, 10), (short, 2, 5)];
    assert_eq!(given(&world, &rooms, &takes), others, "one that may have no more is in nobody's way");
}

#[test]
fn behind_what_waits_nothing_less_urgent_lies_ready() {
    let mut world = World::with_runners(1);
    world.submit("urgent", 5, |spec| spec.priority = 60);
    assert_eq!(world.dispatch(5).len(), 5);
    world.submit("low", 100, |_| {});
    let given = |world: &World, slots: u32, free: u32| {
        let room = Room { slots, spare: Span(100), ..idle(free) };
        let (nodes, backends) = ([(NodeId(1), room)].into(), BTreeMap::new());
        let offer = Offer { nodes, may_run: &|_, _| true, takes: &|_, _| Span(10), backends, most: 100 };
        order(&grant(&world.state, offer)).len()
    };
    assert_eq!([given(&world, 4, 0), given(&world, 4, 1)], [0, 1], "what is free is for anybody");
    assert_eq!(given(&world, 5, 0), 10, "all that is more urgent runs");
    world.submit("alike", 7, |spec| spec.priority = 60);
    assert_eq!(given(&world, 4, 0), 7);
}

#[test]
fn an_agent_is_given_what_it_lacks_and_stops_what_is_not_wanted() {
    let mut world = World::with_runners(1);
    let (a, b) = (world.submit("a", 3, |_| {}), world.submit("b", 2, |_| {}));
    let all: Vec<Attempt> = world.dispatch(9).into_iter().map(|(_, attempt)| attempt).collect();
    let given: BTreeSet<Attempt> = [all[0], all[3]].into();
    let told = difference(&world.state, NodeId(1), &given);
    assert_eq!((told.missing, told.unwanted), (vec![all[1], all[2], all[4]], vec![]));
    let some = |job, subtasks| Command::CancelJob(CancelJob { job, subtasks, reason: String::new() });
    world.propose(some(a, Some(Ranges::from(Run::new(0, 1)))));
    world.propose(some(b, None));
    world.end(1, all[3], Ending::Canceled);
    let told = difference(&world.state, NodeId(1), &given);
    assert_eq!(
        (told.missing, told.unwanted),
        (vec![all[1], all[2], all[4]], vec![all[0], all[3], all[1], all[4]])
    );
}
