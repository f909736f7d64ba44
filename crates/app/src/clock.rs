//! The real clocks.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};
use sheaf_control::Clock;
use sheaf_model::{Moment, Timestamp};

/// This machine's clocks.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn moment(&self) -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
        Moment(seconds.unwrap_or_default() * 1000 + nanos.unwrap_or_default() / 1_000_000)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}
