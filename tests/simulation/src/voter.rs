//! A voter: its part of the log, the state it applies, and whom it tells of changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use sheaf_engine::{Change, Proposal, Reply, State, watched};
use sheaf_model::session::Hello;
use sheaf_model::watch::WatchItem;
use sheaf_model::{Incarnation, Moment, NodeId, Revision, Term};

use crate::clock::{MS, SECOND, Time};
use crate::contact::Contact;
use crate::event::{Ask, AtClient, AtVoter, Process, What, Words};
use crate::leader::Live;
use crate::outcome::Rule;
use crate::raft::{Entry, Then, Write};
use crate::world::{Gate, World};

/// How many entries are applied between two images on disk.
const IMAGE_EVERY: u64 = 100;
/// Items in one message of a watch.
const ITEMS: usize = 500;

#[derive(Debug)]
pub(crate) struct Voter {
    pub(crate) gate: Gate,
    pub(crate) disk: Disk,
    pub(crate) term: Term,
    pub(crate) vote: Option<usize>,
    /// What of these two is on its way to the disk.
    pub(crate) noted: (Term, Option<usize>),
    pub(crate) log: Vec<Entry>,
    /// How many entries are on their way to the disk.
    pub(crate) written: u64,
    pub(crate) writes: VecDeque<(Vec<Write>, Then)>,
    pub(crate) busy_until: Time,
    pub(crate) role: Role,
    pub(crate) leader: Option<usize>,
    pub(crate) election_at: Moment,
    pub(crate) election_armed: bool,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    pub(crate) state: State,
    /// What each applied command changed, since this life began.
    sets: Vec<(Revision, Arc<Vec<Change>>)>,
    pub(crate) watchers: BTreeMap<u64, Watcher>,
    flushing: bool,
    /// Its watches say nothing until then.
    pub(crate) stale_until: Time,
    pub(crate) live: Live,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) term: Term,
    pub(crate) vote: Option<usize>,
    pub(crate) log: Vec<Entry>,
    image: (u64, State),
}

/// A node that watches.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    who: watched::Watcher,
    position: usize,
}

#[derive(Debug)]
pub(crate) enum Role {
    Follower,
    Candidate(BTreeSet<usize>),
    Leader(Box<Leading>),
}

/// What a leader knows of the others.
#[derive(Debug)]
pub(crate) struct Leading {
    pub(crate) next: Vec<u64>,
    pub(crate) matched: Vec<u64>,
    pub(crate) flow: Vec<Flow>,
    pub(crate) round: u64,
    pub(crate) rounds: Vec<u64>,
    /// Round, index, and who asks.
    pub(crate) reads: Vec<(u64, u64, ReadFor)>,
    /// The first entry of this term.
    pub(crate) first: u64,
    pub(crate) waiters: BTreeMap<u64, Waiter>,
    /// For planted bugs only.
    pub(crate) contact: Contact,
}

/// How a leader sends entries to another voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Where that one's log agrees is not known: one message at a time.
    Probe { waits: bool },
    /// Many messages on their way.
    Stream,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadFor {
    Conductor,
    Acknowledger(u64),
    /// The loop of jobs, at this stage.
    Dispatcher(u64),
}

/// Who waits for a proposal to be applied.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    Asker(Ask),
    Decision(u64, Arc<Proposal>),
    Record(NodeId, Option<(Incarnation, u64)>),
    /// Ends of attempts.
    Ends(NodeId, Incarnation, u64),
    /// Grants, at this stage of the loop of jobs.
    Granted(u64),
    Hello(u64, Box<Hello>),
    Nobody,
}

impl Leading {
    pub(crate) fn new(n: usize, first: u64) -> Self {
        Self {
            next: vec![first; n],
            matched: vec![0; n],
            flow: vec![Flow::Probe { waits: false }; n],
            round: 0,
            rounds: vec![0; n],
            reads: Vec::new(),
            first,
            waiters: BTreeMap::new(),
            contact: Contact::default(),
        }
    }
}

impl Voter {
    /// A voter with a log that all have committed.
    pub(crate) fn new(log: Vec<Entry>) -> Self {
        let disk = Disk { log, term: Term(1), ..Disk::default() };
        Self::load(Gate::up(), disk)
    }

    /// A life begins with what is on disk.
    pub(crate) fn load(gate: Gate, disk: Disk) -> Self {
        let (applied, state) = disk.image.clone();
        Self {
            gate,
            term: disk.term,
            vote: disk.vote,
            noted: (disk.term, disk.vote),
            log: disk.log.clone(),
            written: disk.log.len() as u64,
            disk,
            writes: VecDeque::new(),
            busy_until: 0,
            role: Role::Follower,
            leader: None,
            election_at: Moment(0),
            election_armed: false,
            commit: applied,
            applied,
            state,
            sets: Vec::new(),
            watchers: BTreeMap::new(),
            flushing: false,
            stale_until: 0,
            live: Live::default(),
        }
    }

