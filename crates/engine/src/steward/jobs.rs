//! What jobs are owed at a time of day: further attempts, and the end of submits that nobody goes on with.

use sheaf_model::{Moment, Span, Timestamp};

use super::Due;
use super::ends::is_over;
use crate::command::{CollectSubmit, Command, WakeSubtasks};
use crate::sessions::Sessions;
use crate::state::State;

/// How long a submit may rest.
const SUBMIT_RESTS: Span = Span::seconds(3_600);

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, wall: Timestamp, due: &mut Due) {
    let term = sessions.term;
    if let Some((at, _)) = state.jobs.due().next()
        && is_over(at, now, wall, due)
    {
        due.commands.push(Command::WakeSubtasks(WakeSubtasks { until: wall, term }));
    }
    for submit in state.jobs.submits() {
        let until = Timestamp(submit.at.0.saturating_add(SUBMIT_RESTS.0));
        if is_over(until, now, wall, due) {
            let (job, at) = (submit.id, submit.at);
            due.commands.push(Command::CollectSubmit(CollectSubmit { job, at, term }));
        }
    }
}
