//! A leader of one: the replicated state without replicas, served over a real port. It acknowledges and records at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt as _, stream};
use sheaf_engine::{
    Apply, Bind, Change, Command, ConfirmResidue, Form, Free, OnBucket, Proposal, RecordPhases, Register,
    Reply, SetNodeStatus, State, apply, watched,
};
use sheaf_model::session::{Acknowledged, ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    Actor, BootId, BucketName, BucketSpec, Decision, Epoch, Instance, ModuleRef, ModuleSpec, NodeId,
    NodeStatus, PutBucket, Revision, Settings, Span, Term, Timestamp, Verdict,
};
use sheaf_wire::peer::{AgentApi, WatchNode};
use sheaf_wire::{Alone, Answers, ApiError, Caller, ServeOptions, Server, async_trait};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The only node.
pub(crate) const NODE: NodeId = NodeId(1);

#[derive(Default)]
struct Inner {
    state: State,
    changes: Vec<Change>,
    verdicts: BTreeMap<BucketName, Verdict>,
    gave_up: BTreeMap<BucketName, Epoch>,
    silent: bool,
    /// How far apart heartbeats are to be, as a session begins and as acknowledgements say; none: as a leader of an earlier version.
    beats: Option<(Span, Span)>,
    heartbeats: usize,
    /// Watches that began at a member that is stopped.
    in_vain: usize,
}

/// Shared by all calls.
#[derive(Clone)]
pub(crate) struct Leader {
    inner: Arc<Mutex<Inner>>,
    /// How many changes there are; whoever watches waits for it.
    changed: watch::Sender<usize>,
}

impl Leader {
    /// Serves on a port of its own until the guard is dropped.
    pub(crate) async fn serve() -> (Self, String, AbortOnDropHandle<()>) {
        let leader = Self { inner: Arc::default(), changed: watch::channel(0).0 };
        leader.propose(Command::Form(Form { cluster: "c".into(), settings: Settings::default() }));
        let (address, serving) = serve(Arc::new(leader.clone())).await;
        (leader, address, serving)
    }

