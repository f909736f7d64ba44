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
//! A node's certificate is good for the whole cluster. Where it is known which node is dialled, it must be that node's, too:
//! see `impostor`.
//!
//! What a node has changes while it runs: it gets its certificate when it joins, and renews it. Connections that are there
//! stay; new ones are made with what is there then.
//!
//! Read `credentials`, then `verify`, `vouch`, `impostor`, `connection`, `dialled`, `crowd`.

mod connection;
mod credentials;
mod crowd;
mod dialled;
mod impostor;
mod verify;
mod vouch;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use hyper_util::rt::TokioIo;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use sheaf_model::{AGENT_NAME, JOIN_NAME, NodeId};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint};

pub(crate) use connection::{Arrived, Connection, TO_ALL};
pub use credentials::{Credentials, CredentialsError, Join, Pair, Pin};
pub(crate) use crowd::Nodes;
pub use crowd::{Crowd, Network, Place};
use dialled::Dialled;
pub(crate) use impostor::ANOTHER;
use impostor::{ByNode, Impostor, Impostors};
use verify::Found;
pub(crate) use verify::holder;
pub use verify::{JOINS_ANEW, holder_of};
pub use vouch::vouched;

/// See the module's doc. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    tls: Option<Arc<Tls>>,
    /// Who must answer what is dialled; none: whichever node of the cluster.
    node: Option<NodeId>,
}

#[derive(Debug)]
struct Tls {
    /// Read for each connection, written when credentials change.
    now: RwLock<Now>,
    /// What a pin led to.
    found: Arc<Mutex<Found>>,
    /// Who answered in the place of others.
    impostors: Impostors,
}

/// What connections are made of now.
#[derive(Clone)]
struct Now {
    /// This node's certificate.
    own: Option<Arc<CertifiedKey>>,
    server: Option<Arc<ServerConfig>>,
    client: Option<Dials>,
}

/// How others are dialled.
#[derive(Clone)]
struct Dials {
    config: Arc<ClientConfig>,
    /// What is asked for.
    name: &'static str,
    /// Who judges the certificate that answers; none: it is nobody's in particular.
    verifier: Option<Arc<dyn ServerCertVerifier>>,
}

impl Dials {
    /// With which only that node is believed, if one is wanted.
    fn believing(&self, node: Option<NodeId>) -> Arc<ClientConfig> {
        let Some((node, good)) = node.zip(self.verifier.clone()) else { return self.config.clone() };
        let mut config = ClientConfig::clone(&self.config);
        config.dangerous().set_certificate_verifier(Arc::new(ByNode { node, good }));
        Arc::new(config)
    }
}

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Now")
            .field("dials", &self.client.as_ref().map(|dials| dials.name))
            .finish_non_exhaustive()
    }
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            _ => false,
        };
        same && self.node == other.node
    }
}

impl Eq for Transport {}

impl Transport {
    /// Without TLS, for what does not leave the machine.
    pub fn plain() -> Self {
        Self { tls: None, node: None }
    }

    /// TLS with these.
    ///
    /// # Errors
    /// That they are not what they should be.
    pub fn tls(credentials: &Credentials) -> Result<Self, CredentialsError> {
        let found = Arc::default();
        let now = RwLock::new(credentials.configure(&found)?);
        let tls = Tls { now, found, impostors: Impostors::default() };
        Ok(Self { tls: Some(Arc::new(tls)), node: None })
    }

    /// The same, over which only that node is dialled: whoever shows another's certificate is refused. None: any node of the
    /// cluster will do. Where nothing is secured nobody can tell.
    #[must_use]
    pub fn to(&self, node: Option<NodeId>) -> Self {
        Self { tls: self.tls.clone(), node }
    }

    /// Whether it is TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// From now on with these; without effect on what is plain.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        if let Some(tls) = &self.tls {
            let fresh = credentials.configure(&tls.found)?;
            *tls.now.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    /// The authority in DER that a pin led to, once a connection was made by it.
    pub fn pinned(&self) -> Option<Vec<u8>> {
        self.tls.as_ref()?.found.lock().unwrap_or_else(PoisonError::into_inner).pinned.clone()
    }

    /// The authority in DER that has taken the place of the one that a pin led to, once a connection showed that. The pinned
    /// one is still believed by the cluster then, but not for long.
    pub fn successor(&self) -> Option<Vec<u8>> {
        self.tls.as_ref()?.found.lock().unwrap_or_else(PoisonError::into_inner).successor.clone()
    }

    /// This node's certificate as it is now; none: it has not got one yet.
    pub(crate) fn own(&self) -> Option<Arc<CertifiedKey>> {
        self.tls.as_ref()?.now.read().unwrap_or_else(PoisonError::into_inner).own.clone()
    }

    /// A connection that is made when first used, and again when it breaks.
    pub(crate) fn lazy(&self, endpoint: &Endpoint) -> Channel {
        match &self.tls {
            None => endpoint.connect_lazy(),
            Some(tls) => endpoint.connect_with_connector_lazy(connector(tls.clone(), self.node)),
        }
    }

    /// A connection made now.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        match &self.tls {
            None => endpoint.connect().await,
            Some(tls) => endpoint.connect_with_connector(connector(tls.clone(), self.node)).await,
        }
    }

    /// Takes a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<Connection> {
        let Some(tls) = &self.tls else { return Ok(Connection::plain(stream)) };
        let server = tls.now.read().unwrap_or_else(PoisonError::into_inner).server.clone();
        let none = || std::io::Error::other("this node has no certificate yet");
        let accepted = TlsAcceptor::from(server.ok_or_else(none)?).accept(stream).await?;
        Ok(Connection::tls(accepted))
    }
}

/// Connects to where a URI says, by TLS; to that node, if one is wanted.
fn connector(
    tls: Arc<Tls>,
    wanted: Option<NodeId>,
) -> impl tower::Service<
    http::Uri,
    Response = TokioIo<Dialled>,
    Error = std::io::Error,
    Future = impl Future<Output = std::io::Result<TokioIo<Dialled>>> + Send,
> + Send
+ 'static {
    tower::service_fn(move |uri: http::Uri| {
        let tls = tls.clone();
        async move { tls.dial(&uri, wanted).await.map(TokioIo::new) }
    })
}

impl Tls {
    async fn dial(&self, uri: &http::Uri, wanted: Option<NodeId>) -> std::io::Result<Dialled> {
        let none = || std::io::Error::other("this node has neither a certificate nor a way to join");
        let dials = self.now.read().unwrap_or_else(PoisonError::into_inner).client.clone();
        let dials = dials.ok_or_else(none)?;
        let address = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let just_met = wanted.and_then(|wanted| self.impostors.just_met(address, wanted, Instant::now()));
        if let Some(impostor) = just_met {
            return Err(std::io::Error::other(impostor));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(0))).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(dials.name).map_err(std::io::Error::other)?;
        let connected = TlsConnector::from(dials.believing(wanted)).connect(name, stream).await;
        let connected = connected.map_err(verify::in_words);
        match (&connected, wanted) {
            (Ok(_), Some(wanted)) => self.impostors.is_back(address, wanted),
            (Err(error), _) => {
                let impostor = error.get_ref().and_then(|inner| inner.downcast_ref::<Impostor>());
                if let Some(impostor) = impostor {
                    self.impostors.met(address, *impostor, Instant::now());
                }
            }
            (Ok(_), None) => {}
        }
        connected.map(Dialled)
    }
}

/// What a dialled node must be.
const fn dialled(joining: bool) -> &'static str {
    if joining { JOIN_NAME } else { AGENT_NAME }
}

#[cfg(test)]
mod tests;
