//! What instances printed: asked of a bucket, fetched from its nodes.

mod convert;
mod readers;
mod serve;

use sheaf_model::{Attempt, BucketName, Timestamp};

pub use readers::LogReaders;
pub(crate) use serve::{Serve, probes};

use crate::{Answers, ApiError, Caller, async_trait};

/// Which lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsOf {
    /// Of this bucket's instances.
    pub bucket: BucketName,
    /// Stay, and send what is printed from now on.
    pub follow: bool,
    /// Only lines printed since then.
    pub since: Option<Timestamp>,
    /// Only the last so many of each node; none: all that is kept.
    pub tail: Option<u32>,
    /// Of the run before the present one.
    pub previous: bool,
}

/// Which lines of an attempt of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLogs {
    /// Of this attempt.
    pub attempt: Attempt,
    /// Stay until it has ended.
    pub follow: bool,
    /// Only the last so many; none: all that is kept.
    pub tail: Option<u32>,
}

/// How far a node's output was read: to go on after a break with no line twice and none left out. Times are those of the
/// node's own clock; where that was set back, lines from before may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The node's name.
    pub node: String,
    /// When its last line was printed.
    pub at: Timestamp,
    /// How many lines printed at that very moment were read.
    pub lines: u32,
}

impl LogPlace {
    /// The place just after this line.
    pub fn of(line: &LogLine) -> Self {
        Self { node: line.node.clone(), at: line.at, lines: 1 }
    }

    /// The next line of the node was read.
    pub fn read(&mut self, at: Timestamp) {
        self.lines = if at == self.at { self.lines.saturating_add(1) } else { 1 };
        self.at = at;
    }
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The node's name.
    pub node: String,
    /// When it was printed.
    pub at: Timestamp,
    /// Where.
    pub stream: LogStream,
    /// Without its line end.
    pub text: String,
}

impl LogLine {
    /// In JSON answers.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "node": self.node,
            "at": self.at.to_string(),
            "stream": self.stream.as_str(),
            "text": self.text,
        })
    }
}

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// Sheaf itself, about the instance.
    Sheaf,
}

impl LogStream {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Sheaf => "sheaf",
        }
    }
}

/// What answers `sheaf.peer.v1.LogService`: every agent, for what it ran.
#[async_trait]
pub trait LogsApi: Send + Sync + 'static {
    /// Lines in the order printed; ends after the last one unless asked to stay.
    async fn read(&self, caller: Caller, ask: LogsOf) -> Result<Answers<LogLine>, ApiError>;
    /// The same of an attempt of a subtask.
    async fn read_attempt(&self, caller: Caller, ask: AttemptLogs) -> Result<Answers<LogLine>, ApiError>;
}
