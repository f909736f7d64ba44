//! Connections to other nodes, for each node at its address one for calls and one for streams, made when first needed and thrown
//! away when they break. To a node that has taken another's place at its address connections of its own are made.
//!
//! What is not taken of a stream waits here, in a window that all streams of a connection share. All together cannot fill it, so
//! that none waits for another. Answers to calls are taken at once, whatever their callers do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sheaf_model::Contact;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

use crate::ApiError;
use crate::client::{CONNECTION_WINDOW, Pings, endpoint, explain};
use crate::transport::Transport;

/// A node that takes no connection for so long is taken for dead.
const CONNECT: Duration = Duration::from_secs(1);
/// One that does not answer pings for so long is taken for hung.
const PINGS: Pings = Pings { every: Duration::from_secs(2), within: Duration::from_secs(3), idle: false };
/// More than any cluster has members: with so many, those are forgotten that nobody waits for or uses.
const CONTACTS_MAX: usize = 64;
/// Streams at a time on one connection, and so from this node to another.
pub(super) const CARRIED: u32 = 1024;
/// What each of them may have under way, in bytes, before its reader must have caught up.
const WINDOW: u32 = 256 << 10;
const _: () = assert!(CARRIED * WINDOW < CONNECTION_WINDOW);

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Calls, whose answers are taken at once.
    Calls,
    /// What lasts as long as whoever asked wants, and stops while it does not read; and questions in pieces, which stop while they
    /// are not read.
    Streams,
}

/// One attempt to connect, shared by all who wait for it, so that a dead node costs them one time-out together.
type Connecting = Shared<BoxFuture<'static, Result<Link, String>>>;

/// A connection, and places for the streams on it.
#[derive(Clone, Debug)]
struct Link {
    channel: Channel,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
pub(crate) struct Peers {
    transport: Transport,
    /// Each held for a look-up only.
    calls: Mutex<Known>,
    streams: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// So many attempts were made; the next one's number.
    attempts: u64,
    /// The newest attempt of each, and its number.
    by_contact: BTreeMap<Contact, (u64, Connecting)>,
}

/// A connection, and which attempt made it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) channel: Channel,
    places: Arc<Semaphore>,
    traffic: Traffic,
    attempt: u64,
}

impl Connected {
    /// A place for a stream that is to be carried on it, to be held as long as that lasts.
    ///
    /// # Errors
    /// That there are as many streams on it as there may be.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            let why = format!("{CARRIED} streams come here from the node that answers, the most that may");
            ApiError::Busy(format!("{why}; ask again, or another node"))
        })
    }
}

impl Peers {
    /// None yet; they will be made over this.
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, ..Self::default() }
    }

    /// The connection to `contact` for such traffic; the error says in words why there is none.
    pub(crate) async fn connected(&self, contact: &Contact, traffic: Traffic) -> Result<Connected, String> {
        let (attempt, connecting) = {
            let mut known = self.known(traffic);
            if let Some((attempt, connecting)) = known.by_contact.get(contact)
                && !is_given_up(connecting)
            {
                (*attempt, connecting.clone())
            } else {
                known.attempts += 1;
                let transport = self.transport.to(contact.node);
                let (attempt, connecting) =
                    (known.attempts, connect(transport, contact.address.clone(), traffic));
                known.tidy();
                known.by_contact.insert(contact.clone(), (attempt, connecting.clone()));
                (attempt, connecting)
            }
        };
        match connecting.await {
            Ok(Link { channel, places }) => Ok(Connected { channel, places, traffic, attempt }),
            Err(why) => {
                self.forget(contact, traffic, attempt);
                Err(why)
            }
        }
    }

    /// The connection broke: whoever asks next connects anew.
    pub(crate) fn broken(&self, contact: &Contact, connected: &Connected) {
        self.forget(contact, connected.traffic, connected.attempt);
    }

    /// Streams have ended: what they were on is not kept for long.
    pub(crate) fn ended(&self) {
        self.known(Traffic::Streams).tidy();
    }

    fn forget(&self, contact: &Contact, traffic: Traffic, attempt: u64) {
        let mut known = self.known(traffic);
        if known.by_contact.get(contact).is_some_and(|(current, _)| *current == attempt) {
            known.by_contact.remove(contact);
        }
    }

    fn known(&self, traffic: Traffic) -> MutexGuard<'_, Known> {
        let known = match traffic {
            Traffic::Calls => &self.calls,
            Traffic::Streams => &self.streams,
        };
        known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets connections that nobody uses, if there are many.
    fn tidy(&mut self) {
        if self.by_contact.len() >= CONTACTS_MAX {
            self.by_contact.retain(|_, (_, connecting)| is_used(connecting));
        }
    }
}

