//! A certificate that an operator has got elsewhere, as files hold it, and what can be wrong with it.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sheaf_model::Timestamp;
use webpki::{EndEntityCert, KeyUsage};

/// A certificate for servers with those that lead from it to its authority, and its key. Clones are the same.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// From when and until when it is good; never the key.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why files cannot be used. Trying again does not help. What is said does not repeat anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No certificate.
    #[error("the certificate's file has no certificate in PEM (BEGIN CERTIFICATE)")]
    NoCertificate,
    /// Something that looks like certificates.
    #[error("the certificate's file is damaged: {0}")]
    Damaged(String),
    /// No key, or a sealed one.
    #[error("the key's file has no private key in PEM that opens without a passphrase (BEGIN PRIVATE KEY)")]
    NoKey,
    /// A key of a kind that TLS has no use for.
    #[error("the key cannot be used: {0}")]
    BadKey(Error),
    /// The two do not belong together.
    #[error("the key does not belong to the certificate")]
    AnotherKey,
    /// They do, but the certificate comes too late in its file.
    #[error(
        "the key belongs to certificate {place} of the file: that one must come first, then those that lead to its authority"
    )]
    NotFirst {
        /// Which one it is, from 1.
        place: usize,
    },
    /// No browser would take it.
    #[error("it is no certificate that browsers take from a server: {0}")]
    NotForServers(String),
}

impl Identity {
    /// Reads both from PEM. The server's own certificate comes first, then those that lead from it to its authority. One that
    /// is not good any more, or not yet, is read as well: whoever asks sees that by itself.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let chain: Vec<CertificateDer<'static>> =
            found.map_err(|error| IdentityError::Damaged(error.to_string()))?;
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::NoKey)?;
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(key).map_err(IdentityError::BadKey)?;
        let is_of_key = |certificate: &CertificateDer<'static>| {
            let alone = CertifiedKey::new(vec![certificate.clone()], key.clone());
            !matches!(alone.keys_match(), Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)))
        };
        match chain.iter().position(is_of_key) {
            Some(0) => {}
            Some(index) => return Err(IdentityError::NotFirst { place: index + 1 }),
            None => return Err(IdentityError::AnotherKey),
        }
        let certified = CertifiedKey::new(chain, key);
        let (not_before, not_after) = of_server(&certified)?;
        Ok(Self { certified: Arc::new(certified), not_before, not_after })
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// From when it is good.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is good.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The DNS names that it is for; some may have a star.
    pub fn names(&self) -> Vec<String> {
        let first = self.certified.cert.first();
        let parsed = first.and_then(|first| EndEntityCert::try_from(first).ok());
        parsed.map(|parsed| parsed.valid_dns_names().map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Whether it is for this name or address.
    pub fn is_for(&self, host: &str) -> bool {
        is_for(&self.certified, host)
    }
}

/// Whether a certificate is for this name or address.
pub(super) fn is_for(certified: &CertifiedKey, host: &str) -> bool {
    let (Ok(name), Some(first)) = (ServerName::try_from(host), certified.cert.first()) else { return false };
    let parsed = EndEntityCert::try_from(first);
    parsed.is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(&name).is_ok())
}

/// From when and until when it is good, as far as that can be read.
pub(super) fn validity(certified: &CertifiedKey) -> Option<(Timestamp, Timestamp)> {
    let parsed = EndEntityCert::try_from(certified.cert.first()?).ok()?;
    dates(&parsed).ok()
}

/// Until when a certificate in DER is good, as far as that can be read.
pub fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let certificate = CertificateDer::from(certificate);
    let parsed = EndEntityCert::try_from(&certificate).ok()?;
    dates(&parsed).ok().map(|(_, not_after)| not_after)
}

/// From when and until when one is good that is for servers.
fn of_server(certified: &CertifiedKey) -> Result<(Timestamp, Timestamp), IdentityError> {
    let first = certified.cert.first().ok_or(IdentityError::NoCertificate)?;
    let damaged = |error: webpki::Error| IdentityError::Damaged(error.to_string());
    let parsed = EndEntityCert::try_from(first).map_err(damaged)?;
    let (not_before, not_after) = dates(&parsed).map_err(damaged)?;
    let why = match judged(&parsed, UnixTime::since_unix_epoch(Duration::from_millis(not_after.0))) {
        // Nobody is believed here; and one that has signed itself is often its own authority.
        webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity => {
            return Ok((not_before, not_after));
        }
        webpki::Error::RequiredEkuNotFoundContext(_) => {
            "it is for other uses than that (extended key usage)".to_owned()
        }
        other => other.to_string(),
    };
    Err(IdentityError::NotForServers(why))
}

/// A look at the end of time says when it has ended, one at the beginning when it begins: a certificate's dates are looked at
/// before all else.
fn dates(parsed: &EndEntityCert<'_>) -> Result<(Timestamp, Timestamp), webpki::Error> {
    let at = |time: UnixTime| Timestamp(time.as_secs().saturating_mul(1000));
    let not_after = match judged(parsed, UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX))) {
        webpki::Error::CertExpired { not_after, .. } => at(not_after),
        other => return Err(other),
    };
    let not_before = match judged(parsed, UnixTime::since_unix_epoch(Duration::ZERO)) {
        webpki::Error::CertNotValidYet { not_before, .. } => at(not_before),
        _ => Timestamp(0),
    };
    Ok((not_before, not_after))
}

/// Why a browser that believes nobody would not take it at that time.
fn judged(parsed: &EndEntityCert<'_>, time: UnixTime) -> webpki::Error {
    let judged = parsed.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None);
    judged.err().unwrap_or(webpki::Error::UnknownIssuer)
}
