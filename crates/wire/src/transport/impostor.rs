//! Another node answers than the one that was dialled.
//!
//! A certificate of the cluster is not enough where it is known which node is dialled: whoever stands in the way and has taken
//! the certificate of one node could answer as any other. Whose certificate it is, is read as servers read that of a client.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use sheaf_model::{Holder, NodeId};

use super::verify::holder;

/// After an impostor has answered, nobody dials there for that node for so long: it would answer again.
const PAUSE: Duration = Duration::from_secs(1);
/// The same impostor is told of again after so long.
const TOLD_AGAIN: Duration = Duration::from_secs(600);
/// More than any cluster has nodes that are dialled: beyond, all are forgotten.
const PLACES_MAX: usize = 1024;

/// What an error says where another node has answered.
pub(crate) const ANOTHER: &str = "answers there, as its certificate says, and not node";

/// Who answered, and who should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Impostor {
    pub(super) wanted: NodeId,
    pub(super) found: Option<Holder>,
}

impl fmt::Display for Impostor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            Some(Holder::Node(node)) => write!(f, "node {node}")?,
            Some(Holder::Joining | Holder::Person(_)) | None => f.write_str("somebody who is no node")?,
        }
        write!(
            f,
            " {ANOTHER} {0}, so nothing was said to it: either that address belongs to another node now (sheaf node list shows \
             where each one is), or somebody in between answers in node {0}'s place",
            self.wanted
        )
    }
}

impl std::error::Error for Impostor {}

impl Impostor {
    /// If that is why a handshake failed.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref().copied(),
            _ => None,
        }
    }
}

/// A server's certificate that is good for the cluster, and is that node's.
#[derive(Debug)]
pub(super) struct ByNode {
    pub(super) node: NodeId,
    /// Whether it is good for the cluster.
    pub(super) good: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for ByNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.good.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        let (wanted, found) = (self.node, holder(end_entity));
        if found == Some(Holder::Node(wanted)) {
            return Ok(verified);
        }
        let impostor = OtherError(Arc::new(Impostor { wanted, found }));
        Err(CertificateError::Other(impostor).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.good.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.good.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.good.supported_verify_schemes()
    }
}

/// Where impostors answered, for whom: each is told of once, and not asked at once again.
#[derive(Debug, Default)]
pub(super) struct Impostors(Mutex<BTreeMap<(String, NodeId), Met>>);

#[derive(Debug)]
struct Met {
    impostor: Impostor,
    /// When it answered last.
    at: Instant,
    /// When it was told of last.
    told: Instant,
}

impl Impostors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, NodeId), Met>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that answered at `address` for that node a moment ago.
    pub(super) fn just_met(&self, address: &str, wanted: NodeId, now: Instant) -> Option<Impostor> {
        let all = self.lock();
        let met = all.get(&(address.to_owned(), wanted))?;
        (now.duration_since(met.at) < PAUSE).then_some(met.impostor)
    }

    /// One has answered there; somebody must see it.
    pub(super) fn met(&self, address: &str, impostor: Impostor, now: Instant) {
        metrics::counter!("sheaf_impostors_total").increment(1);
        let mut all = self.lock();
        let key = (address.to_owned(), impostor.wanted);
        let before = all.get(&key).filter(|met| met.impostor == impostor).map(|met| met.told);
        let told = before.filter(|told| now.duration_since(*told) < TOLD_AGAIN);
        if told.is_none() {
            tracing::warn!(address, "{impostor}");
        }
        if all.len() >= PLACES_MAX {
            all.clear();
        }
        all.insert(key, Met { impostor, at: now, told: told.unwrap_or(now) });
    }

    /// The node itself has answered there.
    pub(super) fn is_back(&self, address: &str, wanted: NodeId) {
        if self.lock().remove(&(address.to_owned(), wanted)).is_some() {
            tracing::info!(address, node = %wanted, "the node answers there itself again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_just_met_an_impostor_does_not_ask_it_at_once_again() {
        let (impostors, now) = (Impostors::default(), Instant::now());
        let impostor = Impostor { wanted: NodeId(7), found: Some(Holder::Node(NodeId(9))) };
        let just_met = |address, node, at| impostors.just_met(address, NodeId(node), at);
        assert_eq!(just_met("a:1", 7, now), None);
        impostors.met("a:1", impostor, now);
        assert_eq!(just_met("a:1", 7, now), Some(impostor));
        assert_eq!(just_met("a:1", 9, now), None, "whoever wants that one may ask");
        assert_eq!(just_met("b:1", 7, now), None, "it may be there");
        let later = now + PAUSE;
        assert_eq!(just_met("a:1", 7, later), None);
        impostors.met("a:1", impostor, later);
        impostors.is_back("a:1", NodeId(7));
        assert_eq!(just_met("a:1", 7, later), None);
    }

    #[test]
    fn what_is_remembered_of_impostors_is_bounded() {
        let (impostors, now) = (Impostors::default(), Instant::now());
        for node in 1..=3 * PLACES_MAX as u64 {
            impostors.met("a:1", Impostor { wanted: NodeId(node), found: None }, now);
            assert!(impostors.lock().len() <= PLACES_MAX);
        }
    }

    #[test]
    fn an_impostor_is_named() {
        let text = |found| Impostor { wanted: NodeId(7), found }.to_string();
        let other = text(Some(Holder::Node(NodeId(9))));
        assert!(
            other.starts_with("node 9 answers there, as its certificate says, and not node 7"),
            "{other}"
        );
        assert!(text(None).starts_with("somebody who is no node answers there"), "{}", text(None));
    }
}
