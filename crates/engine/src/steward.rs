//! What the leader owes the cluster now. It looks at all that may be due, every time; nothing is remembered but sessions.

use std::collections::BTreeMap;
use std::iter::Peekable;

use sheaf_model::{
    Binding, BucketName, Gate, LeaveReason, ModuleName, Moment, Node, NodeId, NodeStatus, OnNodeLost,
    Placement, Span, Stop, Timestamp, Verdict,
};

use crate::command::{Bind, Command, Free, Leave, SetNodeStatus, SettingsCommand, SettleLease};
use crate::placement::{self, Candidate};
use crate::sessions::{Release, Sessions, longest_wait};
use crate::state::{Bucket, State};

mod drains;
mod ends;
mod jobs;
mod rollouts;
mod rotation;

/// What to propose, and when to look again if nothing happens before.
#[derive(Debug, Default)]
pub struct Due {
    /// In this order.
    pub commands: Vec<Command>,
    /// None: only a change or an answer can make more due.
    pub wake_at: Option<Moment>,
}

impl Due {
    fn wake(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

/// Everything that is due at `now`, which is `wall` for people, in the term of `sessions`. Decides fences on the way.
pub fn due(state: &State, sessions: &mut Sessions, now: Moment, wall: Timestamp) -> Due {
    let mut due = Due::default();
    if sessions.is_frozen() {
        return due;
    }
    sessions.observe(state, now);
    if let Some((over, changed)) = sessions.former_over() {
        if now >= over {
            let settle = SettleLease { changed, term: sessions.term };
            due.commands.push(Command::Settings(SettingsCommand::Settle(settle)));
        } else {
            due.wake(over);
        }
    }
    nodes(state, sessions, now, &mut due);
    drains::due(state, sessions, now, &mut due);
    rollouts::due(state, sessions, now, &mut due);
    ends::due(state, sessions, now, wall, &mut due);
    rotation::due(state, sessions, now, wall, &mut due);
    jobs::due(state, sessions, now, wall, &mut due);
    bindings(state, sessions, now, &mut due);
    unbound(state, sessions, now, &mut due);
    due
}

/// Who is ready, who is lost.
fn nodes(state: &State, sessions: &Sessions, now: Moment, due: &mut Due) {
    let wait = longest_wait(state);
    for node in state.nodes.values() {
        let silent_until = sessions.last_heard(node.id).max(sessions.elected).after(wait);
        let silent = now >= silent_until;
        let connected = sessions.is_connected(node.id) && !silent;
        let restarting = sessions.is_restarting(node.id);
        let releasing = sessions.is_releasing(node.id);
        let verdict = match node.status {
            NodeStatus::Ready | NodeStatus::Draining if connected && restarting => {
                Some((NodeStatus::Restarting, "a stand-in holds its leases".to_owned()))
            }
            // Once this is in the log nothing can be bound there, whatever was decided before: its agent waits for that.
            NodeStatus::Ready if connected && releasing => {
                Some((NodeStatus::Restarting, "its agent stops and hands its work over".to_owned()))
            }
            NodeStatus::Joining | NodeStatus::Lost | NodeStatus::Restarting
                if connected && !restarting && !releasing =>
            {
                let back = if node.drain.is_some() { NodeStatus::Draining } else { NodeStatus::Ready };
                Some((back, String::new()))
            }
            // One that died before its first session would keep its name for ever.
            NodeStatus::Joining if silent => {
                Some((NodeStatus::Lost, format!("not heard within {wait} of its registration")))
            }
            NodeStatus::Ready | NodeStatus::Restarting | NodeStatus::Draining if silent => {
                Some((NodeStatus::Lost, format!("not heard for {wait}")))
            }
            NodeStatus::Joining | NodeStatus::Ready | NodeStatus::Restarting | NodeStatus::Draining => {
                due.wake(silent_until);
                None
            }
            NodeStatus::Lost | NodeStatus::Left => None,
        };
        if let Some((status, reason)) = verdict {
            let term = Some(sessions.term);
            due.commands.push(Command::SetNodeStatus(SetNodeStatus { node: node.id, status, reason, term }));
        }
    }
}

/// Which bindings are to leave, which may be freed.
fn bindings(state: &State, sessions: &mut Sessions, now: Moment, due: &mut Due) {
    for binding in state.bindings.values() {
        let known = state.buckets.get(&binding.bucket);
        let bucket = known.filter(|bucket| !bucket.current.spec.multi_node);
        let keep = bucket.is_some_and(|bucket| bucket.current.spec.on_node_lost == OnNodeLost::Wait);
        let grace = known.map(|bucket| stop_grace(state, bucket));
        match sessions.release(state, &binding.bucket, grace, keep, now) {
            Release::Free(why) => {
                let (bucket, epoch) = (binding.bucket.clone(), binding.epoch);
                due.commands.push(Command::Free(Free { bucket, epoch, term: sessions.term, why }));
                continue;
            }
            Release::Hold(Some(at)) => due.wake(at),
            Release::Hold(None) => {}
        }
        let (Some(bucket), None) = (bucket, &binding.leaving) else { continue };
        if sessions.is_releasing(binding.node) {
            due.commands.push(leave(sessions, binding, LeaveReason::Drained));
            continue;
        }
        let release = bucket.release_for(binding.node);
        let verdict = sessions.verdict(&binding.bucket, release.revision, binding.node);
        let refused = verdict.and_then(|verdict| verdict.refusal()).filter(|(_, o)| o.pass == Some(false));
        if let Some((gate, outcome)) = refused {
            let reason = LeaveReason::NotAvailable(gate, outcome.reason.to_string());
            due.commands.push(leave(sessions, binding, reason));
        }
    }
}

fn leave(sessions: &Sessions, binding: &Binding, reason: LeaveReason) -> Command {
    Command::Leave(Leave {
        bucket: binding.bucket.clone(),
        epoch: binding.epoch,
        reason,
        term: Some(sessions.term),
    })
}

/// How long the bucket's module may take to stop.
fn stop_grace(state: &State, bucket: &Bucket) -> Span {
    state.module(&bucket.current.spec.module).map_or(Stop::default().grace, |module| module.spec.stop.grace)
}

/// Places what should run and is bound nowhere.
fn unbound(state: &State, sessions: &Sessions, now: Moment, due: &mut Due) {
    let waiting = |bucket: &&std::sync::Arc<Bucket>| {
        let name = bucket.name();
        !bucket.is_off()
            && !bucket.current.spec.multi_node
            // A trial is made once.
            && (bucket.trial.is_none() || bucket.gave_up.is_empty())
            && !state.bindings.contains_key(name)
            && !state.residues.contains_key(name)
    };
    let mut floor: Option<(Vec<NodeId>, Occupancy<'_>)> = None;
    for bucket in state.unsettled().filter(waiting) {
        let (expected, occupancy) =
            floor.get_or_insert_with(|| (expected(state, sessions, now), Occupancy::count(state, sessions)));
        if !ready_to_choose(state, sessions, bucket, (expected, now), due) {
            continue;
        }
        if let Some(bind) = place(sessions, bucket, occupancy, None) {
            occupancy.add(bucket, bind.node);
            due.commands.push(Command::Bind(bind));
        }
    }
}

/// Nodes whose answers are waited for, in order: those connected, and just after an election also those that are still
/// on their way to the new leader.
fn expected(state: &State, sessions: &Sessions, now: Moment) -> Vec<NodeId> {
    let settled = sessions.elected.after(state.cluster.settings.offer_window);
    let is_expected =
        |node: &&Node| sessions.is_answering(node.id) || (now < settled && node.status == NodeStatus::Ready);
    state.nodes.values().filter(is_expected).map(|node| node.id).collect()
}

/// Every node that is expected to has answered, or the offer window after the first answer is over.
fn ready_to_choose(
    state: &State,
    sessions: &Sessions,
    bucket: &Bucket,
    (expected, now): (&[NodeId], Moment),
    due: &mut Due,
) -> bool {
    let revision = bucket.current.revision;
    let Some(first) = sessions.first_answer(bucket.name(), revision) else { return false };
    let mut answers = Answers::new(sessions, bucket);
    if expected.iter().all(|node| answers.of(*node).is_some()) {
        return true;
    }
    let until = first.after(state.cluster.settings.offer_window);
    if now < until {
        due.wake(until);
    }
    now >= until
}

/// What nodes answered for a bucket, to be asked for in the order of nodes: one walk over all of them.
struct Answers<'a, I: Iterator<Item = (NodeId, &'a Verdict)>>(Peekable<I>);

impl<'a> Answers<'a, std::iter::Empty<(NodeId, &'a Verdict)>> {
    fn new(
        sessions: &'a Sessions,
        bucket: &Bucket,
    ) -> Answers<'a, impl Iterator<Item = (NodeId, &'a Verdict)>> {
        Answers(sessions.verdicts(bucket.name(), bucket.current.revision).peekable())
    }
}

impl<'a, I: Iterator<Item = (NodeId, &'a Verdict)>> Answers<'a, I> {
    fn of(&mut self, node: NodeId) -> Option<&'a Verdict> {
        while self.0.next_if(|(id, _)| *id < node).is_some() {}
        self.0.next_if(|(id, _)| *id == node).map(|(_, verdict)| verdict)
    }
}

