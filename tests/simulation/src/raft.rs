//! The replicated log, reduced to what the leases rest on: terms, votes, majorities, entries that are committed late by
//! a successor, leaders that do not know yet that they are none, and rounds that confirm a leader (ReadIndex).
//!
//! ```text
//!  candidate ──Ask──► voter ──Vote (once on disk)──► leader ──Append, round──► voter ──Appended (once on disk)──► leader
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_engine::Proposal;
use sheaf_model::{Span, Term};

use crate::clock::MS;
use crate::event::{AtVoter, Process, What};
use crate::outcome::Rule;
use crate::plan::Planted;
use crate::voter::{Flow, Leading, ReadFor, Role, Waiter};
use crate::world::World;

/// Between two rounds of a leader.
const BEAT: u64 = 100;
/// How many entries one message carries.
const AT_ONCE: usize = 256;
/// How many entries are on their way to one voter at most.
const WINDOW: u64 = 4 * AT_ONCE as u64;

/// One entry. Without a proposal it is a new leader's first.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    pub(crate) proposal: Option<Arc<Proposal>>,
}

/// What voters say to each other.
#[derive(Clone, Debug)]
pub(crate) enum Rpc {
    Ask {
        term: Term,
        last: u64,
        last_term: Term,
    },
    Vote {
        term: Term,
        granted: bool,
    },
    Append {
        term: Term,
        prev: u64,
        prev_term: Term,
        entries: Vec<Entry>,
        commit: u64,
        round: u64,
    },
    Appended {
        term: Term,
        ok: bool,
        last: u64,
        round: u64,
    },
    /// The leader hands over: an election at once.
    Now(Term),
}

/// What is written to a voter's disk.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Vote(Term, Option<usize>),
    /// Everything after this index is replaced.
    Entries(u64, Vec<Entry>),
}

/// What is done once it is on disk.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Ask(Term),
    Say(usize, Term, Rpc),
    Own(Term, u64),
}

impl World {
    pub(crate) fn tell(&mut self, from: usize, to: usize, rpc: Rpc) {
        self.datagram(Process::Voter(from), Process::Voter(to), What::Rpc(from, rpc));
    }

    pub(crate) fn set_election(&mut self, v: usize) {
        let wait = Span::millis(self.random.between(300, 500));
        let at = self.clock(Process::Voter(v)).after(wait);
        self.voters[v].election_at = at;
        if !self.voters[v].election_armed {
            self.voters[v].election_armed = true;
            self.at(at, Process::Voter(v), What::Voter(AtVoter::Election));
        }
    }

    pub(crate) fn on_election(&mut self, v: usize) {
        self.voters[v].election_armed = false;
        let now = self.clock(Process::Voter(v));
        let at = self.voters[v].election_at;
        if now < at {
            self.voters[v].election_armed = true;
            return self.at(at, Process::Voter(v), What::Voter(AtVoter::Election));
        }
        if !matches!(self.voters[v].role, Role::Leader(_)) {
            self.campaign(v);
        }
        self.set_election(v);
    }

    fn campaign(&mut self, v: usize) {
        let voter = &mut self.voters[v];
        voter.term.0 += 1;
        voter.vote = Some(v);
        voter.role = Role::Candidate(BTreeSet::new());
        voter.leader = None;
        let term = voter.term;
        self.write(v, Vec::new(), Then::Ask(term));
    }

    /// Writes, with the vote if it is not on its way to the disk yet, and then goes on.
    fn write(&mut self, v: usize, mut writes: Vec<Write>, then: Then) {
        let voter = &mut self.voters[v];
        if voter.noted != (voter.term, voter.vote) {
            voter.noted = (voter.term, voter.vote);
            writes.insert(0, Write::Vote(voter.term, voter.vote));
        }
        if writes.is_empty() && voter.writes.is_empty() {
            return self.written(v, then);
        }
        // Without anything to write it still waits its turn: what it says rests on what was written before. What waits behind
        // the write that is under way is synced as one.
        let is_first_to_wait = self.voters[v].writes.len() < 2;
        let takes = if writes.is_empty() || !is_first_to_wait { 0 } else { self.disk_takes(v) };
        let voter = &mut self.voters[v];
        voter.writes.push_back((writes, then));
        voter.busy_until = voter.busy_until.max(self.now) + takes;
        let delay = voter.busy_until - self.now;
        self.later(delay, Process::Voter(v), What::Voter(AtVoter::Synced));
    }

