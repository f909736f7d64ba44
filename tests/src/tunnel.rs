//! TLS for clients that speak none: what comes to a port of ours goes on to an agent by TLS.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sheaf_model::AGENT_NAME;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::Agent;

/// It ends with its drop.
#[derive(Debug)]
pub struct Tunnel {
    address: String,
    /// Where it runs.
    _runtime: Runtime,
}

impl Tunnel {
    /// To an agent's gRPC port. Believes these authorities, and shows that certificate with its key; all in PEM.
    ///
    /// # Panics
    /// If they are none.
    pub fn to(agent: &Agent, authorities: &str, shows: Option<(&str, &str)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it has one").to_string();
        let (tls, to) = (TlsConnector::from(Arc::new(config(authorities, shows))), agent.address());
        runtime.spawn(async move {
            loop {
                let Ok((inner, _)) = listener.accept().await else { continue };
                // It ends with the runtime.
                tokio::spawn(carry(inner, tls.clone(), to.clone()));
            }
        });
        Self { address, _runtime: runtime }
    }

    /// Where it begins, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Until one of both hangs up.
async fn carry(mut inner: TcpStream, tls: TlsConnector, to: String) -> std::io::Result<()> {
    let outer = TcpStream::connect(to).await?;
    let name = ServerName::try_from(AGENT_NAME).map_err(std::io::Error::other)?;
    let mut outer = tls.connect(name, outer).await?;
    tokio::io::copy_bidirectional(&mut inner, &mut outer).await.map(drop)
}

fn config(authorities: &str, shows: Option<(&str, &str)>) -> ClientConfig {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        all.expect("certificates in PEM")
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities) {
        roots.add(certificate).expect("a certificate of an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("its versions are those of the library").with_root_certificates(roots);
    let mut config = match shows {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key in PEM");
            let shown = config.with_client_auth_cert(certificates(certificate), key);
            shown.expect("the key is the certificate's")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
