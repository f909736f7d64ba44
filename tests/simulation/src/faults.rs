//! What goes wrong: single faults by chance. Storms of them are in [`crate::storms`].

use crate::clock::{MS, SECOND, Time};
use crate::event::{AtWorld, Event, Process, What};
use crate::machine::MachineDisk;
use crate::raft::Rpc;
use crate::storms::Ambush;
use crate::voter::Disk;
use crate::world::{Gate, World};

/// The end of a fault, or a part of a storm.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    /// Not a fault's: a connection that finds its way cut tries again.
    Stall(u64, usize),
    Mend(Vec<(usize, usize)>),
    Resume(Process),
    Thaw(usize, bool),
    Excuse(usize),
    StartAgent(usize),
    StartVoter(usize),
    Boot(usize),
    Noise(u64),
    CutLeader,
    /// These ways are cut, for so long.
    Cut(Vec<(usize, usize)>, Time),
    Hunt,
    CrashAgent(usize),
    LosePower(usize),
    /// An agent that restarts by plan is back.
    Relieve(usize),
    PauseKeeper(usize),
}

impl World {
    pub(crate) fn undo_in(&mut self, delay: Time, undo: Undo) {
        self.later(delay, Process::World, What::World(AtWorld::Undo(undo)));
    }

    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Stall(conn, towards) => self.unstall(conn, towards),
            Undo::Mend(pairs) => {
                for (from, to) in pairs {
                    self.network.mend(from, to);
                }
            }
            Undo::Resume(process) => self.resume(process),
            Undo::Thaw(m, stood) => self.thaw(m, stood),
            Undo::Excuse(m) => self.no_excuse(m),
            Undo::StartAgent(m) => self.start_agent(m),
            Undo::StartVoter(v) => {
                if self.machines[v].gate.up {
                    self.start_voter(v);
                }
            }
            Undo::Boot(m) => self.boot_machine(m),
            Undo::Noise(noise) => self.network.noise = self.network.noise.saturating_sub(noise),
            Undo::CutLeader => self.cut_leader(),
            Undo::Cut(..) if self.healed => self.line(|| "nothing is cut any more".to_owned()),
            Undo::Cut(pairs, duration) => self.cut_all(pairs, duration),
            Undo::Hunt => self.hunt_leader(),
            Undo::CrashAgent(m) => self.fault_crash_agent(m),
            Undo::LosePower(m) if self.healed => self.line(|| format!("n{m} keeps its power")),
            Undo::LosePower(m) => self.fault_crash_machine(m),
            Undo::Relieve(m) => self.relieve(m),
            Undo::PauseKeeper(m) if self.healed => self.line(|| format!("no keeper of n{m} is paused")),
            Undo::PauseKeeper(m) => self.pause_keeper_beside_stand_in(m),
        }
    }

    pub(crate) fn next_fault(&mut self) {
        if self.healed {
            return;
        }
        self.counts.faults += 1;
        let m = self.random.index(self.machines.len());
        match self.random.below(42) {
            0..3 => self.leaders_in_a_row(),
            3 | 4 => self.cut_machine(m),
            5 => self.split(),
            6 | 7 => self.pause_agent(m),
            8 => self.pause_voter(),
            9 => self.pause_keeper(m),
            10 => self.freeze_machine(m),
            11 | 12 => self.fault_crash_agent(m),
            13 => self.fault_crash_voter(),
            14 => self.fault_crash_machine(m),
            15 => self.slow(m),
            16 => self.noise(),
            17 => self.machines[m].has_file = !self.machines[m].has_file,
            18 => self.fault_kill_keeper(m),
            19 => self.transfer(),
            20 => self.stale_watch(),
            21 | 22 => self.slow_start_and_cut(m),
            23 | 38 => self.agents[m].pause_at_heartbeat = true,
            24 | 25 => self.ambush(m, Ambush::Crash),
            26 => self.ambush(m, Ambush::Cut),
            27 => self.drain(m),
            28 | 29 => self.move_bucket(m),
            30 | 31 => self.forget_the_gone(),
            32 => self.change_leases(),
            33..36 => self.restart_agent(m),
            36 | 37 => self.release_agent(m),
            39 => self.slow_start_and_crash(m),
            _ => self.change_config(m),
        }
        let every = self.plan.fault_every;
        let wait = self.random.between(every / 10, every * 2);
        self.later(wait, Process::World, What::World(AtWorld::Fault));
    }

    pub(crate) fn cut_all(&mut self, pairs: Vec<(usize, usize)>, duration: Time) {
        let is_one_way = pairs.first().is_some_and(|(from, to)| !pairs.contains(&(*to, *from)));
        self.counts.wrong.cuts += u64::from(!is_one_way);
        self.counts.wrong.one_way_cuts += u64::from(is_one_way);
        self.line(|| format!("cut {pairs:?} for {} ms", duration / MS));
        for (from, to) in &pairs {
            self.network.cut(*from, *to);
        }
        self.undo_in(duration, Undo::Mend(pairs));
    }

    /// One machine is cut off: both ways or one, from all or from the voters only.
    pub(crate) fn cut_machine(&mut self, m: usize) {
        let duration = self.random.between(300 * MS, 8 * SECOND);
        let ways = self.random.below(4);
        let others = (0..self.machines.len()).filter(|other| *other != m);
        let pairs = others.flat_map(|other| match ways {
            0 => vec![(m, other)],
            1 => vec![(other, m)],
            _ => vec![(m, other), (other, m)],
        });
        self.cut_all(pairs.collect(), duration);
        if self.plan.keepers_hang && self.is_whole(m) {
            self.pause_any_keeper(m, 8 * SECOND);
        }
    }

    fn split(&mut self) {
        let side: Vec<bool> = (0..self.machines.len()).map(|_| self.random.chance(500)).collect();
        let all = 0..side.len();
        let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| side[*a] != side[*b]).collect();
        let duration = self.random.between(300 * MS, 6 * SECOND);
        self.cut_all(pairs, duration);
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.voters.len())
            .filter(|v| self.voters[*v].leads() && self.voters[*v].gate.up)
            .max_by_key(|v| self.voters[*v].term)
    }

    pub(crate) fn pause(&mut self, process: Process, duration: Time) {
        self.line(|| format!("{process:?} is paused for {} ms", duration / MS));
        let wrong = &mut self.counts.wrong;
        match process {
            Process::Voter(_) => wrong.paused_voters += 1,
            Process::Agent(_) => wrong.paused_agents += 1,
            Process::Keeper(..) => wrong.paused_keepers += 1,
            Process::Kernel(_) | Process::Client(_) | Process::World => {}
        }
        if let Some(gate) = self.gate(process) {
            gate.paused = true;
        }
        self.undo_in(duration, Undo::Resume(process));
    }

    fn resume(&mut self, process: Process) {
        if let Some(gate) = self.gate(process) {
            gate.paused = false;
            self.release(process);
        }
    }

    /// What waited happens now: messages in their order, timers anywhere between them.
    fn release(&mut self, process: Process) {
        let now = self.now;
        let Some(gate) = self.gate(process) else { return };
        let waiting = std::mem::take(&mut gate.waiting);
        gate.catches_up = now + 20 * waiting.len() as u64;
        for (index, event) in (0..).zip(waiting) {
            let delay = if event.is_in_order() { 20 * index } else { self.random.below(5 * MS) };
            self.post(now + delay, Event { waited: true, ..event });
        }
    }

    pub(crate) fn release_machine(&mut self, m: usize) {
        let mut all = vec![Process::Kernel(m), Process::Agent(m)];
        all.extend(self.machines[m].keepers.keys().map(|number| Process::Keeper(m, *number)));
        if m < self.voters.len() {
            all.push(Process::Voter(m));
        }
        for process in all {
            let Some(gate) = self.gate(process) else { continue };
            if !gate.paused {
                self.release(process);
            }
        }
    }

    pub(crate) fn is_whole(&self, m: usize) -> bool {
        self.machines[m].gate.up
            && !self.machines[m].frozen
            && self.agents[m].gate.up
            && !self.agents[m].gate.paused
            && self.now >= self.machines[m].keeper_paused_until
    }

    fn pause_agent(&mut self, m: usize) {
        if self.is_whole(m) {
            let duration = self.random.between(200 * MS, 8 * SECOND);
            self.machines[m].agent_alone_until = self.now + duration;
            self.pause(Process::Agent(m), duration);
        }
    }

    fn pause_voter(&mut self) {
        let any = self.random.index(self.voters.len());
        let v = self.leader().filter(|_| self.random.chance(800)).unwrap_or(any);
        if self.voters[v].gate.up && !self.voters[v].gate.paused {
            let duration = self.random.between(200 * MS, 7 * SECOND);
            self.pause(Process::Voter(v), duration);
        }
    }

    /// A keeper is paused while its agent is there: both at once is documented as not provable.
    /// [`Self::pause_keeper_beside_stand_in`] does it when something stands in for the agent.
    fn pause_keeper(&mut self, m: usize) {
        let machine = &self.machines[m];
        if !self.is_whole(m) || self.now < machine.agent_alone_until {
            return;
        }
        let duration = self.random.between(200 * MS, 8 * SECOND);
        self.pause_any_keeper(m, duration);
    }

    /// Whether there was one.
    pub(crate) fn pause_any_keeper(&mut self, m: usize, duration: Time) -> bool {
        let keepers: Vec<u64> = self.machines[m].keepers.keys().copied().collect();
        if keepers.is_empty() {
            return false;
        }
        let number = keepers[self.random.index(keepers.len())];
        self.machines[m].keeper_paused_until = self.now + duration + SECOND;
        self.pause(Process::Keeper(m, number), duration);
        true
    }

    fn freeze_machine(&mut self, m: usize) {
        if self.is_whole(m) {
            let stands = self.random.chance(500);
            let duration = self.random.between(200 * MS, 7 * SECOND);
            self.freeze_for(m, duration, stands);
        }
    }

    pub(crate) fn freeze_for(&mut self, m: usize, duration: Time, stands: bool) {
        self.line(|| format!("n{m} is frozen for {} ms, its clock stands: {stands}", duration / MS));
        self.counts.wrong.frozen += u64::from(!stands);
        self.counts.wrong.stood_still += u64::from(stands);
        self.freeze(m, stands);
        self.undo_in(duration, Undo::Thaw(m, stands));
    }

    fn fault_crash_agent(&mut self, m: usize) {
        if self.is_whole(m) {
            self.line(|| format!("agent {m} crashes"));
            self.counts.wrong.crashed_agents += 1;
            self.crash_agent(m);
            let short = self.random.chance(500);
            let down = self.random.below(if short { 100 * MS } else { 3 * SECOND });
            self.machines[m].agent_alone_until = self.now + down + 2 * SECOND;
            self.undo_in(down, Undo::StartAgent(m));
        }
    }

    fn fault_crash_voter(&mut self) {
        let v = self.random.index(self.voters.len());
        if self.voters[v].gate.up && !self.machines[v].frozen {
            self.line(|| format!("voter {v} crashes"));
            self.counts.wrong.crashed_voters += 1;
            self.crash_voter(v);
            let down = self.random.between(200 * MS, 4 * SECOND);
            self.undo_in(down, Undo::StartVoter(v));
        }
    }

    fn fault_crash_machine(&mut self, m: usize) {
        if !self.machines[m].gate.up || self.machines[m].frozen {
            return;
        }
        let wiped = (0..self.voters.len()).filter(|v| self.voters[*v].disk.log.is_empty()).count();
        let spare = m >= self.voters.len() || wiped < (self.voters.len() - 1) / 2;
        let wipe = spare && self.random.chance(250);
        self.line(|| format!("n{m} loses power, its disk is wiped: {wipe}"));
        self.counts.wrong.powerless += 1;
        self.counts.wrong.wiped += u64::from(wipe);
        self.crash_machine(m);
        if wipe {
            let key = 1000 + self.machines[m].number() * self.machines.len() as u64 + m as u64;
            self.machines[m].disk = MachineDisk { key, ..MachineDisk::default() };
            if m < self.voters.len() {
                self.voters[m].disk = Disk::default();
            }
        }
        self.machines[m].agent_alone_until = self.now + 8 * SECOND;
        let down = self.random.between(SECOND, 6 * SECOND);
        self.undo_in(down, Undo::Boot(m));
    }

    fn slow(&mut self, m: usize) {
        let until = self.now + self.random.between(SECOND, 7 * SECOND);
        if self.random.chance(500) {
            self.machines[m].slow_disk_until = until;
            self.counts.wrong.slow_disks += 1;
        } else {
            self.machines[m].slow_spawn_until = until;
        }
    }

    fn noise(&mut self) {
        let noise = self.random.between(20, 300);
        self.network.noise += noise;
        let duration = self.random.between(SECOND, 6 * SECOND);
        self.undo_in(duration, Undo::Noise(noise));
    }

    fn fault_kill_keeper(&mut self, m: usize) {
        let keepers: Vec<u64> = self.machines[m].keepers.keys().copied().collect();
        if !keepers.is_empty() && !self.machines[m].frozen {
            let number = keepers[self.random.index(keepers.len())];
            self.line(|| format!("keeper {number} of n{m} is killed"));
            self.kill_keeper(m, number);
        }
    }

    fn transfer(&mut self) {
        let Some(leader) = self.leader() else { return };
        let to = self.random.index(self.voters.len());
        if to != leader {
            let term = self.voters[leader].term;
            self.tell(leader, to, Rpc::Now(term));
        }
    }

    fn stale_watch(&mut self) {
        let v = self.random.index(self.voters.len());
        self.voters[v].stale_until = self.now + self.random.between(SECOND, 7 * SECOND);
        self.counts.wrong.stale_watches += 1;
    }

    /// Nothing goes wrong any more. What was paused or is down comes back when its time has come.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.line(|| "healed".to_owned());
        self.network.mend_all();
        self.network.loss = self.network.loss.min(10);
        for machine in &mut self.machines {
            machine.has_file = true;
            machine.slow_disk_until = 0;
            machine.slow_spawn_until = 0;
        }
        for m in 0..self.machines.len() {
            self.configure(m, None);
        }
        for c in 0..self.clients.len() {
            self.later(MS, Process::Client(c), What::Client(crate::event::AtClient::Next));
        }
        self.undrain_all();
        // Where messages are lost now and then, some lease is lost once in a very long while, and its program for a moment:
        // that must not be the moment at which all is looked at.
        let calm = self.plan.healing / 4;
        self.later(self.plan.healing - calm, Process::World, What::World(AtWorld::Calm));
        self.later(self.plan.healing, Process::World, What::World(AtWorld::Judge));
    }
}

/// A gate that nothing passes.
impl Gate {
    /// Whether the process takes part.
    pub(crate) fn is_there(&self) -> bool {
        self.up && !self.paused
    }
}
