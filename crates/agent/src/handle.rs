//! The handle of a running agent: reading its config again, its instances' output, where it stands.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream;
use sheaf_engine::node::Leaving;
use sheaf_model::{Attempt, BucketName, Load, NodeName, Phase, Revision, Verdict};
use sheaf_wire::logs::{AttemptLogs, LogLine, LogStream, LogsApi, LogsOf};
use sheaf_wire::{Answers, ApiError, Caller, async_trait};
use tokio::sync::{mpsc, oneshot};

use crate::facts::NodeConfig;
use crate::keepers::Keepers;
use crate::logs::{LogQuery, LogReader, Stream};
use crate::work::{self, Desk};

/// How often output of an attempt that runs is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a handle, or a part of the agent, asks of the loop.
#[derive(Debug)]
pub(crate) enum Request {
    Reload(Box<NodeConfig>, oneshot::Sender<()>),
    State(oneshot::Sender<State>),
    Leave(Leaving, oneshot::Sender<()>),
    /// Of which buckets something is here, for the next watch.
    Occupied(oneshot::Sender<BTreeSet<BucketName>>),
}

/// Where an agent stands.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// It has a session with a leader.
    pub has_session: bool,
    /// The newest replicated state it has seen.
    pub seen: Revision,
    /// Its instances, dead or alive.
    pub instances: Vec<Running>,
    /// How many of them were started again three times or more within the last half hour.
    pub restarting: usize,
    /// Its verdicts.
    pub verdicts: Vec<Verdict>,
    /// How busy the node is, and what this process counts of what must be seen.
    pub load: Load,
}

/// One instance of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The bucket.
    pub bucket: BucketName,
    /// Where it is.
    pub phase: Phase,
    /// The program's process, while it runs.
    pub pid: Option<u32>,
    /// Why it is there, for people.
    pub message: String,
}

/// The agent has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent has stopped")]
pub struct Stopped;

/// Speaks with an agent that runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    keepers: Keepers,
    node: NodeName,
    work: work::Place,
    /// Once the agent runs.
    desk: Arc<OnceLock<Arc<Desk>>>,
}

