use std::sync::Arc;

use sheaf_model::{Load, NodeKey, Revision};

use super::*;
use crate::propose::tests::{ByHand, One, facts};

fn session(control: &Control, node: NodeId) -> Session {
    let (_, to_agent) = mpsc::channel(1);
    Session {
        control: control.clone(),
        node,
        incarnation: Incarnation("a".to_owned()),
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
