//! The agent as a component: one loop around the node's decisions.
//!
//! ```text
//!  link (watch, session) ─┐                                ┌─► executor ─► keepers
//!  executor ──────────────┼─► Input ─► node::step ─► Action ┼─► checks ─► the machine
//!  checks, alarm, handle ─┘                                └─► link ─► the leader
//! ```
//!
//! The loop never waits for anything but inputs, so nothing that hangs (a check, a keeper, a leader) holds up another.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use sheaf_engine::gates::{CheckAnswer, Here, Part};
use sheaf_engine::node::artifact::Wanted;
use sheaf_engine::node::question::{Key, Question};
use sheaf_engine::node::{self, Action, Identity, Input, NodeState};
use sheaf_model::session::ToLeader;
use sheaf_model::{ClusterId, Contact, Facts, Incarnation, NodeId, NodeKey, Revision, Span};
use sheaf_wire::{Client, Transport, trace};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::alarm::Alarm;
use crate::artifacts::{Artifacts, Fetcher};
use crate::checks::{Checks, Plugins};
use crate::context::Context;
use crate::error::AgentError;
use crate::executor::Executor;
use crate::facts::{self, Elsewhere, LoadMeter, NodeConfig};
use crate::handle::{Handle, Request, Running, State};
use crate::keeper::{cgroup, clock};
use crate::keepers::{KeeperOptions, Keepers};
use crate::link::{self, Link, Members, Signals};
use crate::restarts::Restarts;
use crate::secrets::Secrets;
use crate::stand_in::{self, Orders};
use crate::trail::{Leaf, Trail};
use crate::work::{self, Desk};

/// Inputs that wait for the loop; who has more waits too.
const INPUTS: usize = 1024;
/// Requests that wait for the loop.
const REQUESTS: usize = 16;
/// A timer this late is counted: the machine is starved.
const LATE: Span = Span::millis(50);
/// For what is being started when the agent is told to stop. It takes milliseconds, unless the machine starves.
const STARTED_WITHIN: Duration = Duration::from_secs(3);
/// For the streams' farewell when the agent stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long an agent may take to stop: programs of subtasks have their grace. Beside it there is what the machine takes to start a
/// stand-in.
pub const STOPS_WITHIN: Duration =
    work::LEAVES_WITHIN.saturating_add(STARTED_WITHIN).saturating_add(FAREWELL);

/// Who the node is and where things are.
#[derive(Clone)]
pub struct Options {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// The cluster it has joined.
    pub cluster: ClusterId,
    /// Its number there.
    pub node: NodeId,
    /// Its data directory's identity.
    pub key: NodeKey,
    /// This life of the agent.
    pub incarnation: Incarnation,
    /// What its config file says of it.
    pub config: NodeConfig,
    /// Version of its binary, for its facts.
    pub version: String,
    /// Its own gRPC port, as it reaches it itself, e.g. `127.0.0.1:7420`.
    pub own: String,
    /// Where members are, as far as is known now.
    pub members: Members,
    /// How nodes are reached.
    pub transport: Transport,
    /// The program that is a keeper when called with `keep …`: outside of tests the running binary, which is also
    /// `${sheaf}`.
    pub binary: PathBuf,
    /// How many subtasks run at a time.
    pub slots: u32,
    /// Where artifacts are kept.
    pub cache: sheaf_artifact::Cache,
    /// What secrets are opened with here; none: they are not.
    pub seal: Option<Arc<sheaf_seal::Key>>,
    /// Whether a stand-in is left when the agent stops, as long as the cluster's settings want one.
    pub stand_in: bool,
    /// What of the rest of the process is shown with this node's load.
    pub elsewhere: Elsewhere,
}

/// The node side of the binary. See [`Agent::run`].
pub struct Agent {
    options: Options,
    keepers: Keepers,
    facts: watch::Sender<Facts>,
    requests: mpsc::Receiver<Request>,
    /// For the agent's own parts.
    asks: mpsc::Sender<Request>,
    work: work::Place,
    desk: Arc<OnceLock<Arc<Desk>>>,
}

impl Agent {
    /// Prepares the data directory. Nothing runs before [`Agent::run`].
    pub fn new(options: Options) -> Result<(Self, Handle), AgentError> {
        let keeper = KeeperOptions { data_dir: options.data_dir.clone(), binary: options.binary.clone() };
        let keepers = Keepers::open(keeper).map_err(AgentError::Instances)?;
        cgroup::settle();
        let (facts, _) = watch::channel(facts::facts(&options.config, &options.version));
        let (sender, requests) = mpsc::channel(REQUESTS);
        let (data_dir, binary, key) =
            (options.data_dir.clone(), options.binary.clone(), options.seal.clone());
        let (cluster, fetcher) = (options.cluster.clone(), Some(Fetcher::new(&options)));
        let work = work::Place { data_dir, binary, key, cluster, fetcher };
        let (name, asks) = (options.config.name.clone(), sender.clone());
        let (handle, desk) = Handle::new(sender, keepers.clone(), name, work.clone());
        Ok((Self { options, keepers, facts, requests, asks, work, desk }, handle))
    }

