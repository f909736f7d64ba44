//! Subtasks in a process that works for a job.
//!
//! ```text
//!  Work ── bundles ──► a task for each bundle ── one after the other ──► Module::on_subtask
//!       ◄─ many ends in one message ── pass_on ◄── ends, output ──┘
//!       ── stop ─────► the ids that are not wanted any more ──► each bundle looks before and while it runs one
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::failure::Kind;
use crate::module::Module;
use crate::serve::{panic_text, run};
use crate::{Context, ContextError, Failure, Node, Secret, proto};

/// What bundles have to say and is not on its way.
const SAID: usize = 4096;
/// What comes so soon one after the other shares a message.
const GATHER: Duration = Duration::from_millis(1);
/// Ends and pieces of output in one message.
const TOGETHER: usize = 2000;
/// Bytes in one message, beyond which another one begins.
const MESSAGE: usize = 1 << 20;
/// Messages that wait for the caller to take them.
const ANSWERS: usize = 8;
/// Longest piece of output.
const PIECE: usize = 64 << 10;
/// What is kept of the text of a failure: its end.
const FAILURE_MAX: usize = 4096;
/// Ids to be stopped that are remembered, beyond what any node has in hand: some are answered before they are heard of.
const STOPS: usize = 1 << 16;

/// For whom a process works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The job's name.
    pub name: String,
    /// The module with its version, e.g. `ndvi@2`.
    pub module: String,
    /// The node that it runs on.
    pub node: Node,
    /// How many subtasks the node lets it run at a time at most.
    pub slots: u32,
    /// Where it is served its context; none: its module lists no secrets.
    pub(crate) socket: Option<PathBuf>,
}

impl Job {
    /// A job as it is told to a process that works for it.
    pub fn new(name: impl Into<String>, module: impl Into<String>, node: Node, slots: u32) -> Self {
        Self { name: name.into(), module: module.into(), node, slots, socket: None }
    }

    /// A secret that the module's document lists under `secrets`, as it was when the newest subtasks were given.
    ///
    /// # Errors
    /// [`crate::Why::NotFound`] as long as nobody has set it, [`crate::Why::Invalid`] if it is not listed,
    /// [`ContextError::None`] if nothing is.
    pub async fn secret(&self, name: impl Into<String> + Send) -> Result<Secret, ContextError> {
        Context::new(proto::Instance::default().into(), self.socket.clone()).secret(name).await
    }
}

/// A try at one subtask.
#[derive(Clone, Debug)]
pub struct Subtask {
    /// What it is called between this process and its caller; no other one in this process is.
    pub id: u64,
    /// Its place in the job, from 0.
    pub number: u32,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// What it is about, as JSON; see [`Subtask::item`].
    pub item_json: String,
    /// The backend that it is to go through; empty: the job names none.
    pub backend: String,
    /// What that backend's document says in `config`, a JSON object; see [`Subtask::backend_config`].
    pub backend_config_json: String,
    /// Where its output goes; none: nobody listens.
    pub(crate) say: Option<mpsc::Sender<Said>>,
}

/// How a subtask ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubtaskResult {
    /// Well.
    Finished,
    /// Badly.
    Failed,
    /// It was broken off, because it was to be stopped.
    Stopped,
    /// It was to be stopped, and had not begun.
    NotBegun,
    /// Its backend refused or failed it.
    Backend,
    /// It was refused for good.
    Refused,
    /// Its backend has not begun it, and asks to be left alone for so long.
    NotNow(Duration),
}

/// What a bundle has to say.
#[derive(Debug)]
pub(crate) enum Said {
    Printed(proto::SubtaskOutput),
    Ended(proto::SubtaskEnd),
}

impl Subtask {
    /// One that is given to a process.
    pub fn new(id: u64, number: u32, attempt: u32, item_json: impl Into<String>) -> Self {
        let (backend, backend_config_json) = Default::default();
        Self { id, number, attempt, item_json: item_json.into(), backend, backend_config_json, say: None }
    }

    /// What it is about as a type of the module's: an array's number, or an item.
    ///
    /// # Errors
    /// What of it does not fit, for people.
    pub fn item<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let wrong = |error| Failure::new(format!("item of subtask {}: {error}", self.number));
        serde_json::from_str(&self.item_json).map_err(wrong)
    }

    /// What its backend's document says in `config` as a type of the module's.
    ///
    /// # Errors
    /// What of it does not fit, for people.
    pub fn backend_config<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let text = if self.backend_config_json.is_empty() { "{}" } else { &self.backend_config_json };
        let wrong = |error| Failure::new(format!("config of backend {}: {error}", self.backend));
        serde_json::from_str(text).map_err(wrong)
    }

    /// Prints a line, which `sheaf job logs` shows.
    pub async fn print(&self, line: impl AsRef<str> + Send) {
        self.write(line.as_ref(), false).await;
    }

    /// The same, shown as an error.
    pub async fn print_error(&self, line: impl AsRef<str> + Send) {
        self.write(line.as_ref(), true).await;
    }

    async fn write(&self, line: &str, error: bool) {
        let Some(say) = &self.say else { return };
        let text = format!("{line}\n").into_bytes();
        for piece in text.chunks(PIECE) {
            let printed = proto::SubtaskOutput { id: self.id, text: piece.to_vec(), error };
            // Nobody listens any more: the process is about to end.
            let _ = say.send(Said::Printed(printed)).await;
        }
    }
}

