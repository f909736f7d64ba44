//! What became of subtasks, in words.

use std::collections::BTreeMap;

use sheaf_engine::job::step::{Step, Transitions, What};
use sheaf_model::FailureClass;

/// What one command did to subtasks of a job, and what was said about which.
pub(crate) struct Piece {
    pub(crate) all: Transitions,
    /// By subtask: which of the details is the first about it.
    details: BTreeMap<u32, usize>,
}

impl Piece {
    pub(crate) fn new(all: Transitions) -> Self {
        let mut details = BTreeMap::new();
        for (place, detail) in all.details.iter().enumerate() {
            details.entry(detail.subtask).or_insert(place);
        }
        Self { all, details }
    }

    /// Why it became that of the first subtask of a step, as far as the step and what its node said tell.
    pub(crate) fn reason(&self, step: &Step) -> Option<String> {
        let detail = self.details.get(&step.run.first).and_then(|place| self.all.details.get(*place));
        let said = detail.map(|detail| detail.message.trim_end());
        let failure = |class: FailureClass| match (class, said) {
            (_, Some(said)) if !said.is_empty() => said.to_owned(),
            (FailureClass::Lost, _) => "lost with its node".to_owned(),
            (class, _) => class.as_str().to_owned(),
        };
        match step.what {
            What::Failed(class) => Some(failure(class)),
            What::Retried(class, until) => Some(format!("{}; tried again at {until}", failure(class))),
            What::HandedBack => Some("given back by its node; the attempt does not count".to_owned()),
            What::Woken => Some("the time of its next attempt has come".to_owned()),
            What::Skipped(on) => Some(format!("subtask {on}, which it depends on, did not finish")),
            What::Prioritized(priority) | What::AllPrioritized(priority) => {
                Some(format!("priority {priority}"))
            }
            What::Stale => {
                let said = said.unwrap_or("that it ended");
                Some(format!(
                    "a report of an attempt that did not run any more, which changed nothing: {said}"
                ))
            }
            What::Granted(..) | What::Finished | What::Canceled | What::Stopping | What::Again => None,
        }
    }
}

/// The word for what became of them.
pub(crate) const fn kind(what: What) -> &'static str {
    match what {
        What::Granted(..) => "granted",
        What::Finished => "finished",
        What::Retried(..) => "retried",
        What::Failed(_) => "failed",
        What::HandedBack => "handed_back",
        What::Woken => "woken",
        What::Canceled => "canceled",
        What::Skipped(_) => "skipped",
        What::Stopping => "stopping",
        What::Again => "again",
        What::Prioritized(_) | What::AllPrioritized(_) => "prioritized",
        What::Stale => "stale",
    }
}

#[cfg(test)]
mod tests {
    use sheaf_engine::job::step::Detail;
    use sheaf_model::{Actor, Fingerprint, JobId, Revision, Run, Timestamp};

    use super::*;

    #[test]
    fn why_is_told_of_each_step_that_knows() {
        let mut all = Transitions::new(JobId(1), Revision(2), Timestamp(3), Actor::default());
        let detail = |message: &str| Detail {
            subtask: 7,
            exit: None,
            fingerprint: Fingerprint::default(),
            message: message.to_owned(),
        };
        all.details = vec![detail("no file\n"), detail("finished")];
        let piece = Piece::new(all);
        let why = |what, subtask| piece.reason(&Step { what, run: Run::one(subtask), attempt: 1 });
        let until = Timestamp(1_700_000_000_000);
        assert_eq!(
            why(What::Retried(FailureClass::Exit, until), 7).as_deref(),
            Some("no file; tried again at 2023-11-14T22:13:20.000Z")
        );
        assert_eq!(why(What::Failed(FailureClass::Exit), 7).as_deref(), Some("no file"));
        assert_eq!(why(What::Failed(FailureClass::Lost), 8).as_deref(), Some("lost with its node"));
        assert_eq!(why(What::Failed(FailureClass::Timeout), 8).as_deref(), Some("timeout"));
        let skipped = why(What::Skipped(3), 8);
        assert_eq!(skipped.as_deref(), Some("subtask 3, which it depends on, did not finish"));
        assert_eq!(why(What::Finished, 7), None);
    }
}
