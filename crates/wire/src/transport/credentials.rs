//! What a node or a person has to show and to trust, as rustls wants it.

use std::fmt;
use std::sync::{Arc, Mutex};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sheaf_model::JOIN_NAME;

use super::verify::{ByHolder, ByPin, Found};
use super::{Dials, Now, dialled};

/// The one protocol.
const ALPN: &[u8] = b"h2";

/// A certificate in DER and its key in PKCS #8 DER.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// Its key. Secret.
    pub key: Vec<u8>,
}

/// The certificate; never the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate.len()).finish_non_exhaustive()
    }
}

/// What a join secret gives.
#[derive(Clone, Debug)]
pub struct Join {
    /// The certificate in DER of the authority that the secret is.
    pub authority: Vec<u8>,
    /// A certificate of that authority.
    pub pair: Pair,
}

/// Whether a certificate in DER is the one that a token pins.
pub type Pin = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// See [`Transport`](super::Transport).
#[derive(Clone, Default)]
pub struct Credentials {
    /// Whom to trust, in DER.
    pub authorities: Vec<Vec<u8>>,
    /// Certificates in DER of some of them by others of them, for who trusts one of these alone.
    pub bridges: Vec<Vec<u8>>,
    /// This node's certificate.
    pub own: Option<Pair>,
    /// For a node that holds a join secret.
    pub join: Option<Join>,
    /// For who trusts nobody yet but has a token.
    pub pin: Option<Pin>,
}

/// Never a key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authorities", &self.authorities.len())
            .field("bridges", &self.bridges.len())
            .field("own", &self.own.is_some())
            .field("join", &self.join.is_some())
            .field("pin", &self.pin.is_some())
            .finish()
    }
}

/// Why credentials cannot be used. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A certificate, a key, or the two together.
    #[error("use {what}: {source}")]
    Unusable {
        /// Of which part.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
    /// Roots and verifiers.
    #[error("trust {what}: {why}")]
    Untrusted {
        /// Whom.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

impl Credentials {
    /// What connections are made of.
    pub(super) fn configure(&self, found: &Arc<Mutex<Found>>) -> Result<Now, CredentialsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = self.own.as_ref().map(|own| {
            // People who pin an authority must see it. Bridges first: some libraries take what comes first for the way.
            let chain = std::iter::once(&own.certificate).chain(&self.bridges).chain(&self.authorities);
            certified("this node's certificate", chain.cloned(), &own.key, &provider)
        });
        let own = own.transpose()?;
        let join = self.join.as_ref().map(|join| {
            let chain = std::iter::once(join.pair.certificate.clone());
            certified("the join secret's certificate", chain, &join.pair.key, &provider)
        });
        let join = join.transpose()?;
        let client = self.client(own.as_ref(), join.as_ref(), found, &provider)?;
        let server = self.server(own.clone(), join, &provider)?;
        Ok(Now { own, server, client })
    }

    fn client(
        &self,
        own: Option<&Arc<CertifiedKey>>,
        join: Option<&Arc<CertifiedKey>>,
        found: &Arc<Mutex<Found>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Dials>, CredentialsError> {
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| CredentialsError::Unusable { what: "TLS 1.3", source })?;
        let joining = own.is_none() && self.join.is_some();
        let roots = match &self.join {
            Some(join) if joining => roots("the join secret", std::slice::from_ref(&join.authority))?,
            _ => roots("the authority", &self.authorities)?,
        };
        let verifier: Arc<dyn ServerCertVerifier> = if roots.is_empty() {
            let Some(pin) = self.pin.clone() else { return Ok(None) };
            Arc::new(ByPin::new(pin, found.clone(), provider.clone()))
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let untrusted = |why: String| CredentialsError::Untrusted { what: "the authority", why };
            builder.build().map_err(|error| untrusted(error.to_string()))?
        };
        let verified = builder.dangerous().with_custom_certificate_verifier(verifier.clone());
        let shown = if joining { join } else { own };
        let mut config = match shown {
            Some(shown) => verified.with_client_cert_resolver(Arc::new(Shown(shown.clone()))),
            None => verified.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Whoever is forgotten must not come back by a ticket.
        config.resumption = Resumption::disabled();
        // A join secret's certificate is the same for all who hold it: it says of nobody which node it is.
        let verifier = (!joining).then_some(verifier);
        Ok(Some(Dials { config: Arc::new(config), name: dialled(joining), verifier }))
    }

    fn server(
        &self,
        own: Option<Arc<CertifiedKey>>,
        join: Option<Arc<CertifiedKey>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<ServerConfig>>, CredentialsError> {
        if own.is_none() && join.is_none() {
            return Ok(None);
        }
        let joined = self.join.as_ref().map(|join| join.authority.clone());
        let verifier = ByHolder::new(
            roots("the authority", &self.authorities)?,
            roots("the join secret", joined.as_slice())?,
            provider,
        )?;
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|source| CredentialsError::Unusable { what: "TLS 1.3", source })?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(ByName { own, join }));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Some(Arc::new(config)))
    }
}

fn certified(
    what: &'static str,
    chain: impl Iterator<Item = Vec<u8>>,
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, CredentialsError> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
    let certified = CertifiedKey::from_der(chain.map(CertificateDer::from).collect(), key, provider);
    certified.map(Arc::new).map_err(|source| CredentialsError::Unusable { what, source })
}

fn roots(what: &'static str, authorities: &[Vec<u8>]) -> Result<RootCertStore, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(CertificateDer::from(authority.clone()));
        added.map_err(|error| CredentialsError::Untrusted { what, why: error.to_string() })?;
    }
    Ok(roots)
}

/// The certificate that a server shows: the secret's to who asks by that name, else its own.
#[derive(Debug)]
struct ByName {
    own: Option<Arc<CertifiedKey>>,
    join: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(JOIN_NAME) { self.join.clone() } else { self.own.clone() }
    }
}

/// The certificate that a client shows, whatever the server asks for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
