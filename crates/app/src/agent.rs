//! `sheaf agent`: puts the parts together, runs them, waits for a signal, drains.
//!
//! ```text
//!  config ─► data directory ─► listener ─► Place ─┬─► Control (API, sessions, conductor)  ◄─┐
//!                                                 ├─► server (gRPC, forwarding)             │ gRPC
//!                                                 ├─► web (dashboard, JSON, metrics) ───────┤
//!                                                 ├─► Forming ─► registration               │
//!                                                 └─► Agent (gates, keepers, watch, session)┘
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sheaf_agent::{Handle, Leaving};
use sheaf_artifact::Cache;
use sheaf_control::{Control, Identity, Members, Place, Sealing};
use sheaf_model::Contact;
use sheaf_seal::Key;
use sheaf_web::metrics::Metrics;
use sheaf_wire::{Client, Refused, ServeOptions, Server, Transport};
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::clock::SystemClock;
use crate::config::{Config, Warning};
use crate::data::{DataDir, Record, SharedDir, replica_dir};
use crate::form::Forming;
use crate::http::{self, Measured, Port};
use crate::insight::Insight;
use crate::node::{self, Logs, Node};
use crate::notify::Notifier;
use crate::recover;
use crate::replica::ReplicaOpener;
use crate::secure;
use crate::signals::{Departure, Signals, Stops};
use crate::telemetry::{self, Recent};

/// How long parts may take to end once told to: leadership goes first, then the agent, then the rest. A second signal ends nothing
/// sooner: what is cut off is lost, and who is in a hurry has SIGKILL.
const DRAIN_WITHIN: Duration = sheaf_agent::agent::STOPS_WITHIN.saturating_add(Duration::from_secs(6));
/// How long the node's work may take to go elsewhere, for an agent that is to release it, also if it has just been started.
const RELEASE_WITHIN: Duration = Duration::from_secs(60);

/// Reads the configuration anew, for SIGHUP.
pub(crate) type Reload = Box<dyn Fn() -> Result<Config, Vec<sheaf_model::Defect>> + Send>;

