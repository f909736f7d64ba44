//! What a leader remembers of the replicated state: since when it sees things.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{LeaveReason, Moment, NodeId, NodeStatus, Phase};

use super::{Departed, Former, Hint, Seen, Sessions};
use crate::state::{Bucket, State};

impl Sessions {
    /// Takes note of bindings that are new, leaving or gone, and of buckets that are gone. Call before [`Self::release`].
    pub fn observe(&mut self, state: &State, now: Moment) {
        for (name, binding) in &state.bindings {
            let fresh =
                || Seen { epoch: binding.epoch, applied: now, leaving: None, grace: None, fenced: None };
            let seen = self.seen.entry(name.clone()).or_insert_with(fresh);
            if seen.epoch != binding.epoch {
                *seen = fresh();
            }
            if binding.leaving.is_some() && seen.leaving.is_none() {
                seen.leaving = Some(now);
            }
            match &binding.leaving {
                Some(LeaveReason::Move(to)) => {
                    self.moves.insert(name.clone(), Hint { from: binding.node, to: *to });
                }
                _ if self.moves.is_empty() => {}
                _ => drop(self.moves.remove(name)),
            }
        }
        self.moves.retain(|name, _| state.buckets.contains_key(name));
        self.observe_former(state, now);
        self.observe_nodes(state, now);
        self.observe_rollouts(state, now);
        if self.seen.len() > state.bindings.len() {
            self.seen.retain(|name, _| state.bindings.contains_key(name));
        }
        if self.given_up.len() > state.bindings.len() {
            self.given_up.retain(|name, _| state.bindings.contains_key(name));
        }
        self.observe_answers(state, now);
    }

    fn observe_former(&mut self, state: &State, now: Moment) {
        let changed = state.cluster.lease_changed;
        self.former = match (state.cluster.former, self.former) {
            (Some(settings), Some(known)) if settings == known.settings && changed == known.changed => {
                Some(known)
            }
            (Some(settings), _) => Some(Former { settings, changed, since: now }),
            (None, _) => None,
        };
    }

    fn observe_nodes(&mut self, state: &State, now: Moment) {
        for node in state.nodes.values() {
            if node.drain.is_some() {
                self.drains.entry(node.id).or_insert(now);
            } else if !self.drains.is_empty() {
                self.drains.remove(&node.id);
                self.departed.remove(&node.id);
            }
            if node.status == NodeStatus::Joining {
                self.joining.entry(node.id).or_insert(now);
            } else if !self.joining.is_empty() {
                self.joining.remove(&node.id);
            }
        }
        if !self.drains.is_empty() {
            let drained = state.bindings.values().filter(|it| it.leaving == Some(LeaveReason::Drained));
            for binding in drained.filter(|binding| self.drains.contains_key(&binding.node)) {
                let departed = Departed { bucket: binding.bucket.clone(), since: now };
                self.departed.insert(binding.node, departed);
            }
        }
    }

    /// The bucket that left `node` last because it is drained; none: none did that this leader has seen.
    pub(crate) fn departed(&self, node: NodeId) -> Option<&Departed> {
        self.departed.get(&node)
    }

    fn observe_rollouts(&mut self, state: &State, now: Moment) {
        let rolling = |bucket: &&Arc<Bucket>| bucket.next.is_some();
        let mut running = BTreeMap::new();
        for bucket in state.unsettled().filter(rolling) {
            let instances = state.instances.get(bucket.name()).into_iter().flatten();
            for (node, instance) in instances.filter(|(_, instance)| instance.phase == Phase::Running) {
                let key = (bucket.name().clone(), *node);
                let known = self.running.get(&key).filter(|(revision, _)| *revision == instance.revision);
                running.insert(key, known.copied().unwrap_or((instance.revision, now)));
            }
        }
        self.running = running;
    }
}
