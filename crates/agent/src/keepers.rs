//! The agent's side of its keepers: spawning them, finding them again, speaking with them, giving up for good.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use sheaf_engine::keep::Fence;
use sheaf_model::{BucketName, Epoch, Revision};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::given;
use crate::keeper::cgroup;
use crate::keeper::layout::{self, FileError, Layout, Lock};
use crate::keeper::{Opened, Plan, Status, ToKeeper, clock, proc};

mod handle;

pub use handle::Handle;
use handle::{Greeting, Wire, greet};

/// How long a keeper may take to say its first word; it waits 2 s for a predecessor that is about to end.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone, looked at every [`LOOK_AGAIN`].
const LOOKS: usize = 200;
/// The same for one try of [`Keepers::kill`].
const KILL_LOOKS: usize = 50;
/// See [`LOOKS`].
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where and with what.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// The agent's data directory; everything is below it.
    pub data_dir: PathBuf,
    /// The program that is a keeper when called with `keep …`: this binary, outside of tests.
    pub binary: PathBuf,
}

/// What is found of an instance on disk.
#[derive(Clone, Debug)]
pub enum Found {
    /// A keeper holds the bucket; [`Keepers::adopt`] it.
    Alive {
        /// The bucket.
        bucket: BucketName,
    },
    /// No keeper is there. Nothing of the instance is alive if `status.end` is set, or of another boot; else its
    /// keeper was killed, and what may be left of it is killed before anything new starts or is given up.
    Dead {
        /// The bucket.
        bucket: BucketName,
        /// What ran, if it can be read.
        plan: Option<Box<Plan>>,
        /// What was last said of it, if it can be read.
        status: Option<Box<Status>>,
    },
}

impl Found {
    /// The bucket.
    pub fn bucket(&self) -> &BucketName {
        match self {
            Self::Alive { bucket } | Self::Dead { bucket, .. } => bucket,
        }
    }
}

/// Why something about a keeper did not work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The file system said no.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file holds what it should not.
    #[error("{path} cannot be read as what it should be")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A keeper holds the bucket: adopt it, or wait for its end. A retry can help.
    #[error("a keeper holds bucket {bucket}")]
    Busy {
        /// Which bucket.
        bucket: BucketName,
    },
    /// No keeper holds the bucket.
    #[error("no keeper holds bucket {bucket}")]
    Gone {
        /// Which bucket.
        bucket: BucketName,
    },
    /// The keeper could not begin.
    #[error("the keeper of bucket {bucket} could not begin: {reason}")]
    Failed {
        /// Which bucket.
        bucket: BucketName,
        /// In its words.
        reason: String,
    },
    /// The keeper does not answer. A retry can help.
    #[error("the keeper of bucket {bucket} does not answer")]
    Silent {
        /// Which bucket.
        bucket: BucketName,
    },
    /// Processes of the instance could not be ended. A retry can help.
    #[error("processes of bucket {bucket} are still alive: {pids:?}")]
    StillAlive {
        /// Which bucket.
        bucket: BucketName,
        /// Which processes.
        pids: Vec<u32>,
    },
}

impl From<FileError> for KeeperError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { operation, path, source } => Self::Io { operation, path, source },
            FileError::Content { path, source } => Self::Content { path, source },
        }
    }
}

/// The door to all keepers of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keepers {
    data_dir: PathBuf,
    binary: PathBuf,
}

impl Keepers {
    /// Makes the directories.
    pub fn open(options: KeeperOptions) -> Result<Self, KeeperError> {
        let KeeperOptions { data_dir, binary } = options;
        layout::make_dir(&layout::instances(&data_dir))?;
        layout::make_dir(&layout::fences(&data_dir))?;
        let absolute =
            fs::canonicalize(&data_dir).map_err(|error| FileError::io("resolve", &data_dir, error))?;
        // Fences must not go with a directory that a crash has forgotten, and one that a former life of the agent wrote and
        // could not make durable must not be believed before it is.
        layout::sync_dir(&layout::fences(&absolute))?;
        layout::sync_dir(&absolute)?;
        Ok(Self { data_dir: absolute, binary })
    }

