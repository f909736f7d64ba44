//! Somebody in the way between nodes: answers at a node's address with a certificate that is not that node's, says that it is
//! that node and leads, and notes what it is asked.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sheaf_model::session::{ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{ClusterId, Contact, Digest, NodeId, NodeKey, NodeName};
use sheaf_wire::peer::{
    AgentApi, AuthorityKey, Certified, Greeting, HelloAsk, JoinAsk, Joined, PeerApi, PeerHeader, WatchNode,
};
use sheaf_wire::{Alone, Answers, ApiError, Caller, ServeOptions, Server, Transport, async_trait};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// See the module.
pub(crate) struct Between {
    cluster: ClusterId,
    /// Whose place it takes, and where.
    place: Contact,
    heard: Mutex<Vec<&'static str>>,
}

impl Between {
    /// Takes the place of `place`, where nobody listens now, with what the transport shows. It ends with the runtime.
    pub(crate) fn stand(
        runtime: &Runtime,
        transport: &Transport,
        cluster: ClusterId,
        place: Contact,
    ) -> Arc<Self> {
        let address = place.address.clone();
        let between = Arc::new(Self { cluster, place, heard: Mutex::default() });
        let listener = runtime.block_on(TcpListener::bind(address)).expect("nobody listens there now");
        let server = Server::new().peers(between.clone()).agents(between.clone()).over(transport.clone());
        let never = std::future::pending();
        runtime.spawn(server.serve(listener, Arc::new(Alone), ServeOptions::default(), never));
        between
    }

    /// What it was asked.
    pub(crate) fn heard(&self) -> Vec<&'static str> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hears<T>(&self, what: &'static str) -> Result<T, ApiError> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        Err(ApiError::unavailable("it only listens"))
    }

    fn number(&self) -> NodeId {
        self.place.node.expect("it takes the place of a node that is known")
    }
}

#[async_trait]
impl PeerApi for Between {
    /// Whoever may ask it.
    async fn hello(&self, _: Caller, _: HelloAsk) -> Result<Greeting, ApiError> {
        Ok(Greeting {
            instance: "between".to_owned(),
            key: NodeKey::from("between"),
            name: NodeName::new("between").expect("a name"),
            address: self.place.address.clone(),
            cluster: Some(self.cluster.clone()),
            node: Some(self.number()),
            member: true,
            leader: Some(self.place.clone()),
            seen: vec!["between".to_owned()],
            authorities: Vec::new(),
            bridges: Vec::new(),
            left: true,
            proof: vec![7; 64],
            wall: None,
        })
    }

    async fn join(&self, _: Caller, _: JoinAsk) -> Result<Joined, ApiError> {
        self.hears("join")
    }

    async fn renew(&self, _: Caller, _: ClusterId, _: Vec<u8>) -> Result<Certified, ApiError> {
        self.hears("renew")
    }

    async fn fetch_authority(
        &self,
        _: Caller,
        _: ClusterId,
        _: Option<Digest>,
    ) -> Result<AuthorityKey, ApiError> {
        self.hears("fetch_authority")
    }

    async fn raft(&self, _: PeerHeader, _: Bytes) -> Result<Bytes, ApiError> {
        self.hears("raft")
    }

    async fn raft_stream(&self, _: PeerHeader, _: Answers<Bytes>) -> Result<Answers<Bytes>, ApiError> {
        self.hears("raft_stream")
    }

    async fn raft_snapshot(&self, _: PeerHeader, _: Bytes, _: Answers<Bytes>) -> Result<Bytes, ApiError> {
        self.hears("raft_snapshot")
    }
}

#[async_trait]
impl AgentApi for Between {
    async fn session(&self, _: Caller, _: Answers<ToLeader>) -> Result<Answers<ToNode>, ApiError> {
        self.hears("session")
    }

    async fn watch(&self, _: Caller, _: WatchNode) -> Result<Answers<Vec<WatchItem>>, ApiError> {
        self.hears("watch")
    }
}