/// What runs, by name: the first to end ends all.
type Services = JoinSet<(&'static str, anyhow::Result<()>)>;

/// The part that ends first when the agent is to stop.
const NODE: &str = "agent";

/// Runs an agent until a signal or a failure.
pub(crate) async fn run(
    config: Config,
    recent: Recent,
    reload: Reload,
    departure: Departure,
    signals: Signals,
) -> anyhow::Result<()> {
    let Signals { hangup, mut stops } = signals;
    let (on_hangup, notifier) = ((hangup, reload), Notifier::of_environment());
    let mut starting = Box::pin(start(config, recent, on_hangup, departure, notifier.clone()));
    let mut asked = None;
    let (leaver, services) = loop {
        tokio::select! {
            started = &mut starting => break started?,
            how = stops.next(departure) => match how {
                // What there is to hand over is known once it has started.
                Departure::Release(_) if asked.is_none() => asked = Some(how),
                // Dropped, it is as if it had been killed, which it must survive anyway.
                _ => {
                    tracing::info!("stopping before all is started");
                    notifier.stops();
                    return Ok(());
                }
            },
        }
    };
    leaver.wait(services, stops, departure, asked).await
}

/// Starts everything.
async fn start(
    config: Config,
    recent: Recent,
    on_hangup: (Signal, Reload),
    departure: Departure,
    notifier: Notifier,
) -> anyhow::Result<(Leaver, Services)> {
    for Warning { problem, remedy } in config.warnings() {
        tracing::warn!("{problem}; {remedy}");
    }
    let key = key(&config)?;
    let config = Arc::new(config);
    let data = DataDir::open(&config.dir)?;
    let dir = data.path().to_owned();
    let (trust, proof) = secure::trust(&config, &dir)?;
    let (record, data) = (data.record.clone(), SharedDir::new(data));
    let (listener, listening) = listen(&config).await?;
    let port = Port::open(&config, &trust.transport).await?;
    secure::refuse_open(&trust, listening, &config)?;
    let transport = trust.transport.clone();
    let stop = CancellationToken::new();
    let mut services = Services::new();

    let identity = identity(&config, &record, listening);
    let dashboard = Port::shown(port.as_ref());
    tracing::info!(node = %identity.name, address = %identity.address, dashboard, dir = %dir.display(), "agent starts");
    let (sender, replicas) = mpsc::channel(1);
    let (dirs, over) = ((dir.clone(), data.clone()), transport.clone());
    let opener = Arc::new(ReplicaOpener::new(config.clone(), dirs, over, sender));
    let place = Arc::new(Place::new(identity.clone(), opener.clone(), trust));
    remember(&place, &opener, &record, &config);
    if let (true, Some(cluster)) = (record.member, &record.cluster) {
        if let Some(number) = record.node {
            let facts = node::facts(&config, &identity.address);
            secure::be_node(&place.trust, number, facts.hosts()).context("make this node's certificate")?;
        }
        greet(&place, &data, &replica_dir(&dir, cluster)).await?;
    }
    let cache =
        Cache::open(&dir.join("artifacts"), config.artifact_cache.0).context("open the artifact cache")?;
    let cache = cache.over(transport.clone());
    let (control, loops) = Control::new(place.clone(), Arc::new(SystemClock), cache.clone());
    let refused = Refused::default();
    let node = Node::new(&config, &dir, listening, &identity.address, record.key.clone(), cache, departure)?;
    let node = node.counting(refused.clone()).opening(key.clone()).telling(notifier.clone());
    let control = control.letting_sinks_run(config.exec_allow.clone(), sheaf_agent::start);
    let (control, own) = sealed(control, &node, key, &transport)?;
    let loops = loops.of(&control);
    let token = stop.clone();
    services.spawn(async move {
        loops.run(token).await;
        ("control", Ok(()))
    });
    let (logs, name) = (node.logs(), config.name.to_string());
    let shown = Measured { control: control.clone(), logs: logs.clone(), refused, client: own, name, dir };
    Doors { listener, port, config: config.clone(), recent }.open(&mut services, shown, &stop)?;
    services.spawn(notifier.clone().follow(place.clone(), stop.clone()));
    services.spawn(telemetry::trace_agent(config.clone(), stop.clone()));
    spawn_rest(&mut services, replicas, &place, &data, &stop);
    if let (true, Some(number)) = (record.member, record.node) {
        control.become_member(number).await.context("open the replica")?;
    }
    let facts = node.facts();
    let forming = Forming { config: config.clone(), control: control.clone(), data, opener, facts, proof };
    let leave = stop.child_token();
    let token = leave.clone();
    services.spawn(async move { (NODE, node.run(forming, on_hangup, token).await) });
    Ok((Leaver { control, logs, leave, stop, notifier }, services))
}

/// Where others reach the node, and what they may see of it beside.
struct Doors {
    listener: TcpListener,
    port: Option<Port>,
    config: Arc<Config>,
    recent: Recent,
}

impl Doors {
    /// Answers from now on.
    fn open(self, services: &mut Services, shown: Measured, stop: &CancellationToken) -> anyhow::Result<()> {
        let Self { listener, port, config, recent } = self;
        let (control, logs, dir) = (shown.control.clone(), shown.logs.clone(), shown.dir.clone());
        let (own, refused) = (shown.client.clone(), shown.refused.clone());
        let metrics = Metrics::install(Arc::new(shown)).context("begin to count")?;
        let (place, measures) = (control.place().clone(), metrics.clone());
        let web = http::serve(port, config.clone(), measures, own, place, stop.clone());
        services.spawn(async move { ("web", web.await) });
        let (counted, of) = (control.clone(), logs.clone());
        let insight = Arc::new(Insight { config, control: counted, logs: of, metrics, recent, dir });
        let serving = serve(listener, control, logs, insight, refused, stop.clone());
        services.spawn(async move { ("server", serving.await) });
        Ok(())
    }
}

/// What secrets are sealed with, if a file is named.
fn key(config: &Config) -> anyhow::Result<Option<Arc<Key>>> {
    let key = config.key_file.as_deref().map(Key::read).transpose().context("use [secrets] key_file")?;
    Ok(key.map(Arc::new))
}

/// What the node is, before it belongs to anything.
fn identity(config: &Config, record: &Record, listening: SocketAddr) -> Identity {
    let address = address::advertised(config, listening);
    if address::leads_astray(&config.join, &address) {
        tracing::warn!(
            "others are told {address}, which leads each of them to itself; to mend that: {}",
            address::REMEDY
        );
    }
    if address::is_cut_off(config, listening, &address) {
        tracing::warn!(
            "this machine has no way to others: those that join this node are told {address}, which leads each of them to \
             itself; to mend that: {}",
            address::REMEDY_CUT_OFF
        );
    }
    Identity {
        instance: uuid::Uuid::new_v4().to_string(),
        key: record.key.clone(),
        name: config.name.clone(),
        address,
    }
}

/// What the data directory knows of where the node belongs.
fn remember(place: &Place, opener: &ReplicaOpener, record: &Record, config: &Config) {
    place.members.send_modify(|members| {
        members.proven = record.proven;
        for address in record.members.iter().chain(&config.join) {
            let (address, node) = (address.clone(), record.numbers.get(address).copied());
            members.note(Contact { address, node });
        }
    });
    if let (Some(cluster), Some(node)) = (record.cluster.clone(), record.node) {
        opener.belongs_to(cluster.clone());
        let left = record.left.as_ref() == Some(&cluster);
        place.registration.send_replace(Some(sheaf_control::Registration { cluster, node }));
        if left {
            place.leave();
        }
    }
}

/// The parts that ask nobody.
fn spawn_rest(
    services: &mut Services,
    replicas: mpsc::Receiver<sheaf_consensus::Service>,
    place: &Arc<Place>,
    data: &SharedDir,
    stop: &CancellationToken,
) {
    services.spawn(run_replica(replicas, stop.clone()));
    services.spawn(remember_members(place.clone(), data.clone(), stop.clone()));
    services.spawn(follow_successor(place.clone(), data.clone(), stop.clone()));
    services.spawn(remember_leaving(place.clone(), data.clone(), stop.clone()));
}

/// The node's port, and what secrets are sealed with.
fn sealed(
    control: Control,
    node: &Node,
    key: Option<Arc<Key>>,
    transport: &Transport,
) -> anyhow::Result<(Control, Client)> {
    let over = sheaf_wire::Options { transport: transport.clone(), ..sheaf_wire::Options::default() };
    let own = Client::lazy(node.own(), over).context("know its own port")?;
    let control = control.sealing(Sealing { key, own: own.clone() });
    Ok((if transport.is_secured() { control.secured() } else { control }, own))
}

/// Opens the port of the API, agents and members.
async fn listen(config: &Config) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(&config.grpc).await.with_context(|| {
        format!("listen on {}: is another agent running here? else set [listen] grpc", config.grpc)
    })?;
    let listening = listener.local_addr().context("learn the listening address")?;
    Ok((listener, listening))
}

