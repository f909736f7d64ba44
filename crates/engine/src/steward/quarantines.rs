//! Ends quarantines that have lasted long enough. What a module named is a time of day, so it is the leader's clock on the
//! wall that tells; one that is set meanwhile is looked at again soon.

use sheaf_model::{Moment, Span, Timestamp};

use super::Due;
use crate::command::{Command, EndQuarantine};
use crate::sessions::Sessions;
use crate::state::State;

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, wall: Timestamp, due: &mut Due) {
    for bucket in state.buckets.values() {
        let Some(until) = bucket.quarantined_until() else { continue };
        if wall >= until {
            let (bucket, term) = (bucket.name().clone(), sessions.term);
            due.commands.push(Command::EndQuarantine(EndQuarantine { bucket, until, term }));
        } else {
            due.wake(now.after(Span(until.0 - wall.0)));
        }
    }
}
