//! A person's or a program's certificate with its key, and what that signs.
//!
//! ```text
//!  Sheaf-Cluster: ID            whose it is, for what is signed
//!  Sheaf-Id: ID                 under which the cluster knows it
//!  CERTIFICATE, PRIVATE KEY     its own
//!  CERTIFICATE                  the authority by which the cluster's nodes are believed
//! ```
//!
//! What is signed is a JSON Web Token (RFC 7519), which any library for those can make: `alg` ES256 with the certificate in `x5c`,
//! and `aud` the cluster, `sub` the id, `iat` and `exp` from and until when it is good.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sheaf_model::{Timestamp, TokenId};

use crate::TrustError;
use crate::key::PrivateKey;
use crate::keyring::encode;

const CLUSTER: &str = "Sheaf-Cluster: ";
const ID: &str = "Sheaf-Id: ";

/// See the module's doc.
pub struct Person {
    cluster: String,
    id: TokenId,
    certificate: Vec<u8>,
    key: PrivateKey,
    authority: Vec<u8>,
}

/// Whose it is; never the key.
impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Person {
    /// How long what is signed is good.
    pub const SIGNED_FOR: Duration = Duration::from_secs(300);

    /// The holder of this certificate, which that cluster knows by this id; `authority` is whom its nodes are believed by. Both
    /// certificates in DER.
    pub const fn new(
        cluster: String,
        id: TokenId,
        certificate: Vec<u8>,
        key: PrivateKey,
        authority: Vec<u8>,
    ) -> Self {
        Self { cluster, id, certificate, key, authority }
    }

    /// Reads what [`pem`](Self::pem) writes.
    pub fn from_pem(text: &str) -> Result<Self, TrustError> {
        let malformed = || TrustError::Malformed {
            expected: "certificate of a person or a program, as `sheaf cluster token create --certificate` prints it",
        };
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let plain = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
        let cluster = line(CLUSTER).filter(plain).ok_or_else(malformed)?.to_owned();
        let id = line(ID).and_then(TokenId::parse).ok_or_else(malformed)?;
        let key = PrivateKey::from_pem(text.as_bytes()).map_err(|_| malformed())?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let Ok([certificate, authority]) = <[_; 2]>::try_from(found.map_err(|_| malformed())?) else {
            return Err(malformed());
        };
        Ok(Self { cluster, id, certificate: certificate.to_vec(), key, authority: authority.to_vec() })
    }

    /// All of it, for a file that only its owner can read.
    pub fn pem(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{CLUSTER}{}\n{ID}{}", self.cluster, self.id);
        text + &encode(std::slice::from_ref(&self.certificate))
            + &self.key.pem()
            + &encode(std::slice::from_ref(&self.authority))
    }

    /// The same, whose cluster's nodes are believed by this authority, in DER.
    #[must_use]
    pub fn believing(self, authority: Vec<u8>) -> Self {
        Self { authority, ..self }
    }

    /// Whom the cluster's nodes are believed by, in DER.
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// What a call shows in place of a token: good from `now` on for [`Self::SIGNED_FOR`].
    pub fn sign(&self, now: Timestamp) -> Result<String, TrustError> {
        self.sign_for(now, Self::SIGNED_FOR)
    }

    /// The same for another time.
    pub fn sign_for(&self, now: Timestamp, span: Duration) -> Result<String, TrustError> {
        let Self { cluster, id, certificate, .. } = self;
        let (begin, certificate) = (now.0 / 1000, STANDARD.encode(certificate));
        let end = begin.saturating_add(span.as_secs());
        let header = format!(r#"{{"alg":"ES256","typ":"JWT","x5c":["{certificate}"]}}"#);
        let claims = format!(r#"{{"aud":"{cluster}","sub":"{id}","iat":{begin},"exp":{end}}}"#);
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let said = format!("{header}.{claims}");
        let signature = sheaf_seal::sign_es256(&self.key.der(), said.as_bytes());
        let signature = signature.ok_or(TrustError::Malformed { expected: "key that can sign" })?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Holder;

    use super::*;
    use crate::Authority;

    fn person() -> Person {
        let now = Timestamp(1_800_000_000_000);
        let authority = Authority::new(now).unwrap();
        let (key, id) = (PrivateKey::new().unwrap(), TokenId([0xab; 6]));
        let lifetime = Duration::from_secs(3600);
        let certificate = authority.issue(&key.public(), Holder::Person(id), None, now, lifetime).unwrap();
        Person::new("c0ffee+1-2a".to_owned(), id, certificate, key, authority.certificate().to_vec())
    }

    #[test]
    fn a_persons_file_is_read_as_it_is_written() {
        let person = person();
        let text = person.pem();
        assert!(text.starts_with(
            "Sheaf-Cluster: c0ffee+1-2a\nSheaf-Id: abababababab\n-----BEGIN CERTIFICATE-----\n"
        ));
        let again = Person::from_pem(&text).unwrap();
        assert_eq!((again.pem(), again.authority()), (text.clone(), person.authority()));
        assert_eq!(again.believing(vec![0x30]).authority(), [0x30]);
        assert!(!format!("{person:?}").contains("BEGIN"));
        let without = |what: &str| text.replace(what, "");
        let end = text.rfind("-----BEGIN CERTIFICATE").unwrap();
        for bad in [
            String::new(),
            without("Sheaf-Id: "),
            without("Sheaf-Cluster: "),
            text.replace("c0ffee", "c0\"ffee"),
            text[..end].to_owned(),
            text.replace("PRIVATE KEY", "PUBLIC KEY"),
        ] {
            assert!(Person::from_pem(&bad).is_err(), "{}", &bad[..bad.len().min(60)]);
        }
    }

    #[test]
    fn what_is_signed_says_for_whom_and_how_long() {
        let signed = person().sign(Timestamp(1_800_000_000_500)).unwrap();
        let parts: Vec<&str> = signed.split('.').collect();
        let read = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert!(read(parts[0]).starts_with(r#"{"alg":"ES256","typ":"JWT","x5c":["MII"#));
        let claims = r#"{"aud":"c0ffee+1-2a","sub":"abababababab","iat":1800000000,"exp":1800000300}"#;
        assert_eq!((read(parts[1]).as_str(), parts.len()), (claims, 3));
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 64);
    }
}
