//! What a node has of keys and certificates, in files under `DIR/trust` that only the agent's user can read.
//!
//! ```text
//!  node.pem                this node's certificate and its key, and when they are to be renewed
//!  authorities.pem         whom it trusts; the first issues
//!  bridges.pem             certificates of one of these by another, while one takes the place of another
//!  authority.key           the issuing authority's key, on voters alone
//!  next.pem                the authority that is to issue next and its key, on voters alone
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sheaf_model::Timestamp;

use crate::TrustError;
use crate::authority::{Authority, names, pin};
use crate::key::PrivateKey;

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
    bridges: Vec<Vec<u8>>,
    authority: Option<Arc<Authority>>,
    next: Option<Arc<Authority>>,
}

impl Held {
    /// Whether it is the one that issues.
    fn issues(&self, authority: &Authority) -> bool {
        self.authorities.first().is_some_and(|first| first == authority.certificate())
    }
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
        let mut held = Held {
            authorities: certificates(&dir.join("authorities.pem"))?,
            bridges: certificates(&dir.join("bridges.pem"))?,
            ..Held::default()
        };
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
        let path = dir.join("next.pem");
        if let (Some(certificate), Some(key)) = (certificates(&path)?.pop(), private_key(&path)?) {
            let next = Authority::from_parts(key, certificate);
            let next = next.map_err(|source| KeyringError::Damaged { path: path.clone(), source })?;
            // Once it issues its key is in the other file, too.
            held.next = Some(next).filter(|next| !held.issues(next)).map(Arc::new);
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

    /// Certificates of authorities by others of them; see [`Authority::vouch_for`].
    pub fn bridges(&self) -> Vec<Vec<u8>> {
        self.held().bridges.clone()
    }

    /// What signs, if its key is here.
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.held().authority.clone()
    }

    /// What is to sign next, if its key is here: whether the others know of it or not.
    pub fn next(&self) -> Option<Arc<Authority>> {
        self.held().next.clone()
    }

    /// The authority whose certificate has this [`pin`], if its key is here.
    pub fn with_key(&self, wanted: &[u8; 32]) -> Option<Arc<Authority>> {
        let held = self.held();
        let mut both = [&held.authority, &held.next].into_iter().flatten();
        both.find(|authority| pin(authority.certificate()) == *wanted).cloned()
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

    /// Whether this node's certificate is to be renewed: in time, or as another authority issues now; not, if there is none.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let held = self.held();
        let is_by = |own: &Own| held.authorities.first().is_none_or(|first| names(&own.certificate, first));
        held.own.as_ref().is_some_and(|own| own.renew_at <= now || !is_by(own))
    }

    /// Keeps whom to trust, the first of which issues, and what leads from one of them to another. Whether that is news. Where
    /// the next authority's key is, it signs once that authority is the first.
    pub fn keep_authorities(
        &self,
        authorities: &[Vec<u8>],
        bridges: &[Vec<u8>],
    ) -> Result<bool, KeyringError> {
        let mut held = self.held();
        if authorities.is_empty() || (held.authorities == authorities && held.bridges == bridges) {
            return Ok(false);
        }
        let is_first = |it: &Arc<Authority>| authorities.first().is_some_and(|one| one == it.certificate());
        let is_among = |all: &[Vec<u8>], it: &Authority| all.iter().any(|one| one == it.certificate());
        let promoted = held.next.clone().filter(is_first);
        if let Some(next) = &promoted {
            // Before all else: what is interrupted after it begins anew from the next one's file.
            self.write("authority.key", &next.key().pem())?;
        }
        self.write("authorities.pem", &encode(authorities))?;
        if bridges.is_empty() {
            self.remove("bridges.pem")?;
        } else {
            self.write("bridges.pem", &encode(bridges))?;
        }
        let over = held.next.as_ref().is_some_and(|next| {
            is_first(next) || (is_among(&held.authorities, next) && !is_among(authorities, next))
        });
        if over {
            self.remove("next.pem")?;
            held.next = None;
        }
        (held.authorities, held.bridges) = (authorities.to_vec(), bridges.to_vec());
        let signs = promoted.or_else(|| held.authority.clone());
        held.authority = signs.filter(is_first);
        Ok(true)
    }

    /// Keeps the authority that is to issue next with its key, in place of any other.
    pub fn keep_next(&self, next: Authority) -> Result<Arc<Authority>, KeyringError> {
        self.write_next(&mut self.held(), next)
    }

    /// The authority that is to issue next; where there is none yet, this one from now on.
    pub fn next_or(&self, new: Authority) -> Result<Arc<Authority>, KeyringError> {
        let mut held = self.held();
        match &held.next {
            Some(next) => Ok(next.clone()),
            None => self.write_next(&mut held, new),
        }
    }

