//! The ends of attempts, as the history of their job tells them.

use std::collections::BTreeMap;

use sheaf_engine::job::step::{Detail, Ran, Step, Transitions, What};
use sheaf_model::{Exit, FailureClass, Fingerprint, NodeId, Timestamp};

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RanAttempt {
    /// Which of the subtask's.
    pub number: u32,
    /// Where; none: that was forgotten.
    pub node: Option<NodeId>,
    /// Through the backend at this place of the job's list.
    pub backend: Option<u8>,
    /// When it began, by its node; or when it was granted, if the node did not say.
    pub started_at: Option<Timestamp>,
    /// When its end was recorded.
    pub ended_at: Timestamp,
    /// How it ended.
    pub end: AttemptState,
    /// Of a failure: another attempt was to follow.
    pub retried: bool,
    /// As a shell gives it: of a signal, 128 more.
    pub exit_code: Option<i32>,
    /// What was said about its end.
    pub message: String,
    /// Of the message of a failure.
    pub fingerprint: Option<Fingerprint>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Well.
    Finished,
    /// Badly.
    Failed(FailureClass),
    /// Its subtask was canceled.
    Canceled,
    /// Its node gave it back; it does not count.
    HandedBack,
}

impl AttemptState {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Canceled => "canceled",
            Self::HandedBack => "handed_back",
        }
    }

    /// Of a failure: its class.
    pub const fn class(self) -> Option<FailureClass> {
        match self {
            Self::Failed(class) => Some(class),
            _ => None,
        }
    }

    /// Of an attempt that a step ends; none: it ends none.
    pub(crate) const fn of(step: &Step) -> Option<Self> {
        if step.attempt == 0 {
            return None;
        }
        match step.what {
            What::Finished => Some(Self::Finished),
            What::Retried(class, _) | What::Failed(class) => Some(Self::Failed(class)),
            What::HandedBack => Some(Self::HandedBack),
            What::Canceled => Some(Self::Canceled),
            _ => None,
        }
    }
}

/// An attempt that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) attempt: u32,
    pub(crate) node: NodeId,
    pub(crate) backend: Option<u8>,
    pub(crate) at: Timestamp,
}

/// One end.
pub(crate) struct End<'t> {
    pub(crate) subtask: u32,
    pub(crate) step: &'t Step,
    pub(crate) state: AttemptState,
    at: Timestamp,
    ran: Option<&'t Ran>,
    detail: Option<&'t Detail>,
}

/// Gives each end of an attempt that a command recorded, of subtasks that `of` wants, to `found`, in order.
pub(crate) fn each<'t, E>(
    all: &'t Transitions,
    of: impl Fn(u32) -> bool,
    mut found: impl FnMut(End<'t>) -> Result<(), E>,
) -> Result<(), E> {
    let ends = || all.steps.iter().filter_map(|step| Some((step, AttemptState::of(step)?)));
    // A node says of all the attempts whose ends it reports when they ran; of what is lost with it, nothing.
    let reported = ends().map(|(step, _)| step.run.len()).sum::<u64>() == all.ran.len() as u64;
    let mut details: BTreeMap<u32, &Detail> = BTreeMap::new();
    for detail in all.details.iter().filter(|detail| !detail.is_stale()) {
        details.entry(detail.subtask).or_insert(detail);
    }
    let mut nth = 0;
    for (step, state) in ends() {
        for subtask in step.run.numbers() {
            let ran = all.ran.get(nth).filter(|_| reported);
            nth += 1;
            if of(subtask) {
                let detail = details.get(&subtask).copied();
                found(End { subtask, step, state, at: all.at, ran, detail })?;
            }
        }
    }
    Ok(())
}

impl End<'_> {
    /// All there is to say of the attempt, given where it was granted, if that is known.
    pub(crate) fn attempt(&self, granted: Option<Granted>) -> RanAttempt {
        let words = match self.state {
            AttemptState::Failed(FailureClass::Lost) => "lost with its node",
            AttemptState::HandedBack => "handed back by its node, to be run again",
            AttemptState::Canceled => "canceled",
            AttemptState::Finished | AttemptState::Failed(_) => "",
        };
        let message = self.detail.map_or_else(|| words.to_owned(), |detail| detail.message.clone());
        let fingerprint = self.state.class().map(|_| match self.detail {
            Some(detail) => detail.fingerprint,
            None => Fingerprint::of(&message),
        });
        let finished = (self.state == AttemptState::Finished).then_some(Exit::Code(0));
        let exit = self.detail.and_then(|detail| detail.exit).or(finished);
        RanAttempt {
            number: self.step.attempt,
            node: granted.map(|granted| granted.node),
            backend: granted.and_then(|granted| granted.backend),
            started_at: self.ran.map(|ran| ran.started_at).or(granted.map(|granted| granted.at)),
            ended_at: self.at,
            end: self.state,
            retried: matches!(self.step.what, What::Retried(..)),
            exit_code: exit.and_then(exit_code),
            message,
            fingerprint,
        }
    }
}

/// As a shell gives it: a signal is 128 more.
const fn exit_code(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(signal) => Some(128 + signal),
        Exit::NotStarted => None,
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Actor, JobId, Revision, Run};

    use super::*;

    #[test]
    fn what_a_stale_report_said_is_of_no_attempt_that_failed() {
        let mut all = Transitions::new(JobId(1), Revision(2), Timestamp(3), Actor::default());
        let step = |what, attempt| Step { what, run: Run::one(7), attempt };
        all.steps = vec![step(What::Stale, 1), step(What::Failed(FailureClass::Exit), 2)];
        let detail = |fingerprint, message: &str| {
            let message = message.to_owned();
            Detail { subtask: 7, exit: None, fingerprint, message }
        };
        all.details =
            vec![detail(Fingerprint::default(), "finished"), detail(Fingerprint::of("full"), "full")];
        let mut said = Vec::new();
        let each = each(
            &all,
            |_| true,
            |end| {
                said.push(end.attempt(None).message);
                Ok::<(), ()>(())
            },
        );
        assert_eq!((each, said), (Ok(()), vec!["full".to_owned()]));
    }
}
