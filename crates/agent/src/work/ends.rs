//! Ends of attempts, until they are in the log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sheaf_model::session::ToLeader;
use sheaf_model::{Attempt, AttemptEnd, Ending, Failure, JobId};
use tokio::time::Instant;

/// Ends that came so soon one after the other share a message.
const GATHER: Duration = Duration::from_millis(2);
/// The same while so much lies ready here that no slot waits for them to be recorded: each entry of the log carries more.
const GATHER_LONG: Duration = Duration::from_millis(40);
/// Ends in one message.
const AT_ONCE: usize = 1_000;
/// Bytes of what is said of failures in one message, beyond the last one's: with all else of it this fits into an entry of the
/// log, which takes 1 MiB. One that does not would never be recorded, and block those behind it.
const BYTES: usize = 512 << 10;
/// Of one failure no more is said, in bytes: the end. The cluster keeps no more.
const FAILURE_MAX: usize = 4 << 10;
/// Messages that may be under way; then ends gather.
const UNRECORDED: usize = 4;
/// After so long without any of them being recorded they are said again: a leader that could not write them says nothing.
/// Longer than a write takes while there is a majority; what is recorded twice is answered as stale.
const SAY_AGAIN: Duration = Duration::from_secs(12);

/// Ends that are to be said, and that were.
#[derive(Debug, Default)]
pub(super) struct Ends {
    waiting: VecDeque<(JobId, AttemptEnd)>,
    /// When the first of those came.
    since: Option<Instant>,
    /// Messages in the order in which they were said, with the moment of the last time.
    said: VecDeque<Said>,
    seq: u64,
}

/// A message that is under way.
#[derive(Debug)]
struct Said {
    seq: u64,
    at: Instant,
    ends: Vec<(JobId, AttemptEnd)>,
}

impl Ends {
    /// Whether all is recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.said.is_empty()
    }

    /// How many are not recorded.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.said.iter().map(|said| said.ends.len()).sum::<usize>()
    }

    /// When something is to be said, where so many subtasks lie ready; none: there is nothing, or enough is under way.
    pub(super) fn say_at(&self, ready: usize) -> Option<Instant> {
        let since = self.since.filter(|_| self.may_say())?;
        // To the leader what has ended takes room until it is recorded: what lies ready must last until then.
        let plenty = ready > 2 * self.waiting.len();
        Some(since + if plenty { GATHER_LONG } else { GATHER })
    }

    fn may_say(&self) -> bool {
        !self.waiting.is_empty() && self.said.len() < UNRECORDED
    }

    /// When what was said is to be said again; none: nothing was that is not recorded.
    pub(super) fn due(&self) -> Option<Instant> {
        self.said.iter().map(|said| said.at + SAY_AGAIN).min()
    }

    pub(super) fn push(&mut self, job: JobId, mut end: AttemptEnd, now: Instant) {
        if let Ending::Failed(Failure { message: why, .. }) | Ending::NotNow(_, why) = &mut end.ending {
            let begin = why.ceil_char_boundary(why.len().saturating_sub(FAILURE_MAX));
            why.drain(..begin);
        }
        self.since.get_or_insert(now);
        self.waiting.push_back((job, end));
    }

    /// The next message.
    pub(super) fn next(&mut self, now: Instant) -> Option<ToLeader> {
        if !self.may_say() {
            return None;
        }
        let mut bytes = 0;
        let fits = |(_, end): &&(JobId, AttemptEnd)| {
            let fits = bytes < BYTES;
            bytes += said_of(end);
            fits
        };
        let count = self.waiting.iter().take(AT_ONCE).take_while(fits).count();
        let some: Vec<_> = self.waiting.drain(..count).collect();
        self.since = self.since.filter(|_| !self.waiting.is_empty());
        self.seq += 1;
        let message = message(self.seq, &some);
        self.said.push_back(Said { seq: self.seq, at: now, ends: some });
        Some(message)
    }

    /// What was said long ago and is not recorded, once more as it was: an answer that is late counts for both.
    pub(super) fn repeat(&mut self, now: Instant) -> Vec<ToLeader> {
        let late = self.said.iter_mut().filter(|said| said.at + SAY_AGAIN <= now);
        late.map(|said| {
            said.at = now;
            message(said.seq, &said.ends)
        })
        .collect()
    }

    /// In a new session: what was said was said to nobody, or recorded without our hearing of it: then it is answered as stale.
    pub(super) fn again(&mut self) {
        let first = self.said.front().map(|said| said.at);
        let said: Vec<_> = self.said.drain(..).flat_map(|said| said.ends).collect();
        said.into_iter().rev().for_each(|end| self.waiting.push_front(end));
        self.since = self.since.or(first).filter(|_| !self.waiting.is_empty());
    }

    /// This message is in the log: these attempts are over. Of those before it that says nothing: the leader writes several at
    /// a time, and may have failed to write one.
    pub(super) fn recorded(&mut self, seq: u64) -> Vec<Attempt> {
        let said = self.said.iter().position(|said| said.seq == seq).and_then(|at| self.said.remove(at));
        let ends = said.into_iter().flat_map(|said| said.ends);
        ends.map(|(job, end)| Attempt { job, subtask: end.subtask, number: end.attempt }).collect()
    }
}

