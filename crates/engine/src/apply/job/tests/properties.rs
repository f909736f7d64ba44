//! Whatever is asked in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::job::step::{Step, What};
use crate::job::submit::Digest;
use crate::{Change, State};

/// Something that may be asked; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Ask {
    Submit { name: u8, count: u8, attempts: u8, max_running: Option<u8>, priority: u8, after: Option<u8> },
    Items { name: u8, needs: Vec<(u8, u8)> },
    Dispatch { free: u8 },
    GrantBlindly { job: u8, first: u8, last: u8, attempt: u8, node: u8 },
    End { nth: u8, how: u8 },
    EndBlindly { job: u8, subtask: u8, attempt: u8, node: u8 },
    Wake { later: u16 },
    Node { node: u8, up: bool },
    TakeUp { node: u8, life: u8 },
    Pause { job: u8, on: bool },
    Cancel { job: u8, some: Option<(u8, u8)> },
    Retry { job: u8, some: (u8, u8) },
    Prioritize { job: u8, some: Option<(u8, u8)>, priority: u8 },
    Delete { job: u8 },
}

fn ask() -> impl Strategy<Value = Ask> {
    let some = || (0..12_u8, 0..12_u8);
    prop_oneof![
        2 => (0..5_u8, 0..12_u8, 1..4_u8, prop::option::of(1..4_u8), 0..3_u8, prop::option::of(0..5_u8)).prop_map(
            |(name, count, attempts, max_running, priority, after)| {
                Ask::Submit { name, count, attempts, max_running, priority, after }
            }
        ),
        1 => (0..5_u8, prop::collection::vec((0..8_u8, 0..8_u8), 0..10)).prop_map(|(name, needs)| Ask::Items { name, needs }),
        6 => (0..5_u8).prop_map(|free| Ask::Dispatch { free }),
        1 => (0..4_u8, 0..12_u8, 0..12_u8, 0..4_u8, 0..4_u8).prop_map(|(job, first, last, attempt, node)| {
            Ask::GrantBlindly { job, first, last, attempt, node }
        }),
        10 => (any::<u8>(), 0..8_u8).prop_map(|(nth, how)| Ask::End { nth, how }),
        1 => (0..4_u8, 0..12_u8, 0..4_u8, 0..4_u8)
            .prop_map(|(job, subtask, attempt, node)| Ask::EndBlindly { job, subtask, attempt, node }),
        3 => (0..3_000_u16).prop_map(|later| Ask::Wake { later }),
        1 => (0..4_u8, any::<bool>()).prop_map(|(node, up)| Ask::Node { node, up }),
        1 => (0..4_u8, 0..3_u8).prop_map(|(node, life)| Ask::TakeUp { node, life }),
        1 => (0..4_u8, any::<bool>()).prop_map(|(job, on)| Ask::Pause { job, on }),
        1 => (0..4_u8, prop::option::of(some())).prop_map(|(job, some)| Ask::Cancel { job, some }),
        1 => (0..4_u8, some()).prop_map(|(job, some)| Ask::Retry { job, some }),
        1 => (0..4_u8, prop::option::of(some()), 0..102_u8)
            .prop_map(|(job, some, priority)| Ask::Prioritize { job, some, priority }),
        1 => (0..4_u8).prop_map(|job| Ask::Delete { job }),
    ]
}

fn name(n: u8) -> JobName {
    JobName::new(&format!("j{n}")).expect("a job's name")
}

fn node(n: u8) -> NodeId {
    NodeId(u64::from(n % 3) + 1)
}

fn some((first, last): (u8, u8)) -> Ranges {
    Ranges::from(Run::new(first.into(), last.into()))
}

