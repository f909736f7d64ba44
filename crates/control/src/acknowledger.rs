//! Acknowledges heartbeats: one quorum round, begun after receiving them, serves all that wait.

use std::time::Duration;

use sheaf_model::session::ToNode;
use tokio_util::sync::CancellationToken;

use crate::Control;

/// A round that takes longer is given up; its heartbeats are not acknowledged, and newer ones get a round of their own.
const ROUND_WITHIN: Duration = Duration::from_millis(1500);

/// Rounds are so far apart: the first heartbeat is served at once, those of many nodes share rounds. Far less than a
/// heartbeat, which leases are counted by.
const SPACING: Duration = Duration::from_millis(20);

impl Control {
    /// Runs until told to stop.
    pub(crate) async fn run_acknowledger(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // Dropping `notified` loses at most a wake-up, and then this ends.
                () = self.live.round.notified() => {}
            }
            self.acknowledge().await;
            tokio::time::sleep(SPACING).await;
        }
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
        for (node, acknowledged) in acknowledged {
            live.say(node, ToNode::Acknowledged(acknowledged));
        }
    }
}
