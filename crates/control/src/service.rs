//! The control plane as one component: a handle that answers calls, and the loops behind it.

use std::sync::Arc;

use futures::future::BoxFuture;
use sheaf_artifact::Cache;
use sheaf_engine::status::Sight;
use sheaf_model::{Changeable, FullQueues, Moment, NodeId, Settings, Trusting};
use sheaf_wire::logs::LogReaders;
use sheaf_wire::{ApiError, Server};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::Attempts;
use crate::clock::Clock;
use crate::election;
use crate::floor::Floor;
use crate::live::{Live, SharedLive};
use crate::place::{Member, Place};
use crate::query;
use crate::recorder::{self, Record};
use crate::schema;
use crate::secret::Sealing;
use crate::sink::{Board, Programs};
use crate::traces::Traces;

/// Buckets looked at under one hold of the sessions' lock, which heartbeats wait for: about two milliseconds.
pub(crate) const AT_ONCE: usize = 100;

/// Answers every call of the API and of agents. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    pub(crate) place: Arc<Place>,
    pub(crate) live: SharedLive,
    pub(crate) floor: Arc<Floor>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) records: mpsc::Sender<Record>,
    pub(crate) cache: Cache,
    pub(crate) sealing: Option<Sealing>,
    /// Schemas of buckets' configs.
    pub(crate) schemas: Arc<schema::Compiled>,
    /// As many as queries may run.
    pub(crate) queries: Arc<Semaphore>,
    /// What was printed elsewhere.
    pub(crate) readers: LogReaders,
    /// Failed attempts to show a token.
    pub(crate) attempts: Arc<Attempts>,
    /// Whoever asks must say who it is.
    pub(crate) secured: bool,
    /// How deliveries go, while this node leads.
    pub(crate) sinks: Arc<Board>,
    /// Programs that sinks may run here.
    pub(crate) sink_programs: Programs,
    /// What changed buckets lately, while this node leads.
    pub(crate) traces: Arc<Traces>,
}

/// The loops behind a [`Control`].
pub struct Service {
    control: Control,
    records: mpsc::Receiver<Record>,
}

impl Control {
    /// The control plane of a node that stands at `place`; artifacts are in `cache`.
    pub fn new(place: Arc<Place>, clock: Arc<dyn Clock>, cache: Cache) -> (Self, Service) {
        let (sender, records) = mpsc::channel(recorder::QUEUE);
        let readers = LogReaders::over(place.trust.transport.clone());
        let control = Self {
            place,
            live: Arc::new(Live::default()),
            floor: Arc::default(),
            clock,
            records: sender,
            cache,
            sealing: None,
            schemas: Arc::default(),
            queries: Arc::new(Semaphore::new(query::AT_ONCE)),
            readers,
            attempts: Arc::default(),
            secured: false,
            sinks: Arc::default(),
            sink_programs: Programs::default(),
            traces: Arc::default(),
        };
        (control.clone(), Service { control, records })
    }

    /// The same, which seals secrets.
    #[must_use]
    pub fn sealing(self, sealing: Sealing) -> Self {
        Self { sealing: Some(sealing), ..self }
    }

    /// The same, which says that it is guarded; whoever serves it asks it as the guard.
    #[must_use]
    pub fn secured(self) -> Self {
        Self { secured: true, ..self }
    }

    /// Adds every service that the control plane answers: compiled here, and not with whoever opens the port.
    #[must_use]
    pub fn answer_on(self: &Arc<Self>, server: Server) -> Server {
        server
            .cluster(self.clone())
            .buckets(self.clone())
            .jobs(self.clone())
            .modules(self.clone())
            .nodes(self.clone())
            .instances(self.clone())
            .events(self.clone())
            .queries(self.clone())
            .secrets(self.clone())
            .backends(self.clone())
            .sinks(self.clone())
            .peers(self.clone())
            .agents(self.clone())
            .artifacts(self.clone())
    }

    /// Where this node stands.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// The replica; a node without one cannot answer by itself.
    pub(crate) fn member(&self) -> Result<Member, ApiError> {
        self.place.member().ok_or_else(|| {
            let waiting = self.place.waiting_for.borrow();
            let why = if waiting.is_empty() { "this node is no member of a cluster yet" } else { &*waiting };
            ApiError::unavailable(why)
        })
    }

