//! What a leader might go by instead of asking a majority about each heartbeat: when a majority was last in touch with it.
//! For planted bugs only. Each of the three was once a plausible wording of the rules.

use std::collections::BTreeMap;

use sheaf_model::session::Acknowledged;
use sheaf_model::{Moment, NodeId, Span, Term};

use crate::event::Process;
use crate::plan::Planted;
use crate::voter::{ReadFor, Role};
use crate::world::World;

/// Rounds that may still be answered.
const ROUNDS: usize = 100;

/// By the leader's own clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    /// When each round was sent.
    sent: BTreeMap<u64, Moment>,
    /// When each other voter was last in touch.
    at: BTreeMap<usize, Moment>,
}

impl World {
    pub(crate) fn goes_by_contact(&self) -> bool {
        let all = [Planted::ContactFromReceipt, Planted::FreshContact, Planted::ContactByClock];
        all.iter().any(|bug| self.plan.has(*bug))
    }

    /// A beat is sent: a round of its own, so that its answers can be told from those before.
    pub(crate) fn note_beat(&mut self, v: usize) {
        if !self.goes_by_contact() {
            return;
        }
        let now = self.clock(Process::Voter(v));
        let Role::Leader(leading) = &mut self.voters[v].role else { return };
        leading.round += 1;
        leading.rounds[v] = leading.round;
        let sent = &mut leading.contact.sent;
        sent.insert(leading.round, now);
        if sent.len() > ROUNDS {
            sent.pop_first();
        }
    }

    /// Another voter has answered.
    pub(crate) fn note_answer(&mut self, v: usize, from: usize, (term, round): (Term, u64)) {
        if !self.goes_by_contact() {
            return;
        }
        let received = self.plan.has(Planted::ContactFromReceipt).then(|| self.clock(Process::Voter(v)));
        let Some(leading) = self.voters[v].leading(term) else { return };
        let Contact { sent, at } = &mut leading.contact;
        let when = received.or_else(|| sent.range(..=round).next_back().map(|(_, when)| *when));
        if let Some(when) = when {
            let known = at.entry(from).or_default();
            *known = when.max(*known);
        }
    }

    /// How long ago a majority was in touch, by the leader's clock; none: never.
    fn out_of_touch(&self, v: usize) -> Option<Span> {
        let Role::Leader(leading) = &self.voters[v].role else { return None };
        let mut at: Vec<Moment> = leading.contact.at.values().copied().collect();
        at.sort_unstable();
        // So many others are a majority with itself.
        let others = self.voters.len() / 2;
        let oldest = at.iter().rev().nth(others.checked_sub(1)?)?;
        Some(self.clock(Process::Voter(v)).since(*oldest))
    }

    /// What waits is acknowledged now if a majority was in touch within a lease.
    pub(crate) fn round_by_contact(&mut self, v: usize, number: u64) {
        let voter = &self.voters[v];
        let (term, ttl) = (voter.term, voter.state.cluster.settings.lease.ttl);
        let has_own = matches!(&voter.role, Role::Leader(leading) if leading.first <= voter.applied);
        if has_own && self.out_of_touch(v).is_some_and(|age| age < ttl) {
            self.confirmed(v, term, ReadFor::Acknowledger(number));
        } else {
            self.round_over(v, number);
        }
    }

    /// Planted bugs of the leader's side: what is acknowledged is not what may be.
    pub(crate) fn tamper_acknowledged(&self, v: usize, node: NodeId, mut ack: Acknowledged) -> Acknowledged {
        if self.plan.has(Planted::ContactFromReceipt) || self.plan.has(Planted::ContactByClock) {
            let age = self.out_of_touch(v).unwrap_or_default();
            ack.ttl = Span(ack.ttl.0.saturating_sub(age.0));
        }
        if self.plan.has(Planted::FenceUndone) {
            let bound = self.voters[v].state.bindings.values().filter(|binding| binding.node == node);
            ack.epochs = bound.map(|binding| (binding.bucket.clone(), binding.epoch)).collect();
        }
        ack
    }
}