/// The command that an ask is in this world; none: there is nothing to ask it of.
fn command(world: &mut World, ask: &Ask) -> Option<Command> {
    let nth = |world: &World, n: u8| {
        let ids: Vec<JobId> = world.state.jobs.iter().map(|job| job.id).collect();
        (!ids.is_empty()).then(|| ids[usize::from(n) % ids.len()])
    };
    Some(match ask.clone() {
        Ask::Submit { name: n, count, attempts, max_running, priority, after } => {
            Command::Submit(world.submit_of("x", count.into(), |spec| {
                spec.name = name(n);
                spec.retry.max_attempts = attempts.into();
                spec.retry.backoff_min = Span::seconds(u64::from(priority));
                spec.max_running = max_running.map(u32::from);
                spec.priority = 50 + priority;
                spec.after = after.map(name).into_iter().collect();
            }))
        }
        Ask::Items { name: n, needs } => items_of(world, n, &needs),
        Ask::Dispatch { free } => {
            Command::Grant(GrantAll { term: world.term, grants: world.grants(free.into()) })
        }
        Ask::GrantBlindly { job, first, last, attempt, node: n } => {
            let subtasks = vec![(Run::new(first.into(), last.into()), attempt.into())];
            let (node, incarnation) = (node(n), format!("life{}", attempt % 3).as_str().into());
            let grant = Grant { node, incarnation, job: nth(world, job)?, backend: None, subtasks };
            Command::Grant(GrantAll { term: world.term, grants: vec![grant] })
        }
        Ask::End { nth, how } => {
            let running = running(world);
            let (node, attempt) = *running.get(usize::from(nth) % running.len().max(1))?;
            return Some(end(world, node, attempt, how));
        }
        Ask::EndBlindly { job, subtask, attempt, node: n } => {
            let attempt = Attempt { job: nth(world, job)?, subtask: subtask.into(), number: attempt.into() };
            return Some(end(world, node(n), attempt, 0));
        }
        Ask::Wake { later } => {
            world.now.0 += u64::from(later);
            Command::WakeSubtasks(WakeSubtasks { until: world.now, term: world.term })
        }
        Ask::Node { node: n, up } => {
            let status = if up { NodeStatus::Ready } else { NodeStatus::Lost };
            Command::SetNodeStatus(SetNodeStatus { node: node(n), status, reason: String::new(), term: None })
        }
        Ask::TakeUp { node: n, life } => {
            Command::TakeUp(TakeUp { node: node(n), incarnation: format!("life{life}").as_str().into() })
        }
        Ask::Pause { job, on } if on => Command::PauseJob(nth(world, job)?),
        Ask::Pause { job, .. } => Command::ResumeJob(nth(world, job)?),
        Ask::Cancel { job, some: which } => Command::CancelJob(CancelJob {
            job: nth(world, job)?,
            subtasks: which.map(some),
            reason: "why".to_owned(),
        }),
        Ask::Retry { job, some: which } => {
            Command::RetryJob(RetryJob { job: nth(world, job)?, subtasks: some(which) })
        }
        Ask::Prioritize { job, some: which, priority } => Command::ReprioritizeJob(ReprioritizeJob {
            job: nth(world, job)?,
            subtasks: which.map(some),
            priority,
        }),
        Ask::Delete { job } => Command::DeleteJob(nth(world, job)?),
    })
}

fn items_of(world: &World, n: u8, needs: &[(u8, u8)]) -> Command {
    let of = |subtask: u32| {
        let needs = needs.iter().filter(|(from, _)| u32::from(*from) == subtask);
        needs.map(|(_, on)| u32::from(*on)).collect()
    };
    let items = (0..8).map(|n| Item { value: Json::new(&n.into()), depends_on: of(n) }).collect();
    let spec = JobSpec { name: name(n), ..world.job_spec("x", Subtasks::Items) };
    Command::Submit(SubmitAll { spec: Arc::new(spec), most: 1_000, items: Arc::new(items) })
}

fn running(world: &World) -> Vec<(NodeId, Attempt)> {
    let jobs = world.state.jobs.iter();
    let all = jobs.flat_map(|job| {
        let attempt = |(subtask, it): (&u32, &crate::job::progress::Running)| {
            (it.node, Attempt { job: job.id, subtask: *subtask, number: it.attempt })
        };
        job.progress.running().iter().map(attempt)
    });
    all.collect()
}

