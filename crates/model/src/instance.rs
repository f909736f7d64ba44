//! Instances: supervised runs of a module for a bucket on a node.

use serde::{Deserialize, Serialize};

use crate::{BucketName, Epoch, NodeId, Revision, Timestamp};

/// Where an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Wanted; its keeper is not there yet.
    #[default]
    Pending,
    /// Its keeper is there; the program is not.
    Starting,
    /// The program runs.
    Running,
    /// Asked to end.
    Stopping,
    /// Ended, and waits to be started again.
    Backoff,
    /// Gave up; a later update or resume starts anew.
    Failed,
    /// Ended as wanted.
    Stopped,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Backoff,
        Self::Failed,
        Self::Stopped,
    ];

    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It could not be started.
    NotStarted,
}

impl Exit {
    /// Whether it ended well.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::NotStarted => f.write_str("could not be started"),
        }
    }
}

/// An instance as its node reports it, and as the replicated state records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The bucket.
    pub bucket: BucketName,
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub phase: Phase,
    /// Single-node: under which epoch.
    pub epoch: Option<Epoch>,
    /// The newest release or restart of the bucket that it is up to date with.
    pub revision: Revision,
    /// The program's process id, while it runs.
    pub pid: Option<u32>,
    /// When the program last started.
    pub started_at: Option<Timestamp>,
    /// How often it was started again since the bucket last changed.
    pub restarts: u32,
    /// How the program last ended.
    pub exit: Option<Exit>,
    /// For people: why it is in this phase, with the last lines of output when it failed.
    pub message: String,
}

impl Instance {
    /// Longest message that is kept, in bytes.
    pub const MESSAGE_MAX: usize = 4096;

    /// Cuts its message to what is kept of it.
    pub fn cut(&mut self) {
        self.message.truncate(self.message.floor_char_boundary(Self::MESSAGE_MAX));
    }

    /// About how many bytes it takes in a message or in the log, and hardly ever more.
    pub fn weight(&self) -> usize {
        200 + self.bucket.as_str().len() + self.message.len()
    }
}