    pub(crate) fn on_synced(&mut self, v: usize) {
        let Some((writes, then)) = self.voters[v].writes.pop_front() else { return };
        let disk = &mut self.voters[v].disk;
        for write in writes {
            match write {
                Write::Vote(term, vote) => (disk.term, disk.vote) = (term, vote),
                Write::Entries(after, entries) => {
                    disk.log.truncate(usize::try_from(after).unwrap_or(usize::MAX));
                    disk.log.extend(entries);
                }
            }
        }
        self.written(v, then);
    }

    fn written(&mut self, v: usize, then: Then) {
        match then {
            Then::Ask(term) => self.ask_votes(v, term),
            Then::Say(to, term, rpc) if self.voters[v].term == term => self.tell(v, to, rpc),
            Then::Own(term, last) => {
                if let Some(leading) = self.voters[v].leading(term) {
                    leading.matched[v] = leading.matched[v].max(last);
                    self.advance(v);
                }
            }
            Then::Say(..) => {}
        }
    }

    fn ask_votes(&mut self, v: usize, term: Term) {
        let voter = &mut self.voters[v];
        if voter.term != term {
            return;
        }
        let Role::Candidate(votes) = &mut voter.role else { return };
        votes.insert(v);
        let (last, last_term) = voter.last();
        for to in (0..self.voters.len()).filter(|to| *to != v) {
            self.tell(v, to, Rpc::Ask { term, last, last_term });
        }
        self.count_votes(v);
    }

    fn count_votes(&mut self, v: usize) {
        let Role::Candidate(votes) = &self.voters[v].role else { return };
        if votes.len() > self.voters.len() / 2 {
            self.lead(v);
        }
    }

    fn lead(&mut self, v: usize) {
        let n = self.voters.len();
        let voter = &mut self.voters[v];
        let term = voter.term;
        let next = voter.log.len() as u64 + 1;
        voter.role = Role::Leader(Box::new(Leading::new(n, next)));
        voter.leader = Some(v);
        voter.log.push(Entry { term, proposal: None });
        self.replicate.insert(v);
        self.elected(v, term);
        let delay = self.random.below(4 * MS);
        self.later(delay, Process::Voter(v), What::Voter(AtVoter::Begin(term)));
        self.beat(v, term);
    }

    pub(crate) fn beat(&mut self, v: usize, term: Term) {
        let Some(leading) = self.voters[v].leading(term) else { return };
        for flow in &mut leading.flow {
            if let Flow::Probe { waits } = flow {
                *waits = false;
            }
        }
        self.note_beat(v);
        self.append_to_all(v);
        self.caught_at_beat(v);
        let next = self.clock(Process::Voter(v)).after(Span::millis(BEAT));
        self.at(next, Process::Voter(v), What::Voter(AtVoter::Beat(term)));
    }

    fn append_to_all(&mut self, v: usize) {
        for to in (0..self.voters.len()).filter(|to| *to != v) {
            self.append_to(v, to);
        }
    }

    /// The next entries, or none if enough are on their way; in any case the round and what is committed.
    fn append_to(&mut self, v: usize, to: usize) {
        let voter = &mut self.voters[v];
        let Role::Leader(leading) = &mut voter.role else { return };
        let (next, matched) = (leading.next[to], leading.matched[to]);
        // What is lost of a stream is noticed by what follows it, entries or not.
        let (prev, most) = match leading.flow[to] {
            Flow::Probe { waits: true } => (matched, 0),
            Flow::Stream if next - matched > WINDOW => (next - 1, 0),
            Flow::Probe { waits: false } | Flow::Stream => (next - 1, AT_ONCE),
        };
        let start = usize::try_from(prev).unwrap_or(usize::MAX);
        let entries: Vec<Entry> = voter.log.iter().skip(start).take(most).cloned().collect();
        match &mut leading.flow[to] {
            Flow::Probe { waits } => *waits |= !entries.is_empty(),
            Flow::Stream => leading.next[to] += entries.len() as u64,
        }
        let round = leading.round;
        let prev_term = voter.term_at(prev);
        let rpc = Rpc::Append { term: voter.term, prev, prev_term, entries, commit: voter.commit, round };
        self.tell(v, to, rpc);
    }

