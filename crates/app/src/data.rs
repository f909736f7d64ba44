//! The data directory: one agent at a time, and who it is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sheaf_model::{ClusterId, NodeId, NodeKey};

/// Version of `node.json` that this build writes.
const VERSION: u32 = 1;

/// How often it is tried to get the directory.
const LOOKS: u32 = 10;
/// Between two tries.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

/// A data directory that is ours as long as this lives.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Who this is.
    pub(crate) record: Record,
    _lock: File,
}

/// `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// Made when the directory was new.
    pub(crate) key: NodeKey,
    /// The cluster it belongs to.
    #[serde(default)]
    pub(crate) cluster: Option<ClusterId>,
    /// Its number there.
    #[serde(default)]
    pub(crate) node: Option<NodeId>,
    /// It holds a replica.
    #[serde(default)]
    pub(crate) member: bool,
    /// Where members were seen last.
    #[serde(default)]
    pub(crate) members: Vec<String>,
    /// Which of them is where, as far as that is known.
    #[serde(default)]
    pub(crate) numbers: BTreeMap<String, NodeId>,
    /// Members prove that they are: who does not is none.
    #[serde(default)]
    pub(crate) proven: bool,
    /// The cluster that said that this node was forgotten there. One that is founded anew may see it otherwise.
    #[serde(default)]
    pub(crate) left: Option<ClusterId>,
}

impl Record {
    /// Of a directory that is new.
    fn new() -> Self {
        let key = NodeKey(uuid::Uuid::new_v4().to_string());
        Self {
            version: VERSION,
            key,
            cluster: None,
            node: None,
            member: false,
            members: Vec::new(),
            numbers: BTreeMap::new(),
            proven: false,
            left: None,
        }
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error("data directory {path}: {doing}: {source}")]
    Io { path: String, doing: &'static str, source: std::io::Error },
    #[error("data directory {0} is in use by another agent; stop that one, or set another [storage] dir")]
    InUse(String),
    #[error(
        "data directory {path}: node.json is damaged ({why}); move the directory away to start as a new node"
    )]
    Damaged { path: String, why: String },
    #[error(
        "data directory {path}: node.json is of version {found}, this build knows {VERSION}; use a newer sheaf"
    )]
    Newer { path: String, found: u32 },
}

impl DataError {
    /// What to do about it, for who has not started an agent yet.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Io { .. } => {
                "run this as the agent's user, and let that own the directory; or set another [storage] dir"
            }
            Self::InUse(_) => "sheaf agent stop, where it is the former one of this node",
            Self::Damaged { .. } => "or put a copy of node.json back, if there is one of this very directory",
            Self::Newer { .. } => {
                "the version that the agent had last, or a newer one; `sheaf version` says which this is"
            }
        }
    }
}

