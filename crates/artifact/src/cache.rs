//! A node's artifacts on disk.
//!
//! ```text
//! artifacts/incoming/DIGEST         a blob on its way; its length says where to go on
//!           blobs/DIGEST            whole, verified, on disk; served to other nodes
//!           unpacked/DIGEST/        its files: `${artifact}`; nobody has the right to change them, but root needs none
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sha2::{Digest as _, Sha256};
use sheaf_engine::artifact::{Held, Keep, evict};
use sheaf_model::{Artifact, Digest};
use sheaf_wire::Transport;

use crate::unpack::{self, UnpackError};

/// One piece on its way: large enough that calls do not count, small enough that many transfers fit into memory.
pub const PIECE: usize = 512 << 10;
/// So many bytes are written before the disk begins with them, while the next ones come: synced at the end alone, a large
/// blob would wait for as long again as it took to come.
const SYNC_EVERY: u64 = 16 << 20;
/// So many bytes of the disk stay free, twice what members keep for their votes: no artifact is why a cluster's changes are
/// refused.
const SPARE: u64 = 64 << 20;
/// What was received and not registered is kept so long: for whoever goes on with a push tomorrow morning.
const UNREGISTERED: Duration = Duration::from_secs(24 * 3600);

/// Why the cache could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system's word.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Other bytes than announced. What came is thrown away.
    #[error("what came has the digest {found}, and should have {wanted}")]
    Digest {
        /// Of what came.
        found: Digest,
        /// As announced.
        wanted: Digest,
    },
    /// More bytes than announced.
    #[error("more bytes came than the {0} announced")]
    Excess(u64),
    /// It would take what others need of the disk.
    #[error(
        "there is no room for {wanted} more bytes of the artifact in {path}: {free} are free, and {spare} stay free for the cluster's own; free some"
    )]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// What is still to come, in bytes.
        wanted: u64,
        /// What is free there.
        free: u64,
        /// What is to stay free.
        spare: u64,
    },
    /// It is not here.
    #[error("artifact {0} is not here")]
    Absent(Digest),
    /// It cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The thread that did it broke off.
    #[error("the work on artifact {0} broke off")]
    BrokeOff(Digest),
}

impl CacheError {
    /// Whether there is no room for it.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// The artifacts of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    /// How it reaches the nodes that have what it has not.
    transport: Transport,
    /// So many bytes of the disk it leaves free.
    spare: u64,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    bound: u64,
    /// Held for a look-up only.
    parts: Mutex<BTreeMap<Digest, Arc<Part>>>,
    /// Held for a look-up only.
    keep: Mutex<Keeping>,
}

/// What is being done about one artifact.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// Held while a piece is written; by the thread that writes, so that whoever asked may go away.
    incoming: Arc<tokio::sync::Mutex<Option<Incoming>>>,
    /// Held by whoever fetches or unpacks it: others wait for the same.
    pub(crate) busy: tokio::sync::Mutex<()>,
}

/// A blob on its way.
#[derive(Debug)]
struct Incoming {
    file: File,
    hash: Sha256,
    have: u64,
    /// Not given to the disk yet.
    unsynced: u64,
    /// Syncs what came before. Ends by itself, also if nobody waits for it any more.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

/// What the parts of the agent want to stay.
#[derive(Debug, Default)]
struct Keeping {
    /// As the node side says; none: it has not said anything yet, and nothing is removed.
    node: Option<Keep>,
    /// What a voter keeps, as its replica says.
    voter: BTreeSet<Digest>,
    /// What subtasks run from, or may be about to.
    jobs: BTreeSet<Digest>,
    /// Registered at some time in this life, and not received since: gone from there, it belongs to nobody.
    registered_once: BTreeSet<Digest>,
}

impl Cache {
    /// Opens the cache in `dir`, which is made; `bound` is in bytes.
    pub fn open(dir: &Path, bound: u64) -> Result<Self, CacheError> {
        // Programs run from what is unpacked, as whatever users.
        for (sub, mode) in [("incoming", 0o700), ("blobs", 0o700), ("unpacked", 0o711), ("", 0o711)] {
            let path = dir.join(sub);
            let made = fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
            made.map_err(|source| CacheError::Io { path, source })?;
        }
        let (parts, keep) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { dir: dir.to_owned(), bound, parts, keep });
        Ok(Self { shared, transport: Transport::plain(), spare: SPARE })
    }

