//! Hunts: a leader and an agent are set against all others, in just the order in which another wording of the rules failed.
//! Chance alone comes upon these too seldom. Some seeds have them, with little else beside.
//!
//! | hunt | whom it would catch |
//! | --- | --- |
//! | both are cut off, and the leader's machine stands still with its clock | a leader that trusts its clock |
//! | the leader is paused with answers on their way to it, then both are cut off | one that counts from when answers come |
//! | the agent is cut off until the leader decides to free what it has; then the leader is cut off | a successor that does not know what is in its own log |
//! | the same, but then the agent is heard again while the disks are slow | a leader that acknowledges what it has decided to free |

use sheaf_engine::Command;

use crate::clock::{MS, SECOND, Time};
use crate::event::Process;
use crate::faults::Undo;
use crate::world::World;

/// For so long both are cut off: longer than until the others have placed anew what the agent has.
const APART: Time = 9 * SECOND;
/// For so long an agent is cut off from the leader, unless it is caught before.
const SILENT: Time = 14 * SECOND;
/// What has just been sent has arrived by then.
const ARRIVED: Time = 30 * MS;

/// What a leader must do to be set upon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hunt {
    /// It sends its next beat.
    Beat { leader: usize, agent: usize },
    /// It is about to free what this agent has. Is the agent heard again then, or is the leader deposed?
    Free { agent: usize, heard: bool },
    /// Another one is elected in its place.
    Election { former: usize },
}

impl World {
    /// Chooses how to hunt whoever leads.
    pub(crate) fn hunt_leader(&mut self) {
        let Some(leader) = self.leader().filter(|v| !self.healed && self.is_whole(*v)) else { return };
        let Some(agent) = self.quarry() else { return };
        self.counts.hunts += 1;
        self.line(|| format!("voter {leader} is hunted, with agent {agent}"));
        match self.random.below(4) {
            0 => {
                let pairs = self.apart_from_others([leader, agent]);
                self.cut_all(pairs, APART);
                let duration = self.random.between(2 * SECOND, 6 * SECOND);
                self.freeze_for(leader, duration, true);
            }
            1 => self.hunt = Some(Hunt::Beat { leader, agent }),
            how => {
                self.cut_all(vec![(agent, leader), (leader, agent)], SILENT);
                self.hunt = Some(Hunt::Free { agent, heard: how == 2 });
            }
        }
    }

    /// A machine that does not vote and runs something under a lease.
    fn quarry(&mut self) -> Option<usize> {
        let runs = |m: &usize| {
            let mut programs = self.machines[*m].programs.values();
            self.is_whole(*m) && programs.any(|it| it.runs && it.mode.epoch().is_some())
        };
        let all: Vec<usize> = (self.voters.len()..self.machines.len()).filter(runs).collect();
        let chosen = self.random.index(all.len());
        all.get(chosen).copied()
    }

    /// Every way between these two and all others.
    fn apart_from_others(&self, two: [usize; 2]) -> Vec<(usize, usize)> {
        let others = (0..self.machines.len()).filter(|other| !two.contains(other));
        others.flat_map(|other| two.map(|it| [(it, other), (other, it)])).flatten().collect()
    }

    /// A leader has just sent a beat. Its answers find it paused, and with the agent on its side alone.
    pub(crate) fn caught_at_beat(&mut self, v: usize) {
        let Some(Hunt::Beat { leader, agent }) = self.hunt else { return };
        if leader != v || self.healed {
            return;
        }
        self.hunt = None;
        self.counts.caught += 1;
        let pairs = self.apart_from_others([leader, agent]);
        self.undo_in(ARRIVED, Undo::Cut(pairs, APART));
        // Not for W: it would see then that it has not heard the agent.
        let duration = self.random.between(2 * SECOND, 3800 * MS);
        self.pause(Process::Voter(v), duration);
    }

    /// A leader is about to propose these.
    pub(crate) fn caught_at_free(&mut self, v: usize, commands: &[Command]) {
        let Some(Hunt::Free { agent, heard }) = self.hunt else { return };
        let (node, bindings) = (self.machines[agent].disk.node, &self.voters[v].state.bindings);
        let frees = |command: &Command| match command {
            Command::Free(free) => bindings.get(&free.bucket).is_some_and(|it| Some(it.node) == node),
            _ => false,
        };
        if self.healed || !commands.iter().any(frees) {
            return;
        }
        self.hunt = None;
        self.counts.caught += 1;
        self.line(|| format!("voter {v} is about to free what n{agent} has; it is heard again: {heard}"));
        // What becomes of the decision does not reach the agent before its lease.
        if let Some(watched) = self.watched_by(agent) {
            self.voters[watched].stale_until = self.now + 4 * SECOND;
        }
        let others: Vec<usize> = (0..self.voters.len()).filter(|other| *other != v).collect();
        if heard {
            // Whatever was to mend it later finds it mended.
            self.network.mend(agent, v);
            self.network.mend(v, agent);
            for voter in others {
                self.machines[voter].slow_disk_until = self.now + SECOND;
            }
            return;
        }
        let answers = others.iter().map(|other| (*other, v)).collect();
        self.cut_all(answers, APART);
        let entries = others.iter().map(|other| (v, *other)).collect();
        self.undo_in(ARRIVED, Undo::Cut(entries, APART));
        self.hunt = Some(Hunt::Election { former: v });
    }

    /// The first entry of a successor takes its time.
    pub(crate) fn caught_at_election(&mut self, v: usize) {
        let Some(Hunt::Election { former }) = self.hunt else { return };
        if v != former && !self.healed {
            self.hunt = None;
            self.machines[v].slow_disk_until = self.now + SECOND;
        }
    }
}
