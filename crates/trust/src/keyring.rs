//! What a node has of keys and certificates, in files under `DIR/trust` that only the agent's user can read.
//!
//! ```text
//!  node.pem                this node's certificate and its key, and when they are to be renewed
//!  authorities.pem         whom it trusts; the first issues
//!  authority.key           the issuing authority's key, on voters alone
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sheaf_model::Timestamp;

use crate::authority::Authority;
use crate::key::PrivateKey;
use crate::{TrustError, pin};

/// A node's certificate in DER, and its key in PKCS #8 DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Own {
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// Its key. Secret.
    pub key: Vec<u8>,
    /// When it is to be renewed.
    pub renew_at: Timestamp,
}

/// The certificate; never the key.
impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("certificate", &self.certificate.len()).finish_non_exhaustive()
    }
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file system said no.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} is damaged: {source}; remove the folder to have this node join anew")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
}

/// See the module's doc.
#[derive(Debug)]
pub struct Keyring {
    dir: PathBuf,
    /// Held for a look or for writing the files, which is rare.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    own: Option<Own>,
    authorities: Vec<Vec<u8>>,
    authority: Option<Arc<Authority>>,
}

/// Before the time, in milliseconds, from which on the certificate is to be renewed.
const RENEW: &str = "Renew-At: ";

impl Keyring {
    /// That of the node with this data directory.
    pub fn of_node(data_dir: &Path) -> Result<Self, KeyringError> {
        Self::open(&data_dir.join("trust"))
    }

    /// Reads what is there; a folder that is not there has nothing.
    pub fn open(dir: &Path) -> Result<Self, KeyringError> {
        let mut held = Held { authorities: certificates(&dir.join("authorities.pem"))?, ..Held::default() };
        let path = dir.join("node.pem");
        if let (Some(certificate), Some(key)) = (certificates(&path)?.pop(), private_key(&path)?) {
            let renew_at = renew_at(&path)?;
            held.own = Some(Own { certificate, key: key.der(), renew_at });
        }
        let path = dir.join("authority.key");
        if let (Some(key), Some(issuing)) = (private_key(&path)?, held.authorities.first()) {
            let authority = Authority::from_parts(key, issuing.clone());
            // The key of an authority that issues no more is of no use.
            held.authority = authority.ok().map(Arc::new);
        }
        Ok(Self { dir: dir.to_owned(), held: Mutex::new(held) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// This node's certificate, once it has one.
    pub fn own(&self) -> Option<Own> {
        self.held().own.clone()
    }

    /// Whom this node trusts, each in DER; the first issues.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        self.held().authorities.clone()
    }

    /// What signs, if its key is here.
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.held().authority.clone()
    }

    /// Keeps this node's certificate and key, to be renewed from `renew_at` on.
    pub fn keep_own(
        &self,
        certificate: &[u8],
        key: &PrivateKey,
        renew_at: Timestamp,
    ) -> Result<(), KeyringError> {
        let mut held = self.held();
        let text = format!("{RENEW}{}\n{}", renew_at.0, encode(&[certificate.to_vec()]));
        // Together in one file, so that they always fit.
        self.write("node.pem", &format!("{text}{}", key.pem()))?;
        held.own = Some(Own { certificate: certificate.to_vec(), key: key.der(), renew_at });
        Ok(())
    }

    /// Whether this node's certificate is to be renewed; not, if there is none.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let held = self.held();
        held.own.as_ref().is_some_and(|own| own.renew_at <= now)
    }

    /// Keeps whom to trust; the first issues. Whether that is news.
    pub fn keep_authorities(&self, authorities: &[Vec<u8>]) -> Result<bool, KeyringError> {
        let mut held = self.held();
        if held.authorities == authorities || authorities.is_empty() {
            return Ok(false);
        }
        self.write("authorities.pem", &encode(authorities))?;
        held.authorities = authorities.to_vec();
        let issues = authorities.first().map(|issuing| pin(issuing));
        if held.authority.as_ref().map(|authority| pin(authority.certificate())) != issues {
            held.authority = None;
        }
        Ok(true)
    }

