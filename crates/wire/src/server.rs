//! The server side: every service of a node behind one port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::artifact::ArtifactApi;
use crate::backend::BackendApi;
use crate::bucket::BucketApi;
use crate::cluster::ClusterApi;
use crate::debug::DebugApi;
use crate::event::EventApi;
use crate::forward::{Front, Handler, Peers, Route};
use crate::guard::Guard;
use crate::instance::InstanceApi;
use crate::job::JobApi;
use crate::logs::LogsApi;
use crate::module::ModuleApi;
use crate::node::NodeApi;
use crate::peer::{AgentApi, PeerApi};
use crate::proto::{DESCRIPTORS, peer, v1};
use crate::query::QueryApi;
use crate::secret::SecretApi;
use crate::sink::SinkApi;
use crate::transport::Transport;
use crate::{
    artifact, backend, bucket, cluster, debug, event, instance, job, logs, module, node, peer as peers,
    query, secret, sink,
};

mod doorway;

use doorway::Doorway;

/// Longest message in bytes, either way.
pub const MESSAGE_MAX: usize = 16 << 20;
/// What one stream may have under way, in bytes, before its reader must have caught up.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all questions on a connection together.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Longest question about health or services, in bytes: a name, and whoever asks may ask it.
const NAMING_MAX: usize = 4 << 10;
/// Most calls at a time on one connection. Forwarding nodes carry those of many clients on one: all that a node takes, and some
/// more.
const STREAMS_MAX: u32 = 16_384;
/// Pings, so that dead clients do not keep their streams.
const PING: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Probes on connections without a call.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// How long calls under way may take to end once the node stops. Streams end at once.
    pub grace: Duration,
    /// Most public calls at a time that are no streams; beyond, they are refused as `RESOURCE_EXHAUSTED`.
    pub calls: usize,
    /// Most connections at a time that are not proven to be a node's, a quarter of them from one address; beyond, they are
    /// closed. Those of nodes are not counted among them.
    pub connections: usize,
    /// Most connections at a time by one node's certificate; beyond, they are closed. A member has a few to each agent, however
    /// many read logs.
    pub node_connections: usize,
    /// Most calls at a time by one node's certificate that are meant for this very node, streams among them; beyond, they are
    /// refused as `RESOURCE_EXHAUSTED`. What nodes carry on for others counts as others' does; of public streams each has a
    /// quarter at most.
    pub node_calls: usize,
    /// Memory, in bytes, for answers that are no streams and that their callers have not taken yet, and as much again for those that
    /// other nodes have not; beyond, what only reads is refused as `RESOURCE_EXHAUSTED`.
    pub answers: usize,
    /// How long a connection may be silent before its first word.
    pub silent: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(3),
            calls: 8192,
            connections: 4096,
            node_connections: 1024,
            node_calls: 4096,
            answers: 256 << 20,
            silent: Duration::from_secs(10),
        }
    }
}

/// Why serving ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors cannot be served for reflection.
    #[error("prepare reflection: {0}")]
    Reflection(String),
    /// The transport failed.
    #[error("serve gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// The services of a node. Reflection (v1 and v1alpha) and health come by themselves.
#[derive(Default)]
pub struct Server {
    handlers: BTreeMap<&'static str, Handler>,
    health: HealthReporter,
    refused: Refused,
    guard: Option<Arc<dyn Guard>>,
    transport: Transport,
}

/// How many calls and connections were refused because there were too many. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Refused(Arc<AtomicU64>);