    /// Runs until `stop` is cancelled. What the agent has started goes on running: its keepers outlive it, a stand-in
    /// holds the leases, and its next life takes them over.
    ///
    /// Boxed, so that all of it is compiled here, and not with whoever waits for it.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, Result<(), AgentError>> {
        Box::pin(self.run_all(stop))
    }

    async fn run_all(self, stop: CancellationToken) -> Result<(), AgentError> {
        let Self { options, keepers, facts, requests, asks, work, desk: shown } = self;
        let boot = clock::boot_id();
        stand_in::relieve(&options.data_dir).await;
        let (name, own) = (options.config.name.clone(), own_port(&options)?);
        let secrets = Secrets::new(options.node, name.clone(), own.clone(), options.seal.clone());
        let _context = serve_context(&options, keepers.clone(), own, secrets.clone());
        let mut executor =
            Executor::new(keepers, name, boot.clone(), options.binary.clone()).opening(secrets);
        let found = executor.find().await?;
        let meter = Arc::new(LoadMeter::new(options.data_dir.clone(), options.elsewhere.clone()));
        let signals = Arc::new(Signals::default());
        let (inputs_in, inputs) = mpsc::channel(INPUTS);
        let (say, said) = link::messages();
        let (artifacts, want) = Artifacts::new(&options, inputs_in.clone());
        let (slots, speaks, known) = (options.slots, say.clone(), facts.subscribe());
        let (resets, counts) = (signals.clone(), meter.counts().clone());
        let open = move || work::Loop::new(work, slots, speaks, known, (resets, counts));
        let opened = tokio::task::spawn_blocking(open);
        let (work, desk) = opened.await.map_err(|_| AgentError::Ended("work"))?;
        let _ = shown.set(desk.clone()); // an agent runs once
        let link = link(&options, &meter, &facts, &signals, inputs_in, desk);
        // They end after the agent's loop: its stand-in begins before the session's farewell.
        let over = CancellationToken::new();
        let mut streams = JoinSet::new();
        streams.spawn(link::watch(link.clone(), asks, over.clone()));
        streams.spawn(artifacts.run(over.clone()));
        let no_more_work = CancellationToken::new();
        let working = AbortOnDropHandle::new(tokio::spawn(work.run(no_more_work.clone())));
        let last = CancellationToken::new();
        streams.spawn(link::session(link, said, last.clone(), over.clone()));
        let alarm = Alarm::new().map_err(|source| AgentError::Alarm { source })?;
        let checks = checks(&options).await?;
        let mut agent = Loop {
            node: NodeState::new(Identity { node: options.node, boot }, here(&options.config)),
            executor,
            checks: Arc::new(checks),
            checking: JoinSet::new(),
            say,
            signals,
            meter,
            facts,
            version: options.version.clone(),
            alarm,
            inputs,
            requests,
            want,
            has_session: false,
            leaving: Vec::new(),
            trail: Trail::default(),
            restarts: Restarts::default(),
        };
        agent.step(Input::Found(found));
        let ended = agent.run(&stop, (no_more_work, working), &mut streams).await;
        if ended.is_ok() {
            last.cancel();
            agent.leave_stand_in(&options).await;
        }
        over.cancel();
        // Whoever still sends into the loop finds nobody there any more.
        drop(agent);
        let all = async { while streams.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, all).await; // what still hangs ends with the set
        ended
    }
}

/// What the node's two streams need to know.
fn link(
    options: &Options,
    meter: &Arc<LoadMeter>,
    facts: &watch::Sender<Facts>,
    signals: &Arc<Signals>,
    inputs: mpsc::Sender<Input>,
    desk: Arc<Desk>,
) -> Link {
    Link {
        cluster: options.cluster.clone(),
        node: options.node,
        key: options.key.clone(),
        boot: clock::boot_id(),
        incarnation: options.incarnation.clone(),
        own: Some(options.own.clone()),
        members: options.members.clone(),
        transport: options.transport.clone(),
        meter: meter.clone(),
        facts: facts.subscribe(),
        inputs,
        signals: signals.clone(),
        stand_in: false,
        desk: Some(desk),
    }
}

