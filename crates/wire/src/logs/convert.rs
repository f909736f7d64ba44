//! Lines of output, to and from messages.

use sheaf_model::{Attempt, JobId, Timestamp};

use super::{AttemptLogs, LogLine, LogPlace, LogStream, LogsOf};
use crate::ApiError;
use crate::bucket::name;
use crate::change::{timestamp, timestamp_from, unknown};
use crate::proto::{peer, v1};

impl From<LogLine> for v1::LogLine {
    fn from(line: LogLine) -> Self {
        let stream = match line.stream {
            LogStream::Stdout => v1::LogStream::Stdout,
            LogStream::Stderr => v1::LogStream::Stderr,
            LogStream::Sheaf => v1::LogStream::Sheaf,
        };
        Self { node: line.node, at: Some(timestamp(line.at)), stream: stream.into(), text: line.text }
    }
}

impl TryFrom<v1::LogLine> for LogLine {
    type Error = ApiError;

    fn try_from(line: v1::LogLine) -> Result<Self, ApiError> {
        let stream = match v1::LogStream::try_from(line.stream) {
            Ok(v1::LogStream::Stdout) => LogStream::Stdout,
            Ok(v1::LogStream::Stderr) => LogStream::Stderr,
            Ok(v1::LogStream::Sheaf) => LogStream::Sheaf,
            Ok(v1::LogStream::Unspecified) | Err(_) => return Err(unknown("log stream", line.stream)),
        };
        let at = line.at.as_ref().map_or(Timestamp(0), timestamp_from);
        Ok(Self { node: line.node, at, stream, text: line.text })
    }
}

impl From<LogPlace> for v1::LogPlace {
    fn from(place: LogPlace) -> Self {
        Self { node: place.node, at: Some(timestamp(place.at)), lines: place.lines }
    }
}

impl From<v1::LogPlace> for LogPlace {
    fn from(place: v1::LogPlace) -> Self {
        let at = place.at.as_ref().map_or(Timestamp(0), timestamp_from);
        Self { node: place.node, at, lines: place.lines }
    }
}

pub(super) fn read(message: &peer::v1::ReadLogsRequest) -> Result<LogsOf, ApiError> {
    Ok(LogsOf {
        bucket: name(&message.bucket)?,
        follow: message.follow,
        since: message.since.as_ref().map(timestamp_from),
        tail: message.tail,
        previous: message.previous,
    })
}

impl From<LogsOf> for peer::v1::ReadLogsRequest {
    fn from(ask: LogsOf) -> Self {
        Self {
            bucket: ask.bucket.as_str().to_owned(),
            follow: ask.follow,
            since: ask.since.map(timestamp),
            tail: ask.tail,
            previous: ask.previous,
        }
    }
}

pub(super) fn read_attempt(message: &peer::v1::ReadAttemptRequest) -> AttemptLogs {
    let attempt = Attempt { job: JobId(message.job), subtask: message.subtask, number: message.number };
    AttemptLogs { attempt, follow: message.follow, tail: message.tail }
}

impl From<AttemptLogs> for peer::v1::ReadAttemptRequest {
    fn from(AttemptLogs { attempt, follow, tail }: AttemptLogs) -> Self {
        Self { job: attempt.job.0, subtask: attempt.subtask, number: attempt.number, follow, tail }
    }
}
