//! What instances printed: asked of a bucket, fetched from its nodes.

mod convert;
mod serve;

use std::future::Future;

use sheaf_model::{Attempt, BucketName, Timestamp};

pub(crate) use serve::Serve;

use crate::{Answers, ApiError, Caller};

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
pub trait LogsApi: Send + Sync + 'static {
    /// Lines in the order printed; ends after the last one unless asked to stay.
    fn read(
        &self,
        caller: Caller,
        ask: LogsOf,
    ) -> impl Future<Output = Result<Answers<LogLine>, ApiError>> + Send;
    /// The same of an attempt of a subtask.
    fn read_attempt(
        &self,
        caller: Caller,
        ask: AttemptLogs,
    ) -> impl Future<Output = Result<Answers<LogLine>, ApiError>> + Send;
}