/// Where a bucket would go now if it left `from`, and why there; none: nowhere.
pub fn elsewhere(
    state: &State,
    sessions: &Sessions,
    bucket: &Bucket,
    from: NodeId,
) -> Option<(NodeId, String)> {
    let bind = place(sessions, bucket, &Occupancy::count(state, sessions), Some(from))?;
    Some((bind.node, bind.decision.why))
}

/// Where what is bound to `from` would go now, one after the other, as a drain moves it; without what could go nowhere.
pub fn emptied(state: &State, sessions: &Sessions, from: NodeId) -> BTreeMap<BucketName, (NodeId, String)> {
    let mut occupancy = Occupancy::count(state, sessions);
    let mut all = BTreeMap::new();
    for binding in state.bindings.values().filter(|binding| binding.node == from) {
        let Some(bucket) = state.buckets.get(&binding.bucket) else { continue };
        occupancy.remove(bucket, from);
        match place(sessions, bucket, &occupancy, Some(from)) {
            Some(bind) => {
                occupancy.add(bucket, bind.node);
                all.insert(bind.bucket, (bind.node, bind.decision.why));
            }
            None => occupancy.add(bucket, from),
        }
    }
    all
}

fn place(
    sessions: &Sessions,
    bucket: &Bucket,
    occupancy: &Occupancy<'_>,
    except: Option<NodeId>,
) -> Option<Bind> {
    let spec = &bucket.current.spec;
    let (mut candidates, mut refusals, mut silent) = (Vec::new(), Vec::new(), 0);
    let zones = occupancy.zones(bucket);
    let mut answers = Answers::new(sessions, bucket);
    for node in occupancy.there.iter().filter(|node| Some(node.id) != except) {
        match answers.of(node.id) {
            None => silent += 1,
            Some(verdict) => match verdict.refusal() {
                Some((gate, outcome)) => refusals.push((gate, outcome.reason.clone())),
                None if bucket.gave_up.contains_key(&node.id) => {
                    refusals.push((Gate::CanRunOnThisNode, "its instance gave up restarting".into()));
                }
                None if node.status == NodeStatus::Ready => {
                    candidates.push(occupancy.candidate(bucket, node, &zones, sessions));
                }
                None => {}
            },
        }
    }
    let hint = sessions.hint(bucket.name());
    let wanted = hint.and_then(|hint| hint.to);
    if let Some(wanted) = wanted.filter(|node| candidates.iter().any(|it| it.node == *node)) {
        candidates.retain(|candidate| candidate.node == wanted);
    } else if let Some(hint) = hint.filter(|_| candidates.len() > 1) {
        candidates.retain(|candidate| candidate.node != hint.from);
    }
    let basis = bucket.current.revision;
    let choice = placement::choose(bucket.name(), basis, &spec.placement, &candidates, refusals, silent)?;
    Some(Bind {
        bucket: bucket.name().clone(),
        node: choice.node,
        basis,
        term: sessions.term,
        decision: choice.decision,
    })
}