    /// The same that reaches other nodes so.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// How it reaches other nodes.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    fn path(&self, sub: &str, digest: &Digest) -> PathBuf {
        self.shared.dir.join(sub).join(digest.to_string())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path("blobs", digest)
    }

    pub(crate) fn part(&self, digest: &Digest) -> Arc<Part> {
        let mut parts = self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.entry(*digest).or_default().clone()
    }

    fn keeping(&self) -> MutexGuard<'_, Keeping> {
        self.shared.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the whole blob is here, verified and on disk.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).exists()
    }

    /// How many bytes of a blob of `size` are here: where to go on.
    pub fn received(&self, digest: &Digest, size: u64) -> u64 {
        if self.has(digest) {
            return size;
        }
        fs::metadata(self.path("incoming", digest)).map_or(0, |found| found.len())
    }

    /// Whether there is room for what is missing of a blob of `size` bytes, so that nothing is sent in vain.
    pub fn has_room(&self, digest: &Digest, size: u64) -> Result<(), CacheError> {
        self.room_for(size.saturating_sub(self.received(digest, size)))
    }

    fn room_for(&self, wanted: u64) -> Result<(), CacheError> {
        if wanted == 0 {
            return Ok(());
        }
        let path = &self.shared.dir;
        // A file system that does not answer counts as having room: its errors show where it is written to.
        let Ok(found) = rustix::fs::statvfs(path) else { return Ok(()) };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free >= wanted.saturating_add(self.spare) {
            return Ok(());
        }
        Err(CacheError::NoRoom { path: path.clone(), wanted, free, spare: self.spare })
    }

    /// Takes in a piece, and says how many bytes are here then. A piece that does not begin there is left alone. With the
    /// last one the blob is verified, and on disk when this returns. Where there is no room for it any more, what came of it
    /// is thrown away.
    pub async fn receive(
        &self,
        digest: Digest,
        size: u64,
        offset: u64,
        piece: Bytes,
    ) -> Result<u64, CacheError> {
        let part = self.part(&digest);
        let mut incoming = part.incoming.clone().lock_owned().await;
        if self.has(&digest) {
            return Ok(size);
        }
        let (cache, at) = (self.clone(), self.path("incoming", &digest));
        let begun = at.clone();
        let mut write = move || {
            let failed = |source| CacheError::Io { path: at.clone(), source };
            let mut it = match incoming.take() {
                Some(it) => it,
                None => {
                    // The same content may be pushed again for another version, and waits for its registration then.
                    cache.keeping().registered_once.remove(&digest);
                    Incoming::open(&at).map_err(failed)?
                }
            };
            if offset == it.have {
                if it.have.saturating_add(piece.len() as u64) > size {
                    return Err(CacheError::Excess(size));
                }
                cache.room_for(piece.len() as u64)?;
                // What is left of a piece after an error is cut off when the file is opened anew.
                it.file.write_all(&piece).map_err(failed)?;
                it.hash.update(&piece);
                it.have += piece.len() as u64;
                it.sync_some(piece.len() as u64).map_err(failed)?;
            }
            let have = it.have;
            if have < size {
                *incoming = Some(it);
                return Ok(have);
            }
            let found = Digest(it.hash.clone().finalize().into());
            if found != digest || have != size {
                fs::remove_file(&at).map_err(failed)?;
                return Err(CacheError::Digest { found, wanted: digest });
            }
            it.synced().and_then(|()| it.file.sync_all()).map_err(failed)?;
            let to = cache.blob(&digest);
            fs::rename(&at, &to).map_err(failed)?;
            File::open(cache.shared.dir.join("blobs")).and_then(|dir| dir.sync_all()).map_err(failed)?;
            cache.keeping().registered_once.remove(&digest); // as above: it may have been deleted meanwhile
            Ok(have)
        };
        let write = move || {
            write().inspect_err(|error| {
                if error.is_full() {
                    drop(fs::remove_file(begun)); // what stays is removed by a sweep
                }
            })
        };
        tokio::task::spawn_blocking(write).await.unwrap_or(Err(CacheError::BrokeOff(digest)))
    }

    /// A blob from an offset on, in pieces. What was begun is read to its end, even if the blob is removed meanwhile. One
    /// that is read from its beginning is verified on the way: if the disk lost it, it is thrown away, so that a voter
    /// fetches it anew.
    pub async fn read(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, CacheError> {
        let path = self.blob(&digest);
        let opening = tokio::task::spawn_blocking(move || {
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(CacheError::Absent(digest));
                }
                file => file.map_err(|source| CacheError::Io { path: path.clone(), source })?,
            };
            let at = path.clone();
            file.seek(SeekFrom::Start(offset)).map_err(|source| CacheError::Io { path: at, source })?;
            Ok(Outgoing { file, path, digest, hash: (offset == 0).then(Sha256::new) })
        });
        let outgoing = opening.await.unwrap_or(Err(CacheError::BrokeOff(digest)))?;
        let pieces = stream::try_unfold(outgoing, |mut outgoing| async move {
            let read = move || Ok(outgoing.next()?.map(|piece| (piece, outgoing)));
            tokio::task::spawn_blocking(read).await.unwrap_or(Err(io::ErrorKind::Interrupted.into()))
        });
        Ok(pieces.boxed())
    }

    /// Whether a blob that is here may be unpacked: see [`unpack::inspect`]. One that nobody may unpack is thrown away; one that
    /// only lacks the file that this version names may be another version's, and stays.
    pub async fn inspect(&self, artifact: &Artifact) -> Result<(), CacheError> {
        let (blob, artifact) = (self.blob(&artifact.digest), artifact.clone());
        let digest = artifact.digest;
        let inspect = move || {
            let failed = |source| CacheError::Io { path: blob.clone(), source };
            let file = File::open(&blob).map_err(failed)?;
            let inspected = unpack::inspect(io::BufReader::new(file), &artifact);
            if !matches!(inspected, Ok(()) | Err(UnpackError::Missing(_))) {
                fs::remove_file(&blob).map_err(failed)?;
            }
            Ok(inspected?)
        };
        tokio::task::spawn_blocking(inspect).await.unwrap_or(Err(CacheError::BrokeOff(digest)))
    }

    /// Where the artifact's files are, unpacked if they were not; its blob is here.
    pub async fn unpacked(&self, artifact: &Artifact) -> Result<PathBuf, CacheError> {
        let part = self.part(&artifact.digest);
        let _busy = part.busy.lock().await;
        let (cache, artifact) = (self.clone(), artifact.clone());
        let digest = artifact.digest;
        let unpack = move || {
            let (blob, to) = (cache.blob(&digest), cache.path("unpacked", &digest));
            let file = match File::open(&blob) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(CacheError::Absent(digest));
                }
                file => file.map_err(|source| CacheError::Io { path: blob.clone(), source })?,
            };
            // When it was last used; eviction looks at it.
            file.set_modified(SystemTime::now())
                .map_err(|source| CacheError::Io { path: blob.clone(), source })?;
            if to.exists() {
                // By an earlier build, perhaps, which left it open to changes.
                if !unpack::is_sealed(&to) {
                    unpack::seal(&to).map_err(|source| CacheError::Io { path: to.clone(), source })?;
                }
            } else {
                cache.room_for(artifact.size)?; // it holds no more than its archive
                let unpacked = unpack::unpack(file, &artifact, &to);
                if let Err(UnpackError::Digest { .. }) = unpacked {
                    drop(fs::remove_file(&blob)); // the disk lost it: it is fetched anew
                }
                unpacked?;
            }
            let file = artifact.shape.file();
            Ok(if file.is_empty() { to } else { to.join(file) })
        };
        tokio::task::spawn_blocking(unpack).await.unwrap_or(Err(CacheError::BrokeOff(digest)))
    }

    /// What the node side wants to stay; removes what may go.
    pub async fn keep(&self, keep: Keep) {
        {
            let mut keeping = self.keeping();
            let former = keeping.node.take().map(|former| former.registered).unwrap_or_default();
            keeping.registered_once.extend(former.into_iter().chain(keep.registered.iter().copied()));
            keeping.node = Some(keep);
        }
        self.sweep().await;
    }

    /// What this node keeps as a voter: every registered blob; nothing, while it is none. Removes what may go then.
    pub async fn keep_as_voter(&self, registered: BTreeSet<Digest>) {
        {
            let mut keeping = self.keeping();
            if keeping.voter == registered {
                return;
            }
            let former = std::mem::replace(&mut keeping.voter, registered.clone());
            keeping.registered_once.extend(former.into_iter().chain(registered));
        }
        self.sweep().await;
    }

    /// Whether this node needs it, and so fetches what is missing of it. Until the node side has said what it needs, it may.
    pub fn is_needed(&self, digest: &Digest) -> bool {
        let keeping = self.keeping();
        let Some(node) = &keeping.node else { return true };
        [&node.needed, &keeping.voter, &keeping.jobs].into_iter().any(|needed| needed.contains(digest))
    }

    /// What subtasks of this node run from, or wait for: it stays until another set is said. What is not in it goes with the
    /// next sweep, if nothing else keeps it.
    pub fn keep_for_jobs(&self, needed: BTreeSet<Digest>) {
        self.keeping().jobs = needed;
    }

    /// Removes what may go.
    pub async fn sweep(&self) {
        let cache = self.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let Some(keep) = cache.to_keep() else { return };
            let held = cache.held(&keep);
            for digest in evict(&held, &keep, cache.shared.bound) {
                tracing::info!(artifact = %digest, "removed from the cache");
                drop(fs::remove_file(cache.blob(&digest))); // what stays is removed the next time
                drop(unpack::remove(&cache.path("unpacked", &digest)));
            }
            cache.remove_leftovers(&keep);
        });
        if swept.await.is_err() {
            tracing::error!("the sweep of the artifact cache broke off");
        }
    }

    fn to_keep(&self) -> Option<Keep> {
        let keeping = self.keeping();
        let mut keep = keeping.node.clone()?;
        keep.registered.extend(keeping.voter.iter().copied());
        keep.needed.extend(keeping.voter.iter().chain(&keeping.jobs).copied());
        Some(keep)
    }

    /// Removes what nobody goes on with: parts of blobs that nothing came of for long or that belong to nobody any more, and
    /// files whose blob is gone.
    fn remove_leftovers(&self, keep: &Keep) {
        let once = self.keeping().registered_once.clone();
        for (path, digest, age) in self.entries("incoming") {
            let ended = once.contains(&digest) && !keep.registered.contains(&digest);
            if ended || age > UNREGISTERED {
                self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
                drop(fs::remove_file(path)); // what stays is removed the next time
            }
        }
        for (path, digest, _) in self.entries("unpacked") {
            if !self.has(&digest) && !keep.needed.contains(&digest) {
                drop(unpack::remove(&path)); // as above
            }
        }
    }

    /// What is in a directory by its digest, and how long ago it was last written to.
    fn entries(&self, sub: &str) -> Vec<(PathBuf, Digest, Duration)> {
        let Ok(entries) = fs::read_dir(self.shared.dir.join(sub)) else { return Vec::new() };
        let entries = entries.flatten().filter_map(|entry| {
            let digest = entry.file_name().to_str()?.parse().ok()?;
            let age = entry.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
            Some((entry.path(), digest, age))
        });
        entries.collect()
    }

    /// What is here and may go; not what was pushed lately and is not registered yet.
    fn held(&self, keep: &Keep) -> BTreeMap<Digest, Held> {
        let once = self.keeping().registered_once.clone();
        let mut held = BTreeMap::new();
        let Ok(blobs) = fs::read_dir(self.shared.dir.join("blobs")) else { return held };
        for blob in blobs.flatten() {
            let Some(digest) = blob.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()) else {
                continue;
            };
            let Ok(found) = blob.metadata() else { continue };
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_new = used.elapsed().is_ok_and(|age| age < UNREGISTERED);
            if is_new && !keep.registered.contains(&digest) && !once.contains(&digest) {
                continue;
            }
            let copies = 1 + u64::from(self.path("unpacked", &digest).exists());
            let used =
                used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            held.insert(digest, Held { bytes: found.len() * copies, used });
        }
        held
    }
}

