//! Deletes trials whose time is over, by the leader's clock on the wall: whoever asked for one may be gone.

use sheaf_model::{Moment, Span, Timestamp};

use super::Due;
use crate::command::{Command, OnBucket};
use crate::state::State;

pub(super) fn due(state: &State, now: Moment, wall: Timestamp, due: &mut Due) {
    for bucket in state.buckets.values() {
        let Some(trial) = bucket.trial else { continue };
        if wall >= trial.until {
            let (bucket, base) = (bucket.name().clone(), Some(bucket.revision));
            due.commands.push(Command::DeleteBucket(OnBucket { bucket, base }));
        } else {
            due.wake(now.after(Span(trial.until.0 - wall.0)));
        }
    }
}
