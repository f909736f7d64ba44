//! TLS on the dashboard's port: which certificate is shown there, and files of it that change while the agent runs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use sheaf_model::{Digest, Timestamp};
use sheaf_wire::Transport;
use sheaf_wire::inward::{Identity, IdentityError, Inward};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// How often the files are looked at. They are small, and whoever renews them is in no hurry.
const EVERY: Duration = Duration::from_secs(5);
/// No file of a certificate or a key is longer.
const FILE_MAX: u64 = 1 << 20;
/// So long before a certificate ends somebody should know.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the port shows.
pub(crate) struct Https {
    inward: Inward,
    /// None: the node's own certificate, which is renewed elsewhere.
    own: Option<Own>,
}

/// Files that are looked at, and what they held when they were taken last.
struct Own {
    files: Files,
    taken: Digest,
}

/// Where a certificate of the operator's own stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why files cannot be used. It can help to try again: whoever renews them writes one after the other.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("cannot read {path} ([http] {named}): {why}")]
    Unread { path: PathBuf, named: &'static str, why: io::Error },
    #[error("{path} ([http] {named}) is no file of at most 1 MiB")]
    NoFile { path: PathBuf, named: &'static str },
    #[error(
        "{path} ([http] key_file) has mode {mode:04o}: everybody on this machine could read the key; chmod 640 {path}"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{certificate} and {key} ([http] certificate_file, key_file): {why}")]
    Unusable { certificate: PathBuf, key: PathBuf, why: IdentityError },
}

impl FilesError {
    /// What to do about it.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Unread { .. } => "name a file that the agent's user may read",
            Self::NoFile { .. } => "name the PEM file itself",
            Self::Open { .. } => {
                "have whoever renews it keep that mode, and replace the key if somebody may have read it"
            }
            Self::Unusable { .. } => {
                "a certificate with its chain and the key that belongs to it, each in PEM; or leave out both, and the node shows \
                 its own certificate"
            }
        }
    }
}

impl Files {
    /// Those that the configuration names; none: none.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let (certificate, key) = (config.https.certificate_file.clone()?, config.https.key_file.clone()?);
        Some(Self { certificate, key })
    }

    /// What they hold.
    pub(crate) fn read(&self) -> Result<Identity, FilesError> {
        self.look().map(|(_, identity)| identity)
    }

    /// The same, and what tells it from what they held before.
    fn look(&self) -> Result<(Digest, Identity), FilesError> {
        let certificate = content(&self.certificate, "certificate_file", 0)?;
        let key = content(&self.key, "key_file", 0o007)?;
        let identity = Identity::read(&certificate, &key).map_err(|why| FilesError::Unusable {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            why,
        })?;
        Ok((sheaf_seal::sha256(&[certificate, key].concat()), identity))
    }
}

/// What a file holds, on which no mode of `forbidden` is set.
fn content(path: &Path, named: &'static str, forbidden: u32) -> Result<Vec<u8>, FilesError> {
    let unread = |why| FilesError::Unread { path: path.to_owned(), named, why };
    let found = fs::metadata(path).map_err(unread)?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(FilesError::Open { path: path.to_owned(), mode });
    }
    if !found.is_file() || found.len() > FILE_MAX {
        return Err(FilesError::NoFile { path: path.to_owned(), named });
    }
    fs::read(path).map_err(unread)
}

/// What deserves a word about how long it is good.
pub(crate) fn lapse(identity: &Identity) -> Option<String> {
    let now = Timestamp::from_system(SystemTime::now());
    let (begin, end) = (identity.not_before(), identity.not_after());
    if now < begin {
        return Some(format!("it is not good before {begin}, and browsers refuse it until then"));
    }
    if end < now {
        return Some(format!("it has expired at {end}, and browsers refuse it"));
    }
    (now.until(end) < SOON).then(|| format!("it expires at {end}"))
}

impl Https {
    /// What the configuration says; none: TLS is not spoken.
    pub(crate) fn open(config: &Config, transport: &Transport) -> anyhow::Result<Option<Self>> {
        if !config.https.on {
            return Ok(None);
        }
        let Some(files) = Files::of(config) else {
            let inward = transport.is_secured().then(|| Inward::of_node(transport)).transpose();
            let inward = inward.context("prepare TLS for the dashboard")?;
            return Ok(inward.map(|inward| Self { inward, own: None }));
        };
        let (taken, identity) = files.look().context("use the certificate for the dashboard")?;
        // The node has other things to do than to show pages: it starts all the same.
        if let Some(why) = lapse(&identity) {
            tracing::warn!("the certificate for the dashboard: {why}");
        }
        let inward = Inward::of_operator(identity).context("prepare TLS for the dashboard")?;
        Ok(Some(Self { inward, own: Some(Own { files, taken }) }))
    }

