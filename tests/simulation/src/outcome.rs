//! What came of a run.

use std::fmt;

use crate::clock::{SECOND, Time};
use crate::plan::SEED;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// By what, in words.
    pub what: String,
    /// At which true time, in microseconds.
    pub at: Time,
}

/// The rules that are checked. The numbers are those of the manual's list of invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// 1: no two instances of a single-node bucket overlap.
    Overlap,
    /// 2: epochs grow, and nothing runs under one that was never bound.
    Epoch,
    /// 3: nothing is started where the last conclusive check said no, or goes on where anything refuses it.
    Available,
    /// 4: with a quorum and an available node every unsuspended bucket runs.
    Runs,
    /// 5: each available node runs a multi-node bucket exactly once.
    Everywhere,
    /// 6: what was acknowledged is never lost.
    Acknowledged,
    /// What must hold of the replicated state.
    State,
    /// Replicas that applied the same entries are equal; a committed entry stays.
    Replicas,
    /// A subtask has one recorded success, or ends otherwise; no attempt's number is given or begun twice.
    Attempts,
    /// What ran of a bucket where it is bound no more has left nothing on the disk.
    LeftOver,
    /// What is on a disk of a bucket stays as long as the bucket does, and goes by no state from before it was started.
    Kept,
    /// Agents are heard as often as the settings say, also in sessions that stood when these were changed.
    Pace,
    /// What runs on a node is on record as running, and what is on record as running runs.
    Told,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}.{:06}: {}", self.rule, self.at / SECOND, self.at % SECOND, self.what)
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The plan's name.
    pub plan: String,
    /// The first rule that was broken, if any; the run ends there.
    pub violation: Option<Violation>,
    /// A hash of everything that happened: equal for the same seed and plan.
    pub trace: u64,
    /// How many events there were.
    pub steps: u64,
    /// What there was of everything worth counting.
    pub counts: Counts,
    /// A line of every event worth reading, if the plan asked for it.
    pub lines: Vec<String>,
}

/// How often things happened: a run in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leaders elected.
    pub elections: u64,
    /// Leaders elected within W (4 s) of the one before.
    pub elections_within_wait: u64,
    /// Bindings made.
    pub binds: u64,
    /// Of those, to the node that had the bucket before.
    pub binds_to_same: u64,
    /// Programs started.
    pub starts: u64,
    /// Client changes acknowledged.
    pub acknowledged: u64,
    /// Faults.
    pub faults: u64,
    /// Decisions that were refused or never committed.
    pub refused: u64,
    /// Nodes that were to be emptied.
    pub drained: u64,
    /// Buckets that an operator moved.
    pub moved: u64,
    /// Changes of nodes' own config.
    pub configs_changed: u64,
    /// Nodes that were forgotten.
    pub forgotten: u64,
    /// Changes of how long leases last …
    pub leases_changed: u64,
    /// … of which so many were asked for while leases given before another one were still waited for …
    pub leases_changed_again: u64,
    /// … after which those given before were waited for, and over.
    pub leases_settled: u64,
    /// Sessions that took another pace while they stood.
    pub paces_changed: u64,
    /// Agents that stopped by plan and left a stand-in.
    pub stand_ins: u64,
    /// Stand-ins that an agent relieved.
    pub relieved: u64,
    /// Stand-ins whose machine lost power.
    pub stand_ins_lost: u64,
    /// Single-node programs that lived on under a stand-in for longer than any lease.
    pub outlived_leases: u64,
    /// Keepers paused while only a stand-in watched over them.
    pub paused_beside_stand_ins: u64,
    /// Agents that stopped once their work was elsewhere …
    pub released: u64,
    /// … with so many bindings of theirs after all, …
    pub left_behind: u64,
    /// … and those for which that took too long.
    pub released_late: u64,
    /// Instances that were removed from where they ran since their bucket is bound to another node.
    pub cleared: u64,
    /// Watches of agents that had restarted and began with a state from before something on their disk was started.
    pub began_behind: u64,
    /// How many buckets ended with the machines that were lost at once.
    pub interrupted: u64,
    /// After how long, in microseconds, every bucket ran again.
    pub restored: Option<Time>,
    /// Attempts of subtasks that agents began.
    pub attempts: u64,
    /// Messages after which a node had more of them than it runs at a time.
    pub granted_ahead: u64,
    /// Attempts that were handed back before they began: as they were asked for, …
    pub given_back: u64,
    /// … and as they lay ready for too long.
    pub stalled: u64,
    /// Attempts that were sent since a new session did not know of them.
    pub sent_again: u64,
    /// Sessions that broke with what they had just brought of jobs.
    pub broken_at_work: u64,
    /// Subtasks that finished.
    pub subtasks_finished: u64,
    /// Hunts that began …
    pub hunts: u64,
    /// … and leaders that did what was waited for to set upon them.
    pub caught: u64,
    /// What went wrong, each as often as it took effect.
    pub wrong: Wrong,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// Messages lost, other than by a cut.
    pub lost: u64,
    /// Messages that came twice.
    pub doubled: u64,
    /// Messages that others have overtaken, or may have: late by more than any usual delay.
    pub late: u64,
    /// Ways that were cut, some in both directions, …
    pub cuts: u64,
    /// … and some in one alone.
    pub one_way_cuts: u64,
    /// Agents paused.
    pub paused_agents: u64,
    /// Keepers paused.
    pub paused_keepers: u64,
    /// Voters paused.
    pub paused_voters: u64,
    /// Machines paused while their clocks went on, …
    pub frozen: u64,
    /// … and with clocks that stood still.
    pub stood_still: u64,
    /// Agents that crashed.
    pub crashed_agents: u64,
    /// Voters that crashed.
    pub crashed_voters: u64,
    /// Machines that lost power, …
    pub powerless: u64,
    /// … and those that lost their disk with it.
    pub wiped: u64,
    /// Disks that were slow for a while.
    pub slow_disks: u64,
    /// Voters whose watches said nothing for a while.
    pub stale_watches: u64,
    /// Reports that were not recorded.
    pub not_recorded: u64,
}

