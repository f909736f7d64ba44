//! Whom a node knows. While it is no member it asks one member every second, sooner when a call finds nobody where it is said to
//! be answered, and others when that one is silent; a member asks whether its leader still answers, and a leader whether a
//! majority still answers it, since without one nobody else tells them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_model::{ClusterId, Contact, NodeId, NodeStatus};
use sheaf_wire::peer::{Greeting, HelloAsk, PeerClient};
use sheaf_wire::{ApiError, Asking};
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::others::members_at;
use crate::place::{Member, Members, Place, contact};

/// How often a known member is asked; after a failure others are asked at once.
const EVERY: Duration = Duration::from_secs(1);
/// The least between two of these looks, however many calls wait.
const APART: Duration = Duration::from_millis(50);
/// How often, while nobody answers.
const EVERY_WITHOUT: Duration = Duration::from_millis(200);
/// How often a member looks whether its leader answers, or is answered.
const LEADER_EVERY: Duration = Duration::from_millis(500);
/// Every so many of these looks a member greets the others and the lost nodes. A node of a cluster founded anew while this
/// one was away answers no other question of it; and one that was away then learns it by being greeted.
const SUCCESSOR_EVERY: u32 = 10;
/// The same for one that knows of no leader.
const ALONE_EVERY: u32 = 2;
/// Lost nodes greeted at most.
const LOST_GREETED: usize = 64;
/// How long all of them may take to answer one that wants to begin without a leader.
const ALONE_WITHIN: Duration = Duration::from_millis(500);
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(1);
/// As which node it is, as whoever it is, as the member that it has proven to be.
const GREETED_MOST: usize = 3;
/// Addresses of all members are asked for every so many greetings.
const MEMBERS_EVERY: u32 = 10;

/// Asks the node at `contact` who it is.
///
/// # Errors
/// As the client's; among others that nobody answers there, or another node than the one that is meant.
pub fn hello<'a>(place: &'a Place, contact: &'a Contact) -> Asking<'a, Greeting> {
    Box::pin(async move { Ok(greet(place, contact).await?.1) })
}

/// Greets everybody at once, so that a cluster founded anew is met ([`Place::successor`]).
pub async fn meet(place: &Place, contacts: impl IntoIterator<Item = Contact>) {
    let own = place.identity.address.clone();
    let others = contacts.into_iter().filter(|contact| contact.address != own);
    let greetings = others.map(|contact| async move { hello(place, &contact).await.map(drop) });
    // Who does not answer has nothing to say.
    drop(futures::future::join_all(greetings).await);
}

