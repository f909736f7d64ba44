//! Storms: faults that are known to be hard together, because a wording of the rules without one of them failed there.

use sheaf_model::BucketName;

use crate::clock::{MS, SECOND, Time};
use crate::event::{AtWorld, Process, What};
use crate::faults::Undo;
use crate::world::World;

/// What waits for the next start of a single-node instance on a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ambush {
    /// The keeper starts late, its agent crashes meanwhile, and the bucket has to leave the node.
    Crash,
    /// The keeper starts after the lease, and the node is cut off meanwhile.
    Cut,
}

impl World {
    /// Keepers start late, and the node is cut off meanwhile.
    pub(crate) fn slow_start_and_cut(&mut self, m: usize) {
        self.machines[m].slow_spawn_until = self.now + self.random.between(2 * SECOND, 8 * SECOND);
        let keepers: Vec<u64> = self.machines[m].keepers.keys().copied().collect();
        if !keepers.is_empty() && self.random.chance(600) {
            let number = keepers[self.random.index(keepers.len())];
            self.kill_keeper(m, number);
        }
        if self.random.chance(600) {
            self.cut_machine(m);
        }
    }

    /// Keepers start late, and the agent that has just asked for one crashes.
    pub(crate) fn slow_start_and_crash(&mut self, m: usize) {
        self.slow_start_and_cut(m);
        let delay = self.random.between(500 * MS, 3 * SECOND);
        self.undo_in(delay, Undo::CrashAgent(m));
    }

    /// A single-node instance is ended, so that it is started again into an ambush.
    pub(crate) fn ambush(&mut self, m: usize, kind: Ambush) {
        self.machines[m].ambush = Some(kind);
        let single = self.machines[m].programs.values().find(|it| it.runs && it.mode.epoch().is_some());
        if let Some(keeper) = single.map(|it| it.keeper) {
            self.kill_keeper(m, keeper);
        }
    }

    /// A keeper is being spawned for single-node work: how late it will be.
    pub(crate) fn ambushed(&mut self, m: usize, bucket: &BucketName) -> Option<Time> {
        let kind = self.machines[m].ambush.take().filter(|_| !self.healed)?;
        self.line(|| format!("n{m} starts {bucket} late: {kind:?}"));
        match kind {
            Ambush::Crash => {
                let delay = self.random.between(5 * MS, 60 * MS);
                self.undo_in(delay, Undo::CrashAgent(m));
                self.send_away(bucket, m);
                Some(self.random.between(1000 * MS, 2800 * MS))
            }
            Ambush::Cut => {
                let others = (0..self.machines.len()).filter(|other| *other != m);
                let pairs = others.flat_map(|other| [(m, other), (other, m)]).collect();
                self.cut_all(pairs, 8 * SECOND);
                Some(self.random.between(4000 * MS, 8000 * MS))
            }
        }
    }

    /// An agent is paused with an answer on its way to it, and cannot be heard afterwards.
    pub(crate) fn paused_at_heartbeat(&mut self, m: usize) {
        if !std::mem::take(&mut self.agents[m].pause_at_heartbeat) || self.healed || !self.is_whole(m) {
            return;
        }
        let duration = self.random.between(300 * MS, 2950 * MS);
        self.machines[m].agent_alone_until = self.now + duration;
        self.pause(Process::Agent(m), duration);
        if self.random.chance(700) {
            let others = (0..self.machines.len()).filter(|other| *other != m);
            let pairs = others.map(|other| (m, other)).collect();
            self.cut_all(pairs, 8 * SECOND);
        }
    }

    /// Several leader changes within W.
    pub(crate) fn leaders_in_a_row(&mut self) {
        let changes = self.random.between(1, 5);
        let mut at = 0;
        for _ in 0..changes {
            self.undo_in(at, Undo::CutLeader);
            at += self.random.between(600 * MS, 1600 * MS);
        }
    }

    /// The leader is cut off from the other voters: agents may still hear it. It goes on leading, as it believes.
    pub(crate) fn cut_leader(&mut self) {
        let Some(leader) = self.leader().filter(|_| !self.healed) else { return };
        let ways = self.random.below(3);
        let others = (0..self.voters.len()).filter(|other| *other != leader);
        let pairs = others.flat_map(|other| match ways {
            0 => vec![(leader, other)],
            1 => vec![(other, leader)],
            _ => vec![(leader, other), (other, leader)],
        });
        let duration = self.random.between(500 * MS, 5 * SECOND);
        self.cut_all(pairs.collect(), duration);
    }

    /// Machines that do not vote lose power, evenly spread, and stay off.
    pub(crate) fn lose_at_once(&mut self) {
        let (voters, lost) = (self.voters.len(), self.plan.lost_at_once);
        let every = (self.machines.len() - voters) / lost;
        for m in (voters..).step_by(every).take(lost) {
            self.crash_machine(m);
        }
        self.counts.interrupted = self.resting() as u64;
        self.look_whether_restored(self.now);
    }

    pub(crate) fn look_whether_restored(&mut self, since: Time) {
        if self.resting() == 0 {
            self.counts.restored = Some(self.now - since);
        } else {
            self.later(10 * MS, Process::World, What::World(AtWorld::Restored(since)));
        }
    }

    /// How many buckets that shall run do not.
    fn resting(&self) -> usize {
        let shall_run = self.truth.state.buckets.values().filter(|bucket| !bucket.suspended);
        shall_run.filter(|bucket| self.lives.of(bucket.name()).is_empty()).count()
    }
}