/// Before anybody is answered: a replica of a cluster that was founded anew must not bring the former one back to life, and
/// the others' votes would open it.
async fn greet(place: &Arc<Place>, data: &SharedDir, replica: &Path) -> anyhow::Result<()> {
    let mut members = place.members.borrow().clone();
    // What the replica says is newer than what was known before there was one.
    sheaf_consensus::nodes_on_disk(replica).into_iter().for_each(|contact| members.note(contact));
    sheaf_control::meet(place, members.contacts()).await;
    refuse_succeeded(place, data)
}

/// Serves everything on one port.
async fn serve(
    listener: TcpListener,
    control: Control,
    logs: Arc<Logs>,
    insight: Arc<Insight>,
    refused: Refused,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let control = Arc::new(control);
    let server = (control.answer_on(Server::new()))
        .logs(logs)
        .debugging(insight)
        .over(control.place().trust.transport.clone())
        .counting(refused);
    // What is not secured is on loopback alone.
    let server =
        if control.place().trust.transport.is_secured() { server.guarded(control.clone()) } else { server };
    let stopped = async move { stop.cancelled().await };
    server.serve(listener, control, serving(), stopped).await.context("serve")
}

/// Half of the files that this process may have open are for connections of who is no node; the rest is for the node's own
/// work, which must not wait for them.
fn serving() -> ServeOptions {
    let most = ServeOptions::default();
    let half = crate::check::open_files().and_then(|files| usize::try_from(files / 2).ok());
    let connections = half.map_or(most.connections, |half| half.min(most.connections));
    // A node's certificate opens no more than an address does.
    ServeOptions { connections, node_connections: most.node_connections.min(connections.div_ceil(4)), ..most }
}

