//! An agent's two streams: the session, with whoever leads, and the watch, from any voter.

use std::collections::{BTreeMap, VecDeque};

use sheaf_engine::node::{Input, NodeState};
use sheaf_engine::watched::Watcher;
use sheaf_model::session::{Heartbeat, Hello, ToLeader, ToNode};
use sheaf_model::{Load, Moment, Span};

use crate::agent::{facts, node_key, patience};
use crate::clock::{MS, SECOND, Time};
use crate::event::{AtAgent, Process, What, Words};
use crate::plan::Planted;
use crate::work::Brought;
use crate::world::World;

/// Opening a stream takes at most so long.
const OPENING: u64 = SECOND;
/// The others' start before the one that has just not acknowledged.
const HEAD_START: u64 = 200 * MS;

#[derive(Debug)]
pub(crate) enum Session {
    None,
    /// The search's number, and which voter is asked on which connection.
    Searching(u64, BTreeMap<u64, usize>),
    Open(Open),
}

/// A session that stands.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) conn: u64,
    voter: usize,
    heartbeat: Span,
    /// How often that has changed since the session opened.
    pace: u64,
    /// When the last heartbeat was due that was, and how long after the one before.
    beat: Option<Time>,
    pub(crate) gap: Option<Time>,
    unanswered: VecDeque<Moment>,
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    conn: Option<u64>,
    heard: bool,
    turn: usize,
    failures: u32,
}

impl World {
    /// Asks all voters at once, the suspect after the others.
    pub(crate) fn search(&mut self, m: usize) {
        if matches!(self.agents[m].session, Session::Open(_)) || self.agents[m].node.is_none() {
            return;
        }
        self.agents[m].tries += 1;
        let number = self.agents[m].tries;
        self.agents[m].session = Session::Searching(number, BTreeMap::new());
        let suspect = self.agents[m].suspect.take();
        for v in 0..self.voters.len() {
            if suspect == Some(v) {
                self.later(HEAD_START, Process::Agent(m), What::Agent(AtAgent::AskSuspect(number, v)));
            } else {
                self.greet(m, v);
            }
        }
        self.later(OPENING, Process::Agent(m), What::Agent(AtAgent::SearchLate(number)));
    }

    pub(crate) fn ask_suspect(&mut self, m: usize, number: u64, v: usize) {
        if matches!(&self.agents[m].session, Session::Searching(of, _) if *of == number) {
            self.greet(m, v);
        }
    }

    fn greet(&mut self, m: usize, v: usize) {
        let me = Process::Agent(m);
        let machine = &self.machines[m];
        let (key, Some(node)) = (machine.disk.key, machine.disk.node) else { return };
        let takes_work = self.plan.jobs > 0 && self.agents[m].stand_in.is_none();
        let hello = Hello {
            cluster: "c".into(),
            node,
            key: node_key(key),
            boot: machine.boot_id(m),
            incarnation: self.incarnation(m),
            facts: facts(m, key),
            fresh: !self.agents[m].welcomed,
            stand_in: self.agents[m].stand_in.is_some(),
            work: takes_work.then(|| self.agents[m].work.said()),
        };
        let conn = self.connect(me, Process::Voter(v));
        if let Session::Searching(_, asked) = &mut self.agents[m].session {
            asked.insert(conn, v);
        }
        self.say(me, conn, Words::ToLeader(ToLeader::Hello(Box::new(hello))));
    }

    pub(crate) fn search_late(&mut self, m: usize, number: u64) {
        if matches!(&self.agents[m].session, Session::Searching(of, _) if *of == number) {
            self.search_again(m);
        }
    }

    fn search_again(&mut self, m: usize) {
        if let Session::Searching(_, asked) = std::mem::replace(&mut self.agents[m].session, Session::None) {
            for conn in asked.into_keys() {
                self.hang_up(Process::Agent(m), conn);
            }
        }
        let delay = 50 * MS + self.random.below(300 * MS);
        self.later(delay, Process::Agent(m), What::Agent(AtAgent::Search));
    }

    pub(crate) fn agent_hears(&mut self, m: usize, conn: u64, words: Words) {
        if self.agents[m].watch.conn == Some(conn) {
            return self.watch_hears(m, words);
        }
        match &mut self.agents[m].session {
            Session::Searching(_, asked) if asked.contains_key(&conn) => match words {
                Words::ToNode(ToNode::Welcome { heartbeat, start_in }) => {
                    self.welcome(m, conn, heartbeat, start_in);
                }
                Words::ToNode(ToNode::Redirect { .. } | ToNode::Refused { .. }) | Words::Closed => {
                    asked.remove(&conn);
                    let none = asked.is_empty() && asked.len() + 1 < self.voters.len();
                    self.hang_up(Process::Agent(m), conn);
                    if none {
                        self.search_again(m);
                    }
                }
                _ => {}
            },
            Session::Open(open) if open.conn == conn => match words {
                Words::ToNode(ToNode::Acknowledged(ack)) => {
                    if ack.boot == self.machines[m].boot_id(m) {
                        while open.unanswered.front().is_some_and(|sent| *sent <= ack.sent_at) {
                            open.unanswered.pop_front();
                        }
                    }
                    self.pace(m, ack.heartbeat);
                    self.input(m, Input::Acknowledged(ack));
                }
                Words::ToNode(ToNode::Recorded { seq }) => {
                    let first = if self.plan.has(Planted::RecordedUpTo) { 1 } else { seq };
                    (first..=seq).for_each(|seq| self.input(m, Input::Recorded(seq)));
                }
                Words::Work(words) => self.work_comes(m, words),
                Words::Closed => self.session_over(m, false),
                _ => {}
            },
            _ => {}
        }
    }

