//! Sealing a value, and opening it again.

use std::path::PathBuf;

use ring::aead::{Aad, Nonce};
use ring::rand::SecureRandom as _;
use sheaf_model::{KeyId, ObjectValue, Sealed, SecretName, SecretValue};

use crate::key::{Key, KeyError};

/// Goes before a secret's name in what is sealed with its value.
const CONTEXT: &[u8] = b"sheaf secret 1\0";

/// Why a sealed value cannot be opened here. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Another key.
    #[error(
        "secret {name} is sealed with key {sealed}, and this node has key {own} in {path}: give it the key file of the node \
         where it was set, or set the secret again here"
    )]
    OtherKey {
        /// Which secret.
        name: SecretName,
        /// What it is sealed with.
        sealed: KeyId,
        /// What is here.
        own: KeyId,
        /// From which file.
        path: PathBuf,
    },
    /// Not what was sealed, or not under this name.
    #[error("secret {name} is damaged, or was sealed under another name; set it again")]
    Damaged {
        /// Which secret.
        name: SecretName,
    },
}

impl Key {
    /// Seals a value as that of the secret `name`.
    pub fn seal(&self, name: &SecretName, value: &SecretValue) -> Result<Sealed, KeyError> {
        let mut nonce = [0; 12];
        self.random.fill(&mut nonce).map_err(|_| KeyError::NoRandom)?;
        let mut bytes = value.reveal().to_vec();
        let sealed = self.cipher.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context(name)),
            &mut bytes,
        );
        sealed.expect("a value is far shorter than what the cipher can take");
        Ok(Sealed { key: self.id, nonce, ciphertext: ObjectValue::from(bytes.as_slice()) })
    }

    /// Opens what was sealed as the secret `name`.
    pub fn open(&self, name: &SecretName, sealed: &Sealed) -> Result<SecretValue, SealError> {
        if sealed.key != self.id {
            return Err(SealError::OtherKey {
                name: name.clone(),
                sealed: sealed.key,
                own: self.id,
                path: self.path.clone(),
            });
        }
        let damaged = || SealError::Damaged { name: name.clone() };
        let mut bytes = sealed.ciphertext.as_bytes().to_vec();
        let nonce = Nonce::assume_unique_for_key(sealed.nonce);
        let plain = self.cipher.open_in_place(nonce, Aad::from(context(name)), &mut bytes);
        SecretValue::new(plain.map_err(|_| damaged())?).map_err(|_| damaged())
    }
}

fn context(name: &SecretName) -> Vec<u8> {
    [CONTEXT, name.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::new(text).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_under_its_name_and_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = crate::make(&dir.path().join("key")).unwrap();
        let value = SecretValue::new(b"hunter2").unwrap();
        let sealed = key.seal(&name("a"), &value).unwrap();
        assert_eq!(sealed.ciphertext.len(), 7 + sheaf_model::SEAL_TAG);
        assert!(!sealed.ciphertext.as_bytes().windows(7).any(|window| window == b"hunter2"));
        assert_eq!(key.open(&name("a"), &sealed).unwrap(), value);
        assert_ne!(key.seal(&name("a"), &value).unwrap().nonce, sealed.nonce, "another nonce each time");
        let swapped = key.open(&name("b"), &sealed).unwrap_err();
        assert!(matches!(swapped, SealError::Damaged { .. }), "{swapped}");
        for change in [0, 7] {
            let mut bytes = sealed.ciphertext.as_bytes().to_vec();
            bytes[change] ^= 1;
            let changed = Sealed { ciphertext: bytes.as_slice().into(), ..sealed.clone() };
            assert!(matches!(key.open(&name("a"), &changed), Err(SealError::Damaged { .. })));
        }
        for short in [0, 5, 16] {
            let ciphertext = ObjectValue::from(&sealed.ciphertext.as_bytes()[..short]);
            let cut = Sealed { ciphertext, ..sealed.clone() };
            assert!(matches!(key.open(&name("a"), &cut), Err(SealError::Damaged { .. })));
        }
    }

    #[test]
    fn another_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) =
            (crate::make(&dir.path().join("1")).unwrap(), crate::make(&dir.path().join("2")).unwrap());
        let sealed = one.seal(&name("a"), &SecretValue::new(b"x").unwrap()).unwrap();
        let error = two.open(&name("a"), &sealed).unwrap_err().to_string();
        let begin =
            format!("secret a is sealed with key {}, and this node has key {} in ", one.id(), two.id());
        assert!(error.starts_with(&begin), "{error}");
    }
}