/// The stream of answers, with the work that they come from. Dropping it ends that work.
pub(crate) struct Answers {
    answers: ReceiverStream<Result<proto::WorkResponse, Status>>,
    _work: JoinSet<()>,
}

impl Stream for Answers {
    type Item = Result<proto::WorkResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.answers).poll_next(context)
    }
}

/// The module's side of Work.
pub(crate) async fn serve<M: Module>(
    module: Arc<M>,
    context: Option<PathBuf>,
    mut asked: Streaming<proto::WorkRequest>,
) -> Result<Answers, Status> {
    let no_start = || Status::invalid_argument("the first message has no start");
    let mut first = asked.message().await?.ok_or_else(no_start)?;
    let mut job: Job = first.start.take().ok_or_else(no_start)?.into();
    job.socket = context;
    let at_once = module.at_once().max(1);
    let working = module.clone();
    run(async move { working.on_job(job).await }).await?;
    let (answer, answers) = mpsc::channel(ANSWERS);
    let ready = proto::WorkResponse { at_once, ..Default::default() };
    // Both ends are here, and it is empty.
    let _ = answer.send(Ok(ready)).await;
    let (say, said) = mpsc::channel(SAID);
    let mut work = JoinSet::new();
    work.spawn(take(module, first, asked, say));
    work.spawn(pass_on(said, answer));
    Ok(Answers { answers: ReceiverStream::new(answers), _work: work })
}

/// Until the caller has no more, and all of it has ended.
async fn take<M: Module>(
    module: Arc<M>,
    first: proto::WorkRequest,
    mut asked: Streaming<proto::WorkRequest>,
    say: mpsc::Sender<Said>,
) {
    let stops = watch::Sender::new(BTreeSet::new());
    let mut bundles = JoinSet::new();
    let mut request = first;
    loop {
        if !request.stop.is_empty() {
            stops.send_modify(|stops: &mut BTreeSet<u64>| {
                stops.extend(&request.stop);
                while stops.len() > STOPS {
                    stops.pop_first();
                }
            });
        }
        for bundle in request.bundles {
            bundles.spawn(run_bundle(module.clone(), bundle.subtasks, stops.subscribe(), say.clone()));
        }
        while bundles.try_join_next().is_some() {}
        match asked.message().await {
            Ok(Some(next)) => request = next,
            // The caller's side has ended, or broke.
            Ok(None) | Err(_) => break,
        }
    }
    while bundles.join_next().await.is_some() {}
}

/// One after the other. What is to be stopped is answered at once, also while another one runs.
async fn run_bundle<M: Module>(
    module: Arc<M>,
    subtasks: Vec<proto::Subtask>,
    mut stops: watch::Receiver<BTreeSet<u64>>,
    say: mpsc::Sender<Said>,
) {
    let mut waiting: VecDeque<proto::Subtask> = subtasks.into();
    leave_out(&mut waiting, &mut stops, &say).await;
    while let Some(subtask) = waiting.pop_front() {
        let id = subtask.id;
        let mut subtask = Subtask::from(subtask);
        subtask.say = Some(say.clone());
        // As a task of its own, so that a panic is the failure of that subtask alone.
        let mut one = JoinSet::new();
        let module = module.clone();
        one.spawn(async move { module.on_subtask(subtask).await });
        let ended = loop {
            tokio::select! {
                // What ended stays in the set; what changed is looked at whole.
                ended = one.join_next() => break ended,
                () = changed(&mut stops) => {
                    if stops.borrow().contains(&id) {
                        one.abort_all();
                    }
                    leave_out(&mut waiting, &mut stops, &say).await;
                }
            }
        };
        let (result, message) = outcome(ended);
        end(&say, id, result, message).await;
        leave_out(&mut waiting, &mut stops, &say).await;
    }
}

