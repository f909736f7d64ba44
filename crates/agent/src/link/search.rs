//! Finding the leader: whoever might know is asked at once, and whoever welcomes first has the session.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use sheaf_model::session::{ToLeader, ToNode};
use sheaf_model::{Contact, Span};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{Answers, ApiError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Link, OPENING};

/// Messages on their way to one leader. More waiting than this means that it does not take them.
const ON_THEIR_WAY: usize = 64;
/// The others' start before the one that has just not acknowledged: it may welcome again and still not acknowledge.
const HEAD_START: Duration = Duration::from_millis(200);

/// A session that stands.
pub(super) struct Opened {
    pub(super) leader: Contact,
    pub(super) messages: mpsc::Sender<ToLeader>,
    pub(super) answers: Answers<ToNode>,
    pub(super) heartbeat: Span,
    /// For so long no single-node work may be started.
    pub(super) start_in: Span,
}

/// What one node answered to `Hello`.
enum Reply {
    Welcome(Box<Opened>),
    Redirect(Option<Contact>),
    Refused { reason: String, retry: bool, left: bool },
    Failed(ApiError),
}

/// Why there is no session.
pub(super) enum NoLeader {
    /// Nobody leads, or nobody could be reached: soon perhaps.
    Yet,
    /// This node is not welcome, as the log says: not soon.
    Refused,
    /// This node was forgotten, which is never undone.
    Left,
}

/// Asks all `contacts` at once, `suspect` after the others, and follows where they point.
pub(super) async fn search(
    link: &Link,
    contacts: Vec<Contact>,
    suspect: Option<&Contact>,
) -> Result<Opened, NoLeader> {
    let mut asked: BTreeSet<Contact> = contacts.iter().cloned().collect();
    let mut asking = FuturesUnordered::new();
    for contact in contacts {
        let wait = if suspect == Some(&contact) { HEAD_START } else { Duration::ZERO };
        asking.push(ask(link, contact, wait).boxed());
    }
    let mut refused = false;
    while let Some((contact, reply)) = asking.next().await {
        let address = contact.address;
        match reply {
            Reply::Welcome(opened) => {
                link.signals.is_news("");
                return Ok(*opened);
            }
            Reply::Redirect(Some(leader)) if asked.insert(leader.clone()) => {
                asking.push(ask(link, leader, Duration::ZERO).boxed());
            }
            Reply::Redirect(_) => {}
            Reply::Refused { reason, left: true, .. } => {
                if link.signals.is_news(&reason) {
                    tracing::error!(address, "{reason}; everything of it that runs here is ended");
                }
                return Err(NoLeader::Left);
            }
            Reply::Refused { reason, retry, left: false } => {
                if link.signals.is_news(&reason) {
                    tracing::warn!(address, reason, "this node is not welcome");
                }
                refused |= !retry;
            }
            // Not for who it is: nobody who asks again is told anything else.
            Reply::Failed(ApiError::Forbidden(reason) | ApiError::Unauthenticated(reason)) => {
                if link.signals.is_news(&reason) {
                    tracing::warn!(address, reason, "this node is not let in");
                }
            }
            Reply::Failed(error) => tracing::debug!(address, %error, "no session"),
        }
    }
    Err(if refused { NoLeader::Refused } else { NoLeader::Yet })
}

async fn ask(link: &Link, contact: Contact, wait: Duration) -> (Contact, Reply) {
    tokio::time::sleep(wait).await;
    let opening = async {
        match open(link, &contact).await {
            Ok(reply) => reply,
            Err(error) => Reply::Failed(error),
        }
    };
    let reply = match tokio::time::timeout(OPENING, opening).await {
        Ok(reply) => reply,
        Err(_) => Reply::Failed(ApiError::DeadlineExceeded(format!("no welcome within {OPENING:?}"))),
    };
    (contact, reply)
}

async fn open(link: &Link, contact: &Contact) -> Result<Reply, ApiError> {
    let address = &contact.address;
    let (messages, waiting) = mpsc::channel(ON_THEIR_WAY);
    let hello = futures::stream::once(std::future::ready(link.hello()));
    let stream = hello.chain(ReceiverStream::new(waiting)).boxed();
    let mut answers = PeerClient::new(contact, &link.transport)?.session(stream, OPENING).await?;
    match answers.next().await {
        Some(Ok(ToNode::Welcome { heartbeat, start_in })) => {
            let leader = contact.clone();
            Ok(Reply::Welcome(Box::new(Opened { leader, messages, answers, heartbeat, start_in })))
        }
        Some(Ok(ToNode::Redirect { leader, node })) => {
            let leader = leader.map(|address| link.named(Contact { address, node }));
            Ok(Reply::Redirect(leader))
        }
        Some(Ok(ToNode::Refused { reason, retry, left })) => Ok(Reply::Refused { reason, retry, left }),
        Some(Ok(other)) => Err(ApiError::Internal(format!("{address} begins a session with {other:?}"))),
        Some(Err(error)) => Err(error),
        None => Err(ApiError::unavailable(format!("{address} has ended the session"))),
    }
}
