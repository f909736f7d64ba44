//! How members' messages reach other members: `sheaf.peer.v1` over kept connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sheaf_consensus::{Peer, PeerError, PeerStream, Peers, Traffic};
use sheaf_model::{ClusterId, Contact, NodeId};
use sheaf_wire::peer::{PeerClient, PeerHeader};
use sheaf_wire::{ApiError, Transport};

/// How long opening a stream may take; that of heartbeats has a shorter deadline of its own.
const OPEN_WITHIN: Duration = Duration::from_secs(1);

/// Implements consensus' [`Peers`] over the wire.
pub struct RemotePeers {
    cluster: ClusterId,
    node: NodeId,
    transport: Transport,
    /// That of each member, where it was reached last; made when first used. Held for a look-up only.
    clients: Mutex<BTreeMap<NodeId, PeerClient>>,
}

impl RemotePeers {
    /// What node `node` of `cluster` sends, over such connections.
    pub fn new(cluster: ClusterId, node: NodeId, transport: Transport) -> Arc<Self> {
        Arc::new(Self { cluster, node, transport, clients: Mutex::default() })
    }

    fn header(&self, to: NodeId) -> PeerHeader {
        PeerHeader { cluster: self.cluster.clone(), from: self.node, to }
    }

    fn client(&self, peer: &Peer) -> Result<PeerClient, PeerError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&peer.node).filter(|known| known.contact().address == peer.address)
        {
            return Ok(client.clone());
        }
        let contact = Contact::of(peer.node, &peer.address);
        let client = PeerClient::new(&contact, &self.transport).map_err(|error| peer_error(peer, &error))?;
        clients.insert(peer.node, client.clone());
        Ok(client)
    }
}

fn peer_error(peer: &Peer, error: &ApiError) -> PeerError {
    let (peer, why) = (peer.clone(), error.to_string());
    match error {
        ApiError::Unreachable { .. } | ApiError::Unavailable { .. } | ApiError::DeadlineExceeded(_) => {
            PeerError::Unreachable { peer, why }
        }
        _ => PeerError::Refused { peer, why },
    }
}

impl Peers for RemotePeers {
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let client = self.client(peer)?;
            match client.raft(self.header(peer.node), message, deadline).await {
                Err(ApiError::DeadlineExceeded(_)) => {
                    Err(PeerError::TimedOut { peer: peer.clone(), after: deadline })
                }
                answer => answer.map_err(|error| peer_error(peer, &error)),
            }
        })
    }

    fn has_streams(&self) -> bool {
        true
    }

    fn stream<'a>(
        &'a self,
        peer: &'a Peer,
        traffic: Traffic,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        Box::pin(async move {
            let (client, header) = (self.client(peer)?, self.header(peer.node));
            let opening = match traffic {
                Traffic::Heartbeats => client.raft_heartbeats(header, messages, OPEN_WITHIN),
                Traffic::Entries => client.raft_stream(header, messages, OPEN_WITHIN),
            };
            let answers = opening.await.map_err(|error| peer_error(peer, &error))?;
            let peer = peer.clone();
            Ok(answers.map(move |answer| answer.map_err(|error| peer_error(&peer, &error))).boxed())
        })
    }

    fn upload<'a>(
        &'a self,
        peer: &'a Peer,
        head: Bytes,
        chunks: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move {
            let client = self.client(peer)?;
            let answer = client.raft_snapshot(self.header(peer.node), head, chunks).await;
            answer.map_err(|error| peer_error(peer, &error))
        })
    }
}
