//! Stand-ins: what holds a node's leases while its agent restarts by plan.
//!
//! It takes the agent's place among the processes of its machine, as the same life of it: the same incarnation, a
//! [`NodeState`](sheaf_engine::node::NodeState) that has seen no state and so decides about leases only, no watch.

use sheaf_engine::node::Action;
use sheaf_model::session::ToLeader;

use crate::agent::Agent;
use crate::clock::{MS, SECOND, Time};
use crate::event::{AtAgent, Process, What, Words};
use crate::faults::Undo;
use crate::link::Session;
use crate::world::{Gate, World};

/// What is known of a stand-in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandIn {
    since: Time,
    /// When it goes, at the latest.
    until: Time,
}

/// Before a stand-in goes nothing that it watches over may still be paused: from then on nobody would, for a moment.
const ALONE: Time = SECOND;

impl World {
    /// An agent leaves a stand-in; the next life comes in a while, or later than the stand-in stays.
    pub(crate) fn leave_stand_in(&mut self, m: usize) {
        self.line(|| format!("agent {m} stops and leaves a stand-in"));
        self.crash_agent(m);
        let incarnation = self.agents[m].incarnation;
        let gate = Gate { up: true, ..std::mem::take(&mut self.agents[m].gate) };
        let mut agent = Agent::new(gate, incarnation);
        agent.welcomed = true;
        let away = self.random.between(100 * MS, 12 * SECOND);
        let lasts = self.random.between(2 * SECOND, 40 * SECOND);
        agent.stand_in = Some(StandIn { since: self.now, until: self.now + away.min(lasts) });
        self.agents[m] = agent;
        self.counts.stand_ins += 1;
        let delay = self.random.between(5 * MS, 80 * MS);
        self.later(delay, Process::Agent(m), What::Agent(AtAgent::Found));
        self.later(lasts, Process::Agent(m), What::Agent(AtAgent::StoodLongEnough));
        self.machines[m].agent_alone_until = self.now + away + 2 * SECOND;
        if self.random.chance(150) {
            let delay = self.random.below(away);
            self.undo_in(delay, Undo::LosePower(m));
        }
        if self.random.chance(300) {
            let delay = self.random.below(away);
            self.undo_in(delay, Undo::PauseKeeper(m));
        }
        self.undo_in(away, Undo::Relieve(m));
    }

    /// A keeper is paused: the stand-in is the one that ends what outlives its lease.
    pub(crate) fn pause_keeper_beside_stand_in(&mut self, m: usize) {
        let (agent, is_paused) = (&self.agents[m], self.now < self.machines[m].keeper_paused_until);
        let is_there = self.machines[m].gate.up && !self.machines[m].frozen && agent.gate.is_there();
        let Some(StandIn { until, .. }) = agent.stand_in.filter(|_| is_there && agent.node.is_some()) else {
            return;
        };
        let room = until.saturating_sub(self.now + ALONE);
        if is_paused || room < 200 * MS {
            return;
        }
        let duration = self.random.between(100 * MS, room);
        if self.pause_any_keeper(m, duration) {
            self.counts.paused_beside_stand_ins += 1;
            if self.random.chance(500) {
                self.cut_machine(m);
            }
        }
    }

    /// The agent's next life begins; what stands in for it stops sending first, or is killed.
    pub(crate) fn relieve(&mut self, m: usize) {
        if self.machines[m].frozen {
            return self.undo_in(SECOND, Undo::Relieve(m));
        }
        if self.agents[m].stand_in.is_some() && self.agents[m].gate.up {
            self.stand_in_goes(m);
            self.counts.relieved += 1;
        }
        self.start_agent(m);
    }

    /// No agent came.
    pub(crate) fn stood_long_enough(&mut self, m: usize) {
        if self.agents[m].stand_in.is_some() {
            self.line(|| format!("the stand-in of agent {m} stays no longer"));
            self.stand_in_goes(m);
        }
    }

    fn stand_in_goes(&mut self, m: usize) {
        if let Some(StandIn { since, .. }) = self.agents[m].stand_in
            && self.now - since > crate::operator::LONGEST_TTL
        {
            self.counts.outlived_leases += self.lives.single_since(m, since);
        }
        if let Session::Open(open) = &self.agents[m].session {
            let conn = open.conn;
            self.say(Process::Agent(m), conn, Words::ToLeader(ToLeader::Goodbye));
        }
        self.crash_agent(m);
    }

    /// It starts nothing, gives nothing up and asks nothing.
    pub(crate) fn stand_in_performs(&mut self, m: usize, action: Action) {
        match action {
            Action::MoveDeadline(..) | Action::Kill(..) => drop(self.execute(m, action)),
            Action::Say(message) => self.say_to_leader(m, message),
            _ => {}
        }
    }
}
