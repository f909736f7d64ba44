//! The watch: everything a node must know of the replicated state, from any member.

use std::time::Duration;

use futures::StreamExt;
use sheaf_engine::node::Input;
use sheaf_model::Contact;
use sheaf_model::watch::WatchItem;
use sheaf_wire::peer::{PeerClient, WatchNode};
use sheaf_wire::{Answers, ApiError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Backoff, Link, OPENING};
use crate::handle::Request;

/// The longest wait before the next member is tried.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Failures in a row that are worth a warning; twice as many are the next.
const WORTH_A_WARNING: u32 = 3;
/// For so long after the watch has turned to the leader it does not do so again.
const NOT_AGAIN: Duration = Duration::from_secs(5);

/// Keeps a watch open until it is to stop, or nobody listens any more. `agent` is its loop.
pub(crate) async fn watch(link: Link, agent: mpsc::Sender<Request>, stop: CancellationToken) {
    let mut tries = Tries::new();
    let mut turn = 0;
    let mut ahead = Ahead::default();
    while !stop.is_cancelled() && !link.inputs.is_closed() {
        let contacts = link.contacts();
        let contact = &ahead.next.take().unwrap_or_else(|| contacts[turn % contacts.len()].clone());
        tokio::select! {
            () = stop.cancelled() => return,
            () = ahead.of(&link, contact) => {
                tracing::info!(%contact, "what is bound here was not told by this member: the leader is asked");
                continue;
            }
            // Dropping it ends the watch, which holds nothing.
            ended = follow(&link, &agent, contact, &mut tries) => match tries.failed() {
                Some(failures) => tracing::warn!(
                    %contact, error = %ended, failures,
                    "no member has told this node all that it must know; until one does it goes on with what it knew"
                ),
                None => tracing::debug!(%contact, error = %ended, "the watch ended"),
            },
        }
        turn += 1; // a member that cut this node off may be busy: the next one
        tokio::select! {
            () = stop.cancelled() => return,
            () = ahead.of(&link, contact) => {}
            () = tokio::time::sleep(tries.backoff.wait()) => {} // dropping a wait loses nothing
        }
    }
}

/// A leader that is known to be ahead of the member that is watched is watched next.
#[derive(Default)]
struct Ahead {
    next: Option<Contact>,
    since: Option<Instant>,
}

impl Ahead {
    /// Returns once it is. All is told anew then, so not again soon: it may be this node that is slow.
    async fn of(&mut self, link: &Link, watched: &Contact) {
        loop {
            let leader = link.signals.ahead().await;
            let is_another = match (leader.node, watched.node) {
                (Some(leader), Some(watched)) => leader != watched,
                _ => leader.address != watched.address,
            };
            if is_another && self.since.is_none_or(|since| since.elapsed() >= NOT_AGAIN) {
                self.since = Some(Instant::now());
                self.next = Some(leader);
                return;
            }
        }
    }
}

/// Watches one after the other, and how many in a row came to nothing. Until everything was told, a watch has failed, however
/// much of it was.
struct Tries {
    backoff: Backoff,
    failures: u32,
    /// With so many people are told.
    tell_at: u32,
}

impl Tries {
    fn new() -> Self {
        Self { backoff: Backoff::new(LONGEST_WAIT), failures: 0, tell_at: WORTH_A_WARNING }
    }

    fn succeeded(&mut self) {
        if self.tell_at > WORTH_A_WARNING {
            tracing::info!(failures = self.failures, "this node has been told all that it must know");
        }
        *self = Self::new();
    }

    /// One has ended. With how many that makes in a row, if people are to be told.
    fn failed(&mut self) -> Option<u32> {
        self.failures = self.failures.saturating_add(1);
        let is_worth_it = self.failures >= self.tell_at;
        if is_worth_it {
            self.tell_at = self.tell_at.saturating_mul(2);
        }
        is_worth_it.then_some(self.failures)
    }
}

/// Passes on what one member says, until it says no more.
async fn follow(
    link: &Link,
    agent: &mpsc::Sender<Request>,
    contact: &Contact,
    tries: &mut Tries,
) -> ApiError {
    let mut items = match open(link, agent, contact).await {
        Ok(items) => items,
        Err(error) => return error,
    };
    while let Some(items) = items.next().await {
        match items {
            Ok(items) => {
                if matches!(items.last(), Some(WatchItem::Synced(_))) {
                    tries.succeeded();
                }
                if !link.input(Input::Watch(items)).await {
                    return ApiError::unavailable("the agent stops");
                }
            }
            Err(error) => return error,
        }
    }
    ApiError::unavailable(format!("{contact} has ended the watch"))
}

async fn open(
    link: &Link,
    agent: &mpsc::Sender<Request>,
    contact: &Contact,
) -> Result<Answers<Vec<WatchItem>>, ApiError> {
    let (answer, occupied) = oneshot::channel();
    let stops = || ApiError::unavailable("the agent stops");
    agent.send(Request::Occupied(answer)).await.map_err(|_| stops())?;
    let places = Some(occupied.await.map_err(|_| stops())?);
    let ask = WatchNode { cluster: link.cluster.clone(), node: link.node, places };
    PeerClient::new(contact, &link.transport)?.watch(ask, OPENING).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_of_failures_in_a_row_ever_more_rarely() {
        let mut tries = Tries::new();
        let told = |tries: &mut Tries| (0..100).filter_map(|_| tries.failed()).collect::<Vec<_>>();
        assert_eq!(told(&mut tries), [3, 6, 12, 24, 48, 96]);
        tries.succeeded();
        assert_eq!((tries.failed(), tries.failed()), (None, None));
        tries.succeeded();
        assert_eq!(told(&mut tries), [3, 6, 12, 24, 48, 96]);
    }
}
