//! Where this node stands: which cluster it belongs to, which replica it holds, whom it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use sheaf_consensus::{Leadership, Peer, Replica};
use sheaf_model::{ClusterId, Contact, NodeId, NodeKey, NodeName};
use sheaf_store::Reader;
use sheaf_wire::{ApiError, JOINS_ANEW};
use tokio::sync::{Notify, watch};

use crate::others::Others;
use crate::trust::Trust;

/// What a node is before it belongs to anything.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Random identity of this life; how a node finds itself in a list of addresses.
    pub instance: String,
    /// Its data directory.
    pub key: NodeKey,
    /// Its name.
    pub name: NodeName,
    /// Where it wants to be reached, `host:port`.
    pub address: String,
}

/// A node's number in its cluster. Once it has one it never gets another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The cluster.
    pub cluster: ClusterId,
    /// The number.
    pub node: NodeId,
}

/// A replica with what reads its database.
#[derive(Clone)]
pub struct Member {
    /// The replicated state.
    pub replica: Replica,
    /// History in SQLite.
    pub reader: Reader,
}

/// Opens this node's replica when it becomes a member. Implemented where everything is put together, which also runs
/// what belongs to it.
pub trait Opener: Send + Sync + 'static {
    /// Opens the replica, once; asked again it gives the same. It begins with the call, and goes on if nobody waits for it.
    fn open(&self, node: NodeId) -> BoxFuture<'_, Result<Member, String>>;
}

/// What a node that is not a member knows of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The member that answered last.
    pub member: Option<Contact>,
    /// The leader, as that member knew.
    pub leader: Option<Contact>,
    /// Addresses where members were seen or may be, for when that one is gone; and whose they are, once that is known.
    pub known: BTreeMap<String, Option<NodeId>>,
    /// A member has proven to this node that it is one. All can, but those of earlier versions.
    pub proven: bool,
}

impl Members {
    /// Notes an address. Whose it is stays known, unless something else is said of it now.
    pub fn note(&mut self, contact: Contact) {
        let known = self.known.entry(contact.address).or_default();
        *known = contact.node.or(*known);
    }

    /// Notes that members prove that they are; whether that is news. Whose an address is was said by who had not proven
    /// anything: that is to be shown anew.
    pub(crate) fn prove(&mut self) -> bool {
        let news = !std::mem::replace(&mut self.proven, true);
        if news {
            self.known.values_mut().for_each(|node| *node = None);
        }
        news
    }

    /// The addresses known, and whose they are.
    pub fn contacts(&self) -> impl Iterator<Item = Contact> + '_ {
        self.known.iter().map(|(address, node)| Contact { address: address.clone(), node: *node })
    }

    /// The contact with whose address it is, if that was not said and is known here.
    pub fn named(&self, contact: Contact) -> Contact {
        let node = contact.node.or_else(|| self.known.get(&contact.address).copied().flatten());
        Contact { node, ..contact }
    }
}

/// Where this node stands. Each part is a watch, so that whoever depends on it wakes.
pub struct Place {
    /// What it is.
    pub identity: Identity,
    /// Its registration, once it has one.
    pub registration: watch::Sender<Option<Registration>>,
    /// Its replica, once it is a member.
    pub member: watch::Sender<Option<Member>>,
    /// Whom it knows, while it is no member.
    pub members: watch::Sender<Members>,
    /// Lives seen while forming, this one included.
    pub seen: watch::Sender<BTreeSet<String>>,
    /// The cluster that this one goes on as, once somebody says that it was founded anew after a disaster.
    pub successor: watch::Sender<Option<ClusterId>>,
    /// What this node waits for, for people; empty when it waits for nothing.
    pub waiting_for: watch::Sender<String>,
    /// The cluster has said that this node was forgotten: what it holds of the replicated state is what was once, and
    /// nobody brings it up to date any more. Never undone.
    pub left: watch::Sender<bool>,
    /// The term whose leader did not answer lately, or was answered by no majority if that is this node; 0: none.
    /// Without a majority nobody hears of another term.
    pub(crate) silent_term: AtomicU64,
    /// A call waits for a member, or a leader, that does not answer where this node, which is no member, believes it to be.
    pub(crate) doubted: Notify,
    /// What members said of other nodes.
    pub(crate) others: Others,
    pub(crate) opener: Arc<dyn Opener>,
    /// What secures its connections.
    pub trust: Trust,
}

