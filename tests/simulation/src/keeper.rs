//! A keeper's shell: it takes the bucket's lock, feeds the engine's [`Keep`] and does what it says.

use std::collections::VecDeque;

use sheaf_engine::keep::{Action, Input, Keep, Lease, Report, Sight};
use sheaf_engine::node::Told;
use sheaf_engine::reconcile::Mode;
use sheaf_model::{BucketName, Exit, Moment, Phase, Revision, Signal, Timestamp};

use crate::clock::MS;
use crate::event::{AtAgent, AtKeeper, AtKernel, Process, What};
use crate::machine::{Holder, Program, Status};
use crate::plan::Planted;
use crate::world::{Gate, World};

/// How long a keeper waits for its predecessor to let go of the bucket.
const PREDECESSOR: u64 = 2000 * MS;
/// How often it looks.
const LOOK_AGAIN: u64 = 10 * MS;

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) gate: Gate,
    pub(crate) bucket: BucketName,
    /// None until it holds the lock.
    keep: Option<Keep>,
    pub(crate) status: Option<Status>,
    program: Option<u64>,
    clearing: bool,
    /// When its plan was written: a keeper that does not look at its clock again believes that it is still then.
    written: Moment,
    executed: bool,
    /// Its instance goes on as multi-node from this state.
    pub(crate) multi: Option<Revision>,
}

impl Keeper {
    pub(crate) fn new(bucket: BucketName) -> Self {
        Self {
            gate: Gate::up(),
            bucket,
            keep: None,
            status: None,
            program: None,
            clearing: false,
            written: Moment(0),
            executed: false,
            multi: None,
        }
    }
}

impl World {
    pub(crate) fn keeper_begins(&mut self, m: usize, number: u64) {
        self.take_lock(m, number, self.now + PREDECESSOR);
    }

    fn take_lock(&mut self, m: usize, number: u64, give_up: u64) {
        let me = Process::Keeper(m, number);
        let machine = &mut self.machines[m];
        let Some(keeper) = machine.keepers.get_mut(&number) else { return };
        let bucket = keeper.bucket.clone();
        if machine.locks.contains_key(&bucket) {
            if self.now < give_up {
                return self.later(LOOK_AGAIN, me, What::Keeper(AtKeeper::TakeLock(give_up)));
            }
            machine.keepers.remove(&number);
            return self.later(300, Process::Agent(m), What::Agent(AtAgent::Busy(bucket, number)));
        }
        let Some(plan) = machine.disk.plans.get(&bucket).cloned() else {
            machine.keepers.remove(&number);
            return;
        };
        // The agent that spawned it has crashed or waits no more, and no other knows of it: without a lease nothing would
        // ever end it.
        let agent = &self.agents[m];
        let waits = agent.starting.get(&bucket).is_some_and(|(of, _)| *of == number);
        let orphan = !agent.gate.up || !waits;
        if orphan && plan.lease.epoch().is_none() {
            machine.keepers.remove(&number);
            return;
        }
        machine.locks.insert(bucket.clone(), Holder::Keeper(number));
        let until = plan.lease.until();
        keeper.keep =
            Some(Keep::new(plan.lease, plan.stop, plan.restart, plan.restarts, plan.recent.clone()));
        keeper.written = plan.written;
        let told = Told {
            phase: Phase::Starting,
            message: String::new(),
            pid: None,
            started_at: None,
            restarts: plan.restarts,
            exit: None,
            end: None,
            purged: None,
        };
        let (basis, recent, boot) = (plan.origin.basis, plan.recent, machine.boot);
        let status = Status { basis, until, told, recent, boot };
        keeper.status = Some(status.clone());
        machine.disk.statuses.insert(bucket.clone(), status);
        self.later(300, Process::Agent(m), What::Agent(AtAgent::FirstWord(bucket, number)));
        self.feed(m, number, Input::Begin);
    }

