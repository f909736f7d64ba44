//! What keeps leases apart whatever the network does, by the control plane as it is: sessions, rounds and the hand-over of
//! leadership, on three replicas whose messages can be held.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../consensus/tests/harness/mod.rs"]
mod harness;

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use harness::{Cluster, patient, registration};
use sheaf_artifact::Cache;
use sheaf_consensus::{DATABASE, Replica};
use sheaf_control::{Clock, Control, Identity, Member, Opener, Place, Registration, Trust};
use sheaf_engine::{Command, Proposal, Register, Reply};
use sheaf_model::session::{Heartbeat, Hello, ToLeader, ToNode};
use sheaf_model::{Load, Moment, NodeId, NodeName, NodeStatus, Revision, Timestamp};
use sheaf_store::Store;
use sheaf_wire::cluster::ClusterApi as _;
use sheaf_wire::node::NodeApi as _;
use sheaf_wire::peer::AgentApi as _;
use sheaf_wire::{Answers, Caller};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// A round whose answers come later is given up, and shows nothing.
const IN_TIME: Duration = Duration::from_millis(1200);
/// So often a machine may be too slow for that.
const TRIES: usize = 5;

/// A voter has answered the old leader's round, and then voted for another: what came meanwhile is not its to acknowledge.
#[tokio::test]
async fn a_heartbeat_that_comes_while_a_round_runs_is_not_acknowledged_by_it() {
    for _ in 0..TRIES {
        let world = World::new().await;
        let [old, heir] = world.replicas();
        let [first, second, third] = world.agents().await;
        let begun = world.hold_round_of(&second).await;
        old.transfer_leader(heir.node()).await.unwrap();
        leads(&heir).await;
        third.beat(2).await;
        world.hears(&third, 2).await;
        let in_time = begun.elapsed() < IN_TIME;
        world.let_go().await;
        let acknowledged = world.end([first, second, third]).await;
        assert_eq!(acknowledged[2], [1], "it came after the round had begun");
        if in_time {
            assert_eq!(acknowledged[1], [1, 2], "the round was begun for it");
            return;
        }
    }
    panic!("this machine was too slow {TRIES} times");
}

/// Who hands over acknowledges nothing any more, not even what a majority has confirmed before.
#[tokio::test]
async fn a_leader_that_hands_over_acknowledges_nothing() {
    for _ in 0..TRIES {
        let world = World::new().await;
        let [_, heir] = world.replicas();
        let [first, second, third] = world.agents().await;
        let begun = world.hold_round_of(&second).await;
        let control = world.control.clone();
        let name = second.name();
        let handing = tokio::spawn(async move { control.transfer(Caller::local("test"), Some(name)).await });
        leads(&heir).await;
        let in_time = begun.elapsed() < IN_TIME;
        world.let_go().await;
        let acknowledged = world.end([first, second, third]).await;
        drop(handing.await.unwrap());
        if in_time {
            assert_eq!(acknowledged[1], [1], "it had stopped");
            return;
        }
    }
    panic!("this machine was too slow {TRIES} times");
}

struct World {
    cluster: Cluster,
    control: Control,
    stop: CancellationToken,
    service: JoinHandle<()>,
    _store: Store,
    _dir: TempDir,
}