fn end(world: &World, node: NodeId, attempt: Attempt, how: u8) -> Command {
    let ending = match how {
        0 => Ending::HandedBack,
        1 => Ending::Canceled,
        2 => Ending::Failed(failure(FailureClass::Timeout, "over")),
        3 => Ending::Failed(failure(FailureClass::Exit, "broken")),
        _ => Ending::Finished,
    };
    let (started_at, took) = (world.now, Span(u64::from(how)));
    let end = AttemptEnd { subtask: attempt.subtask, attempt: attempt.number, started_at, took, ending };
    Command::RecordResults(RecordResults { node, results: vec![(attempt.job, vec![end])] })
}

/// What the history says, told apart from the state.
#[derive(Default)]
struct History {
    granted: BTreeSet<Attempt>,
    /// The attempt that runs, by job and subtask.
    runs: BTreeMap<(JobId, u32), u32>,
    finished: BTreeMap<(JobId, u32), u32>,
}

impl History {
    fn read(&mut self, change: &Change) {
        let Change::Transitions(all) = change else { return };
        for step in &all.steps {
            step.run.numbers().for_each(|subtask| self.step(all.job, subtask, step));
        }
    }

    fn step(&mut self, job: JobId, subtask: u32, step: &Step) {
        let runs = self.runs.get(&(job, subtask)).copied();
        match step.what {
            What::Granted(..) => {
                let number = step.attempt;
                assert!(self.granted.insert(Attempt { job, subtask, number }), "an attempt's number twice");
                assert_eq!(self.runs.insert((job, subtask), number), None, "granted while it runs");
                assert!(!self.finished.contains_key(&(job, subtask)), "granted after it finished");
            }
            What::Finished => {
                assert_eq!(self.runs.remove(&(job, subtask)), Some(step.attempt));
                assert_eq!(self.finished.insert((job, subtask), step.attempt), None, "finished twice");
            }
            What::Retried(..) | What::Failed(_) | What::HandedBack => {
                assert_eq!(self.runs.remove(&(job, subtask)), Some(step.attempt));
            }
            What::Canceled => {
                assert_eq!(self.runs.remove(&(job, subtask)), (step.attempt > 0).then_some(step.attempt));
            }
            What::Skipped(_) | What::Again | What::Woken => assert_eq!(runs, None),
            What::Stopping => assert!(runs.is_some()),
            What::Stale | What::Prioritized(_) | What::AllPrioritized(_) => {}
        }
    }
}

fn world() -> World {
    let mut world = World::with_nodes(3);
    (1..=3).for_each(|node| world.take_up(node, "life0"));
    world
}

