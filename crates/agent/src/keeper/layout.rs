//! Where a keeper's files are, how they are written, and the lock that orders all of it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_engine::keep::Fence;
use sheaf_model::BucketName;

use super::confine::Owner;
use super::{Plan, Status};

/// The socket's name, relative to the instance's directory.
pub(crate) const SOCKET: &str = "keeper.sock";

/// Where the agent serves keepers, in the directory of sockets.
const AGENT: &str = "agent";

/// Where the agent serves its keepers.
pub(crate) fn agent_socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKETS).join(AGENT)
}

/// The directory of plugins' sockets.
const SOCKETS: &str = "sockets";

/// Longest path of a socket that is promised to plugins, in bytes; the kernel allows 107.
pub(crate) const SOCKET_PATH_MAX: usize = 100;

/// Why a file of an instance could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot {operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} cannot be read as what it should be: {source}")]
    Content { path: PathBuf, source: serde_json::Error },
}

impl FileError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.to_owned(), source: source.into() }
    }
}

/// Why no plugin can be served at a socket of this path.
pub(crate) fn too_long(socket: &Path) -> String {
    format!(
        "the data directory's path is too long for plugins: {} would have {} bytes, at most {SOCKET_PATH_MAX} are possible",
        socket.display(),
        socket.as_os_str().len()
    )
}

/// The files of one bucket's instance.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// `instances/NAME`
    pub(crate) instance: PathBuf,
    /// `fences/NAME`, without ending.
    fence: PathBuf,
    /// `sockets`
    sockets: PathBuf,
}

/// The sockets of one keeper's plugin.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    /// Where the plugin serves its module.
    pub(crate) module: PathBuf,
    /// Where it is served its context.
    pub(crate) context: PathBuf,
    /// Where the node's agent is, while it is up.
    pub(crate) agent: PathBuf,
}

impl Sockets {
    /// Where both of the plugin's are.
    pub(crate) fn dir(&self) -> &Path {
        self.module.parent().unwrap_or(Path::new("."))
    }
}

impl Layout {
    pub(crate) fn new(data_dir: &Path, bucket: &BucketName) -> Self {
        let name = encode(bucket);
        Self {
            instance: instances(data_dir).join(&name),
            fence: fences(data_dir).join(name),
            sockets: data_dir.join(SOCKETS),
        }
    }

    /// The agent's data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        self.sockets.parent().unwrap_or(Path::new("."))
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.instance.join("plan.json")
    }

    pub(crate) fn update(&self) -> PathBuf {
        self.instance.join("update.json")
    }

    pub(crate) fn change(&self) -> PathBuf {
        self.instance.join("change.json")
    }

    pub(crate) fn status(&self) -> PathBuf {
        self.instance.join("status.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.instance.join(SOCKET)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.instance.join("keeper.log")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.instance.join("output")
    }

    /// Where the plugin of a keeper's process is reached.
    pub(crate) fn sockets_of(&self, keeper: u32) -> Sockets {
        let socket = |name: &str| self.sockets.join(keeper.to_string()).join(name);
        Sockets { module: socket("m"), context: socket("c"), agent: self.sockets.join(AGENT) }
    }

    /// The same for this process, in a directory that is there. The error is for people.
    pub(crate) fn own_sockets(&self) -> Result<Sockets, String> {
        let sockets = self.sockets_of(std::process::id());
        make_dir(sockets.dir()).map_err(|error| error.to_string())?;
        if sockets.context.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(too_long(&sockets.context));
        }
        Ok(sockets)
    }

    /// The program's own directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.instance.join("dir")
    }

    fn fence_file(&self) -> PathBuf {
        self.fence.with_added_extension("json")
    }

    fn lock_file(&self) -> PathBuf {
        self.fence.with_added_extension("lock")
    }

    /// Makes the directories of the instance.
    pub(crate) fn make(&self) -> Result<(), FileError> {
        [self.instance.clone(), self.output(), self.dir()].iter().try_for_each(|dir| make_dir(dir))
    }

    pub(crate) fn read_plan(&self) -> Result<Option<Plan>, FileError> {
        read_json(&self.plan())
    }

    pub(crate) fn read_update(&self) -> Result<Option<Plan>, FileError> {
        read_json(&self.update())
    }

    pub(crate) fn read_status(&self) -> Result<Option<Status>, FileError> {
        read_json(&self.status())
    }

    /// Writes the status; durably if something may be decided by it after a crash of the machine.
    pub(crate) fn write_status(&self, status: &Status, durably: bool) -> Result<(), FileError> {
        write_json(&self.status(), status, durably)
    }

    /// What was given up; nothing if nothing ever was.
    pub(crate) fn read_fence(&self) -> Result<Fence, FileError> {
        Ok(read_json(&self.fence_file())?.unwrap_or_default())
    }

    /// Writes durably what is given up. Only with the lock held.
    pub(crate) fn write_fence(&self, _held: &Lock, fence: &Fence) -> Result<(), FileError> {
        write_json(&self.fence_file(), fence, true)
    }

    /// Takes the bucket's lock; none if another process, or another part of this one, holds it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>, FileError> {
        let path = self.lock_file();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| FileError::io("open", &path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(FileError::io("lock", &path, error)),
        }
    }
}

