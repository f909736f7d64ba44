//! The agent's side of its keepers: spawning them, finding them again, speaking with them, giving up for good.

use std::path::{Path, PathBuf};

use sheaf_engine::keep::Fence;
use sheaf_model::{BucketName, Epoch, Revision};

use crate::keeper::{Plan, Status};

mod handle;

pub use handle::Handle;

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

/// The door to all keepers of one data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keepers {
    options: KeeperOptions,
}

impl Keepers {
    /// Makes the directories.
    pub fn open(options: KeeperOptions) -> Result<Self, KeeperError> {
        Ok(Self { options })
    }

    /// Every instance on disk, whether its keeper lives or not. No state of the agent is needed.
    /// Blocks for a few system calls per instance.
    pub fn scan(&self) -> Result<Vec<Found>, KeeperError> {
        Ok(Vec::new())
    }

    /// Starts a keeper for `plan` and waits until it holds the bucket (not until the program runs).
    /// What an earlier keeper of the bucket may have left is killed by it first.
    /// [`KeeperError::Busy`] if another one holds the bucket; that one is not disturbed.
    pub async fn spawn(&self, plan: Plan) -> Result<Handle, KeeperError> {
        Err(KeeperError::Busy { bucket: plan.bucket })
    }

    /// Takes over a keeper that lives, e.g. one found by [`Keepers::scan`] or reported as [`KeeperError::Busy`].
    /// [`KeeperError::Gone`] if it has ended meanwhile.
    pub async fn adopt(&self, bucket: &BucketName) -> Result<Handle, KeeperError> {
        Err(KeeperError::Gone { bucket: bucket.clone() })
    }

    /// What was given up of a bucket's name.
    pub fn fence(&self, _bucket: &BucketName) -> Result<Fence, KeeperError> {
        Ok(Fence::default())
    }

    /// Gives up every epoch up to `epoch`, for good: with the bucket's lock held it ends what may be left of an
    /// instance whose keeper was killed, then writes it down durably. Only then may it be reported.
    /// [`KeeperError::Busy`] while a keeper lives. Blocks on the disk.
    pub fn give_up(&self, _bucket: &BucketName, _epoch: Epoch) -> Result<(), KeeperError> {
        Ok(())
    }

    /// The same for multi-node work started from a state up to `revision`.
    pub fn give_up_multi(&self, _bucket: &BucketName, _revision: Revision) -> Result<(), KeeperError> {
        Ok(())
    }

    /// Removes the instance's directory, its output too; what was given up stays. Ends leftovers first.
    /// [`KeeperError::Busy`] while a keeper lives. Nothing to remove is no error. Blocks on the disk.
    pub fn remove(&self, _bucket: &BucketName) -> Result<(), KeeperError> {
        Ok(())
    }

    /// SIGKILL for all processes of a bucket, its keeper included, without its help: the second enforcer of a
    /// deadline. True when nothing is left. Blocks for a scan of `/proc`.
    pub fn kill(&self, _bucket: &BucketName) -> Result<bool, KeeperError> {
        Ok(true)
    }

    /// The last plan and status of a bucket, as on disk.
    pub fn last(&self, _bucket: &BucketName) -> (Option<Plan>, Option<Status>) {
        (None, None)
    }

    /// The program's own directory: `${dir}`, and where `${file.NAME}` is. Absolute.
    pub fn program_dir(&self, bucket: &BucketName) -> PathBuf {
        self.options.data_dir.join(bucket.as_str())
    }

    /// Where the output of a bucket's instance is, for [`crate::logs`].
    pub fn output_dir(&self, bucket: &BucketName) -> PathBuf {
        self.options.data_dir.join(bucket.as_str())
    }

    /// The data directory, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }
}