impl Place {
    /// A node that knows only itself.
    pub fn new(identity: Identity, opener: Arc<dyn Opener>, trust: Trust) -> Self {
        let seen = BTreeSet::from([identity.instance.clone()]);
        Self {
            identity,
            registration: watch::Sender::new(None),
            member: watch::Sender::new(None),
            members: watch::Sender::new(Members::default()),
            seen: watch::Sender::new(seen),
            successor: watch::Sender::new(None),
            waiting_for: watch::Sender::new(String::new()),
            left: watch::Sender::new(false),
            silent_term: AtomicU64::new(0),
            doubted: Notify::new(),
            others: Others::default(),
            opener,
            trust,
        }
    }

    /// The replica, if this node is a member.
    pub fn member(&self) -> Option<Member> {
        self.member.borrow().clone()
    }

    /// Who leads, if this node is a member.
    pub fn leadership(&self) -> Option<Leadership> {
        self.member.borrow().as_ref().map(|member| *member.replica.leadership().borrow())
    }

    /// Whether this node leads, as far as it knows, and a majority answered it lately.
    pub fn leads(&self) -> bool {
        self.leadership().is_some_and(|leadership| leadership.leading && !self.is_silent(leadership))
    }

    /// Who leads and was heard lately, as a member knows.
    pub fn leader(&self, member: &Member) -> Option<NodeId> {
        let leadership = *member.replica.leadership().borrow();
        leadership.leader.filter(|_| !self.is_silent(leadership))
    }

    fn is_silent(&self, leadership: Leadership) -> bool {
        self.silent_term.load(Ordering::Relaxed) == leadership.term.0
    }

    /// Notes the cluster of somebody that answered, if this node's goes on as that one.
    pub fn met(&self, cluster: Option<&ClusterId>) {
        let ours = self.cluster();
        let Some((cluster, ours)) = cluster.zip(ours) else { return };
        self.successor.send_if_modified(|known| {
            let newer = cluster.succeeds(known.as_ref().unwrap_or(&ours));
            if newer {
                *known = Some(cluster.clone());
            }
            newer
        });
    }

    /// Notes that the others let this node in no more, or that they are not to be believed, if that is for good: somebody must
    /// see it.
    pub(crate) fn is_refused(&self, error: &ApiError) {
        let why = error.to_string();
        if self.registration.borrow().is_none() || self.has_left() || !why.contains(JOINS_ANEW) {
            return;
        }
        self.waiting_for.send_if_modified(|known| {
            let news = !known.contains(JOINS_ANEW);
            if news {
                tracing::error!("{why}");
                *known = why;
            }
            news
        });
    }

    /// They do again.
    pub(crate) fn is_let_in(&self) {
        self.waiting_for.send_if_modified(|known| {
            let over = known.contains(JOINS_ANEW) && !self.has_left();
            if over {
                known.clear();
            }
            over
        });
    }

    /// Notes that the cluster says, or has said to a former life of this agent, that this node was forgotten. Its
    /// registration is known before.
    pub fn leave(&self) {
        if !self.left.send_replace(true) {
            let why = self.left_text();
            tracing::error!("{why}");
            self.waiting_for.send_replace(why);
        }
    }

    /// The cluster that this node is registered in.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.registration.borrow().as_ref().map(|registration| registration.cluster.clone())
    }

    /// Whether this node was forgotten, as far as it has heard.
    pub fn has_left(&self) -> bool {
        *self.left.borrow()
    }

    /// That it was, and what to do about it.
    pub(crate) fn left_text(&self) -> String {
        let registration = self.registration.borrow();
        let cluster = registration.as_ref().map(|known| known.cluster.to_string()).unwrap_or_default();
        left_text(self.identity.name.as_str(), &cluster)
    }

    /// Whether nobody is believed to be a member who neither proves it nor is known by its number: members of this cluster
    /// prove it.
    pub fn wants_proof(&self) -> bool {
        self.trust.keyring.is_some() && self.members.borrow().proven
    }

    /// Where members may be, as far as they may be asked for more than who they are.
    pub fn known_members(&self) -> Vec<Contact> {
        let wants_proof = self.wants_proof();
        let members = self.members.borrow();
        members.contacts().filter(|contact| !wants_proof || contact.node.is_some()).collect()
    }

    /// The leader, as far as known.
    pub fn leader_contact(&self) -> Option<Contact> {
        match self.member() {
            Some(member) => Some(contact(member.replica.peer(self.leader(&member)?)?)),
            None => self.members.borrow().leader.clone(),
        }
    }
}

/// A member, as the log has it.
pub(crate) fn contact(peer: Peer) -> Contact {
    Contact::of(peer.node, peer.address)
}

/// That a node was forgotten, and what to do about it.
pub(crate) fn left_text(node: &str, cluster: &str) -> String {
    format!(
        "node {node} has left cluster {cluster}, as it was forgotten there: nothing runs on it and nothing that it knows is up \
         to date; stop its agent, empty its data directory ([storage] dir) and start it again to join as a new node"
    )
}