impl Wrong {
    /// Each by its name.
    pub fn all(&self) -> [(&'static str, u64); 17] {
        [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("late", self.late),
            ("cuts", self.cuts),
            ("one-way cuts", self.one_way_cuts),
            ("paused agents", self.paused_agents),
            ("paused keepers", self.paused_keepers),
            ("paused voters", self.paused_voters),
            ("frozen", self.frozen),
            ("clocks that stood still", self.stood_still),
            ("crashed agents", self.crashed_agents),
            ("crashed voters", self.crashed_voters),
            ("power", self.powerless),
            ("wiped", self.wiped),
            ("slow disks", self.slow_disks),
            ("stale watches", self.stale_watches),
            ("reports not recorded", self.not_recorded),
        ]
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, c) = (self.seed, &self.counts);
        match &self.violation {
            None => write!(f, "seed {seed}: {} steps, {c:?}", self.steps),
            Some(violation) => {
                let plan =
                    if self.plan == SEED { String::new() } else { format!("SHEAF_PLAN={} ", self.plan) };
                write!(
                    f,
                    "seed {seed} fails, {violation}; repeat it: {plan}SHEAF_SEED={seed} cargo test -p sheaf-simulation \
                     --test seeds -- --exact one_seed --nocapture"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    #[test]
    fn the_line_of_a_failure_repeats_its_own_plan() {
        let violation = Some(Violation { rule: Rule::Overlap, what: "two".to_owned(), at: 0 });
        for plan in [Plan::of_seed(7), Plan::large(100, 50, 10), Plan::losing(100, 50)] {
            let outcome = Outcome {
                seed: 7,
                plan: plan.name.clone(),
                violation: violation.clone(),
                ..Outcome::default()
            };
            let line = outcome.to_string();
            assert!(line.contains("SHEAF_SEED=7"), "{line}");
            assert_eq!(line.contains(&format!("SHEAF_PLAN={} ", plan.name)), plan.name != SEED, "{line}");
            let again = Plan::named(&plan.name, 7).expect("its name leads back");
            assert_eq!(format!("{again:?}"), format!("{plan:?}"));
        }
        assert!(Plan::named("large:100", 7).is_none() && Plan::named("other", 7).is_none());
    }
}
