//! What a call shows of who makes it, as `authorization: Bearer …`: a token, or what somebody has signed with a certificate's key.
//!
//! ```text
//!  a token    sheaf_ID.SECRET[.PIN]
//!  signed     HEADER.CLAIMS.SIGNATURE, a JSON Web Token: {alg: ES256, x5c: [certificate]}, {aud: cluster, sub: id, iat, exp}
//! ```
//!
//! What is signed can be carried on from node to node as a token can, and is worth nothing minutes later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use sheaf_model::{ClusterId, Holder, NoToken, Timestamp, TokenId, TokenText};
use webpki::ring::ECDSA_P256_SHA256;
use webpki::{EndEntityCert, KeyUsage};

use crate::transport::holder;

/// Nothing that is signed is longer, in bytes.
const SIGNED_MAX: usize = 6 << 10;
/// Nothing that is signed is good for longer, in seconds.
const LIFETIME_MAX: u64 = 15 * 60;
/// Clocks may differ by so much, in seconds.
const SKEW: u64 = 60;

/// See the module's doc. Says nothing of itself but an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A token.
    Token(TokenText),
    /// What somebody has signed.
    Signed(Signed),
    /// What signs, anew for each call; clients alone have it.
    Signer(Signer),
}

impl Bearer {
    /// Reads what stands after `Bearer`.
    pub fn parse(text: &str) -> Result<Self, NoToken> {
        match TokenText::parse(text) {
            Ok(token) => Ok(Self::Token(token)),
            Err(_) => Signed::parse(text.trim()).map(Self::Signed),
        }
    }

    /// As it stands after `Bearer`. Whoever asks answers for where it goes. Empty: it cannot be signed.
    pub(crate) fn reveal(&self) -> String {
        match self {
            Self::Token(token) => token.reveal(),
            Self::Signed(signed) => signed.text.to_string(),
            Self::Signer(signer) => (signer.0)().unwrap_or_default(),
        }
    }

    /// Under which id the cluster knows it; none: it is a client's, and is not shown yet.
    pub fn id(&self) -> Option<TokenId> {
        match self {
            Self::Token(token) => Some(token.id()),
            Self::Signed(signed) => Some(signed.id),
            Self::Signer(_) => None,
        }
    }
}

impl From<TokenText> for Bearer {
    fn from(token: TokenText) -> Self {
        Self::Token(token)
    }
}

/// Signs what a call shows; none: it cannot.
#[derive(Clone)]
pub struct Signer(Arc<dyn Fn() -> Option<String> + Send + Sync>);

impl Signer {
    /// Asked for each call: it may give the same for a while.
    pub fn new(sign: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Signer {}

/// What somebody has signed: read, and believed once it is [verified](Self::verify).
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    text: Arc<str>,
    /// Where the signature begins: what is before its dot was signed.
    said: usize,
    id: TokenId,
    certificate: Vec<u8>,
    cluster: ClusterId,
    /// In seconds since 1970.
    begin: u64,
    end: u64,
    signature: [u8; 64],
}

/// Whose it is said to be: whoever reads it could show it.
impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({}, …)", self.id)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    x5c: Vec<String>,
    /// What must be understood: nothing of that is.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
}