    /// Every instance on disk, whether its keeper lives or not. No state of the agent is needed.
    /// Blocks for a few system calls per instance.
    pub fn scan(&self) -> Result<Vec<Found>, KeeperError> {
        let dir = layout::instances(&self.data_dir);
        let entries = fs::read_dir(&dir).map_err(|error| FileError::io("read", &dir, error))?;
        let mut names: Vec<BucketName> =
            entries.flatten().filter_map(|entry| layout::decode(entry.file_name().to_str()?)).collect();
        names.sort();
        names.into_iter().map(|bucket| self.find(bucket)).collect()
    }

    fn find(&self, bucket: BucketName) -> Result<Found, KeeperError> {
        let layout = self.layout(&bucket);
        Ok(match layout.try_lock()? {
            None => Found::Alive { bucket },
            Some(_held) => {
                let plan = layout.read_plan().ok().flatten().map(Box::new);
                if let Some(plan) = &plan {
                    conceal_what_is_left(&layout, plan);
                }
                let status = layout.read_status().ok().flatten().map(Box::new);
                Found::Dead { bucket, plan, status }
            }
        })
    }

    /// Starts a keeper for `plan` and waits until it holds the bucket (not until the program runs).
    /// What an earlier keeper of the bucket may have left is killed by it first.
    /// [`KeeperError::Busy`] if another one holds the bucket; that one is not disturbed.
    pub async fn spawn(&self, plan: Plan) -> Result<Handle, KeeperError> {
        self.spawn_with(plan, Opened::default()).await
    }

    /// The same of a plan that leaves secrets open.
    pub async fn spawn_with(&self, plan: Plan, opened: Opened) -> Result<Handle, KeeperError> {
        let bucket = plan.bucket.clone();
        let layout = self.layout(&bucket);
        let writing = layout.clone();
        off_the_runtime(&layout, move || write_plan(&writing, &plan)).await?;
        let (stream, mut child) = self.start(&layout, &bucket)?;
        let mut wire = Wire::new(stream);
        let greeting = timeout(FIRST_WORD, async {
            if !opened.is_empty() {
                // One that does not want it says why.
                let _ = wire.say(&ToKeeper::Secrets(opened)).await;
            }
            greet(&mut wire, &layout).await
        });
        let greeting = greeting.await;
        let reason = match greeting {
            Ok(Ok(Greeting::Status(status))) => return Ok(Handle::new(wire, *status, layout, Some(child))),
            Ok(Ok(Greeting::Busy)) => {
                let _ended = child.wait().await;
                return Err(KeeperError::Busy { bucket });
            }
            Ok(Ok(Greeting::Failed(reason))) => reason,
            // It has died without a word; what it wrote last may say why.
            Ok(Ok(Greeting::Closed)) => {
                fs::read_to_string(layout.log()).unwrap_or_default().trim().to_owned()
            }
            Ok(Err(error)) => return Err(error),
            Err(_elapsed) => return Err(KeeperError::Silent { bucket }),
        };
        let ended = child.wait().await.map(|status| format!(" ({status})")).unwrap_or_default();
        Err(KeeperError::Failed { bucket, reason: format!("{reason}{ended}") })
    }

