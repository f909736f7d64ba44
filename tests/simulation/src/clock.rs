//! Clocks of machines: each runs a little wrong, and may stand still.

use sheaf_model::Moment;

/// True time in microseconds since the simulation began. No part of the system sees it.
pub type Time = u64;

/// A millisecond of true time.
pub const MS: Time = 1_000;
/// A second of true time.
pub const SECOND: Time = 1_000_000;

/// The boot clock of one machine.
#[derive(Clone, Debug)]
pub struct Clock {
    /// At this true time …
    anchor: Time,
    /// … it showed so many microseconds.
    shown: u64,
    /// So many microseconds it gains in a second; negative: loses.
    ppm: i64,
    standing: bool,
}

impl Clock {
    /// A clock that shows `shown` microseconds at `now`, and gains `ppm` of a million.
    pub fn new(now: Time, shown: u64, ppm: i64) -> Self {
        Self { anchor: now, shown, ppm, standing: false }
    }

    /// What it shows.
    pub fn read(&self, now: Time) -> Moment {
        Moment(self.micros(now) / 1000)
    }

    fn micros(&self, now: Time) -> u64 {
        if self.standing {
            return self.shown;
        }
        let elapsed = i128::from(now.saturating_sub(self.anchor));
        let shown = i128::from(self.shown) + elapsed + elapsed * i128::from(self.ppm) / 1_000_000;
        u64::try_from(shown).unwrap_or(0)
    }

    /// The first true time, not before `now`, at which it shows at least `moment` if it goes on.
    pub fn when(&self, moment: Moment, now: Time) -> Time {
        let wanted = moment.0.saturating_mul(1000);
        let lacks = i128::from(wanted) - i128::from(self.micros(now));
        if lacks <= 0 {
            return now;
        }
        let wait = (lacks * 1_000_000).div_euclid(1_000_000 + i128::from(self.ppm));
        let mut at = now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX / 2));
        while !self.standing && self.micros(at) < wanted {
            at += 1;
        }
        at
    }

    /// It stands still from now on.
    pub fn stand(&mut self, now: Time) {
        self.shown = self.micros(now);
        self.anchor = now;
        self.standing = true;
    }

    /// It goes on from where it stood.
    pub fn go(&mut self, now: Time) {
        self.anchor = now;
        self.standing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_a_timer_on_it_comes_early() {
        let clock = Clock::new(0, 0, 10_000);
        assert_eq!(clock.read(100 * SECOND), Moment(101_000));
        let at = clock.when(Moment(101_000), 5);
        assert_eq!(at, 100 * SECOND);
        assert!(clock.read(at - 1) < Moment(101_000));
    }

    #[test]
    fn a_clock_that_stood_goes_on_where_it_was() {
        let mut clock = Clock::new(0, 7_000, -10_000);
        clock.stand(SECOND);
        assert_eq!(clock.read(9 * SECOND), Moment(997));
        clock.go(9 * SECOND);
        assert_eq!(clock.read(10 * SECOND), Moment(1987));
    }

    #[test]
    fn what_is_past_is_due_now() {
        let clock = Clock::new(50, 5_000_000, 0);
        assert_eq!(clock.when(Moment(3), 80), 80);
    }
}
