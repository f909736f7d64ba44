//! One authority takes the place of another, step by step, as soon as the nodes have come so far.

use sheaf_model::{AuthorityStage, Moment, Timestamp};

use super::Due;
use super::ends::is_over;
use crate::command::{AccessCommand, Command, IssueBy, RetireAuthority};
use crate::rotation::{may_issue, may_retire};
use crate::sessions::Sessions;
use crate::state::State;

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, wall: Timestamp, due: &mut Due) {
    let term = sessions.term;
    if let Some(next) = may_issue(state, sessions) {
        let issue = IssueBy { fingerprint: next.fingerprint, term };
        due.commands.push(Command::Access(AccessCommand::IssueBy(issue)));
    }
    let Some(AuthorityStage::Former { until }) = state.access.former().map(|former| former.stage) else {
        return;
    };
    if is_over(until, now, wall, due)
        && let Some((fingerprint, until)) = may_retire(state, sessions, wall)
    {
        let retire = RetireAuthority { fingerprint, until, term };
        due.commands.push(Command::Access(AccessCommand::RetireAuthority(retire)));
    }
}
