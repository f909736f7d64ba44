//! A machine: its clock, its disk, its processes other than ours, and what is true of it.

use std::collections::BTreeMap;

use sheaf_engine::keep::{Fence, Lease};
use sheaf_engine::node::{Birth, Told};
use sheaf_engine::reconcile::{Mode, Origin};
use sheaf_model::{BootId, BucketName, Moment, NodeId, Restart, Revision, Stop};

use crate::clock::{Clock, MS, Time};
use crate::event::{AtKeeper, AtKernel, Process, What};
use crate::keeper::Keeper;
use crate::storms::Ambush;
use crate::world::{Gate, World};

/// Who holds the lock of a bucket on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Keeper(u64),
    /// The agent, for work on the disk.
    Agent,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) gate: Gate,
    pub(crate) clock: Clock,
    pub(crate) boot: u64,
    /// Nothing runs on it.
    pub(crate) frozen: bool,
    pub(crate) disk: MachineDisk,
    pub(crate) locks: BTreeMap<BucketName, Holder>,
    pub(crate) keepers: BTreeMap<u64, Keeper>,
    pub(crate) programs: BTreeMap<u64, Program>,
    numbers: u64,
    pub(crate) slow_disk_until: Time,
    pub(crate) slow_spawn_until: Time,
    pub(crate) ambush: Option<Ambush>,
    /// What gate 3 of the gated module finds here.
    pub(crate) has_file: bool,
    /// A module that its config forbids.
    pub(crate) denied: Option<&'static str>,
    /// Its keepers may not be paused before: the agent does not know their deadlines yet, or is to be paused itself.
    pub(crate) agent_alone_until: Time,
    /// A keeper is paused until then: the agent must not be.
    pub(crate) keeper_paused_until: Time,
    /// What runs here until then may overlap: the machine stood still with its clock.
    pub(crate) excused_until: Time,
}

/// What survives a crash of the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct MachineDisk {
    pub(crate) key: u64,
    pub(crate) node: Option<NodeId>,
    pub(crate) fences: BTreeMap<BucketName, Fence>,
    pub(crate) plans: BTreeMap<BucketName, Plan>,
    pub(crate) statuses: BTreeMap<BucketName, Status>,
}

/// What a keeper is to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) lease: Lease,
    pub(crate) origin: Origin,
    pub(crate) stop: Stop,
    pub(crate) restart: Restart,
    pub(crate) restarts: u32,
    pub(crate) recent: Vec<Moment>,
    /// When it was written, by the machine's clock.
    pub(crate) written: Moment,
}

impl Plan {
    /// The state that it comes from.
    pub(crate) fn begun_from(&self) -> Revision {
        match self.lease {
            Lease::Multi { from } => from.max(self.origin.basis),
            Lease::Single { epoch, .. } => epoch.revision().max(self.origin.basis),
        }
    }
}

/// Where an instance is, as its keeper says and writes down.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) basis: Revision,
    pub(crate) until: Option<Moment>,
    pub(crate) told: Told,
    pub(crate) recent: Vec<Moment>,
    pub(crate) boot: u64,
}

/// A process that a keeper has started: first the second stage, then the program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) bucket: BucketName,
    pub(crate) keeper: u64,
    pub(crate) mode: Mode,
    pub(crate) runs: bool,
    pub(crate) dying: bool,
}

impl Machine {
    pub(crate) fn new(clock: Clock, key: u64, node: NodeId) -> Self {
        Self {
            gate: Gate::up(),
            clock,
            boot: 1,
            frozen: false,
            disk: MachineDisk { key, node: Some(node), ..MachineDisk::default() },
            locks: BTreeMap::new(),
            keepers: BTreeMap::new(),
            programs: BTreeMap::new(),
            numbers: 0,
            slow_disk_until: 0,
            slow_spawn_until: 0,
            ambush: None,
            has_file: true,
            denied: None,
            agent_alone_until: 0,
            keeper_paused_until: 0,
            excused_until: 0,
        }
    }

    /// Numbers keepers and programs; never the same twice.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn boot_id(&self, m: usize) -> BootId {
        BootId(format!("m{m}b{}", self.boot))
    }

    pub(crate) fn fence(&self, bucket: &BucketName) -> Fence {
        self.disk.fences.get(bucket).copied().unwrap_or_default()
    }

    /// What is alive of a bucket.
    pub(crate) fn alive(&self, bucket: &BucketName) -> Vec<u64> {
        let of = |(pid, it): (&u64, &Program)| (it.bucket == *bucket).then_some(*pid);
        self.programs.iter().filter_map(of).collect()
    }

    /// How the last instance of a bucket was started, as far as the disk says.
    pub(crate) fn birth(&self, m: usize, bucket: &BucketName) -> Birth {
        let plan = self.disk.plans.get(bucket);
        plan.map_or_else(Birth::unknown, |plan| Birth::of(&plan.lease, plan.origin, &self.boot_id(m)))
    }

    /// The keeper that holds a bucket.
    pub(crate) fn keeper_of(&self, bucket: &BucketName) -> Option<u64> {
        match self.locks.get(bucket) {
            Some(Holder::Keeper(number)) => Some(*number),
            _ => None,
        }
    }
}

