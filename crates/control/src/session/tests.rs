use futures::FutureExt as _;
use sheaf_model::{BucketName, GateOutcome, Load, ModuleRef, NodeKey, Queue, Revision};
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::propose::tests::{ByHand, One, Still, facts, hello};

fn session(control: &Control, node: NodeId) -> Session {
    let (_, to_agent) = mpsc::channel(1);
    Session {
        control: control.clone(),
        node,
        incarnation: Incarnation("a".to_owned()),
        term: control.place.leadership().expect("a member").term,
        from_agent: stream::empty().boxed(),
        to_agent,
        said: None,
        floor: 0,
    }
}

fn heartbeat() -> ToLeader {
    let (load, seen) = (Load::default(), Revision::default());
    ToLeader::Heartbeat(Heartbeat { sent_at: Moment(0), load, seen })
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_could_not_be_recorded_are_recorded_later() {
    let one = One::formed().await;
    let clock = Arc::new(ByHand::default());
    let (sender, mut records) = mpsc::channel(8);
    let control = Control { records: sender, ..one.control(clock.clone()) };
    let record = async |command| control.propose_as(Actor::from("test"), None, command, None).await;
    let register = Register { key: NodeKey::from("n1"), facts: facts("n1") };
    let registered = record(Command::Register(register)).await.expect("recorded");
    let Reply::Registered(node) = registered else { panic!("a number: {registered:?}") };

    let mut session = session(&control, node);
    let changed = Facts { labels: vec!["rack=2".to_owned()], ..facts("n1") };
    session.take(ToLeader::Facts(changed.clone())).await;
    drop(records.try_recv().expect("it is to be recorded; the disk is full"));
    session.take(heartbeat()).await;
    assert!(records.try_recv().is_err(), "for all that is known it is on its way");
    clock.pass(FACTS_WITHIN);
    session.take(heartbeat()).await;
    let again = records.try_recv().expect("it is to be recorded once more");
    session.take(heartbeat()).await;
    assert!(records.try_recv().is_err(), "that is on its way, too");
    record(again.command).await.expect("recorded");
    assert_eq!(one.member.replica.state().nodes[&node].facts, changed);
    clock.pass(FACTS_WITHIN);
    session.take(heartbeat()).await;
    assert!(records.try_recv().is_err() && session.said.is_none(), "nothing more is to be done");
}

/// This node may lead again before a session that it had when it led before has noticed; another leader may have recorded newer
/// reports in between.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_reported_belongs_to_the_leadership_in_which_its_session_opened() {
    let one = One::formed().await;
    let (sender, mut records) = mpsc::channel(8);
    let control = Control { records: sender, ..one.control(Arc::new(Still)) };
    let former = Term(one.member.replica.leadership().borrow().term.0 - 1);
    control.live.begin(former, Moment(0));
    let node = NodeId(1);
    let Ok(Opened { term, .. }) = control.open(&hello(node)) else { panic!("it led") };
    assert_eq!(term, former);
    let mut session = session(&control, node);
    session.term = term;
    session.take(ToLeader::Phases { seq: 1, instances: Vec::new() }).await;
    assert_eq!(records.try_recv().expect("it is handed to the recorder").term, former);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_in_which_more_is_answered_ahead_of_the_leader_than_is_kept() {
    let one = One::formed().await;
    let control = one.control(Arc::new(Still));
    let term = one.member.replica.leadership().borrow().term;
    control.live.begin(term, Moment(0));
    let node = NodeId(1);
    let Ok(Opened { mut to_agent, .. }) = control.open(&hello(node)) else { panic!("it leads") };
    let mut session = session(&control, node);
    let ahead = |n: usize| {
        Arc::new(Verdict {
            bucket: BucketName::new(&format!("/b{n}")).expect("a name"),
            revision: Revision(u64::MAX),
            module: ModuleRef::parse("m@1").expect("a module"),
            gates: std::array::from_fn(|_| GateOutcome::pass("")),
        })
    };
    session.take(ToLeader::Verdicts((0..10).map(ahead).collect())).await;
    assert!(matches!(to_agent.try_recv(), Err(TryRecvError::Empty)), "these wait");
    session.take(ToLeader::Verdicts((0..5_000).map(ahead).collect())).await;
    let ended = matches!(to_agent.try_recv(), Err(TryRecvError::Disconnected));
    assert!(ended, "in the next one it says all of it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_finds_no_room_waits_and_is_counted() {
    let one = One::formed().await;
    let (sender, _records) = mpsc::channel(1);
    let control = Control { records: sender, ..one.control(Arc::new(Still)) };
    let mut session = session(&control, NodeId(1));
    let report = || ToLeader::Phases { seq: 1, instances: Vec::new() };
    let times = || control.full_queues().times(Queue::Reports);
    session.take(report()).await;
    assert_eq!(times(), 0);
    assert!(session.take(report()).now_or_never().is_none(), "nobody records the one before");
    assert_eq!(times(), 1);
}
