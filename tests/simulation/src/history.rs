//! What became of attempts, told by the transitions alone and by what agents really did.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_engine::job::step::What;
use sheaf_engine::{Change, GrantAll};
use sheaf_model::{Attempt, Incarnation, JobId};

#[derive(Debug, Default)]
pub(crate) struct History {
    granted: BTreeSet<Attempt>,
    /// The life of an agent that each of those was granted to.
    lives: BTreeMap<Attempt, Incarnation>,
    /// Granted and not ended.
    pub(crate) runs: BTreeSet<Attempt>,
    finished: BTreeSet<(JobId, u32)>,
    /// Attempts that an agent began, and those that ended well there.
    begun: BTreeSet<Attempt>,
    pub(crate) ended_well: BTreeSet<Attempt>,
}

impl History {
    /// What of these grants holds was granted now, or before to somebody else.
    pub(crate) fn read_grants(&mut self, all: &GrantAll) {
        for grant in &all.grants {
            for (run, number) in &grant.subtasks {
                let attempts =
                    run.numbers().map(|subtask| Attempt { job: grant.job, subtask, number: *number });
                for attempt in attempts.filter(|it| self.granted.contains(it)) {
                    self.lives.entry(attempt).or_insert_with(|| grant.incarnation.clone());
                }
            }
        }
    }

    /// An agent begins an attempt; what is wrong with that, in words.
    pub(crate) fn begins(&mut self, attempt: Attempt, life: &Incarnation) -> Option<&'static str> {
        if !self.begun.insert(attempt) {
            return Some("began before");
        }
        (self.lives.get(&attempt) != Some(life)).then_some("was granted to another life of an agent")
    }

    /// How many subtasks of a job have a success on record.
    pub(crate) fn finished_of(&self, job: JobId) -> u64 {
        self.finished.range((job, 0)..=(job, u32::MAX)).count() as u64
    }

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
