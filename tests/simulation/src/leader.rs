//! What a leader does with messages: sessions, acknowledgements, decisions. The same as the control plane's shells do,
//! on the same engine.
//!
//! ```text
//!  Hello ──► opened         Heartbeat ──► heard ──► round ──(read index)──► Acknowledged
//!  Verdicts, GaveUp ──► sessions ──► look ──steward::due──► proposals of this term ──► decided ──► look
//!  Phases, NothingLeft ──► the log ──► Recorded
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_engine::sessions::Waiting;
use sheaf_engine::{Command, ConfirmResidue, Proposal, RecordPhases, Register, Reply, Sessions, steward};
use sheaf_model::session::{Hello, ToLeader, ToNode};
use sheaf_model::{Incarnation, Moment, NodeId, Span, Term, Timestamp};

use crate::clock::{MS, SECOND};
use crate::event::{AtVoter, Process, What, Words};
use crate::floor::{Dispatcher, Worker};
use crate::plan::Planted;
use crate::voter::{Leading, ReadFor, Waiter, proposal};
use crate::world::World;

/// The control plane's own times, as its shells have them.
const ROUND_WITHIN: Span = Span::millis(1500);
const ROUNDS_APART: u64 = 20 * MS;
const LOOKS_APART: u64 = 2 * MS;
const LOOK_AT_LEAST: Span = Span::seconds(1);
const DECIDE_WITHIN: Span = Span::seconds(5);

/// What a leader knows beyond the replicated state.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) sessions: Option<Sessions>,
    links: BTreeMap<NodeId, (Incarnation, u64)>,
    /// Whose session is on which connection.
    pub(crate) served: BTreeMap<u64, (NodeId, Incarnation)>,
    /// The round under way, and the heartbeats it serves.
    round: Option<(u64, Vec<Waiting>)>,
    resting: bool,
    rounds: u64,
    conductor: Conductor,
    looks: u64,
    /// Something happened since the last look.
    notified: bool,
    /// Nodes that take subtasks.
    pub(crate) workers: BTreeMap<NodeId, Worker>,
    pub(crate) dispatcher: Dispatcher,
}

impl Live {
    /// The connection on which a node's agent is served.
    pub(crate) fn link(&self, node: NodeId) -> Option<u64> {
        self.links.get(&node).map(|(_, conn)| *conn)
    }

    /// Whether it is this life of the agent.
    pub(crate) fn is_linked(&self, node: NodeId, life: &Incarnation) -> bool {
        self.links.get(&node).is_some_and(|(of, _)| of == life)
    }
}

#[derive(Debug, Default)]
enum Conductor {
    #[default]
    Off,
    Confirming,
    /// Until the look with this number.
    Waiting,
    /// So many decisions of the look with this number are not applied yet.
    Deciding(u64, usize),
}

impl World {
    pub(crate) fn begin_leading(&mut self, v: usize, term: Term) {
        if self.voters[v].leading(term).is_none() {
            return;
        }
        self.end_sessions(v);
        let now = self.clock(Process::Voter(v));
        let mut sessions = Sessions::new(term, now);
        if self.plan.has(Planted::NoWaitAfterElection) {
            let long_ago = Moment(now.0.saturating_sub(3_600_000));
            sessions = Sessions::new(term, long_ago);
            sessions.observe(&self.voters[v].state, long_ago);
        }
        let looks = self.voters[v].live.looks + 1;
        let rounds = self.voters[v].live.rounds + 1;
        self.voters[v].live = Live { sessions: Some(sessions), looks, rounds, ..Live::default() };
        self.line(|| format!("voter {v} leads in term {term}"));
        self.confirm(v, term);
        self.begin_dispatch(v);
    }

    /// Nothing is decided before an entry of this term is applied.
    pub(crate) fn confirm(&mut self, v: usize, term: Term) {
        let live = &mut self.voters[v].live;
        if live.sessions.as_ref().is_none_or(|sessions| sessions.term != term) {
            return;
        }
        live.conductor = Conductor::Confirming;
        if !self.read_index(v, ReadFor::Conductor) {
            self.later(LOOKS_APART, Process::Voter(v), What::Voter(AtVoter::Confirm(term)));
        }
    }

