//! What another node is to the cluster: whether it keeps the log, whether it was forgotten.
//!
//! A certificate proves a number, and nothing of this. A member finds it in its state; who holds none, or is told of nodes
//! that came later, asks members. What they said is kept for as long as it is likely to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use sheaf_engine::State;
use sheaf_model::view::MemberRow;
use sheaf_model::{Contact, NodeId, NodeStatus};
use sheaf_wire::{ApiError, Client, Options, Transport};
use tokio::time::Instant;

use crate::Control;
use crate::place::{Member, Place, contact};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(1);
/// Members are asked for all members at most this often.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// What was said of a node holds for so long.
const HOLDS_FOR: Duration = Duration::from_secs(60);
/// Addresses asked at most, of members as far as they are known.
const ASKED_MAX: usize = 32;
/// That members do not name a node is logged again when nobody has been asked for so long.
const QUIET: Duration = Duration::from_secs(10);

/// What members said of other nodes.
#[derive(Default)]
pub(crate) struct Others {
    /// Held for a look-up only.
    heard: Mutex<Heard>,
    /// Held while members are asked; the last time, and whether any of them answered.
    asking: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

#[derive(Default)]
struct Heard {
    /// Who keeps the log.
    members: BTreeSet<NodeId>,
    /// Since when it is known of a node whether it belongs to the cluster.
    nodes: BTreeMap<NodeId, (Instant, bool)>,
}

impl Others {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who keeps the log, as a member says. One that has not received the log yet says nothing.
    pub(crate) fn are_members(&self, rows: &[MemberRow]) {
        if !rows.is_empty() {
            self.lock().members = rows.iter().map(|row| NodeId(row.id)).collect();
        }
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.lock().members.contains(&node)
    }

    fn belongs(&self, node: NodeId) -> Option<bool> {
        let heard = self.lock();
        let (since, belongs) = heard.nodes.get(&node)?;
        (since.elapsed() < HOLDS_FOR).then_some(*belongs)
    }

    fn note(&self, node: NodeId, belongs: bool) {
        let mut heard = self.lock();
        heard.nodes.retain(|_, (since, _)| since.elapsed() < HOLDS_FOR);
        heard.nodes.insert(node, (Instant::now(), belongs));
    }
}

impl Control {
    /// Whether a node's messages of the replicated log are taken: a member's, and those of one that may have become a member
    /// since, as the state here may be behind.
    ///
    /// # Errors
    /// `Forbidden`: they are not. `Unavailable`: nobody could be asked about it.
    pub(crate) async fn may_send_log(&self, from: NodeId) -> Result<(), ApiError> {
        let known = match self.place.member() {
            Some(member) => is_known_to_send_log(&member, from)?,
            None => false,
        };
        // Where nothing is secured a number proves nothing.
        if known || self.place.trust.keyring.is_none() {
            return Ok(());
        }
        self.is_named_by_members(from).await
    }

    /// Whether a node is a member.
    ///
    /// # Errors
    /// As [`Self::may_send_log`].
    pub(crate) async fn keeps_the_log(&self, node: NodeId) -> Result<(), ApiError> {
        if let Some(member) = self.place.member() {
            stays(&member.replica.state(), node)?;
            if member.replica.peer(node).is_some() {
                return Ok(());
            }
        }
        self.is_named_by_members(node).await
    }

    /// Whether a node has a number and was not forgotten.
    ///
    /// # Errors
    /// As [`Self::may_send_log`].
    pub(crate) async fn belongs(&self, node: NodeId) -> Result<(), ApiError> {
        if let Some(member) = self.place.member() {
            return stays(&member.replica.state(), node);
        }
        let others = &self.place.others;
        if others.is_member(node) {
            return Ok(());
        }
        let belongs = match others.belongs(node) {
            Some(belongs) => belongs,
            None => self.look_up(node).await?,
        };
        let why = || format!("node {node} does not belong to this cluster, or not any more");
        if belongs { Ok(()) } else { Err(ApiError::Forbidden(why())) }
    }

    /// Asks members whether that node belongs to the cluster.
    async fn look_up(&self, node: NodeId) -> Result<bool, ApiError> {
        for contact in self.place.likely_members() {
            let Ok(client) = client(&contact, &self.place.trust.transport) else { continue };
            let belongs = match client.node(&node.to_string()).await {
                Ok(found) if found.row.id == node.0 => found.row.status != NodeStatus::Left.as_str(),
                Err(ApiError::NotFound(_)) => false,
                // No member, or away; or another node has this number for its name.
                Ok(_) | Err(_) => continue,
            };
            self.place.others.note(node, belongs);
            return Ok(belongs);
        }
        Err(nobody_says(&format!("whether node {node} belongs to the cluster")))
    }

