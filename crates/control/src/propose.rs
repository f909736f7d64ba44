//! Changes: into the log, and what its answer means to a caller.

use std::future::Future;
use std::time::{Duration, SystemTime};

use sheaf_consensus::{Applied, ProposeError};
use sheaf_engine::{Command, Proposal, Refusal, Reply};
use sheaf_model::{Actor, RequestId, Revision, Term, TraceContext};
use sheaf_wire::{ApiError, Applies, Caller, Done, trace};
use tokio::time::Instant;

use crate::shortage::Shortage;
use crate::{Control, traces};

/// How long a follower that is to show what it has asks the leader whether that is all.
pub(crate) const FRESH_WITHIN: Duration = Duration::from_secs(1);
/// Bytes of the longest request id.
const REQUEST_MAX: usize = 128;
/// How long a change may take whose caller does not say.
const WITHIN: Duration = Duration::from_secs(10);

impl Control {
    /// Proposes a command for a caller and waits until it is applied here. Refused at once where it would only wait.
    pub(crate) async fn propose(
        &self,
        caller: &Caller,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Reply, ApiError> {
        let member = self.member()?;
        // Of its own disk the replica itself says more.
        if member.replica.has_room()
            && let Some(shortage) = self.shortage(&member.replica).filter(Shortage::stops_changes)
        {
            return Err(ApiError::Exhausted(shortage.to_string()));
        }
        match caller.trace.filter(|trace| trace.sampled) {
            Some(parent) => self.propose_traced(caller, request, command, parent).await,
            None => self.propose_as(caller.actor.clone(), request, command, caller.deadline).await,
        }
    }

    /// The same, told as a part of `parent`; so is what nodes do about it.
    async fn propose_traced(
        &self,
        caller: &Caller,
        request: Option<RequestId>,
        command: Command,
        parent: TraceContext,
    ) -> Result<Reply, ApiError> {
        let (verb, buckets) = traces::about(&command);
        let mut span = trace::begin("sheaf.propose", Some(parent)).with("sheaf.command", &verb);
        let change = span.context().unwrap_or(parent);
        // Before: whoever acts on it may be quicker than its answer.
        self.traces.remember(&buckets, change, std::time::Instant::now());
        let actor = caller.actor.clone();
        let proposed = self.propose_now(actor, request, command, caller.deadline, None).await;
        let refusal = match &proposed {
            // These quote what is in documents.
            Ok(Applied { reply: Reply::Refused(Refusal::Invalid(_)), .. }) => Some("invalid".to_owned()),
            Ok(Applied { reply: Reply::Refused(refusal), .. }) => Some(refusal.to_string()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = refusal {
            span.failed(&why);
            self.traces.forget(&buckets, change);
        }
        if let Ok(Applied { revision, at: Some((at, took)), .. }) = &proposed {
            let begun = SystemTime::now() - at.elapsed();
            let apply = trace::begin_at(begun, "sheaf.apply", Some(change));
            apply.with("sheaf.revision", revision).end_at(begun + *took);
        }
        proposed.map(|applied| applied.reply)
    }

    pub(crate) async fn propose_as(
        &self,
        actor: Actor,
        request: Option<RequestId>,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Reply, ApiError> {
        Ok(self.propose_now(actor, request, command, deadline, None).await?.reply)
    }

    /// The same for what holds in this leadership alone.
    pub(crate) async fn propose_in(
        &self,
        term: Term,
        actor: Actor,
        command: Command,
    ) -> Result<Reply, ApiError> {
        Ok(self.propose_now(actor, None, command, None, Some(term)).await?.reply)
    }

    async fn propose_now(
        &self,
        actor: Actor,
        request: Option<RequestId>,
        command: Command,
        deadline: Option<Instant>,
        term: Option<Term>,
    ) -> Result<Applied, ApiError> {
        let member = self.member()?;
        let proposal = Proposal { actor, at: self.clock.wall(), request, command };
        let begun = Instant::now();
        let deadline = deadline.unwrap_or_else(|| begun + WITHIN);
        let proposing = async {
            match term {
                Some(term) => member.replica.propose_in_term(term, &proposal).await,
                None => member.replica.propose(&proposal).await,
            }
        };
        let proposed = tokio::time::timeout_at(deadline, proposing).await;
        let result = if matches!(proposed, Ok(Ok(_))) { "applied" } else { "failed" };
        metrics::histogram!("sheaf_raft_proposal_duration_seconds", "result" => result)
            .record(begun.elapsed());
        match proposed {
            Ok(Ok(applied)) => Ok(applied),
            Ok(Err(error)) => Err(api_error(&error)),
            Err(_) => Err(ApiError::DeadlineExceeded(format!(
                "the change was not confirmed in time ({}); it may still be made",
                self.why_unconfirmed(&member.replica)
            ))),
        }
    }

    /// Whether the log would take this command.
    ///
    /// # Errors
    /// What [`Self::propose`] would answer if it does not.
    pub(crate) fn fits(&self, caller: &Caller, command: Command) -> Result<(), ApiError> {
        // No id is longer.
        let request = Some(RequestId("x".repeat(REQUEST_MAX)));
        let (actor, at) = (caller.actor.clone(), self.clock.wall());
        let proposal = Proposal { actor, at, request, command };
        sheaf_consensus::fits(&proposal).map_err(|error| api_error(&error))
    }

    /// Proposes a verb whose answer is only done or refused.
    pub(crate) async fn change(
        &self,
        caller: &Caller,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Done, ApiError> {
        done(self.propose(caller, request, command).await?)
    }

    /// What [`Self::change`] would answer now, without the change: it is applied to a copy of the state.
    pub(crate) fn rehearse(&self, caller: &Caller, command: Command) -> Result<Done, ApiError> {
        let member = self.member()?;
        let mut copy = member.replica.state().clone();
        let term = member.replica.leadership().borrow().term;
        let proposal =
            Proposal { actor: caller.actor.clone(), at: self.clock.wall(), request: None, command };
        let reply = sheaf_engine::apply(&mut copy, term, &proposal, &mut Vec::new());
        done(reply).map(|done| Done { revision: Revision(0), ..done })
    }

    /// Waits until the caller's revision is applied here, so that it reads what it wrote. A caller that names none
    /// reads what was acknowledged to anybody before it asked, as long as the leader can be asked. A member that has not
    /// received the cluster's state yet has nothing to show, and refuses: what it lacks would look as if it were not.
    pub(crate) async fn caught_up(&self, caller: &Caller) -> Result<(), ApiError> {
        self.read_what_it_wrote(caller).await?;
        match self.place.member() {
            Some(member) if member.replica.state().cluster.id.is_none() => Err(ApiError::unavailable(
                "this node has just become a member and has not received the cluster's state yet",
            )),
            _ => Ok(()),
        }
    }

    /// The same, where even nothing is worth showing. A node that was forgotten shows nothing: what it has is what was once.
    pub(crate) async fn read_what_it_wrote(&self, caller: &Caller) -> Result<(), ApiError> {
        self.refuse_if_left()?;
        let Some(revision) = caller.revision else {
            if let Some(member) = self.place.member()
                && !self.place.leads()
                && self.place.leader(&member).is_some()
            {
                // Without an answer what is known here is the best there is.
                let _ = tokio::time::timeout(FRESH_WITHIN, member.replica.read_index()).await;
            }
            // It may have been told meanwhile.
            return self.refuse_if_left();
        };
        let member = self.member()?;
        within(caller, member.replica.wait_for(revision)).await.map_err(|()| {
            let now = member.replica.state().revision;
            ApiError::DeadlineExceeded(format!("this node is at revision {now}, not yet at {revision}"))
        })
    }

    /// As [`Self::caught_up`], for whoever goes on from what it reads: to a caller that names no revision nothing is shown unless
    /// it is sure that all is in it that was acknowledged to anybody before it asked.
    pub(crate) async fn newest(&self, caller: &Caller) -> Result<(), ApiError> {
        if caller.revision.is_some() {
            return self.caught_up(caller).await;
        }
        self.refuse_if_left()?;
        let member = self.member()?;
        match within(caller, member.replica.read_index()).await {
            // It may have been told meanwhile.
            Ok(Ok(_)) => self.refuse_if_left(),
            Ok(Err(error)) => {
                Err(ApiError::unavailable(format!("what is newest is not known here: {error}")))
            }
            Err(()) => {
                Err(ApiError::DeadlineExceeded("the leader has not said in time what is newest".to_owned()))
            }
        }
    }

    /// Whether this node still belongs to the cluster, as far as it has heard.
    pub(crate) fn refuse_if_left(&self) -> Result<(), ApiError> {
        if self.place.has_left() {
            return Err(ApiError::Precondition(self.place.left_text()));
        }
        Ok(())
    }
}

/// Waits for `future` within the caller's deadline.
pub(crate) async fn within<T>(caller: &Caller, future: impl Future<Output = T>) -> Result<T, ()> {
    let deadline = caller.deadline.unwrap_or_else(|| Instant::now() + WITHIN);
    tokio::time::timeout_at(deadline, future).await.map_err(|_| ())
}

/// What a verb was answered that is only done or refused.
pub(crate) fn done(reply: Reply) -> Result<Done, ApiError> {
    match reply {
        Reply::Done(revision) => Ok(Done { revision, ..Done::default() }),
        Reply::Unchanged(revision) => Ok(Done { revision, unchanged: true, ..Done::default() }),
        Reply::Refused(refusal) => Err(refused(refusal)),
        other => Err(ApiError::Internal(format!("an answer that fits no verb: {other:?}"))),
    }
}

/// What a change would be answered: that it is so already, and since when; or nothing, since it would be made.
pub(crate) fn checked(found: Result<Option<Revision>, Refusal>) -> Result<Done, ApiError> {
    let since = found.map_err(refused)?;
    Ok(Done { revision: since.unwrap_or_default(), unchanged: since.is_some(), ..Done::default() })
}

/// What a refusal means to a caller.
pub(crate) fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NotFound(..) => ApiError::NotFound(refusal.to_string()),
        Refusal::Conflict(text) => ApiError::Conflict(text),
        Refusal::Invalid(defects) => ApiError::Invalid(defects),
        Refusal::Stale(_) | Refusal::Precondition(_) => ApiError::Precondition(refusal.to_string()),
        Refusal::Exhausted(text) => ApiError::Exhausted(text),
    }
}

fn api_error(error: &ProposeError) -> ApiError {
    let applied = match error {
        ProposeError::Unknown { .. } | ProposeError::Stopped => Applies::Perhaps,
        ProposeError::TooLarge { bytes, limit } => {
            return ApiError::invalid(
                "",
                format!("too large: {bytes} bytes in one transaction, {limit} is the most"),
                "the same in several; `sheaf apply -f DIR` applies the files of a directory, each as one",
            );
        }
        ProposeError::Encode { .. } => return ApiError::invalid("", error.to_string(), "a smaller change"),
        // Soon it is not over: who asks should hear of it now.
        ProposeError::DiskFull { .. } => {
            return ApiError::Exhausted(format!("{error}: nothing is changed until there is room"));
        }
        _ => Applies::No,
    };
    ApiError::Unavailable { reason: error.to_string(), applied }
}

/// The revision of a change made of several outcomes.
pub(crate) fn newest(outcomes: &[sheaf_wire::Outcome]) -> Revision {
    outcomes.iter().map(|outcome| outcome.revision).max().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests;
