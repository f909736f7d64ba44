//! What an agent does about instances: keepers spawned, adopted, told and killed; fences written. Everything that takes
//! time ends with an event, and what is under way when the agent crashes goes on without it.

use sheaf_engine::keep::Lease;
use sheaf_engine::node::{Action, Birth, Done, Input, Seen, Start};
use sheaf_engine::reconcile::Mode;
use sheaf_model::{BucketName, Call, Epoch, Revision, Span};

use crate::agent::failed;
use crate::clock::{MS, SECOND};
use crate::event::{AtAgent, AtKeeper, AtKernel, Process, What};
use crate::keeper::Keeper;
use crate::machine::{Holder, Plan, Status};
use crate::outcome::Rule;
use crate::plan::Planted;
use crate::world::World;

/// How often work waits for a keeper that is about to end, each time for [`LOOK_AGAIN`].
const LOOKS: u32 = 50;
const LOOK_AGAIN: u64 = 20 * MS;
/// How long a keeper may take to say its first word.
const FIRST_WORD: u64 = 10 * SECOND;
/// Beyond its grace, until a keeper that was told to stop is taken for hung.
const HUNG_AFTER: u64 = 5 * SECOND;

/// Why what may not run here any more is stopped (for a planted bug only).
const REFUSED: &str = "this node is not available";

/// A keeper that lives, as the agent knows it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) number: u64,
    birth: Birth,
    grace: Span,
    status: Status,
}

impl Held {
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.birth.mode.epoch()
    }
}

impl World {
    pub(crate) fn find_instance(&mut self, m: usize, bucket: &BucketName) -> Seen {
        match self.adopt(m, bucket) {
            Some(seen) => seen,
            None => {
                let machine = &self.machines[m];
                let told = machine.disk.statuses.get(bucket).map(|status| &status.told);
                machine.birth(m, bucket).dead(told)
            }
        }
    }

    /// Takes over a keeper that holds the bucket.
    fn adopt(&mut self, m: usize, bucket: &BucketName) -> Option<Seen> {
        let machine = &self.machines[m];
        let number = machine.keeper_of(bucket)?;
        let status = machine.keepers.get(&number)?.status.clone()?;
        let birth = machine.birth(m, bucket);
        let birth = Birth { until: birth.until.max(status.until), ..birth };
        let grace = machine.disk.plans.get(bucket).map(|plan| plan.stop.grace).unwrap_or_default();
        Some(self.hold(m, bucket, number, (status, birth, grace)))
    }

    fn hold(
        &mut self,
        m: usize,
        bucket: &BucketName,
        number: u64,
        (status, birth, grace): (Status, Birth, Span),
    ) -> Seen {
        let seen = birth.seen(&status.told);
        self.agents[m].held.insert(bucket.clone(), Held { number, birth, grace, status });
        seen
    }

    fn later_agent(&mut self, m: usize, delay: u64, it: AtAgent) {
        self.later(delay, Process::Agent(m), What::Agent(it));
    }

