//! Counts of values by size, in the shape that openraft and raft-log ask for.
//!
//! It stands in for the public package `base2histogram` (see the end of the workspace's manifest), which fills tables for
//! all sixteen resolutions as soon as one histogram exists: 26 MiB in every member of a cluster, more than all the rest
//! of an idle one. Both libraries make histograms whether or not anybody reads them, and we read none. Here a histogram that counted nothing holds nothing, and one that did holds two kilobytes.
//!
//! Only what those two use is offered. Delete this crate when `base2histogram` makes its tables on demand.
//!
//! The scale is the usual log-linear one: four buckets for each power of two, so that a percentile is at most a quarter
//! below the value that it stands for.

use std::fmt;
use std::marker::PhantomData;

/// Bits of a value that choose its bucket: the highest that is set, and the two after it.
const WIDTH: u32 = 3;
/// Buckets for each power of two, and the number of values that have one of their own.
const GROUP: usize = 1 << (WIDTH - 1);
/// One group for the small values, one for each position of the highest bit above them.
const BUCKETS: usize = GROUP * (u64::BITS - WIDTH + 2) as usize;

/// How many values there were of each size. `T` is for what the package it stands in for can note beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Empty until the first value.
    counts: Vec<u64>,
    notes: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// One that counted nothing.
    pub const fn new() -> Self {
        Self { counts: Vec::new(), notes: PhantomData }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts one value as if it had come `times` times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        let count = &mut self.counts[bucket_of(value)];
        *count = count.saturating_add(times);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The usual percentiles; all 0 where nothing was counted.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.total();
        let at = |permille: u64| self.at_rank(rank(samples, permille));
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The smallest value of the bucket that holds the value at `rank`, the smallest one being at 1.
    fn at_rank(&self, rank: u64) -> u64 {
        let mut seen = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= rank {
                return smallest_of(bucket);
            }
        }
        0
    }
}

/// The rank that `permille` of `samples` values are at or below; at least 1.
fn rank(samples: u64, permille: u64) -> u64 {
    let exact = (u128::from(samples) * u128::from(permille)).div_ceil(1000);
    u64::try_from(exact).unwrap_or(u64::MAX).max(1)
}

fn bucket_of(value: u64) -> usize {
    if value < GROUP as u64 {
        return value as usize;
    }
    let shift = u64::BITS - value.leading_zeros() - WIDTH;
    // What is left of the value has its highest bit at `WIDTH - 1`: it is between GROUP and 2 × GROUP - 1.
    GROUP * shift as usize + (value >> shift) as usize
}

fn smallest_of(bucket: usize) -> u64 {
    if bucket < GROUP {
        return bucket as u64;
    }
    let shift = bucket / GROUP - 1;
    ((bucket - GROUP * shift) as u64) << shift
}

/// Percentiles of what a [`Histogram`] counted, each up to a quarter too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// 0.1 % of the values are at or below this.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// Half of them.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "{samples} values: half ≤ {p50}, 90 % ≤ {p90}, 99 % ≤ {p99}, 99.9 % ≤ {p99_9}")
    }
}

/// Several histograms under their names, a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    rows: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// One without rows.
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// With one more row, below the others.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "as openraft calls it")]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.rows.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_begin_where_the_one_before_ends() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        for bucket in 1..BUCKETS {
            let smallest = smallest_of(bucket);
            assert_eq!(bucket_of(smallest), bucket, "the smallest value of bucket {bucket}");
            assert_eq!(bucket_of(smallest - 1), bucket - 1, "the value before it");
        }
    }

    #[test]
    fn a_percentile_is_at_most_a_quarter_too_small() {
        let mut histogram = Histogram::<()>::new();
        for value in 1..=1000 {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1000);
        for (found, exact) in [(stats.p0_1, 1), (stats.p10, 100), (stats.p50, 500), (stats.p99_9, 999)] {
            assert!(found <= exact && found * 4 >= exact * 3, "{found} for {exact}");
        }
    }

    #[test]
    fn nothing_counted_is_nothing_held() {
        let histogram = Histogram::<()>::default();
        assert_eq!(histogram.counts.capacity(), 0);
        assert_eq!(histogram.percentile_stats().p99, 0);
    }
}
