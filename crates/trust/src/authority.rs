//! What signs the cluster's certificates.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use sheaf_model::{AGENT_NAME, Holder, Timestamp};
use time::OffsetDateTime;

use crate::key::{PrivateKey, PublicKey};
use crate::{TrustError, failed};

/// How long an authority is good.
const YEARS: u64 = 20;
/// Certificates are good from this long before they are made: clocks differ.
const BEFORE: Duration = Duration::from_secs(3600);
/// What an authority's name begins with; the name of its key follows.
const NAME: &str = "Sheaf authority ";
/// Hexadecimal digits of the name of its key.
const KEY_NAME: usize = 16;

/// An authority with its key.
pub struct Authority {
    key: PrivateKey,
    certificate: Vec<u8>,
}

/// Which authority; never the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("pin", &hex(&pin(&self.certificate))).finish_non_exhaustive()
    }
}

/// SHA-256 of a certificate in DER: what a token pins.
pub fn pin(certificate: &[u8]) -> [u8; 32] {
    sheaf_seal::sha256(certificate).0
}

/// Whether a certificate says that this authority has signed it, both in DER. Proves nothing: it is for certificates that are
/// known to be good.
pub fn names(certificate: &[u8], authority: &[u8]) -> bool {
    let Some(begin) = authority.windows(NAME.len()).position(|window| window == NAME.as_bytes()) else {
        return false;
    };
    let Some(name) = authority.get(begin..begin + NAME.len() + KEY_NAME) else { return false };
    certificate.windows(name.len()).any(|window| window == name)
}

impl Authority {
    /// A new one.
    pub fn new(now: Timestamp) -> Result<Self, TrustError> {
        let key = PrivateKey::new()?;
        // One below it: the authority that takes its place once.
        Self::of_key(key, 1, now, far(now))
    }

    /// The one of a join secret: whoever holds the secret has the same. It signs nobody but [`Holder::Joining`].
    pub fn of_secret(secret: &[u8; 32]) -> Result<Self, TrustError> {
        let seed = sheaf_seal::sha256(&[b"sheaf join secret 1".as_slice(), secret].concat()).0;
        // The same dates everywhere: from 2020 to 2100.
        let (begin, end) = (Timestamp(1_577_836_800_000), Timestamp(4_102_444_800_000));
        Self::of_key(PrivateKey::of_seed(seed)?, 0, begin, end)
    }

    /// `below`: so many authorities may stand between it and a certificate.
    fn of_key(key: PrivateKey, below: u8, begin: Timestamp, end: Timestamp) -> Result<Self, TrustError> {
        let mut params = params(&key);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
        params.not_before = date(Timestamp(begin.0.saturating_sub(millis(BEFORE))));
        params.not_after = date(end);
        let certificate = params.self_signed(&key.0).map_err(failed("make an authority"))?;
        Ok(Self { key, certificate: certificate.der().to_vec() })
    }

    /// From its key and its certificate in DER. They must belong together.
    pub fn from_parts(key: PrivateKey, certificate: Vec<u8>) -> Result<Self, TrustError> {
        let raw = key.public();
        let fits = certificate.windows(raw.raw().len()).any(|window| window == raw.raw());
        if !fits {
            return Err(TrustError::Malformed { expected: "key of this authority" });
        }
        Ok(Self { key, certificate })
    }

    /// In DER; no secret.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its key, for a file that only its owner can read.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// A certificate in DER of another authority by this one: whoever believes this one believes that one by it.
    pub fn vouch_for(&self, other: &Self, now: Timestamp) -> Result<Vec<u8>, TrustError> {
        let mut bridge = params(&other.key);
        bridge.not_before = date(Timestamp(now.0.saturating_sub(millis(BEFORE))));
        bridge.not_after = date(far(now));
        bridge.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(params(&self.key), &self.key.0);
        let bridge =
            bridge.signed_by(&other.key.public(), &issuer).map_err(failed("vouch for an authority"))?;
        Ok(bridge.der().to_vec())
    }

    /// Its signature, ES256, of a statement that is no certificate: by it whoever has the key shows that.
    pub fn sign(&self, statement: &[u8]) -> Result<[u8; 64], TrustError> {
        let signature = sheaf_seal::sign_es256(&self.key.der(), statement);
        signature.ok_or(TrustError::Malformed { expected: "key that can sign" })
    }