/// How the node asks its own port.
fn own_port(options: &Options) -> Result<Client, AgentError> {
    let over = sheaf_wire::Options { transport: options.transport.clone(), ..sheaf_wire::Options::default() };
    let client = Client::lazy(&options.own, over);
    client.map_err(|source| AgentError::Own { address: options.own.clone(), source })
}

/// Answers what plugins ask of the cluster, for as long as it is held.
fn serve_context(
    options: &Options,
    keepers: Keepers,
    own: Client,
    secrets: Secrets,
) -> AbortOnDropHandle<()> {
    let context = Context::new(keepers, options.node, options.config.name.clone(), own, secrets);
    let data_dir = options.data_dir.clone();
    AbortOnDropHandle::new(tokio::spawn(async move { context.serve(&data_dir).await }))
}

/// Who asks the machine, with nothing left of who asked for a former life of the agent.
async fn checks(options: &Options) -> Result<Checks, AgentError> {
    let plugins = Plugins::open(&options.data_dir, &options.binary, &options.config.name);
    let plugins = plugins.map_err(AgentError::Instances)?;
    plugins.sweep().await;
    Ok(Checks::new(options.data_dir.clone(), options.binary.to_string_lossy().into_owned(), plugins))
}

/// What of a node's config gates and templates see.
fn here(config: &NodeConfig) -> Here {
    Here {
        name: config.name.to_string(),
        hostname: config.hostname.clone(),
        labels: config.labels.clone(),
        allow: config.allow.clone(),
        deny: config.deny.clone(),
    }
}

/// Everything the loop holds.
struct Loop {
    node: NodeState,
    executor: Executor,
    checks: Arc<Checks>,
    checking: JoinSet<(Key, Part, Vec<CheckAnswer>)>,
    say: mpsc::Sender<ToLeader>,
    signals: Arc<Signals>,
    meter: Arc<LoadMeter>,
    facts: watch::Sender<Facts>,
    version: String,
    alarm: Alarm,
    inputs: mpsc::Receiver<Input>,
    requests: mpsc::Receiver<Request>,
    /// Which artifacts are to be here.
    want: watch::Sender<Option<Wanted>>,
    has_session: bool,
    /// Who waits until nothing is left here.
    leaving: Vec<oneshot::Sender<()>>,
    /// Used where traces are kept.
    trail: Trail,
    restarts: Restarts,
}

impl Loop {
    /// Until told to stop, and then until subtasks are handed back, for which all else goes on meanwhile: the leases of what runs
    /// would end. Then nothing more is begun.
    async fn run(
        &mut self,
        stop: &CancellationToken,
        (no_more_work, working): (CancellationToken, AbortOnDropHandle<()>),
        streams: &mut JoinSet<()>,
    ) -> Result<(), AgentError> {
        self.go_on_until(stop.cancelled(), streams).await?;
        no_more_work.cancel();
        // After a while what is not handed back is lost; a panic in it has lost everything already.
        self.go_on_until(async { drop(working.await) }, streams).await?;
        self.executor.begin_no_more();
        let started = async {
            while self.executor.is_starting() {
                let input = self.next(streams).await?;
                self.step(input);
            }
            Ok(())
        };
        tokio::time::timeout(STARTED_WITHIN, started).await.unwrap_or_else(|_| {
            tracing::warn!("some instances have not started within {STARTED_WITHIN:?}; they may be lost");
            Ok(())
        })
    }

    async fn go_on_until(
        &mut self,
        until: impl Future<Output = ()>,
        streams: &mut JoinSet<()>,
    ) -> Result<(), AgentError> {
        tokio::pin!(until);
        loop {
            tokio::select! {
                // It is polled again where it was.
                () = &mut until => return Ok(()),
                // Dropped, it has taken nothing that is not done.
                input = self.next(streams) => self.step(input?),
            }
        }
    }

    /// What happens next.
    async fn next(&mut self, streams: &mut JoinSet<()>) -> Result<Input, AgentError> {
        loop {
            let wake = self.node.next_wake();
            self.alarm.set(wake).map_err(|source| AgentError::Alarm { source })?;
            tokio::select! {
                // A channel keeps what was not taken.
                Some(input) = self.inputs.recv() => return Ok(input),
                // A set keeps what has ended until it is taken; the same for checks and streams.
                Some(input) = self.executor.next() => return Ok(input),
                Some(checked) = self.checking.join_next(), if !self.checking.is_empty() => match checked {
                    Ok((key, part, answers)) => return Ok(Input::Answered(key, part, answers)),
                    Err(error) => tracing::error!(%error, "a check broke off"),
                },
                Some(request) = self.requests.recv() => {
                    if let Some(input) = self.requested(request) {
                        return Ok(input);
                    }
                }
                Some(_) = streams.join_next() => {
                    return Err(AgentError::Ended("link"));
                }
                // The alarm stays as it was set.
                fired = self.alarm.fired() => {
                    let due = fired.map_err(|source| AgentError::Alarm { source })?;
                    if clock::now().since(due) > LATE {
                        self.meter.timer_was_late();
                    }
                    return Ok(Input::Tick);
                }
            }
        }
    }