impl DataDir {
    /// Opens the directory, made when missing, and takes its lock. What is in it is closed to other users, and what this
    /// process makes from here on is for its own alone.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        sheaf_agent::keep_to_itself();
        let shown = path.display().to_string();
        let failed = |doing| move |source| DataError::Io { path: shown.clone(), doing, source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create"))?;
        let shown = path.display().to_string();
        let path = path.canonicalize().map_err(|source| DataError::Io {
            path: shown.clone(),
            doing: "resolve",
            source,
        })?;
        // On a disk that is full to the last byte nothing below could be written.
        sheaf_consensus::make_room(&ballast(&path)).map_err(|source| DataError::Io {
            path: shown.clone(),
            doing: "give up the ballast",
            source,
        })?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock =
            lock.map_err(|source| DataError::Io { path: shown.clone(), doing: "open lock", source })?;
        let mut looks = 0;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Somebody may only be looking whether an agent runs here.
            looks += 1;
            if looks > LOOKS {
                return Err(DataError::InUse(shown));
            }
            pause(LOOK_AGAIN);
        }
        let whose = || {
            (&lock).write_all(format!("{}\n", std::process::id()).as_bytes())?;
            lock.set_len((&lock).stream_position()?)
        };
        whose().map_err(|source| DataError::Io { path: shown.clone(), doing: "write lock", source })?;
        if let Err(error) = close(&path) {
            // Somebody else's, who lets us write there: no reason not to start.
            tracing::warn!("data directory {shown} cannot be closed to other users: {error}");
        }
        match std::fs::read(path.join("node.json")) {
            Ok(bytes) => Ok(Self { record: read(&shown, &bytes)?, path, _lock: lock }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let dir = Self { record: Record::new(), path, _lock: lock };
                dir.save()?;
                Ok(dir)
            }
            Err(source) => Err(DataError::Io { path: shown, doing: "read node.json", source }),
        }
    }

    /// Where it is, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the record and has it on disk, synced, when this returns.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), DataError> {
        let before = self.record.clone();
        change(&mut self.record);
        if self.record == before { Ok(()) } else { self.save() }
    }

    fn save(&self) -> Result<(), DataError> {
        let path = self.path.display().to_string();
        let text = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| DataError::Damaged { path: path.clone(), why: error.to_string() })?;
        let write = || {
            let new = self.path.join("node.json.new");
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, self.path.join("node.json"))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| DataError::Io { path, doing: "write node.json", source })
    }
}

/// What only takes up room in the data directory `dir`, for when the disk is full.
pub(crate) fn ballast(dir: &Path) -> PathBuf {
    dir.join("ballast")
}

/// Where the replica of `cluster` is in the data directory `dir`. One that was founded anew has a folder of its own, beside
/// what was there before: nothing of the former cluster is ever lost by it.
pub(crate) fn replica_dir(dir: &Path, cluster: &ClusterId) -> PathBuf {
    match cluster.refounding() {
        Some(refounding) => dir.join(format!("{FOUNDED}{refounding}")),
        None => dir.to_owned(),
    }
}

/// Ours, and nobody else's business: an earlier build, or a looser mask, may have made them readable for others. What else
/// there is in the directory is not ours to change.
const CLOSED: [&str; 11] = [
    "node.json",
    "node.json.new",
    "lock",
    "runner.log",
    "stand-in.log",
    "trust",
    "fences",
    sheaf_consensus::LOG,
    sheaf_consensus::DATABASE,
    "state.db-wal",
    "state.db-shm",
];

/// The same, of replicas that were founded anew.
const FOUNDED: &str = "founded-";

/// On the way of programs that run as other users to what is theirs: these may be passed, and what is in them is closed
/// where it is not theirs.
const PASSED: [&str; 5] = ["instances", "gates", "sockets", "jobs", "artifacts"];

/// Leaves other users nothing of the data directory but the way to what is theirs.
fn close(dir: &Path) -> std::io::Result<()> {
    let passable = if sheaf_agent::runs_as_root() { 0o711 } else { 0o700 };
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if PASSED.contains(&&*name) {
            set_mode(&entry.path(), |mode| mode & (0o7000 | passable))?;
        } else if CLOSED.contains(&&*name) || name.starts_with(FOUNDED) {
            set_mode(&entry.path(), |mode| mode & 0o7700)?;
        }
    }
    set_mode(dir, |mode| (mode & 0o7711) | passable)
}

fn set_mode(path: &Path, wanted: impl Fn(u32) -> u32) -> std::io::Result<()> {
    let mode = match std::fs::metadata(path) {
        // A file that was about to go.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        found => found?.permissions().mode() & 0o7777,
    };
    if wanted(mode) == mode {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(wanted(mode)))
}

/// Between two looks at a lock, in a process that does nothing else meanwhile.
#[expect(clippy::disallowed_methods, reason = "nothing else is started yet, or ever will be")]
pub(crate) fn pause(span: std::time::Duration) {
    std::thread::sleep(span);
}

