//! Purges: telling an instance, once, and the leader how it went.

use sheaf_model::session::ToLeader;
use sheaf_model::{BucketName, Moment, Revision, clipped};

use super::{Action, NodeState, Place, SAY_AGAIN};
use crate::apply::FAILURE_MAX;
use crate::reconcile::Life;

impl NodeState {
    /// Does what a purge that this node owes asks for; `idle`: nothing of the bucket is about to be done here.
    pub(super) fn purge(
        &mut self,
        bucket: &BucketName,
        place: &mut Place,
        idle: bool,
        now: Moment,
        out: &mut Vec<Action>,
    ) {
        let Some(revision) = self.purge_owed(bucket) else {
            place.purging = None;
            place.unpurged = None;
            return;
        };
        if let Some(told) = self.purge_done(bucket, place, revision) {
            // Said once more with everything owed, until the watch no longer asks for it.
            self.say_again.get_or_insert(now.after(SAY_AGAIN));
            if place.purging.take().is_some() && self.reports.is_open() {
                out.push(Action::Say(told));
            }
            return;
        }
        let life = place.seen.as_ref().map(|seen| seen.observed.life);
        match life {
            Some(Life::Alive) if place.busy.is_none() && place.purging != Some(revision) => {
                place.purging = Some(revision);
                out.push(Action::Purge(bucket.clone(), revision));
            }
            Some(Life::Alive | Life::Stopping) => {}
            Some(Life::Dead(_)) | None => {
                // The next instance is told anew.
                place.purging = None;
                if idle {
                    place.unpurged = Some(revision);
                    self.say_again.get_or_insert(now.after(SAY_AGAIN));
                }
            }
        }
    }

    /// What this node is still to purge.
    fn purge_owed(&self, bucket: &BucketName) -> Option<Revision> {
        self.known.purges.get(bucket).copied()
    }

    /// What there is to say of a purge, if it is done or came to nothing.
    fn purge_done(&self, bucket: &BucketName, place: &Place, revision: Revision) -> Option<ToLeader> {
        let say = |failure: &str| {
            let failure = clipped(failure, FAILURE_MAX).into_owned();
            ToLeader::Purged { bucket: bucket.clone(), revision, failure }
        };
        let purged = place.seen.as_ref().and_then(|seen| seen.purged.as_ref());
        match purged.filter(|purged| purged.revision >= revision) {
            Some(purged) => Some(say(&purged.failure)),
            None if place.unpurged == Some(revision) => Some(say("nothing of it runs on the node any more")),
            None => None,
        }
    }

    /// What the leader has not recorded yet.
    pub(super) fn purges_owed(&self) -> Vec<ToLeader> {
        let asked = self.known.purges.iter();
        asked
            .filter_map(|(name, revision)| self.purge_done(name, self.places.get(name)?, *revision))
            .collect()
    }
}