    async fn is_named_by_members(&self, node: NodeId) -> Result<(), ApiError> {
        if self.place.others.is_member(node) {
            return Ok(());
        }
        let place = self.place.clone();
        // It goes on when the caller has waited long enough: the next one finds the answer.
        let asking = tokio::spawn(async move { ask_for_members(&place, node).await });
        match asking.await {
            Ok(answer) => answer,
            Err(_) => Err(ApiError::unavailable("this node is stopping")),
        }
    }
}

/// Whether a member's state is enough to take that node's messages of the log.
///
/// # Errors
/// It is enough to refuse them.
fn is_known_to_send_log(member: &Member, from: NodeId) -> Result<bool, ApiError> {
    let is_member = member.replica.peer(from).is_some();
    let state = member.replica.state();
    // Also while the leader has not taken it out of the members yet.
    stays(&state, from)?;
    match state.nodes.get(&from) {
        Some(node) if !node.may_vote => {
            Err(ApiError::Forbidden(format!("node {from} may not vote, so the log is not its business")))
        }
        known => Ok(is_member || known.is_some()),
    }
}

/// A node that was forgotten has nothing to ask any more.
///
/// # Errors
/// `Forbidden`: it was.
pub(crate) fn stays(state: &State, node: NodeId) -> Result<(), ApiError> {
    match state.nodes.get(&node) {
        Some(known) if known.status == NodeStatus::Left => {
            Err(ApiError::Forbidden(format!("node {} has left this cluster", known.facts.name)))
        }
        // One that is not known here yet has registered just now, or it would have no certificate.
        _ => Ok(()),
    }
}

async fn ask_for_members(place: &Place, node: NodeId) -> Result<(), ApiError> {
    let others = &place.others;
    let mut last = others.asking.lock().await;
    if others.is_member(node) {
        return Ok(());
    }
    let was_quiet = last.is_none_or(|(at, _)| at.elapsed() >= QUIET);
    let answered = match *last {
        Some((at, answered)) if at.elapsed() < AGAIN_AFTER => answered,
        _ => {
            let answered = ask_until_named(place, node).await;
            *last = Some((Instant::now(), answered));
            answered
        }
    };
    if others.is_member(node) {
        return Ok(());
    }
    let error = if answered {
        ApiError::Forbidden(format!("node {node} is no member of the cluster, as its members say"))
    } else {
        nobody_says(&format!("whether node {node} is a member of the cluster"))
    };
    if was_quiet {
        tracing::warn!("{error}; if it is one, name members that are there in [cluster] join");
    }
    Err(error)
}

/// Whether any member answered.
async fn ask_until_named(place: &Place, node: NodeId) -> bool {
    let asking = place.likely_members().into_iter().map(|contact| {
        let transport = place.trust.transport.clone();
        async move { members_at(&contact, &transport).await }
    });
    let asking: Vec<_> = asking.collect();
    let mut answers = stream::iter(asking).buffer_unordered(ASKED_MAX);
    let mut answered = false;
    while let Some(rows) = answers.next().await {
        answered |= !rows.is_empty();
        place.others.are_members(&rows);
        if place.others.is_member(node) {
            break;
        }
    }
    answered
}

/// All members, as that one says; empty when it does not.
pub(crate) async fn members_at(contact: &Contact, transport: &Transport) -> Vec<MemberRow> {
    match client(contact, transport) {
        Ok(client) => client.members().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn client(contact: &Contact, transport: &Transport) -> Result<Client, ApiError> {
    let transport = transport.to(contact.node);
    Client::lazy(&contact.address, Options { deadline: WITHIN, transport, ..Options::default() })
}

impl Place {
    /// Where members may be, this node left out: those that a replica knows, then who answered last, then the others.
    fn likely_members(&self) -> Vec<Contact> {
        let members = self.members.borrow().clone();
        let peers = self.member().map(|member| member.replica.metrics().members).unwrap_or_default();
        let peers = peers.into_iter().map(|member| contact(member.peer));
        let mut seen = BTreeSet::from([self.identity.address.clone()]);
        let last = members.member.iter().chain(&members.leader).cloned();
        let all = peers.chain(last).chain(self.known_members());
        all.filter(|contact| seen.insert(contact.address.clone())).take(ASKED_MAX).collect()
    }
}

fn nobody_says(what: &str) -> ApiError {
    ApiError::unavailable(format!("no member could be asked {what}"))
}

#[cfg(test)]
mod tests;