/// A bucket's lock, held until it is dropped or the process ends. Its file is never removed: who waits for it has it
/// open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

pub(crate) fn instances(data_dir: &Path) -> PathBuf {
    data_dir.join("instances")
}

pub(crate) fn fences(data_dir: &Path) -> PathBuf {
    data_dir.join("fences")
}

/// `/logs/web` as a directory's name: `logs+web`.
pub(crate) fn encode(bucket: &BucketName) -> String {
    bucket.as_str().trim_start_matches('/').replace('/', "+")
}

/// The bucket that a directory belongs to; none if no bucket is called so.
pub(crate) fn decode(name: &str) -> Option<BucketName> {
    if name.contains('/') { None } else { BucketName::new(&format!("/{}", name.replace('+', "/"))).ok() }
}

/// Makes a directory that only we can enter, and those above it.
pub(crate) fn make_dir(dir: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| FileError::io("make directory", dir, error))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io("read", path, error)),
    };
    let content = |source| FileError::Content { path: path.to_owned(), source };
    serde_json::from_slice(&bytes).map(Some).map_err(content)
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, durably: bool) -> Result<(), FileError> {
    let bytes =
        serde_json::to_vec(value).map_err(|source| FileError::Content { path: path.to_owned(), source })?;
    write(path, &bytes, durably, None)
}

/// The same for a file that another user is to read.
pub(crate) fn write_json_for<T: Serialize>(
    owner: Option<Owner>,
    path: &Path,
    value: &T,
) -> Result<(), FileError> {
    let bytes =
        serde_json::to_vec(value).map_err(|source| FileError::Content { path: path.to_owned(), source })?;
    write(path, &bytes, false, owner)
}

/// Replaces a file as a whole: readers see the old content or the new. `durably`: the new one is on disk when this
/// returns. The new one is `owner`'s, or the agent's. Never follows a link that somebody has put in the way: also in a
/// directory of another user nothing but what was made here is written to or given away.
pub(crate) fn write(path: &Path, bytes: &[u8], durably: bool, owner: Option<Owner>) -> Result<(), FileError> {
    let new = path.with_added_extension("new");
    remove(&new)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        owner.map_or(Ok(()), |owner| owner.take(&file))?;
        file.write_all(bytes)?;
        if durably { file.sync_all() } else { Ok(()) }
    })();
    written.map_err(|error| FileError::io("write", &new, error))?;
    fs::rename(&new, path).map_err(|error| FileError::io("replace", path, error))?;
    if durably { sync_dir(path.parent().unwrap_or(Path::new("."))) } else { Ok(()) }
}

/// Removes a file; that it is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// What was made, replaced and removed in a directory is so after a crash, too.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| FileError::io("sync", dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buckets_directory_is_its_own_and_leads_back() {
        let longest = format!("/{}", "a/".repeat(99) + "b");
        for name in ["/a", "/logs/web", "/logs_web", "/logs-web", "/..a/.b", "/a.json/b", longest.as_str()] {
            let bucket = BucketName::new(name).unwrap();
            let encoded = encode(&bucket);
            assert!(!encoded.contains('/') && encoded.len() < 240, "{encoded}");
            assert_eq!(decode(&encoded), Some(bucket));
        }
        for name in ["", "..", "a/b", "a++b", "+a", "a b"] {
            assert_eq!(decode(name), None, "{name}");
        }
    }

    #[test]
    fn the_lock_is_held_once_and_the_fence_only_written_with_it() {
        let dir = tempfile::tempdir().unwrap();
        make_dir(&fences(dir.path())).unwrap();
        let layout = Layout::new(dir.path(), &BucketName::new("/a/b.c").unwrap());
        assert_eq!(layout.read_fence().unwrap(), Fence::default());
        let held = layout.try_lock().unwrap().unwrap();
        assert!(layout.try_lock().unwrap().is_none());
        let fence = Fence { gave_up: sheaf_model::Epoch(7), ..Fence::default() };
        layout.write_fence(&held, &fence).unwrap();
        drop(held);
        assert!(layout.try_lock().unwrap().is_some());
        assert_eq!(layout.read_fence().unwrap(), fence);
    }

    #[test]
    fn writing_replaces_a_link_and_never_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, file) = (dir.path().join("outside"), dir.path().join("file"));
        fs::write(&outside, "kept").unwrap();
        for link in [file.clone(), dir.path().join("file.new")] {
            std::os::unix::fs::symlink(&outside, link).unwrap();
        }
        write(&file, b"new", true, None).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    }
}
