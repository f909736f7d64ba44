//! Backends as the replicated state holds them, and how many subtasks they take now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{BackendSpec, Frequency, Revision, Timestamp};

pub use crate::apply::check_backend as check;

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// What was asked for.
    pub spec: Arc<BackendSpec>,
    /// When that last changed.
    pub revision: Revision,
    /// When that was, for people.
    pub at: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// It was opened and has not closed since: after `until` one subtask at a time may try it; or, if it only asked to be left
    /// alone (`times` is 0), as many as ever.
    pub opened: Option<Opened>,
}

/// A breaker that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Nothing is sent until then.
    pub until: Timestamp,
    /// How often it was opened by failures since it was last closed.
    pub times: u32,
    /// The last failure, for people.
    pub why: String,
}

impl Backend {
    /// Whether nothing may be sent to it.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.opened.as_ref().is_some_and(|opened| now < opened.until)
    }

    /// How many more subtasks it takes; `running` are there, and `pace` may be begun now by its rate.
    pub fn room(&self, running: u32, pace: u32, now: Timestamp) -> u32 {
        let most = match &self.opened {
            Some(_) if self.is_open(now) => 0,
            Some(opened) if opened.times > 0 => 1,
            _ => self.spec.max_running.unwrap_or(u32::MAX),
        };
        most.saturating_sub(running).min(pace)
    }

    /// Why it takes none now, for people; none: it does.
    pub fn why_not(&self, running: u32, pace: u32, now: Timestamp) -> Option<String> {
        let name = &self.spec.name;
        match (&self.opened, self.spec.max_running) {
            (Some(Opened { until, why, times }), _) if now < *until => {
                let what = match *times {
                    0 => format!("backend {name} asks to be left alone"),
                    _ => format!("the breaker of backend {name} is open"),
                };
                Some(format!("{what} until {until}: {why}"))
            }
            (Some(opened), _) if opened.times > 0 && running > 0 => {
                Some(format!("backend {name} failed, and one subtask tries it again"))
            }
            (_, Some(most)) if running >= most => {
                Some(format!("backend {name} runs {running}, its max_running"))
            }
            _ if pace == 0 => self.spec.rate.map(|rate| format!("backend {name} has taken {rate}, its rate")),
            _ => None,
        }
    }
}

/// How many subtasks may be begun by a rate: it fills up steadily, to `count` at most. In the leader's memory; a new leader's is
/// empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    rate: Frequency,
    /// Thousandths of a subtask.
    saved: u64,
    /// What is left of them, in parts of the window.
    rest: u64,
    at: Timestamp,
}

impl Pace {
    /// An empty one.
    pub fn new(rate: Frequency, now: Timestamp) -> Self {
        Self { rate, saved: 0, rest: 0, at: now }
    }

    /// How many may be begun now, by this rate.
    pub fn fill(&mut self, rate: Frequency, now: Timestamp) -> u32 {
        let (most, window) = (u64::from(rate.count) * 1000, u128::from(rate.window.0.max(1)));
        if rate != self.rate {
            self.rest = 0;
        }
        // A clock that was set back goes on from there. What is too little to count yet is not lost.
        let passed = now.0.saturating_sub(self.at.0);
        let new = u128::from(passed) * u128::from(most) + u128::from(self.rest);
        self.at = now;
        self.rest = u64::try_from(new % window).unwrap_or(0);
        let new = u64::try_from(new / window).unwrap_or(u64::MAX);
        self.rate = rate;
        self.saved = self.saved.saturating_add(new).min(most);
        u32::try_from(self.saved / 1000).unwrap_or(u32::MAX)
    }

    /// So many were begun.
    pub fn took(&mut self, count: u32) {
        self.saved = self.saved.saturating_sub(u64::from(count) * 1000);
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BackendName, Span};

    use super::*;

    fn backend(opened: Option<Opened>) -> Backend {
        let mut spec = BackendSpec::new(BackendName::new("b").unwrap());
        spec.max_running = Some(3);
        let (revision, at) = (Revision(1), Timestamp(0));
        Backend { spec: Arc::new(spec), revision, at, failures: 0, opened }
    }

    #[test]
    fn a_backend_takes_what_its_limit_its_rate_and_its_breaker_allow() {
        let closed = backend(None);
        assert_eq!(closed.room(1, 9, Timestamp(5)), 2);
        assert_eq!(closed.room(1, 1, Timestamp(5)), 1);
        assert_eq!(closed.room(7, 9, Timestamp(5)), 0);
        assert_eq!(closed.why_not(1, 9, Timestamp(5)), None);
        assert!(closed.why_not(3, 9, Timestamp(5)).unwrap().contains("its max_running"));
        let open = backend(Some(Opened { until: Timestamp(10), times: 1, why: "503".to_owned() }));
        assert_eq!((open.room(0, 9, Timestamp(9)), open.room(0, 9, Timestamp(10))), (0, 1), "then one tries");
        assert_eq!(open.room(1, 9, Timestamp(10)), 0);
        assert!(open.why_not(0, 9, Timestamp(9)).unwrap().contains("is open until"));
    }

    #[test]
    fn a_rate_fills_up_steadily_and_no_further_than_its_count() {
        let rate = Frequency { count: 10, window: Span::seconds(1) };
        let mut pace = Pace::new(rate, Timestamp(0));
        assert_eq!(pace.fill(rate, Timestamp(0)), 0);
        assert_eq!(pace.fill(rate, Timestamp(250)), 2);
        pace.took(2);
        assert_eq!(pace.fill(rate, Timestamp(300)), 1);
        assert_eq!(pace.fill(rate, Timestamp(99_000)), 10);
        pace.took(10);
        // Looked at often, nothing is lost.
        let slow = Frequency { count: 1, window: Span::seconds(10) };
        for at in 99_000..108_990 {
            assert_eq!(pace.fill(slow, Timestamp(at)), 0, "{at}");
        }
        assert_eq!(pace.fill(slow, Timestamp(109_010)), 1);
    }

    #[test]
    fn a_rate_loses_nothing_when_it_is_looked_at_often_and_survives_a_clock_set_back() {
        let rate = Frequency { count: 100, window: Span::seconds(60) };
        let mut pace = Pace::new(rate, Timestamp(3_600_000));
        let mut begun = 0;
        for at in 0..60_000 {
            let some = pace.fill(rate, Timestamp(3_600_000 + at));
            pace.took(some);
            begun += some;
        }
        assert!((98..=100).contains(&begun), "{begun}");
        assert_eq!(pace.fill(rate, Timestamp(0)), 0, "the clock was set back by an hour");
        assert_eq!(pace.fill(rate, Timestamp(1_300)), 3, "two more, and what was saved");
    }
}
