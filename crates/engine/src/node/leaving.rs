//! An agent that is about to stop: what it waits for.
//!
//! It asks the leader to take its node's work away. From when the leader has heard that, it chooses the node for nothing and
//! records it as not ready; from when that is in the log, nothing that was decided before can be bound there. What a watch
//! shows may be of long before: a node that was not ready then may have been, and have been bound to, since.

use sheaf_model::session::{Acknowledged, ToLeader};
use sheaf_model::{Moment, Node, NodeStatus, Revision};

use super::{Action, Leaving, NodeState, Seen};

/// Whether a leader hears this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// A session stands.
    Leader,
    /// None does, since then.
    AloneSince(Moment),
    /// None has for so long that every leader takes the node for lost.
    Forgotten,
}

/// What the leader of this session knows of the node's leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Nothing.
    Unsaid,
    /// It was told at this moment.
    Said(Moment),
    /// It has heard that. In the state that it had applied then, the node's own record was of this revision.
    Heard(Revision),
}

impl NodeState {
    /// Whether the node was told to leave, or was forgotten.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some() || self.left
    }

    /// Whether nothing is left of what was to go before the agent stops, and nothing can come any more.
    pub fn has_left(&self) -> bool {
        let stays = |seen: &Seen| {
            let is_single = seen.observed.mode.epoch().is_some();
            seen.observed.is_alive() && (is_single || self.leaving == Some(Leaving::Everything))
        };
        self.leaving.is_some()
            && self.synced
            && self.is_passed_over()
            && self.known.bindings.is_empty()
            && !self.places.values().filter_map(|place| place.seen.as_deref()).any(stays)
    }

    /// Whether no binding can be on its way to this node: the log has it as not ready, since a leader knows that it
    /// leaves; or no leader has had a session with it for so long that none counts on it.
    fn is_passed_over(&self) -> bool {
        let is_known = |own: &Node| matches!(self.release, Release::Heard(at) if own.revision >= at);
        let is_out = |own: &Node| own.status != NodeStatus::Ready && is_known(own);
        self.known.own.as_deref().is_some_and(is_out) || self.company == Company::Forgotten
    }

    /// When a node without a session counts as lost.
    pub(super) fn forgotten_at(&self) -> Option<Moment> {
        match self.company {
            Company::AloneSince(since) => Some(since.after(self.known.settings.lease.wait())),
            Company::Leader | Company::Forgotten => None,
        }
    }

    /// Asks the leader, if there is one, for this node's work to go elsewhere. The answer is in its acknowledgement of
    /// what is sent after that.
    pub(super) fn say_release(&mut self, now: Moment, out: &mut Vec<Action>) {
        self.release = Release::Said(now);
        out.extend([Action::Say(ToLeader::Release), Action::HeartbeatNow]);
    }

    pub(super) fn release_heard(&mut self, ack: &Acknowledged) {
        if matches!(self.release, Release::Said(at) if at <= ack.sent_at && ack.boot == self.identity.boot) {
            self.release = Release::Heard(ack.own);
        }
    }
}
