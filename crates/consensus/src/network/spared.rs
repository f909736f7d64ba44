//! Fewer messages on a stream of entries.
//!
//! openraft sends a message for each entry, and one for each step of what is committed. The next entry says that too: while
//! entries follow each other closely, half of the messages say nothing that is not said a moment later.
//!
//! ```text
//!  openraft ── entries ───────────────────────────────────► out at once
//!           ── committed ──► waits, if entries are frequent ──┬─ entries come: dropped, they say as much
//!                                                             └─ none do: out a moment later
//! ```
//!
//! A member that hears of it a moment later applies it a moment later. No change waits for that; who reads there what has just been
//! changed waits that moment.

use std::time::Duration;

use futures::stream::{self, Fuse, Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::raft::Types;

/// Entries that are no further apart are frequent.
const CLOSE: Duration = Duration::from_millis(3);
/// How long what is committed waits for the next ones.
const HOLD: Duration = Duration::from_millis(1);

type Request = AppendEntriesRequest<Types>;

/// The same requests, without those that say only what is committed and are overtaken by one that says it too.
pub(super) fn spared(
    input: impl Stream<Item = Request> + Send + Unpin,
) -> impl Stream<Item = Request> + Send {
    let sparing = Sparing { input: input.fuse(), held: None, entries_at: None, are_frequent: false };
    stream::unfold(sparing, |mut sparing| async move {
        let request = sparing.next().await?;
        Some((request, sparing))
    })
}

struct Sparing<S> {
    input: Fuse<S>,
    /// What waits, and until when.
    held: Option<(Request, Instant)>,
    /// When entries passed last.
    entries_at: Option<Instant>,
    are_frequent: bool,
}

impl<S: Stream<Item = Request> + Unpin> Sparing<S> {
    async fn next(&mut self) -> Option<Request> {
        loop {
            let until = self.held.as_ref().map(|(_, until)| *until);
            let next = match until {
                None => self.input.next().await,
                // Dropped, it has taken nothing: the stream goes on where it was.
                Some(until) => match timeout_at(until, self.input.next()).await {
                    Ok(next) => next,
                    Err(_) => return self.release(),
                },
            };
            let Some(request) = next else { return self.release() };
            if !request.entries.is_empty() {
                self.held = None;
                let now = Instant::now();
                let before = self.entries_at.replace(now);
                self.are_frequent = before.is_some_and(|before| now - before <= CLOSE);
                return Some(request);
            }
            if !self.are_frequent {
                return Some(request);
            }
            // The newest says as much as those before it, and waits no longer than they would have.
            self.held = Some((request, until.unwrap_or_else(|| Instant::now() + HOLD)));
        }
    }

    fn release(&mut self) -> Option<Request> {
        self.held.take().map(|(request, _)| request)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use openraft::entry::RaftEntry;
    use tokio::sync::mpsc;

    use super::*;
    use crate::raft::{Entry, EntryPayload, Vote, log_id};

    /// With these entries, and committed up to there.
    fn request(entries: impl IntoIterator<Item = u64>, committed: u64) -> Request {
        let entry = |index| Entry::new(log_id(1, index), EntryPayload::Blank);
        Request {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: entries.into_iter().map(entry).collect(),
            leader_commit: Some(log_id(1, committed)),
        }
    }

    struct Line {
        asks: mpsc::Sender<Request>,
        out: stream::BoxStream<'static, Request>,
    }

    impl Line {
        fn open() -> Self {
            let (asks, input) = mpsc::channel(8);
            let input = stream::unfold(input, |mut input: mpsc::Receiver<Request>| async move {
                Some((input.recv().await?, input))
            });
            Self { asks, out: spared(input.boxed()).boxed() }
        }

        fn ask(&self, request: Request) {
            self.asks.try_send(request).expect("it is read");
        }

        /// How many entries the next message has, and what it says is committed; none: there is no message now.
        fn now(&mut self) -> Option<(usize, u64)> {
            let request = self.out.next().now_or_never()?.expect("the stream goes on");
            Some((request.entries.len(), request.leader_commit.map_or(0, |id| id.index)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_committed_goes_with_the_next_entries_where_these_are_frequent() {
        let mut line = Line::open();
        line.ask(request([1], 0));
        line.ask(request([], 1));
        assert_eq!((line.now(), line.now()), (Some((1, 0)), Some((0, 1))), "one entry is not frequent");
        line.ask(request([2], 1));
        line.ask(request([], 2));
        assert_eq!((line.now(), line.now()), (Some((1, 1)), None));
        line.ask(request([3, 4], 2));
        assert_eq!((line.now(), line.now()), (Some((2, 2)), None), "it was said with these");
        let begun = Instant::now();
        line.ask(request([], 3));
        assert_eq!(line.now(), None);
        line.ask(request([], 4));
        let late = line.out.next().await.expect("it does not wait for ever");
        assert_eq!((late.entries.len(), late.leader_commit), (0, Some(log_id(1, 4))));
        assert!(begun.elapsed() <= CLOSE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_goes_before_the_end_and_seldom_entries_keep_nothing_back() {
        let mut line = Line::open();
        line.ask(request([1], 0));
        line.ask(request([2], 0));
        line.ask(request([], 2));
        assert_eq!((line.now(), line.now(), line.now()), (Some((1, 0)), Some((1, 0)), None));
        tokio::time::advance(2 * CLOSE).await;
        assert_eq!(line.now(), Some((0, 2)));
        line.ask(request([3], 2));
        line.ask(request([], 3));
        assert_eq!((line.now(), line.now()), (Some((1, 2)), Some((0, 3))), "so long after the former");
        line.ask(request([4], 3));
        line.ask(request([], 4));
        let Line { asks, out } = line;
        drop(asks);
        let rest: Vec<Request> = out.collect().await;
        let said = |request: &Request| (request.entries.len(), request.leader_commit);
        assert_eq!(
            rest.iter().map(said).collect::<Vec<_>>(),
            [(1, Some(log_id(1, 3))), (0, Some(log_id(1, 4)))]
        );
    }
}
