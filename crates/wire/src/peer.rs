//! Between agents: forming, joining, the replicated log, sessions and watches. No promise to anyone else.
//!
//! ```text
//!  a node ──hello, join──► PeerApi (control)        a member ──raft──► PeerApi (control ► consensus)
//!  an agent ──session──► AgentApi (the leader)      an agent ──watch──► AgentApi (any member)
//! ```

mod client;
mod convert;
mod serve;

use std::future::Future;

use bytes::Bytes;
use sheaf_model::session::{ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{ClusterId, Facts, NodeId, NodeKey, NodeName};

pub use client::PeerClient;
pub(crate) use serve::{ServeAgent, ServePeer};

use crate::{Answers, ApiError, Caller};

/// From whom, to whom. Whoever answers refuses what is not meant for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHeader {
    /// The cluster.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
}

/// Who asks, before there is a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAsk {
    /// Random identity of the sender's life.
    pub instance: String,
    /// The sender's data directory.
    pub key: NodeKey,
    /// The sender's cluster.
    pub cluster: Option<ClusterId>,
}

/// Who answers, and whom it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Random identity of this life; how a node finds itself in a list of addresses.
    pub instance: String,
    /// Its data directory.
    pub key: NodeKey,
    /// Its name.
    pub name: NodeName,
    /// Where it wants to be reached, `host:port`.
    pub address: String,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// Its number.
    pub node: Option<NodeId>,
    /// It holds a replica of the log.
    pub member: bool,
    /// Where the leader is, as far as known.
    pub leader: Option<String>,
    /// Random identities of the lives it has seen, its own included.
    pub seen: Vec<String>,
}

/// A data directory asks for a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAsk {
    /// The data directory.
    pub key: NodeKey,
    /// The cluster it already belongs to; none: any.
    pub cluster: Option<ClusterId>,
    /// What the node says of itself.
    pub facts: Facts,
}

/// What became of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It is registered.
    Registered {
        /// The cluster.
        cluster: ClusterId,
        /// The number given.
        node: NodeId,
    },
    /// Ask there; none: not known, ask again later.
    Redirect(Option<String>),
    /// Not welcome, and why; asking again does not help.
    Refused(String),
}

/// Which node wants to be told of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchNode {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number.
    pub node: NodeId,
}

/// What answers `sheaf.peer.v1.PeerService`.
pub trait PeerApi: Send + Sync + 'static {
    /// Who are you, and whom do you know?
    fn hello(&self, caller: Caller, ask: HelloAsk)
    -> impl Future<Output = Result<Greeting, ApiError>> + Send;
    /// A data directory asks for a number.
    fn join(&self, caller: Caller, ask: JoinAsk) -> impl Future<Output = Result<Joined, ApiError>> + Send;
    /// One message of the replicated log.
    fn raft(
        &self,
        header: PeerHeader,
        message: Bytes,
    ) -> impl Future<Output = Result<Bytes, ApiError>> + Send;
    /// Many, answered one for one in order.
    fn raft_stream(
        &self,
        header: PeerHeader,
        messages: Answers<Bytes>,
    ) -> impl Future<Output = Result<Answers<Bytes>, ApiError>> + Send;
    /// A snapshot: its head, then the file in pieces.
    fn raft_snapshot(
        &self,
        header: PeerHeader,
        head: Bytes,
        pieces: Answers<Bytes>,
    ) -> impl Future<Output = Result<Bytes, ApiError>> + Send;
}

/// What answers `sheaf.peer.v1.AgentService`.
pub trait AgentApi: Send + Sync + 'static {
    /// A session: the agent's first message is `Hello`.
    fn session(
        &self,
        caller: Caller,
        messages: Answers<ToLeader>,
    ) -> impl Future<Output = Result<Answers<ToNode>, ApiError>> + Send;
    /// Everything a node must know, then what changes.
    fn watch(
        &self,
        caller: Caller,
        ask: WatchNode,
    ) -> impl Future<Output = Result<Answers<Vec<WatchItem>>, ApiError>> + Send;
}
