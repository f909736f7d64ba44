//! Sets and maps of numbers, kept as runs: a million waiting subtasks are one run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Consecutive numbers, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Run {
    /// The first.
    pub first: u32,
    /// The last; not below the first.
    pub last: u32,
}

/// A run as it is written. Bytes that are damaged, or of somebody who wants harm, may have it the wrong way round.
#[derive(Deserialize)]
struct Written {
    first: u32,
    last: u32,
}

impl From<Written> for Run {
    fn from(Written { first, last }: Written) -> Self {
        Self::new(first, last)
    }
}

impl Run {
    /// From `first` to `last`, whichever is the smaller.
    pub fn new(first: u32, last: u32) -> Self {
        Self { first: first.min(last), last: first.max(last) }
    }

    /// One number.
    pub const fn one(number: u32) -> Self {
        Self { first: number, last: number }
    }

    /// The first `count` numbers from 0; none if there are none.
    pub fn first_of(count: u32) -> Option<Self> {
        Some(Self { first: 0, last: count.checked_sub(1)? })
    }

    /// How many numbers.
    pub fn len(self) -> u64 {
        u64::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Never.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Whether `number` is among them.
    pub const fn contains(self, number: u32) -> bool {
        self.first <= number && number <= self.last
    }

    /// What both have.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// The numbers.
    pub fn numbers(self) -> std::ops::RangeInclusive<u32> {
        self.first..=self.last
    }
}

/// `7` or `3-9`.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A value for each of some numbers; neighbours of equal value are one run, so that equal maps are equal runs. Every
/// change costs the logarithm of the number of runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u32, u32, V)>", into = "Vec<(u32, u32, V)>")]
#[serde(bound(serialize = "V: Copy + Serialize", deserialize = "V: Copy + PartialEq + Deserialize<'de>"))]
pub struct RunMap<V: Copy> {
    /// By the first of each run: the last, and the value.
    runs: BTreeMap<u32, (u32, V)>,
    len: u64,
}

impl<V: Copy> Default for RunMap<V> {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), len: 0 }
    }
}

impl<V: Copy + PartialEq> From<Vec<(u32, u32, V)>> for RunMap<V> {
    fn from(runs: Vec<(u32, u32, V)>) -> Self {
        let mut map = Self::default();
        for (first, last, value) in runs {
            map.set(Run::new(first, last), value);
        }
        map
    }
}

impl<V: Copy> From<RunMap<V>> for Vec<(u32, u32, V)> {
    fn from(map: RunMap<V>) -> Self {
        map.runs.into_iter().map(|(first, (last, value))| (first, last, value)).collect()
    }
}

impl<V: Copy> RunMap<V> {
    /// How many numbers have a value.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// In how many runs they stand.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Run, V)> + '_ {
        self.runs.iter().map(|(first, (last, value))| (Run { first: *first, last: *last }, *value))
    }

    /// The run that a number stands in.
    pub fn run_at(&self, number: u32) -> Option<(Run, V)> {
        let (first, (last, value)) = self.runs.range(..=number).next_back()?;
        (*last >= number).then_some((Run { first: *first, last: *last }, *value))
    }

    /// The value of a number.
    pub fn get(&self, number: u32) -> Option<V> {
        self.run_at(number).map(|(_, value)| value)
    }

    /// What stands within `run`, cut to it, in order.
    pub fn within(&self, run: Run) -> impl Iterator<Item = (Run, V)> + '_ {
        let before = self.run_at(run.first).filter(|(it, _)| it.first < run.first);
        let inside = self.runs.range(run.first..=run.last);
        let inside = inside.map(|(first, (last, value))| (Run { first: *first, last: *last }, *value));
        before.into_iter().chain(inside).filter_map(move |(it, value)| Some((it.overlap(run)?, value)))
    }

    /// Takes the value away from all of `run`.
    pub fn clear(&mut self, run: Run) {
        let before = self.runs.range_mut(..run.first).next_back();
        if let Some((_, (last, value))) = before
            && *last >= run.first
        {
            let (end, value) = (std::mem::replace(last, run.first - 1), *value);
            self.len -= u64::from(end - run.first) + 1;
            if end > run.last {
                self.put(Run { first: run.last + 1, last: end }, value);
                return;
            }
        }
        while let Some((&first, &(last, value))) = self.runs.range(run.first..=run.last).next() {
            self.runs.remove(&first);
            self.len -= u64::from(last - first) + 1;
            if last > run.last {
                self.put(Run { first: run.last + 1, last }, value);
            }
        }
    }

    fn put(&mut self, run: Run, value: V) {
        self.len += run.len();
        self.runs.insert(run.first, (run.last, value));
    }
}

impl<V: Copy + PartialEq> RunMap<V> {
    /// Gives all of `run` this value.
    pub fn set(&mut self, run: Run, value: V) {
        self.clear(run);
        let mut whole = run;
        let after = run.last.checked_add(1).and_then(|next| Some((next, *self.runs.get(&next)?)));
        if let Some((next, (last, of))) = after
            && of == value
        {
            self.runs.remove(&next);
            whole.last = last;
        }
        let before = self.runs.range_mut(..run.first).next_back();
        if let Some((_, (last, of))) = before
            && *of == value
            && last.checked_add(1) == Some(run.first)
        {
            *last = whole.last;
        } else {
            self.runs.insert(whole.first, (whole.last, value));
        }
        self.len += run.len();
    }
}

/// A set of numbers, as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Run>", into = "Vec<Run>")]
pub struct Ranges(RunMap<()>);

