//! Acknowledges heartbeats: one quorum round, begun after receiving them, serves all that wait.

use std::time::Duration;

use sheaf_model::session::ToNode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Control;

/// A round that takes longer is given up; its heartbeats are not acknowledged, and newer ones get a round of their own.
const ROUND_WITHIN: Duration = Duration::from_millis(1500);

/// Rounds are so far apart: the first heartbeat that is out of turn is served at once, those of many nodes share rounds.
/// Far less than a heartbeat, which leases are counted by.
const SPACING: Duration = Duration::from_millis(20);

/// So long at most one that was expected waits for a round that is made anyway, and so long before that it asks for one.
const WAIT: Duration = Duration::from_millis(100);
const EARLY: Duration = Duration::from_millis(5);

impl Control {
    /// Runs until told to stop.
    pub(crate) async fn run_acknowledger(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // Dropping `notified` loses at most a wake-up, and then this ends.
                () = self.live.round.notified() => {}
                () = self.live.routine.notified() => tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.live.round.notified() => {}
                    () = self.before_next_round() => {}
                }
            }
            self.acknowledge().await;
            tokio::time::sleep(SPACING).await;
        }
    }

    async fn before_next_round(&self) {
        let Some(member) = self.place.member() else { return };
        let due = member.replica.next_round().checked_sub(EARLY);
        let latest = Instant::now() + WAIT;
        tokio::time::sleep_until(due.map_or(latest, |due| due.min(latest))).await;
    }

    async fn acknowledge(&self) {
        let Some(member) = self.place.member() else { return };
        let round = match &mut self.live.lock().sessions {
            Some(sessions) if sessions.is_waiting() => sessions.take_round(),
            _ => return,
        };
        let confirmed = tokio::time::timeout(ROUND_WITHIN, member.replica.confirm_leadership()).await;
        let Ok(Ok(term)) = confirmed else { return };
        let mut live = self.live.lock();
        let Some(sessions) = live.sessions.as_ref().filter(|sessions| sessions.term == term) else { return };
        // The state is read under the same lock under which epochs are fenced.
        let acknowledged = sessions.acknowledge(&member.replica.state(), round);
        for (node, mut acknowledged) in acknowledged {
            acknowledged.traces = self.traces.untold(node, std::time::Instant::now());
            live.say(node, ToNode::Acknowledged(acknowledged));
        }
    }
}
