//! Lines of figures, and what many measurements come down to.

use std::fmt;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::machine::Surroundings;

/// Prints a line.
pub(crate) fn say(line: &str) {
    // Nobody is left to tell if that fails.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints figures of a benchmark, each with the machine.
pub(crate) struct Figures {
    bench: &'static str,
    machine: Surroundings,
    /// Names of those that had to reach their goal and did not.
    broken: Mutex<Vec<String>>,
}

/// What a figure is measured against.
pub(crate) struct Goal<'a> {
    /// As it is written down, e.g. `p50 200 ms`.
    pub(crate) text: &'a str,
    /// Whether it is reached; none: it cannot be judged.
    pub(crate) reached: Option<bool>,
}

impl<'a> Goal<'a> {
    /// A goal that a time reaches if it is not longer.
    pub(crate) fn within(text: &'a str, time: Duration, limit: Duration) -> Self {
        Self { text, reached: Some(time <= limit) }
    }
}

impl Figures {
    /// Says where everything is measured.
    pub(crate) fn on(bench: &'static str, machine: Surroundings) -> Self {
        say(&format!("# {bench}: {}", machine.long()));
        for warning in machine.warnings() {
            say(&format!("# {bench}: WARNING: {warning}"));
        }
        Self { bench, machine, broken: Mutex::default() }
    }

    /// A figure that has a goal.
    pub(crate) fn figure(&self, name: &str, figure: &str, goal: &Goal<'_>) {
        let judged = match goal.reached {
            Some(true) => "reached",
            Some(false) => "SHORT",
            None => "not judged",
        };
        self.line(name, figure, &format!("goal {}: {judged}", goal.text));
    }

    /// A figure whose goal is no wish: one that is missed is a bug, and the benchmark has failed.
    pub(crate) fn promise(&self, name: &str, figure: &str, goal: &Goal<'_>) {
        self.figure(name, figure, goal);
        if goal.reached == Some(false) {
            self.noted().push(format!("{name}: {figure}"));
        }
    }

    /// Promises that were not kept.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.noted().clone()
    }

    fn noted(&self) -> MutexGuard<'_, Vec<String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A figure that helps to understand another.
    pub(crate) fn aside(&self, name: &str, figure: &str) {
        self.line(name, figure, "no goal");
    }

    fn line(&self, name: &str, figure: &str, goal: &str) {
        say(&format!("{} | {name} | {figure} | {goal} | {}", self.bench, self.machine.short()));
    }

    /// What happened on the way.
    pub(crate) fn note(&self, text: &str) {
        say(&format!("# {}: {text}", self.bench));
    }
}

/// Times of the same thing, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort();
        Self(times)
    }
}

impl Times {
    /// The shortest time that so many of a hundred are not longer than (nearest rank); 0 if there is none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.percentile(0), self.percentile(100));
        let (p50, p99) = (brief(self.median()), brief(self.percentile(99)));
        write!(f, "p50 {p50}, p99 {p99} ({} times, {} to {})", self.count(), brief(first), brief(last))
    }
}

/// A time in a unit that suits it.
pub(crate) fn brief(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 10.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.01 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(numbers: &[f64]) -> Option<f64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(numbers[middle - 1], numbers[middle])),
        _ => Some(numbers[middle]),
    }
}