    pub(crate) fn on_keeper(&mut self, m: usize, number: u64, it: AtKeeper) {
        let Some(keeper) = self.machines[m].keepers.get_mut(&number) else { return };
        match it {
            AtKeeper::TakeLock(give_up) => return self.take_lock(m, number, give_up),
            _ if keeper.keep.is_none() => return,
            AtKeeper::Placed => self.feed(m, number, Input::Spawned),
            AtKeeper::Look => self.keeper_looks(m, number),
            AtKeeper::Executed => {
                keeper.executed = true;
                self.feed(m, number, Input::Executed);
            }
            AtKeeper::ProgramEnded(pid, code) => {
                let exit = if code < 0 { Exit::Signal(-code) } else { Exit::Code(code) };
                if keeper.program == Some(pid) {
                    keeper.program = None;
                    self.feed(m, number, Input::Ended(exit));
                }
            }
            AtKeeper::Tick => self.feed(m, number, Input::Tick),
            AtKeeper::Deadline(epoch, boot, until) => {
                self.feed(m, number, Input::DeadlineMoved { epoch, boot, until });
                if let Some(keeper) = self.machines[m].keepers.get_mut(&number)
                    && let (Some(status), Some(keep)) = (&mut keeper.status, &keeper.keep)
                {
                    status.until = keep.lease().until();
                }
            }
            AtKeeper::Stop => self.feed(m, number, Input::StopAsked),
        }
        self.look_for_emptiness(m, number);
    }

    /// The keeper's clock. The late one (planted) believes what it read when its plan was written.
    fn keeper_clock(&self, m: usize, number: u64) -> Moment {
        let keeper = self.machines[m].keepers.get(&number);
        match keeper.filter(|it| self.plan.has(Planted::LateExec) && !it.executed) {
            Some(keeper) => keeper.written,
            None => self.clock(Process::Kernel(m)),
        }
    }

