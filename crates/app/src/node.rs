//! The node side within the agent process: started once the node is registered, reloaded on SIGHUP.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use sheaf_agent::{Agent, Handle, NodeConfig, Options, Strain};
use sheaf_artifact::Cache;
use sheaf_control::{Control, Place, Registration};
use sheaf_model::{Contact, Facts, NodeKey, Queue};
use sheaf_seal::Key;
use sheaf_wire::logs::{AttemptLogs, LogLine, LogsApi, LogsOf};
use sheaf_wire::{Answers, ApiError, Caller, Refused, async_trait};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Reload;
use crate::config::Config;
use crate::form::Forming;
use crate::notify::Notifier;
use crate::signals::Departure;

/// What the node side needs before it can start.
pub(crate) struct Node {
    dir: PathBuf,
    key: NodeKey,
    config: NodeConfig,
    /// Its own port, as it reaches it itself.
    own: String,
    binary: PathBuf,
    /// How many subtasks run at a time.
    slots: u32,
    cache: Cache,
    /// What secrets are opened with.
    seal: Option<Arc<Key>>,
    /// What it means that the agent stops.
    departure: Departure,
    /// The agent, once it runs.
    runs: watch::Sender<Option<Handle>>,
    logs: Arc<Logs>,
    /// Calls that the node's server refused.
    refused: Refused,
    /// Who is told when the configuration is read again.
    notifier: Notifier,
}

/// Output of this node's instances, served from the start and answered once the agent runs.
pub(crate) struct Logs(watch::Receiver<Option<Handle>>);

impl Node {
    pub(crate) fn new(
        config: &Config,
        dir: &Path,
        listening: SocketAddr,
        address: &str,
        key: NodeKey,
        cache: Cache,
        departure: Departure,
    ) -> anyhow::Result<Self> {
        let mut own = listening;
        if own.ip().is_unspecified() {
            own.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let (runs, agent) = watch::channel(None);
        Ok(Self {
            dir: dir.to_owned(),
            key,
            config: node_config(config, address),
            own: own.to_string(),
            binary: std::env::current_exe().context("find this binary, which keepers run")?,
            slots: slots(config.slots),
            cache,
            seal: None,
            departure,
            runs,
            logs: Arc::new(Logs(agent)),
            refused: Refused::default(),
            notifier: Notifier::default(),
        })
    }

    /// Shows with its load how many calls were refused there.
    pub(crate) fn counting(self, refused: Refused) -> Self {
        Self { refused, ..self }
    }

    /// Opens secrets with it.
    pub(crate) fn opening(self, seal: Option<Arc<Key>>) -> Self {
        Self { seal, ..self }
    }

    /// Tells when its configuration is read again.
    pub(crate) fn telling(self, notifier: Notifier) -> Self {
        Self { notifier, ..self }
    }

    /// Its own port, as it reaches it itself.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    pub(crate) fn facts(&self) -> Facts {
        sheaf_agent::facts::facts(&self.config, sheaf_model::version())
    }

    pub(crate) fn logs(&self) -> Arc<Logs> {
        self.logs.clone()
    }

    /// Waits for a registration, then runs the agent until told to stop. A SIGHUP that has come before is done then.
    pub(crate) async fn run(
        self,
        forming: Forming,
        on_hangup: (Signal, Reload),
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let registration = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            // Dropped only when the process ends; what was reached is on disk.
            registered = forming.run() => registered?,
        };
        let (agent, handle) = Agent::new(self.options(&registration, &forming.control))?;
        self.runs.send_replace(Some(handle.clone()));
        let reloading = reloads(handle, on_hangup, self.config.clone(), &self.notifier);
        tokio::select! {
            ended = agent.run(stop) => ended.context("run the agent"),
            // Dropped when the agent has ended: nobody is left to reload.
            ended = reloading => ended,
        }
    }

    fn options(&self, registration: &Registration, control: &Control) -> Options {
        let (place, control, refused) = (control.place().clone(), control.clone(), self.refused.clone());
        let node = registration.node;
        Options {
            data_dir: self.dir.clone(),
            cluster: registration.cluster.clone(),
            node: registration.node,
            key: self.key.clone(),
            incarnation: sheaf_agent::facts::new_incarnation(),
            config: self.config.clone(),
            version: sheaf_model::version().to_owned(),
            own: self.own.clone(),
            transport: place.trust.transport.clone(),
            members: Arc::new(move || members(&place)),
            binary: self.binary.clone(),
            slots: self.slots,
            cache: self.cache.clone(),
            seal: self.seal.clone(),
            stand_in: self.departure == Departure::Restart,
            elsewhere: Arc::new(move || Strain {
                late_timers: control.late_timers(),
                full_queues: control.full_queues().with(Queue::Calls, refused.times()),
                trust: control.said_of_authorities(node),
            }),
        }
    }
}

