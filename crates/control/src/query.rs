//! Queries: `sheaf.v1.QueryService`. Each runs on a thread of its own, on what SQLite has once that is as new as memory.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use sheaf_model::QueryPart;
use sheaf_store::{Ask, QueryError, Reader};
use sheaf_wire::query::{QueryApi, RunQuery};
use sheaf_wire::{Answers, ApiError, Caller, async_trait};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use crate::Control;
use crate::event::{read, store_error, stored};
use crate::place::Member;

/// Queries at a time: each may keep a processor busy, and memory for what it sorts.
pub(crate) const AT_ONCE: usize = 4;
/// How long a query waits for others to end.
const TURN_WITHIN: Duration = Duration::from_secs(3);
/// How often a query that waits for who asked looks whether it still may.
const LOOK: Duration = Duration::from_millis(100);
/// Parts of an answer that wait for who asked; a query waits when there are more.
const PARTS: usize = 4;

#[async_trait]
impl QueryApi for Control {
    async fn query(&self, caller: Caller, ask: RunQuery) -> Result<Answers<QueryPart>, ApiError> {
        self.caught_up(&caller).await?;
        let member = self.member()?;
        let permit = self.query_turn().await?;
        fresh(&member, &caller).await?;
        let ask =
            Ask { sql: ask.sql, rows: ask.limit.into(), until: Instant::now() + ask.timeout.duration() };
        let (parts, mut answers) = mpsc::channel(PARTS);
        let task = spawn(member.reader, ask, parts, permit);
        // What is wrong with the query itself is said before anything is answered.
        let Some(first) = answers.recv().await else {
            let ended = end(task).await;
            return Err(ended
                .err()
                .unwrap_or_else(|| ApiError::Internal("a query without columns".to_owned())));
        };
        let rest = stream::unfold((answers, Some(task)), |(mut answers, task)| async move {
            let task = task?;
            match answers.recv().await {
                Some(part) => Some((Ok(part), (answers, Some(task)))),
                None => end(task).await.err().map(|error| (Err(error), (answers, None))),
            }
        });
        Ok(stream::iter([Ok(first)]).chain(rest).boxed())
    }
}

impl Control {
    /// The right to run a query, once not too many others do.
    pub(crate) async fn query_turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        match tokio::time::timeout(TURN_WITHIN, self.queries.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ApiError::Busy(format!(
                "{AT_ONCE} queries run on this node already; ask again, or another node"
            ))),
        }
    }
}

/// Waits until SQLite has what memory has. If it does not come to that, the answer may be older than memory, but never than
/// what the caller has seen.
pub(crate) async fn fresh(member: &Member, caller: &Caller) -> Result<(), ApiError> {
    let Some(seen) = caller.revision else {
        let now = member.replica.state().revision;
        stored(&member.replica, now).await;
        return Ok(());
    };
    let here = read(member, Reader::revision).await?;
    if here < seen {
        let why = format!("what can be searched on this node is at revision {here}, not yet at {seen}");
        return Err(ApiError::DeadlineExceeded(why));
    }
    Ok(())
}

fn spawn(
    reader: Reader,
    ask: Ask,
    parts: mpsc::Sender<QueryPart>,
    permit: OwnedSemaphorePermit,
) -> JoinHandle<Result<(), QueryError>> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let until = tokio::time::Instant::from_std(ask.until);
        let heard = parts.clone();
        let stops = || reader.is_replacing();
        reader.query(
            &ask,
            move || !heard.is_closed(),
            |part| runtime.block_on(hand_over(&parts, part, until, stops)),
        )
    })
}

/// Gives a part to who asked, and says whether it was taken. Who is slow to listen is not waited for longer than the query
/// may take, nor once it is to stop.
async fn hand_over<T>(
    parts: &mpsc::Sender<T>,
    part: T,
    until: tokio::time::Instant,
    stops: impl Fn() -> bool,
) -> bool {
    loop {
        let next = until.min(tokio::time::Instant::now() + LOOK);
        match tokio::time::timeout_at(next, parts.reserve()).await {
            Ok(Ok(place)) => {
                place.send(part);
                return true;
            }
            Ok(Err(_)) => return false,
            Err(_) if next >= until || stops() => return false,
            Err(_) => {}
        }
    }
}

async fn end(task: JoinHandle<Result<(), QueryError>>) -> Result<(), ApiError> {
    match task.await {
        Ok(ended) => ended.map_err(|error| query_error(error, "sql")),
        Err(error) => Err(ApiError::Internal(error.to_string())),
    }
}

/// A failed query, whose text stands in `field`.
pub(crate) fn query_error(error: QueryError, field: &str) -> ApiError {
    match error {
        QueryError::Refused { problem, remedy } => ApiError::invalid(field, problem, remedy),
        QueryError::TooLong | QueryError::Unheard => ApiError::DeadlineExceeded(error.to_string()),
        QueryError::Failed(_) => ApiError::Precondition(error.to_string()),
        QueryError::Store(error) => store_error(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_waited_for_until_the_query_is_to_stop() {
        let (parts, mut answers) = mpsc::channel(1);
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        assert!(hand_over(&parts, 1, until, || true).await, "there is room");
        let began = Instant::now();
        assert!(!hand_over(&parts, 2, until, || true).await);
        assert!(!hand_over(&parts, 3, tokio::time::Instant::now() + LOOK / 2, || false).await);
        assert!(began.elapsed() < Duration::from_secs(30));
        let slow = tokio::spawn(async move {
            tokio::time::sleep(3 * LOOK).await;
            (answers.recv().await, answers.recv().await, answers)
        });
        assert!(hand_over(&parts, 4, until, || false).await);
        let (first, second, answers) = slow.await.expect("it listens");
        assert_eq!((first, second), (Some(1), Some(4)));
        drop(answers);
        assert!(!hand_over(&parts, 5, until, || false).await);
    }
}
