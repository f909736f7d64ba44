//! Whether what callers saw of a register can be put into one order that respects time: linearizability.
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) as bettered by Lowe ("Testing for
//! linearizability", 2017): try every operation that may come next, and remember each set of operations with the value
//! it leads to, so that nothing is tried twice.
//!
//! Calls without an answer would double the number of sets each. So one of them gets a place only right before an
//! operation that cannot be explained without it: wherever else it stood, it could be moved there, since nothing says by
//! when it was done, or be left out.

use std::collections::HashSet;

/// Sets of operations that are looked at before the search gives up. A history of a few hundred calls by a handful of
/// callers needs some thousands.
const MOST: usize = 4_000_000;

/// What was asked of a register whose values are numbers, each written at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Be this.
    Write(u64),
    /// Be `new` if you are `old`.
    Swap {
        /// What it must be.
        old: u64,
        /// What it becomes.
        new: u64,
    },
    /// What are you?
    Read,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was something else, and is so still.
    Refused,
    /// It is this.
    Value(u64),
    /// None came: it may have been done, may be done later, or never.
    None,
}

/// A call and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Asked.
    pub ask: Ask,
    /// Answered.
    pub answer: Answer,
    /// When it was asked, in any unit that all operations share.
    pub called: u64,
    /// When the answer came; without an answer it means nothing.
    pub returned: u64,
}

impl Operation {
    /// What the register is after it, if it may come when the register is `value`.
    fn after(&self, value: u64) -> Option<u64> {
        match (self.ask, self.answer) {
            (Ask::Write(new), Answer::Done | Answer::None) => Some(new),
            (Ask::Swap { old, new }, Answer::Done) => (old == value).then_some(new),
            (Ask::Swap { old, .. }, Answer::Refused) => (old != value).then_some(value),
            (Ask::Swap { old, new }, Answer::None) => Some(if old == value { new } else { value }),
            (Ask::Read, Answer::Value(read)) => (read == value).then_some(value),
            (Ask::Read, Answer::None) => Some(value),
            _ => None,
        }
    }

    /// By when it must have been done.
    const fn latest(&self) -> u64 {
        match self.answer {
            Answer::None => u64::MAX,
            _ => self.returned,
        }
    }

    /// Whether it has a place after one that got no answer and found `before`: it could not be explained by that.
    fn needs_more_than(&self, before: u64) -> bool {
        match (self.ask, self.answer) {
            (Ask::Write(_), _) | (Ask::Read, Answer::None) => false,
            // Only one that changes something explains anything.
            (Ask::Swap { old, .. }, Answer::None) => old != before,
            _ => self.after(before).is_none(),
        }
    }
}

/// Whether the operations can be put into an order that explains every answer, beginning with the value `first`.
/// Values must be those of the operations or `first`.
///
/// # Errors
/// With the operations around the point which no order gets past.
pub fn check(first: u64, operations: &[Operation]) -> Result<(), String> {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.called);
    let answered = operations.iter().filter(|operation| operation.answer != Answer::None).count();
    let mut search = Search { operations: &operations, seen: HashSet::new(), stuck: (0, first) };
    let mut open = vec![Place { chosen: Chosen::new(operations.len()), value: first, before: None }];
    while let Some(place) = open.pop() {
        if place.chosen.answered == answered {
            return Ok(());
        }
        if search.seen.len() > MOST {
            return Err(format!("gave up after {MOST} sets of {} operations", operations.len()));
        }
        search.next(&place, &mut open);
    }
    Err(search.explain())
}

/// Operations that have their place in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chosen {
    bits: Vec<u64>,
    /// Those of them that were answered.
    answered: usize,
    /// All before this one are among them.
    whole: usize,
}

impl Chosen {
    fn new(count: usize) -> Self {
        Self { bits: vec![0; count.div_ceil(64)], answered: 0, whole: 0 }
    }

    fn has(&self, index: usize) -> bool {
        self.bits[index / 64] >> (index % 64) & 1 == 1
    }

    fn with(&self, index: usize, answered: bool) -> Self {
        let mut more = self.clone();
        more.bits[index / 64] |= 1 << (index % 64);
        more.answered += usize::from(answered);
        while more.whole < 64 * more.bits.len() && more.has(more.whole) {
            more.whole += 1;
        }
        more
    }
}

/// The begin of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    chosen: Chosen,
    /// What the register is after it.
    value: u64,
    /// What it was before the last operation, if that is one without an answer.
    before: Option<u64>,
}

struct Search<'a> {
    /// By when they were asked.
    operations: &'a [Operation],
    seen: HashSet<Place>,
    /// The most answers that an order explains, and the value it ends with.
    stuck: (usize, u64),
}

