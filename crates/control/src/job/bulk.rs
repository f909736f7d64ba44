//! What operators do with subtasks of a job, however many: which are meant, in which commands, and what came of them.

use std::time::{Duration, Instant};

use sheaf_engine::{Command, Proposal, Reply};
use sheaf_model::{JobId, JobName, Ranges, RequestId, Run, Selector};
use sheaf_store::{Found, Wanted};
use sheaf_wire::job::Touched;
use sheaf_wire::{ApiError, Caller, Done};

use super::within;
use crate::Control;
use crate::propose::done;
use crate::query::{fresh, query_error};

/// How long finding the subtasks for which a condition holds may take: less than callers wait.
pub(super) const WHERE_WITHIN: Duration = Duration::from_secs(8);
/// So many numbers of subtasks one command is about where not all that are meant fit into one: every other of them takes
/// 960,000 bytes at most, and nothing takes more. Always the same, so that who asks again asks for the same commands.
const STRETCH: u32 = 240_000;

/// A command of a verb, and the id under which it is proposed.
type Part = (Option<RequestId>, Command);

/// Subtasks of a job that a verb is about.
pub(super) struct Selected {
    pub(super) job: JobId,
    /// How many subtasks the job has.
    count: u32,
    pub(super) subtasks: Ranges,
    /// These are all, as nothing narrower was said.
    pub(super) all: bool,
}

impl Control {
    pub(super) async fn selected(
        &self,
        caller: &Caller,
        name: &JobName,
        selector: Option<&Selector>,
        condition: Option<String>,
    ) -> Result<Selected, ApiError> {
        let mut selected = self.see_job(name, |_, job| {
            let (count, whole) = (job.count, Run::first_of(job.count).map(Ranges::from).unwrap_or_default());
            let Some(selector) = selector else {
                return Ok(Selected { job: job.id, count, subtasks: whole, all: true });
            };
            within(job, selector)?;
            let subtasks = selector.select(count, |state| job.in_state(state));
            Ok::<_, ApiError>(Selected { job: job.id, count, subtasks, all: false })
        })??;
        if let Some(condition) = condition {
            let among = (!selected.all).then(|| selected.subtasks.clone());
            let (job, states, until) = (name.clone(), Vec::new(), Instant::now() + WHERE_WITHIN);
            let wanted = Wanted { job, condition, states, among, from: 0, most: u64::MAX, until };
            selected.subtasks = self.subtasks_where(caller, wanted).await?.subtasks;
            selected.all = false;
        }
        Ok(selected)
    }

    /// The subtasks of a job for which a condition holds, as SQLite has them.
    pub(super) async fn subtasks_where(&self, caller: &Caller, wanted: Wanted) -> Result<Found, ApiError> {
        let member = self.member()?;
        let permit = self.query_turn().await?;
        fresh(&member, caller).await?;
        let reader = member.reader;
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            reader.subtasks_where(&wanted)
        });
        let found = found.await.map_err(|error| ApiError::Internal(error.to_string()))?;
        found.map_err(|error| query_error(error, "where"))
    }

    /// Does a verb, in as many commands as it takes. If one fails, those before it stay done: asked for again under the
    /// same id, it goes on from there, and answers for all of them. Of a dry run it says what would be answered.
    pub(super) async fn touch(
        &self,
        caller: &Caller,
        meant: &Selected,
        dry_run: bool,
        verb: impl Fn(Ranges) -> Command + Send,
    ) -> Result<Touched, ApiError> {
        let parts = {
            let member = self.member()?;
            let fits = |command| self.fits(caller, command).is_ok();
            let is_known = |id: &RequestId| member.replica.state().request_ids.contains_key(id);
            let request = caller.request.as_ref().filter(|_| !dry_run);
            parts(request, meant, verb, fits, is_known)
        };
        if dry_run {
            return self.would_touch(caller, meant.job, parts).await;
        }
        let mut all = nothing();
        for (request, command) in parts {
            let reply = self.propose(caller, request, command).await;
            match reply.and_then(touched) {
                Ok(next) => all = sum(all, &next),
                Err(error) => return Err(half_way(error, &all, caller.request.as_ref())),
            }
        }
        Ok(all)
    }

    /// Applies the commands to a copy of their job, so that it is counted what they would count.
    async fn would_touch(&self, caller: &Caller, job: JobId, parts: Vec<Part>) -> Result<Touched, ApiError> {
        let (member, actor, at) = (self.member()?, caller.actor.clone(), self.clock.wall());
        let tried = tokio::task::spawn_blocking(move || {
            let term = member.replica.leadership().borrow().term;
            let mut copy = member.replica.state().with_only(job);
            let (revision, mut all) = (copy.revision, nothing());
            for (_, command) in parts {
                let proposal = Proposal { actor: actor.clone(), at, request: None, command };
                let reply = sheaf_engine::apply(&mut copy, term, &proposal, &mut Vec::new());
                all = sum(all, &touched(reply)?);
            }
            let done = Done { revision, unchanged: true, ..Done::default() };
            Ok::<_, ApiError>(Touched { done, subtasks: all.subtasks })
        });
        tried.await.map_err(|error| ApiError::Internal(error.to_string()))?
    }
}

