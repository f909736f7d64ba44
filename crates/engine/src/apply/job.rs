//! Jobs. Handlers look first, then do steps; what a command's steps add up to is put when the command is over.

mod grant;
mod result;
mod submit;
mod verb;

pub use submit::check;

use std::sync::Arc;

use sheaf_model::{JobId, JobState};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::Refusal;
use crate::job::Job;
use crate::job::step::{Detail, Ran, Step, Transitions};

impl Transaction<'_> {
    /// The job, or a refusal.
    fn job(&self, id: JobId) -> Result<&Job, Refusal> {
        self.state.jobs.get(id).ok_or_else(|| Refusal::NotFound("job".to_owned(), id.to_string()))
    }

    /// Does a step at once, and notes it.
    fn step(&mut self, id: JobId, step: Step) {
        self.state.jobs.step(id, &step, self.proposal.at);
        self.noted(id).push(step);
    }

    fn noted(&mut self, id: JobId) -> &mut Transitions {
        let (revision, proposal) = (self.revision, self.proposal);
        let new = || Transitions::new(id, revision, proposal.at, proposal.actor.clone());
        self.steps.entry(id).or_insert_with(new)
    }

    fn note_ran(&mut self, id: JobId, ran: Ran) {
        self.noted(id).ran.push(ran);
    }

    fn note_detail(&mut self, id: JobId, detail: Detail) {
        self.noted(id).details.push(detail);
    }

    /// Puts a job's row as it is, changed by `change`.
    fn put_job(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        self.put_steps_of(id);
        let Some(mut job) = self.state.jobs.get(id).cloned() else { return };
        change(&mut job);
        job.unsaved = 0;
        self.put(Change::Job(Arc::new(job)));
    }

    /// Puts everything that the command did to subtasks, and what follows from jobs that are over now.
    pub(super) fn put_steps(&mut self) {
        while let Some(id) = self.steps.keys().next().copied() {
            self.put_steps_of(id);
        }
    }

    fn put_steps_of(&mut self, id: JobId) {
        let Some(mut all) = self.steps.remove(&id) else { return };
        let Some(job) = self.state.jobs.get(id) else { return };
        let before = job.ended_at;
        all.number = job.history;
        self.state.jobs.settle(id, all.at, all.steps.len());
        self.changes.push(Change::Transitions(Arc::new(all)));
        let Some(job) = self.state.jobs.get(id) else { return };
        let ended = job.ended_at.is_some() && before.is_none();
        // Once it is over its row contains its whole history, which then may be forgotten.
        if job.wants_checkpoint() || ended {
            self.put_job(id, |_| {});
        }
        if ended {
            self.job_ended(id);
        }
    }

    fn job_ended(&mut self, id: JobId) {
        let Some(job) = self.state.jobs.get(id) else { return };
        let (state, counts, name) = (job.state(), job.counts(), job.spec.name.clone());
        let message =
            format!("{} finished, {} failed, {} canceled", counts.finished, counts.failed, counts.canceled);
        let kind = match state {
            JobState::Finished => "job.finished",
            JobState::Failed => "job.failed",
            JobState::Canceled | JobState::Running | JobState::Paused => "job.canceled",
        };
        self.event(Line::new(kind, &name).went("", state.as_str()).because(message));
        let followers: Vec<JobId> = self.state.jobs.followers(id).collect();
        for follower in followers {
            let over = self.state.jobs.get(follower).is_some_and(|job| job.state().is_over());
            if state == JobState::Finished || over {
                self.put_job(follower, |job| {
                    job.after.remove(&id);
                });
            } else {
                self.cancel_whole(follower, &format!("job {name}, which it comes after, {}", was(state)));
            }
        }
    }
}

/// How a job that did not finish ended, for a sentence.
const fn was(state: JobState) -> &'static str {
    match state {
        JobState::Failed => "failed",
        _ => "was canceled",
    }
}

#[cfg(test)]
mod tests;
