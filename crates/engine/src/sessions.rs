//! The leader's side of sessions: who was heard when, what nodes answered, and which epochs it still acknowledges.
//!
//! Ephemeral: a new leader begins with an empty [`Sessions`] at its election. Everything here is decided under one
//! lock, so that an epoch that is fenced is never acknowledged again in this term.
//!
//! ```text
//!  heartbeat ──heard──► waiting ──take_round──► (quorum round) ──acknowledge──► epochs named, unless fenced
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::session::{Acknowledged, Heartbeat, Hello};
use sheaf_model::{
    BootId, BucketName, Bytes, Epoch, Incarnation, LeaseSettings, Load, Moment, Node, NodeId, NodeStatus,
    Revision, Settings, Span, Stop, Term, Verdict,
};

use crate::state::State;

mod answers;
mod observe;

use answers::Answers;

/// How many heartbeats a node may miss before people are told.
const SUSPECT_AFTER: u64 = 3;

/// What the leader knows of one term of its own.
#[derive(Debug)]
pub struct Sessions {
    /// The term; another leadership begins anew.
    pub term: Term,
    /// When this leader was elected, by its own clock.
    pub elected: Moment,
    nodes: BTreeMap<NodeId, Session>,
    answers: BTreeMap<BucketName, Answers>,
    /// Answers about what this leader has not applied yet.
    early: BTreeMap<NodeId, BTreeMap<BucketName, Arc<Verdict>>>,
    waiting: Vec<Waiting>,
    seen: BTreeMap<BucketName, Seen>,
    /// By the nodes to which they are bound: nobody else has a say.
    given_up: BTreeMap<BucketName, (NodeId, Epoch)>,
    /// Since when this leader sees each drain.
    drains: BTreeMap<NodeId, Moment>,
    /// Which bucket left each node last because it is drained.
    departed: BTreeMap<NodeId, Departed>,
    /// Since when this leader sees each node that is joining.
    joining: BTreeMap<NodeId, Moment>,
    /// Since when this leader sees that leases may be out under former settings.
    former: Option<Former>,
    /// Where buckets that an operator moves are to go.
    moves: BTreeMap<BucketName, Hint>,
    /// Since when instances are seen to run what a rollout brought them.
    running: BTreeMap<(BucketName, NodeId), (Revision, Moment)>,
    /// How many times leadership is being handed over: meanwhile nothing is acknowledged or decided.
    frozen: u32,
    /// How far what nodes say has come.
    told: Heard,
}

/// How far what nodes say has come in one term: whoever shows it looks again when this has moved on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Counts sessions that opened and streams that ended: they bear on every bucket.
    pub sessions: u64,
    /// Counts verdicts; see [`Sessions::answered_since`].
    pub verdicts: u64,
}

/// An operator's wish for a bucket that leaves its node. Forgotten with this leadership: then the steward chooses as it
/// would for any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Not here, if there is another.
    pub from: NodeId,
    /// Here, if it is available.
    pub to: Option<NodeId>,
}

/// A bucket that left a node because it is drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Departed {
    /// Which one.
    pub(crate) bucket: BucketName,
    /// When it was last seen bound there.
    pub(crate) since: Moment,
}

/// A node, as heard in this term.
#[derive(Debug)]
struct Session {
    incarnation: Incarnation,
    boot: BootId,
    /// How many streams of this incarnation stand. A new one may open before the end of the former one is noticed.
    standing: u32,
    /// A stand-in opened the newest of them: the agent is away by plan.
    stand_in: bool,
    /// Its agent stops once nothing is bound to it; never undone in this life of it.
    releases: bool,
    /// Until then a former life of its agent may run single-node work.
    start_from: Moment,
    last_heard: Moment,
    /// None: it has not said it yet.
    load: Option<Load>,
    /// The newest state that it said it has seen.
    seen: Revision,
    /// What it said last of any bucket; none: nothing of it is kept. Of many buckets it says the same, and that is kept once.
    said: Option<Arc<Verdict>>,
}