/// As configured; 0: as many as there are cores.
fn slots(configured: u32) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if configured > 0 { configured } else { u32::try_from(cores).unwrap_or(1) }
}

/// Where members are: the leader first, then the others. Of a cluster that was founded anew there are none any more.
fn members(place: &Place) -> Vec<Contact> {
    if place.successor.borrow().is_some() {
        return Vec::new();
    }
    let leader = place.leader_contact();
    let mut others: BTreeSet<Contact> = place
        .member()
        .into_iter()
        .flat_map(|member| member.replica.metrics().members)
        .map(|member| Contact::of(member.peer.node, member.peer.address))
        .collect();
    // A replica that is still empty knows nobody.
    if others.is_empty() {
        others = place.known_members().into_iter().collect();
    }
    let is_other = |other: &Contact| leader.as_ref().is_none_or(|leader| leader.address != other.address);
    let others: Vec<Contact> = others.into_iter().filter(is_other).collect();
    leader.into_iter().chain(others).collect()
}

/// What this node says of itself to others, reached at `address`.
pub(crate) fn facts(config: &Config, address: &str) -> Facts {
    sheaf_agent::facts::facts(&node_config(config, address), sheaf_model::version())
}

fn node_config(config: &Config, address: &str) -> NodeConfig {
    NodeConfig {
        name: config.name.clone(),
        hostname: config.hostname.clone(),
        address: address.to_owned(),
        labels: config.labels.clone(),
        allow: config.allow.clone(),
        deny: config.deny.clone(),
    }
}

/// Reads `[modules]` and labels again at each SIGHUP. A bad file is refused, and the old values stay.
async fn reloads(
    handle: Handle,
    (mut hangup, reload): (Signal, Reload),
    first: NodeConfig,
    notifier: &Notifier,
) -> anyhow::Result<()> {
    loop {
        if hangup.recv().await.is_none() {
            return std::future::pending().await;
        }
        notifier.reloads();
        match reload() {
            Ok(config) => {
                if (&config.name, &config.hostname) != (&first.name, &first.hostname) {
                    tracing::warn!(
                        "[node] name and hostname are read when the agent starts; it goes on with the old ones"
                    );
                }
                handle.reload(reloaded(&config, &first)).await?;
                tracing::info!(allow = ?config.allow, deny = ?config.deny, labels = ?config.labels, "configuration read again");
            }
            Err(defects) => {
                for defect in defects {
                    tracing::error!("configuration not read again: {defect}");
                }
            }
        }
        notifier.reloaded();
    }
}

/// What a running node takes from its configuration: who it is stays.
fn reloaded(config: &Config, first: &NodeConfig) -> NodeConfig {
    let NodeConfig { name, hostname, address, .. } = first.clone();
    NodeConfig { name, hostname, ..node_config(config, &address) }
}

impl Logs {
    /// The agent, once it runs.
    pub(crate) fn agent(&self) -> Option<Handle> {
        self.0.borrow().clone()
    }

    /// Waits until it runs. None: it will not any more.
    pub(crate) async fn agent_runs(&self) -> Option<Handle> {
        self.0.clone().wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[async_trait]
impl LogsApi for Logs {
    async fn read(&self, caller: Caller, ask: LogsOf) -> Result<Answers<LogLine>, ApiError> {
        match self.agent() {
            Some(handle) => handle.read(caller, ask).await,
            None => Err(ApiError::unavailable("this node is not registered yet")),
        }
    }

    async fn read_attempt(&self, caller: Caller, ask: AttemptLogs) -> Result<Answers<LogLine>, ApiError> {
        match self.agent() {
            Some(handle) => handle.read_attempt(caller, ask).await,
            None => Err(ApiError::unavailable("this node is not registered yet")),
        }
    }
}