/// A blob that is read.
struct Outgoing {
    file: File,
    path: PathBuf,
    digest: Digest,
    hash: Option<Sha256>,
}

impl Outgoing {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        while length < PIECE {
            match self.file.read(&mut piece[length..])? {
                0 => break,
                read => length += read,
            }
        }
        piece.truncate(length);
        if let Some(hash) = &mut self.hash {
            hash.update(&piece);
        }
        if length > 0 {
            return Ok(Some(piece.into()));
        }
        let Some(hash) = self.hash.take() else { return Ok(None) };
        let found = Digest(hash.finalize().into());
        if found == self.digest {
            return Ok(None);
        }
        tracing::warn!(artifact = %self.digest, %found, "the disk lost it: it is thrown away");
        fs::remove_file(&self.path)?;
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("its digest is {found}: the disk lost it")))
    }
}

impl Incoming {
    /// Goes on where a former try ended.
    fn open(at: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(at)?;
        let hash = Sha256::new();
        let mut it = Self { hash, have: 0, file: file.try_clone()?, unsynced: 0, syncing: None };
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(it), // the position is shared: the next piece goes to the end
                read => {
                    it.hash.update(&piece[..read]);
                    it.have += read as u64;
                }
            }
        }
    }

    /// Has the disk begin with what came, unless it still has enough to do.
    fn sync_some(&mut self, more: u64) -> io::Result<()> {
        self.unsynced += more;
        if self.unsynced < SYNC_EVERY || self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return Ok(());
        }
        self.synced()?;
        self.unsynced = 0;
        let file = self.file.try_clone()?;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// Waits for what the disk was given. An error is told once only: it must not be lost.
    fn synced(&mut self) -> io::Result<()> {
        let broke_off = |_| Err(io::Error::other("the thread that syncs broke off"));
        self.syncing.take().map_or(Ok(()), |syncing| syncing.join().unwrap_or_else(broke_off))
    }
}

#[cfg(test)]
mod tests;