    /// While the agent is away a stand-in prolongs the leases of what runs.
    async fn leave_stand_in(&self, options: &Options) {
        let lasts = self.node.settings().lease.stand_in;
        // While this node is the only member, nobody is there to whom a stand-in could speak.
        let own = &options.config.address;
        let members = (options.members)().into_iter().filter(|member| member.address != *own);
        let members: Vec<Contact> = members.collect();
        if !options.stand_in || lasts.0 == 0 || members.is_empty() || self.node.is_leaving() {
            return;
        }
        let orders = Orders {
            cluster: options.cluster.clone(),
            node: options.node,
            key: options.key.clone(),
            boot: clock::boot_id(),
            incarnation: options.incarnation.clone(),
            agent: std::process::id(),
            facts: self.facts.borrow().clone(),
            members: members.iter().map(|member| member.address.clone()).collect(),
            contacts: members,
            binary: options.binary.clone(),
            seen: self.node.seen(),
            lasts,
        };
        match stand_in::leave(&options.data_dir, &orders).await {
            Ok(()) => tracing::info!(%lasts, "a stand-in holds the leases until the agent is back"),
            Err(error) => {
                tracing::warn!(%error, "no stand-in could be left: leases end unless the agent is back soon");
            }
        }
    }

    /// One input, and all that follows from it at once.
    fn step(&mut self, input: Input) {
        let mut next = vec![input];
        while let Some(input) = next.pop() {
            match &input {
                Input::SessionOpened { .. } => self.has_session = true,
                Input::SessionLost => self.has_session = false,
                _ => {}
            }
            self.restarts.take(&input, clock::now());
            if trace::is_on() {
                self.trail.input(&input, SystemTime::now()).into_iter().for_each(Leaf::tell);
            }
            for action in node::step(&mut self.node, input, clock::now()) {
                if trace::is_on() {
                    self.trail.action(&action, SystemTime::now()).into_iter().for_each(Leaf::tell);
                }
                next.extend(self.perform(action));
            }
            self.signals.saw(self.node.seen());
        }
        if self.node.seen() > Revision::default() {
            self.executor.lease_lasts(self.node.settings().lease.ttl);
        }
        if !self.leaving.is_empty() && self.node.has_left() {
            for waiting in self.leaving.drain(..) {
                let _ = waiting.send(()); // whoever asked may have gone
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Ask(question) => self.ask(question),
            Action::WantArtifacts(wanted) => drop(self.want.send_replace(Some(wanted))),
            Action::Retire(module) => self.checks.plugins.retire(&module),
            Action::HeartbeatNow => self.signals.heartbeat.notify_one(),
            Action::Say(message) => link::say(&self.say, message, self.meter.counts(), &self.signals),
            Action::Note(bucket, line) => tracing::info!(%bucket, "{line}"),
            action => return self.executor.perform(action),
        }
        None
    }

    fn ask(&mut self, question: Question) {
        let checks = self.checks.clone();
        self.checking.spawn(async move {
            let answers = checks.answer(&question).await;
            (question.key, question.part, answers)
        });
    }

    fn requested(&mut self, request: Request) -> Option<Input> {
        match request {
            Request::Reload(config, done) => {
                self.facts.send_replace(facts::facts(&config, &self.version));
                let _ = done.send(()); // whoever asked may have gone
                Some(Input::Config(here(&config)))
            }
            Request::Leave(leaving, left) => {
                self.leaving.push(left);
                Some(Input::Leave(leaving))
            }
            Request::Occupied(answer) => {
                let _ = answer.send(self.node.occupied()); // whoever asked may have gone
                None
            }
            Request::State(answer) => {
                let running = self.node.instances().map(|(bucket, seen)| Running {
                    bucket: bucket.clone(),
                    phase: seen.phase,
                    pid: seen.pid,
                    message: seen.message.clone(),
                });
                let state = State {
                    has_session: self.has_session,
                    seen: self.node.seen(),
                    instances: running.collect(),
                    restarting: self.restarts.count(clock::now()),
                    verdicts: self.node.verdicts().cloned().collect(),
                    load: self.meter.load(),
                };
                let _ = answer.send(state); // whoever asked may have gone
                None
            }
        }
    }
}