    /// The keeper's process, with one end of a connection as its standard input.
    fn start(&self, layout: &Layout, bucket: &BucketName) -> Result<(UnixStream, Child), KeeperError> {
        let start = || -> std::io::Result<(UnixStream, Child)> {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            let log = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(layout.log())?;
            let child = Command::new(&self.binary)
                .arg("keep")
                .arg(&self.data_dir)
                .arg(bucket.as_str())
                .current_dir(&self.data_dir)
                .envs(given::handed_on())
                .env_remove(given::NOTIFY_SOCKET)
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::from(log))
                .spawn()?;
            Ok((UnixStream::from_std(ours)?, child))
        };
        start().map_err(|error| FileError::io("start", &self.binary, error).into())
    }

    /// Takes over a keeper that lives, e.g. one found by [`Keepers::scan`] or reported as [`KeeperError::Busy`].
    /// [`KeeperError::Gone`] if it has ended meanwhile.
    pub async fn adopt(&self, bucket: &BucketName) -> Result<Handle, KeeperError> {
        let layout = self.layout(bucket);
        let adopted = timeout(FIRST_WORD, async {
            // A keeper that has just taken its lock does not listen yet.
            loop {
                if layout.try_lock()?.is_some() {
                    return Err(KeeperError::Gone { bucket: bucket.clone() });
                }
                if let Ok(stream) = connect(&layout.instance, layout::SOCKET).await {
                    let mut wire = Wire::new(stream);
                    if let Ok(Greeting::Status(status)) = greet(&mut wire, &layout).await {
                        return Ok(Handle::new(wire, *status, layout.clone(), None));
                    }
                }
                sleep(LOOK_AGAIN).await;
            }
        });
        adopted.await.unwrap_or_else(|_elapsed| Err(KeeperError::Silent { bucket: bucket.clone() }))
    }

    /// What was given up of a bucket's name.
    pub fn fence(&self, bucket: &BucketName) -> Result<Fence, KeeperError> {
        Ok(self.layout(bucket).read_fence()?)
    }

    /// Gives up every epoch up to `epoch`, for good: with the bucket's lock held it ends what may be left of an
    /// instance whose keeper was killed, then writes it down durably. Only then may it be reported.
    /// [`KeeperError::Busy`] while a keeper lives. Blocks on the disk, and up to 2 s on leftovers.
    pub fn give_up(&self, bucket: &BucketName, epoch: Epoch) -> Result<(), KeeperError> {
        self.raise_fence(bucket, |fence| fence.gave_up = fence.gave_up.max(epoch))
    }

    /// The same for multi-node work started from a state up to `revision`.
    pub fn give_up_multi(&self, bucket: &BucketName, revision: Revision) -> Result<(), KeeperError> {
        self.raise_fence(bucket, |fence| fence.gave_up_multi = fence.gave_up_multi.max(revision))
    }

    fn raise_fence(&self, bucket: &BucketName, raise: impl FnOnce(&mut Fence)) -> Result<(), KeeperError> {
        let layout = self.layout(bucket);
        let held = hold(&layout, bucket)?;
        sweep(&layout, bucket)?;
        let mut fence = layout.read_fence()?;
        raise(&mut fence);
        // Also when it is as high already: what is read need not be on disk, if the last try failed after it had taken its
        // place.
        Ok(layout.write_fence(&held, &fence)?)
    }

    /// Removes the instance's directory, its output too; what was given up stays. Ends leftovers first.
    /// [`KeeperError::Busy`] while a keeper lives. Nothing to remove is no error. Blocks on the disk.
    pub fn remove(&self, bucket: &BucketName) -> Result<(), KeeperError> {
        let layout = self.layout(bucket);
        let _held = hold(&layout, bucket)?;
        sweep(&layout, bucket)?;
        cgroup::remove(&cgroup::name(&layout.instance));
        match fs::remove_dir_all(&layout.instance) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(FileError::io("remove", &layout.instance, error).into())
            }
            _ => Ok(()),
        }
    }

    /// SIGKILL for all processes of a bucket, its keeper included, without its help: the second enforcer of a
    /// deadline. True: nothing is left; else it is worth another try. Blocks for some scans of `/proc`, up to half a
    /// second.
    pub fn kill(&self, bucket: &BucketName) -> Result<bool, KeeperError> {
        let layout = self.layout(bucket);
        // An unreadable status hides the keeper's number, not what it started.
        let status = layout.read_status().ok().flatten();
        let keeper =
            status.as_ref().filter(|status| handle::keeper_lives(status)).map(|status| status.keeper);
        if let Some(keeper) = keeper {
            proc::kill_keeper(keeper);
        }
        for _ in 0..KILL_LOOKS {
            if sweep_once(&layout, status.as_ref()).is_empty()
                && keeper.is_none_or(|keeper| !proc::is_alive(keeper))
            {
                if let Some(_held) = layout.try_lock()?
                    && let Ok(Some(plan)) = layout.read_plan()
                {
                    conceal_what_is_left(&layout, &plan);
                }
                return Ok(true);
            }
            clock::pause(LOOK_AGAIN);
        }
        Ok(false)
    }

    /// The last plan and status of a bucket, as on disk; none where there is none that can be read.
    pub fn last(&self, bucket: &BucketName) -> (Option<Plan>, Option<Status>) {
        let layout = self.layout(bucket);
        (layout.read_plan().ok().flatten(), layout.read_status().ok().flatten())
    }

    /// Lays out what a keeper is to go on with; [`Handle::update`] tells it. Blocks on the disk.
    pub(crate) fn lay_out_update(&self, plan: &Plan) -> Result<(), KeeperError> {
        Ok(layout::write_json(&self.layout(&plan.bucket).update(), plan, false)?)
    }

    /// Where the plugin that a keeper's process supervises serves its module.
    pub(crate) fn module_socket(&self, status: &Status) -> PathBuf {
        self.layout(&status.bucket).sockets_of(status.keeper.pid).module
    }

    /// The program's own directory: `${dir}`, and where `${file.NAME}` is. Absolute.
    pub fn program_dir(&self, bucket: &BucketName) -> PathBuf {
        self.layout(bucket).dir()
    }

    /// Where the output of a bucket's instance is, for [`crate::logs`].
    pub fn output_dir(&self, bucket: &BucketName) -> PathBuf {
        self.layout(bucket).output()
    }

    /// The data directory, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn layout(&self, bucket: &BucketName) -> Layout {
        Layout::new(&self.data_dir, bucket)
    }
}

