//! Replicas in one process: real disks, an in-memory network that can be cut.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "shared by tests and the example"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use sheaf_consensus::{DATABASE, LOG, Options, Peer, PeerError, PeerStream, Peers, Replica, Traffic};
use sheaf_engine::{Command, Form, Proposal, Register};
use sheaf_model::{
    Actor, Bytes as Amount, ClusterId, Facts, NodeId, NodeKey, NodeName, Revision, Settings, Timestamp,
};
use sheaf_store::Store;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Who is there, and who is cut off.
#[derive(Default)]
pub struct Mesh {
    members: Mutex<BTreeMap<NodeId, Replica>>,
    cut: Mutex<BTreeSet<NodeId>>,
    /// Whom nobody reaches; what they say themselves gets through.
    deaf: Mutex<BTreeSet<NodeId>>,
    /// Who gets no answers for now.
    held: watch::Sender<Option<NodeId>>,
    /// Streams of entries, by who sends them and to whom.
    lines: watch::Sender<BTreeMap<(NodeId, NodeId), Line>>,
    /// Answers that were held.
    pub waiting: AtomicU64,
    /// Messages that did not get through because somebody was cut off.
    pub refused: AtomicU64,
    /// Snapshots that anybody began to send.
    pub uploads: AtomicU64,
    /// Appends, heartbeats too, that were no part of a stream.
    pub appends: AtomicU64,
    /// Streams of heartbeats that were opened.
    pub beating: AtomicU64,
    /// Heartbeats that were answered over such.
    pub beats: AtomicU64,
}

/// What went over the streams of entries from one member to another, one stream after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// Messages that got there.
    pub asked: u64,
    /// Those that are answered there.
    pub answered: u64,
    /// Answers that got back.
    pub heard: u64,
    /// How many get back; none: all.
    limit: Option<u64>,
}

impl Line {
    fn is_open(&self) -> bool {
        self.limit.is_none_or(|limit| self.heard < limit)
    }
}

/// The second byte of a message that is an append.
const APPEND: u8 = 1;

impl Mesh {
    pub fn cut(&self, node: NodeId) {
        self.cut.lock().unwrap().insert(node);
    }

    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
        self.deaf.lock().unwrap().clear();
    }

    /// From now on nobody reaches this one, which reaches everybody.
    pub fn deafen(&self, node: NodeId) {
        self.deaf.lock().unwrap().insert(node);
    }

    /// What this one asks is answered, but the answers are on their way until [`Self::release`].
    pub fn hold(&self, node: NodeId) {
        self.held.send_replace(Some(node));
    }

    pub fn release(&self) {
        self.held.send_replace(None);
        self.lines.send_modify(|lines| lines.values_mut().for_each(|line| line.limit = None));
    }

    /// Entries of this one are answered too, but these answers are on their way until [`Self::release`], except for those
    /// that are [`Self::let_through`].
    pub fn hold_entries(&self, node: NodeId) {
        self.lines.send_modify(|lines| {
            for (_, line) in lines.iter_mut().filter(|((from, _), _)| *from == node) {
                line.limit = Some(line.heard);
            }
        });
    }

    /// One more answer to what `from` sent over a stream of entries gets back from `to`.
    pub fn let_through(&self, from: NodeId, to: NodeId) {
        self.on_line(from, to, |line| line.limit = line.limit.map(|limit| limit + 1));
    }

    /// Returns when it is so on the streams of entries from one to the other.
    pub async fn line(&self, from: NodeId, to: NodeId, is_so: impl Fn(&Line) -> bool) {
        let mut lines = self.lines.subscribe();
        let found = lines.wait_for(|lines| lines.get(&(from, to)).is_some_and(&is_so));
        let is_found = matches!(tokio::time::timeout(Duration::from_secs(15), found).await, Ok(Ok(_)));
        assert!(is_found, "it is so from {from} to {to} within 15 s: {:?}", *self.lines.borrow());
    }

    fn on_line(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Line)) {
        self.lines.send_modify(|lines| change(lines.entry((from, to)).or_default()));
    }

    /// An answer to what `from` sent over a stream of entries goes back to it.
    async fn back(&self, from: NodeId, to: NodeId) {
        self.on_line(from, to, |line| line.answered += 1);
        let mut lines = self.lines.subscribe();
        drop(lines.wait_for(|lines| lines.get(&(from, to)).is_none_or(Line::is_open)).await);
        self.on_line(from, to, |line| line.heard += 1);
    }

    /// Returns when so many answers are on their way.
    pub async fn holds(&self, answers: u64) {
        let found = async {
            while self.waiting.load(Ordering::Relaxed) < answers {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), found).await.expect("it is answered within 15 s");
    }

    async fn pass(&self, to: NodeId) {
        let mut held = self.held.subscribe();
        if *held.borrow_and_update() == Some(to) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            drop(held.wait_for(|held| *held != Some(to)).await);
        }
    }

    pub fn mend(&self, node: NodeId) {
        self.cut.lock().unwrap().remove(&node);
    }

    /// A member that somebody else has opened.
    pub fn put(&self, replica: &Replica) {
        self.members.lock().unwrap().insert(replica.node(), replica.clone());
    }

    pub fn take(&self, node: NodeId) {
        self.members.lock().unwrap().remove(&node);
    }

    fn open(&self, from: NodeId, to: NodeId) -> bool {
        let cut = self.cut.lock().unwrap();
        !cut.contains(&from) && !cut.contains(&to) && !self.deaf.lock().unwrap().contains(&to)
    }

    fn reach(&self, from: NodeId, peer: &Peer) -> Result<Replica, PeerError> {
        let unreachable = || PeerError::Unreachable { peer: peer.clone(), why: "cut off".to_owned() };
        if !self.open(from, peer.node) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(unreachable());
        }
        self.members.lock().unwrap().get(&peer.node).cloned().ok_or_else(unreachable)
    }
}