    /// The voter has learnt of a newer term; its shell learns of that a little later.
    pub(crate) fn deposed(&mut self, v: usize, term: Term, leading: Leading) {
        self.line(|| format!("voter {v} leads no more in term {term}"));
        let delay = self.random.below(20 * MS);
        self.later(delay, Process::Voter(v), What::Voter(AtVoter::End(term)));
        for waiter in leading.waiters.into_values() {
            if let Waiter::Decision(_, it) = waiter {
                self.counts.refused += 1;
                self.forward(v, &it);
            }
        }
    }

    pub(crate) fn end_leading(&mut self, v: usize, term: Term) {
        let live = &self.voters[v].live;
        if live.sessions.as_ref().is_some_and(|sessions| sessions.term == term) {
            self.end_sessions(v);
            let Live { looks, rounds, .. } = self.voters[v].live;
            self.voters[v].live = Live { looks, rounds, ..Live::default() };
        }
    }

    fn end_sessions(&mut self, v: usize) {
        for conn in std::mem::take(&mut self.voters[v].live.served).into_keys() {
            self.hang_up(Process::Voter(v), conn);
        }
    }

    pub(crate) fn heard(&mut self, v: usize, conn: u64, said: ToLeader) {
        let now = self.clock(Process::Voter(v));
        if let ToLeader::Hello(hello) = said {
            return self.hello(v, conn, *hello);
        }
        let live = &mut self.voters[v].live;
        let Some((node, life)) = live.served.get(&conn).cloned() else { return };
        match said {
            ToLeader::Heartbeat(heartbeat) => {
                if let Some(sessions) = &mut live.sessions {
                    sessions.heard(node, &heartbeat, now);
                }
                self.round(v);
            }
            ToLeader::Verdicts(verdicts) => {
                let voter = &mut self.voters[v];
                if let Some(sessions) = &mut voter.live.sessions {
                    sessions.answered(node, verdicts, &voter.state, now);
                }
                self.conduct_soon(v);
            }
            ToLeader::GaveUp { bucket, mut epoch } => {
                if self.plan.has(Planted::EpochNotChecked)
                    && let Some(binding) = self.voters[v].state.bindings.get(&bucket)
                {
                    epoch = binding.epoch;
                }
                let voter = &mut self.voters[v];
                if let Some(sessions) = &mut voter.live.sessions {
                    sessions.gave_up(node, bucket, epoch, &voter.state);
                }
                self.conduct_soon(v);
            }
            // Nobody purges anything in a simulation.
            ToLeader::Purged { .. } => {}
            ToLeader::Phases { seq, instances } => {
                let command = Command::RecordPhases(RecordPhases { node, instances });
                self.record(v, node, command, Some((life, seq)));
            }
            ToLeader::NothingLeft { bucket, revision } => {
                let confirm = ConfirmResidue { bucket, node, revision };
                self.record(v, node, Command::ConfirmResidue(confirm), None);
            }
            ToLeader::Release => {
                if let Some(sessions) = &mut live.sessions {
                    sessions.release_all(node);
                }
                self.conduct_soon(v);
            }
            ToLeader::Goodbye => self.end_session(v, conn),
            ToLeader::Hello(_) | ToLeader::Judged { .. } | ToLeader::Facts(_) => {}
            ToLeader::Ends { .. } | ToLeader::NoMoreWork => {}
        }
    }

    fn record(&mut self, v: usize, node: NodeId, command: Command, then: Option<(Incarnation, u64)>) {
        if self.plan.full_disks && !self.healed && self.random.chance(250) {
            self.counts.wrong.not_recorded += 1;
            return;
        }
        let it = proposal("node", self.now, command);
        self.propose(v, None, Arc::new(it), Waiter::Record(node, then));
    }

