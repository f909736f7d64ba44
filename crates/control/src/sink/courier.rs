//! Which sinks are delivered to: a line for each that is registered and not suspended, started anew when its document changes.

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_model::{Revision, SinkName, Term};
use tokio::task::{AbortHandle, JoinSet};

use super::line::Line;
use crate::Control;
use crate::place::Member;

/// Looks are at least so far apart.
const SPACING: Duration = Duration::from_millis(100);
/// A line that ended, which none should, is started again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A line that runs: of which document, and how to end it.
type Running = BTreeMap<SinkName, (Revision, AbortHandle)>;

impl Control {
    /// Delivers in one term. Never ends by itself; dropping it ends every delivery.
    pub(crate) async fn run_sinks(&self, member: &Member, term: Term) {
        let mut revision = member.replica.revision();
        // What is delivered must be what a majority knows, and the cursors as new as the last leader's.
        while member.replica.confirm_leadership().await.is_err() {
            tokio::time::sleep(SPACING).await;
        }
        let mut lines = JoinSet::new();
        let mut running = Running::new();
        loop {
            revision.mark_unchanged();
            self.look_at_sinks(member, term, &mut lines, &mut running);
            tokio::select! {
                // Dropping these loses nothing: everything is looked at again.
                _ = revision.changed() => {}
                Some(ended) = lines.join_next() => {
                    // Those that were told to end are not among the running any more.
                    running.retain(|_, (_, handle)| !handle.is_finished());
                    if let Err(error) = ended && !error.is_cancelled() {
                        tracing::error!(%error, "a delivery ended; it is started again");
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                }
            }
            tokio::time::sleep(SPACING).await;
        }
    }

    fn look_at_sinks(&self, member: &Member, term: Term, lines: &mut JoinSet<()>, running: &mut Running) {
        let state = member.replica.state();
        let wanted = |name: &SinkName| state.sinks.get(name).filter(|sink| !sink.spec.suspended);
        running.retain(|name, (revision, handle)| {
            let stays = wanted(name).is_some_and(|sink| sink.revision == *revision);
            if !stays {
                handle.abort();
            }
            stays
        });
        self.sinks.keep(|name| wanted(name).is_some());
        for (name, sink) in &state.sinks {
            if wanted(name).is_some() && !running.contains_key(name) {
                let line = Line::new(self.clone(), member.clone(), term, sink);
                let handle = lines.spawn(line.run());
                running.insert(name.clone(), (sink.revision, handle));
            }
        }
    }
}