impl World {
    /// How long a write with fsync takes.
    pub(crate) fn disk_takes(&mut self, m: usize) -> Time {
        if self.now < self.machines[m].slow_disk_until {
            self.random.between(50 * MS, 700 * MS)
        } else {
            self.random.between(200, 4 * MS)
        }
    }

    /// How long until a new process does its first step.
    pub(crate) fn spawn_takes(&mut self, m: usize) -> Time {
        if self.now < self.machines[m].slow_spawn_until {
            self.random.between(100 * MS, 7000 * MS)
        } else {
            self.random.between(MS, 15 * MS)
        }
    }

    /// SIGKILL: the process is gone a little later, and acts no more of its own.
    pub(crate) fn kill_program(&mut self, m: usize, pid: u64) {
        let delay = match self.random.below(20) {
            0 => self.random.between(100 * MS, 500 * MS),
            _ => self.random.between(100, 20 * MS),
        };
        self.kill_program_in(m, pid, delay);
    }

    fn kill_program_in(&mut self, m: usize, pid: u64, delay: Time) {
        let Some(program) = self.machines[m].programs.get_mut(&pid) else { return };
        if !std::mem::replace(&mut program.dying, true) {
            self.later(delay, Process::Kernel(m), What::Kernel(AtKernel::Ends(pid, -9)));
        }
    }

    /// The second stage becomes the program, unless it was killed before.
    pub(crate) fn program_execs(&mut self, m: usize, pid: u64) {
        let Some(program) = self.machines[m].programs.get_mut(&pid) else { return };
        if program.dying {
            return;
        }
        program.runs = true;
        let program = program.clone();
        let keeper = Process::Keeper(m, program.keeper);
        self.later(200, keeper, What::Keeper(AtKeeper::Executed));
        self.lives(m, pid, &program);
        if !self.healed && self.random.chance(80) {
            let (delay, code) = (self.random.between(50 * MS, 9000 * MS), 1);
            self.later(delay, Process::Kernel(m), What::Kernel(AtKernel::Ends(pid, code)));
        }
    }

    pub(crate) fn program_ends(&mut self, m: usize, pid: u64, code: i32) {
        let Some(program) = self.machines[m].programs.get(&pid) else { return };
        if code >= 0 && (!program.runs || program.dying && code != 0) {
            return;
        }
        let (bucket, parent) = (program.bucket.clone(), program.keeper);
        self.machines[m].programs.remove(&pid);
        self.dies(m, pid);
        // Its keeper hears of it; another one that holds the bucket sees that it is gone.
        let holder = self.machines[m].keeper_of(&bucket).filter(|holder| *holder != parent);
        for keeper in [Some(parent), holder].into_iter().flatten() {
            self.later(100, Process::Keeper(m, keeper), What::Keeper(AtKeeper::ProgramEnded(pid, code)));
        }
    }

    /// A keeper's process is killed; what it started dies with it.
    pub(crate) fn kill_keeper(&mut self, m: usize, number: u64) {
        let Some(keeper) = self.machines[m].keepers.remove(&number) else { return };
        let bucket = keeper.bucket;
        if self.machines[m].keeper_of(&bucket) == Some(number) {
            self.machines[m].locks.remove(&bucket);
        }
        for pid in self.machines[m].alive(&bucket) {
            let delay = self.random.between(100, 20 * MS);
            self.kill_program_in(m, pid, delay);
        }
        self.keeper_is_gone(m, number, 30 * MS);
    }

    /// Tells the agent, which looks whether anything is left first.
    pub(crate) fn keeper_is_gone(&mut self, m: usize, number: u64, delay: Time) {
        let what = What::Agent(crate::event::AtAgent::KeeperGone(number));
        self.later(delay, Process::Agent(m), what);
    }

    /// The machine loses power: nothing but its disk stays.
    pub(crate) fn crash_machine(&mut self, m: usize) {
        let stands_in = self.agents[m].stand_in.is_some() && self.agents[m].gate.up;
        self.counts.stand_ins_lost += u64::from(stands_in);
        self.crash_agent(m);
        if m < self.voters.len() {
            self.crash_voter(m);
        }
        let machine = &mut self.machines[m];
        machine.gate.crash();
        machine.frozen = false;
        machine.keepers.clear();
        machine.locks.clear();
        machine.slow_disk_until = 0;
        machine.slow_spawn_until = 0;
        for pid in std::mem::take(&mut self.machines[m].programs).into_keys() {
            self.dies(m, pid);
        }
    }

    /// It boots: another boot, and a clock that begins anew.
    pub(crate) fn boot_machine(&mut self, m: usize) {
        if self.machines[m].gate.up {
            return;
        }
        let ppm = self.drift();
        let shown = self.random.between(5_000_000, 20_000_000);
        let machine = &mut self.machines[m];
        machine.boot += 1;
        machine.clock = Clock::new(self.now, shown, ppm);
        machine.gate.up = true;
        if m < self.voters.len() {
            self.start_voter(m);
        }
        self.start_agent(m);
    }

    /// A clock runs up to 1 % wrong; the extremes are likely.
    pub(crate) fn drift(&mut self) -> i64 {
        match self.random.below(4) {
            0 => -10_000,
            1 => 10_000,
            _ => i64::try_from(self.random.below(20_001)).unwrap_or(0) - 10_000,
        }
    }
}
