//! The key, and the file that it stands in.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use sheaf_model::KeyId;

/// Bytes of a key.
const KEY: usize = 32;
/// No key file is longer.
const FILE_MAX: u64 = 4096;

/// Why a key file cannot be used, or made. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system said no.
    #[error("cannot {operation} the key file {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read it, or write it.
    #[error("the key file {path} has mode {mode:04o}: others could read it; chmod 600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "the key file {path} holds no key: expected 64 hexadecimal digits, as `sheaf secret keygen FILE` writes them"
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> KeyError {
    move |source| KeyError::Io { operation, path: path.to_owned(), source }
}

/// The cluster's key, as one node has it.
pub struct Key {
    pub(crate) id: KeyId,
    pub(crate) cipher: LessSafeKey,
    pub(crate) random: SystemRandom,
    pub(crate) path: PathBuf,
}

/// Which key, and where from; never the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id.to_string())
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a key file, which must be a file that nobody but its owner can read.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::new(&read(path)?, path).ok_or_else(|| KeyError::NoKey { path: path.to_owned() })
    }

    fn new(bytes: &[u8; KEY], path: &Path) -> Option<Self> {
        let mut hash = Context::new(&SHA256);
        hash.update(b"sheaf key id 1");
        hash.update(bytes);
        let id = hash.finish().as_ref().first_chunk().map(|id| KeyId(*id))?;
        let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).ok()?);
        Some(Self { id, cipher, random: SystemRandom::new(), path: path.to_owned() })
    }

    /// Which key it is.
    pub fn id(&self) -> KeyId {
        self.id
    }
}

/// The bytes of a key file, which must be a file that nobody but its owner can read.
pub fn read(path: &Path) -> Result<[u8; 32], KeyError> {
    let file = fs::metadata(path).map_err(failed("read", path))?;
    let mode = file.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let no_key = || KeyError::NoKey { path: path.to_owned() };
    if !file.is_file() || file.len() > FILE_MAX {
        return Err(no_key());
    }
    let text = fs::read(path).map_err(failed("read", path))?;
    digits(text.trim_ascii()).ok_or_else(no_key)
}

/// Makes a new key in a new file that only its owner can read. What is there already stays, and is an error.
pub fn make(path: &Path) -> Result<Key, KeyError> {
    let mut bytes = [0; KEY];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandom)?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file: File = create.map_err(failed("make", path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write", path))?;
    Key::read(path)
}

/// 64 hexadecimal digits.
fn digits(text: &[u8]) -> Option<[u8; KEY]> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 2 * KEY && text.is_ascii())?;
    let mut bytes = [0; KEY];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        let pair = text.get(at..at + 2).filter(|pair| pair.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::read(&path).unwrap().id(), made.id());
        let error = make(&path).unwrap_err().to_string();
        assert!(error.starts_with("cannot make the key file"), "{error}");
        assert_ne!(make(&dir.path().join("other")).unwrap().id(), made.id());
        let text = fs::read_to_string(&path).unwrap();
        let said = format!("{made:?}");
        assert!(!said.contains(text.trim()) && said.contains(&made.id().to_string()), "{said}");
    }

    #[test]
    fn what_is_no_key_or_open_to_others_is_refused_precisely() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let said = |path: &Path| Key::read(path).unwrap_err().to_string();
        assert!(said(&path).starts_with("cannot read the key file"), "{}", said(&path));
        for text in ["", "abc", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65), &"+f".repeat(32)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
            assert!(said(&path).contains("holds no key: expected 64 hexadecimal digits"), "{text}");
            fs::remove_file(&path).unwrap();
        }
        fs::write(&path, "0".repeat(64) + "\n").unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = said(&path);
            assert!(
                error.contains(&format!("has mode {mode:04o}: others could read it; chmod 600")),
                "{error}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Key::read(&path).unwrap();
    }
}
