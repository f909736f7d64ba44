use std::sync::Arc;

use sheaf_engine::{AccessCommand, Admit, Command, Register, Reply, SetNodeStatus};
use sheaf_model::ClusterId;
use sheaf_wire::{Admitted, Certificate, Guard as _, Need, Presented, ServeOptions, Server};
use tokio::net::TcpListener;

use super::*;
use crate::place::Registration;
use crate::propose::tests::{control_without, facts};
use crate::trust::Trust;
use crate::trust::tests::{Secured, Wall};

impl Secured {
    async fn admit(&self, name: &str, may_vote: bool) -> NodeId {
        let register = Register { key: name.into(), facts: facts(name) };
        match self.propose(Command::Access(AccessCommand::Admit(Admit { register, may_vote }))).await {
            Reply::Registered(node) => node,
            other => panic!("no number: {other:?}"),
        }
    }

    pub(crate) async fn forget(&self, node: NodeId) {
        let lost = SetNodeStatus { node, status: NodeStatus::Lost, reason: String::new(), term: None };
        for command in [Command::SetNodeStatus(lost), Command::Forget(node)] {
            assert!(matches!(self.propose(command).await, Reply::Done(_)));
        }
    }
}

/// Answers as a member does, over connections that prove nothing.
async fn serve(control: &Control) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it listens").to_string();
    let control = Arc::new(control.clone());
    let server = Server::new().cluster(control.clone()).nodes(control.clone());
    let serving = server.serve(listener, control, ServeOptions::default(), std::future::pending());
    tokio::spawn(async move { drop(serving.await) });
    address
}

fn says<T: std::fmt::Debug>(answer: &Result<T, ApiError>, text: &str) -> bool {
    matches!(answer, Err(ApiError::Forbidden(why)) if why.contains(text))
}

async fn admitted(control: &Control, node: NodeId, need: Need) -> Result<Admitted, ApiError> {
    let certificate = Some(Certificate::Node(node));
    control.admit(Presented { certificate, on_behalf: Some(node), ..Presented::default() }, need).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_takes_the_log_from_members_and_from_who_may_be_one() {
    let world = Secured::start().await;
    let [founder, unknown] = [NodeId(1), NodeId(9)];
    let (voter, worker) = (world.admit("b", true).await, world.admit("c", false).await);
    let control = &world.control;
    control.may_send_log(founder).await.expect("a member");
    control.may_send_log(voter).await.expect("it may have a vote by now");
    assert!(says(&control.may_send_log(worker).await, "may not vote"));
    let nobody = control.may_send_log(unknown).await;
    assert!(matches!(nobody, Err(ApiError::Unavailable { .. })), "nobody to ask: {nobody:?}");
    world.forget(voter).await;
    assert!(says(&control.may_send_log(voter).await, "node b has left"));

    admitted(control, founder, Need::Member).await.expect("a member");
    admitted(control, worker, Need::Registered).await.expect("it belongs to the cluster");
    admitted(control, unknown, Need::Registered).await.expect("it registered just now");
    for need in [Need::Registered, Need::Viewer] {
        assert!(says(&admitted(control, voter, need).await, "node b has left"), "{need:?}");
    }
    let other = admitted(control, worker, Need::Member).await;
    assert!(matches!(other, Err(ApiError::Unavailable { .. })), "nobody to ask: {other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_no_state_asks_members_what_a_node_is() {
    let world = Secured::start().await;
    let (worker, gone) = (world.admit("b", false).await, world.admit("c", true).await);
    world.forget(gone).await;
    let dir = tempfile::tempdir().expect("a directory");
    let control = control_without(dir.path(), Arc::new(Wall), Trust::default());
    let registration = Registration { cluster: ClusterId::from("c"), node: worker };
    control.place.registration.send_replace(Some(registration));
    let address = serve(&world.control).await;
    control.place.members.send_modify(|members| members.note(Contact::anyone(address)));

    let [founder, unknown] = [NodeId(1), NodeId(9)];
    for node in [unknown, gone, worker] {
        assert!(says(&control.keeps_the_log(node).await, "is no member of the cluster"), "{node}");
    }
    control.keeps_the_log(founder).await.expect("a member says so");
    for node in [founder, worker] {
        control.belongs(node).await.expect("a member says so");
    }
    for node in [gone, unknown] {
        assert!(says(&control.belongs(node).await, "does not belong to this cluster"), "{node}");
    }
    assert!(says(&admitted(&control, worker, Need::Member).await, "is no member of the cluster"));
    admitted(&control, worker, Need::Registered).await.expect("it belongs to the cluster");
    assert_eq!(
        admitted(&control, gone, Need::Viewer).await,
        Ok(Admitted::Nobody),
        "that is judged elsewhere"
    );

    // What was said holds while nobody can be asked.
    control.place.members.send_modify(|members| members.known.clear());
    control.belongs(worker).await.expect("it was asked before");
    let new = control.belongs(NodeId(7)).await;
    assert!(matches!(new, Err(ApiError::Unavailable { .. })), "{new:?}");
}