pub struct MeshPeers {
    pub mesh: Arc<Mesh>,
    pub from: NodeId,
    pub streams: bool,
}

fn refused(peer: &Peer, error: impl std::fmt::Display) -> PeerError {
    PeerError::Refused { peer: peer.clone(), why: error.to_string() }
}

impl Peers for MeshPeers {
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move {
            if message.get(1) == Some(&APPEND) {
                self.mesh.appends.fetch_add(1, Ordering::Relaxed);
            }
            let replica = self.mesh.reach(self.from, peer)?;
            let answer = replica.runtime().clone().spawn(async move { replica.handle_peer(message).await });
            let answer = tokio::time::timeout(deadline, answer).await;
            let answer = answer.map_err(|_| PeerError::TimedOut { peer: peer.clone(), after: deadline })?;
            self.mesh.pass(self.from).await;
            // The way back can be cut too.
            self.mesh.reach(self.from, peer)?;
            answer.map_err(|error| refused(peer, error))?.map_err(|error| refused(peer, error))
        })
    }

    fn has_streams(&self) -> bool {
        self.streams
    }

    fn stream<'a>(
        &'a self,
        peer: &'a Peer,
        traffic: Traffic,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        Box::pin(async move {
            let replica = self.mesh.reach(self.from, peer)?;
            let (mesh, from, to) = (self.mesh.clone(), self.from, peer.clone());
            let open = move |_: &Bytes| futures::future::ready(mesh.open(from, to.node));
            let messages = messages.take_while(open);
            let (mesh, to) = (self.mesh.clone(), peer.clone());
            if traffic == Traffic::Entries {
                let (asked, there) = (mesh.clone(), to.node);
                let messages = messages.inspect(move |_| asked.on_line(from, there, |line| line.asked += 1));
                let arrived = replica.handle_append_stream(messages).then(move |answer| {
                    let (mesh, to) = (mesh.clone(), to.clone());
                    async move {
                        mesh.back(from, to.node).await;
                        mesh.reach(from, &to)?;
                        answer.map_err(|error| refused(&to, error))
                    }
                });
                return Ok(arrived.boxed());
            }
            let answers = replica.handle_append_stream(messages);
            mesh.beating.fetch_add(1, Ordering::Relaxed);
            let arrived = answers.then(move |answer| {
                let (mesh, to) = (mesh.clone(), to.clone());
                async move {
                    mesh.pass(from).await;
                    mesh.reach(from, &to)?;
                    mesh.beats.fetch_add(1, Ordering::Relaxed);
                    answer.map_err(|error| refused(&to, error))
                }
            });
            Ok(arrived.boxed())
        })
    }

    fn upload<'a>(
        &'a self,
        peer: &'a Peer,
        head: Bytes,
        chunks: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move {
            self.mesh.uploads.fetch_add(1, Ordering::Relaxed);
            let replica = self.mesh.reach(self.from, peer)?;
            replica.handle_snapshot(head, chunks).await.map_err(|error| refused(peer, error))
        })
    }
}

/// One member, running or stopped; its directory stays.
pub struct Member {
    pub node: NodeId,
    pub dir: TempDir,
    running: Option<(Replica, JoinHandle<()>, CancellationToken)>,
}

impl Member {
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn replica(&self) -> &Replica {
        &self.running.as_ref().unwrap().0
    }

    /// As a kill that loses nothing of what was synced: a clean stop, since all tests share one process.
    pub async fn stop(&mut self, mesh: &Mesh) {
        let Some((replica, service, stop)) = self.running.take() else { return };
        mesh.members.lock().unwrap().remove(&self.node);
        drop(replica);
        stop.cancel();
        service.await.unwrap();
    }