    fn hello(&mut self, v: usize, conn: u64, hello: Hello) {
        let now = self.clock(Process::Voter(v));
        let voter = &self.voters[v];
        if !voter.leads() {
            return self.turn_away(v, conn);
        }
        let Some(node) = voter.state.nodes.get(&hello.node).filter(|node| node.key == hello.key) else {
            return self.turn_away(v, conn);
        };
        let ttl = voter.state.cluster.settings.lease.ttl;
        let admitted =
            voter.live.sessions.as_ref().map(|it| it.admits(hello.node, &hello.incarnation, now, ttl));
        if !matches!(admitted, Some(Ok(()))) {
            return self.turn_away(v, conn);
        }
        if node.facts == hello.facts && node.status.is_alive() {
            return self.open(v, conn, &hello);
        }
        let register = Register { key: hello.key.clone(), facts: hello.facts.clone() };
        let it = proposal("node", self.now, Command::Register(register));
        if !self.propose(v, None, Arc::new(it), Waiter::Hello(conn, Box::new(hello))) {
            self.turn_away(v, conn);
        }
    }

    pub(crate) fn recognised(&mut self, v: usize, conn: u64, hello: &Hello, reply: &Reply) {
        if matches!(reply, Reply::Refused(_)) {
            return self.turn_away(v, conn);
        }
        self.open(v, conn, hello);
    }

    fn turn_away(&mut self, v: usize, conn: u64) {
        self.say(Process::Voter(v), conn, Words::ToNode(ToNode::redirect(None)));
        self.hang_up(Process::Voter(v), conn);
    }

    fn open(&mut self, v: usize, conn: u64, hello: &Hello) {
        let now = self.clock(Process::Voter(v));
        let voter = &mut self.voters[v];
        let lease = voter.state.cluster.settings.lease;
        let (node, incarnation) = (hello.node, hello.incarnation.clone());
        let sessions = voter.live.sessions.as_mut();
        let opened = sessions.map(|sessions| sessions.opened(hello, &voter.state, now));
        let Some(Ok(start_in)) = opened else { return self.turn_away(v, conn) };
        let former = voter.live.links.insert(node, (incarnation.clone(), conn));
        voter.live.served.insert(conn, (node, incarnation));
        if let Some((_, former)) = former {
            // The former session notices that nobody can speak through it any more.
            let delay = self.random.below(2 * MS);
            self.later(delay, Process::Voter(v), What::Voter(AtVoter::EndSession(former)));
        }
        self.say(
            Process::Voter(v),
            conn,
            Words::ToNode(ToNode::Welcome { heartbeat: lease.heartbeat, start_in }),
        );
        self.work_offered(v, hello);
        self.conduct_soon(v);
    }

    /// A session's stream ended.
    pub(crate) fn end_session(&mut self, v: usize, conn: u64) {
        let live = &mut self.voters[v].live;
        let Some((node, incarnation)) = live.served.remove(&conn) else { return };
        if live.links.get(&node).is_some_and(|(_, link)| *link == conn) {
            live.links.remove(&node);
            live.workers.remove(&node);
        }
        if let Some(sessions) = &mut live.sessions {
            sessions.closed(node, &incarnation);
        }
        self.hang_up(Process::Voter(v), conn);
        self.conduct_soon(v);
    }

    pub(crate) fn say_to_node(&mut self, v: usize, node: NodeId, message: ToNode) {
        let Some((_, conn)) = self.voters[v].live.links.get(&node).cloned() else { return };
        let tossed = matches!(message, ToNode::Acknowledged(_));
        let words = Words::ToNode(message);
        if tossed {
            self.toss(Process::Voter(v), conn, words);
        } else {
            self.say(Process::Voter(v), conn, words);
        }
    }

    /// To one life of its agent, whose message has this number.
    pub(crate) fn say_recorded(&mut self, v: usize, node: NodeId, life: &Incarnation, seq: u64) {
        if self.voters[v].live.is_linked(node, life) {
            self.say_to_node(v, node, ToNode::Recorded { seq });
        }
    }

