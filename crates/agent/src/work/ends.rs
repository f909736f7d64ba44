//! Ends of attempts, until they are in the log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sheaf_model::session::ToLeader;
use sheaf_model::{Attempt, AttemptEnd, JobId};
use tokio::time::Instant;

/// Ends in one message.
const AT_ONCE: usize = 1_000;
/// Messages that may be under way; then ends gather.
const UNRECORDED: usize = 4;
/// After so long without any of them being recorded they are said again: a leader that could not write them says nothing.
/// Longer than a write takes while there is a majority; what is recorded twice is answered as stale.
const SAY_AGAIN: Duration = Duration::from_secs(12);

/// Ends that are to be said, and that were.
#[derive(Debug, Default)]
pub(super) struct Ends {
    waiting: VecDeque<(JobId, AttemptEnd)>,
    /// By message.
    said: VecDeque<(u64, Vec<(JobId, AttemptEnd)>)>,
    seq: u64,
    /// When something was last said first, or recorded.
    moved: Option<Instant>,
}

impl Ends {
    /// Whether all is recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.said.is_empty()
    }

    /// Whether there is something to be said.
    pub(super) fn may_say(&self) -> bool {
        !self.waiting.is_empty() && self.said.len() < UNRECORDED
    }

    /// When what was said is to be said again; none: nothing was that is not recorded.
    pub(super) fn due(&self) -> Option<Instant> {
        self.moved.filter(|_| !self.said.is_empty()).map(|moved| moved + SAY_AGAIN)
    }

    pub(super) fn push(&mut self, job: JobId, end: AttemptEnd) {
        self.waiting.push_back((job, end));
    }

    /// The next message.
    pub(super) fn next(&mut self, now: Instant) -> Option<ToLeader> {
        if !self.may_say() {
            return None;
        }
        if self.said.is_empty() {
            self.moved = Some(now);
        }
        let some: Vec<_> = self.waiting.drain(..self.waiting.len().min(AT_ONCE)).collect();
        self.seq += 1;
        let message = message(self.seq, &some);
        self.said.push_back((self.seq, some));
        Some(message)
    }

    /// What was said and not recorded, once more as it was: an answer that is late counts for both.
    pub(super) fn repeat(&mut self, now: Instant) -> Vec<ToLeader> {
        self.moved = Some(now);
        self.said.iter().map(|(seq, ends)| message(*seq, ends)).collect()
    }

    /// In a new session: what was said was said to nobody, or recorded without our hearing of it: then it is answered as stale.
    pub(super) fn again(&mut self) {
        let said: Vec<_> = self.said.drain(..).flat_map(|(_, ends)| ends).collect();
        said.into_iter().rev().for_each(|end| self.waiting.push_front(end));
    }

    /// Messages up to this one are in the log: these attempts are over.
    pub(super) fn recorded(&mut self, seq: u64, now: Instant) -> Vec<Attempt> {
        let count = self.said.iter().take_while(|(said, _)| *said <= seq).count();
        if count > 0 {
            self.moved = Some(now);
        }
        let ends = self.said.drain(..count).flat_map(|(_, ends)| ends);
        ends.map(|(job, end)| Attempt { job, subtask: end.subtask, number: end.attempt }).collect()
    }
}

fn message(seq: u64, ends: &[(JobId, AttemptEnd)]) -> ToLeader {
    let mut by_job: BTreeMap<JobId, Vec<AttemptEnd>> = BTreeMap::new();
    for (job, end) in ends {
        by_job.entry(*job).or_default().push(end.clone());
    }
    ToLeader::Ends { seq, ends: by_job.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Ending, Span, Timestamp};

    use super::*;

    const JOB: JobId = JobId(7);

    fn ends(subtasks: std::ops::Range<u32>) -> Ends {
        let mut ends = Ends::default();
        for subtask in subtasks {
            let (started_at, took) = (Timestamp(0), Span(1));
            ends.push(JOB, AttemptEnd { subtask, attempt: 1, started_at, took, ending: Ending::Finished });
        }
        ends
    }

    fn said(message: Option<ToLeader>) -> (u64, Vec<u32>) {
        match message {
            Some(ToLeader::Ends { seq, ends }) => {
                (seq, ends.into_iter().flat_map(|(_, ends)| ends).map(|end| end.subtask).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_recorded_is_said_again_after_a_while() {
        let (mut ends, begun) = (ends(0..2), Instant::now());
        assert_eq!(ends.due(), None, "nothing was said");
        assert_eq!(said(ends.next(begun)), (1, vec![0, 1]));
        assert!(ends.next(begun).is_none() && !ends.is_empty());
        assert_eq!(ends.due(), Some(begun + SAY_AGAIN));
        let repeated = ends.repeat(begun + SAY_AGAIN).pop();
        assert_eq!(said(repeated), (1, vec![0, 1]), "the same message");
        assert_eq!(ends.due(), Some(begun + 2 * SAY_AGAIN));
        ends.again();
        assert_eq!(said(ends.next(begun + SAY_AGAIN)), (2, vec![0, 1]), "in a new session");
        assert!(ends.recorded(1, begun).is_empty(), "the former message");
        let over = ends.recorded(2, begun + SAY_AGAIN);
        assert_eq!(over, [0, 1].map(|subtask| Attempt { job: JOB, subtask, number: 1 }));
        assert!(ends.is_empty() && ends.due().is_none());
    }

    #[test]
    fn what_comes_in_the_meantime_waits_behind_it_and_moves_nothing() {
        let (mut ends, begun) = (ends(0..3_500), Instant::now());
        let later = begun + Duration::from_secs(5);
        for (seq, first) in [(1, 0), (2, 1_000), (3, 2_000)] {
            let (number, subtasks) = said(ends.next(begun));
            assert_eq!((number, subtasks.len(), subtasks[0]), (seq, AT_ONCE, first));
        }
        assert_eq!(said(ends.next(later)).1.len(), 500);
        assert_eq!(ends.due(), Some(begun + SAY_AGAIN), "the first one has waited since then");
        ends.push(JOB, ends.said[0].1[0].1.clone());
        assert!(!ends.may_say() && ends.next(later).is_none(), "enough is under way");
        assert_eq!(ends.recorded(2, later).len(), 2_000);
        assert_eq!(ends.due(), Some(later + SAY_AGAIN), "one has moved on");
        ends.again();
        assert_eq!(said(ends.next(later)).1[0], 2_000, "in their order");
    }
}