    pub(crate) fn execute(&mut self, m: usize, action: Action) -> Option<Input> {
        let takes = self.disk_takes(m);
        if let Action::Stop(bucket, _, Some(call)) | Action::Remove(bucket, call) = &action {
            self.check_farewell(m, bucket, *call);
        }
        match action {
            Action::Start(start) if self.agents[m].closing => {
                return Some(Input::Done(start.bucket.name.clone(), failed("the agent stops")));
            }
            Action::Start(start) => {
                self.agents[m].plans += 1;
                self.check_gates(m, &start);
                self.later_agent(m, takes, AtAgent::WritePlan(start));
            }
            // No program of the simulation is a plugin.
            Action::Update(_) => {}
            Action::Stop(bucket, why, _) if self.plan.has(Planted::NotReleased) && why == REFUSED => {
                return Some(Input::Done(bucket, Done::Told));
            }
            Action::Stop(bucket, ..) => return Some(self.stop(m, bucket)),
            Action::BecomeMulti(bucket, state, epoch) => {
                return Some(self.become_multi(m, bucket, state, epoch));
            }
            Action::GiveUp(bucket, epoch) => {
                self.later_agent(m, takes, AtAgent::Work(bucket, Done::GaveUp(epoch), 0));
            }
            Action::Confirm(bucket, revision) => {
                self.later_agent(m, takes, AtAgent::Work(bucket, Done::Confirmed(revision), 0));
            }
            Action::Remove(bucket, _) => {
                let binding = self.truth.state.bindings.get(&bucket);
                let is_elsewhere = binding.is_some_and(|it| Some(it.node) != self.machines[m].disk.node);
                self.counts.cleared += u64::from(is_elsewhere);
                self.later_agent(m, takes, AtAgent::Work(bucket, Done::Removed, 0));
            }
            Action::Kill(..) if self.plan.has(Planted::OneEnforcer) => {}
            Action::Kill(bucket, epoch) => {
                let held = self.agents[m].held.get(&bucket);
                if held.is_none_or(|held| held.epoch() == Some(epoch)) {
                    let delay = self.random.between(MS, 20 * MS);
                    self.later_agent(m, delay, AtAgent::EndAll(bucket));
                }
            }
            Action::MoveDeadline(bucket, epoch, until) => {
                let boot = self.machines[m].boot_id(m);
                if let Some(held) = self.agents[m].held.get_mut(&bucket) {
                    held.birth.until = held.birth.until.max(Some(until));
                    let keeper = Process::Keeper(m, held.number);
                    self.later(300, keeper, What::Keeper(AtKeeper::Deadline(epoch, boot, until)));
                }
            }
            Action::Ask(_)
            | Action::Retire(_)
            | Action::Purge(..)
            | Action::WantArtifacts(_)
            | Action::HeartbeatNow
            | Action::Say(_)
            | Action::Note(..) => {}
        }
        None
    }

    /// Invariant 3, by what the machine said last.
    fn check_gates(&mut self, m: usize, start: &Start) {
        let module = start.bucket.module.to_string();
        let said = self.agents[m].conclusive.get(&module).copied();
        let Some(here) = &self.agents[m].here else { return };
        let rules = start.bucket.node_list_rules.compile();
        let denied = here.deny.iter().any(|denied| denied == start.bucket.module.name.as_str());
        if denied || said == Some(false) || rules.check(&here.hostname, &here.labels).is_err() {
            self.broken(Rule::Available, format!("{} is started on n{m}, which refused", start.bucket.name));
        }
    }

    /// Nothing of a bucket is given up that has been there since before it was started, or by what was before.
    fn check_farewell(&mut self, m: usize, bucket: &BucketName, call: Call) {
        let Some(plan) = self.machines[m].disk.plans.get(bucket) else { return };
        let (from, origin, seen) = (plan.begun_from(), plan.origin.revision, self.agents[m].seen());
        let created = self.truth.state.buckets.get(bucket).map(|it| it.created);
        let is_there = call == Call::Delete && created.is_some_and(|created| created <= origin);
        let is_behind = matches!(call, Call::Delete | Call::Decommission) && seen < from;
        if is_there || is_behind {
            let what = format!("{bucket} of {origin}, started from {from}, hears {call:?} on n{m} at {seen}");
            self.broken(Rule::Kept, what);
        }
    }

    fn stop(&mut self, m: usize, bucket: BucketName) -> Input {
        if let Some(held) = self.agents[m].held.get(&bucket) {
            let (number, patience) = (held.number, held.grace.0 * MS + HUNG_AFTER);
            self.later(300, Process::Keeper(m, number), What::Keeper(AtKeeper::Stop));
            self.later_agent(m, patience, AtAgent::Hung(bucket.clone(), number));
        } else {
            self.later_agent(m, MS, AtAgent::EndAll(bucket.clone()));
        }
        Input::Done(bucket, Done::Told)
    }

    fn become_multi(&mut self, m: usize, bucket: BucketName, state: Revision, epoch: Epoch) -> Input {
        let now = self.clock(Process::Agent(m));
        let boot = self.machines[m].boot_id(m);
        let Some(held) = self.agents[m].held.get_mut(&bucket) else {
            return Input::Done(bucket, failed("its keeper does not answer"));
        };
        held.birth.mode = Mode::Multi(state);
        held.birth.until = None;
        let seen = held.birth.seen(&held.status.told);
        let number = held.number;
        let never = now.after(Span::seconds(10 * 365 * 24 * 3600));
        self.later(300, Process::Keeper(m, number), What::Keeper(AtKeeper::Deadline(epoch, boot, never)));
        self.becomes_multi(m, &bucket, state);
        Input::Done(bucket, Done::BecameMulti(Box::new(seen)))
    }

