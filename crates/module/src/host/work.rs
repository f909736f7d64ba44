//! Work: a stream of subtasks to a process, and of their ends back.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt as _, once};
use tonic::Streaming;

use super::{CallError, Host, failed};
use crate::{Job, Subtask, SubtaskResult, proto};

const CALL: &str = "Work";

/// Said to a process that works for a job.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// More to run: each list one after the other, the lists side by side.
    pub bundles: Vec<Vec<Subtask>>,
    /// What is to be stopped, by id.
    pub stop: Vec<u64>,
}

/// What a process says of its subtasks. First what was printed, then what has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// In order.
    pub output: Vec<Printed>,
    /// In order.
    pub ends: Vec<End>,
}

/// Something that a subtask prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Which.
    pub id: u64,
    /// Any bytes, of any number of lines.
    pub text: Vec<u8>,
    /// Whether it is shown as an error.
    pub error: bool,
}

/// How a subtask ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Which.
    pub id: u64,
    /// How.
    pub result: SubtaskResult,
    /// Why it failed; may be empty.
    pub message: String,
}

/// The way back. Dropping it ends the stream.
#[derive(Debug)]
pub struct Work {
    /// How many bundles the process takes at a time; at least 1.
    pub at_once: u32,
    told: Streaming<proto::WorkResponse>,
}

impl Host {
    /// Has the process work for a job, on what comes through `given`, until that closes.
    ///
    /// # Errors
    /// If it refuses, does not know the call, or says nothing that makes sense.
    pub async fn work(&self, job: Job, given: mpsc::Receiver<Given>) -> Result<Work, CallError> {
        let start = proto::WorkRequest { start: Some(job.into()), ..Default::default() };
        let requests = once(start).chain(ReceiverStream::new(given).map(Into::into));
        let answer = self.client.clone().work(requests).await.map_err(|status| failed(CALL, &status))?;
        let mut told = answer.into_inner();
        let first = told.message().await.map_err(|status| failed(CALL, &status))?;
        Ok(Work { at_once: begun(first)?, told })
    }
}

impl Work {
    /// What the process says next; none: it has ended the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the stream breaks, or what comes makes no sense. It is over then.
    pub async fn next(&mut self) -> Result<Option<Told>, CallError> {
        let next = self.told.message().await.map_err(|status| failed(CALL, &status))?;
        next.map(told).transpose()
    }
}

/// How many bundles a process takes at a time, by its first message.
pub(super) fn begun(first: Option<proto::WorkResponse>) -> Result<u32, CallError> {
    match first {
        Some(proto::WorkResponse { at_once: 0, .. }) => {
            Err(CallError::senseless(CALL, "its first message must say at_once, at least 1"))
        }
        Some(proto::WorkResponse { at_once, output, ends }) if output.is_empty() && ends.is_empty() => {
            Ok(at_once)
        }
        Some(_) => Err(CallError::senseless(CALL, "it answers for subtasks before it was given any")),
        None => Err(CallError::senseless(CALL, "it ended the stream before its first message")),
    }
}

/// What a later one says.
pub(super) fn told(message: proto::WorkResponse) -> Result<Told, CallError> {
    let output = message.output.into_iter().map(Into::into).collect();
    let ends = message.ends.into_iter().map(end).collect::<Result<_, _>>()?;
    Ok(Told { output, ends })
}

fn end(end: proto::SubtaskEnd) -> Result<End, CallError> {
    use proto::SubtaskResult as Result;
    let result = match end.result() {
        Result::Finished => SubtaskResult::Finished,
        Result::Failed => SubtaskResult::Failed,
        Result::Stopped => SubtaskResult::Stopped,
        Result::NotBegun => SubtaskResult::NotBegun,
        Result::Backend => SubtaskResult::Backend,
        Result::Refused => SubtaskResult::Refused,
        Result::NotNow => SubtaskResult::NotNow(Duration::from_millis(end.pause_ms)),
        Result::Unspecified => {
            let reason = format!("it does not say how subtask id {} ended: result {}", end.id, end.result);
            return Err(CallError::senseless(CALL, &reason));
        }
    };
    Ok(End { id: end.id, result, message: end.message })
}

impl From<Given> for proto::WorkRequest {
    fn from(given: Given) -> Self {
        let bundle = |subtasks: Vec<Subtask>| proto::Bundle {
            subtasks: subtasks.into_iter().map(Into::into).collect(),
        };
        Self { start: None, bundles: given.bundles.into_iter().map(bundle).collect(), stop: given.stop }
    }
}

impl From<proto::SubtaskOutput> for Printed {
    fn from(it: proto::SubtaskOutput) -> Self {
        Self { id: it.id, text: it.text, error: it.error }
    }
}
