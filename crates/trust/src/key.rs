//! Keys of nodes and authorities.

use std::fmt;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::{TrustError, failed};

/// Bytes of a public key: an uncompressed point of P-256.
pub const PUBLIC_KEY: usize = 65;

/// What goes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410).
const ED25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A private key. Never shown.
pub struct PrivateKey(pub(crate) KeyPair);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// A new random key on P-256.
    pub fn new() -> Result<Self, TrustError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(failed("make a key"))
    }

    /// The Ed25519 key of these 32 bytes.
    pub(crate) fn of_seed(seed: [u8; 32]) -> Result<Self, TrustError> {
        let der = [ED25519_PREFIX.as_slice(), &seed].concat();
        let der = PrivatePkcs8KeyDer::from(der);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).map(Self).map_err(failed("derive a key"))
    }

    /// Reads what [`pem`](Self::pem) writes.
    pub fn from_pem(text: &[u8]) -> Result<Self, TrustError> {
        let malformed = TrustError::Malformed { expected: "private key in PEM" };
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| malformed)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(failed("read a private key"))
    }

    /// PKCS #8 in PEM, for a file that only its owner can read.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// PKCS #8 in DER, for TLS.
    pub fn der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// What others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey { raw: self.0.public_key_raw().to_vec(), algorithm: self.0.algorithm() }
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    raw: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.raw.len()).finish()
    }
}

impl PublicKey {
    /// From what another node says: [`PUBLIC_KEY`] bytes, uncompressed, on P-256.
    pub fn read(raw: &[u8]) -> Result<Self, TrustError> {
        if raw.len() != PUBLIC_KEY || raw.first() != Some(&4) {
            return Err(TrustError::Malformed {
                expected: "public key: 65 bytes, an uncompressed point of P-256",
            });
        }
        Ok(Self { raw: raw.to_vec(), algorithm: &PKCS_ECDSA_P256_SHA256 })
    }

    /// As [`read`](Self::read) takes it.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.raw
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_written_and_never_shown() {
        let key = PrivateKey::new().unwrap();
        let again = PrivateKey::from_pem(key.pem().as_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::read(key.public().raw()).unwrap(), key.public());
        assert_eq!(format!("{key:?}"), "PrivateKey");
        for bad in [&b""[..], b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(PrivateKey::from_pem(bad).is_err());
        }
        for bad in [&[4; 64][..], &[2; 65], &[]] {
            assert!(PublicKey::read(bad).is_err());
        }
    }

    #[test]
    fn a_seed_gives_one_key() {
        let key = |seed| PrivateKey::of_seed([seed; 32]).unwrap().public();
        assert_eq!(key(1), key(1));
        assert_ne!(key(1), key(2));
    }
}