/// The commands of a verb: one if the log takes it as one, else one for each stretch of the job that has some of what is
/// meant, each under an id of its own. A stretch that was done under its id before may have nothing left that is meant:
/// it is asked for again, for its answer.
fn parts(
    request: Option<&RequestId>,
    meant: &Selected,
    verb: impl Fn(Ranges) -> Command,
    fits: impl Fn(Command) -> bool,
    is_known: impl Fn(&RequestId) -> bool,
) -> Vec<Part> {
    if request.is_some_and(&is_known) {
        return vec![(request.cloned(), verb(Ranges::default()))];
    }
    let under = |place: u32| request.map(|id| RequestId(format!("{}/{place}", id.0)));
    let was_done = |place: u32| under(place).is_some_and(|id| is_known(&id));
    let stretches = Run::first_of(meant.count).map_or(0, |whole| whole.last / STRETCH + 1);
    if !(0..stretches).any(was_done) && fits(verb(meant.subtasks.clone())) {
        return vec![(request.cloned(), verb(meant.subtasks.clone()))];
    }
    let stretches = (0..stretches).filter_map(|place| {
        let first = place.saturating_mul(STRETCH);
        let stretch = Run::new(first, first.saturating_add(STRETCH - 1));
        let here: Ranges = meant.subtasks.within(stretch).collect();
        (!here.is_empty() || was_done(place)).then(|| (under(place), verb(here)))
    });
    stretches.collect()
}

/// What a command answered.
fn touched(reply: Reply) -> Result<Touched, ApiError> {
    match reply {
        Reply::Touched(revision, subtasks) => {
            let done = Done { revision, unchanged: subtasks == 0, ..Done::default() };
            Ok(Touched { done, subtasks })
        }
        other => Ok(Touched { done: done(other)?, subtasks: 0 }),
    }
}

/// Why a verb went no further, with what was done of it before.
fn half_way(error: ApiError, done: &Touched, request: Option<&RequestId>) -> ApiError {
    if done.done.unchanged {
        return error;
    }
    let again = match request {
        Some(id) => format!("ask again under the same request id, {}, and it goes on from there", id.0),
        None => "ask again for the rest".to_owned(),
    };
    error.but(&format!("{} subtasks were changed before: {again}", done.subtasks))
}

/// What no command at all answers.
fn nothing() -> Touched {
    Touched { done: Done { unchanged: true, ..Done::default() }, subtasks: 0 }
}

/// What came of some commands of a verb, and of another one.
fn sum(all: Touched, next: &Touched) -> Touched {
    let revision = all.done.revision.max(next.done.revision);
    let unchanged = all.done.unchanged && next.done.unchanged;
    Touched { done: Done { revision, unchanged, ..all.done }, subtasks: all.subtasks + next.subtasks }
}

#[cfg(test)]
mod tests {
    use sheaf_engine::CancelJob;
    use sheaf_model::{Actor, Revision, Timestamp};

    use super::*;

    fn cancel(subtasks: Ranges) -> Command {
        let reason = "enough".to_owned();
        Command::CancelJob(CancelJob { job: JobId(7), subtasks: Some(subtasks), reason })
    }

    fn canceled(part: &Part) -> &Ranges {
        match &part.1 {
            Command::CancelJob(CancelJob { subtasks: Some(subtasks), .. }) => subtasks,
            other => panic!("{other:?}"),
        }
    }

