//! What there is, counted.

use serde::{Deserialize, Serialize};

use super::BucketState;

/// Nodes counted, in `cluster status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct NodeCounts {
    pub ready: u32,
    pub lost: u32,
    pub draining: u32,
}

/// Buckets counted, in `cluster status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct BucketCounts {
    pub running: u32,
    pub partial: u32,
    pub unplaced: u32,
    pub suspended: u32,
    pub failed: u32,
    /// In any other state: those below together. An agent of a release that does not tell them apart says this alone.
    pub other: u32,
    pub placing: u32,
    pub starting: u32,
    pub stopping: u32,
    pub quarantined: u32,
    pub waiting_for_node: u32,
}

impl BucketCounts {
    /// How many are in this state.
    pub const fn of(&self, state: BucketState) -> u32 {
        match state {
            BucketState::Placing => self.placing,
            BucketState::Starting => self.starting,
            BucketState::Running => self.running,
            BucketState::Partial => self.partial,
            BucketState::Unplaced => self.unplaced,
            BucketState::Failed => self.failed,
            BucketState::Suspended => self.suspended,
            BucketState::Quarantined => self.quarantined,
            BucketState::Stopping => self.stopping,
            BucketState::WaitingForNode => self.waiting_for_node,
        }
    }

    /// How many of the others an agent of a former release counts together alone.
    pub const fn untold(&self) -> u32 {
        let rest = self.other.saturating_sub(self.placing).saturating_sub(self.starting);
        rest.saturating_sub(self.stopping)
            .saturating_sub(self.quarantined)
            .saturating_sub(self.waiting_for_node)
    }

    /// Counts one more that is in this state.
    pub const fn add(&mut self, state: BucketState) {
        let (count, is_other) = match state {
            BucketState::Running => (&mut self.running, false),
            BucketState::Partial => (&mut self.partial, false),
            BucketState::Unplaced => (&mut self.unplaced, false),
            BucketState::Suspended => (&mut self.suspended, false),
            BucketState::Failed => (&mut self.failed, false),
            BucketState::Placing => (&mut self.placing, true),
            BucketState::Starting => (&mut self.starting, true),
            BucketState::Stopping => (&mut self.stopping, true),
            BucketState::Quarantined => (&mut self.quarantined, true),
            BucketState::WaitingForNode => (&mut self.waiting_for_node, true),
        };
        *count += 1;
        self.other += is_other as u32;
    }
}

/// Jobs counted, in `cluster status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct JobCounts {
    pub running: u32,
    pub paused: u32,
    pub finished: u32,
    pub failed: u32,
    pub canceled: u32,
    /// Subtasks of running jobs that could start.
    pub subtasks_ready: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_counted_by_itself_and_the_rarer_ones_together_too() {
        let mut counts = BucketCounts::default();
        for (times, state) in (1..).zip(BucketState::ALL) {
            (0..times).for_each(|_| counts.add(state));
        }
        for (times, state) in (1..).zip(BucketState::ALL) {
            assert_eq!(counts.of(state), times, "{}", state.as_str());
        }
        let promised = [counts.running, counts.partial, counts.unplaced, counts.suspended, counts.failed];
        let all: u32 = BucketState::ALL.into_iter().map(|state| counts.of(state)).sum();
        assert_eq!(promised.iter().sum::<u32>() + counts.other, all);
        assert_eq!(counts.untold(), 0);
        assert_eq!(BucketCounts { other: 3, ..BucketCounts::default() }.untold(), 3);
    }
}