    /// How often the queues of the control plane and of the replica were full since this process began.
    pub fn full_queues(&self) -> FullQueues {
        let replica = self.place.member().map(|member| member.replica.full_queues());
        replica.unwrap_or_default().and(self.live.full_queues())
    }

    /// What this node, `node`, says to the leader of the cluster's authorities.
    pub fn said_of_authorities(&self, node: NodeId) -> Trusting {
        let member = self.place.member().is_some_and(|member| member.replica.peer(node).is_some());
        self.place.trust.said(member)
    }

    /// Timers of this node's consensus that came over 50 ms late.
    pub fn late_timers(&self) -> u64 {
        self.place.member().map_or(0, |member| member.replica.late_timers())
    }

    /// Derives an answer from the state and, on the leader, from its sessions. Heartbeats wait while this looks: of much it
    /// looks at [`AT_ONCE`] at a time.
    pub(crate) fn see<T>(&self, view: impl FnOnce(Sight<'_>) -> T) -> Result<T, ApiError> {
        let member = self.member()?;
        let now: Moment = self.clock.moment();
        let live = self.live.lock();
        let state = member.replica.state();
        Ok(view(Sight { state: &state, sessions: live.sessions.as_ref(), now }))
    }

    /// Derives an answer from the state alone, for which nothing but changes waits.
    pub(crate) fn see_rows<T>(&self, view: impl FnOnce(Sight<'_>) -> T) -> Result<T, ApiError> {
        let member = self.member()?;
        let now: Moment = self.clock.moment();
        let state = member.replica.state();
        Ok(view(Sight { state: &state, sessions: None, now }))
    }

    /// The cluster's settings; the defaults before there is a cluster.
    pub(crate) fn settings(&self) -> Settings {
        self.place.member().map(|member| member.replica.state().cluster.settings).unwrap_or_default()
    }

    /// What can be changed of the cluster, as far as is known here.
    pub(crate) fn changeable(&self) -> Changeable {
        self.place.member().map(|member| member.replica.state().cluster.changeable()).unwrap_or_default()
    }

    /// A node's name for people.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        match self.place.member() {
            Some(member) => member.replica.state().node_name(node),
            None => format!("node {node}"),
        }
    }
}

impl Service {
    /// The same for a control that was completed since: deliveries open secrets and run programs as it may.
    #[must_use]
    pub fn of(self, control: &Control) -> Self {
        Self { control: control.clone(), ..self }
    }

    /// Runs until told to stop: finds members while this node is none, conducts once it is one.
    ///
    /// Boxed, so that all of it is compiled here, and not with whoever waits for it.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.run_all(stop))
    }

    async fn run_all(self, stop: CancellationToken) {
        let Self { control, records } = self;
        let mut loops = JoinSet::new();
        let (recorder, acknowledger, directory) = (control.clone(), control.clone(), control.clone());
        let (stop_1, stop_2, stop_3) = (stop.clone(), stop.clone(), stop.clone());
        loops.spawn(async move { recorder.run_recorder(records, stop_1).await });
        loops.spawn(async move { acknowledger.run_acknowledger(stop_2).await });
        loops.spawn(async move { directory.run_directory(stop_3).await });
        let (keeper, stop_5) = (control.clone(), stop.clone());
        loops.spawn(async move { keeper.run_trust(stop_5).await });
        let mut member = control.place.member.subscribe();
        let found = tokio::select! {
            () = stop.cancelled() => None,
            // Dropping `wait_for` loses nothing: the value stays.
            found = member.wait_for(Option::is_some) => {
                found.ok().and_then(|member| member.clone())
            }
        };
        if let Some(member) = found {
            let (copier, of, stop_4) = (control.clone(), member.replica.clone(), stop.clone());
            loops.spawn(async move { copier.run_voter_copies(of, stop_4).await });
            loops.spawn(election::warn_of_short_leases(member.replica.clone(), stop.clone()));
            control.run_conductor(member, stop.clone()).await;
        }
        stop.cancelled().await;
        while loops.join_next().await.is_some() {}
    }
}