/// Greets whoever is at `contact`, and a member that is not known yet once more as the node that it has proven to be. Where another
/// node has come to an address it is heard if it proves that it is a member.
async fn greet(place: &Place, contact: &Contact) -> Result<(PeerClient, Greeting), ApiError> {
    let mut contact = contact.clone();
    let mut another: Option<ApiError> = None;
    for _ in 0..GREETED_MOST {
        let peer = PeerClient::new(&contact, &place.trust.transport)?;
        match ask(place, &peer).await {
            Ok((greeting, true)) if contact.node.is_none() => contact.node = greeting.node,
            Ok((greeting, proven)) => {
                if let Some(error) = another.filter(|_| contact.node.is_none()) {
                    return Err(error);
                }
                heed(place, &contact, &greeting, proven)?;
                return Ok((peer, greeting));
            }
            Err(error) if error.is_of_another_node() => {
                contact.node = None;
                another = another.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    let address = contact.address;
    let not_itself =
        || ApiError::unavailable(format!("whoever answers at {address} is not the member that it names"));
    Err(another.unwrap_or_else(not_itself))
}

/// What somebody says, and whether with it comes the proof that it is a member's. Who is known is asked for that only where
/// it matters.
async fn ask(place: &Place, peer: &PeerClient) -> Result<(Greeting, bool), ApiError> {
    let is_known = peer.contact().node.is_some() && place.wants_proof();
    let (greeting, proven) = ask_for(place, peer, !is_known).await?;
    let ours = place.cluster();
    let is_grave = greeting.left || (greeting.cluster.is_some() && greeting.cluster != ours);
    if is_known && is_grave { ask_for(place, peer, true).await } else { Ok((greeting, proven)) }
}

async fn ask_for(place: &Place, peer: &PeerClient, proof: bool) -> Result<(Greeting, bool), ApiError> {
    let registration = place.registration.borrow().clone();
    let is_wanted = proof && place.trust.keyring.is_some();
    let nonce = if is_wanted { sheaf_seal::nonce().ok() } else { None };
    let ask = HelloAsk {
        instance: place.identity.instance.clone(),
        key: place.identity.key.clone(),
        cluster: registration.as_ref().map(|registration| registration.cluster.clone()),
        node: registration.as_ref().map(|registration| registration.node),
        nonce,
    };
    let greeting = peer.hello(ask, WITHIN).await.inspect_err(|error| place.is_refused(error))?;
    let proven = nonce.is_some_and(|nonce| place.trust.is_proven(&greeting, nonce));
    if proven {
        place.members.send_if_modified(Members::prove);
    }
    Ok((greeting, proven))
}

/// Heeds what concerns this node. Once members prove that they are, what only members know is taken from nobody else.
///
/// # Errors
/// It says that it is a member, and nobody knows it.
fn heed(place: &Place, contact: &Contact, greeting: &Greeting, proven: bool) -> Result<(), ApiError> {
    // Another's proof may have been carried here.
    let by_member = proven && contact.node.is_some() && contact.node == greeting.node;
    if !by_member && place.wants_proof() {
        if greeting.member && contact.node.is_none() {
            let address = &contact.address;
            return Err(ApiError::unavailable(format!(
                "whoever answers at {address} says that it is a member, and does not prove it"
            )));
        }
        return Ok(());
    }
    place.met(greeting.cluster.as_ref());
    let ours = place.cluster();
    if greeting.left && ours.is_some() && greeting.cluster == ours {
        place.leave();
    }
    Ok(())
}

/// The node that is asked again and again: one connection serves until it fails.
#[derive(Default)]
struct Asked {
    peer: Option<PeerClient>,
    /// Failures in a row.
    failures: u32,
}

/// So often in a row a leader must not answer, or none of the members that are known to one that is none, until it counts as
/// silent: one late answer is no silence.
const SILENT_AFTER: u32 = 2;

impl Asked {
    async fn hello(&mut self, place: &Place, contact: &Contact) -> Result<Greeting, ApiError> {
        if let Some(peer) = self.peer.take().filter(|peer| peer.contact() == contact) {
            match ask(place, &peer).await {
                // It may have been started again since: the connection's end says nothing of it.
                Err(error) if !matches!(error, ApiError::DeadlineExceeded(_)) => {}
                Err(error) => return Err(error),
                Ok((greeting, proven)) => {
                    heed(place, contact, &greeting, proven)?;
                    self.peer = Some(peer);
                    return Ok(greeting);
                }
            }
        }
        let (peer, greeting) = greet(place, contact).await?;
        self.peer = Some(peer);
        Ok(greeting)
    }
}

impl Control {
    /// Runs until told to stop.
    pub(crate) async fn run_directory(&self, stop: CancellationToken) {
        let mut turn: u32 = 0;
        let mut unanswered: u32 = 0;
        let mut doubted = false;
        let mut asked = Asked::default();
        loop {
            if let Some(member) = self.place.member() {
                self.note_own_proof(&member);
                self.look_at_leader(&member, &mut asked).await;
                turn = turn.wrapping_add(1);
                // Without a leader it may be that all others go on without this node.
                let alone = self.place.leader(&member).is_none() && turn.is_multiple_of(ALONE_EVERY);
                if alone || turn.is_multiple_of(SUCCESSOR_EVERY) {
                    meet(&self.place, self.silent_ones(&member)).await;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(LEADER_EVERY) => continue,
                }
            }
            // What is looked at once more counts for nothing that is done every so many times.
            let all = !doubted && turn.is_multiple_of(MEMBERS_EVERY);
            let found = self.place.registration.borrow().is_some() && self.look_around(all, &mut asked).await;
            if !doubted {
                turn = if found { turn.wrapping_add(1) } else { 0 };
                unanswered = unanswered.saturating_add(1);
            }
            if found {
                unanswered = 0;
            }
            if unanswered >= SILENT_AFTER {
                self.forget_leader();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                again = self.rest(found) => doubted = again,
            }
        }
    }

    /// Until it is time to look around again; whether that is because somebody was not found.
    async fn rest(&self, found: bool) -> bool {
        let doubted = async {
            tokio::time::sleep(APART).await;
            self.place.doubted.notified().await;
        };
        tokio::select! {
            () = tokio::time::sleep(if found { EVERY } else { EVERY_WITHOUT }) => false,
            // Dropping it loses nothing: whoever doubts something says so again.
            () = doubted => true,
        }
    }

    /// No member answers: who leads is not known any more. Whoever led is asked as the others are.
    fn forget_leader(&self) {
        self.place.members.send_if_modified(|members| {
            let leader = members.leader.take();
            let was_known = leader.is_some();
            leader.into_iter().for_each(|leader| members.note(leader));
            was_known
        });
    }

    /// All members prove that they are where this one is all of them and has the authority's key: it would hear so of nobody.
    fn note_own_proof(&self, member: &Member) {
        let place = &self.place;
        let has_key = place.trust.keyring.as_ref().is_some_and(|keyring| keyring.authority().is_some());
        if !has_key || place.wants_proof() {
            return;
        }
        let own = place.registration.borrow().as_ref().map(|registration| registration.node);
        let members = member.replica.metrics().members;
        let is_alone = matches!(members.as_slice(), [only] if Some(only.peer.node) == own);
        if is_alone {
            place.members.send_if_modified(Members::prove);
        }
    }

    /// Where those may be who belong to a cluster founded anew from this one, or from which this one was: members, nodes
    /// that are lost here, and whoever was ever known. Of two nodes that had an address the one that is there counts.
    fn silent_ones(&self, member: &Member) -> Vec<Contact> {
        let known = self.place.members.borrow().known.clone();
        let members = member.replica.metrics().members.into_iter().map(|member| contact(member.peer));
        let state = member.replica.state();
        let (alive, gone): (Vec<_>, Vec<_>) = state.nodes.values().partition(|node| node.status.is_alive());
        let lost = gone.into_iter().filter(|node| node.status == NodeStatus::Lost).take(LOST_GREETED);
        let mut all: BTreeMap<String, Option<NodeId>> = known;
        let named = lost.map(|node| node.contact()).chain(members);
        all.extend(named.map(|contact| (contact.address, contact.node)));
        for node in alive {
            if let Some(known) = all.get_mut(&node.facts.address) {
                *known = Some(node.id);
            }
        }
        all.into_iter().map(|(address, node)| Contact { address, node }).collect()
    }

    /// That node says that it is of this cluster. If it is one that was founded anew from this one, it is asked back, once
    /// members prove that they are: whoever has a node's certificate could say so.
    pub(crate) async fn hear_of(&self, node: Option<NodeId>, cluster: Option<&ClusterId>) {
        let place = &self.place;
        if !place.wants_proof() {
            return place.met(cluster);
        }
        let ours = place.cluster();
        if !cluster.zip(ours).is_some_and(|(theirs, ours)| theirs.succeeds(&ours)) {
            return;
        }
        let known = place.member().zip(node).and_then(|(member, node)| {
            let state = member.replica.state();
            state.nodes.get(&node).map(|node| node.contact())
        });
        if let Some(contact) = known
            && let Err(error) = hello(place, &contact).await
        {
            tracing::debug!(%contact, %error, "that the cluster was founded anew is not shown");
        }
    }

    /// Asks the others, before anything is done by what a replica without a leader says, whether this node still belongs to
    /// the cluster: one that was forgotten hears of nothing any more. Who does not answer soon is not waited for: multi-node
    /// work runs where a node is cut off, too, and a node that reaches nobody goes on as it was told last. One that was
    /// forgotten while it was off and reaches nobody either cannot know it; whoever forgot it vouched that nothing of it
    /// runs. Once it was told it knows it for good, in every life of its agent.
    pub(crate) async fn look_whether_left(&self, member: &Member) {
        if !self.place.has_left() && self.place.leader(member).is_none() {
            // Dropping it loses nothing: they are asked again by the loop above.
            let _ = tokio::time::timeout(ALONE_WITHIN, meet(&self.place, self.silent_ones(member))).await;
        }
    }

    /// Notes whether the leader that this member follows answers; if it leads itself, whether a majority does.
    async fn look_at_leader(&self, member: &Member, asked: &mut Asked) {
        let leadership = *member.replica.leadership().borrow();
        let silent = match leadership.leader.and_then(|leader| member.replica.peer(leader)) {
            _ if leadership.leading => !member.replica.is_heard(),
            Some(leader) => {
                let node = Some(leader.node);
                let answer = asked.hello(&self.place, &contact(leader)).await;
                // Another member at its address is not the leader.
                let failed = !answer.is_ok_and(|greeting| greeting.node == node);
                if !failed {
                    self.place.is_let_in();
                }
                asked.failures = if failed { asked.failures.saturating_add(1) } else { 0 };
                asked.failures >= SILENT_AFTER
            }
            None => false,
        };
        let term = if silent { leadership.term.0 } else { 0 };
        self.place.silent_term.store(term, Ordering::Relaxed);
    }

    /// Greets the member known, else everybody known; whether one of this cluster answered. `all`: it is asked who the others are.
    async fn look_around(&self, all: bool, asked: &mut Asked) -> bool {
        let members = self.place.members.borrow().clone();
        if let Some(member) = &members.member
            && self.greet(member, all, asked).await
        {
            return true;
        }
        let others = members.contacts().chain(members.leader.clone());
        for contact in others.filter(|contact| Some(contact) != members.member.as_ref()) {
            if self.greet(&contact, true, asked).await {
                return true;
            }
        }
        false
    }

    async fn greet(&self, contact: &Contact, all: bool, asked: &mut Asked) -> bool {
        let wanted_proof = self.place.wants_proof();
        let greeting = match asked.hello(&self.place, contact).await {
            Ok(greeting) => greeting,
            Err(error) => {
                tracing::debug!(%contact, %error, "no member is found there");
                return false;
            }
        };
        let ours = self.place.cluster();
        if !greeting.member || greeting.cluster != ours {
            return false;
        }
        self.place.is_let_in();
        if let Err(error) = self.place.trust.learn(&greeting.authorities, &greeting.bridges) {
            tracing::warn!(%error, "whom the cluster believes is not kept; trying again");
        }
        let member = Contact { address: contact.address.clone(), node: greeting.node };
        let wants_proof = self.place.wants_proof();
        // Where the others are is not known any more once somebody has proven that it is a member: see `Members::prove`.
        let all = all || wants_proof != wanted_proof;
        let all = if all { members_at(&member, &self.place.trust.transport).await } else { Vec::new() };
        self.place.others.are_members(&all);
        self.place.members.send_if_modified(|members: &mut Members| {
            let before = members.clone();
            members.note(member.clone());
            for row in all {
                members.note(Contact::of(NodeId(row.id), row.address));
            }
            members.member = Some(member);
            let leader = greeting.leader.map(|leader| members.named(leader));
            members.leader = leader.filter(|leader| !wants_proof || leader.node.is_some());
            *members != before
        });
        true
    }
}

#[cfg(test)]
mod tests;
