//! Connections: how many, how slow, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::BoxFuture;
use sheaf_wire::inward::Inward;
use sheaf_wire::{ApiError, Client, Crowd};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::door::Door;
use crate::fresh::{Fresh, Lately};
use crate::guard::Hosts;
use crate::health::Ready;
use crate::hint::Hints;
use crate::metrics::Metrics;
use crate::{api, assets, guard, health, metrics};

/// After a failed accept, e.g. because no descriptor is left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What one node's dashboard is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name.
    pub node: String,
    /// Names under which the node is reached, beside loopback and the address listened on. A page asked for under another
    /// name is refused: somebody else's name may lead here.
    pub hosts: Vec<String>,
    /// Whether the cluster asks for tokens: whoever looks must log in with one.
    pub secured: bool,
    /// For how long browsers are to remember that this host is to be asked by TLS alone, on any of its ports (RFC 6797). For
    /// certificates that browsers believe anyway: of others they do not take it.
    pub strict_transport: Option<Duration>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of everything that a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, of one other machine a quarter of them; one more is told so and closed.
    pub connections: usize,
    /// Streams at a time, of events and of output.
    pub streams: usize,
    /// How long it may take until a client has said whether it speaks TLS, and until that is agreed on.
    pub open_within: Duration,
    /// How long the head of a request may take, also on a connection kept open.
    pub head_within: Duration,
    /// How long the body of a request may take.
    pub body_within: Duration,
    /// Longest body of a request in bytes.
    pub body: usize,
    /// A reader that takes nothing for so long is cut off.
    pub stalled: Duration,
    /// How long answers under way may take once the node stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 256,
            open_within: Duration::from_secs(10),
            head_within: Duration::from_secs(10),
            body_within: Duration::from_secs(10),
            body: 256 << 10,
            stalled: Duration::from_secs(20),
            grace: Duration::from_secs(2),
        }
    }
}

/// Says what a node waits for, as long as it does.
type Awaits = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What every answer is made with.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) access: Access,
    pub(crate) hosts: Hosts,
    /// None: TLS is not spoken.
    pub(crate) tls: Option<Inward>,
    client: Client,
    awaits: Awaits,
    pub(crate) metrics: Metrics,
    pub(crate) ready: Lately<Ready>,
    pub(crate) fresh: Fresh,
    pub(crate) hints: Hints,
    /// As many as streams may be open.
    pub(crate) streams: Arc<Semaphore>,
    /// The node stops: streams end.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// Who asks this node's own port.
    ///
    /// # Errors
    /// Nothing may be asked yet: what the node waits for.
    pub(crate) fn client(&self) -> Result<&Client, ApiError> {
        match (self.awaits)() {
            Some(what) => Err(ApiError::unavailable(what)),
            None => Ok(&self.client),
        }
    }
}

/// The HTTP side of a node.
pub struct Web {
    options: Options,
    client: Client,
    awaits: Awaits,
    metrics: Metrics,
    tls: Option<Inward>,
}

impl Web {
    /// A dashboard that asks `client`, which leads to this node's own port.
    pub fn new(options: Options, client: Client, metrics: Metrics) -> Self {
        Self { options, client, awaits: Box::new(|| None), metrics, tls: None }
    }

    /// The same, which speaks TLS with who begins it. Where tokens are asked for, pages are for other machines then, too.
    #[must_use]
    pub fn over(self, tls: Inward) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same, which asks nothing as long as this says what the node waits for: a connection that a node makes before
    /// it has a certificate of its own is that of a stranger for ever.
    #[must_use]
    pub fn awaiting(self, awaits: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self { awaits: Box::new(awaits), ..self }
    }

    /// Answers until `stop`, and returns when all connections have ended.
    ///
    /// Boxed, so that all of it is compiled here, and not with whoever waits for it.
    ///
    /// # Errors
    /// The listener does not know its address.
    pub fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> BoxFuture<'static, std::io::Result<()>> {
        Box::pin(self.serve_all(listener, stop))
    }

    async fn serve_all(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let listening = listener.local_addr()?;
        let limits = self.options.limits;
        let shared = Arc::new(Shared {
            access: Access::new(listening.port(), self.options.secured),
            hosts: Hosts::new(listening.ip(), &self.options.hosts, self.tls.clone()),
            tls: self.tls.clone(),
            options: self.options,
            client: self.client,
            awaits: self.awaits,
            metrics: self.metrics,
            ready: Lately::default(),
            fresh: Fresh::default(),
            hints: Hints::default(),
            streams: Arc::new(Semaphore::new(limits.streams)),
            stop: stop.clone(),
        });
        let upkeep = shared.metrics.clone();
        let door = Door { router: router(shared), limits, tls: self.tls, stop: stop.clone() };
        let crowd = Crowd::of(limits.connections);
        let mut connections = JoinSet::new();
        let mut tidy = tokio::time::interval(metrics::UPKEEP);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // Dropping `accept` loses no connection.
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => match crowd.enter(peer.ip()) {
                        Some(place) => {
                            connections.spawn(door.clone().serve(stream, peer, place));
                        }
                        None => refuse(&stream),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                // Dropping `join_next` loses nothing: the set keeps what has ended.
                Some(_ended) = connections.join_next() => {}
                // Dropping `tick` loses nothing.
                _ = tidy.tick() => upkeep.upkeep(),
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(assets::routes())
        .merge(health::routes())
        .merge(metrics::routes())
        .merge(api::routes())
        .fallback(guard::not_found)
        .layer(axum::middleware::from_fn_with_state(shared.clone(), guard::guarded))
        .with_state(shared)
}

/// Says that there are too many, as far as that can be said without waiting.
fn refuse(stream: &TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 5\r\n\
        connection: close\r\n\r\ntoo many connections to this node's dashboard; close some, or ask another node\n";
    // Who does not read it sees the connection closed.
    let _ = stream.try_write(ANSWER);
}
