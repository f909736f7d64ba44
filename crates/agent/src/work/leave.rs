//! The way out: what is here is handed back, which counts as no attempt.
//!
//! ```text
//!  told to stop ──► all is asked to end ── the longest grace ──► what is left is killed ── a while ──► it is over
//!                            └────────── all has ended, and is in the log ──────────┴──────────────────────┘
//! ```
//!
//! What is not in the log when this ends is lost, and counts. So a program whose grace is longer than anybody waits for an agent
//! that stops is killed before, in time to be handed back.

use std::time::Duration;

use sheaf_model::session::ToLeader;
use tokio::time::Instant;

use super::Loop;
use crate::runner::ToRunner;

/// No program has longer to end, whatever its module says: who stops an agent does not wait for ever.
const GRACE_MAX: Duration = Duration::from_secs(30);
/// For what has been killed to end, and for all ends to get into the log; leadership may be on its way to another node.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);
/// For all of it.
pub(crate) const LEAVES_WITHIN: Duration = GRACE_MAX.saturating_add(RECORDED_WITHIN);

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Nobody has asked for it.
    No,
    /// All is asked to end; what has not until then is killed.
    Asked(Instant),
    /// All is killed; what is not in the log by then is lost.
    Killed(Instant),
}

impl Leave {
    /// When the next step is due; none: when the agent is told to stop.
    pub(super) const fn at(self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::Asked(at) | Self::Killed(at) => Some(at),
        }
    }
}

impl Loop {
    /// The next step; none: it is over.
    pub(super) async fn leave(&mut self, so_far: Leave) -> Option<Leave> {
        match so_far {
            Leave::No => Some(Leave::Asked(self.hand_back().await)),
            Leave::Asked(_) => {
                self.kill_all().await;
                Some(Leave::Killed(Instant::now() + RECORDED_WITHIN))
            }
            Leave::Killed(_) => None,
        }
    }

    /// Has everything end, without its counting as tried. Until when that may take.
    pub(super) async fn hand_back(&mut self) -> Instant {
        self.leaving = true;
        self.tell(ToLeader::NoMoreWork);
        self.hand_back_waiting();
        let graces = self.running.values().map(|running| running.grace).chain(self.workers.graces());
        let grace = graces.max().unwrap_or_default().min(GRACE_MAX);
        for ticket in self.running.keys() {
            self.tell_runner(ToRunner::Stop(*ticket)).await;
        }
        let follows = self.workers.dismiss_all();
        self.perform(follows).await;
        Instant::now() + grace
    }

    async fn kill_all(&mut self) {
        for ticket in self.running.keys().copied().chain(self.workers.tickets()) {
            self.tell_runner(ToRunner::Kill(ticket)).await;
        }
    }
}
