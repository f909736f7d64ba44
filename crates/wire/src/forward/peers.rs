//! Connections to other nodes, one for each node at its address, made when first needed and thrown away when they break. To
//! a node that has taken another's place at its address a connection of its own is made.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use sheaf_model::Contact;
use tonic::transport::Channel;

use crate::client::{Pings, endpoint, explain};
use crate::transport::Transport;

/// A node that takes no connection for so long is taken for dead.
const CONNECT: Duration = Duration::from_secs(1);
/// One that does not answer pings for so long is taken for hung.
const PINGS: Pings = Pings { every: Duration::from_secs(2), within: Duration::from_secs(3), idle: false };
/// More than any cluster has members: beyond, all are forgotten.
const CONTACTS_MAX: usize = 64;

/// One attempt to connect, shared by all who wait for it, so that a dead node costs them one time-out together.
type Connecting = Shared<BoxFuture<'static, Result<Channel, String>>>;

#[derive(Debug, Default)]
pub(crate) struct Peers {
    transport: Transport,
    /// Held for a look-up only.
    known: Mutex<Known>,
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
pub(super) struct Connected {
    pub(super) channel: Channel,
    attempt: u64,
}

impl Peers {
    /// None yet; they will be made over this.
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, known: Mutex::default() }
    }

    /// The connection to `contact`; the error says in words why there is none.
    pub(super) async fn connected(&self, contact: &Contact) -> Result<Connected, String> {
        let (attempt, connecting) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((attempt, connecting)) = known.by_contact.get(contact) {
                (*attempt, connecting.clone())
            } else {
                known.attempts += 1;
                let (attempt, connecting) =
                    (known.attempts, connect(self.transport.to(contact.node), contact.address.clone()));
                if known.by_contact.len() >= CONTACTS_MAX {
                    known.by_contact.clear();
                }
                known.by_contact.insert(contact.clone(), (attempt, connecting.clone()));
                (attempt, connecting)
            }
        };
        match connecting.await {
            Ok(channel) => Ok(Connected { channel, attempt }),
            Err(why) => {
                self.forget(contact, attempt);
                Err(why)
            }
        }
    }

    /// The connection broke: whoever asks next connects anew.
    pub(super) fn broken(&self, contact: &Contact, connected: &Connected) {
        self.forget(contact, connected.attempt);
    }

    fn forget(&self, contact: &Contact, attempt: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.by_contact.get(contact).is_some_and(|(current, _)| *current == attempt) {
            known.by_contact.remove(contact);
        }
    }
}

fn connect(transport: Transport, address: String) -> Connecting {
    let connecting = async move {
        let endpoint = endpoint(&address, CONNECT, PINGS).map_err(|error| error.to_string())?;
        match tokio::time::timeout(CONNECT, transport.connect(&endpoint)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(format!("connect to {address}: {}", explain(&error))),
            Err(_) => Err(format!("connect to {address}: no connection within {CONNECT:?}")),
        }
    };
    connecting.boxed().shared()
}

#[cfg(test)]
mod tests {
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
            peers.connected(&known).await.unwrap();
            let error = peers.connected(&Contact::of(NodeId(7), &address)).await.unwrap_err();
            assert!(error.contains("node 9 answers there"), "{error}");
        }
        let first = peers.connected(&Contact::of(NodeId(9), &address)).await.unwrap();
        let again = peers.connected(&Contact::of(NodeId(9), &address)).await.unwrap();
        assert_eq!(first.attempt, again.attempt, "one serves all who mean that node");
    }
}