    fn welcome(&mut self, m: usize, conn: u64, heartbeat: Span, start_in: Span) {
        let Session::Searching(_, asked) = &self.agents[m].session else { return };
        let asked = asked.clone();
        let voter = asked.get(&conn).copied().unwrap_or_default();
        for other in asked.into_keys().filter(|other| *other != conn) {
            self.hang_up(Process::Agent(m), other);
        }
        let (pace, beat, gap, unanswered) = (0, None, None, VecDeque::new());
        let open = Open { conn, voter, heartbeat, pace, beat, gap, unanswered };
        self.agents[m].session = Session::Open(open);
        self.line(|| format!("agent {m} has a session with voter {voter}"));
        self.input(m, Input::SessionOpened { start_in });
        self.agents[m].welcomed = true;
        if self.plan.jobs > 0 {
            self.bring(m, Brought::Opened);
        }
        self.agent_beat(m, conn, 0);
    }

    pub(crate) fn session_over(&mut self, m: usize, silent: bool) {
        let Session::Open(open) = std::mem::replace(&mut self.agents[m].session, Session::None) else {
            return;
        };
        self.hang_up(Process::Agent(m), open.conn);
        self.agents[m].suspect = silent.then_some(open.voter);
        self.input(m, Input::SessionLost);
        self.search(m);
    }

    /// The settings have changed since the session opened: the next heartbeat is due at once.
    fn pace(&mut self, m: usize, heartbeat: Span) {
        let Session::Open(open) = &mut self.agents[m].session else { return };
        if heartbeat != open.heartbeat && !self.plan.has(Planted::OldHeartbeat) {
            open.heartbeat = heartbeat;
            open.pace += 1;
            (open.beat, open.gap) = (None, None);
            let (conn, pace) = (open.conn, open.pace);
            self.counts.paces_changed += 1;
            self.later(0, Process::Agent(m), What::Agent(AtAgent::Beat(conn, pace)));
        }
    }

    pub(crate) fn agent_beat(&mut self, m: usize, conn: u64, pace: u64) {
        let now = self.clock(Process::Agent(m));
        let Session::Open(open) = &mut self.agents[m].session else { return };
        if (open.conn, open.pace) != (conn, pace) {
            return;
        }
        open.gap = open.beat.replace(self.now).map(|former| self.now - former);
        let heartbeat = open.heartbeat;
        if open.unanswered.front().is_some_and(|sent| now.since(*sent) >= patience(heartbeat)) {
            return self.session_over(m, true);
        }
        self.heartbeat(m);
        self.at(now.after(heartbeat), Process::Agent(m), What::Agent(AtAgent::Beat(conn, pace)));
    }

    pub(crate) fn heartbeat(&mut self, m: usize) {
        let sent_at = self.clock(Process::Agent(m));
        let seen = self.agents[m].seen();
        let Session::Open(open) = &mut self.agents[m].session else { return };
        open.unanswered.push_back(sent_at);
        let conn = open.conn;
        let heartbeat = Heartbeat { sent_at, load: Load::default(), seen };
        self.toss(Process::Agent(m), conn, Words::ToLeader(ToLeader::Heartbeat(heartbeat)));
        self.paused_at_heartbeat(m);
    }

    pub(crate) fn open_watch(&mut self, m: usize) {
        let me = Process::Agent(m);
        let Some(node) = self.machines[m].disk.node else { return };
        if self.agents[m].watch.conn.is_some() {
            return;
        }
        let v = (m + self.agents[m].watch.turn) % self.voters.len();
        let conn = self.connect(me, Process::Voter(v));
        let watch = &mut self.agents[m].watch;
        watch.conn = Some(conn);
        watch.heard = false;
        let occupied = self.agents[m].node.as_ref().map(NodeState::occupied).unwrap_or_default();
        let places = self.plan.told_elsewhere.then_some(occupied);
        self.say(me, conn, Words::WatchAsk(Watcher { node, places }));
        self.later(OPENING, me, What::Agent(AtAgent::WatchLate(conn)));
    }

    /// The voter that a machine's agent watches.
    pub(crate) fn watched_by(&self, m: usize) -> Option<usize> {
        let conn = self.agents[m].watch.conn?;
        match self.network.conns.get(&conn)?.ends[1].0 {
            Process::Voter(v) => Some(v),
            _ => None,
        }
    }

    pub(crate) fn watch_late(&mut self, m: usize, conn: u64) {
        let watch = &self.agents[m].watch;
        if watch.conn == Some(conn) && !watch.heard {
            self.watch_over(m);
        }
    }

    fn watch_hears(&mut self, m: usize, words: Words) {
        match words {
            Words::Watched(items) => {
                let watch = &mut self.agents[m].watch;
                watch.heard = true;
                watch.failures = 0;
                self.input(m, Input::Watch(items));
            }
            Words::Closed => self.watch_over(m),
            _ => {}
        }
    }

    fn watch_over(&mut self, m: usize) {
        let watch = &mut self.agents[m].watch;
        let Some(conn) = watch.conn.take() else { return };
        watch.turn += 1;
        watch.failures = (watch.failures + 1).min(6);
        let wait = (25 * MS) << watch.failures;
        self.hang_up(Process::Agent(m), conn);
        let delay = wait / 2 + self.random.below(wait);
        self.later(delay, Process::Agent(m), What::Agent(AtAgent::OpenWatch));
    }
}