    /// A certificate in DER for the holder of that key, who may serve and call with it. `hosts` are names and addresses under
    /// which people reach the node, beside the names that all nodes have; what is neither is left out.
    pub fn issue<'a>(
        &self,
        public: &PublicKey,
        holder: Holder,
        hosts: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Vec<u8>, TrustError> {
        let mut names = vec![holder.to_string()];
        if let Holder::Node(_) = holder {
            names.push(AGENT_NAME.to_owned());
        }
        let mut params = CertificateParams::new(names).map_err(failed("name a certificate's holder"))?;
        for name in hosts.into_iter().filter_map(alternative) {
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        params.distinguished_name = named(&holder.to_string());
        params.not_before = date(Timestamp(now.0.saturating_sub(millis(BEFORE))));
        params.not_after = date(Timestamp(now.0.saturating_add(millis(lifetime))));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !matches!(holder, Holder::Person(_)) {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(self::params(&self.key), &self.key.0);
        let certificate = params.signed_by(public, &issuer).map_err(failed("sign a certificate"))?;
        Ok(certificate.der().to_vec())
    }
}

/// What an authority's certificate says; its name is that of its key, so that two are never taken for one.
fn params(key: &PrivateKey) -> CertificateParams {
    let id = sheaf_seal::sha256(key.public().raw()).0;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("{NAME}{}", hex(&id[..KEY_NAME / 2])));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&id[..16]));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// An address or a DNS name; none: it is neither, or nobody's to have: every machine calls itself `localhost`, and a name with a
/// star would be that of many.
fn alternative(host: &str) -> Option<SanType> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SanType::IpAddress(address));
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_name = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
    let is_ours = |last: &str| name == last || name.ends_with(&format!(".{last}"));
    // Names below `internal` are the cluster's alone to give.
    if name.is_empty() || !is_name || is_ours("internal") || is_ours("localhost") {
        return None;
    }
    name.try_into().ok().map(SanType::DnsName)
}

/// When what is made now is good no more that shall be good for as long as the cluster is.
fn far(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_add(YEARS * 365 * 24 * 3_600_000))
}

fn date(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use sheaf_model::NodeId;

    use super::*;

    #[test]
    fn an_authority_is_its_key_and_certificate() {
        let now = Timestamp(1_800_000_000_000);
        let made = Authority::new(now).unwrap();
        let other = Authority::new(now).unwrap();
        let key = || PrivateKey::from_pem(made.key().pem().as_bytes()).unwrap();
        let again = Authority::from_parts(key(), made.certificate().to_vec()).unwrap();
        assert_eq!(pin(again.certificate()), pin(made.certificate()));
        assert!(Authority::from_parts(key(), other.certificate().to_vec()).is_err(), "of another");
        assert_ne!(pin(other.certificate()), pin(made.certificate()));
        assert!(!format!("{made:?}").contains("BEGIN"));
        let public = PrivateKey::new().unwrap().public();
        let holder = Holder::Node(NodeId(7));
        let host = Some("10.0.0.11");
        assert!(again.issue(&public, holder, host, now, Duration::from_secs(60)).is_ok());
        assert!(again.issue(&public, holder, Some("not a name"), now, Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn a_certificate_has_the_names_that_a_node_may_have_and_each_once() {
        let now = Timestamp(1_800_000_000_000);
        let authority = Authority::new(now).unwrap();
        let public = PrivateKey::new().unwrap().public();
        let hosts = [
            "10.0.0.11",
            "Import-01",
            "import-01",
            "n1.example.org.",
            "*.example.org",
            "localhost",
            "a.localhost",
            "JOIN.sheaf.INTERNAL",
            "not a name",
            "",
        ];
        let holder = Holder::Node(NodeId(7));
        let issued = authority.issue(&public, holder, hosts, now, Duration::from_secs(60)).unwrap();
        let times = |part: &[u8]| issued.windows(part.len()).filter(|window| *window == part).count();
        assert_eq!((times(b"import-01"), times(b"n1.example.org"), times(&[10, 0, 0, 11])), (1, 1, 1));
        for never in [&b"*.example"[..], b"localhost", b"join", b"JOIN", b"INTERNAL", b"not a"] {
            assert_eq!(times(never), 0, "{:?}", String::from_utf8_lossy(never));
        }
    }

    #[test]
    fn a_certificate_names_who_signed_it() {
        let now = Timestamp(1_800_000_000_000);
        let (one, two) = (Authority::new(now).unwrap(), Authority::new(now).unwrap());
        let public = PrivateKey::new().unwrap().public();
        let leaf = one.issue(&public, Holder::Node(NodeId(7)), None, now, Duration::from_secs(60)).unwrap();
        assert!(names(&leaf, one.certificate()) && !names(&leaf, two.certificate()));
        let bridge = one.vouch_for(&two, now).unwrap();
        assert!(names(&bridge, one.certificate()) && names(&bridge, two.certificate()));
        assert!(!names(&leaf, b"") && !names(b"", one.certificate()));
        assert!(!names(&leaf, b"Sheaf authority 12"), "cut off");
    }

    #[test]
    fn no_address_brings_a_name_of_another_node_into_a_certificate() {
        let other = Holder::Node(NodeId(8)).to_string();
        for host in
            [other.clone(), other.to_uppercase(), format!("{other}."), "*.Node.Sheaf.Internal".to_owned()]
        {
            assert!(alternative(&host).is_none(), "{host}");
        }
        assert!(alternative("ops1.example.org").is_some() && alternative("[::1]").is_some());
    }

    #[test]
    fn a_secret_gives_one_authority() {
        let certificate = |byte| Authority::of_secret(&[byte; 32]).unwrap().certificate().to_vec();
        assert_eq!(certificate(1), certificate(1));
        assert_ne!(certificate(1), certificate(2));
    }
}
