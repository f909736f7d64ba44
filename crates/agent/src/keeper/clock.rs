//! The clocks of this machine.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec, clock_gettime};
use sheaf_model::{BootId, Moment, Timestamp};

/// `CLOCK_BOOTTIME`, rounded down: goes on while the machine sleeps, starts again with each boot.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Moment(seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Wall time, for people.
pub fn wall() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// This boot, as the kernel names it. Empty, and so equal to no other boot's, where `/proc` is not mounted.
pub fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BootId(text.trim().to_owned())
}

/// Stops this thread for a while, where something outside has to happen first: never on a runtime's thread.
pub(crate) fn pause(time: Duration) {
    let time = Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // Woken early by a signal: the caller looks again.
    let _ = rustix::thread::nanosleep(&time);
}
