//! How connections are made and taken: plain on a machine that trusts itself, else TLS on both sides.
//!
//! ```text
//!  who dials                       asks for                verifies by            shows
//!  a node with a certificate       agent.sheaf.internal    the authorities        its certificate
//!  a node with the join secret     join.sheaf.internal     the secret's authority the secret's certificate
//!  a node with a join token        agent.sheaf.internal    the token's pin        nothing; the token goes into Join
//!  a person                        agent.sheaf.internal    the authority or pin   nothing; a token goes with each call
//! ```
//!
//! What a node has changes while it runs: it gets its certificate when it joins, and renews it. Connections that are there
//! stay; new ones are made with what is there then.
//!
//! Read `credentials`, then `verify`, `vouch`, `connection`, `dialled`, `crowd`.

mod connection;
mod credentials;
mod crowd;
mod dialled;
mod verify;
mod vouch;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use sheaf_model::{AGENT_NAME, JOIN_NAME};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint};

pub(crate) use connection::{Arrived, Connection};
pub use credentials::{Credentials, CredentialsError, Join, Pair, Pin};
pub use crowd::{Crowd, Place};
use dialled::Dialled;
use verify::Found;
pub use verify::JOINS_ANEW;
pub(crate) use verify::holder;
pub use vouch::vouched;

/// See the module's doc. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Transport(Option<Arc<Tls>>);

#[derive(Debug)]
struct Tls {
    /// Read for each connection, written when credentials change.
    now: RwLock<Now>,
    /// What a pin led to.
    found: Arc<Mutex<Found>>,
}

/// What connections are made of now.
#[derive(Clone)]
struct Now {
    /// This node's certificate.
    own: Option<Arc<CertifiedKey>>,
    server: Option<Arc<ServerConfig>>,
    client: Option<(Arc<ClientConfig>, &'static str)>,
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Now")
            .field("dials", &self.client.as_ref().map(|(_, name)| name))
            .finish_non_exhaustive()
    }
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Eq for Transport {}

impl Transport {
    /// Without TLS, for what does not leave the machine.
    pub fn plain() -> Self {
        Self(None)
    }

    /// TLS with these.
    ///
    /// # Errors
    /// That they are not what they should be.
    pub fn tls(credentials: &Credentials) -> Result<Self, CredentialsError> {
        let found = Arc::default();
        let now = RwLock::new(credentials.configure(&found)?);
        Ok(Self(Some(Arc::new(Tls { now, found }))))
    }

    /// Whether it is TLS.
    pub fn is_secured(&self) -> bool {
        self.0.is_some()
    }

    /// From now on with these; without effect on what is plain.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        if let Some(tls) = &self.0 {
            let fresh = credentials.configure(&tls.found)?;
            *tls.now.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    /// The authority in DER that a pin led to, once a connection was made by it.
    pub fn pinned(&self) -> Option<Vec<u8>> {
        self.0.as_ref()?.found.lock().unwrap_or_else(PoisonError::into_inner).pinned.clone()
    }

    /// The authority in DER that has taken the place of the one that a pin led to, once a connection showed that. The pinned
    /// one is still believed by the cluster then, but not for long.
    pub fn successor(&self) -> Option<Vec<u8>> {
        self.0.as_ref()?.found.lock().unwrap_or_else(PoisonError::into_inner).successor.clone()
    }

    /// This node's certificate as it is now; none: it has not got one yet.
    pub(crate) fn own(&self) -> Option<Arc<CertifiedKey>> {
        self.0.as_ref()?.now.read().unwrap_or_else(PoisonError::into_inner).own.clone()
    }

    /// A connection that is made when first used, and again when it breaks.
    pub(crate) fn lazy(&self, endpoint: &Endpoint) -> Channel {
        match &self.0 {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint.connect_with_connector_lazy(connector(tls.clone())),
        }
    }

    /// A connection made now.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        match &self.0 {
            None => endpoint.connect().await,
            Some(tls) => endpoint.connect_with_connector(connector(tls.clone())).await,
        }
    }

    /// Takes a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<Connection> {
        let Some(tls) = &self.0 else { return Ok(Connection::plain(stream)) };
        let server = tls.now.read().unwrap_or_else(PoisonError::into_inner).server.clone();
        let none = || std::io::Error::other("this node has no certificate yet");
        let accepted = TlsAcceptor::from(server.ok_or_else(none)?).accept(stream).await?;
        Ok(Connection::tls(accepted))
    }
}

/// Connects to where a URI says, by TLS.
fn connector(
    tls: Arc<Tls>,
) -> impl tower::Service<
    http::Uri,
    Response = TokioIo<Dialled>,
    Error = std::io::Error,
    Future = impl Future<Output = std::io::Result<TokioIo<Dialled>>> + Send,
> + Send
+ 'static {
    tower::service_fn(move |uri: http::Uri| {
        let client = tls.now.read().unwrap_or_else(PoisonError::into_inner).client.clone();
        async move {
            let none = || std::io::Error::other("this node has neither a certificate nor a way to join");
            let (config, name) = client.ok_or_else(none)?;
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(0))).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
            let connected = TlsConnector::from(config).connect(name, stream).await;
            Ok(TokioIo::new(Dialled(connected.map_err(verify::in_words)?)))
        }
    })
}

/// What a dialled node must be.
const fn dialled(joining: bool) -> &'static str {
    if joining { JOIN_NAME } else { AGENT_NAME }
}

#[cfg(test)]
mod tests;
