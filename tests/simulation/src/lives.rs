//! When each program lived, in true time, and what must hold of that.

use std::collections::BTreeMap;

use sheaf_engine::reconcile::Mode;
use sheaf_model::{BucketName, Revision, Term};

use crate::clock::{MS, SECOND, Time};
use crate::machine::Program;
use crate::outcome::Rule;
use crate::truth::New;
use crate::world::World;

/// W.
const WAIT: Time = 4 * SECOND;

/// Programs that live now, by machine and number.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    now: BTreeMap<BucketName, BTreeMap<(usize, u64), Life>>,
    buckets: BTreeMap<(usize, u64), BucketName>,
    elected_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    mode: Mode,
    since: Time,
    /// It is executed; false while its machine is paused.
    runs: bool,
    /// Since when its node has known that it may not run there.
    forbidden: Option<Time>,
    /// It may overlap: the clock of its machine stood still under it, or its machine was paused beyond its lease.
    excused: bool,
}

impl Lives {
    /// How many programs of a bucket live on a machine.
    pub(crate) fn on(&self, bucket: &BucketName, m: usize) -> usize {
        self.now.get(bucket).map_or(0, |all| all.range((m, 0)..=(m, u64::MAX)).count())
    }

    /// Where programs of a bucket live, and by which right.
    pub(crate) fn of(&self, bucket: &BucketName) -> Vec<(usize, Mode)> {
        let all = self.now.get(bucket).into_iter().flatten();
        all.map(|((m, _), life)| (*m, life.mode)).collect()
    }

    /// How many single-node programs live on a machine since before then.
    pub(crate) fn single_since(&self, m: usize, since: Time) -> u64 {
        let of = |(of, life): &(&(usize, u64), &Life)| {
            of.0 == m && life.since < since && matches!(life.mode, Mode::Single(_))
        };
        self.now.values().flatten().filter(of).count() as u64
    }

    /// Every bucket of which anything lives.
    pub(crate) fn buckets(&self) -> Vec<BucketName> {
        self.now.iter().filter(|(_, all)| !all.is_empty()).map(|(bucket, _)| bucket.clone()).collect()
    }

    /// Every program: of which bucket, on which machine, with which number.
    pub(crate) fn all(&self) -> Vec<(BucketName, usize, u64)> {
        self.buckets.iter().map(|((m, pid), bucket)| (bucket.clone(), *m, *pid)).collect()
    }

    /// A program is found to be one that may not run where it does, or not; since when it was found so.
    pub(crate) fn forbidden_since(
        &mut self,
        bucket: &BucketName,
        one: (usize, u64),
        is_forbidden: bool,
        now: Time,
    ) -> Option<Time> {
        let life = self.now.get_mut(bucket)?.get_mut(&one)?;
        life.forbidden = is_forbidden.then(|| life.forbidden.unwrap_or(now));
        life.forbidden
    }

    /// A program that must not live at the same time as this one, if that counts.
    fn overlap(&self, bucket: &BucketName, one: (usize, u64)) -> Option<String> {
        let all = self.now.get(bucket)?;
        let m = one.0;
        let a = all.get(&one).filter(|it| it.runs && !it.excused)?;
        for (other, b) in all.iter().filter(|(_, it)| it.runs && !it.excused) {
            let n = other.0;
            if *other != one && (m == n || forbidden(a.mode, b.mode)) {
                let since = |life: &Life| format!("{}.{:06}", life.since / SECOND, life.since % SECOND);
                let (first, second) = (since(a), since(b));
                return Some(format!(
                    "{bucket} runs on n{m} ({:?}, since {first}) and on n{n} ({:?}, since {second})",
                    a.mode, b.mode
                ));
            }
        }
        None
    }
}

/// Single-node instances exclude each other. One that was bound after the state that a multi-node instance comes from
/// excludes that too; one that was bound before goes on until its node hears that all may run the bucket.
fn forbidden(a: Mode, b: Mode) -> bool {
    match (a, b) {
        (Mode::Single(_), Mode::Single(_)) => true,
        (Mode::Single(epoch), Mode::Multi(from)) | (Mode::Multi(from), Mode::Single(epoch)) => {
            epoch.0 & ((1 << 48) - 1) > from.0
        }
        (Mode::Multi(_), Mode::Multi(_)) => false,
    }
}