/// Runs the replica's service once there is a replica.
async fn run_replica(
    mut replicas: mpsc::Receiver<sheaf_consensus::Service>,
    stop: CancellationToken,
) -> (&'static str, anyhow::Result<()>) {
    let service = tokio::select! {
        () = stop.cancelled() => return ("replica", Ok(())),
        // Dropping `recv` loses nothing.
        service = replicas.recv() => service,
    };
    match service {
        Some(service) => ("replica", service.run(stop).await.context("replicate")),
        None => ("replica", Ok(())),
    }
}

/// This node's cluster was founded anew after a disaster: the process starts again, as a node of the new one.
#[derive(Debug, thiserror::Error)]
#[error("this node's cluster was founded anew as {0}; starting again as a node of that one")]
pub(crate) struct Refounded(sheaf_model::ClusterId);

fn refuse_succeeded(place: &Place, data: &SharedDir) -> anyhow::Result<()> {
    let Some(successor) = place.successor.borrow().clone() else { return Ok(()) };
    recover::follow(data, &successor)?;
    Err(Refounded(successor).into())
}

async fn follow_successor(
    place: Arc<Place>,
    data: SharedDir,
    stop: CancellationToken,
) -> (&'static str, anyhow::Result<()>) {
    let mut successor = place.successor.subscribe();
    tokio::select! {
        () = stop.cancelled() => {}
        // Dropping it loses nothing: the value stays.
        _ = successor.wait_for(Option::is_some) => {}
    }
    ("founding", refuse_succeeded(&place, &data))
}

/// Writes down where members are, for the next start.
async fn remember_members(
    place: Arc<Place>,
    data: SharedDir,
    stop: CancellationToken,
) -> (&'static str, anyhow::Result<()>) {
    let mut members = place.members.subscribe();
    loop {
        let Members { known, proven, .. } = members.borrow_and_update().clone();
        let noted = data.update(|record| {
            record.proven = proven;
            record.numbers =
                known.iter().filter_map(|(address, node)| Some((address.clone(), (*node)?))).collect();
            record.members = known.into_keys().collect();
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "where members are was not written down");
        }
        tokio::select! {
            () = stop.cancelled() => return ("members", Ok(())),
            // Dropping `changed` loses nothing: the value stays.
            changed = members.changed() => if changed.is_err() { return ("members", Ok(())) },
        }
    }
}

/// Writes down that this node was forgotten: its next life knows it, also where nobody is there to say so.
async fn remember_leaving(
    place: Arc<Place>,
    data: SharedDir,
    stop: CancellationToken,
) -> (&'static str, anyhow::Result<()>) {
    let mut left = place.left.subscribe();
    tokio::select! {
        () = stop.cancelled() => return ("leaving", Ok(())),
        // Dropping it loses nothing: the value stays.
        _ = left.wait_for(|left| *left) => {}
    }
    let cluster = place.cluster();
    if let Err(error) = data.update(|record| record.left = cluster) {
        tracing::warn!(%error, "that this node was forgotten was not written down; its next life asks again");
    }
    stop.cancelled().await;
    ("leaving", Ok(()))
}

/// What it takes to stop in an orderly way.
struct Leaver {
    control: Control,
    logs: Arc<Logs>,
    /// Ends the node's part.
    leave: CancellationToken,
    /// Ends everything.
    stop: CancellationToken,
    notifier: Notifier,
}