    pub(crate) fn leading(&mut self, term: Term) -> Option<&mut Leading> {
        match &mut self.role {
            Role::Leader(leading) if self.term == term => Some(leading),
            _ => None,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub(crate) fn term_at(&self, index: u64) -> Term {
        let entry = usize::try_from(index).ok().and_then(|at| self.log.get(at.checked_sub(1)?));
        entry.map_or(Term(0), |entry| entry.term)
    }

    pub(crate) fn last(&self) -> (u64, Term) {
        let last = self.log.len() as u64;
        (last, self.term_at(last))
    }
}

impl World {
    pub(crate) fn on_voter(&mut self, v: usize, it: AtVoter) {
        match it {
            AtVoter::Election => self.on_election(v),
            AtVoter::Beat(term) => self.beat(v, term),
            AtVoter::Synced => self.on_synced(v),
            AtVoter::Begin(term) => self.begin_leading(v, term),
            AtVoter::End(term) => self.end_leading(v, term),
            AtVoter::Look(number) => self.look(v, number),
            AtVoter::DecidedLate(number) => self.decided_late(v, number),
            AtVoter::Round => self.next_round(v),
            AtVoter::RoundLate(number) => self.round_over(v, number),
            AtVoter::Confirm(term) => self.confirm(v, term),
            AtVoter::Dispatch(term, number) => self.go_on_dispatching(v, term, number),
            AtVoter::EndSession(conn) => self.end_session(v, conn),
            AtVoter::FlushWatches => self.flush_watches(v),
            AtVoter::Forwarded(it) => self.forwarded(v, &it),
        }
    }

    pub(crate) fn commit_to(&mut self, v: usize, commit: u64) {
        self.voters[v].commit = self.voters[v].commit.max(commit);
        while self.voters[v].applied < self.voters[v].commit {
            self.apply_next(v);
        }
    }

    fn apply_next(&mut self, v: usize) {
        let voter = &mut self.voters[v];
        voter.applied += 1;
        let index = voter.applied;
        let at = usize::try_from(index - 1).unwrap_or(usize::MAX);
        let Some(entry) = voter.log.get(at).cloned() else { return };
        let mut reply = None;
        if let Some(proposal) = &entry.proposal {
            let mut changes = Vec::new();
            reply = Some(sheaf_engine::apply(&mut voter.state, entry.term, proposal, &mut changes));
            voter.sets.push((voter.state.revision, Arc::new(changes)));
        }
        let on_disk = voter.disk.log.get(at).is_some_and(|it| it.term == entry.term);
        let seldom = 1 + (self.plan.nodes + self.plan.buckets) as u64 / 50;
        if index.is_multiple_of(IMAGE_EVERY * seldom) && on_disk {
            voter.disk.image = (index, voter.state.clone());
        }
        self.applied(v, index, &entry);
        if let (Some(reply), Some(leading)) = (reply, self.voters[v].leading(entry.term)) {
            let waiter = leading.waiters.remove(&index);
            self.answer(v, waiter.unwrap_or(Waiter::Nobody), reply);
        }
        self.dispatch_soon(v);
        if !self.voters[v].flushing && !self.voters[v].watchers.is_empty() {
            self.voters[v].flushing = true;
            self.later(10 * MS, Process::Voter(v), What::Voter(AtVoter::FlushWatches));
        }
        self.conduct_soon(v);
    }

    fn answer(&mut self, v: usize, waiter: Waiter, reply: Reply) {
        match waiter {
            Waiter::Asker(ask) => {
                let revision = self.voters[v].state.revision;
                self.answer_asker(v, &ask, reply, revision);
            }
            Waiter::Decision(number, _) => self.decided(v, number, Some(&reply)),
            Waiter::Record(node, Some((life, seq))) => self.say_recorded(v, node, &life, seq),
            Waiter::Ends(node, life, seq) => self.ends_recorded(v, node, &life, seq),
            Waiter::Granted(number) => self.granted(v, number, &reply),
            Waiter::Hello(conn, hello) => self.recognised(v, conn, &hello, &reply),
            Waiter::Record(_, None) | Waiter::Nobody => {}
        }
    }

    fn answer_asker(&mut self, v: usize, ask: &Ask, reply: Reply, revision: Revision) {
        let what = match (ask.from, reply) {
            (Process::Agent(_), Reply::Registered(id)) => {
                What::Agent(crate::event::AtAgent::Joined(ask.number, id))
            }
            (Process::Agent(_), _) => return,
            (_, reply) => What::Client(AtClient::Answer(ask.number, reply, revision)),
        };
        self.datagram(Process::Voter(v), ask.from, what);
    }

    /// A client, or a node that joins, asks for a change. Only the leader takes it.
    pub(crate) fn on_asked(&mut self, v: usize, ask: &Ask) {
        let proposal = ask.proposal.clone();
        if !self.propose(v, None, proposal, Waiter::Asker(ask.clone()))
            && matches!(ask.from, Process::Client(_))
        {
            let what = What::Client(AtClient::Elsewhere(ask.number));
            self.datagram(Process::Voter(v), ask.from, what);
        }
    }

    pub(crate) fn voter_hears(&mut self, v: usize, conn: u64, words: Words) {
        match words {
            Words::ToLeader(said) => self.heard(v, conn, said),
            Words::WatchAsk(who) => self.watch(v, conn, who),
            Words::Closed => {
                self.voters[v].watchers.remove(&conn);
                self.end_session(v, conn);
            }
            Words::Work(words) => self.work_heard(v, conn, words),
            Words::ToNode(_) | Words::Watched(_) => {}
        }
    }

    fn watch(&mut self, v: usize, conn: u64, who: watched::Watcher) {
        let voter = &mut self.voters[v];
        if !voter.state.nodes.contains_key(&who.node) {
            return self.hang_up(Process::Voter(v), conn);
        }
        let items: Vec<WatchItem> = watched::everything(&voter.state, &who).collect();
        let (node, revision) = (who.node, voter.state.revision);
        voter.watchers.insert(conn, Watcher { who, position: voter.sets.len() });
        self.counts.began_behind += u64::from(self.is_behind(node, revision));
        for chunk in items.chunks(ITEMS) {
            self.say(Process::Voter(v), conn, Words::Watched(chunk.to_vec()));
        }
    }

    /// Whether something on a node is from a later state than this, and its agent has seen none so late.
    fn is_behind(&self, node: NodeId, revision: Revision) -> bool {
        let Some(m) = self.machines.iter().position(|it| it.disk.node == Some(node)) else { return false };
        let seen = self.agents[m].seen().max(revision);
        self.machines[m].disk.plans.values().any(|plan| plan.begun_from() > seen)
    }

    fn flush_watches(&mut self, v: usize) {
        if self.now < self.voters[v].stale_until {
            return self.later(SECOND / 2, Process::Voter(v), What::Voter(AtVoter::FlushWatches));
        }
        let voter = &mut self.voters[v];
        voter.flushing = false;
        let end = voter.sets.len();
        let revision = voter.state.revision;
        let mut said = Vec::new();
        for (conn, watcher) in &mut voter.watchers {
            let new = voter.sets.get(watcher.position..).unwrap_or_default();
            let changes = new.iter().flat_map(|(_, changes)| changes.iter());
            let mut items: Vec<WatchItem> =
                changes.filter_map(|change| watched::item(change, &watcher.who)).collect();
            watcher.position = end;
            if !items.is_empty() {
                items.push(WatchItem::Synced(revision));
                said.push((*conn, items));
            }
        }
        for (conn, items) in said {
            self.say(Process::Voter(v), conn, Words::Watched(items));
        }
    }

    /// A voter comes back with what is on its disk.
    pub(crate) fn start_voter(&mut self, v: usize) {
        if self.voters[v].gate.up || self.voters[v].disk.log.is_empty() {
            return;
        }
        let gate = Gate { up: true, ..std::mem::take(&mut self.voters[v].gate) };
        let disk = std::mem::take(&mut self.voters[v].disk);
        self.voters[v] = Voter::load(gate, disk);
        self.set_election(v);
    }

    /// A voter's process ends.
    pub(crate) fn crash_voter(&mut self, v: usize) {
        self.hang_up_all(Process::Voter(v));
        self.voters[v].gate.crash();
        self.voters[v].role = Role::Follower;
        self.voters[v].live = Live::default();
    }

    /// A committed entry was applied; what it did is checked.
    fn applied(&mut self, v: usize, index: u64, entry: &Entry) {
        let voter = &self.voters[v];
        let found = self.truth.applied(index, entry, &voter.state);
        self.note(index);
        match found {
            Ok(None) => {}
            Ok(Some(new)) => self.happened(&new),
            Err(what) => self.broken(Rule::Replicas, format!("voter {v}: {what}")),
        }
        // A leader that does not know yet that another one leads lacks what was acknowledged since.
        let newest = self.truth.term() == entry.term;
        let of_own = newest && self.voters[v].leads() && self.voters[v].term == entry.term;
        if of_own
            && entry.proposal.is_none()
            && let Some(lost) = self.truth.lost_by(&self.voters[v].state)
        {
            self.broken(Rule::Acknowledged, format!("the leader of term {} lacks {lost}", entry.term));
        }
    }
}

/// A proposal with what most of them have in common.
pub(crate) fn proposal(actor: &str, now: Time, command: sheaf_engine::Command) -> Proposal {
    Proposal { actor: actor.into(), at: sheaf_model::Timestamp(now / MS), request: None, command }
}