    pub(crate) fn inward(&self) -> Inward {
        self.inward.clone()
    }

    /// Takes what the files hold when that is something else, and at SIGHUP; what is wrong with them is said, and the former
    /// certificate stays.
    pub(crate) async fn watch(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Some(mut own) = self.own else {
            stop.cancelled().await;
            return Ok(());
        };
        let mut hangup = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
        let mut look = tokio::time::interval(EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                // Dropping either loses nothing: the files stay.
                Some(()) = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let files = own.files.clone();
            let found = tokio::task::spawn_blocking(move || files.look()).await.context("read a file")?;
            match found {
                Ok((digest, _)) if digest == own.taken && !asked => told.clear(),
                Ok((digest, identity)) => {
                    let (names, until) = (identity.names(), identity.not_after());
                    let lapse = lapse(&identity);
                    self.inward.replace(identity);
                    (own.taken, told) = (digest, String::new());
                    tracing::info!(?names, %until, "the certificate for the dashboard was read again");
                    if let Some(why) = lapse {
                        tracing::warn!("the certificate for the dashboard: {why}");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if asked || error != told {
                        tracing::error!(
                            "the certificate for the dashboard was not read again, and the former one stays: {error}"
                        );
                        told = error;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use sheaf_model::{Holder, NodeId};
    use sheaf_trust::{Authority, PrivateKey};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A certificate for these names that is good for so long, and its key, in PEM.
    pub(crate) fn issued(hosts: &[&str], lifetime: Duration) -> (String, String) {
        let now = Timestamp::from_system(SystemTime::now());
        let authority = Authority::new(now).expect("an authority");
        let key = PrivateKey::new().expect("a key");
        let (holder, hosts) = (Holder::Node(NodeId(1)), hosts.iter().copied());
        let certificate = authority.issue(&key.public(), holder, hosts, now, lifetime).expect("signed");
        (sheaf_trust::encode(&[certificate]), key.pem())
    }

    /// Files in this directory, the second of which only its owner can read.
    pub(crate) fn written(dir: &Path, certificate: &str, key: &str) -> Files {
        let files = Files { certificate: dir.join("https.pem"), key: dir.join("https.key") };
        fs::write(&files.certificate, certificate).expect("the test's own file");
        fs::write(&files.key, key).expect("the test's own file");
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        files
    }

    #[test]
    fn files_are_read_and_what_is_wrong_names_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let (certificate, key) = issued(&["a.example.org"], 90 * DAY);
        let files = written(dir.path(), &certificate, &key);
        let read = files.read().expect("a pair");
        assert!(read.is_for("a.example.org") && lapse(&read).is_none());
        let wrong = |files: &Files, parts: &[&str]| {
            let error = files.read().expect_err("something is wrong").to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} in {error}");
            assert!(!error.contains("MIG"), "{error}");
        };
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
        wrong(&files, &["https.key ([http] key_file) has mode 0644", "chmod 640"]);
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).expect("its mode can be set");
        files.read().expect("a group may read it");
        let (_, other) = issued(&["a.example.org"], 90 * DAY);
        wrong(
            &written(dir.path(), &certificate, &other),
            &["https.pem and ", "https.key", "the key does not belong to the certificate"],
        );
        let gone = Files { key: dir.path().join("gone"), ..files.clone() };
        wrong(&gone, &["cannot read ", "gone ([http] key_file)"]);
        let folder = Files { certificate: dir.path().to_owned(), ..files };
        wrong(&folder, &["([http] certificate_file) is no file of at most 1 MiB"]);
        let long = "x".repeat(usize::try_from(FILE_MAX).expect("it is small") + 1);
        wrong(&written(dir.path(), &long, &key), &["is no file of at most 1 MiB"]);
    }

    #[test]
    fn the_end_of_a_certificate_is_told_in_time() {
        let lapse = |lifetime| {
            let (certificate, key) = issued(&["a"], lifetime);
            lapse(&Identity::read(certificate.as_bytes(), key.as_bytes()).expect("a pair"))
        };
        assert_eq!(lapse(15 * DAY), None);
        assert!(lapse(13 * DAY).is_some_and(|why| why.starts_with("it expires at 2")));
        // Dates are whole seconds.
        let over = lapse(Duration::ZERO);
        assert!(over.as_ref().is_some_and(|why| why.contains("expire")), "{over:?}");
    }
}