impl Refused {
    /// So many.
    pub fn times(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn another(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("services", &self.handlers.keys()).finish_non_exhaustive()
    }
}

/// Adds a service with the limits of all.
macro_rules! serve {
    ($self:ident, $server:path, $serve:path, $api:ident) => {{
        let server = <$server>::new($serve($api));
        $self.add(server.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
    }};
}

impl Server {
    /// No service yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `sheaf.v1.ClusterService`.
    #[must_use]
    pub fn cluster(self, api: Arc<dyn ClusterApi>) -> Self {
        serve!(self, v1::cluster_service_server::ClusterServiceServer<_>, cluster::Serve, api)
    }

    /// Serves `sheaf.v1.BucketService`.
    #[must_use]
    pub fn buckets(self, api: Arc<dyn BucketApi>) -> Self {
        serve!(self, v1::bucket_service_server::BucketServiceServer<_>, bucket::Serve, api)
    }

    /// Serves `sheaf.v1.ModuleService`.
    #[must_use]
    pub fn modules(self, api: Arc<dyn ModuleApi>) -> Self {
        serve!(self, v1::module_service_server::ModuleServiceServer<_>, module::Serve, api)
    }

    /// Serves `sheaf.v1.NodeService`.
    #[must_use]
    pub fn nodes(self, api: Arc<dyn NodeApi>) -> Self {
        serve!(self, v1::node_service_server::NodeServiceServer<_>, node::Serve, api)
    }

    /// Serves `sheaf.v1.InstanceService`.
    #[must_use]
    pub fn instances(self, api: Arc<dyn InstanceApi>) -> Self {
        serve!(self, v1::instance_service_server::InstanceServiceServer<_>, instance::Serve, api)
    }

    /// Serves `sheaf.v1.SecretService`.
    #[must_use]
    pub fn secrets(self, api: Arc<dyn SecretApi>) -> Self {
        serve!(self, v1::secret_service_server::SecretServiceServer<_>, secret::Serve, api)
    }

    /// Serves `sheaf.v1.BackendService`.
    #[must_use]
    pub fn backends(self, api: Arc<dyn BackendApi>) -> Self {
        serve!(self, v1::backend_service_server::BackendServiceServer<_>, backend::Serve, api)
    }

    /// Serves `sheaf.v1.SinkService`.
    #[must_use]
    pub fn sinks(self, api: Arc<dyn SinkApi>) -> Self {
        serve!(self, v1::sink_service_server::SinkServiceServer<_>, sink::Serve, api)
    }

    /// Serves `sheaf.v1.JobService`.
    #[must_use]
    pub fn jobs(self, api: Arc<dyn JobApi>) -> Self {
        serve!(self, v1::job_service_server::JobServiceServer<_>, job::Serve, api)
    }

    /// Serves `sheaf.v1.EventService`.
    #[must_use]
    pub fn events(self, api: Arc<dyn EventApi>) -> Self {
        serve!(self, v1::event_service_server::EventServiceServer<_>, event::Serve, api)
    }

    /// Serves `sheaf.v1.QueryService`.
    #[must_use]
    pub fn queries(self, api: Arc<dyn QueryApi>) -> Self {
        serve!(self, v1::query_service_server::QueryServiceServer<_>, query::Serve, api)
    }

    /// Serves `sheaf.peer.v1.PeerService`.
    #[must_use]
    pub fn peers(self, api: Arc<dyn PeerApi>) -> Self {
        serve!(self, peer::v1::peer_service_server::PeerServiceServer<_>, peers::ServePeer, api)
    }

    /// Serves `sheaf.peer.v1.AgentService`.
    #[must_use]
    pub fn agents(self, api: Arc<dyn AgentApi>) -> Self {
        serve!(self, peer::v1::agent_service_server::AgentServiceServer<_>, peers::ServeAgent, api)
    }

    /// Serves `sheaf.peer.v1.LogService`.
    #[must_use]
    pub fn logs(self, api: Arc<dyn LogsApi>) -> Self {
        serve!(self, peer::v1::log_service_server::LogServiceServer<_>, logs::Serve, api)
    }

    /// Serves `sheaf.peer.v1.DebugService`.
    #[must_use]
    pub fn debugging(self, api: Arc<dyn DebugApi>) -> Self {
        serve!(self, peer::v1::debug_service_server::DebugServiceServer<_>, debug::Serve, api)
    }

    /// Counts there the calls that it refuses.
    #[must_use]
    pub fn counting(self, refused: Refused) -> Self {
        Self { refused, ..self }
    }

    /// Lets in whom the guard says; without one, whoever.
    #[must_use]
    pub fn guarded(self, guard: Arc<dyn Guard>) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Takes connections as it says, and carries calls on over such.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// Serves `sheaf.peer.v1.ArtifactService`.
    #[must_use]
    pub fn artifacts(self, api: Arc<dyn ArtifactApi>) -> Self {
        serve!(self, peer::v1::artifact_service_server::ArtifactServiceServer<_>, artifact::Serve, api)
    }

    /// What the health service says; healthy from the start.
    pub fn health(&self) -> Health {
        Health { reporter: self.health.clone(), services: self.public() }
    }

    fn public(&self) -> Vec<&'static str> {
        self.handlers.keys().copied().filter(|name| name.starts_with("sheaf.v1.")).collect()
    }

    fn add<S>(mut self, service: S) -> Self
    where
        S: tower::Service<
                Request<Body>,
                Response = Response<Body>,
                Error = std::convert::Infallible,
                Future = tonic::codegen::BoxFuture<Response<Body>, std::convert::Infallible>,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        // The generated services are always ready.
        let handler: Handler = Arc::new(move |request| service.clone().call(request));
        self.handlers.insert(S::NAME, handler);
        self
    }

