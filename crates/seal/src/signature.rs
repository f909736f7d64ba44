//! Signatures: of what is sent to who shares a secret with us, HMAC with SHA-256 (RFC 2104); of who holds a certificate's key,
//! ES256 (RFC 7518).

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::key::KeyError;

/// The signature of some bytes with a key, in hexadecimal digits.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> String {
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        signing.update(part);
    }
    signing.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signature of a message by a key on P-256 in PKCS #8 DER: two numbers of 32 bytes. None: it is no such key, or the system
/// gives no random numbers.
pub fn sign_es256(key: &[u8], message: &[u8]) -> Option<[u8; 64]> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).ok()?;
    key.sign(&random, message).ok()?.as_ref().try_into().ok()
}

/// Bytes that nobody can guess, for a question that is to be answered once.
pub fn nonce() -> Result<[u8; 32], KeyError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_signs_and_its_public_half_tells() {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let signature = sign_es256(key.as_ref(), b"a").unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec());
        assert!(public.verify(b"a", &signature).is_ok() && public.verify(b"b", &signature).is_err());
        assert_eq!(sign_es256(b"no key", b"a"), None);
    }

    /// RFC 4231, test cases 1, 2 and 6.
    #[test]
    fn signatures_are_those_that_others_make() {
        let one = hmac_sha256(&[0x0b; 20], &[b"Hi There"]);
        assert_eq!(one, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let two = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(two, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hmac_sha256(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(long, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}