/// Bytes of what is said for people.
fn said_of(end: &AttemptEnd) -> usize {
    match &end.ending {
        Ending::Failed(Failure { message: why, .. }) | Ending::NotNow(_, why) => why.len(),
        Ending::Finished | Ending::Canceled | Ending::HandedBack => 0,
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
    use sheaf_model::{FailureClass, Span, Timestamp};

    use super::*;

    const JOB: JobId = JobId(7);

    fn ends(subtasks: std::ops::Range<u32>) -> Ends {
        let mut ends = Ends::default();
        for subtask in subtasks {
            let (started_at, took) = (Timestamp(0), Span(1));
            let end = AttemptEnd { subtask, attempt: 1, started_at, took, ending: Ending::Finished };
            ends.push(JOB, end, Instant::now());
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
        assert!(ends.recorded(1).is_empty(), "the former message");
        let over = ends.recorded(2);
        assert_eq!(over, [0, 1].map(|subtask| Attempt { job: JOB, subtask, number: 1 }));
        assert!(ends.is_empty() && ends.due().is_none());
    }

    #[test]
    fn while_plenty_lies_ready_ends_gather_for_longer() {
        let mut ends = ends(0..0);
        assert_eq!(ends.say_at(100), None, "there is nothing to say");
        let begun = Instant::now();
        let end = |subtask| {
            let (started_at, took) = (Timestamp(0), Span(1));
            AttemptEnd { subtask, attempt: 1, started_at, took, ending: Ending::Finished }
        };
        ends.push(JOB, end(0), begun);
        ends.push(JOB, end(1), begun + GATHER);
        assert_eq!(ends.say_at(0), Some(begun + GATHER), "however often another one comes");
        assert_eq!(ends.say_at(4), Some(begun + GATHER), "what lies ready is soon used up");
        assert_eq!(ends.say_at(5), Some(begun + GATHER_LONG));
        assert_eq!(said(ends.next(begun)), (1, vec![0, 1]));
        assert_eq!((ends.say_at(5), ends.len()), (None, 2));
        ends.again();
        assert_eq!(ends.say_at(0), Some(begun + GATHER), "in a new session");
        assert_eq!(said(ends.next(begun)), (2, vec![0, 1]));
        ends.recorded(2);
        assert_eq!((ends.say_at(5), ends.len()), (None, 0));
    }

    #[test]
    fn what_is_said_of_failures_never_makes_a_message_too_long() {
        let (mut ends, now) = (Ends::default(), Instant::now());
        let at_once = u32::try_from(BYTES / FAILURE_MAX).unwrap();
        let count = at_once + 20;
        for subtask in 0..count {
            let failure =
                Failure { class: FailureClass::Exit, exit: None, message: "ä".repeat(FAILURE_MAX) };
            let (started_at, took) = (Timestamp(0), Span(1));
            let end = AttemptEnd { subtask, attempt: 1, started_at, took, ending: Ending::Failed(failure) };
            ends.push(JOB, end, now);
        }
        assert_eq!(said_of(&ends.waiting[0].1), FAILURE_MAX);
        let first = ends.next(now);
        let entry = serde_json::to_vec(&first).unwrap().len();
        assert!(entry < 1 << 20, "an entry of the log takes less than {entry} bytes");
        assert_eq!(said(first), (1, (0..at_once).collect()));
        assert!(ends.say_at(0).is_some(), "the rest goes at once");
        assert_eq!(said(ends.next(now)), (2, (at_once..count).collect()));
        assert_eq!(ends.recorded(1).len() + ends.recorded(2).len(), count as usize);
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
        ends.push(JOB, ends.said[0].ends[0].1.clone(), later);
        assert!(!ends.may_say() && ends.next(later).is_none(), "enough is under way");
        assert_eq!(ends.recorded(2).len(), 1_000);
        assert_eq!(
            ends.due(),
            Some(begun + SAY_AGAIN),
            "one that could not be written is told by none that could"
        );
        let again: Vec<u64> = ends.repeat(begun + SAY_AGAIN).into_iter().map(|it| said(Some(it)).0).collect();
        assert_eq!(again, [1, 3], "the last one is not late yet");
        assert_eq!(ends.due(), Some(later + SAY_AGAIN));
        assert_eq!(ends.recorded(1).len(), 1_000);
        ends.again();
        assert_eq!(said(ends.next(later)).1[0], 2_000, "in their order");
    }
}