impl Session {
    const fn is_connected(&self) -> bool {
        self.standing > 0
    }

    fn share(&mut self, verdict: &mut Arc<Verdict>) {
        match &self.said {
            Some(said) if said.gates == verdict.gates && said.module == verdict.module => {
                // What somebody else keeps as well would only become one more.
                if let Some(verdict) = Arc::get_mut(verdict) {
                    verdict.gates = said.gates.clone();
                    verdict.module = said.module.clone();
                }
            }
            _ => self.said = Some(verdict.clone()),
        }
    }
}

/// A heartbeat that waits for a quorum round begun after it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Who sent it.
    pub node: NodeId,
    /// In which boot.
    pub boot: BootId,
    /// When, by its clock.
    pub sent_at: Moment,
}

/// A binding as this leader knows it.
#[derive(Debug)]
struct Seen {
    epoch: Epoch,
    /// When this leader first saw it applied; not before its election.
    applied: Moment,
    /// When it was first seen leaving.
    leaving: Option<Moment>,
    /// The longest that what runs may take to stop, as far as was seen before it was leaving: its bucket may be gone since, or be
    /// another one's of that name. What has ended with an update does not count.
    grace: Option<Span>,
    /// From when on W counts, once it is named no more.
    fenced: Option<Moment>,
}

/// Settings under which leases may still be out.
#[derive(Clone, Copy, Debug)]
struct Former {
    /// The longest of them.
    settings: Settings,
    /// The last change of the lease: up to it leases may have been given under any of them.
    changed: Revision,
    /// When this leader saw that change.
    since: Moment,
}

/// What may happen to an epoch now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Not yet; look again at this moment, if any.
    Hold(Option<Moment>),
    /// It may be freed, and why.
    Free(String),
}

impl Sessions {
    /// A leadership that begins `now`, in `term`.
    pub fn new(term: Term, now: Moment) -> Self {
        Self {
            term,
            elected: now,
            nodes: BTreeMap::new(),
            answers: BTreeMap::new(),
            early: BTreeMap::new(),
            waiting: Vec::new(),
            seen: BTreeMap::new(),
            given_up: BTreeMap::new(),
            drains: BTreeMap::new(),
            departed: BTreeMap::new(),
            joining: BTreeMap::new(),
            former: None,
            moves: BTreeMap::new(),
            running: BTreeMap::new(),
            frozen: 0,
            told: Heard::default(),
        }
    }

    /// How far what nodes say has come.
    pub const fn told(&self) -> Heard {
        self.told
    }