    /// One quorum round, begun after receiving them, serves all heartbeats that wait.
    pub(crate) fn round(&mut self, v: usize) {
        let live = &mut self.voters[v].live;
        if live.round.is_some() || live.resting {
            return;
        }
        let Some(sessions) = live.sessions.as_mut().filter(|sessions| sessions.is_waiting()) else { return };
        let waiting = sessions.take_round();
        live.rounds += 1;
        let number = live.rounds;
        live.round = Some((number, waiting));
        if self.plan.has(Planted::NoQuorumRound) {
            let term = self.voters[v].live.sessions.as_ref().map(|sessions| sessions.term);
            return self.confirmed(v, term.unwrap_or_default(), ReadFor::Acknowledger(number));
        }
        if self.goes_by_contact() {
            return self.round_by_contact(v, number);
        }
        if !self.read_index(v, ReadFor::Acknowledger(number)) {
            return self.round_over(v, number);
        }
        let late = self.clock(Process::Voter(v)).after(ROUND_WITHIN);
        self.at(late, Process::Voter(v), What::Voter(AtVoter::RoundLate(number)));
    }

    /// It has rested since the last round.
    pub(crate) fn next_round(&mut self, v: usize) {
        self.voters[v].live.resting = false;
        self.round(v);
    }

    pub(crate) fn round_over(&mut self, v: usize, number: u64) {
        let live = &mut self.voters[v].live;
        if live.round.as_ref().is_some_and(|(of, _)| *of == number) {
            live.round = None;
            live.resting = true;
            self.later(ROUNDS_APART, Process::Voter(v), What::Voter(AtVoter::Round));
        }
    }

    /// This voter leads, as a majority has just confirmed.
    pub(crate) fn confirmed(&mut self, v: usize, term: Term, what: ReadFor) {
        let live = &mut self.voters[v].live;
        if live.sessions.as_ref().is_none_or(|sessions| sessions.term != term) {
            return;
        }
        let number = match what {
            ReadFor::Conductor => {
                if matches!(live.conductor, Conductor::Confirming) {
                    live.conductor = Conductor::Waiting;
                    let number = live.looks;
                    self.later(LOOKS_APART, Process::Voter(v), What::Voter(AtVoter::Look(number)));
                }
                return;
            }
            ReadFor::Acknowledger(number) => number,
            ReadFor::Dispatcher(number) => return self.dispatch_confirmed(v, number),
        };
        let Some((_, waiting)) = live.round.take_if(|(of, _)| *of == number) else { return };
        live.resting = true;
        self.later(ROUNDS_APART, Process::Voter(v), What::Voter(AtVoter::Round));
        let voter = &self.voters[v];
        let Some(sessions) = &voter.live.sessions else { return };
        for (node, acknowledged) in sessions.acknowledge(&voter.state, waiting) {
            let acknowledged = self.tamper_acknowledged(v, node, acknowledged);
            self.say_to_node(v, node, ToNode::Acknowledged(acknowledged));
        }
    }

    /// Something happened that may make something due.
    pub(crate) fn conduct_soon(&mut self, v: usize) {
        let live = &mut self.voters[v].live;
        if live.notified {
            return;
        }
        live.notified = true;
        if matches!(live.conductor, Conductor::Waiting) {
            let number = live.looks;
            let wait = self.looks_apart();
            self.later(wait, Process::Voter(v), What::Voter(AtVoter::Look(number)));
        }
    }

    /// The more there is to look at, the less often that is done.
    fn looks_apart(&self) -> u64 {
        LOOKS_APART * (1 + (self.plan.nodes * self.plan.buckets) as u64 / 10_000)
    }