/// The process of the agent that has the data directory at `path`; none: no agent runs there.
pub(crate) fn holder(path: &Path) -> Result<Option<u32>, DataError> {
    let failed = |doing| move |source| DataError::Io { path: path.display().to_string(), doing, source };
    let lock = match File::open(path.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open lock")(error)),
    };
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(None);
    }
    let text = std::io::read_to_string(lock).map_err(failed("read lock"))?;
    Ok(Some(text.trim().parse().unwrap_or_default()))
}

/// Who the data directory at `path` is, looked at without taking it; none: nobody used it yet.
pub(crate) fn look(path: &Path) -> Result<Option<Record>, DataError> {
    let shown = path.display().to_string();
    match std::fs::read(path.join("node.json")) {
        Ok(bytes) => read(&shown, &bytes).map(Some),
        // A directory that cannot be there is told by whoever tries to write to it.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(source) => Err(DataError::Io { path: shown, doing: "read node.json", source }),
    }
}

fn read(path: &str, bytes: &[u8]) -> Result<Record, DataError> {
    let damaged =
        |error: serde_json::Error| DataError::Damaged { path: path.to_owned(), why: error.to_string() };
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    if head.version > VERSION {
        return Err(DataError::Newer { path: path.to_owned(), found: head.version });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// The data directory, shared by those who write down what they learned.
#[derive(Clone)]
pub(crate) struct SharedDir(Arc<Mutex<DataDir>>);

impl SharedDir {
    pub(crate) fn new(data: DataDir) -> Self {
        Self(Arc::new(Mutex::new(data)))
    }

    /// Changes the record and has it on disk, synced, when this returns.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Record)) -> Result<(), DataError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).update(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_key_and_serves_one_agent() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("a/b");
        let mut first = DataDir::open(&path).expect("a new directory");
        let key = first.record.key.clone();
        assert!(matches!(DataDir::open(&path), Err(DataError::InUse(_))));
        first.update(|record| record.node = Some(NodeId(7))).expect("written");
        first.update(|record| record.left = Some(ClusterId("c".to_owned()))).expect("written");
        drop(first);
        let second = DataDir::open(&path).expect("the same directory");
        assert_eq!((second.record.key.clone(), second.record.node), (key, Some(NodeId(7))));
        assert_eq!(second.record.left, Some(ClusterId("c".to_owned())), "what it was told it knows for good");
    }

    #[test]
    fn what_was_open_to_other_users_is_closed_and_what_is_not_ours_stays_as_it_is() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("data");
        let mode = |name: &str| std::fs::metadata(path.join(name)).expect(name).permissions().mode() & 0o777;
        let set = |name: &str, mode| {
            std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(mode)).expect(name);
        };
        for dir in [sheaf_consensus::LOG, "instances", "founded-2", "bin"] {
            std::fs::create_dir_all(path.join(dir)).expect(dir);
            set(dir, 0o755);
        }
        for file in ["state.db", "state.db-wal", "agent.toml"] {
            std::fs::write(path.join(file), "").expect(file);
            set(file, 0o644);
        }
        set("", 0o755);
        let data = DataDir::open(&path).expect("opened");
        let passable = if sheaf_agent::runs_as_root() { 0o711 } else { 0o700 };
        let found =
            ["", "instances", sheaf_consensus::LOG, "founded-2", "state.db", "state.db-wal", "node.json"]
                .map(mode);
        assert_eq!(found, [passable, passable, 0o700, 0o700, 0o600, 0o600, 0o600]);
        assert_eq!((mode("bin"), mode("agent.toml")), (0o755, 0o644));
        drop(data);
    }

    #[test]
    fn damage_and_newer_versions_are_told() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(temporary.path().join("node.json"), b"{").expect("written");
        assert!(matches!(DataDir::open(temporary.path()), Err(DataError::Damaged { .. })));
        std::fs::write(temporary.path().join("node.json"), br#"{"version": 9}"#).expect("written");
        assert!(matches!(DataDir::open(temporary.path()), Err(DataError::Newer { found: 9, .. })));
    }
}