    /// Leadership is about to be handed over, or after all it is not: to be said once by each that has said the former. While
    /// frozen nothing is acknowledged, fenced or decided; what is heard still counts.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = if frozen { self.frozen.saturating_add(1) } else { self.frozen.saturating_sub(1) };
    }

    /// Whether leadership is being handed over.
    pub fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    /// Whether a session may open: a live agent of another incarnation with the same number is not replaced while it is
    /// heard. To be asked before anything that the newcomer says of itself is believed.
    ///
    /// # Errors
    /// What to tell the newcomer.
    pub fn admits(
        &self,
        node: NodeId,
        incarnation: &Incarnation,
        now: Moment,
        live_for: Span,
    ) -> Result<(), String> {
        match self.nodes.get(&node) {
            Some(former)
                if former.is_connected()
                    && former.incarnation != *incarnation
                    && now.since(former.last_heard) < live_for =>
            {
                Err(format!("another agent is live as node {node}; one data directory serves one agent"))
            }
            _ => Ok(()),
        }
    }

    /// A session opens. Returns for how long the node may start no single-node work: a former life of its agent, on this
    /// machine or on another with a copy of its data directory, may run until W after it was last heard. A node that is
    /// joining never had one, and one that is not fresh was told by whoever welcomed it. What this leader knows counts all the
    /// same: the other may have been deposed, and not have heard the former life since.
    ///
    /// # Errors
    /// As [`Sessions::admits`].
    pub fn opened(&mut self, hello: &Hello, state: &State, now: Moment) -> Result<Span, String> {
        self.admits(hello.node, &hello.incarnation, now, state.cluster.settings.lease.ttl)?;
        let joining = state.nodes.get(&hello.node).is_some_and(|node| node.status == NodeStatus::Joining);
        let former = self.nodes.get(&hello.node);
        let same = former.filter(|former| former.incarnation == hello.incarnation);
        let wait = longest_wait(state);
        let start_from = match (same, former) {
            (Some(same), _) => same.start_from,
            (None, Some(former)) => former.last_heard.after(wait),
            // Whoever led before may have heard it until now.
            (None, None) if hello.fresh && !joining => self.elected.after(wait),
            (None, None) => Moment(0),
        };
        let standing = same.map_or(0, |former| former.standing).saturating_add(1);
        let session = Session {
            incarnation: hello.incarnation.clone(),
            boot: hello.boot.clone(),
            standing,
            stand_in: hello.stand_in,
            releases: same.is_some_and(|former| former.releases),
            start_from,
            last_heard: former.map_or(now, |former| former.last_heard.max(now)),
            load: former.and_then(|former| former.load),
            seen: former.map(|former| former.seen).unwrap_or_default(),
            said: former.and_then(|former| former.said.clone()),
        };
        self.nodes.insert(hello.node, session);
        self.told.sessions += 1;
        Ok(start_from.since(now))
    }

    /// Whether what a stream of this incarnation brings is what the node says now.
    pub fn is_of(&self, node: NodeId, incarnation: &Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|session| session.incarnation == *incarnation)
    }

    /// A session's stream ended, once for each that opened. The node counts as heard until now; its leases run on.
    pub fn closed(&mut self, node: NodeId, incarnation: &Incarnation) {
        if let Some(session) = self.nodes.get_mut(&node)
            && session.incarnation == *incarnation
        {
            session.standing = session.standing.saturating_sub(1);
            self.told.sessions += 1;
        }
    }

    /// A heartbeat came. It is acknowledged after a quorum round that begins later than this. Returns when the node was
    /// heard before; none: it has no session.
    pub fn heard(&mut self, node: NodeId, heartbeat: &Heartbeat, now: Moment) -> Option<Moment> {
        let session = self.nodes.get_mut(&node)?;
        let before = session.last_heard;
        // Of two streams the later heartbeat may be taken in first.
        session.last_heard = before.max(now);
        // What is heard comes through a session that stands, whatever ended of an earlier term.
        session.standing = session.standing.max(1);
        session.load = Some(heartbeat.load);
        session.seen = session.seen.max(heartbeat.seen);
        let boot = session.boot.clone();
        self.waiting.retain(|waiting| waiting.node != node);
        self.waiting.push(Waiting { node, boot, sent_at: heartbeat.sent_at });
        Some(before)
    }

    /// The heartbeats that the quorum round beginning now will serve.
    pub fn take_round(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether any heartbeat waits for a round.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The round is done and `state` has applied at least what was committed when it began, with an entry of this
    /// term: names to each node what is bound to it and not fenced.
    pub fn acknowledge(&self, state: &State, round: Vec<Waiting>) -> Vec<(NodeId, Acknowledged)> {
        if self.is_frozen() {
            return Vec::new();
        }
        let asked: BTreeSet<NodeId> = round.iter().map(|waiting| waiting.node).collect();
        let mut bound: BTreeMap<NodeId, Vec<(BucketName, Epoch)>> = BTreeMap::new();
        for binding in state.bindings.values().filter(|binding| asked.contains(&binding.node)) {
            if !self.is_fenced(&binding.bucket, binding.epoch) {
                bound.entry(binding.node).or_default().push((binding.bucket.clone(), binding.epoch));
            }
        }
        let LeaseSettings { ttl, heartbeat, .. } = state.cluster.settings.lease;
        let answer = |waiting: Waiting| {
            let epochs = bound.remove(&waiting.node).unwrap_or_default();
            let Waiting { node, boot, sent_at } = waiting;
            let own = state.nodes.get(&node).map(|node| node.revision).unwrap_or_default();
            (node, Acknowledged { boot, sent_at, ttl, epochs, heartbeat, own, traces: Vec::new() })
        };
        round.into_iter().map(answer).collect()
    }

    fn is_fenced(&self, bucket: &BucketName, epoch: Epoch) -> bool {
        self.seen.get(bucket).is_some_and(|seen| seen.epoch == epoch && seen.fenced.is_some())
    }

    /// Since when a node is seen to run this revision of a bucket that is being rolled out, without a break.
    pub(crate) fn running_since(
        &self,
        bucket: &BucketName,
        node: NodeId,
        revision: Revision,
    ) -> Option<Moment> {
        let (seen, since) = self.running.get(&(bucket.clone(), node))?;
        (*seen == revision).then_some(*since)
    }

    /// When every lease that was given under former settings is over, and up to which change that holds; none: there
    /// are no former settings.
    pub fn former_over(&self) -> Option<(Moment, Revision)> {
        self.former.map(|former| (former.since.after(former.settings.lease.wait()), former.changed))
    }

    /// When a drain's deadline is; none: it has none, or there is no drain.
    pub fn drain_over(&self, node: &Node) -> Option<Moment> {
        let deadline = node.drain?.deadline?;
        self.drains.get(&node.id).map(|since| since.after(deadline))
    }

    /// Where an operator wants a bucket that it moves.
    pub fn hint(&self, bucket: &BucketName) -> Option<Hint> {
        self.moves.get(bucket).copied()
    }

    /// What may happen to the epoch bound under `bucket` now. Fences it when it is time; a fence is never undone.
    ///
    /// `stop_grace` is how long the bucket's module may take to stop; none: the bucket is gone. `keep` says that a lost node keeps
    /// this bucket.
    pub fn release(
        &mut self,
        state: &State,
        bucket: &BucketName,
        stop_grace: Option<Span>,
        keep: bool,
        now: Moment,
    ) -> Release {
        /// How long after its stop grace a leaving epoch of a live node is fenced.
        const PATIENCE: Span = Span::seconds(5);
        let Some(binding) = state.bindings.get(bucket) else { return Release::Hold(None) };
        if self.given_up.get(bucket) == Some(&(binding.node, binding.epoch)) {
            return Release::Free("given up by its node".to_owned());
        }
        let wait = longest_wait(state);
        let heard = self.nodes.get(&binding.node).map_or(self.elected, |session| session.last_heard);
        let heard = heard.max(self.elected);
        let drain_over = state.nodes.get(&binding.node).and_then(|node| self.drain_over(node));
        let Some(seen) = self.seen.get_mut(bucket) else { return Release::Hold(Some(now)) };
        if binding.leaving.is_none() && seen.grace != stop_grace {
            let there = state.buckets.get(bucket).zip(state.instances.get(bucket));
            let is_up_to_date = there.is_some_and(|(known, instances)| {
                let instance = instances.get(&binding.node).filter(|it| it.epoch == Some(binding.epoch));
                instance.is_some_and(|instance| instance.revision >= known.current.revision)
            });
            // What it runs may be of a former release, and take longer.
            seen.grace = if is_up_to_date { stop_grace } else { seen.grace.max(stop_grace) };
        }
        if seen.fenced.is_none() {
            let grace = seen.grace.max(stop_grace).unwrap_or_else(|| longest_grace(state));
            let silent_until = heard.after(wait);
            let patience_until = seen.leaving.map(|since| {
                let until = since.after(grace).after(PATIENCE);
                drain_over.map_or(until, |over| over.min(until))
            });
            let silent = now >= silent_until && (!keep || binding.leaving.is_some());
            if !silent && patience_until.is_none_or(|until| now < until) {
                let silence = (!keep || binding.leaving.is_some()).then_some(silent_until);
                return Release::Hold([silence, patience_until].into_iter().flatten().min());
            }
            seen.fenced = Some(heard.max(seen.applied));
        }
        let since = seen.fenced.unwrap_or(now);
        let free_at = since.after(wait);
        if now < free_at {
            return Release::Hold(Some(free_at));
        }
        let name = state.node_name(binding.node);
        Release::Free(format!("fenced: not acknowledged to node {name} for {}", now.since(since)))
    }

    /// Nodes connected now.
    pub fn connected(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|(_, session)| session.is_connected()).map(|(id, _)| *id)
    }

    /// Whether the node's session stands.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(Session::is_connected)
    }

    /// Whether a stand-in holds the node's leases while its agent restarts.
    pub fn is_restarting(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|session| session.is_connected() && session.stand_in)
    }

    /// Whether the node's agent is there and can be asked.
    pub fn is_answering(&self, node: NodeId) -> bool {
        self.is_connected(node) && !self.is_restarting(node)
    }

    /// A node is to be left without work, since its agent is about to stop.
    pub fn release_all(&mut self, node: NodeId) {
        if let Some(session) = self.nodes.get_mut(&node) {
            session.releases = true;
        }
    }

    /// Whether the node's agent waits for that.
    pub fn is_releasing(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|session| session.is_connected() && session.releases)
    }

    /// When the node was last heard in this term; if never, the election, or when it was first seen joining.
    pub fn last_heard(&self, node: NodeId) -> Moment {
        let never = || self.joining.get(&node).map_or(self.elected, |since| self.elected.max(*since));
        self.nodes.get(&node).map_or_else(never, |session| session.last_heard)
    }

    /// Whether the node missed heartbeats lately.
    pub fn is_suspect(&self, state: &State, node: NodeId, now: Moment) -> bool {
        now.since(self.last_heard(node)).0 > SUSPECT_AFTER * longest_heartbeat(state).0
    }

    /// How busy the node said it is.
    pub fn load(&self, node: NodeId) -> Load {
        self.nodes.get(&node).and_then(|session| session.load).unwrap_or_default()
    }

    /// What the node said is available on its disk; none: it has not said it yet, or does not know.
    pub fn disk_available(&self, node: NodeId) -> Option<Bytes> {
        let load = self.nodes.get(&node)?.load?;
        (!load.disk_unknown).then_some(load.disk_available)
    }

    /// The newest state that the node said it has seen; 0 if it said nothing.
    pub fn seen(&self, node: NodeId) -> Revision {
        self.nodes.get(&node).map(|session| session.seen).unwrap_or_default()
    }
}

