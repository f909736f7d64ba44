//! What became of attempts, told by the transitions alone and by what agents really did.

use std::collections::BTreeSet;

use sheaf_engine::Change;
use sheaf_engine::job::step::What;
use sheaf_model::{Attempt, JobId};

#[derive(Debug, Default)]
pub(crate) struct History {
    granted: BTreeSet<Attempt>,
    /// Granted and not ended.
    pub(crate) runs: BTreeSet<Attempt>,
    finished: BTreeSet<(JobId, u32)>,
    /// Attempts that an agent began, and those that ended well there.
    pub(crate) begun: BTreeSet<Attempt>,
    pub(crate) ended_well: BTreeSet<Attempt>,
}

impl History {
    /// Goes on with a change; what is wrong with it, in words.
    pub(crate) fn read(&mut self, change: &Change) -> Option<String> {
        let Change::Transitions(all) = change else { return None };
        let steps = all.steps.iter().flat_map(|step| step.run.numbers().map(move |subtask| (subtask, step)));
        let mut wrong = None;
        for (subtask, step) in steps {
            let attempt = Attempt { job: all.job, subtask, number: step.attempt };
            let holds = match step.what {
                What::Granted(..) => {
                    let first = !self.finished.contains(&(all.job, subtask));
                    first && self.granted.insert(attempt) && self.runs.insert(attempt)
                }
                What::Finished => {
                    let first = self.finished.insert((all.job, subtask));
                    first && self.ended_well.contains(&attempt) && self.runs.remove(&attempt)
                }
                What::Retried(..) | What::Failed(_) | What::HandedBack => self.runs.remove(&attempt),
                What::Canceled => step.attempt == 0 || self.runs.remove(&attempt),
                What::Stale => !self.runs.contains(&attempt),
                What::Skipped(_)
                | What::Woken
                | What::Stopping
                | What::Again
                | What::Prioritized(_)
                | What::AllPrioritized(_) => true,
            };
            if !holds {
                wrong.get_or_insert(format!("{attempt:?}: {:?}", step.what));
            }
        }
        wrong
    }
}