    pub(crate) fn on_executor(&mut self, m: usize, it: AtAgent) {
        match it {
            AtAgent::WritePlan(start) => self.write_plan(m, start),
            AtAgent::FirstWord(bucket, number) => self.first_word(m, &bucket, number),
            AtAgent::Busy(bucket, number) if self.no_longer_starts(m, &bucket, number) => {
                self.adopt_instead(m, bucket);
            }
            AtAgent::StartLate(bucket, number) if self.no_longer_starts(m, &bucket, number) => {
                self.input(m, Input::Done(bucket, failed("its keeper does not answer")));
            }
            AtAgent::Said(number, status) => self.keeper_said(m, number, *status),
            AtAgent::KeeperGone(number) => self.keeper_gone(m, number),
            AtAgent::Work(bucket, done, looks) => self.work(m, bucket, done, looks),
            AtAgent::Swept(bucket, done) => self.swept(m, bucket, done),
            AtAgent::Sworn(bucket, done) => self.sworn(m, bucket, done),
            AtAgent::EndAll(bucket) => self.end_all(m, &bucket),
            AtAgent::Hung(bucket, number)
                if self.agents[m].held.get(&bucket).is_some_and(|held| held.number == number) =>
            {
                self.end_all(m, &bucket);
            }
            _ => {}
        }
    }

    /// The agent waited for this keeper until now.
    fn no_longer_starts(&mut self, m: usize, bucket: &BucketName, number: u64) -> bool {
        let starting = &mut self.agents[m].starting;
        let is_it = starting.get(bucket).is_some_and(|(of, _)| *of == number);
        if is_it {
            starting.remove(bucket);
        }
        is_it
    }

    fn write_plan(&mut self, m: usize, start: Box<Start>) {
        self.agents[m].plans -= 1;
        let bucket = start.bucket.name.clone();
        let written = self.clock(Process::Agent(m));
        let takes = self.spawn_takes(m);
        if self.machines[m].locks.contains_key(&bucket) {
            return self.adopt_instead(m, bucket);
        }
        let late = start.mode.epoch().and_then(|_| self.ambushed(m, &bucket));
        let takes = late.unwrap_or(takes);
        let machine = &mut self.machines[m];
        let boot = machine.boot_id(m);
        let lease = match (start.mode, start.until) {
            (Mode::Multi(from), _) => Lease::Multi { from },
            (Mode::Single(epoch), Some(until)) => Lease::Single { epoch, boot, until },
            (Mode::Single(_), None) => {
                let done = Done::Failed { reason: "there is no lease".to_owned(), again: false };
                return self.input(m, Input::Done(bucket, done));
            }
        };
        let mut plan = Plan {
            lease,
            origin: start.origin,
            stop: start.module.stop,
            restart: start.module.restart,
            restarts: 0,
            recent: Vec::new(),
            written,
        };
        let boot = machine.boot;
        if let Some(former) = machine.disk.statuses.get(&bucket).filter(|it| it.basis == plan.origin.basis) {
            plan.restarts = former.told.restarts;
            plan.recent = if former.boot == boot { former.recent.clone() } else { Vec::new() };
        }
        machine.disk.plans.insert(bucket.clone(), plan);
        let number = machine.number();
        machine.keepers.insert(number, Keeper::new(bucket.clone()));
        self.agents[m].starting.insert(bucket.clone(), (number, start));
        self.later(takes, Process::Kernel(m), What::Kernel(AtKernel::KeeperBegins(number)));
        self.later_agent(m, FIRST_WORD, AtAgent::StartLate(bucket, number));
    }

    fn first_word(&mut self, m: usize, bucket: &BucketName, number: u64) {
        let Some((_, start)) = self.agents[m].starting.get(bucket).filter(|(of, _)| *of == number) else {
            return;
        };
        let birth = Birth { mode: start.mode, origin: start.origin, until: start.until };
        let grace = start.module.stop.grace;
        self.agents[m].starting.remove(bucket);
        let keeper = self.machines[m].keepers.get(&number);
        let status = keeper.and_then(|keeper| keeper.status.clone());
        let status = status.or_else(|| self.machines[m].disk.statuses.get(bucket).cloned());
        let Some(status) = status else { return };
        let gone = self.machines[m].keeper_of(bucket) != Some(number);
        let seen = self.hold(m, bucket, number, (status, birth, grace));
        self.input(m, Input::Done(bucket.clone(), Done::Started(Box::new(seen))));
        if gone {
            self.keeper_is_gone(m, number, 10 * MS);
        }
    }