proptest! {
    #[test]
    fn whatever_is_asked_the_rules_hold(asks in prop::collection::vec(ask(), 1..120)) {
        let (mut one, mut two) = (world(), world());
        let mut history = History::default();
        for ask in &asks {
            let Some(command) = command(&mut one, ask) else { continue };
            two.now = one.now;
            let (before, at) = (one.state.clone(), one.changes.len());
            let reply = one.propose(command.clone());
            prop_assert_eq!(&reply, &two.propose(command));
            if matches!(reply, Reply::Refused(_)) {
                prop_assert_eq!(one.changes.len(), at, "a refusal changes nothing");
                prop_assert_eq!(&State { revision: before.revision, ..one.state.clone() }, &before);
            }
            one.changes[at..].iter().for_each(|change| history.read(change));
            prop_assert_eq!(invariants::check(&one.state), Vec::<String>::new(), "after {:?}", ask);
            let mut again = before;
            one.changes[at..].iter().for_each(|change| again.put(change));
            again.revision = one.state.revision;
            prop_assert_eq!(&again, &one.state, "the changes of {:?} make the same state", ask);
        }
        prop_assert_eq!(&one.state, &two.state);
        for job in one.state.jobs.iter() {
            prop_assert_eq!(job.counts().total(), u64::from(job.count), "counts sum up");
            for subtask in 0..job.count {
                let finished = history.finished.contains_key(&(job.id, subtask));
                prop_assert_eq!(finished, job.progress.place(subtask) == Some(Place::Finished));
                let runs = history.runs.get(&(job.id, subtask)).copied();
                prop_assert_eq!(runs, job.progress.running().get(&subtask).map(|it| it.attempt));
            }
        }
        let mut rebuilt = State::default();
        one.state.rows().for_each(|row| rebuilt.put(&row));
        rebuilt.revision = one.state.revision;
        prop_assert_eq!(rebuilt, one.state);
    }

    #[test]
    fn when_everything_works_again_every_job_ends(asks in prop::collection::vec(ask(), 1..60)) {
        let mut world = world();
        for ask in &asks {
            if let Some(command) = command(&mut world, ask) {
                world.propose(command);
            }
        }
        let jobs: Vec<JobId> = world.state.jobs.iter().map(|job| job.id).collect();
        jobs.iter().for_each(|id| drop(world.propose(Command::ResumeJob(*id))));
        for node in 1..=3 {
            world.set_status(node, NodeStatus::Ready);
            world.propose(Command::TakeUp(TakeUp { node: NodeId(node), incarnation: "last".into() }));
        }
        for _ in 0..400 {
            world.now.0 += 70_000;
            let wake = WakeSubtasks { until: world.now, term: world.term };
            world.propose(Command::WakeSubtasks(wake));
            world.dispatch(3);
            for (node, attempt) in running(&world) {
                let command = end(&world, node, attempt, 9);
                world.propose(command);
            }
        }
        let left: Vec<String> = world.state.jobs.iter().filter(|job| !job.state().is_over()).map(|job| format!("{job:?}")).collect();
        prop_assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn what_is_granted_is_never_behind_what_is_left(asks in prop::collection::vec(ask(), 1..60), free in 1..6_u32) {
        let mut world = world();
        for ask in &asks {
            if let Some(command) = command(&mut world, ask) {
                world.propose(command);
            }
        }
        let rank = |world: &World, id: JobId, subtask: u32| {
            let job = world.job(id);
            (std::cmp::Reverse(job.priority_of(subtask)), job.created, subtask)
        };
        let granted: Vec<_> = world.grants(free).iter().flat_map(|grant| {
            grant.subtasks.iter().flat_map(|(run, _)| run.numbers()).map(|it| rank(&world, grant.job, it)).collect::<Vec<_>>()
        }).collect();
        world.dispatch(free);
        let open = world.state.jobs.iter().filter(|job| job.is_open());
        let left = open.flat_map(|job| job.in_state(SubtaskState::Ready).numbers().map(|it| rank(&world, job.id, it)).collect::<Vec<_>>());
        if let (Some(last), Some(first)) = (granted.iter().max(), left.min()) {
            prop_assert!(*last < first, "{last:?} before {first:?}");
        }
    }

    #[test]
    fn a_submit_in_chunks_is_the_same_job(
        needs in prop::collection::vec((0..8_u8, 0..8_u8), 0..6), cuts in prop::collection::btree_set(1..8_usize, 0..4),
    ) {
        let (mut whole, mut parts) = (world(), world());
        let Command::Submit(all) = items_of(&whole, 1, &needs) else { unreachable!() };
        let at_once = whole.propose(Command::Submit(all.clone()));
        let begun = parts.propose(Command::BeginSubmit(BeginSubmit { spec: all.spec.clone(), most: all.most }));
        let Reply::Submit { job: id, .. } = begun else { panic!("{begun:?}") };
        let edges: Vec<usize> = std::iter::once(0).chain(cuts).chain([all.items.len()]).collect();
        for two in edges.windows(2) {
            let items = Arc::new(all.items[two[0]..two[1]].to_vec());
            parts.propose(Command::AddItems(AddItems { job: id, first: two[0] as u32, items }));
        }
        let digest = Digest::default().and_all(&all.items).value();
        let in_parts = parts.propose(Command::CommitSubmit(CommitSubmit { job: id, count: 8, digest }));
        prop_assert_eq!(matches!(at_once, Reply::Refused(_)), matches!(in_parts, Reply::Refused(_)));
        if let Reply::Submit { job, .. } = at_once {
            let (one, two) = (whole.job(job), parts.job(id));
            prop_assert_eq!(job, id, "of the command that began it");
            prop_assert_eq!((&one.progress, one.count, one.digest), (&two.progress, two.count, two.digest));
            prop_assert_eq!(whole.state.jobs.dependencies(job), parts.state.jobs.dependencies(id));
        } else {
            prop_assert_eq!(&at_once, &in_parts);
        }
    }
}