impl World {
    /// Three nodes that vote; the first one leads, and has a control plane.
    async fn new() -> Self {
        let cluster = Cluster::of_three(true, patient).await;
        let leader = cluster.leader().await;
        for node in 1..=3 {
            let command = Command::Register(register(node));
            let applied = leader.propose(&Proposal { command, ..registration(node, node) }).await.unwrap();
            assert_eq!(applied.reply, Reply::Registered(NodeId(node as u64)));
        }
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join(DATABASE)).unwrap();
        let Register { key, facts } = register(1);
        let identity =
            Identity { instance: "life".to_owned(), key, name: facts.name, address: facts.address };
        let place = Arc::new(Place::new(identity, Arc::new(NoOther), Trust::default()));
        place.registration.send_replace(Some(Registration { cluster: "test".into(), node: leader.node() }));
        place.member.send_replace(Some(Member { replica: leader, reader: store.reader() }));
        let cache = Cache::open(&dir.path().join("artifacts"), 0).unwrap();
        let (control, service) = Control::new(place, Arc::new(TestClock(Instant::now())), cache);
        let stop = CancellationToken::new();
        let service = tokio::spawn(service.run(stop.clone()));
        Self { cluster, control, stop, service, _store: store, _dir: dir }
    }

    /// Those of the leader and of the node that is to lead next.
    fn replicas(&self) -> [Replica; 2] {
        [0, 1].map(|member| self.cluster.members[member].replica().clone())
    }

    /// All three are ready, and each is heard and acknowledged once. Nothing more happens by itself then.
    async fn agents(&self) -> [Agent; 3] {
        let agents = [self.agent(1).await, self.agent(2).await, self.agent(3).await];
        let [old, heir] = self.replicas();
        until("all of them are ready, and all have that", || {
            let is_ready = old.state().nodes.values().all(|node| node.status == NodeStatus::Ready);
            is_ready && heir.metrics().applied == old.metrics().last
        })
        .await;
        for agent in &agents {
            agent.beat(1).await;
            until("it is acknowledged", || *agent.acknowledged.lock().unwrap() == [1]).await;
        }
        agents
    }

    async fn agent(&self, node: usize) -> Agent {
        let open = async {
            loop {
                let (say, said) = mpsc::channel(16);
                let messages = stream::once(ready(hello(node))).chain(ReceiverStream::new(said));
                let messages = messages.map(Ok).boxed();
                let mut answers = self.control.session(Caller::local("test"), messages).await.unwrap();
                if let Some(Ok(ToNode::Welcome { .. })) = answers.next().await {
                    return Agent::new(node, say, answers);
                }
                sleep(Duration::from_millis(5)).await; // it does not lead yet
            }
        };
        timeout(PATIENCE, open).await.expect("the node is welcome")
    }

    /// The leader asks the others for this one's heartbeat, and their answers are held. Nobody reaches it from now on, so
    /// that it does not learn what they do afterwards.
    async fn hold_round_of(&self, agent: &Agent) -> Instant {
        let leader = self.cluster.members[0].node;
        self.cluster.mesh.hold(leader);
        let begun = Instant::now();
        agent.beat(2).await;
        self.cluster.mesh.holds(2).await;
        self.cluster.mesh.deafen(leader);
        begun
    }

    /// The answers arrive. When this returns what follows from them was said.
    async fn let_go(&self) {
        self.cluster.mesh.release();
        let [old, _] = self.replicas();
        // It is answered after the round before, and woken after who has waited for that.
        let next = tokio::spawn(async move { old.confirm_leadership().await });
        assert!(next.await.unwrap().is_err(), "another leads");
    }

    /// The control plane has heard of this heartbeat.
    async fn hears(&self, agent: &Agent, sent_at: u64) {
        let heard = async {
            while self.control.get(Caller::local("test"), agent.name()).await.unwrap().row.load
                != load(sent_at)
            {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, heard).await.expect("it is heard");
    }

    /// All sessions end as the old leader hears of the new one. What was acknowledged to each until then.
    async fn end(mut self, agents: [Agent; 3]) -> Vec<Vec<u64>> {
        self.cluster.mesh.heal();
        let mut all = Vec::new();
        for agent in agents {
            timeout(PATIENCE, agent.hearing).await.expect("its session ends").unwrap();
            all.push(agent.acknowledged.lock().unwrap().clone());
        }
        self.stop.cancel();
        self.service.await.unwrap();
        self.cluster.stop().await;
        all
    }
}

/// One end of a session.
struct Agent {
    node: usize,
    say: mpsc::Sender<ToLeader>,
    /// When the heartbeats were sent that were acknowledged.
    acknowledged: Arc<Mutex<Vec<u64>>>,
    hearing: JoinHandle<()>,
}

impl Agent {
    fn new(node: usize, say: mpsc::Sender<ToLeader>, mut answers: Answers<ToNode>) -> Self {
        let acknowledged = Arc::<Mutex<Vec<u64>>>::default();
        let heard = acknowledged.clone();
        let hearing = tokio::spawn(async move {
            while let Some(Ok(answer)) = answers.next().await {
                if let ToNode::Acknowledged(ack) = answer {
                    heard.lock().unwrap().push(ack.sent_at.0);
                }
            }
        });
        Self { node, say, acknowledged, hearing }
    }

    fn name(&self) -> String {
        register(self.node).facts.name.to_string()
    }

    async fn beat(&self, sent_at: u64) {
        let load = Load { load: load(sent_at), ..Load::default() };
        let heartbeat = Heartbeat { sent_at: Moment(sent_at), load, seen: Revision(0) };
        self.say.send(ToLeader::Heartbeat(heartbeat)).await.unwrap();
    }
}

/// By which it is seen that a heartbeat has come.
fn load(sent_at: u64) -> f64 {
    10.0 * sent_at as f64
}

fn register(node: usize) -> Register {
    let Command::Register(mut register) = registration(node, node).command else {
        panic!("it registers a node");
    };
    // Where the mesh has it: nobody has moved.
    register.facts.address = format!("node-{node}");
    register.facts.name = NodeName::new(&format!("node-{node}")).unwrap();
    register
}

fn hello(node: usize) -> ToLeader {
    let Register { key, facts } = register(node);
    ToLeader::Hello(Box::new(Hello {
        cluster: "test".into(),
        node: NodeId(node as u64),
        key,
        boot: "boot".into(),
        incarnation: "life".into(),
        facts,
        fresh: false,
        stand_in: false,
        work: None,
    }))
}

async fn leads(replica: &Replica) {
    let mut leadership = replica.leadership();
    let led = timeout(PATIENCE, leadership.wait_for(|now| now.leading)).await;
    drop(led.expect("it takes leadership").unwrap());
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "waited in vain until {what}");
}

/// The replica is open.
struct NoOther;

impl Opener for NoOther {
    fn open(&self, _: NodeId) -> BoxFuture<'_, Result<Member, String>> {
        Box::pin(ready(Err("there is one replica".to_owned())))
    }
}

struct TestClock(Instant);

impl Clock for TestClock {
    fn moment(&self) -> Moment {
        Moment(1_000_000 + self.0.elapsed().as_millis() as u64)
    }

    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}
