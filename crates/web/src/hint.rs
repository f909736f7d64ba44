//! That something has changed, told to every page that is open: what, it asks for itself, as far as it shows it.
//!
//! ```text
//!  history of the cluster ── one watch of this node ──► pump ── at most once a second ──► every page
//! ```
//!
//! However much happens and however many look, the cluster is asked for its history once, and pages get a number now and
//! then. The watch shows the token of whoever looked first; when that is worth nothing any more all of them begin anew.

use std::future::ready;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
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
    let hints = stream::unfold(newest, |mut newest| async move {
        newest.changed().await.ok()?;
        let revision = *newest.borrow_and_update();
        Some((Sent::new("change", json!({ "revision": revision })), newest))
    });
    let broke = ApiError::unavailable("what happens cannot be followed at the moment");
    Ok(hints.chain(stream::once(ready(trouble(broke)))).boxed())
}