    /// Keeps the issuing authority with its key.
    pub fn keep_authority(&self, authority: Authority) -> Result<(), KeyringError> {
        let certificate = authority.certificate().to_vec();
        let mut authorities = self.authorities();
        authorities.retain(|known| *known != certificate);
        authorities.insert(0, certificate);
        let mut held = self.held();
        self.write("authority.key", &authority.key().pem())?;
        self.write("authorities.pem", &encode(&authorities))?;
        (held.authorities, held.authority) = (authorities, Some(Arc::new(authority)));
        Ok(())
    }

    /// On disk, synced, under a name that appears with all of it.
    fn write(&self, name: &str, text: &str) -> Result<(), KeyringError> {
        let path = self.dir.join(name);
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            let new = self.dir.join(format!("{name}.new"));
            let mut file =
                OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| KeyringError::Io { operation: "write", path: path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyringError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyringError::Io { operation: "read", path: path.to_owned(), source }),
    }
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, KeyringError> {
    let Some(bytes) = read(path)? else { return Ok(Vec::new()) };
    let source = || TrustError::Malformed { expected: "list of certificates in PEM" };
    let damaged = || KeyringError::Damaged { path: path.to_owned(), source: source() };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes).map(|found| found.map(|der| der.to_vec())).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(damaged)
}

/// Damaged or not there: at once.
fn renew_at(path: &Path) -> Result<Timestamp, KeyringError> {
    let text = read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let time = text.lines().find_map(|line| line.strip_prefix(RENEW)?.parse().ok());
    Ok(Timestamp(time.unwrap_or(0)))
}

fn private_key(path: &Path) -> Result<Option<PrivateKey>, KeyringError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let key = PrivateKey::from_pem(&bytes);
    key.map(Some).map_err(|source| KeyringError::Damaged { path: path.to_owned(), source })
}

/// Certificates in PEM, one after the other.
pub(crate) fn encode(certificates: &[Vec<u8>]) -> String {
    certificates.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use sheaf_model::{Holder, NodeId};

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_by_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("trust");
        let keyring = Keyring::open(&dir).unwrap();
        assert_eq!((keyring.own(), keyring.authorities().len()), (None, 0));
        let now = Timestamp(1_800_000_000_000);
        keyring.keep_authority(Authority::new(now).unwrap()).unwrap();
        let authority = keyring.authority().unwrap();
        let key = PrivateKey::new().unwrap();
        let holder = Holder::Node(NodeId(1));
        let certificate = authority.issue(&key.public(), holder, None, now, Duration::from_secs(60)).unwrap();
        keyring.keep_own(&certificate, &key, Timestamp(5)).unwrap();
        assert!(keyring.is_due(Timestamp(5)) && !keyring.is_due(Timestamp(4)));
        let again = Keyring::open(&dir).unwrap();
        assert_eq!((again.own(), again.authorities()), (keyring.own(), keyring.authorities()));
        assert!(again.authority().is_some());
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        // Another authority issues now: the key of the former one is of no use.
        let newer = Authority::new(now).unwrap().certificate().to_vec();
        let both = [newer, authority.certificate().to_vec()];
        assert!(keyring.keep_authorities(&both).unwrap() && !keyring.keep_authorities(&both).unwrap());
        assert!(keyring.authority().is_none() && Keyring::open(&dir).unwrap().authority().is_none());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let place = tempfile::tempdir().unwrap();
        for name in ["authorities.pem", "node.pem", "authority.key"] {
            let path = place.path().join(name);
            fs::write(&path, "-----BEGIN").unwrap();
            let error = Keyring::open(place.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("is damaged"), "{error}");
            fs::remove_file(&path).unwrap();
        }
    }
}