/// How far apart heartbeats are; after a change of the settings the larger of old and new: a node learns of it when its next one is
/// acknowledged.
fn longest_heartbeat(state: &State) -> Span {
    let former = state.cluster.former.map(|settings| settings.lease.heartbeat).unwrap_or_default();
    state.cluster.settings.lease.heartbeat.max(former)
}

/// How long what runs may take to stop whose module is not known.
fn longest_grace(state: &State) -> Span {
    let modules = state.modules.values().flat_map(BTreeMap::values);
    modules.map(|module| module.spec.stop.grace).max().unwrap_or(Stop::default().grace)
}

/// W; after a change of the settings the larger of old and new.
pub fn longest_wait(state: &State) -> Span {
    let former = state.cluster.former.map(|settings| settings.lease.wait()).unwrap_or_default();
    state.cluster.settings.lease.wait().max(former)
}

#[cfg(test)]
mod tests {
    use sheaf_model::Setting;

    use super::*;
    use crate::testing::World;
    use crate::{Command, Reply, SettingsCommand};

    const NODE: NodeId = NodeId(1);

    fn open(sessions: &mut Sessions, incarnation: &str, now: u64) -> Result<Span, String> {
        let world = World::unformed();
        sessions.opened(&world.hello(NODE.0, incarnation), &world.state, Moment(now))
    }

