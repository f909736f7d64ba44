//! Agents that stop by plan: what they wait for before they go.
//!
//! ```text
//!  restart ────────────────────────────┐
//!  release ──Leave──► has left, or late ┴─► closing: nothing is begun ─► what was begun is there ─► it goes
//! ```

use sheaf_engine::node::{Input, Leaving, NodeState};
use sheaf_model::session::ToLeader;

use crate::clock::{MS, SECOND, Time};
use crate::event::{AtAgent, Process, What, Words};
use crate::faults::Undo;
use crate::link::Session;
use crate::world::World;

/// How long an agent waits for what it has begun, and for what it hands back.
const STARTED: Time = 3 * SECOND;
/// How long it waits until its work is elsewhere.
const RELEASED: Time = 60 * SECOND;
const LOOK_AGAIN: Time = 10 * MS;

/// How an agent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It is soon started again, and something stands in for it.
    Restart,
    /// What is bound to its node goes elsewhere first.
    Release,
}

impl World {
    /// An agent is to restart.
    pub(crate) fn restart_agent(&mut self, m: usize) {
        if self.may_stop(m) {
            self.close_down(m, Departure::Restart);
        }
    }

    /// An agent is to stop for longer: its single-node work is handed over first.
    pub(crate) fn release_agent(&mut self, m: usize) {
        if !self.may_stop(m) {
            return;
        }
        self.line(|| format!("agent {m} is to hand its work over"));
        self.agents[m].leaves = true;
        self.later(RELEASED, Process::Agent(m), What::Agent(AtAgent::Left { late: true }));
        self.input(m, Input::Leave(Leaving::SingleNode));
    }

    fn may_stop(&self, m: usize) -> bool {
        let agent = &self.agents[m];
        let is_asked = agent.closing || agent.leaves;
        self.is_whole(m) && agent.welcomed && agent.stand_in.is_none() && !is_asked
    }

    pub(crate) fn look_whether_left(&mut self, m: usize) {
        let agent = &self.agents[m];
        if agent.leaves && !agent.closing && agent.node.as_ref().is_some_and(NodeState::has_left) {
            self.left(m, false);
        }
    }

    /// It has left; or it is late, and goes with work left behind.
    pub(crate) fn left(&mut self, m: usize, late: bool) {
        if self.agents[m].closing {
            return;
        }
        let bound = |node| self.truth.state.bindings.values().filter(|it| it.node == node).count() as u64;
        let left_behind = self.machines[m].disk.node.map_or(0, bound);
        self.line(|| format!("agent {m} leaves {left_behind} bindings, late: {late}"));
        if late {
            self.counts.released_late += 1;
        } else {
            self.counts.released += 1;
            // Whoever no leader hears goes without having heard what is bound to it: it counts as lost already.
            let is_heard = matches!(self.agents[m].session, Session::Open(_));
            self.counts.left_behind += if is_heard { left_behind } else { 0 };
        }
        self.close_down(m, Departure::Release);
    }

    fn close_down(&mut self, m: usize, departure: Departure) {
        self.agents[m].closing = true;
        self.hand_back(m);
        self.close(m, departure, self.now + STARTED);
    }

    /// Waits for what is being started, as nobody else could find it yet, and until all that it had of jobs is recorded.
    pub(crate) fn close(&mut self, m: usize, departure: Departure, give_up: Time) {
        let agent = &self.agents[m];
        let waits = agent.plans > 0 || !agent.starting.is_empty() || !agent.work.is_empty();
        if self.now < give_up && waits {
            let what = What::Agent(AtAgent::Close(departure, give_up));
            return self.later(LOOK_AGAIN, Process::Agent(m), what);
        }
        match departure {
            Departure::Restart => self.leave_stand_in(m),
            Departure::Release => self.leave_nothing(m),
        }
    }

    /// It is away for a while, with no lease left to hold.
    fn leave_nothing(&mut self, m: usize) {
        if let Session::Open(open) = &self.agents[m].session {
            let conn = open.conn;
            self.say(Process::Agent(m), conn, Words::ToLeader(ToLeader::Goodbye));
        }
        self.crash_agent(m);
        let away = self.random.between(100 * MS, 12 * SECOND);
        self.machines[m].agent_alone_until = self.now + away + 2 * SECOND;
        self.undo_in(away, Undo::StartAgent(m));
    }
}
