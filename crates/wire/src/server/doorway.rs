//! What every connection goes through before anything is read of it.
//!
//! ```text
//!  accepted ──► a place among handshakes ──► handshake ──► whose is it?  a node: its places
//!                                                                        whoever: the places of all these
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::net::TcpStream;
use tonic::transport::server::TcpIncoming;

use super::{Refused, ServeOptions};
use crate::transport::{Connection, Crowd, Nodes, Transport};

/// How long a handshake may take, and how many may be under way.
const HANDSHAKE: Duration = Duration::from_secs(5);
const HANDSHAKES: usize = 1024;
/// After a failed accept, e.g. because no descriptor is left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// See the module's doc.
#[derive(Clone)]
pub(super) struct Doorway {
    transport: Transport,
    /// Those whose handshakes are under way.
    shaking: Arc<Crowd>,
    /// How long one may be.
    handshake: Duration,
    /// Those of which it is not known whose they are.
    strangers: Arc<Crowd>,
    nodes: Nodes,
    silent: Duration,
    refused: Refused,
}

impl Doorway {
    pub(super) fn new(transport: Transport, options: ServeOptions, refused: Refused) -> Self {
        Self {
            transport,
            shaking: Crowd::of(HANDSHAKES),
            handshake: HANDSHAKE,
            strangers: Crowd::of(options.connections),
            nodes: Nodes::with(options.node_connections),
            silent: options.silent,
            refused,
        }
    }

    /// Connections after their handshakes, of which many go on at a time: one that stalls holds up nobody.
    pub(super) fn shaken(
        self,
        incoming: TcpIncoming,
    ) -> impl Stream<Item = std::io::Result<Connection>> + Send + use<> {
        let shaking = futures::stream::unfold(incoming, accept).map(move |stream| {
            let doorway = self.clone();
            async move { doorway.take(stream).await }
        });
        shaking.buffer_unordered(HANDSHAKES).filter_map(|shaken| std::future::ready(shaken.map(Ok)))
    }

    /// The connection, unless its handshake fails, or there are too many.
    async fn take(self, stream: TcpStream) -> Option<Connection> {
        let from = stream.peer_addr().ok()?.ip();
        let Some(shaking) = self.shaking.enter(from) else { return self.refuse(from, "handshakes") };
        let connection = match tokio::time::timeout(self.handshake, self.transport.accept(stream)).await {
            Ok(Ok(connection)) => connection.speaking_within(self.silent),
            Ok(Err(error)) => {
                tracing::debug!(?from, %error, "no connection");
                return None;
            }
            Err(_) => return None,
        };
        drop(shaking);
        if let Some(node) = connection.node() {
            return match self.nodes.enter(node) {
                Some(place) => Some(connection.by(place)),
                None => self.refuse(from, &format!("connections of node {node}")),
            };
        }
        match self.strangers.enter(from) {
            Some(place) => Some(connection.at(place)),
            None => self.refuse(from, "connections"),
        }
    }

    fn refuse(&self, from: IpAddr, among: &str) -> Option<Connection> {
        self.refused.another();
        tracing::debug!(%from, among, "a connection too many was closed");
        None
    }
}

/// The next connection; none: the port is closed.
async fn accept(mut incoming: TcpIncoming) -> Option<(TcpStream, TcpIncoming)> {
    loop {
        match incoming.next().await? {
            Ok(stream) => return Some((stream, incoming)),
            // It would fail again at once, and as often as anything is asked.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sheaf_model::Timestamp;
    use sheaf_trust::Authority;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tonic::transport::Channel;

    use super::*;
    use crate::client::{Pings, endpoint};
    use crate::tests::fake::of_node;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LONG: Duration = Duration::from_secs(60);
    /// How a client's first word by TLS begins, and no more of it.
    const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00";

    fn authority() -> Authority {
        Authority::new(Timestamp::from_system(std::time::SystemTime::now())).unwrap()
    }

    /// The doorway of node 1.
    fn doorway(authority: &Authority, options: ServeOptions) -> Doorway {
        Doorway::new(of_node(authority, 1), options, Refused::default())
    }

    /// Both ends of a connection of which nothing is said yet: the client's and the server's.
    async fn ends() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// A node connects: what it has then, and what is taken of it.
    async fn connects(doorway: &Doorway, node: &Transport) -> (Option<Channel>, Option<Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let endpoint = endpoint(&address, LONG, Pings::default()).unwrap();
        let taking = async {
            let (stream, _) = listener.accept().await.unwrap();
            doorway.clone().take(stream).await
        };
        let (channel, taken) = tokio::join!(node.connect(&endpoint), taking);
        (channel.ok(), taken)
    }

    #[tokio::test]
    async fn a_handshake_that_does_not_end_is_cut_off_and_gives_its_place_back() {
        let authority = authority();
        let slow = Doorway {
            shaking: Crowd::of(1),
            handshake: Duration::from_millis(200),
            ..doorway(&authority, ServeOptions::default())
        };
        for said in [&b""[..], HALF] {
            let (mut client, server) = ends().await;
            client.write_all(said).await.unwrap();
            assert!(slow.clone().take(server).await.is_none(), "{said:?}");
        }
        assert_eq!(slow.refused.times(), 0, "there was a place for each");
        let doorway = Doorway { handshake: LONG, ..slow };
        assert!(connects(&doorway, &of_node(&authority, 9)).await.1.is_some());
    }

    #[tokio::test]
    async fn so_many_handshakes_are_under_way_at_most() {
        let authority = authority();
        let doorway = Doorway {
            shaking: Crowd::of(2),
            handshake: LONG,
            ..doorway(&authority, ServeOptions::default())
        };
        let (mut stalling, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (mut client, server) = ends().await;
            client.write_all(HALF).await.unwrap();
            clients.push(client);
            stalling.push(tokio::spawn(doorway.clone().take(server)));
        }
        while doorway.shaking.enter(HERE).is_some() {
            tokio::task::yield_now().await;
        }
        let (_client, server) = ends().await;
        assert!(doorway.clone().take(server).await.is_none());
        assert_eq!(doorway.refused.times(), 1, "at once, and counted");
        drop(clients);
        for stalled in stalling {
            assert!(stalled.await.unwrap().is_none(), "it broke off");
        }
        assert!(connects(&doorway, &of_node(&authority, 9)).await.1.is_some(), "there is room again");
    }

    #[tokio::test]
    async fn a_node_has_so_many_connections_and_takes_no_place_of_another() {
        let authority = authority();
        let options = ServeOptions { node_connections: 2, connections: 1, ..ServeOptions::default() };
        let doorway = doorway(&authority, options);
        let [eight, nine] = [8, 9].map(|node| of_node(&authority, node));
        let first = connects(&doorway, &nine).await.1.expect("its first");
        let second = connects(&doorway, &nine).await.1.expect("its second");
        assert_eq!(doorway.refused.times(), 0);
        assert!(connects(&doorway, &nine).await.1.is_none(), "by its certificate, wherever it comes from");
        assert_eq!(doorway.refused.times(), 1);
        let _other = connects(&doorway, &eight).await.1.expect("of another node");
        assert!(doorway.strangers.enter(HERE).is_some(), "and of whoever is no node");
        drop(first);
        connects(&doorway, &nine).await.1.expect("the place is given back");
        drop(second);
    }
}