impl Signed {
    fn parse(text: &str) -> Result<Self, NoToken> {
        if text.len() > SIGNED_MAX {
            return Err(NoToken);
        }
        let (said, signature) = text.rsplit_once('.').ok_or(NoToken)?;
        let (header, claims) = said.split_once('.').ok_or(NoToken)?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NoToken);
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| NoToken)?;
        let claims: Claims = serde_json::from_slice(&decoded(claims)?).map_err(|_| NoToken)?;
        if header.alg != "ES256" || header.crit.is_some() {
            return Err(NoToken);
        }
        let certificate = header.x5c.first().and_then(|first| STANDARD.decode(first).ok());
        Ok(Self {
            text: text.into(),
            said: said.len(),
            id: TokenId::parse(&claims.sub).ok_or(NoToken)?,
            certificate: certificate.ok_or(NoToken)?,
            cluster: ClusterId(claims.aud),
            begin: claims.iat,
            end: claims.exp,
            signature: decoded(signature)?.try_into().map_err(|_| NoToken)?,
        })
    }

    /// Whether the holder of the certificate has signed it for this cluster and for now, and one of the authorities in DER has
    /// signed the certificate. Gives the certificate's public key, as [`public_key`] does: whether the cluster knows it under
    /// that id must be seen by it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn verify(
        &self,
        cluster: &ClusterId,
        authorities: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<Vec<u8>, String> {
        let seconds = now.0 / 1000;
        if self.cluster != *cluster && !cluster.succeeds(&self.cluster) {
            return Err("what was signed is for another cluster".to_owned());
        }
        if self.end <= self.begin || self.end - self.begin > LIFETIME_MAX {
            return Err(format!("what was signed must be good for {} minutes at most", LIFETIME_MAX / 60));
        }
        let at = |seconds: u64| Timestamp(seconds.saturating_mul(1000));
        if seconds >= self.end.saturating_add(SKEW) {
            let end = at(self.end);
            return Err(format!("what was signed was good until {end}; compare the clocks, and sign anew"));
        }
        if seconds.saturating_add(SKEW) < self.begin {
            let begin = at(self.begin);
            return Err(format!(
                "what was signed is good from {begin} on; compare the clocks of both machines"
            ));
        }
        let der = CertificateDer::from(self.certificate.as_slice());
        if holder(&der) != Some(Holder::Person(self.id)) {
            return Err("the certificate is not that of the person or program that is named".to_owned());
        }
        let certificate = EndEntityCert::try_from(&der);
        let certificate = certificate.map_err(|_| "the certificate cannot be read".to_owned())?;
        is_signed(&certificate, authorities, now)?;
        let said = self.text.get(..self.said).unwrap_or_default();
        let signature = in_der(&self.signature);
        certificate
            .verify_signature(ECDSA_P256_SHA256, said.as_bytes(), &signature)
            .map_err(|_| "the signature is not by the key of the certificate".to_owned())?;
        Ok(certificate.subject_public_key_info().to_vec())
    }
}

/// The public key in a certificate in DER, as its SubjectPublicKeyInfo in DER; none: it is no certificate.
pub fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let der = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&der).ok()?;
    Some(certificate.subject_public_key_info().to_vec())
}

/// Whether one of the authorities has signed it, and it is good now.
fn is_signed(certificate: &EndEntityCert<'_>, authorities: &[Vec<u8>], now: Timestamp) -> Result<(), String> {
    let authorities: Vec<CertificateDer<'_>> =
        authorities.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Vec<_> =
        authorities.iter().filter_map(|der| webpki::anchor_from_trusted_cert(der).ok()).collect();
    let (algorithms, usage) = ([ECDSA_P256_SHA256], KeyUsage::client_auth());
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let verified = certificate.verify_for_usage(&algorithms, &anchors, &[], now, usage, None, None);
    verified.map(drop).map_err(|error| match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            "the certificate is not good now: it has expired, or the clocks differ".to_owned()
        }
        _ => "the certificate was signed by no authority of this cluster, or by one that was replaced since"
            .to_owned(),
    })
}

/// Two numbers of 32 bytes, as X.509 has them.
pub(crate) fn in_der(signature: &[u8; 64]) -> Vec<u8> {
    let element = |tag: u8, content: Vec<u8>| {
        // At most 70 bytes.
        let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
        [vec![tag, length], content].concat()
    };
    let number = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let digits = bytes.get(zeros..).unwrap_or_default();
        // A number that begins with a bit that is set would be negative; nought has a digit, too.
        let positive = digits.first().is_some_and(|first| *first < 0x80);
        let sign = if positive { Vec::new() } else { vec![0] };
        element(2, [sign, digits.to_vec()].concat())
    };
    let (one, two) = signature.split_at(32);
    element(0x30, [number(one), number(two)].concat())
}

#[cfg(test)]
mod tests;
