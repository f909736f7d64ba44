//! Sleeping, and counting when that took longer than it should: a starved machine must be visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A timer this late is counted.
const LATE: Duration = Duration::from_millis(50);

/// The timers of this member's consensus together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    late: Arc<AtomicU64>,
}

impl Timers {
    /// Sleeps until then, or not at all if that is over.
    pub(crate) async fn sleep_until(&self, due: Instant) {
        let due = due.max(Instant::now());
        tokio::time::sleep_until(due).await;
        if due.elapsed() > LATE {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many came late.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the only thread is to be busy with something else")]
    async fn a_timer_is_late_when_its_thread_was_busy() {
        let timers = Timers::default();
        timers.sleep_until(Instant::now()).await;
        let begun = Instant::now();
        timers.sleep_until(begun.checked_sub(Duration::from_secs(1)).unwrap_or(begun)).await;
        let busy = async { std::thread::sleep(3 * LATE) };
        tokio::join!(timers.sleep_until(Instant::now() + Duration::from_millis(1)), busy);
        assert_eq!(timers.late(), 1);
    }
}
