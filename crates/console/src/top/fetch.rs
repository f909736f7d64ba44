//! Answers for a screen: asked every second or so, or followed as a stream, for as long as somebody looks.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_model::query::{BLOCK, TIME};
use sheaf_model::view::{BucketState, Concern, EventRow, Level, concerns};
use sheaf_model::{BucketName, Cell, Cursor, JobName, QueryPart};
use sheaf_wire::bucket::{BucketChange, BucketHistory, BucketLogs, ListBuckets, ReleaseRow, WatchBuckets};
use sheaf_wire::event::{EventFilter, ListEvents, WatchEvents};
use sheaf_wire::job::{ExplainJob, JobLogs, ListJobs, ListSubtasks};
use sheaf_wire::logs::{LogLine, LogsOf};
use sheaf_wire::node::ListNodes;
use sheaf_wire::query::RunQuery;
use sheaf_wire::sink::ListSinks;
use sheaf_wire::{Answers, ApiError, Client, Filter, Page, PageOf, Term};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::ask::{Answer, Ask, AttemptRow, EVENTS, LINES, Lines, Part, Piece, Rows, SubtasksOf, TAIL};

/// Between two times that something is asked.
const PAUSE: Duration = Duration::from_secs(1);
/// The same of what costs more, or changes less.
const LONG_PAUSE: Duration = Duration::from_secs(3);
/// Rows of each kind that are looked through for what needs attention.
const LOOKED_AT: u32 = 200;
/// Buckets of which it is asked why they stand as they do.
const ASKED_WHY: usize = 8;
/// Revisions that are shown.
const RELEASES: u32 = 50;
/// Attempts that are shown, at most.
const ATTEMPTS: u32 = 200;
/// Lines that are taken at once.
const CHUNK: usize = 256;

/// Something was answered, or not.
#[derive(Debug)]
pub(super) struct News {
    pub(super) ask: Ask,
    pub(super) found: Result<Piece, ApiError>,
    /// The number of the link that it came over.
    pub(super) link: u32,
}

/// Where a fetch brings what it has.
struct Desk {
    ask: Ask,
    link: u32,
    news: mpsc::Sender<News>,
}

impl Desk {
    async fn bring(&self, found: Result<Piece, ApiError>) {
        // Nobody takes it any more: this is about to be ended, too.
        let _ = self.news.send(News { ask: self.ask.clone(), found, link: self.link }).await;
    }

    async fn whole(&self, answer: Answer) {
        self.bring(Ok(Piece::Whole(answer))).await;
    }
}

/// Keeps an answer new until it is ended.
pub(super) async fn keep(client: Client, ask: Ask, link: u32, news: mpsc::Sender<News>) {
    let desk = Desk { ask, link, news };
    loop {
        let pause = match &desk.ask {
            Ask::Explain(_) | Ask::History(_) | Ask::Why(..) | Ask::Concerns => LONG_PAUSE,
            _ => PAUSE,
        };
        match stream(&client, &desk).await {
            Some(Ok(Then::Again)) => {}
            Some(Ok(Then::Over)) => return std::future::pending().await,
            Some(Err(error)) => desk.bring(Err(error)).await,
            None => desk.bring(Box::pin(once(&client, &desk.ask)).await.map(Piece::Whole)).await,
        }
        sleep(pause).await;
    }
}

/// What follows when a stream has come to its end.
enum Then {
    Again,
    Over,
}

/// Follows what can be followed until it breaks off; none: it is asked for.
async fn stream(client: &Client, desk: &Desk) -> Option<Result<Then, ApiError>> {
    Some(match &desk.ask {
        Ask::Bucket(name) => Box::pin(bucket(client, desk, name)).await,
        Ask::Job(name) => Box::pin(job(client, desk, name)).await,
        Ask::Events(filter) => Box::pin(events(client, desk, filter)).await,
        Ask::BucketLogs(name) => {
            let of =
                LogsOf { bucket: name.clone(), follow: true, since: None, tail: Some(TAIL), previous: false };
            match client.bucket_logs(BucketLogs { of, node: None, after: Vec::new() }).await {
                Ok(lines) => log(desk, lines).await.map(|()| Then::Again),
                Err(error) => Err(error),
            }
        }
        Ask::Output(name, subtask, attempt) => {
            let (subtask, attempt) = (*subtask, *attempt);
            let of = JobLogs { job: name.clone(), subtask, attempt, follow: true, tail: Some(LINES as u32) };
            match client.job_logs(of).await {
                Ok(lines) => log(desk, lines).await.map(|()| Then::Over),
                Err(error) => Err(error),
            }
        }
        _ => return None,
    })
}