fn hold(layout: &Layout, bucket: &BucketName) -> Result<Lock, KeeperError> {
    layout.try_lock()?.ok_or_else(|| KeeperError::Busy { bucket: bucket.clone() })
}

/// Does what may wait for a disk or scans `/proc`.
async fn off_the_runtime<T: Send + 'static>(
    layout: &Layout,
    work: impl FnOnce() -> Result<T, KeeperError> + Send + 'static,
) -> Result<T, KeeperError> {
    let done = tokio::task::spawn_blocking(work).await;
    // It has panicked, or the runtime is going down.
    done.unwrap_or_else(|error| {
        Err(FileError::io("work in", &layout.instance, std::io::Error::other(error)).into())
    })
}

/// Writes the plan, and removes the files that only the former plan has rendered, and those that have secrets in them: a keeper
/// that was killed has left them.
fn write_plan(layout: &Layout, plan: &Plan) -> Result<(), KeeperError> {
    let _held = hold(layout, &plan.bucket)?;
    layout.make()?;
    if let Ok(Some(former)) = layout.read_plan() {
        let plain = former.files.iter().map(|(name, _)| name);
        let gone = plain.filter(|name| plan.files.iter().all(|(new, _)| new != *name));
        for name in gone.chain(former.confided_files()) {
            layout::remove(&layout.dir().join(name.as_str()))?;
        }
    }
    Ok(layout::write_json(&layout.plan(), plan, false)?)
}

/// Removes files with secrets in them that a killed keeper has left: it may be long before another one starts here. Hold the
/// bucket's lock meanwhile. What fails is tried again when the next one starts.
fn conceal_what_is_left(layout: &Layout, plan: &Plan) {
    for name in plan.confided_files() {
        if let Err(error) = layout::remove(&layout.dir().join(name.as_str())) {
            tracing::warn!(bucket = %plan.bucket, %error, "a file with secrets in it stays");
        }
    }
}

/// Connects to a socket, however long its directory's path is.
pub(crate) async fn connect(dir: &Path, socket: &str) -> std::io::Result<UnixStream> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", dir.as_raw_fd())).await
}

/// SIGKILL to what a killed keeper may have left; who was found.
fn sweep_once(layout: &Layout, status: Option<&Status>) -> Vec<i32> {
    let left = proc::leftovers(&layout.dir(), status, &clock::boot_id());
    proc::kill_each(&left);
    left
}

/// The same until nothing is left.
fn sweep(layout: &Layout, bucket: &BucketName) -> Result<(), KeeperError> {
    let status = layout.read_status().ok().flatten();
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        left = sweep_once(layout, status.as_ref());
        if left.is_empty() {
            return Ok(());
        }
        clock::pause(LOOK_AGAIN);
    }
    Err(KeeperError::StillAlive {
        bucket: bucket.clone(),
        pids: left.into_iter().map(i32::unsigned_abs).collect(),
    })
}