impl From<Vec<Run>> for Ranges {
    fn from(runs: Vec<Run>) -> Self {
        runs.into_iter().collect()
    }
}

impl From<Ranges> for Vec<Run> {
    fn from(ranges: Ranges) -> Self {
        ranges.runs().collect()
    }
}

impl From<Run> for Ranges {
    fn from(run: Run) -> Self {
        std::iter::once(run).collect()
    }
}

impl FromIterator<Run> for Ranges {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Self {
        let mut all = Self::default();
        runs.into_iter().for_each(|run| all.insert(run));
        all
    }
}

impl FromIterator<u32> for Ranges {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        numbers.into_iter().map(Run::one).collect()
    }
}

impl Ranges {
    /// How many numbers.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs, in order.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = Run> + '_ {
        self.0.iter().map(|(run, ())| run)
    }

    /// The numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs().flat_map(Run::numbers)
    }

    /// Whether `number` is among them.
    pub fn contains(&self, number: u32) -> bool {
        self.0.get(number).is_some()
    }

    /// What of them is within `run`.
    pub fn within(&self, run: Run) -> impl Iterator<Item = Run> + '_ {
        self.0.within(run).map(|(run, ())| run)
    }

    /// Adds them.
    pub fn insert(&mut self, run: Run) {
        self.0.set(run, ());
    }

    /// Takes them away.
    pub fn remove(&mut self, run: Run) {
        self.0.clear(run);
    }

    /// What both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        other.runs().flat_map(|run| self.within(run)).collect()
    }
}

/// `0-9,12`; nothing if there are none.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, run) in self.runs().enumerate() {
            write!(f, "{}{run}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole<V: Copy>(map: &RunMap<V>) -> BTreeMap<u32, V> {
        map.iter().flat_map(|(run, value)| run.numbers().map(move |number| (number, value))).collect()
    }

    proptest! {
        #[test]
        fn a_map_of_runs_is_a_map(changes in prop::collection::vec((0..40_u32, 0..12_u32, prop::option::of(0..3_u8)), 0..60)) {
            let (mut runs, mut plain) = (RunMap::default(), BTreeMap::new());
            for (first, more, value) in changes {
                let run = Run::new(first, first + more);
                match value {
                    Some(value) => {
                        runs.set(run, value);
                        plain.extend(run.numbers().map(|number| (number, value)));
                    }
                    None => {
                        runs.clear(run);
                        plain.retain(|number, _| !run.contains(*number));
                    }
                }
                prop_assert_eq!(whole(&runs), plain.clone());
                prop_assert_eq!(runs.len(), plain.len() as u64);
                let list: Vec<_> = runs.iter().collect();
                let merged = list.windows(2).all(|two| two[0].0.last + 1 < two[1].0.first || two[0].1 != two[1].1);
                prop_assert!(merged, "as few runs as possible: {:?}", list);
                prop_assert_eq!(RunMap::from(Vec::from(runs.clone())), runs.clone());
                let within: BTreeMap<u32, u8> =
                    runs.within(run).flat_map(|(run, value)| run.numbers().map(move |n| (n, value))).collect();
                let expected: BTreeMap<u32, u8> = plain.range(run.first..=run.last).map(|(n, v)| (*n, *v)).collect();
                prop_assert_eq!(within, expected);
            }
        }

        #[test]
        fn a_set_of_runs_is_a_set(a in prop::collection::btree_set(0..60_u32, 0..40), b in prop::collection::btree_set(0..60_u32, 0..40)) {
            let (one, two): (Ranges, Ranges) = (a.iter().copied().collect(), b.iter().copied().collect());
            let both: Vec<u32> = a.intersection(&b).copied().collect();
            prop_assert_eq!(one.intersection(&two).numbers().collect::<Vec<_>>(), both);
            prop_assert_eq!(one.len(), a.len() as u64);
            let bytes = postcard::to_stdvec(&one).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Ranges>(&bytes).unwrap(), one);
        }
    }

    #[test]
    fn what_is_written_the_wrong_way_round_is_a_run_all_the_same() {
        let bytes = postcard::to_stdvec(&(7_u32, 3_u32)).unwrap();
        assert_eq!(postcard::from_bytes::<Run>(&bytes), Ok(Run::new(3, 7)));
        let bytes = postcard::to_stdvec(&[(7_u32, 3_u32), (u32::MAX, 0), (5, 5)][..]).unwrap();
        let all: Ranges = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(all.len(), 1 << 32);
        assert_eq!(serde_json::from_str::<Run>(r#"{"first":9,"last":1}"#).unwrap(), Run::new(1, 9));
        let bytes = postcard::to_stdvec(&Run::new(3, 7)).unwrap();
        assert_eq!(postcard::from_bytes::<Run>(&bytes), Ok(Run::new(3, 7)), "as it always was");
    }

    #[test]
    fn the_ends_of_all_numbers_are_no_exception() {
        let mut all = Ranges::from(Run::new(0, u32::MAX));
        assert_eq!(all.len(), 1 << 32);
        all.remove(Run::one(u32::MAX));
        all.remove(Run::one(0));
        assert_eq!(all.to_string(), format!("1-{}", u32::MAX - 1));
        all.insert(Run::one(u32::MAX));
        all.insert(Run::one(0));
        assert_eq!(all.runs().count(), 1);
        assert_eq!([0, 3, 4, 5, 9].into_iter().collect::<Ranges>().to_string(), "0,3-5,9");
    }
}