async fn bucket(client: &Client, desk: &Desk, name: &BucketName) -> Result<Then, ApiError> {
    let mut steps = client.watch_buckets(WatchBuckets { bucket: Some(name.clone()), after: None }).await?;
    let gone = || Err(ApiError::NotFound(format!("there is no bucket {name}")));
    let mut is_there = false;
    while let Some(step) = steps.try_next().await? {
        match step.change {
            BucketChange::Bucket(status) => {
                is_there = true;
                desk.whole(Answer::Bucket(status)).await;
            }
            BucketChange::Gone(_) => {
                is_there = false;
                desk.bring(gone()).await;
            }
            BucketChange::Synced if !is_there => desk.bring(gone()).await,
            BucketChange::Synced | BucketChange::Reset => {}
        }
    }
    Ok(Then::Again)
}

async fn job(client: &Client, desk: &Desk, name: &JobName) -> Result<Then, ApiError> {
    let mut steps = client.watch_job(name).await?;
    while let Some(status) = steps.try_next().await? {
        desk.whole(Answer::Job(Box::new(status))).await;
    }
    Ok(Then::Again)
}

/// The newest events, then those that come.
async fn events(client: &Client, desk: &Desk, filter: &EventFilter) -> Result<Then, ApiError> {
    let ask = ListEvents { after: None, limit: EVENTS as u32, filter: filter.clone(), newest_first: true };
    let page = client.list_events(ask).await?;
    let after = page.events.first().map(Cursor::of);
    let known = page.events.into_iter().map(EventRow::from).collect();
    desk.whole(Answer::Events(known)).await;
    let mut more =
        client.watch_events(WatchEvents { after, filter: filter.clone() }).await?.ready_chunks(CHUNK);
    while let Some(chunk) = more.next().await {
        let events: Result<VecDeque<EventRow>, ApiError> =
            chunk.into_iter().map(|event| event.map(EventRow::from)).collect();
        desk.bring(Ok(Piece::More(Answer::Events(events?)))).await;
    }
    Ok(Then::Again)
}

async fn log(desk: &Desk, lines: Answers<LogLine>) -> Result<(), ApiError> {
    desk.whole(Answer::Lines(Lines::default())).await;
    let mut chunks = lines.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let lines = chunk.into_iter().collect::<Result<VecDeque<LogLine>, ApiError>>()?;
        desk.bring(Ok(Piece::More(Answer::Lines(Lines { lines, ..Lines::default() })))).await;
    }
    desk.bring(Ok(Piece::More(Answer::Lines(Lines { ended: true, ..Lines::default() })))).await;
    Ok(())
}

/// Asks once.
async fn once(client: &Client, ask: &Ask) -> Result<Answer, ApiError> {
    Ok(match ask {
        Ask::Cluster => Answer::Cluster(Box::new(client.cluster_status().await?)),
        Ask::Concerns => Answer::Concerns(attention(client).await?),
        Ask::Buckets(part) => {
            let (page, filter) = asked(part);
            Answer::Buckets(rows(client.list_buckets(ListBuckets { page, filter }).await?))
        }
        Ask::Nodes(part) => {
            let (page, filter) = asked(part);
            Answer::Nodes(rows(client.list_nodes(ListNodes { page, filter }).await?))
        }
        Ask::Jobs(part) => {
            let (page, filter) = asked(part);
            Answer::Jobs(rows(client.list_jobs(ListJobs { page, filter }).await?))
        }
        Ask::Explain(name) => Answer::Explain(Box::new(client.explain_bucket(name).await?)),
        Ask::History(name) => Answer::History(history(client, name).await?),
        Ask::Node(id) => Answer::Node(Box::new(client.node(id).await?)),
        Ask::Subtasks(of) => {
            let SubtasksOf { job, size, token, states, selector, condition } = of.clone();
            let page = PageOf { size, token };
            let list = ListSubtasks { job, page, states, selector, condition };
            Answer::Subtasks(rows(client.list_subtasks(list).await?))
        }
        Ask::Why(job, subtask) => {
            let of = ExplainJob { job: job.clone(), subtask: *subtask };
            Answer::Why(Box::new(client.explain_job(of).await?))
        }
        Ask::Attempts(job, subtask) => Answer::Attempts(attempts(client, job, *subtask).await?),
        Ask::Bucket(name) => Answer::Bucket(Box::new(client.bucket(name).await?.status)),
        Ask::Job(name) => Answer::Job(Box::new(client.job(name).await?.status)),
        Ask::Events(_) | Ask::BucketLogs(_) | Ask::Output(..) => {
            return Err(ApiError::Internal("a stream was asked for as if it were one answer".to_owned()));
        }
    })
}