/// Answers for those that are to be stopped and have not begun.
async fn leave_out(
    waiting: &mut VecDeque<proto::Subtask>,
    stops: &mut watch::Receiver<BTreeSet<u64>>,
    say: &mpsc::Sender<Said>,
) {
    let (left, kept): (VecDeque<_>, VecDeque<_>) = {
        let stops = stops.borrow_and_update();
        if stops.is_empty() {
            return;
        }
        std::mem::take(waiting).into_iter().partition(|it| stops.contains(&it.id))
    };
    *waiting = kept;
    for it in left {
        end(say, it.id, SubtaskResult::NotBegun, String::new()).await;
    }
}

/// Nobody listens any more when the process is about to end.
async fn end(say: &mpsc::Sender<Said>, id: u64, result: SubtaskResult, message: String) {
    let pause_ms = match result {
        SubtaskResult::NotNow(pause) => u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
        _ => 0,
    };
    let end = proto::SubtaskEnd { id, result: proto::SubtaskResult::from(result).into(), message, pause_ms };
    let _ = say.send(Said::Ended(end)).await;
}

fn outcome(ended: Option<Result<Result<(), Failure>, JoinError>>) -> (SubtaskResult, String) {
    match ended {
        Some(Ok(Ok(()))) => (SubtaskResult::Finished, String::new()),
        Some(Ok(Err(failure))) => {
            let result = match failure.kind() {
                Kind::Own => SubtaskResult::Failed,
                Kind::Backend => SubtaskResult::Backend,
                Kind::Refused => SubtaskResult::Refused,
                Kind::NotNow(pause) => SubtaskResult::NotNow(pause),
            };
            (result, last_of(&failure.to_string()))
        }
        Some(Err(broken)) if broken.is_cancelled() => (SubtaskResult::Stopped, String::new()),
        Some(Err(broken)) => (SubtaskResult::Failed, last_of(&panic_text(broken))),
        None => (SubtaskResult::Failed, "it has not run".to_owned()),
    }
}

/// Until something more is to be stopped.
async fn changed(stops: &mut watch::Receiver<BTreeSet<u64>>) {
    if stops.changed().await.is_err() {
        std::future::pending::<()>().await; // the caller has no more to say, and lets it run
    }
}

fn last_of(text: &str) -> String {
    let mut begin = text.len().saturating_sub(FAILURE_MAX);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    text[begin..].to_owned()
}

/// What is said goes out, much of it together.
async fn pass_on(mut said: mpsc::Receiver<Said>, answer: mpsc::Sender<Result<proto::WorkResponse, Status>>) {
    let mut some = Vec::new();
    while said.recv_many(&mut some, TOGETHER).await > 0 {
        tokio::time::sleep(GATHER).await;
        while some.len() < TOGETHER
            && let Ok(more) = said.try_recv()
        {
            some.push(more);
        }
        let mut message = proto::WorkResponse::default();
        let mut bytes = 0;
        for it in some.drain(..) {
            match it {
                Said::Printed(printed) => {
                    bytes += printed.text.len();
                    message.output.push(printed);
                }
                Said::Ended(end) => {
                    bytes += end.message.len();
                    message.ends.push(end);
                }
            }
            if bytes > MESSAGE {
                bytes = 0;
                if answer.send(Ok(std::mem::take(&mut message))).await.is_err() {
                    return;
                }
            }
        }
        if answer.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

impl From<Job> for proto::WorkStart {
    fn from(job: Job) -> Self {
        Self { job: job.name, module: job.module, node: Some(job.node.into()), slots: job.slots }
    }
}

impl From<proto::WorkStart> for Job {
    fn from(start: proto::WorkStart) -> Self {
        let proto::WorkStart { job, module, node, slots } = start;
        Self::new(job, module, node.unwrap_or_default().into(), slots)
    }
}

impl From<Subtask> for proto::Subtask {
    fn from(subtask: Subtask) -> Self {
        let Subtask { id, number, attempt, item_json, backend, backend_config_json, .. } = subtask;
        Self { id, subtask: number, attempt, item_json, backend, backend_config_json }
    }
}

impl From<proto::Subtask> for Subtask {
    fn from(it: proto::Subtask) -> Self {
        let proto::Subtask { id, subtask: number, attempt, item_json, backend, backend_config_json } = it;
        Self { id, number, attempt, item_json, backend, backend_config_json, say: None }
    }
}

impl From<SubtaskResult> for proto::SubtaskResult {
    fn from(result: SubtaskResult) -> Self {
        match result {
            SubtaskResult::Finished => Self::Finished,
            SubtaskResult::Failed => Self::Failed,
            SubtaskResult::Stopped => Self::Stopped,
            SubtaskResult::NotBegun => Self::NotBegun,
            SubtaskResult::Backend => Self::Backend,
            SubtaskResult::Refused => Self::Refused,
            SubtaskResult::NotNow(_) => Self::NotNow,
        }
    }
}

#[cfg(test)]
mod tests;
