//! That something has changed, told to every page that is open: what, it asks for itself, as far as it shows it.
//!
//! ```text
//!  history of the cluster ── one watch of this node ──► pump ── at most once a second ──► every page
//! ```
//!
//! However much happens and however many look, the cluster is asked for its history once, and pages get a number now and
//! then. The watch shows the token of whoever looked first; when that is worth nothing any more all of them begin anew. Whether
//! the token of each other page is still worth something is seen now and then.

use std::future::ready;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use serde_json::json;
use sheaf_wire::event::WatchEvents;
use sheaf_wire::{ApiError, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::live::{Sent, trouble};
use crate::serve::Shared;

/// Pages are told no more often: they look at most so often, too.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is seen whether anybody still looks.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is seen whether the cluster still takes the token of a page.
const KNOWN: Duration = Duration::from_secs(10);

/// The newest revision in which something happened; whoever has one looks.
type Newest = watch::Receiver<u64>;

/// The pump's other end, as long as it works.
#[derive(Default)]
pub(crate) struct Hints(Mutex<Option<Newest>>);

impl Hints {
    fn newest(&self, client: &Client, stop: &CancellationToken) -> Newest {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose pump has ended says so.
        if let Some(newest) = known.as_ref().filter(|newest| newest.has_changed().is_ok()) {
            return newest.clone();
        }
        let (sender, newest) = watch::channel(0);
        *known = Some(newest.clone());
        tokio::spawn(pump(client.clone(), sender, stop.clone()));
        newest
    }
}

/// Follows history for as long as it can and anybody looks.
async fn pump(client: Client, sender: watch::Sender<u64>, stop: CancellationToken) {
    let opened = tokio::select! {
        // Dropping the call leaves nothing half done.
        () = stop.cancelled() => return,
        opened = client.watch_events(WatchEvents::default()) => opened,
    };
    let Ok(mut events) = opened else { return };
    let (mut newest, mut quiet_until, mut look) = (None, Instant::now(), Instant::now() + LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // Dropping `next` or a sleep loses nothing.
            event = events.next() => match event {
                Some(Ok(event)) => newest = Some(event.revision.0),
                Some(Err(_)) | None => return,
            },
            () = sleep_until(quiet_until), if newest.is_some() => {
                if let Some(revision) = newest.take() {
                    sender.send_replace(revision);
                }
                quiet_until = Instant::now() + EVERY;
            }
            () = sleep_until(look) => {
                // One end is kept above.
                if sender.receiver_count() <= 1 {
                    return;
                }
                look = Instant::now() + LOOK;
            }
        }
    }
}

/// Hints for a page whose token the cluster takes.
///
/// # Errors
/// It does not take it.
pub(crate) async fn of(shared: &Shared, client: &Client) -> Result<BoxStream<'static, Sent>, ApiError> {
    // The watch may show the token of somebody else.
    match client.cluster_status().await {
        Ok(_) => {}
        Err(error) if error.can_retry() => return Ok(stream::once(ready(trouble(error))).boxed()),
        Err(error) => return Err(error),
    }
    let newest = shared.hints.newest(client, &shared.stop);
    // Where nothing is secured there is no token.
    let shown = shared.access.is_secured().then(|| client.clone());
    let known = move || {
        let shown = shown.clone();
        async move {
            match shown {
                Some(client) => client.cluster_status().await.map(drop),
                None => Ok(()),
            }
        }
    };
    Ok(hints(newest, known).boxed())
}

/// Hints, until the watch ends or `known` says that the cluster does not take the page's token any more.
fn hints<T>(
    newest: Newest,
    known: impl Fn() -> T + Send + Sync + 'static,
) -> impl Stream<Item = Sent> + Send + 'static
where
    T: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let following = Some((newest, Instant::now() + KNOWN));
    stream::unfold((following, known), |(following, known)| async move {
        let (mut newest, mut look) = following?;
        loop {
            if Instant::now() >= look {
                let found = known().await;
                if let Some(error) = found.err().filter(|error| !error.can_retry()) {
                    return Some((trouble(error), (None, known)));
                }
                look = Instant::now() + KNOWN;
            }
            tokio::select! {
                // Dropping either loses nothing: what has changed is seen the next time.
                () = sleep_until(look) => {}
                changed = newest.changed() => {
                    if changed.is_err() {
                        let broke = ApiError::unavailable("what happens cannot be followed at the moment");
                        return Some((trouble(broke), (None, known)));
                    }
                    let revision = *newest.borrow_and_update();
                    let change = Sent::new("change", json!({ "revision": revision }));
                    return Some((change, (Some((newest, look)), known)));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whose_token_is_revoked_is_told_of_nothing_further() {
        let (sender, newest) = watch::channel(0);
        let asked = Arc::new(AtomicUsize::new(0));
        // Well, away for a moment, and revoked.
        let answers = asked.clone();
        let known = move || {
            ready(match answers.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(()),
                1 => Err(ApiError::unavailable("another node leads now")),
                _ => Err(ApiError::Unauthenticated("it was revoked".to_owned())),
            })
        };
        let mut told = Box::pin(hints(newest, known));
        for asks in 0..=2 {
            sender.send_replace(1);
            assert_eq!(told.next().await.map(|sent| sent.name), Some("change"));
            assert_eq!(asked.load(Ordering::Relaxed), asks);
            tokio::time::advance(KNOWN).await;
        }
        sender.send_replace(2);
        assert_eq!(told.next().await.map(|sent| sent.name), Some("trouble"));
        assert!(told.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_ends_is_trouble() {
        let (sender, newest) = watch::channel(0);
        let mut told = Box::pin(hints(newest, || ready(Ok(()))));
        drop(sender);
        assert_eq!(told.next().await.map(|sent| sent.name), Some("trouble"));
        assert!(told.next().await.is_none());
    }
}