    #[test]
    fn the_late_end_of_a_former_stream_does_not_disconnect_the_agent_that_opened_another() {
        let mut sessions = Sessions::new(Term(1), Moment(0));
        open(&mut sessions, "i1", 1).expect("nobody else is live");
        open(&mut sessions, "i1", 2).expect("the same agent, whose first stream is not known to be over");
        sessions.closed(NODE, &"i1".into());
        assert!(sessions.is_connected(NODE), "its second stream stands");
        assert!(open(&mut sessions, "i2", 3).is_err(), "and so another agent is refused");
        sessions.closed(NODE, &"i1".into());
        assert!(!sessions.is_connected(NODE));
    }

    #[test]
    fn a_heartbeat_that_is_taken_in_late_lets_nobody_be_heard_earlier() {
        let mut sessions = Sessions::new(Term(1), Moment(0));
        open(&mut sessions, "i1", 1).expect("nobody else is live");
        let heartbeat = Heartbeat { sent_at: Moment(9), load: Load::default(), seen: Revision(0) };
        sessions.heard(NODE, &heartbeat, Moment(50));
        assert_eq!(sessions.heard(NODE, &heartbeat, Moment(40)), Some(Moment(50)));
        open(&mut sessions, "i1", 45).expect("the same agent");
        assert_eq!(sessions.last_heard(NODE), Moment(50));
    }

