//! Ends what lasts until a time of day: quarantines, trials (whoever asked for one may be gone), and what is kept of tokens. It is the leader's clock on
//! the wall that tells; one that is set meanwhile is looked at again soon.

use sheaf_model::{Moment, Span, Timestamp};

use super::Due;
use crate::command::{AccessCommand, Command, EndQuarantine, ExpireToken, OnBucket};
use crate::sessions::Sessions;
use crate::state::State;

/// Tokens that have expired are shown, and said to have expired, for so long: a week, in milliseconds.
const EXPIRED_KEPT: u64 = 7 * 24 * 3_600_000;

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, wall: Timestamp, due: &mut Due) {
    for bucket in state.unsettled() {
        if let Some(until) = bucket.quarantined_until()
            && is_over(until, now, wall, due)
        {
            let (bucket, term) = (bucket.name().clone(), sessions.term);
            due.commands.push(Command::EndQuarantine(EndQuarantine { bucket, until, term }));
        }
        if let Some(trial) = bucket.trial
            && is_over(trial.until, now, wall, due)
        {
            let (bucket, base) = (bucket.name().clone(), Some(bucket.revision));
            due.commands.push(Command::DeleteBucket(OnBucket { bucket, base }));
        }
    }
    for token in state.access.tokens.values() {
        if let Some(expires_at) = token.expires_at
            && is_over(Timestamp(expires_at.0.saturating_add(EXPIRED_KEPT)), now, wall, due)
        {
            let (id, term) = (token.id, sessions.term);
            due.commands.push(Command::Access(AccessCommand::ExpireToken(ExpireToken {
                id,
                expires_at,
                term,
            })));
        }
    }
}

/// Whether that time has come; if not, it is looked at again then.
pub(super) fn is_over(until: Timestamp, now: Moment, wall: Timestamp, due: &mut Due) -> bool {
    if wall < until {
        due.wake(now.after(Span(until.0 - wall.0)));
    }
    wall >= until
}