impl Handle {
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        keepers: Keepers,
        node: NodeName,
        work: work::Place,
    ) -> (Self, Arc<OnceLock<Arc<Desk>>>) {
        let desk = Arc::default();
        (Self { requests, keepers, node, work, desk: Arc::clone(&desk) }, desk)
    }

    /// The config file was read again and is good: all gates are asked anew, and the leader hears of it.
    pub async fn reload(&self, config: NodeConfig) -> Result<(), Stopped> {
        let (done, waits) = oneshot::channel();
        self.requests.send(Request::Reload(Box::new(config), done)).await.map_err(|_| Stopped)?;
        waits.await.map_err(|_| Stopped)
    }

    /// Lets this node's work go elsewhere, and returns when it has. Nothing more comes here until the agent's next life.
    pub async fn leave(&self, leaving: Leaving) -> Result<(), Stopped> {
        let (left, waits) = oneshot::channel();
        self.requests.send(Request::Leave(leaving, left)).await.map_err(|_| Stopped)?;
        waits.await.map_err(|_| Stopped)
    }

    /// Where the agent stands now.
    pub async fn state(&self) -> Result<State, Stopped> {
        let (answer, waits) = oneshot::channel();
        self.requests.send(Request::State(answer)).await.map_err(|_| Stopped)?;
        waits.await.map_err(|_| Stopped)
    }

    /// What an instance of this node has printed.
    pub async fn logs(&self, ask: LogsOf) -> Result<Answers<LogLine>, ApiError> {
        let query = LogQuery {
            tail: ask.tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            since: ask.since,
            previous: ask.previous,
        };
        let dir = self.keepers.output_dir(&ask.bucket);
        let follow = if ask.follow && !ask.previous { Follow::On } else { Follow::No };
        self.read_output(dir, query, follow, ask.bucket.to_string()).await
    }

    /// What an attempt of a subtask has printed here.
    pub async fn attempt_logs(&self, ask: AttemptLogs) -> Result<Answers<LogLine>, ApiError> {
        let tail = ask.tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let query = LogQuery { tail, ..LogQuery::default() };
        let follow = match self.desk.get() {
            Some(desk) if ask.follow => Follow::While(desk.clone(), ask.attempt),
            _ => Follow::No,
        };
        let Attempt { job, subtask, number } = ask.attempt;
        let of = format!("attempt {number} of subtask {subtask} of job {job}");
        self.read_output(self.work.output(ask.attempt), query, follow, of).await
    }

    async fn read_output(
        &self,
        dir: PathBuf,
        query: LogQuery,
        follow: Follow,
        of: String,
    ) -> Result<Answers<LogLine>, ApiError> {
        let failed = move |error: std::io::Error| {
            ApiError::Internal(format!("cannot read the output of {of}: {error}"))
        };
        let opened = tokio::task::spawn_blocking(move || LogReader::open(&dir, &query)).await;
        let reader = opened.map_err(std::io::Error::other).and_then(|opened| opened).map_err(&failed)?;
        let node = self.node.to_string();
        let reading = Reading { reader: Some(reader), follow };
        let batches = stream::try_unfold(reading, move |reading| {
            let failed = failed.clone();
            async move { reading.next().await.map_err(failed) }
        });
        let lines = move |batch: Result<Vec<crate::logs::Line>, ApiError>| {
            let node = node.clone();
            stream::iter(match batch {
                Ok(batch) => batch.into_iter().map(|line| Ok(log_line(&node, line))).collect(),
                Err(error) => vec![Err(error)],
            })
        };
        Ok(Box::pin(futures::StreamExt::flat_map(batches, lines)))
    }
}

/// What every agent answers to others about its own instances.
#[async_trait]
impl LogsApi for Handle {
    async fn read(&self, _caller: Caller, ask: LogsOf) -> Result<Answers<LogLine>, ApiError> {
        self.logs(ask).await
    }

    async fn read_attempt(&self, _caller: Caller, ask: AttemptLogs) -> Result<Answers<LogLine>, ApiError> {
        self.attempt_logs(ask).await
    }
}

fn log_line(node: &str, line: crate::logs::Line) -> LogLine {
    let stream = match line.stream {
        Stream::Stdout => LogStream::Stdout,
        Stream::Stderr => LogStream::Stderr,
    };
    LogLine { node: node.to_owned(), at: line.at, stream, text: line.text }
}

/// How far an answer has read.
struct Reading {
    /// None after an error.
    reader: Option<LogReader>,
    follow: Follow,
}

/// Whether more is waited for.
enum Follow {
    No,
    /// For ever.
    On,
    /// As long as this attempt runs.
    While(Arc<Desk>, Attempt),
}

impl Reading {
    /// The next lines; none at the end.
    async fn next(mut self) -> std::io::Result<Option<(Vec<crate::logs::Line>, Self)>> {
        let Some(mut reader) = self.reader.take() else { return Ok(None) };
        // Looked at before what it wrote last is read.
        let runs = match &self.follow {
            Follow::While(desk, attempt) => desk.holds(*attempt),
            Follow::No | Follow::On => false,
        };
        let read = move || {
            let batch = reader.batch();
            (batch, reader)
        };
        let (batch, mut reader) = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?;
        let mut batch = batch?;
        if batch.is_empty() && matches!(self.follow, Follow::On) {
            batch = reader.follow().await?;
        }
        if batch.is_empty() && runs {
            tokio::time::sleep(LOOK_AGAIN).await;
            return Ok(Some((batch, Self { reader: Some(reader), ..self })));
        }
        if batch.is_empty() {
            return Ok(None);
        }
        Ok(Some((batch, Self { reader: Some(reader), ..self })))
    }
}
