//! `sheaf agent`: puts the parts together, runs them, waits for a signal, drains.
//!
//! ```text
//!  config ─► data directory ─► listener ─► Place ─┬─► Control (API, sessions, conductor)  ◄─┐
//!                                                 ├─► server (gRPC, forwarding)             │ gRPC
//!                                                 ├─► Forming ─► registration               │
//!                                                 └─► Agent (gates, keepers, watch, session)┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sheaf_control::{Control, Identity, Place};
use sheaf_wire::{ServeOptions, Server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::data::{DataDir, SharedDir};
use crate::form::Forming;
use crate::node::{Logs, Node};
use crate::replica::ReplicaOpener;

/// How long parts may take to end once told to.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Reads the configuration anew, for SIGHUP.
pub(crate) type Reload = Box<dyn Fn() -> Result<Config, Vec<sheaf_model::Defect>> + Send>;

/// What runs, by name: the first to end ends all.
type Services = JoinSet<(&'static str, anyhow::Result<()>)>;

/// Runs an agent until a signal or a failure.
pub(crate) async fn run(config: Config, reload: Reload) -> anyhow::Result<()> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let config = Arc::new(config);
    let data = DataDir::open(&config.dir)?;
    let dir = data.path().to_owned();
    let record = data.record.clone();
    let data = SharedDir::new(data);
    let listener = TcpListener::bind(&config.grpc).await.with_context(|| {
        format!("listen on {}: is another agent running here? else set [listen] grpc", config.grpc)
    })?;
    let listening = listener.local_addr().context("learn the listening address")?;
    let stop = CancellationToken::new();
    let mut services = Services::new();

    let identity = Identity {
        instance: uuid::Uuid::new_v4().to_string(),
        key: record.key.clone(),
        name: config.name.clone(),
        address: address::advertised(&config, listening),
    };
    tracing::info!(node = %identity.name, address = %identity.address, dir = %dir.display(), "agent starts");
    let (replica_services, replicas) = mpsc::channel(1);
    let opener = Arc::new(ReplicaOpener::new(config.clone(), dir.clone(), data.clone(), replica_services));
    let place = Arc::new(Place::new(identity.clone(), opener.clone()));
    place.members.send_modify(|members| {
        members.known.extend(record.members.iter().chain(&config.join).cloned());
    });
    if let (Some(cluster), Some(node)) = (record.cluster.clone(), record.node) {
        opener.belongs_to(cluster.clone());
        place.registration.send_replace(Some(sheaf_control::Registration { cluster, node }));
    }
    let (control, loops) = Control::new(place.clone(), Arc::new(SystemClock));
    let node = Node::new(&config, &dir, listening, &identity.address, record.key.clone())?;

    let token = stop.clone();
    services.spawn(async move {
        loops.run(token).await;
        ("control", Ok(()))
    });
    let serving = serve(listener, control.clone(), node.logs(), stop.clone());
    services.spawn(async move { ("server", serving.await) });
    services.spawn(run_replica(replicas, stop.clone()));
    services.spawn(remember_members(place.clone(), data.clone(), stop.clone()));
    if let (true, Some(number)) = (record.member, record.node) {
        control.become_member(number).await.context("open the replica")?;
    }
    let facts = node.facts();
    let forming = Forming { config: config.clone(), control, data, opener, facts };
    let token = stop.clone();
    services.spawn(async move { ("agent", node.run(forming, reload, token).await) });
    drain(services, stop).await
}

/// Serves everything on one port.
async fn serve(
    listener: TcpListener,
    control: Control,
    logs: Arc<Logs>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let control = Arc::new(control);
    let server = Server::new()
        .cluster(control.clone())
        .buckets(control.clone())
        .modules(control.clone())
        .nodes(control.clone())
        .events(control.clone())
        .peers(control.clone())
        .agents(control.clone())
        .logs(logs);
    let stopped = async move { stop.cancelled().await };
    server.serve(listener, control, ServeOptions::default(), stopped).await.context("serve")
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

/// Writes down where members are, for the next start.
async fn remember_members(
    place: Arc<Place>,
    data: SharedDir,
    stop: CancellationToken,
) -> (&'static str, anyhow::Result<()>) {
    let mut members = place.members.subscribe();
    loop {
        let known: Vec<String> = members.borrow_and_update().known.iter().cloned().collect();
        if let Err(error) = data.update(|record| record.members = known) {
            tracing::warn!(%error, "where members are was not written down");
        }
        tokio::select! {
            () = stop.cancelled() => return ("members", Ok(())),
            // Dropping `changed` loses nothing: the value stays.
            changed = members.changed() => if changed.is_err() { return ("members", Ok(())) },
        }
    }
}

/// Waits for a signal or for the first part that ends, tells the others to end, and waits for them.
async fn drain(mut services: Services, stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let first = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // Dropping `join_next` loses nothing: the set keeps what has ended.
        ended = services.join_next() => ended,
    };
    tracing::info!("stopping");
    stop.cancel();
    let mut result = first.map_or(Ok(()), ended);
    let rest = async {
        while let Some(next) = services.join_next().await {
            let next = ended(next);
            if result.is_ok() {
                result = next;
            }
        }
    };
    if tokio::time::timeout(DRAIN_WITHIN, rest).await.is_err() {
        tracing::warn!("some parts did not end within {DRAIN_WITHIN:?}");
    }
    result
}

fn ended(joined: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Result<()> {
    match joined {
        Ok((name, result)) => result.with_context(|| name.to_owned()),
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => Err(anyhow::anyhow!("a part of the agent panicked: {error}")),
    }
}