impl World {
    /// A program begins to live.
    pub(crate) fn lives(&mut self, m: usize, pid: u64, program: &Program) {
        let bucket = &program.bucket;
        self.counts.starts += 1;
        self.note(pid);
        self.line(|| format!("n{m} runs {bucket} {:?} (program {pid})", program.mode));
        if let Mode::Single(epoch) = program.mode {
            let bound = self.truth.bound_to(bucket, epoch);
            if bound.is_none() || bound != self.machines[m].disk.node {
                self.broken(Rule::Epoch, format!("{bucket} runs on n{m} under {epoch}, bound to {bound:?}"));
            }
        }
        let excused = self.now < self.machines[m].excused_until;
        let life = Life { mode: program.mode, since: self.now, runs: true, forbidden: None, excused };
        self.lives.now.entry(bucket.clone()).or_default().insert((m, pid), life);
        self.lives.buckets.insert((m, pid), bucket.clone());
        self.check_overlap(bucket, (m, pid));
    }

    fn check_overlap(&mut self, bucket: &BucketName, one: (usize, u64)) {
        if let Some(what) = self.lives.overlap(bucket, one) {
            self.broken(Rule::Overlap, what);
        }
    }

    pub(crate) fn dies(&mut self, m: usize, pid: u64) {
        let Some(bucket) = self.lives.buckets.remove(&(m, pid)) else { return };
        self.note(!pid);
        self.line(|| format!("n{m} runs {bucket} no more (program {pid})"));
        if let Some(all) = self.lives.now.get_mut(&bucket) {
            all.remove(&(m, pid));
        }
    }

    /// What runs of a bucket on a machine goes on as multi-node.
    pub(crate) fn becomes_multi(&mut self, m: usize, bucket: &BucketName, from: Revision) {
        let Some(keeper) = self.machines[m].keeper_of(bucket) else { return };
        if let Some(keeper) = self.machines[m].keepers.get_mut(&keeper) {
            keeper.multi = Some(from);
        }
        for ((of, _), life) in self.lives.now.get_mut(bucket).into_iter().flatten() {
            if *of == m {
                life.mode = Mode::Multi(from);
            }
        }
    }

    /// Nothing runs on a machine for a while.
    pub(crate) fn freeze(&mut self, m: usize, clock_stands: bool) {
        self.machines[m].frozen = true;
        if clock_stands {
            self.machines[m].clock.stand(self.now);
        }
        for ((of, _), life) in self.lives.now.values_mut().flatten() {
            if *of == m {
                life.runs = false;
            }
        }
    }

    /// It goes on. Programs whose lease ended meanwhile are killed as soon as their keepers are scheduled; what runs
    /// until then is documented as not provable, and so is the rest of a lease whose clock stood still.
    pub(crate) fn thaw(&mut self, m: usize, clock_stood: bool) {
        if !self.machines[m].frozen {
            return;
        }
        self.machines[m].frozen = false;
        if clock_stood {
            self.machines[m].clock.go(self.now);
        }
        let excuse = if clock_stood { crate::operator::LONGEST_TTL + 700 * MS } else { 700 * MS };
        self.machines[m].excused_until = self.now + excuse;
        for ((of, _), life) in self.lives.now.values_mut().flatten() {
            if *of == m {
                life.runs = true;
                life.excused = true;
            }
        }
        self.release_machine(m);
        self.undo_in(excuse, crate::faults::Undo::Excuse(m));
    }

    /// What still runs on a machine is no longer excused.
    pub(crate) fn no_excuse(&mut self, m: usize) {
        if self.now < self.machines[m].excused_until || self.machines[m].frozen {
            return;
        }
        for ((of, _), life) in self.lives.now.values_mut().flatten() {
            if *of == m {
                life.excused = false;
            }
        }
        let here = self.lives.buckets.range((m, 0)..=(m, u64::MAX));
        let here: Vec<_> = here.map(|(one, bucket)| (*one, bucket.clone())).collect();
        for (one, bucket) in here {
            self.check_overlap(&bucket, one);
        }
    }

    /// An entry was applied for the first time.
    pub(crate) fn happened(&mut self, new: &New) {
        for (bucket, epoch, node, same) in &new.bound {
            self.counts.binds += 1;
            self.counts.binds_to_same += u64::from(*same);
            self.line(|| format!("{bucket} is bound to node {node} under epoch {epoch}"));
        }
        if let Some(done) = &new.done {
            self.operated(&done.command);
        }
        for what in &new.broken {
            self.broken(Rule::State, what.clone());
        }
        if let Some(what) = &new.impossible {
            self.broken(Rule::Attempts, what.clone());
        }
        if let Some(what) = &new.shrunk {
            self.broken(Rule::Epoch, what.clone());
        }
    }

    pub(crate) fn elected(&mut self, v: usize, term: Term) {
        self.counts.elections += 1;
        let former = self.lives.elected_at.replace(self.now);
        if former.is_some_and(|at| self.now - at < WAIT) {
            self.counts.elections_within_wait += 1;
        }
        self.line(|| format!("voter {v} is elected in term {term}"));
        self.caught_at_election(v);
    }
}