impl Search<'_> {
    /// Every way to go on. The likeliest comes last, for the last is taken first.
    fn next(&mut self, place: &Place, open: &mut Vec<Place>) {
        let Place { chosen, value, before } = place;
        if chosen.answered >= self.stuck.0 {
            self.stuck = (chosen.answered, *value);
        }
        let mut ways = self.open_after(chosen);
        ways.sort_by_key(|index| std::cmp::Reverse(self.operations[*index].latest()));
        for index in ways {
            let operation = &self.operations[index];
            let answered = operation.answer != Answer::None;
            if before.is_some_and(|before| !operation.needs_more_than(before)) {
                continue;
            }
            let Some(after) = operation.after(*value).filter(|after| answered || after != value) else {
                continue;
            };
            let before = (!answered).then_some(*value);
            let more = Place { chosen: chosen.with(index, answered), value: after, before };
            if self.seen.insert(more.clone()) {
                open.push(more);
            }
        }
    }

    /// Operations that may come next: nothing may that was asked after another had its answer.
    fn open_after(&self, chosen: &Chosen) -> Vec<usize> {
        let mut until = u64::MAX;
        let mut found = Vec::new();
        for index in (chosen.whole..self.operations.len()).filter(|index| !chosen.has(*index)) {
            let operation = &self.operations[index];
            if operation.called > until {
                break;
            }
            until = until.min(operation.latest());
            found.push(index);
        }
        found.retain(|index| self.operations[*index].called <= until);
        found
    }

    fn explain(&self) -> String {
        let (explained, value) = self.stuck;
        let mut by_answer: Vec<&Operation> = self.operations.iter().collect();
        by_answer.sort_by_key(|operation| operation.latest());
        let around = by_answer.iter().skip(explained.saturating_sub(4)).take(9);
        let lines: Vec<String> = around.map(|operation| format!("  {operation:?}")).collect();
        format!(
            "no order explains more than {explained} of the answers; the register is {value} there, about at\n{}",
            lines.join("\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(ask: Ask, answer: Answer, called: u64, returned: u64) -> Operation {
        Operation { ask, answer, called, returned }
    }

    fn write(value: u64, called: u64, returned: u64) -> Operation {
        operation(Ask::Write(value), Answer::Done, called, returned)
    }

    fn read(value: u64, called: u64, returned: u64) -> Operation {
        operation(Ask::Read, Answer::Value(value), called, returned)
    }

    fn swap(old: u64, new: u64, answer: Answer, called: u64, returned: u64) -> Operation {
        operation(Ask::Swap { old, new }, answer, called, returned)
    }

    fn lost(value: u64, called: u64) -> Operation {
        operation(Ask::Write(value), Answer::None, called, 0)
    }

    #[test]
    fn what_is_in_order_is() {
        assert_eq!(check(0, &[]), Ok(()));
        assert_eq!(check(0, &[read(0, 0, 1), write(1, 2, 3), read(1, 4, 5)]), Ok(()));
        assert_eq!(check(0, &[write(1, 0, 9), write(2, 1, 2), read(2, 3, 4), read(1, 5, 6)]), Ok(()));
        assert_eq!(check(0, &[swap(0, 1, Answer::Done, 0, 1), swap(0, 2, Answer::Refused, 2, 3)]), Ok(()));
    }

    #[test]
    fn an_old_value_after_a_new_one_is_not() {
        assert!(check(0, &[write(1, 0, 1), read(0, 2, 3)]).is_err());
        assert!(check(0, &[write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)]).is_err());
        assert!(check(0, &[write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]).is_err());
    }

    #[test]
    fn of_two_swaps_of_one_value_one_is_done() {
        let both = [swap(0, 1, Answer::Done, 0, 9), swap(0, 2, Answer::Done, 0, 9)];
        assert!(check(0, &both).is_err());
        let one = [swap(0, 1, Answer::Done, 0, 9), swap(0, 2, Answer::Refused, 0, 9)];
        assert_eq!(check(0, &one), Ok(()));
        assert!(check(0, &[swap(0, 1, Answer::Refused, 0, 1)]).is_err(), "it was what it had to be");
    }

    #[test]
    fn what_got_no_answer_happens_at_any_later_time_or_never() {
        assert_eq!(check(0, &[lost(1, 0), read(0, 1, 2), read(1, 3, 4)]), Ok(()));
        assert_eq!(check(0, &[lost(1, 0), read(0, 1, 2), read(0, 3, 4)]), Ok(()));
        assert!(
            check(0, &[lost(1, 0), read(1, 1, 2), read(0, 3, 4)]).is_err(),
            "and once done it stays done"
        );
        assert!(check(0, &[read(1, 0, 1), lost(1, 2)]).is_err(), "not before it was asked");
        let swapped = swap(0, 1, Answer::None, 0, 0);
        assert_eq!(check(0, &[swapped, write(2, 1, 2), read(2, 3, 4)]), Ok(()));
        assert!(check(0, &[swapped, write(2, 1, 2), read(1, 3, 4)]).is_err());
    }

    /// Calls as they would come from callers that are served one at a time, at some moment of the call.
    #[test]
    fn a_long_history_is_checked_and_one_wrong_answer_found() {
        let mut operations: Vec<Operation> = Vec::new();
        let mut value = 0;
        for turn in 1..2_000_u64 {
            // Served at 10 × turn; the call takes up to 40 around it.
            let (called, returned) = (10 * turn - turn * 7 % 20, 10 * turn + turn * 13 % 20);
            operations.push(match turn % 5 {
                0 | 1 => {
                    value = turn;
                    write(turn, called, returned)
                }
                2 => {
                    let old = value;
                    value = turn;
                    swap(old, turn, Answer::Done, called, returned)
                }
                3 => swap(value + 1, turn, Answer::Refused, called, returned),
                _ => read(value, called, returned),
            });
            if turn % 100 == 0 {
                operations.push(operation(Ask::Write(1_000_000 + turn), Answer::None, called, 0));
            }
        }
        assert_eq!(check(0, &operations), Ok(()));
        let wrong = operations.iter_mut().filter(|operation| operation.ask == Ask::Read).nth(200);
        wrong.expect("there are as many").answer = Answer::Value(3);
        let found = check(0, &operations);
        assert!(found.as_ref().is_err_and(|text| text.contains("Value(3)")), "{found:?}");
    }
}