    pub(crate) fn look(&mut self, v: usize, number: u64) {
        let now = self.clock(Process::Voter(v));
        let voter = &mut self.voters[v];
        let live = &mut voter.live;
        if live.looks != number || !matches!(live.conductor, Conductor::Waiting) {
            return;
        }
        let Some(sessions) = &mut live.sessions else { return };
        live.looks += 1;
        live.notified = false;
        let number = live.looks;
        let term = sessions.term;
        let mut due = steward::due(&voter.state, sessions, now, Timestamp(self.now / MS));
        if self.plan.has(Planted::ReleaseOnSuspend) {
            release_suspended(&self.voters[v].state, term, &mut due.commands);
        }
        self.caught_at_free(v, &due.commands);
        self.voters[v].live.conductor = Conductor::Deciding(number, due.commands.len() + 1);
        for command in due.commands {
            let it = Arc::new(proposal("leader", self.now, command));
            if !self.propose(v, Some(term), it.clone(), Waiter::Decision(number, it.clone())) {
                self.counts.refused += 1;
                self.forward(v, &it);
                self.decided(v, number, None);
            }
        }
        let wait = due.wake_at.map_or(LOOK_AT_LEAST, |at| at.since(now)).0.clamp(2, LOOK_AT_LEAST.0);
        let wake = now.after(Span(wait));
        self.at(wake, Process::Voter(v), What::Voter(AtVoter::Look(number)));
        let late = now.after(DECIDE_WITHIN);
        self.at(late, Process::Voter(v), What::Voter(AtVoter::DecidedLate(number)));
        self.decided(v, number, None);
    }

    /// One decision of a look is applied, or is not waited for.
    pub(crate) fn decided(&mut self, v: usize, number: u64, applied: Option<&Reply>) {
        if let Some(Reply::Refused(_)) = applied {
            self.counts.refused += 1;
        }
        let live = &mut self.voters[v].live;
        let Conductor::Deciding(of, left) = &mut live.conductor else { return };
        if *of != number {
            return;
        }
        *left = left.saturating_sub(1);
        if *left == 0 {
            live.conductor = Conductor::Waiting;
            let notified = live.notified;
            let wait = if notified { self.looks_apart() } else { SECOND };
            self.later(wait, Process::Voter(v), What::Voter(AtVoter::Look(number)));
        }
    }

    /// What is not applied by now is decided anew.
    pub(crate) fn decided_late(&mut self, v: usize, number: u64) {
        if let Conductor::Deciding(of, left) = &mut self.voters[v].live.conductor
            && *of == number
        {
            *left = 1;
            self.decided(v, number, None);
        }
    }

    /// Planted: what a deposed leader had decided reaches whoever leads now.
    fn forward(&mut self, v: usize, it: &Arc<Proposal>) {
        if !self.plan.has(Planted::ForwardedDecision) {
            return;
        }
        for to in 0..self.voters.len() {
            let what = What::Voter(AtVoter::Forwarded(it.clone()));
            self.datagram(Process::Voter(v), Process::Voter(to), what);
        }
    }

    /// Planted: it is proposed as if it had been decided here.
    pub(crate) fn forwarded(&mut self, v: usize, it: &Arc<Proposal>) {
        let term = self.voters[v].term;
        let mut it = (**it).clone();
        match &mut it.command {
            Command::Free(free) => free.term = term,
            Command::Bind(bind) => bind.term = term,
            _ => return,
        }
        self.propose(v, None, Arc::new(it), Waiter::Nobody);
    }
}

/// Planted: whatever leaves is free at once.
fn release_suspended(state: &sheaf_engine::State, term: Term, commands: &mut Vec<Command>) {
    let freed: BTreeSet<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Free(free) => Some(free.bucket.clone()),
            _ => None,
        })
        .collect();
    for binding in state.bindings.values().filter(|it| it.leaving.is_some() && !freed.contains(&it.bucket)) {
        let (bucket, epoch) = (binding.bucket.clone(), binding.epoch);
        commands.push(Command::Free(sheaf_engine::Free { bucket, epoch, term, why: "suspended".to_owned() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_a_former_life_is_not_said_to_the_next() {
        let (node, former, next) = (NodeId(7), Incarnation::from("a"), Incarnation::from("b"));
        let mut live = Live::default();
        assert!(!live.is_linked(node, &former));
        live.links.insert(node, (next.clone(), 1));
        assert!(live.is_linked(node, &next) && !live.is_linked(node, &former));
    }
}