    /// Answers calls until `stop` is done and those under way have ended, or the grace has. From then on peers are
    /// refused too: whoever leads hands over before.
    ///
    /// Boxed, so that the transport is compiled here, and not with whoever waits for it.
    pub fn serve(
        self,
        listener: TcpListener,
        route: Arc<dyn Route>,
        options: ServeOptions,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), ServeError>> {
        self.serve_boxed(listener, route, options, Box::pin(stop))
    }

    fn serve_boxed(
        self,
        listener: TcpListener,
        route: Arc<dyn Route>,
        options: ServeOptions,
        stop: BoxFuture<'static, ()>,
    ) -> BoxFuture<'static, Result<(), ServeError>> {
        Box::pin(self.serve_until(listener, route, options, stop))
    }

    async fn serve_until(
        self,
        listener: TcpListener,
        route: Arc<dyn Route>,
        options: ServeOptions,
        stop: BoxFuture<'static, ()>,
    ) -> Result<(), ServeError> {
        let health = self.health();
        health.set(true).await;
        let (stopping, stopped) = watch::channel(false);
        let (transport, refused) = (self.transport.clone(), self.refused.clone());
        let front = self.front(route, options, stopped.clone())?;
        let stop = async {
            stop.await;
            health.set(false).await;
            stopping.send_replace(true);
        };
        let incoming =
            TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
        let incoming = Doorway::new(transport, options, refused).shaken(incoming);
        let serving = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS_MAX)
            // A node that forwards many calls may give them all up at once, at their deadline.
            .http2_max_pending_accept_reset_streams(Some(STREAMS_MAX as usize))
            .http2_keepalive_interval(Some(PING))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .serve_with_incoming_shutdown(front, incoming, stop);
        let mut stopped = stopped;
        let graceless = async {
            let _ = stopped.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(options.grace).await;
        };
        tokio::select! {
            // Dropped: connections that would not end are cut off with the process.
            served = serving => served.map_err(ServeError::from),
            // Dropped: a timer.
            () = graceless => Ok(()),
        }
    }

    /// All services behind one, which carries on what is answered elsewhere.
    pub(crate) fn front(
        self,
        route: Arc<dyn Route>,
        options: ServeOptions,
        stopped: watch::Receiver<bool>,
    ) -> Result<Front, ServeError> {
        let server = self.with_reflection()?;
        let peers = Peers::new(server.transport);
        Ok(Front::new(server.handlers, route, peers, (options, server.refused), server.guard, stopped))
    }

    fn with_reflection(mut self) -> Result<Self, ServeError> {
        let mut names = self.public();
        names.extend(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
        names.push("grpc.reflection.v1alpha.ServerReflection");
        let builder = || {
            let builder = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
        };
        let failed = |error: tonic_reflection::server::Error| ServeError::Reflection(error.to_string());
        let v1 = builder().build_v1().map_err(failed)?;
        let v1alpha = builder().build_v1alpha().map_err(failed)?;
        let health = tonic_health::server::HealthService::from_health_reporter(self.health.clone());
        let health = tonic_health::pb::health_server::HealthServer::new(health);
        self = self.add(v1.max_decoding_message_size(NAMING_MAX));
        self = self.add(v1alpha.max_decoding_message_size(NAMING_MAX));
        Ok(self.add(health.max_decoding_message_size(NAMING_MAX)))
    }
}

/// Says to the health service how this node is.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Vec<&'static str>,
}

impl Health {
    /// Whether this node answers calls: `SERVING` or `NOT_SERVING`, for the node and each public service.
    pub async fn set(&self, healthy: bool) {
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in self.services.iter().copied().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