    /// A keeper that this agent did not know holds the bucket: whatever it runs, the node decides about it.
    fn adopt_instead(&mut self, m: usize, bucket: BucketName) {
        let done = match self.adopt(m, &bucket) {
            Some(seen) => Done::Started(Box::new(seen)),
            None => failed("no keeper holds the bucket"),
        };
        self.input(m, Input::Done(bucket, done));
    }

    fn held_by(&self, m: usize, number: u64) -> Option<BucketName> {
        let found = self.agents[m].held.iter().find(|(_, held)| held.number == number);
        found.map(|(bucket, _)| bucket.clone())
    }

    fn keeper_said(&mut self, m: usize, number: u64, status: Status) {
        let Some(bucket) = self.held_by(m, number) else { return };
        let Some(held) = self.agents[m].held.get_mut(&bucket) else { return };
        held.status = status;
        if held.status.told.end.is_none() {
            let seen = held.birth.seen(&held.status.told);
            self.input(m, Input::Seen(bucket, Some(Box::new(seen))));
        }
    }

    fn keeper_gone(&mut self, m: usize, number: u64) {
        let Some(bucket) = self.held_by(m, number) else { return };
        if !self.machines[m].alive(&bucket).is_empty() {
            return self.keeper_is_gone(m, number, 10 * MS); // what is left is being killed
        }
        if let Some(held) = self.agents[m].held.remove(&bucket) {
            let seen = held.birth.dead(Some(&held.status.told));
            self.input(m, Input::Seen(bucket, Some(Box::new(seen))));
        }
    }

    /// Work that needs the bucket's lock, and nothing of it alive.
    fn work(&mut self, m: usize, bucket: BucketName, done: Done, looks: u32) {
        if self.machines[m].locks.contains_key(&bucket) {
            if looks < LOOKS {
                return self.later_agent(m, LOOK_AGAIN, AtAgent::Work(bucket, done, looks + 1));
            }
            return self.input(m, Input::Done(bucket, failed("a keeper holds the bucket")));
        }
        self.machines[m].locks.insert(bucket.clone(), Holder::Agent);
        for pid in self.machines[m].alive(&bucket) {
            self.kill_program(m, pid);
        }
        self.swept(m, bucket, done);
    }

    fn swept(&mut self, m: usize, bucket: BucketName, done: Done) {
        if !self.machines[m].alive(&bucket).is_empty() {
            return self.later_agent(m, 10 * MS, AtAgent::Swept(bucket, done));
        }
        let takes = self.disk_takes(m);
        self.later_agent(m, takes, AtAgent::Sworn(bucket, done));
    }

    /// It is on disk now.
    fn sworn(&mut self, m: usize, bucket: BucketName, done: Done) {
        let machine = &mut self.machines[m];
        machine.locks.remove(&bucket);
        let mut fence = machine.fence(&bucket);
        match &done {
            Done::GaveUp(epoch) if !self.plan.has(Planted::GaveUpInMemory) => {
                fence.gave_up = fence.gave_up.max(*epoch);
                machine.disk.fences.insert(bucket.clone(), fence);
            }
            Done::Confirmed(revision) => {
                fence.gave_up_multi = fence.gave_up_multi.max(*revision);
                machine.disk.fences.insert(bucket.clone(), fence);
            }
            Done::Removed => {
                machine.disk.plans.remove(&bucket);
                machine.disk.statuses.remove(&bucket);
            }
            _ => {}
        }
        self.input(m, Input::Done(bucket, done));
    }

    /// SIGKILL to everything of a bucket, its keeper included.
    fn end_all(&mut self, m: usize, bucket: &BucketName) {
        if let Some(number) = self.machines[m].keeper_of(bucket) {
            self.kill_keeper(m, number);
        }
        for pid in self.machines[m].alive(bucket) {
            self.kill_program(m, pid);
        }
    }
}