fn asked(part: &Part) -> (PageOf, Filter) {
    (PageOf { size: part.size, token: part.token.clone() }, part.filter.clone())
}

fn rows<T>(page: Page<T>) -> Rows<T> {
    Rows { rows: page.rows, next: page.next }
}

/// What needs attention; of buckets why they stand as they do, in the cluster's own words.
async fn attention(client: &Client) -> Result<Vec<Concern>, ApiError> {
    let status = client.cluster_status().await?;
    let page = || PageOf { size: LOOKED_AT, ..PageOf::default() };
    let other_than = |key: &str, words: &[&str]| Filter {
        terms: words
            .iter()
            .map(|word| Term { key: key.to_owned(), not: true, value: (*word).to_owned() })
            .collect(),
    };
    let nodes =
        client.list_nodes(ListNodes { page: page(), filter: other_than("status", &["ready", "left"]) });
    let fine = [BucketState::Running, BucketState::Suspended].map(BucketState::as_str);
    let buckets = client.list_buckets(ListBuckets { page: page(), filter: other_than("state", &fine) });
    let over = other_than("state", &["finished", "failed", "canceled"]);
    let jobs = client.list_jobs(ListJobs { page: page(), filter: over });
    let sinks = client.list_sinks(ListSinks { page: page(), filter: Filter::default() });
    let mut found = match futures::try_join!(nodes, buckets, jobs, sinks) {
        Ok((nodes, buckets, jobs, sinks)) => {
            concerns(&status, &nodes.rows, &buckets.rows, &jobs.rows, &sinks.rows)
        }
        // Without a leader this is still an answer, and just then it is needed.
        Err(error) => {
            let mut found = concerns(&status, &[], &[], &[], &[]);
            found.push(Concern::new(Level::Act, "cluster", "", "not answered", error.to_string()));
            found
        }
    };
    let buckets = found.iter_mut().filter(|concern| concern.kind == "bucket").take(ASKED_WHY);
    futures::future::join_all(buckets.map(|concern| explain(client, concern))).await;
    Ok(found)
}

/// Says why a bucket stands as it does; what cannot be found out is not said.
async fn explain(client: &Client, concern: &mut Concern) {
    let Ok(name) = BucketName::new(&concern.subject) else { return };
    if let Ok(got) = client.bucket(&name).await
        && !got.status.message.is_empty()
    {
        concern.why = got.status.message;
    }
}

async fn history(client: &Client, name: &BucketName) -> Result<Vec<ReleaseRow>, ApiError> {
    let page = PageOf { size: RELEASES + 1, ..PageOf::default() };
    let Page { rows: releases, next } =
        client.bucket_history(BucketHistory { bucket: name.clone(), page }).await?;
    // Large ones make a page end early; what its last one changed is not known.
    let shown = if next.is_empty() { releases.len() } else { releases.len().saturating_sub(1) };
    let shown = releases.iter().take(shown.min(RELEASES as usize)).enumerate();
    Ok(shown.map(|(at, release)| ReleaseRow::new(release, releases.get(at + 1))).collect())
}

/// Every attempt at a subtask; only a query tells of all.
async fn attempts(client: &Client, job: &JobName, subtask: u32) -> Result<Vec<AttemptRow>, ApiError> {
    let job = job.as_str().replace('\'', "''");
    let sql = format!(
        "SELECT attempt, state, class, node, backend, started_at, ended_at, exit_code, message FROM attempts \
         WHERE job = '{job}' AND subtask = {subtask} AND block = {} ORDER BY attempt DESC",
        subtask / BLOCK
    );
    let mut parts = client.query(RunQuery { sql, limit: ATTEMPTS, timeout: TIME }).await?;
    let mut found = Vec::new();
    while let Some(part) = parts.try_next().await? {
        if let QueryPart::Rows(rows) = part {
            found.extend(rows.iter().map(|row| attempt(row)));
        }
    }
    Ok(found)
}

fn attempt(row: &[Cell]) -> AttemptRow {
    let text = |at: usize| row.get(at).map(ToString::to_string).unwrap_or_default();
    let some = |at: usize| Some(text(at)).filter(|text| !text.is_empty());
    AttemptRow {
        attempt: text(0).parse().unwrap_or_default(),
        state: text(1),
        class: text(2),
        node: text(3),
        backend: text(4),
        started_at: some(5),
        ended_at: some(6),
        exit_code: text(7),
        message: text(8),
    }
}