    /// Another member at an address of its own, which is stopped once a watch has begun, and no connection shows it.
    pub(crate) async fn stopped_member(&self) -> (String, AbortOnDropHandle<()>) {
        serve(Arc::new(Stopped(self.clone()))).await
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn propose(&self, command: Command) -> Reply {
        let mut inner = self.lock();
        let Inner { state, changes, .. } = &mut *inner;
        let proposal = Proposal { actor: Actor::from("test"), at: Timestamp(1), request: None, command };
        let reply = apply(state, Term(1), &proposal, changes);
        self.changed.send_replace(changes.len());
        reply
    }

    pub(crate) fn register(&self, register: Register) {
        assert_eq!(self.propose(Command::Register(register)), Reply::Registered(NODE));
        let (status, reason) = (NodeStatus::Ready, String::new());
        self.propose(Command::SetNodeStatus(SetNodeStatus {
            node: NODE,
            status,
            reason,
            term: Some(Term(1)),
        }));
    }

    pub(crate) fn apply(&self, module: ModuleSpec) {
        let reply = self.propose(Command::Apply(Apply { modules: vec![module], buckets: vec![] }));
        assert!(matches!(reply, Reply::Applied(_)), "{reply:?}");
    }

    pub(crate) fn put(&self, bucket: &str, change: impl FnOnce(&mut BucketSpec)) {
        let mut spec = BucketSpec::new(name(bucket), ModuleRef::parse("m@1").unwrap());
        change(&mut spec);
        let put = PutBucket { spec, suspended: None, base: None, latest: false };
        let reply = self.propose(Command::Apply(Apply { modules: vec![], buckets: vec![put] }));
        assert!(matches!(reply, Reply::Applied(_)), "{reply:?}");
    }

    pub(crate) fn on(&self, bucket: &str, verb: fn(OnBucket) -> Command) {
        self.propose(verb(OnBucket { bucket: name(bucket), base: None }));
    }

    pub(crate) fn bind(&self, bucket: &str) -> Epoch {
        let basis = self.lock().state.buckets[&name(bucket)].current.revision;
        let decision = Decision::default();
        self.propose(Command::Bind(Bind {
            bucket: name(bucket),
            node: NODE,
            basis,
            term: Term(1),
            decision,
        }));
        self.lock().state.bindings[&name(bucket)].epoch
    }

    pub(crate) fn free(&self, bucket: &str, epoch: Epoch) {
        let why = "test".to_owned();
        self.propose(Command::Free(Free { bucket: name(bucket), epoch, term: Term(1), why }));
    }

    /// From now on nothing is acknowledged, or all is again.
    pub(crate) fn keep_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Sessions begin with `first`, and acknowledgements say `then`.
    pub(crate) fn beat_every(&self, first: Span, then: Span) {
        self.lock().beats = Some((first, then));
    }

    /// Heartbeats so far.
    pub(crate) fn heartbeats(&self) -> usize {
        self.lock().heartbeats
    }

    /// Watches at members that are stopped, so far.
    pub(crate) fn watched_in_vain(&self) -> usize {
        self.lock().in_vain
    }

    pub(crate) fn instance(&self, bucket: &str) -> Option<Instance> {
        let inner = self.lock();
        inner.state.instances.get(&name(bucket))?.get(&NODE).map(|instance| (**instance).clone())
    }

    pub(crate) fn verdict(&self, bucket: &str) -> Option<Verdict> {
        self.lock().verdicts.get(&name(bucket)).cloned()
    }

    pub(crate) fn gave_up(&self, bucket: &str) -> Option<Epoch> {
        self.lock().gave_up.get(&name(bucket)).copied()
    }

    pub(crate) fn has_residue(&self, bucket: &str) -> bool {
        self.lock().state.residues.contains_key(&name(bucket))
    }

    fn answer(&self, boot: &BootId, message: ToLeader) -> Option<ToNode> {
        match message {
            ToLeader::Heartbeat(heartbeat) => {
                let mut inner = self.lock();
                inner.heartbeats += 1;
                let then = inner.beats.map(|(_, then)| then).unwrap_or_default();
                let bound =
                    inner.state.bindings.values().map(|binding| (binding.bucket.clone(), binding.epoch));
                let (sent_at, ttl) = (heartbeat.sent_at, Span::seconds(3));
                let (boot, epochs, own) = (boot.clone(), bound.collect(), Revision::default());
                let (heartbeat, traces) = (then, Vec::new());
                let ack = Acknowledged { boot, sent_at, ttl, epochs, heartbeat, own, traces };
                (!inner.silent).then_some(ToNode::Acknowledged(ack))
            }
            ToLeader::Verdicts(verdicts) => {
                let named = verdicts.into_iter().map(|verdict| (verdict.bucket.clone(), (*verdict).clone()));
                self.lock().verdicts.extend(named);
                None
            }
            ToLeader::Phases { seq, instances } => {
                self.propose(Command::RecordPhases(RecordPhases { node: NODE, instances }));
                Some(ToNode::Recorded { seq })
            }
            ToLeader::GaveUp { bucket, epoch } => {
                self.lock().gave_up.insert(bucket, epoch);
                None
            }
            ToLeader::NothingLeft { bucket, revision } => {
                self.propose(Command::ConfirmResidue(ConfirmResidue { bucket, node: NODE, revision }));
                None
            }
            ToLeader::Hello(_)
            | ToLeader::Judged { .. }
            | ToLeader::Facts(_)
            | ToLeader::Purged { .. }
            | ToLeader::Ends { .. }
            | ToLeader::NoMoreWork
            | ToLeader::Release
            | ToLeader::Goodbye => None,
        }
    }

    /// What changed from `told` on, as its watcher hears it.
    fn news(&self, watcher: &watched::Watcher, told: usize) -> (Vec<WatchItem>, usize) {
        let inner = self.lock();
        let news = inner.changes[told..].iter();
        let mut items: Vec<_> = news.filter_map(|change| watched::item(change, watcher)).collect();
        items.push(WatchItem::Synced(inner.state.revision));
        (items, inner.changes.len())
    }
}

#[async_trait]
impl AgentApi for Leader {
    async fn session(&self, _: Caller, mut messages: Answers<ToLeader>) -> Result<Answers<ToNode>, ApiError> {
        let Some(Ok(ToLeader::Hello(hello))) = messages.next().await else {
            return Err(ApiError::Precondition("a session begins with Hello".to_owned()));
        };
        let leader = self.clone();
        let answers = messages.filter_map(move |message| {
            let answer = message.ok().and_then(|message| leader.answer(&hello.boot, message));
            std::future::ready(answer.map(Ok))
        });
        let heartbeat = self.lock().beats.map_or(Span::millis(100), |(first, _)| first);
        let welcome = ToNode::Welcome { heartbeat, start_in: Span(0) };
        Ok(stream::once(std::future::ready(Ok(welcome))).chain(answers).boxed())
    }

    async fn watch(&self, _: Caller, ask: WatchNode) -> Result<Answers<Vec<WatchItem>>, ApiError> {
        let watcher = watched::Watcher { node: NODE, places: ask.places };
        let (first, told) = {
            let inner = self.lock();
            (watched::everything(&inner.state, &watcher).collect::<Vec<_>>(), inner.changes.len())
        };
        let from = (self.clone(), self.changed.subscribe(), watcher, told);
        let rest = stream::unfold(from, |(leader, mut changed, watcher, told)| async move {
            changed.wait_for(|now| *now > told).await.ok()?;
            let (items, told) = leader.news(&watcher, told);
            Some((Ok(items), (leader, changed, watcher, told)))
        });
        Ok(stream::once(std::future::ready(Ok(first))).chain(rest).boxed())
    }
}

struct Stopped(Leader);

#[async_trait]
impl AgentApi for Stopped {
    async fn session(&self, _: Caller, _: Answers<ToLeader>) -> Result<Answers<ToNode>, ApiError> {
        std::future::pending().await
    }

    async fn watch(&self, caller: Caller, ask: WatchNode) -> Result<Answers<Vec<WatchItem>>, ApiError> {
        let first = self.0.watch(caller, ask).await?.take(1);
        self.0.lock().in_vain += 1;
        Ok(first.chain(stream::pending()).boxed())
    }
}

/// On a port of its own, until the guard is dropped.
async fn serve(agents: Arc<dyn AgentApi>) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::new().agents(agents);
    let serving = tokio::spawn(async move {
        let for_ever = std::future::pending();
        server.serve(listener, Arc::new(Alone), ServeOptions::default(), for_ever).await.unwrap();
    });
    (address, AbortOnDropHandle::new(serving))
}

pub(crate) fn name(bucket: &str) -> BucketName {
    BucketName::new(bucket).unwrap()
}