/// Nodes that can be asked, and single-node bindings counted by node, and by module and node; with those decided in
/// this very pass.
struct Occupancy<'a> {
    state: &'a State,
    there: Vec<&'a Node>,
    by_node: BTreeMap<NodeId, u32>,
    by_module: BTreeMap<ModuleName, BTreeMap<NodeId, u32>>,
}

impl<'a> Occupancy<'a> {
    fn count(state: &'a State, sessions: &Sessions) -> Self {
        let is_there = |node: &&Node| sessions.is_answering(node.id) && !sessions.is_releasing(node.id);
        let there = state.nodes.values().filter(is_there).collect();
        let mut counted = Self { state, there, by_node: BTreeMap::new(), by_module: BTreeMap::new() };
        for binding in state.bindings.values() {
            match state.buckets.get(&binding.bucket) {
                Some(bucket) => counted.add(bucket, binding.node),
                None => *counted.by_node.entry(binding.node).or_default() += 1,
            }
        }
        counted
    }

    fn add(&mut self, bucket: &Bucket, node: NodeId) {
        *self.by_node.entry(node).or_default() += 1;
        let module = self.by_module.entry(bucket.current.spec.module.name.clone()).or_default();
        *module.entry(node).or_default() += 1;
    }

    fn remove(&mut self, bucket: &Bucket, node: NodeId) {
        let of_module = self.by_module.get_mut(&bucket.current.spec.module.name);
        let counts = [self.by_node.get_mut(&node), of_module.and_then(|nodes| nodes.get_mut(&node))];
        counts.into_iter().flatten().for_each(|count| *count = count.saturating_sub(1));
    }

