//! Between agents: forming, joining, the replicated log, sessions and watches. No promise to anyone else.
//!
//! ```text
//!  a node ──hello, join──► PeerApi (control)        a member ──raft──► PeerApi (control ► consensus)
//!  an agent ──session──► AgentApi (the leader)      an agent ──watch──► AgentApi (any member)
//! ```

mod client;
mod convert;
mod membership;
mod pieces;
mod serve;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sheaf_model::session::{ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    BucketName, ClusterId, Contact, Digest, Facts, NodeId, NodeKey, NodeName, Timestamp, TokenText,
};

pub use client::PeerClient;
pub(crate) use client::answers;
pub use membership::Membership;
pub(crate) use serve::{ServeAgent, ServePeer, probes};

use crate::{Answers, ApiError, Caller, async_trait};

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
    /// The sender's number there.
    pub node: Option<NodeId>,
    /// Random: a member is to prove with it that it is one.
    pub nonce: Option<[u8; 32]>,
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
    /// Who leads and where it is, as far as known.
    pub leader: Option<Contact>,
    /// Random identities of the lives it has seen, its own included.
    pub seen: Vec<String>,
    /// Certificates in DER of the authorities that it trusts, the issuing one first; empty: nothing is secured there.
    pub authorities: Vec<Vec<u8>>,
    /// Certificates in DER of some of these by others of them.
    pub bridges: Vec<Vec<u8>>,
    /// Whoever asked was forgotten by the cluster that it says it belongs to.
    pub left: bool,
    /// The authority's signature of a [`Membership`]; empty: it proves nothing.
    pub proof: Vec<u8>,
    /// Its wall clock. None: it does not say.
    pub wall: Option<Timestamp>,
}

impl Greeting {
    /// What its proof is to be of, if it was asked with this nonce; none: it says nothing of the kind.
    pub fn membership(&self, nonce: [u8; 32]) -> Option<Membership> {
        let (cluster, node) = (self.cluster.clone()?, self.node?);
        self.member.then_some(Membership { cluster, node, nonce })
    }
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
    /// The public key that it wants a certificate for; empty: it wants none.
    pub public_key: Vec<u8>,
    /// The text of a join token.
    pub token: Option<TokenText>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Confidential(pub String);

impl std::fmt::Debug for Confidential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Confidential")
    }
}

/// A certificate for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// In DER.
    pub certificate: Vec<u8>,
    /// Certificates in DER of the authorities to trust; the first has signed.
    pub authorities: Vec<Vec<u8>>,
    /// Certificates in DER of some of these by others of them.
    pub bridges: Vec<Vec<u8>>,
    /// How long it is good, from when it is sent.
    pub lifetime: Duration,
}

/// An authority with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityKey {
    /// PKCS #8 in PEM.
    pub key: Confidential,
    /// The authority's certificate in DER.
    pub certificate: Vec<u8>,
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
        /// Its certificate; none: nothing is secured there.
        certified: Option<Certified>,
    },
    /// Ask there; none: not known, ask again later.
    Redirect(Option<Contact>),
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
    /// The buckets of which something is on it, or may be soon: of these it wants to know where they are bound, if to other
    /// nodes. None: an agent of an earlier version, which does not understand that of any.
    pub places: Option<BTreeSet<BucketName>>,
}

/// What answers `sheaf.peer.v1.PeerService`.
#[async_trait]
pub trait PeerApi: Send + Sync + 'static {
    /// Who are you, and whom do you know?
    async fn hello(&self, caller: Caller, ask: HelloAsk) -> Result<Greeting, ApiError>;
    /// A data directory asks for a number.
    async fn join(&self, caller: Caller, ask: JoinAsk) -> Result<Joined, ApiError>;
    /// The next certificate of the node that asks with its present one.
    async fn renew(
        &self,
        caller: Caller,
        cluster: ClusterId,
        public_key: Vec<u8>,
    ) -> Result<Certified, ApiError>;
    /// The key of the authority whose certificate has this SHA-256, for a voter; none: of the one that issues.
    async fn fetch_authority(
        &self,
        caller: Caller,
        cluster: ClusterId,
        fingerprint: Option<Digest>,
    ) -> Result<AuthorityKey, ApiError>;
    /// One message of the replicated log.
    async fn raft(&self, header: PeerHeader, message: Bytes) -> Result<Bytes, ApiError>;
    /// Many, answered one for one in order.
    async fn raft_stream(
        &self,
        header: PeerHeader,
        messages: Answers<Bytes>,
    ) -> Result<Answers<Bytes>, ApiError>;
    /// A snapshot: its head, then the file in pieces.
    async fn raft_snapshot(
        &self,
        header: PeerHeader,
        head: Bytes,
        pieces: Answers<Bytes>,
    ) -> Result<Bytes, ApiError>;
}

/// What answers `sheaf.peer.v1.AgentService`.
#[async_trait]
pub trait AgentApi: Send + Sync + 'static {
    /// A session: the agent's first message is `Hello`.
    async fn session(&self, caller: Caller, messages: Answers<ToLeader>)
    -> Result<Answers<ToNode>, ApiError>;
    /// Everything a node must know, then what changes.
    async fn watch(&self, caller: Caller, ask: WatchNode) -> Result<Answers<Vec<WatchItem>>, ApiError>;
}