    fn fits(command: Command) -> bool {
        let (actor, at) = (Actor::from("test"), Timestamp::default());
        let request = Some(RequestId("x".repeat(128)));
        sheaf_consensus::fits(&Proposal { actor, at, request, command }).is_ok()
    }

    /// Every other of some subtasks.
    fn every_other(first: u32, last: u32, count: u32) -> Selected {
        let subtasks = (first..=last).step_by(2).collect();
        Selected { job: JobId(7), count, subtasks, all: false }
    }

    #[test]
    fn what_does_not_fit_into_one_command_is_several_that_fit() {
        let meant = every_other(0, 999_999, 1_000_000);
        assert!(!fits(cancel(meant.subtasks.clone())));
        let all = parts(Some(&RequestId::from("r")), &meant, cancel, fits, |_| false);
        let ids: Vec<&str> = all.iter().filter_map(|(id, _)| id.as_ref()).map(|id| id.0.as_str()).collect();
        assert_eq!(ids, ["r/0", "r/1", "r/2", "r/3", "r/4"]);
        assert!(all.iter().all(|(_, command)| fits(command.clone())));
        let together: Ranges = all.iter().flat_map(|part| canceled(part).runs()).collect();
        assert_eq!(together, meant.subtasks);

        // The longest numbers that there are.
        let last = 99_999_999;
        let worst = every_other(last / STRETCH * STRETCH - STRETCH, last, last + 1);
        let all = parts(None, &worst, cancel, fits, |_| false);
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|(id, command)| id.is_none() && fits(command.clone())));
    }

    #[test]
    fn what_fits_is_one_command_and_asked_again_is_the_same_one() {
        let (id, meant) = (RequestId::from("r"), every_other(0, 99, 1_000_000));
        let once = parts(Some(&id), &meant, cancel, fits, |_| false);
        assert_eq!(once, [(Some(id.clone()), cancel(meant.subtasks))]);
        let many = every_other(0, 999_999, 1_000_000);
        let again = parts(Some(&id), &many, cancel, fits, |known| *known == id);
        assert_eq!(again, [(Some(id), cancel(Ranges::default()))], "it is answered as the first time");
    }

    #[test]
    fn what_was_done_in_part_goes_on_from_there() {
        let id = RequestId::from("r");
        let done = [RequestId::from("r/0"), RequestId::from("r/1")];
        // Of the first two stretches nothing is left that is meant, and the rest would fit into one command.
        let rest = every_other(700_001, 999_999, 1_000_000);
        let all = parts(Some(&id), &rest, cancel, fits, |id| done.contains(id));
        let told: Vec<(&str, u64)> = all
            .iter()
            .map(|part| (part.0.as_ref().map_or("", |id| id.0.as_str()), canceled(part).len()))
            .collect();
        assert_eq!(told, [("r/0", 0), ("r/1", 0), ("r/2", 10_000), ("r/3", 120_000), ("r/4", 20_000)]);
    }

    #[test]
    fn answers_add_up() {
        let replies =
            [Reply::Touched(Revision(3), 2), Reply::Touched(Revision(4), 0), Reply::Done(Revision(5))];
        let all = replies.map(|reply| touched(reply).expect("an answer"));
        let all = all.iter().fold(nothing(), sum);
        assert_eq!((all.done.revision, all.done.unchanged, all.subtasks), (Revision(5), false, 2));
        let none = sum(nothing(), &touched(Reply::Touched(Revision(3), 0)).expect("an answer"));
        assert_eq!((none.done.revision, none.done.unchanged), (Revision(3), true));
    }

    #[test]
    fn what_fails_half_way_says_what_was_done() {
        let lost = || ApiError::unavailable("no leader");
        assert_eq!(half_way(lost(), &nothing(), Some(&RequestId::from("r"))), lost());
        let some = touched(Reply::Touched(Revision(3), 240_000)).expect("an answer");
        let said = half_way(lost(), &some, Some(&RequestId::from("r-1")));
        assert_eq!(
            said,
            ApiError::unavailable(
                "no leader; 240000 subtasks were changed before: ask again under the same request id, r-1, and it goes on from there"
            )
        );
        assert!(half_way(lost(), &some, None).to_string().ends_with("ask again for the rest"));
    }
}
