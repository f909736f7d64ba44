//! Who is believed to be whom.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use sheaf_model::Holder;

use super::credentials::{CredentialsError, Pin};
use super::impostor::Impostor;
use super::vouch::vouches;

/// Whom a certificate names.
pub(crate) fn holder(certificate: &CertificateDer<'_>) -> Option<Holder> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().find_map(Holder::of_name)
}

/// The same of one in DER, whoever has signed it.
pub fn holder_of(certificate: &[u8]) -> Option<Holder> {
    holder(&CertificateDer::from(certificate))
}

/// A client's certificate: a node's by the authorities, that of a join secret by the secret's, and neither by the other's.
#[derive(Debug)]
pub(super) struct ByHolder {
    nodes: Option<Arc<dyn ClientCertVerifier>>,
    joining: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ByHolder {
    pub(super) fn new(
        nodes: RootCertStore,
        joining: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, CredentialsError> {
        let verifier = |what: &'static str, roots: RootCertStore| {
            if roots.is_empty() {
                return Ok(None);
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let built = builder.allow_unauthenticated().build();
            built.map(Some).map_err(|error| CredentialsError::Untrusted { what, why: error.to_string() })
        };
        Ok(Self {
            nodes: verifier("the authority", nodes)?,
            joining: verifier("the join secret", joining)?,
            provider: provider.clone(),
        })
    }
}

impl ClientCertVerifier for ByHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: whoever has a certificate of ours knows it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verifier = match holder(end_entity) {
            Some(Holder::Node(_)) => &self.nodes,
            Some(Holder::Joining) => &self.joining,
            // What a person's key signs goes with the call, so that it can be carried on.
            Some(Holder::Person(_)) | None => &None,
        };
        let verifier = verifier.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a client that has a pin has seen of authorities, in DER.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The one that is pinned.
    pub(super) pinned: Option<Vec<u8>>,
    /// One that has taken its place, and for which it vouches: believed from then on as much.
    pub(super) successor: Option<Vec<u8>>,
}

/// A server's certificate whose authority comes with it and is the one that a token pins, or one that took its place.
pub(super) struct ByPin {
    pin: Pin,
    found: Arc<Mutex<Found>>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for ByPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByPin").finish_non_exhaustive()
    }
}

impl ByPin {
    pub(super) fn new(pin: Pin, found: Arc<Mutex<Found>>, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, found, provider }
    }

    /// A verifier that believes these.
    fn believing(&self, authorities: &[&CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(CertificateDer::from(authority.to_vec()))?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        verifier.build().map_err(|error| Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for ByPin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Found { successor, .. } = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_known = |one: &CertificateDer<'_>| successor.as_deref() == Some(one.as_ref());
        let pinned = intermediates.iter().find(|one| (self.pin)(one));
        let known = intermediates.iter().find(|one| is_known(one));
        let believed: Vec<&CertificateDer<'_>> = pinned.into_iter().chain(known).collect();
        if believed.is_empty() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let verifier = self.believing(&believed)?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        // What somebody merely sends along says nothing: it must be vouched for, and have signed this certificate itself.
        let took_over = intermediates.iter().find(|one| {
            !believed.contains(one)
                && believed.iter().any(|by| intermediates.iter().any(|bridge| vouches(by, bridge, one)))
                && self
                    .believing(&[*one])
                    .is_ok_and(|alone| alone.verify_server_cert(end_entity, &[], name, ocsp, now).is_ok())
        });
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.pinned = pinned.map(|one| one.to_vec()).or_else(|| found.pinned.take());
        found.successor = took_over.map(|one| one.to_vec()).or_else(|| found.successor.take());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What an error says of a handshake that fails for good, where a node was away while its cluster replaced its authority.
pub const JOINS_ANEW: &str = "joins anew then, with an empty data directory and a join token";

/// A failed handshake, so that a person knows what to look at.
pub(super) fn in_words(error: std::io::Error) -> std::io::Error {
    use rustls::{AlertDescription as Alert, InvalidMessage};
    let failed = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if let Some(impostor) = failed.and_then(Impostor::of) {
        return std::io::Error::new(error.kind(), impostor);
    }
    let words = match failed {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))) => {
            "it belongs to another cluster, whose authority is not trusted here; or its cluster has replaced its authority \
             while this node was away; it joins anew then, with an empty data directory and a join token"
        }
        // Of a pin; see `ByPin`.
        Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
            "it belongs to another cluster than the token; or its cluster has replaced its authority since the token was made, \
             so that an admin must make another with `sheaf cluster token create`"
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "its certificate is not good now; compare the clocks of both machines",
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => "it does not speak TLS",
        Some(Error::AlertReceived(
            Alert::UnknownCA | Alert::CertificateUnknown | Alert::BadCertificate | Alert::DecryptError,
        )) => {
            "it refuses this one's certificate, which is of another cluster, of another join secret, or of an authority that the \
             cluster has replaced while this node was away; it joins anew then, with an empty data directory and a join token"
        }
        Some(Error::AlertReceived(Alert::CertificateExpired)) => {
            "it refuses this one's certificate as expired; compare the clocks, or have the node join anew"
        }
        Some(Error::AlertReceived(
            Alert::AccessDenied | Alert::UnrecognisedName | Alert::HandshakeFailure,
        )) => "it has no certificate yet, or does not hold this join secret",
        _ => return error,
    };
    std::io::Error::new(error.kind(), words)
}
