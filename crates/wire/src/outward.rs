//! TLS towards servers that belong to nobody here: those that sinks deliver to and traces go to. They are trusted as the system trusts, or by
//! certificates that are given, and are shown nothing of this cluster.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection, plain or by TLS.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum OutwardError {
    /// The system's certificates are not there.
    #[error(
        "this node's system has no certificates of authorities ({0}); install ca-certificates (in an image: \
         /etc/ssl/certs/ca-certificates.crt), or name a ca for it"
    )]
    NoRoots(String),
    /// What was given is none.
    #[error("the ca has no certificate that can be used: {0}")]
    BadRoots(String),
    /// TLS itself.
    #[error("prepare TLS: {0}")]
    Unusable(rustls::Error),
}

/// Whom to trust. Clones are the same.
#[derive(Clone)]
pub struct Outward(Arc<ClientConfig>);

impl std::fmt::Debug for Outward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outward")
    }
}

impl Outward {
    /// As this machine's system trusts; reads files, so that it blocks for some milliseconds.
    ///
    /// # Errors
    /// It trusts nobody.
    pub fn system() -> Result<Self, OutwardError> {
        let loaded = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(loaded.certs);
        if added == 0 {
            let why = loaded.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
            return Err(OutwardError::NoRoots(why));
        }
        Self::of(roots)
    }

    /// Only servers whose certificates come from these, in PEM.
    ///
    /// # Errors
    /// There is none among them.
    pub fn trusting(pem: &str) -> Result<Self, OutwardError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| OutwardError::BadRoots(error.to_string()))?;
            roots.add(certificate).map_err(|error| OutwardError::BadRoots(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(OutwardError::BadRoots("there is none in it".to_owned()));
        }
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, OutwardError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(OutwardError::Unusable)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The same for servers of HTTP/2, which is the one thing that is offered to them.
    #[must_use]
    pub fn for_http2(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(Arc::new(config))
    }

    /// TLS over a connection to the server `host`, a name or an address.
    ///
    /// # Errors
    /// In words for people.
    pub async fn secure(&self, host: &str, stream: TcpStream) -> std::io::Result<Box<dyn Wire>> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let secured = TlsConnector::from(self.0.clone()).connect(name, stream).await.map_err(in_words)?;
        Ok(Box::new(secured))
    }
}

/// Why there is no TLS, and what would help.
fn in_words(error: std::io::Error) -> std::io::Error {
    let words = match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate comes from an authority that is not trusted; name that authority's as ca"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is of another name",
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "its certificate is not good now; compare the clocks of both machines",
        Some(Error::InvalidMessage(_)) => "it does not speak TLS",
        _ => return error,
    };
    std::io::Error::new(error.kind(), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_without_a_certificate_is_refused() {
        let error = Outward::trusting("").expect_err("nothing in it");
        assert!(error.to_string().contains("there is none in it"), "{error}");
        let bad = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        Outward::trusting(bad).expect_err("no certificate");
        Outward::trusting("-----BEGIN CERTIFICATE-----\n!\n").expect_err("no PEM");
    }
}