/// Whether somebody waits for it, or has it.
fn is_used(connecting: &Connecting) -> bool {
    let is_had = |link: &Link| Arc::strong_count(&link.places) > 1;
    connecting.strong_count().is_some_and(|all| all > 1)
        || connecting.peek().and_then(|made| made.as_ref().ok()).is_some_and(is_had)
}

/// Whether nobody waits for it any more that has not been made: nobody went on with it, and its time may be over.
fn is_given_up(connecting: &Connecting) -> bool {
    connecting.strong_count() == Some(1) && connecting.peek().is_none()
}

fn connect(transport: Transport, address: String, traffic: Traffic) -> Connecting {
    let connecting = async move {
        let endpoint = endpoint(&address, CONNECT, PINGS).map_err(|error| error.to_string())?;
        let endpoint = match traffic {
            Traffic::Calls => endpoint,
            Traffic::Streams => endpoint.initial_stream_window_size(WINDOW),
        };
        match tokio::time::timeout(CONNECT, transport.connect(&endpoint)).await {
            Ok(Ok(channel)) => Ok(Link { channel, places: Arc::new(Semaphore::new(CARRIED as usize)) }),
            Ok(Err(error)) => Err(format!("connect to {address}: {}", explain(&error))),
            Err(_) => Err(format!("connect to {address}: no connection within {CONNECT:?}")),
        }
    };
    connecting.boxed().shared()
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use sheaf_model::{NodeId, Timestamp};
    use sheaf_trust::Authority;
    use tokio::net::TcpListener;

    use super::*;
    use crate::tests::fake::of_node;

    #[tokio::test]
    async fn a_connection_to_one_node_is_none_to_another_at_its_address() {
        let authority = Authority::new(Timestamp::from_system(std::time::SystemTime::now())).unwrap();
        let (nine, peers) = (of_node(&authority, 9), Peers::new(of_node(&authority, 1)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.extend(nine.accept(stream).await);
            }
        });
        // Made when nobody knew who is there, and when node 9 was meant.
        for known in [Contact::anyone(&address), Contact::of(NodeId(9), &address)] {
            peers.connected(&known, Traffic::Calls).await.unwrap();
            let seven = Contact::of(NodeId(7), &address);
            let error = peers.connected(&seven, Traffic::Calls).await.unwrap_err();
            assert!(error.contains("node 9 answers there"), "{error}");
        }
        let there = Contact::of(NodeId(9), &address);
        peers.known(Traffic::Calls).by_contact.remove(&there);
        // Who has given up leaves nothing to others that stands still meanwhile.
        assert!(peers.connected(&there, Traffic::Calls).now_or_never().is_none(), "it takes a while");
        let given_up = peers.known(Traffic::Calls).attempts;
        let first = peers.connected(&there, Traffic::Calls).await.unwrap();
        let again = peers.connected(&there, Traffic::Calls).await.unwrap();
        assert_eq!(first.attempt, again.attempt, "one serves all who mean that node");
        assert_eq!(first.attempt, given_up + 1);
    }

    #[tokio::test]
    async fn connections_to_many_nodes_are_kept_as_long_as_they_are_used() {
        const NODES: u64 = CONTACTS_MAX as u64 + 10;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peers = Peers::new(Transport::plain());
        let contacts: Vec<_> = (1..=NODES).map(|node| Contact::of(NodeId(node), &address)).collect();
        let all = || join_all(contacts.iter().map(|contact| peers.connected(contact, Traffic::Streams)));
        let (first, again) = (all().await, all().await);
        for (first, again) in first.iter().zip(&again) {
            assert_eq!(first.as_ref().unwrap().attempt, again.as_ref().unwrap().attempt, "one serves all");
        }
        let places: Vec<_> = first.iter().skip(5).map(|it| it.as_ref().unwrap().place().unwrap()).collect();
        drop((first, again));
        peers.ended();
        assert_eq!(peers.known(Traffic::Streams).by_contact.len(), places.len(), "what streams are on stays");
        drop(places);
        peers.ended();
        assert!(peers.known(Traffic::Streams).by_contact.is_empty());
    }
}