    /// New entries go to the leader's own disk and to the others, many at once.
    pub(crate) fn flush_replication(&mut self) {
        for v in std::mem::take(&mut self.replicate) {
            let voter = &mut self.voters[v];
            if !matches!(voter.role, Role::Leader(_)) {
                continue;
            }
            let (from, last, term) = (voter.written, voter.log.len() as u64, voter.term);
            if last > from {
                let new = voter.log[usize::try_from(from).unwrap_or(0)..].to_vec();
                voter.written = last;
                self.write(v, vec![Write::Entries(from, new)], Then::Own(term, last));
            }
            self.append_to_all(v);
        }
    }

    /// A higher term was heard of.
    fn follow(&mut self, v: usize, term: Term) {
        let was = matches!(self.voters[v].role, Role::Leader(_));
        let voter = &mut self.voters[v];
        let former = voter.term;
        if term > voter.term {
            voter.term = term;
            voter.vote = None;
            voter.leader = None;
        }
        let role = std::mem::replace(&mut voter.role, Role::Follower);
        if let (true, Role::Leader(leading)) = (was, role) {
            self.deposed(v, former, *leading);
        }
    }

    pub(crate) fn on_rpc(&mut self, v: usize, from: usize, rpc: Rpc) {
        match rpc {
            Rpc::Ask { term, last, last_term } => self.on_ask(v, from, term, (last_term, last)),
            Rpc::Vote { term, granted } => {
                if term > self.voters[v].term {
                    self.follow(v, term);
                } else if term == self.voters[v].term && granted {
                    if let Role::Candidate(votes) = &mut self.voters[v].role {
                        votes.insert(from);
                    }
                    self.count_votes(v);
                }
            }
            Rpc::Append { .. } => self.on_append(v, from, rpc),
            Rpc::Appended { term, ok, last, round } => self.on_appended(v, from, term, (ok, last, round)),
            Rpc::Now(term) => {
                if term == self.voters[v].term && !matches!(self.voters[v].role, Role::Leader(_)) {
                    self.campaign(v);
                    self.set_election(v);
                }
            }
        }
    }

    fn on_ask(&mut self, v: usize, from: usize, term: Term, last: (Term, u64)) {
        if term > self.voters[v].term {
            self.follow(v, term);
        }
        let voter = &mut self.voters[v];
        let (own, own_term) = voter.last();
        let free = voter.vote.is_none_or(|vote| vote == from);
        let granted = term == voter.term && free && last >= (own_term, own);
        if granted {
            voter.vote = Some(from);
        }
        let now = voter.term;
        if granted {
            self.set_election(v);
        }
        self.write(v, Vec::new(), Then::Say(from, now, Rpc::Vote { term: now, granted }));
    }

    fn on_append(&mut self, v: usize, from: usize, rpc: Rpc) {
        let Rpc::Append { term, prev, prev_term, entries, commit, round } = rpc else { return };
        let voter = &mut self.voters[v];
        if term < voter.term {
            let no = Rpc::Appended { term: voter.term, ok: false, last: 0, round: 0 };
            return self.tell(v, from, no);
        }
        self.follow(v, term);
        self.set_election(v);
        let voter = &mut self.voters[v];
        voter.leader = Some(from);
        let has = voter.log.len() as u64;
        if prev > has || voter.term_at(prev) != prev_term {
            let last = has.min(prev.saturating_sub(1));
            let no = Rpc::Appended { term, ok: false, last, round };
            return self.write(v, Vec::new(), Then::Say(from, term, no));
        }
        let last = prev + entries.len() as u64;
        let same = entries.iter().zip(prev + 1..).take_while(|(e, at)| voter.term_at(*at) == e.term).count();
        let mut writes = Vec::new();
        if same < entries.len() {
            let keep = prev + same as u64;
            let new: Vec<Entry> = entries.into_iter().skip(same).collect();
            let committed = voter.commit;
            voter.log.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            voter.log.extend(new.iter().cloned());
            voter.written = voter.log.len() as u64;
            writes.push(Write::Entries(keep, new));
            if keep < committed {
                self.broken(Rule::Replicas, format!("voter {v} drops entries after {keep} of {committed}"));
            }
        }
        let yes = Rpc::Appended { term, ok: true, last, round };
        self.write(v, writes, Then::Say(from, term, yes));
        self.commit_to(v, commit.min(last));
    }