    pub async fn start(&mut self, cluster: &Setting, mesh: &Arc<Mesh>) {
        let data = self.dir.path();
        let store = Store::open(&data.join(DATABASE)).unwrap();
        let mut options = (cluster.options)(data.join(LOG));
        options.reserve_bytes = 0;
        let peers = MeshPeers { mesh: mesh.clone(), from: self.node, streams: cluster.streams };
        let (replica, service) = Replica::open(options, store, self.node, Arc::new(peers)).await.unwrap();
        mesh.members.lock().unwrap().insert(self.node, replica.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let service = tokio::spawn(async move { service.run(stopped).await.unwrap() });
        self.running = Some((replica, service, stop));
    }
}

pub struct Setting {
    pub streams: bool,
    pub options: fn(PathBuf) -> Options,
}

pub struct Cluster {
    pub mesh: Arc<Mesh>,
    pub setting: Setting,
    pub members: Vec<Member>,
}

impl Cluster {
    /// Three voters, formed as in production: one alone, the others added.
    pub async fn of_three(streams: bool, options: fn(PathBuf) -> Options) -> Self {
        Self::of_three_in(None, streams, options).await
    }

    pub async fn of_three_in(
        parent: Option<PathBuf>,
        streams: bool,
        options: fn(PathBuf) -> Options,
    ) -> Self {
        let mesh = Arc::new(Mesh::default());
        let setting = Setting { streams, options };
        let mut members = Vec::new();
        for n in 1..=3 {
            let dir = parent.as_ref().map_or_else(TempDir::new, TempDir::new_in).unwrap();
            let mut member = Member { node: NodeId(n), dir, running: None };
            member.start(&setting, &mesh).await;
            members.push(member);
        }
        let first = members[0].replica().clone();
        first.initialize("node-1").await.unwrap();
        first.leadership().wait_for(|now| now.leading).await.unwrap();
        first.confirm_leadership().await.unwrap();
        for n in 2..=3 {
            first.add_learner(NodeId(n), format!("node-{n}")).await.unwrap();
        }
        first.change_voters(&(1..=3).map(NodeId).collect()).await.unwrap();
        let form =
            Command::Form(Form { cluster: ClusterId("test".to_owned()), settings: Settings::default() });
        first.propose(&by_test(0, form)).await.unwrap();
        Self { mesh, setting, members }
    }

    /// The member that leads, among those that are running and not cut off, confirmed by a majority.
    pub async fn leader(&self) -> Replica {
        let found = async {
            loop {
                for member in self.members.iter().filter(|member| member.running.is_some()) {
                    if member.replica().leadership().borrow().leading
                        && member.replica().confirm_leadership().await.is_ok()
                    {
                        return member.replica().clone();
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), found).await.expect("a leader is found within 15 s")
    }

    pub fn follower(&self, leader: NodeId) -> usize {
        self.members.iter().position(|member| member.node != leader).unwrap()
    }

    /// Waits until all running members have applied `revision`, and checks that their states are equal.
    pub async fn agree(&self, revision: Revision) {
        let replicas: Vec<&Replica> =
            self.members.iter().filter(|member| member.running.is_some()).map(Member::replica).collect();
        for replica in &replicas {
            let reached = tokio::time::timeout(Duration::from_secs(15), replica.wait_for(revision)).await;
            assert!(reached.is_ok(), "node {} is at {:?}", replica.node(), replica.metrics());
        }
        for pair in replicas.windows(2) {
            let (left, right) = (pair[0].state(), pair[1].state());
            if left.revision == right.revision {
                assert!(*left == *right, "nodes {} and {} differ", pair[0].node(), pair[1].node());
            }
        }
    }

    pub async fn stop(&mut self) {
        for member in &mut self.members {
            member.stop(&self.mesh).await;
        }
    }
}

pub fn quick(dir: PathBuf) -> Options {
    Options::new(dir)
}

/// Nothing happens by itself within a test: no heartbeat, no election. Answers are waited for for long.
pub fn patient(dir: PathBuf) -> Options {
    let seconds = Duration::from_secs;
    Options { heartbeat: seconds(30), election_min: seconds(90), election_max: seconds(100), ..quick(dir) }
}

/// Registers a node named after `n`.
pub fn proposal(n: usize) -> Proposal {
    registration(n, n)
}

/// Registers node `n`, or changes what it says of itself.
pub fn registration(n: usize, host: usize) -> Proposal {
    let facts = Facts {
        name: NodeName::new(&format!("node-{n}")).unwrap(),
        hostname: format!("host-{host}.example.com"),
        address: "10.0.0.1:7420".to_owned(),
        labels: vec!["import".to_owned()],
        allow: Vec::new(),
        deny: Vec::new(),
        version: "0.1.0".to_owned(),
        cpu: 2,
        memory_total: Amount(8 << 30),
        notes: Vec::new(),
    };
    by_test(n, Command::Register(Register { key: NodeKey(format!("key-{n}")), facts }))
}

fn by_test(n: usize, command: Command) -> Proposal {
    Proposal { actor: Actor("test".to_owned()), at: Timestamp(n as u64), request: None, command }
}
