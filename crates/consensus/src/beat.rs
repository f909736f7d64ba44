//! The leader's heartbeats.
//!
//! openraft would send them itself, from a timer that wakes every member, leader or not, five times for each heartbeat.
//! What an idle member costs is its wake-ups.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::raft::Raft;
use crate::replica::Leadership;
use crate::timer::Timers;

/// When all members were last asked for an answer, by a heartbeat or by a read, which sends the same.
#[derive(Clone, Debug)]
pub(crate) struct Rounds {
    latest: Arc<Mutex<Option<Instant>>>,
    every: Duration,
}

impl Rounds {
    pub(crate) fn new(every: Duration) -> Self {
        Self { latest: Arc::default(), every }
    }

    /// One begins now.
    pub(crate) fn begin(&self) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When the next one is due, unless somebody wants one before.
    pub(crate) fn due(&self) -> Instant {
        let latest = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.map_or_else(Instant::now, |latest| latest + self.every)
    }
}

/// While this member leads, sends a heartbeat whenever nothing else was asked of the members for long enough. Runs until
/// openraft has stopped.
pub(crate) async fn run(
    raft: Raft,
    mut leadership: watch::Receiver<Leadership>,
    rounds: Rounds,
    timers: Timers,
) {
    while leadership.wait_for(|known| known.leading).await.is_ok() {
        while leadership.borrow().leading {
            let due = rounds.due();
            if Instant::now() < due {
                timers.sleep_until(due).await;
                continue;
            }
            rounds.begin();
            if raft.trigger().heartbeat().await.is_err() {
                return;
            }
        }
    }
}