    fn feed(&mut self, m: usize, number: u64, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut now = self.keeper_clock(m, number);
            let Some(keeper) = self.machines[m].keepers.get_mut(&number) else { return };
            let Some(keep) = &mut keeper.keep else { return };
            let planted = self.plan.has(Planted::KeeperDoesNotKill);
            if planted && let Some(until) = keep.lease().until().filter(|until| now >= *until) {
                now = Moment(until.0.saturating_sub(1)); // it believes that its lease lasts
            }
            for action in keep.step(input, now) {
                inputs.extend(self.keeper_does(m, number, action));
            }
        }
        self.look_for_emptiness(m, number);
    }

    fn keeper_does(&mut self, m: usize, number: u64, action: Action) -> Option<Input> {
        let me = Process::Keeper(m, number);
        let keeper = self.machines[m].keepers.get_mut(&number)?;
        match action {
            Action::KillAll => {
                keeper.clearing = true;
                let bucket = keeper.bucket.clone();
                for pid in self.machines[m].alive(&bucket) {
                    self.kill_program(m, pid);
                }
            }
            Action::Arm(at) | Action::Wake(at) => self.at(at, me, What::Keeper(AtKeeper::Tick)),
            Action::Spawn => {
                let delay = self.random.between(300, 8 * MS);
                self.later(delay, me, What::Keeper(AtKeeper::Placed));
                self.place_program(m, number);
            }
            Action::Look => {
                let delay = self.random.below(MS);
                self.later(delay, me, What::Keeper(AtKeeper::Look));
            }
            Action::Go => {
                if let Some(pid) = keeper.program {
                    let delay = self.random.below(2 * MS);
                    self.later(delay, Process::Kernel(m), What::Kernel(AtKernel::Exec(pid)));
                }
            }
            // No program of the simulation is a plugin, or has secrets.
            Action::Call(..) | Action::HangUp | Action::Purged(_) | Action::Renew => {}
            Action::Signal(signal) => self.signal_program(m, number, signal),
            Action::Report(report) => self.keeper_reports(m, number, report),
            Action::Exit => {
                let bucket = keeper.bucket.clone();
                self.machines[m].keepers.remove(&number);
                if self.machines[m].keeper_of(&bucket) == Some(number) {
                    self.machines[m].locks.remove(&bucket);
                }
                self.keeper_is_gone(m, number, 10 * MS);
            }
        }
        None
    }

    fn place_program(&mut self, m: usize, number: u64) {
        let machine = &mut self.machines[m];
        let pid = machine.number();
        let Some(keeper) = machine.keepers.get_mut(&number) else { return };
        let bucket = keeper.bucket.clone();
        keeper.program = Some(pid);
        keeper.executed = false;
        let Some(keep) = &keeper.keep else { return };
        let mode = match (keep.lease(), keeper.multi) {
            (Lease::Multi { from }, _) => Mode::Multi(*from),
            (Lease::Single { .. }, Some(from)) => Mode::Multi(from),
            (Lease::Single { epoch, .. }, None) => Mode::Single(*epoch),
        };
        let program = Program { bucket, keeper: number, mode, runs: false, dying: false };
        machine.programs.insert(pid, program);
    }

    fn keeper_looks(&mut self, m: usize, number: u64) {
        let machine = &self.machines[m];
        let Some(keeper) = machine.keepers.get(&number) else { return };
        let alive = machine.alive(&keeper.bucket);
        let sight = Sight {
            empty: alive.into_iter().all(|pid| Some(pid) == keeper.program),
            fence: machine.fence(&keeper.bucket),
            boot: machine.boot_id(m),
        };
        self.feed(m, number, Input::Looked(sight));
    }

    fn signal_program(&mut self, m: usize, number: u64, signal: Signal) {
        let Some(pid) = self.machines[m].keepers.get(&number).and_then(|keeper| keeper.program) else {
            return;
        };
        if signal == Signal::Kill {
            return self.kill_program(m, pid);
        }
        // Most programs end soon; some only by SIGKILL.
        let delay = match self.random.below(10) {
            0 => return,
            1 | 2 => self.random.between(300 * MS, 2500 * MS),
            _ => self.random.between(2 * MS, 200 * MS),
        };
        self.later(delay, Process::Kernel(m), What::Kernel(AtKernel::Ends(pid, 0)));
    }

    fn keeper_reports(&mut self, m: usize, number: u64, report: Report) {
        let now = self.now;
        let Some(keeper) = self.machines[m].keepers.get_mut(&number) else { return };
        let (program, Some(status)) = (keeper.program, &mut keeper.status) else { return };
        let Report { phase, message, restarts, exit, end } = report;
        let started_at =
            if phase == Phase::Running { Some(Timestamp(now / MS)) } else { status.told.started_at };
        let runs = matches!(phase, Phase::Running | Phase::Stopping);
        let pid = program.filter(|_| runs).and_then(|pid| u32::try_from(pid).ok());
        status.told = Told { phase, message, pid, started_at, restarts, exit, end, purged: None };
        status.recent = keeper.keep.as_ref().map(|keep| keep.recent().to_vec()).unwrap_or_default();
        let (status, bucket) = (status.clone(), keeper.bucket.clone());
        self.machines[m].disk.statuses.insert(bucket, status.clone());
        self.later(300, Process::Agent(m), What::Agent(AtAgent::Said(number, Box::new(status))));
    }

    /// While everything is to end: says when nothing is left.
    fn look_for_emptiness(&mut self, m: usize, number: u64) {
        let Some(keeper) = self.machines[m].keepers.get_mut(&number) else { return };
        let stopping = keeper.keep.as_ref().is_some_and(Keep::is_stopping);
        if !keeper.clearing && !stopping {
            return;
        }
        let bucket = keeper.bucket.clone();
        if self.machines[m].alive(&bucket).is_empty() {
            if let Some(keeper) = self.machines[m].keepers.get_mut(&number) {
                keeper.clearing = false;
                keeper.program = None;
            }
            self.feed(m, number, Input::Emptied);
        }
    }
}