    #[test]
    fn a_changed_heartbeat_is_told_with_an_acknowledgement_and_nobody_is_missed_before_that() {
        let mut world = World::with_nodes(1);
        let mut sessions = Sessions::new(Term(1), Moment(0));
        sessions.opened(&world.hello(NODE.0, "i1"), &world.state, Moment(0)).expect("nobody else is live");
        for (heartbeat, ttl) in [(4000, 12), (500, 3)] {
            let (heartbeat, ttl) =
                (Setting::Heartbeat(Span::millis(heartbeat)), Setting::Ttl(Span::seconds(ttl)));
            let change = Command::Settings(SettingsCommand::Change(vec![heartbeat, ttl]));
            assert!(matches!(world.propose(change), Reply::Done(_)));
        }
        let heartbeat = Heartbeat { sent_at: Moment(1), load: Load::default(), seen: Revision(0) };
        sessions.heard(NODE, &heartbeat, Moment(4000));
        assert!(!sessions.is_suspect(&world.state, NODE, Moment(8100)), "it is heard every four seconds");
        sessions.heard(NODE, &heartbeat, Moment(8100));
        let round = sessions.take_round();
        let told = sessions.acknowledge(&world.state, round);
        let told: Vec<_> = told.iter().map(|(_, it)| (it.ttl, it.heartbeat)).collect();
        assert_eq!(told, [(Span::seconds(3), Span::millis(500))]);
        world.state.cluster.former = None;
        assert!(sessions.is_suspect(&world.state, NODE, Moment(10_000)), "now it beats faster");
    }

    #[test]
    fn a_heartbeat_outweighs_the_end_of_a_stream_of_an_earlier_term() {
        let mut sessions = Sessions::new(Term(2), Moment(0));
        open(&mut sessions, "i1", 1).expect("nobody else is live");
        sessions.closed(NODE, &"i1".into()); // opened in term 1, noticed now
        let heartbeat = Heartbeat { sent_at: Moment(9), load: Load::default(), seen: Revision(0) };
        assert_eq!(sessions.disk_available(NODE), None, "it has not said anything of its disk");
        sessions.heard(NODE, &heartbeat, Moment(10));
        assert!(sessions.is_connected(NODE));
        assert_eq!(sessions.disk_available(NODE), Some(Bytes(0)), "which is not the same as a full one");
        let load = Load { disk_unknown: true, ..Load::default() };
        sessions.heard(NODE, &Heartbeat { load, ..heartbeat }, Moment(20));
        assert_eq!(sessions.disk_available(NODE), None, "nor is one that cannot be asked");
    }
}