    /// How many of the bucket's module are bound in each zone over which it is spread.
    fn zones(&self, bucket: &Bucket) -> BTreeMap<&'a str, u32> {
        let mut zones = BTreeMap::new();
        let spec = &bucket.current.spec;
        if let Placement::Spread(label) = &spec.placement {
            for (node, bound) in self.by_module.get(&spec.module.name).into_iter().flatten() {
                if let Some(zone) = self.state.nodes.get(node).and_then(|node| zone(node, label)) {
                    *zones.entry(zone).or_default() += bound;
                }
            }
        }
        zones
    }

    fn candidate(
        &self,
        bucket: &Bucket,
        node: &Node,
        zones: &BTreeMap<&str, u32>,
        sessions: &Sessions,
    ) -> Candidate {
        let zone = match &bucket.current.spec.placement {
            Placement::Spread(label) => zone(node, label),
            _ => None,
        };
        Candidate {
            node: node.id,
            name: node.facts.name.clone(),
            bound: self.by_node.get(&node.id).copied().unwrap_or_default(),
            load: sessions.load(node.id).load / f64::from(node.facts.cpu.max(1)),
            zone: zone.map(str::to_owned),
            zone_bound: zone.and_then(|zone| zones.get(zone)).copied().unwrap_or_default(),
        }
    }
}

/// The value of the first of the node's labels with this key.
fn zone<'a>(node: &'a Node, label: &str) -> Option<&'a str> {
    let mut labels = node.facts.labels.iter().chain(&node.given_labels);
    labels.find_map(|text| text.strip_prefix(label)?.strip_prefix('='))
}

#[cfg(test)]
mod tests;
