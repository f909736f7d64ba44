//! Which instances are started again and again: their programs end soon, and never often enough to be given up.

use std::collections::{BTreeMap, VecDeque};
use std::iter::repeat_n;

use sheaf_engine::node::{Done, Input, Seen};
use sheaf_model::{BucketName, Moment, Span};

/// An instance with so many restarts …
const MANY: usize = 3;
/// … within this time is one of them.
const WITHIN: Span = Span::seconds(30 * 60);

/// The restarts of what is alive here.
#[derive(Debug, Default)]
pub(crate) struct Restarts(BTreeMap<BucketName, Counted>);

#[derive(Debug)]
struct Counted {
    /// As its keeper counts them.
    restarts: u32,
    /// When the last ones were heard of, oldest first, at most [`MANY`]. Of those before this agent's life nobody knows.
    last: VecDeque<Moment>,
}

impl Restarts {
    /// Takes note of what the input says of instances.
    pub(crate) fn take(&mut self, input: &Input, now: Moment) {
        match input {
            Input::Found(found) => {
                for it in found {
                    self.saw(&it.bucket, it.seen.as_ref(), now);
                }
            }
            Input::Seen(bucket, seen) => self.saw(bucket, seen.as_deref(), now),
            Input::Done(bucket, Done::Started(seen)) => self.saw(bucket, Some(seen), now),
            Input::Done(bucket, Done::Removed) => self.saw(bucket, None, now),
            _ => {}
        }
    }

    fn saw(&mut self, bucket: &BucketName, seen: Option<&Seen>, now: Moment) {
        let Some(seen) = seen.filter(|seen| seen.observed.is_alive()) else {
            self.0.remove(bucket);
            return;
        };
        let restarts = seen.restarts;
        let counted = self.0.entry(bucket.clone());
        let counted = counted.or_insert_with(|| Counted { restarts, last: VecDeque::new() });
        let more = usize::try_from(restarts.saturating_sub(counted.restarts)).unwrap_or(MANY);
        counted.restarts = restarts;
        counted.last.extend(repeat_n(now, more.min(MANY)));
        while counted.last.len() > MANY {
            counted.last.pop_front();
        }
    }

    /// How many instances are started again and again now.
    pub(crate) fn count(&self, now: Moment) -> usize {
        let is_one = |counted: &&Counted| {
            counted.last.len() == MANY && counted.last.front().is_some_and(|first| now.since(*first) < WITHIN)
        };
        self.0.values().filter(is_one).count()
    }
}

#[cfg(test)]
mod tests {
    use sheaf_engine::reconcile::{Ended, Life, Mode, Observed, Origin};
    use sheaf_model::{Phase, Revision};

    use super::*;

    const MINUTE: u64 = 60_000;

    fn seen(restarts: u32, life: Life) -> Box<Seen> {
        let none = Revision::default();
        let origin = Origin { revision: none, basis: none, content: 0, live: None, artifact: None };
        Box::new(Seen {
            observed: Observed { mode: Mode::Multi(none), origin, life },
            phase: Phase::Backoff,
            pid: None,
            started_at: None,
            restarts,
            exit: None,
            message: String::new(),
            deadline: None,
            purged: None,
        })
    }

    #[test]
    fn only_what_is_started_again_often_and_lately_counts() {
        let bucket = BucketName::new("/a").expect("a name");
        let says = |restarts| Input::Seen(bucket.clone(), Some(seen(restarts, Life::Alive)));
        let mut all = Restarts::default();
        let mut at = |minute: u64, input: Input| {
            all.take(&input, Moment(minute * MINUTE));
            all.count(Moment(minute * MINUTE))
        };
        assert_eq!(at(0, says(100)), 0, "those of before are not counted");
        assert_eq!((at(1, says(101)), at(1, says(101)), at(9, says(102))), (0, 0, 0));
        assert_eq!(at(10, says(103)), 1);
        assert_eq!((at(30, Input::Tick), at(31, Input::Tick)), (1, 0), "the first one is over");
        assert_eq!((at(32, says(104)), at(38, says(105))), (1, 1), "it goes on");
        assert_eq!(at(39, Input::Seen(bucket.clone(), Some(seen(105, Life::Dead(Ended::Finished))))), 0);
        // Anew, and several are heard of at once.
        assert_eq!(at(40, Input::Done(bucket.clone(), Done::Started(seen(0, Life::Alive)))), 0);
        assert_eq!(at(41, says(7)), 1);
        assert_eq!(at(42, Input::Done(bucket.clone(), Done::Removed)), 0);
    }
}
