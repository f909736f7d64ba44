//! Connections to other nodes, one for each address, made when first needed and thrown away when they break.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tonic::transport::Channel;

use crate::client::{Pings, endpoint, explain};
use crate::transport::Transport;

/// A node that takes no connection for so long is taken for dead.
const CONNECT: Duration = Duration::from_secs(1);
/// One that does not answer pings for so long is taken for hung.
const PINGS: Pings = Pings { every: Duration::from_secs(2), within: Duration::from_secs(3), idle: false };
/// More addresses than any cluster has members: beyond, all are forgotten.
const ADDRESSES_MAX: usize = 64;

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
    /// The newest attempt of each address, and its number.
    by_address: BTreeMap<String, (u64, Connecting)>,
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

    /// The connection to `address`; the error says in words why there is none.
    pub(super) async fn connected(&self, address: &str) -> Result<Connected, String> {
        let (attempt, connecting) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((attempt, connecting)) = known.by_address.get(address) {
                (*attempt, connecting.clone())
            } else {
                known.attempts += 1;
                let (attempt, connecting) =
                    (known.attempts, connect(self.transport.clone(), address.to_owned()));
                if known.by_address.len() >= ADDRESSES_MAX {
                    known.by_address.clear();
                }
                known.by_address.insert(address.to_owned(), (attempt, connecting.clone()));
                (attempt, connecting)
            }
        };
        match connecting.await {
            Ok(channel) => Ok(Connected { channel, attempt }),
            Err(why) => {
                self.forget(address, attempt);
                Err(why)
            }
        }
    }

    /// The connection broke: whoever asks next connects anew.
    pub(super) fn broken(&self, address: &str, connected: &Connected) {
        self.forget(address, connected.attempt);
    }

    fn forget(&self, address: &str, attempt: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.by_address.get(address).is_some_and(|(current, _)| *current == attempt) {
            known.by_address.remove(address);
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