impl Leaver {
    /// Waits for a signal, unless one has come already, or for the first part that ends, and for all others. By a signal
    /// another node leads first, then the node's work is left in other hands, and only then does this member fall silent.
    async fn wait(
        self,
        mut services: Services,
        mut stops: Stops,
        departure: Departure,
        asked: Option<Departure>,
    ) -> anyhow::Result<()> {
        let (asked, first) = match asked {
            Some(how) => (Some(how), None),
            None => tokio::select! {
                how = stops.next(departure) => (Some(how), None),
                // Dropping `join_next` loses nothing: the set keeps what has ended.
                ended = services.join_next() => (None, ended),
            },
        };
        tracing::info!("stopping");
        if asked.is_some() {
            // Else it may begin another life, which is no stop.
            self.notifier.stops();
        }
        if let Some(Departure::Release(leaving)) = asked {
            tokio::select! {
                () = self.release(leaving) => {}
                () = stops.terminated() => tracing::warn!("asked again: stopping before all is handed over"),
            }
        }
        let mut result = first.map_or(Ok(()), |first| ended(first).1);
        let asked = asked.is_some();
        let rest = self.end(&mut services, asked, &mut result);
        if tokio::time::timeout(DRAIN_WITHIN, rest).await.is_err() {
            tracing::warn!("some parts did not end within {DRAIN_WITHIN:?}");
        }
        // Who was asked to stop does not start again.
        result.or_else(|error| if asked && error.is::<Refounded>() { Ok(()) } else { Err(error) })
    }

    /// Lets the node's work go elsewhere.
    async fn release(&self, leaving: Leaving) {
        let release = async {
            let agent = self.agent().await?;
            tracing::info!("this node's work goes elsewhere first");
            Some(agent.leave(leaving).await)
        };
        match tokio::time::timeout(RELEASE_WITHIN, release).await {
            Ok(None) => {}
            Ok(Some(Ok(()))) => tracing::info!("nothing is bound to this node any more"),
            Ok(Some(Err(error))) => tracing::warn!(%error, "work may be left here"),
            Err(_) => tracing::warn!("work may be left here after {RELEASE_WITHIN:?}"),
        }
    }

    /// The node's agent, also if it is about to run. None: nothing can be bound to this node.
    async fn agent(&self) -> Option<Handle> {
        let place = self.control.place();
        if place.registration.borrow().is_none() || place.has_left() {
            return self.logs.agent();
        }
        self.logs.agent_runs().await
    }

    /// Ends all parts in their order; `result` is the first failure of all.
    async fn end(&self, services: &mut Services, asked: bool, result: &mut anyhow::Result<()>) {
        if asked {
            self.control.hand_over().await;
            self.leave.cancel();
        } else {
            self.stop.cancel();
        }
        while let Some(next) = services.join_next().await {
            let (name, next) = ended(next);
            if result.is_ok() {
                *result = next;
            }
            if name.is_none_or(|name| name == NODE) {
                self.stop.cancel();
            }
        }
    }
}

/// Which part ended, if it could say, and how.
fn ended(
    joined: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
) -> (Option<&'static str>, anyhow::Result<()>) {
    match joined {
        Ok((name, result)) => (Some(name), result.with_context(|| name.to_owned())),
        Err(error) if error.is_cancelled() => (None, Ok(())),
        Err(error) => (None, Err(anyhow::anyhow!("a part of the agent panicked: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits for less loses what the agent was about to hand over.
    #[test]
    fn whoever_stops_an_agent_waits_for_as_long_as_it_may_take() {
        let takes = RELEASE_WITHIN + DRAIN_WITHIN;
        assert!(crate::stop::WITHIN > takes, "sheaf agent stop");
        for (text, key) in [
            (include_str!("../../../deploy/systemd/sheaf.service"), "TimeoutStopSec="),
            (include_str!("../../../deploy/kubernetes/voters.yaml"), "terminationGracePeriodSeconds: "),
            (include_str!("../../../deploy/kubernetes/agents.yaml"), "terminationGracePeriodSeconds: "),
            (include_str!("../../../deploy/compose/twenty-nodes.yaml"), "stop_grace_period: "),
        ] {
            let said = text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
            let waits = Duration::from_secs(said.trim_end_matches('s').parse().unwrap());
            assert!(waits > takes, "{key}{said}: an agent may take {takes:?}");
        }
    }
}
