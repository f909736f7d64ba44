//! A server's side of TLS, for servers of tests that stand for somebody else's.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_rustls::TlsAcceptor;

/// What a server shows to those who call it. Clones are the same.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// A certificate and its key, in PEM.
    ///
    /// # Panics
    /// If they are none, or do not belong together.
    pub fn showing(certificate: &str, key: &str) -> Self {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let certificates = certificates.expect("a certificate in PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key in PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("its versions are those of the library").with_no_client_auth();
        Self(Arc::new(config.with_single_cert(certificates, key).expect("the key is the certificate's")))
    }

    /// TLS over a connection, begun with the first byte that is read or written.
    ///
    /// # Errors
    /// There is none.
    pub fn over<S: Read + Write>(&self, stream: S) -> io::Result<StreamOwned<ServerConnection, S>> {
        let connection = ServerConnection::new(self.0.clone()).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// The same for servers of HTTP/2, on a runtime.
    pub fn for_http2(&self) -> TlsAcceptor {
        let mut config = ServerConfig::clone(&self.0);
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}