    fn on_appended(&mut self, v: usize, from: usize, term: Term, (ok, last, round): (bool, u64, u64)) {
        if term > self.voters[v].term {
            return self.follow(v, term);
        }
        self.note_answer(v, from, (term, round));
        let end = self.voters[v].log.len() as u64;
        let Some(leading) = self.voters[v].leading(term) else { return };
        leading.rounds[from] = leading.rounds[from].max(round);
        if ok {
            leading.matched[from] = leading.matched[from].max(last);
            let next = leading.matched[from] + 1;
            match leading.flow[from] {
                Flow::Probe { .. } if next >= leading.next[from] => {
                    leading.next[from] = next;
                    leading.flow[from] = Flow::Stream;
                }
                Flow::Probe { .. } => {}
                Flow::Stream => leading.next[from] = leading.next[from].max(next),
            }
            let more = leading.flow[from] == Flow::Stream && leading.next[from] <= end;
            self.advance(v);
            if more {
                self.append_to(v, from);
            }
        } else {
            let next = (last + 1).max(leading.matched[from] + 1);
            if next < leading.next[from] {
                leading.next[from] = next;
                leading.flow[from] = Flow::Probe { waits: false };
                self.append_to(v, from);
            }
            self.answer_reads(v);
        }
    }

    /// What a majority has on disk is committed, if the last of it is of this term.
    fn advance(&mut self, v: usize) {
        let voter = &self.voters[v];
        let Role::Leader(leading) = &voter.role else { return };
        let mut matched = leading.matched.clone();
        matched.sort_unstable();
        let reached = matched[(matched.len() - 1) / 2];
        if reached > voter.commit && voter.term_at(reached) == voter.term {
            self.commit_to(v, reached);
        }
        self.answer_reads(v);
    }

    /// Confirms that this voter leads: a majority answers a round begun now, and an entry of its term and everything
    /// committed until now is applied.
    pub(crate) fn read_index(&mut self, v: usize, what: ReadFor) -> bool {
        let early = self.plan.has(Planted::NoOwnEntry) && !matches!(what, ReadFor::Dispatcher(_));
        let voter = &mut self.voters[v];
        let commit = voter.commit;
        let Role::Leader(leading) = &mut voter.role else { return false };
        leading.round += 1;
        leading.rounds[v] = leading.round;
        let index = if early { commit } else { leading.first.max(commit) };
        leading.reads.push((leading.round, index, what));
        self.append_to_all(v);
        self.answer_reads(v);
        true
    }

    pub(crate) fn answer_reads(&mut self, v: usize) {
        let voter = &mut self.voters[v];
        let (applied, term) = (voter.applied, voter.term);
        let Role::Leader(leading) = &mut voter.role else { return };
        let mut rounds = leading.rounds.clone();
        rounds.sort_unstable();
        let confirmed = rounds[(rounds.len() - 1) / 2];
        let (done, left) = std::mem::take(&mut leading.reads)
            .into_iter()
            .partition(|(round, index, _)| *round <= confirmed && *index <= applied);
        leading.reads = left;
        let done: Vec<(u64, u64, ReadFor)> = done;
        for (_, _, what) in done {
            self.confirmed(v, term, what);
        }
    }

    /// Proposes on a leader; false: it does not lead, or not in the term wanted.
    pub(crate) fn propose(&mut self, v: usize, term: Option<Term>, it: Arc<Proposal>, who: Waiter) -> bool {
        let voter = &mut self.voters[v];
        let now = voter.term;
        let Role::Leader(leading) = &mut voter.role else { return false };
        if term.is_some_and(|term| term != now) {
            return false;
        }
        voter.log.push(Entry { term: now, proposal: Some(it) });
        leading.waiters.insert(voter.log.len() as u64, who);
        self.replicate.insert(v);
        true
    }
}