    fn write_next(&self, held: &mut Held, next: Authority) -> Result<Arc<Authority>, KeyringError> {
        let text = encode(&[next.certificate().to_vec()]) + &next.key().pem();
        self.write("next.pem", &text)?;
        let next = Arc::new(next);
        held.next = Some(next.clone());
        Ok(next)
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

    /// Gone from disk, if it was there.
    fn remove(&self, name: &str) -> Result<(), KeyringError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(KeyringError::Io { operation: "remove", path, source: error })
            }
            _ => Ok(()),
        }
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
pub fn encode(certificates: &[Vec<u8>]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block = |der: &Vec<u8>| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.clone()), config);
    certificates.iter().map(block).collect()
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
        assert!(keyring.keep_authorities(&both, &[]).unwrap());
        assert!(!keyring.keep_authorities(&both, &[]).unwrap(), "no news");
        assert!(keyring.authority().is_none() && Keyring::open(&dir).unwrap().authority().is_none());
    }

    #[test]
    fn the_next_authority_signs_once_it_is_the_first_whatever_is_interrupted() {
        let place = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(place.path()).unwrap();
        let now = Timestamp(1_800_000_000_000);
        keyring.keep_authority(Authority::new(now).unwrap()).unwrap();
        let old = keyring.authority().unwrap();
        let next = keyring.keep_next(Authority::new(now).unwrap()).unwrap();
        let bridge = old.vouch_for(&next, now).unwrap();
        let [old_der, next_der] = [&old, &next].map(|it| it.certificate().to_vec());
        let key = PrivateKey::new().unwrap();
        let holder = Holder::Node(NodeId(1));
        let lifetime = Duration::from_secs(60);
        let leaf = old.issue(&key.public(), holder, None, now, lifetime).unwrap();
        keyring.keep_own(&leaf, &key, Timestamp(u64::MAX)).unwrap();
        assert!(!keyring.is_due(now));
        let first = [old_der.clone(), next_der.clone()];
        assert!(keyring.keep_authorities(&first, std::slice::from_ref(&bridge)).unwrap());
        let signs = |keyring: &Keyring| keyring.authority().map(|it| it.certificate().to_vec());
        assert_eq!((signs(&keyring), keyring.bridges()), (Some(old_der.clone()), vec![bridge.clone()]));
        assert!(keyring.with_key(&pin(&old_der)).is_some() && keyring.with_key(&pin(&next_der)).is_some());
        let again = Keyring::open(place.path()).unwrap();
        assert_eq!(again.next().map(|it| it.certificate().to_vec()), Some(next_der.clone()));

        // The key was written, and nothing after it.
        let former = fs::read(place.path().join("authority.key")).unwrap();
        fs::write(place.path().join("authority.key"), next.key().pem()).unwrap();
        let again = Keyring::open(place.path()).unwrap();
        assert!(again.authority().is_none() && again.next().is_some());
        fs::write(place.path().join("authority.key"), former).unwrap();

        let second = [next_der.clone(), old_der.clone()];
        assert!(keyring.keep_authorities(&second, std::slice::from_ref(&bridge)).unwrap());
        assert!(keyring.is_due(now), "its certificate is by the former one");
        for keyring in [&keyring, &Keyring::open(place.path()).unwrap()] {
            assert_eq!((signs(keyring), keyring.next().is_some()), (Some(next_der.clone()), false));
        }
        assert!(keyring.with_key(&pin(&old_der)).is_none(), "the former one signs no more");
        assert!(keyring.keep_authorities(std::slice::from_ref(&next_der), &[]).unwrap());
        assert!(!place.path().join("bridges.pem").exists());

        // One that is given up before it issues leaves nothing.
        let given_up = keyring.next_or(Authority::new(now).unwrap()).unwrap().certificate().to_vec();
        let again = keyring.next_or(Authority::new(now).unwrap()).unwrap().certificate().to_vec();
        assert_eq!(again, given_up, "whoever begins twice begins the same");
        assert!(!keyring.keep_authorities(std::slice::from_ref(&next_der), &[]).unwrap());
        assert!(keyring.next().is_some(), "the others do not know of it yet");
        keyring.keep_authorities(&[next_der.clone(), given_up], &[]).unwrap();
        keyring.keep_authorities(std::slice::from_ref(&next_der), &[]).unwrap();
        assert!(keyring.next().is_none() && !place.path().join("next.pem").exists());
        assert_eq!(signs(&keyring), Some(next_der));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let place = tempfile::tempdir().unwrap();
        for name in ["authorities.pem", "bridges.pem", "node.pem", "authority.key", "next.pem"] {
            let path = place.path().join(name);
            fs::write(&path, "-----BEGIN").unwrap();
            let error = Keyring::open(place.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("is damaged"), "{error}");
            fs::remove_file(&path).unwrap();
        }
    }
}
