//! The stream of a submit: a spec, items, done.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use sheaf_model::{Item, JobSpec, Json, Subtasks};
use tonic::{Code, Status, Streaming};

use super::{CHUNK_MAX, CheckJob, SubmitPart, size, spec};
use crate::proto::v1;
use crate::proto::v1::submit_job_request::Part;
use crate::{Answers, ApiError, Caller};

/// What a stream asks for.
pub(super) enum Asked {
    /// A submit; the parts are read as they are asked for.
    Submit(JobSpec, Answers<SubmitPart>),
    /// Whether it would be taken.
    Check(CheckJob),
}

/// Reads the spec, and what becomes of it.
pub(super) async fn read(
    mut messages: Streaming<v1::SubmitJobRequest>,
    caller: &Caller,
) -> Result<Asked, ApiError> {
    let message = messages.message().await.map_err(|status| broken(&status))?.unwrap_or_default();
    let v1::SubmitJobRequest { part: first, validate_only, items_count: items } = message;
    let Some(Part::Job(job)) = first else {
        let problem = match first {
            None => "missing",
            Some(_) => "the first message is another",
        };
        return Err(ApiError::invalid("job", problem, "a JobSpec in the first message"));
    };
    let spec = spec::read(job, caller)?;
    if validate_only {
        return Ok(Asked::Check(CheckJob { spec, items }));
    }
    let reading = Reading { messages, expected: expected(&spec), items: 0, over: false };
    let parts = futures::stream::unfold(reading, |mut reading| async move {
        let part = reading.next().await?;
        Some((part, reading))
    });
    Ok(Asked::Submit(spec, parts.boxed()))
}

/// How many subtasks an array has.
fn expected(spec: &JobSpec) -> Option<u32> {
    match spec.subtasks {
        Subtasks::Array(range) => Some(u32::try_from(range.count()).unwrap_or(u32::MAX)),
        Subtasks::Items => None,
    }
}

struct Reading {
    messages: Streaming<v1::SubmitJobRequest>,
    expected: Option<u32>,
    /// So far.
    items: u32,
    /// Done, or an error: nothing is read any more.
    over: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<SubmitPart, ApiError>> {
        while !self.over {
            let part = match self.messages.message().await {
                Ok(Some(message)) => self.part(message),
                Ok(None) => Err(ApiError::invalid(
                    "done",
                    format!("the submit ended after {} items without it", self.items),
                    "the last message says done, and how many subtasks there are",
                )),
                Err(status) => Err(broken(&status)),
            };
            self.over = !matches!(part, Ok(SubmitPart::Items(_)));
            match part {
                Ok(SubmitPart::Items(items)) if items.is_empty() => {}
                part => return Some(part),
            }
        }
        None
    }

    fn part(&mut self, message: v1::SubmitJobRequest) -> Result<SubmitPart, ApiError> {
        match message.part {
            Some(Part::Items(chunk)) => self.chunk(chunk.items).map(SubmitPart::Items),
            Some(Part::Done(done)) => {
                let (count, what) = match self.expected {
                    Some(count) => (count, "numbers in the array"),
                    None => (self.items, "items were sent"),
                };
                if done.count == count {
                    return Ok(SubmitPart::Done { count });
                }
                let problem = format!("{} subtasks, but {count} {what}", done.count);
                Err(ApiError::invalid("done.count", problem, "all items, and how many they are"))
            }
            Some(Part::Job(_)) => {
                Err(ApiError::invalid("job", "a second one", "one JobSpec, in the first message"))
            }
            None => Err(ApiError::invalid("part", "missing", "items or done")),
        }
    }

    fn chunk(&mut self, messages: Vec<v1::JobItem>) -> Result<Vec<Item>, ApiError> {
        if self.expected.is_some() && !messages.is_empty() {
            return Err(ApiError::invalid(
                "items",
                "the job is an array",
                "no items, or a job without an array",
            ));
        }
        let mut total = 0;
        let mut items = Vec::with_capacity(messages.len());
        for message in messages {
            let item = item(message, self.items)?;
            total += size(&item);
            if total > CHUNK_MAX && !items.is_empty() {
                let problem = format!("more than {CHUNK_MAX} bytes of items in one message");
                return Err(ApiError::invalid("items", problem, "several messages"));
            }
            items.push(item);
            let next = self.items.checked_add(1);
            self.items =
                next.ok_or_else(|| ApiError::Exhausted(format!("a job has at most {} subtasks", u32::MAX)))?;
        }
        Ok(items)
    }
}

pub(super) fn item(message: v1::JobItem, subtask: u32) -> Result<Item, ApiError> {
    let wrong = |field: &str, problem: String, remedy: &str| {
        Err(ApiError::invalid(format!("items[{subtask}]{field}"), problem, remedy))
    };
    let length = message.json.len() + 4 * message.depends_on.len();
    if length > CHUNK_MAX {
        let problem = format!("the item has {length} bytes, more than {CHUNK_MAX}");
        return wrong("", problem, "less in it, like the name of a file");
    }
    let value: Value = match serde_json::from_str(&message.json) {
        Ok(value) => value,
        Err(error) => return wrong(".json", format!("this is no JSON: {error}"), "the text of a JSON value"),
    };
    let mut depends_on = message.depends_on;
    depends_on.sort_unstable();
    depends_on.dedup();
    Ok(Item { value: Json::new(&value), depends_on })
}

/// A stream that does not go on.
fn broken(status: &Status) -> ApiError {
    match status.code() {
        Code::InvalidArgument => ApiError::invalid("part", status.message(), "a SubmitJobRequest"),
        Code::OutOfRange | Code::ResourceExhausted => {
            ApiError::invalid("part", status.message(), "shorter messages")
        }
        _ => ApiError::unavailable(format!(
            "the submit broke off before its end, nothing of it can be seen: {}",
            status.message()
        )),
    }
}

/// The messages of a submit.
pub(super) fn write(
    spec: JobSpec,
    parts: BoxStream<'static, SubmitPart>,
) -> BoxStream<'static, v1::SubmitJobRequest> {
    let message = |part| v1::SubmitJobRequest { part: Some(part), ..Default::default() };
    let first = futures::stream::iter([message(Part::Job(spec::write(spec)))]);
    let rest = parts.map(move |part| {
        message(match part {
            SubmitPart::Items(items) => {
                let item = |item: Item| v1::JobItem {
                    json: item.value.as_str().to_owned(),
                    depends_on: item.depends_on,
                };
                Part::Items(v1::JobItems { items: items.into_iter().map(item).collect() })
            }
            SubmitPart::Done { count } => Part::Done(v1::SubmitDone { count }),
        })
    });
    first.chain(rest).boxed()
}

/// The one message of a check.
pub(super) fn check(ask: CheckJob) -> v1::SubmitJobRequest {
    let part = Some(Part::Job(spec::write(ask.spec)));
    v1::SubmitJobRequest { part, validate_only: true, items_count: ask.items }
}
