use sheaf_model::*;

use super::*;
use crate::command::{CancelJob, Command};
use crate::testing::World;

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
fn a_job_that_cannot_run_holds_up_no_other() {
    let mut world = World::with_runners(2);
    let nowhere = world.submit("nowhere", 5, |_| {});
    let limited = world.submit("limited", 5, |spec| spec.max_running = Some(1));
    let backed = world.submit("backed", 5, |spec| {
        spec.backends = ["full", "free"].map(|name| BackendName::new(name).unwrap()).into();
    });
    let last = world.submit("last", 50, |_| {});
    let may_run = |job: &Job, node: NodeId| job.id != nowhere && (job.id != limited || node == NodeId(2));
    let room = |node: &NodeId| (*node, Room { incarnation: "life".into(), free: 4 });
    let nodes = world.state.nodes.keys().map(room).collect();
    let backends = [(BackendName::new("free").unwrap(), 2), (BackendName::new("full").unwrap(), 0)].into();
    let grants = grant(&world.state, Offer { nodes, may_run: &may_run, backends, most: 100 });
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
    let room = |(node, free): (u64, u32)| (NodeId(node), Room { incarnation: "life".into(), free });
    let nodes: BTreeMap<NodeId, Room> = [(1, 20), (2, 40), (3, 60), (4, 80)].map(room).into();
    let share = |most| {
        let offer = Offer { nodes: nodes.clone(), may_run: &|_, _| true, backends: BTreeMap::new(), most };
        let grants = grant(&world.state, offer);
        grants
            .iter()
            .map(|it| (it.node.0, it.subtasks.iter().map(|it| it.0.len()).sum::<u64>()))
            .collect::<Vec<_>>()
    };
    assert_eq!(share(100), [(1, 15), (2, 30), (3, 45)]);
    assert_eq!(share(2), [(1, 1), (2, 1)]);
    let stranger: BTreeMap<NodeId, Room> =
        [(NodeId(1), Room { incarnation: "another".into(), free: 9 })].into();
    let offer = Offer { nodes: stranger, may_run: &|_, _| true, backends: BTreeMap::new(), most: 9 };
    assert_eq!(grant(&world.state, offer), []);
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
