//! The watch: everything a node must know of the replicated state, from any member.

use std::time::Duration;

use futures::StreamExt;
use sheaf_engine::node::Input;
use sheaf_model::Contact;
use sheaf_model::watch::WatchItem;
use sheaf_wire::peer::{PeerClient, WatchNode};
use sheaf_wire::{Answers, ApiError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Backoff, Link, OPENING};
use crate::handle::Request;

/// The longest wait before the next member is tried.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Keeps a watch open until it is to stop, or nobody listens any more. `agent` is its loop.
pub(crate) async fn watch(link: Link, agent: mpsc::Sender<Request>, stop: CancellationToken) {
    let mut backoff = Backoff::new(LONGEST_WAIT);
    let mut turn = 0;
    while !stop.is_cancelled() && !link.inputs.is_closed() {
        let contacts = link.contacts();
        let contact = &contacts[turn % contacts.len()];
        tokio::select! {
            () = stop.cancelled() => return,
            // Dropping it ends the watch, which holds nothing.
            ended = follow(&link, &agent, contact, &mut backoff) => {
                tracing::debug!(%contact, error = %ended, "the watch ended");
            }
        }
        turn += 1; // a member that cut this node off may be busy: the next one
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.wait()) => {} // dropping a wait loses nothing
        }
    }
}

/// Passes on what one member says, until it says no more.
async fn follow(
    link: &Link,
    agent: &mpsc::Sender<Request>,
    contact: &Contact,
    backoff: &mut Backoff,
) -> ApiError {
    let mut items = match open(link, agent, contact).await {
        Ok(items) => items,
        Err(error) => return error,
    };
    while let Some(items) = items.next().await {
        match items {
            Ok(items) => {
                backoff.reset();
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
