//! TLS for who comes with a browser, or with a program that knows nothing of clusters: what it is shown is this node's own
//! certificate, or one that an operator has got elsewhere.
//!
//! ```text
//!  Transport, which has the node's certificate and renews it ─┐
//!  files of the operator's own ── Identity::read ─────────────┴─► Inward ── accept ──► a connection
//! ```
//!
//! Nobody is asked for a certificate: people log in with tokens. TLS 1.2 is spoken, too, which some of them need; the one protocol
//! is HTTP/1.1, so that a node that is led here, where it is not meant to be, gets no connection.
//!
//! Read `identity` (what can be wrong with files).

mod identity;

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sheaf_model::Timestamp;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub use identity::{Identity, IdentityError, not_after};

use crate::outward::Wire;
use crate::transport::{CredentialsError, Transport};

/// The one protocol.
const ALPN: &[u8] = b"http/1.1";

/// See the module's doc. Clones are the same.
#[derive(Clone)]
pub struct Inward {
    config: Arc<ServerConfig>,
    shows: Arc<Shows>,
}

impl std::fmt::Debug for Inward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inward").field("shows", &self.shows).finish_non_exhaustive()
    }
}

/// What is shown, looked up for each connection.
#[derive(Debug)]
enum Shows {
    Nodes(Transport),
    /// Read for each connection, written when the files change.
    Operators(RwLock<Identity>),
}

impl Shows {
    fn now(&self) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Nodes(transport) => transport.own(),
            Self::Operators(identity) => {
                Some(identity.read().unwrap_or_else(PoisonError::into_inner).certified())
            }
        }
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.now()
    }
}

impl Inward {
    /// Shows the certificate that this node has of the cluster's authority. Before it has one nobody gets a connection.
    ///
    /// # Errors
    /// TLS itself cannot be prepared.
    pub fn of_node(transport: &Transport) -> Result<Self, CredentialsError> {
        Self::new(Shows::Nodes(transport.clone()))
    }

    /// Shows this.
    ///
    /// # Errors
    /// TLS itself cannot be prepared.
    pub fn of_operator(identity: Identity) -> Result<Self, CredentialsError> {
        Self::new(Shows::Operators(RwLock::new(identity)))
    }

    fn new(shows: Shows) -> Result<Self, CredentialsError> {
        let shows = Arc::new(shows);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| CredentialsError::Unusable { what: "TLS", source })?
            .with_no_client_auth()
            .with_cert_resolver(shows.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), shows })
    }

    /// Shows this from now on; without effect where the node's own certificate is shown. Connections that are there stay.
    pub fn replace(&self, identity: Identity) {
        if let Shows::Operators(shown) = &*self.shows {
            *shown.write().unwrap_or_else(PoisonError::into_inner) = identity;
        }
    }

    /// Whether what is shown is of the operator's own.
    pub fn is_operators(&self) -> bool {
        matches!(*self.shows, Shows::Operators(_))
    }

    /// Whether what is shown now is a certificate of this name or address.
    pub fn is_for(&self, host: &str) -> bool {
        self.shows.now().is_some_and(|shown| identity::is_for(&shown, host))
    }

    /// Until when it is good; none: there is none yet.
    pub fn not_after(&self) -> Option<Timestamp> {
        identity::validity(&*self.shows.now()?).map(|(_, not_after)| not_after)
    }

    /// Takes a connection, whose client begins. Takes as long as the client does: give it a time.
    ///
    /// # Errors
    /// The client wants what there is not, or does not believe what it is shown.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<Box<dyn Wire>> {
        let accepted = TlsAcceptor::from(self.config.clone()).accept(stream).await?;
        Ok(Box::new(accepted))
    }
}

#[cfg(test)]
mod tests;
