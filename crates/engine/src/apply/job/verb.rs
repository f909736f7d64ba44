//! What operators do with jobs.

use std::collections::BTreeSet;

use sheaf_model::job::PRIORITY_MAX;
use sheaf_model::{JobId, Ranges, Run};

use super::super::{Line, Transaction};
use crate::change::Change;
use crate::command::{CancelJob, Refusal, Reply, ReprioritizeJob, RetryJob};
use crate::job::progress::Place;
use crate::job::step::{Step, What};

impl Transaction<'_> {
    pub(in super::super) fn pause_job(&mut self, id: JobId, paused: bool) -> Result<Reply, Refusal> {
        let job = self.job(id)?;
        if job.paused == paused {
            return Ok(Reply::Unchanged(job.revision));
        }
        let name = job.spec.name.clone();
        if paused && job.state().is_over() {
            return Err(Refusal::Precondition(format!("job {name} is {}", job.state().as_str())));
        }
        let revision = self.revision;
        self.put_job(id, |job| (job.paused, job.revision) = (paused, revision));
        let (kind, before, after) =
            if paused { ("job.paused", "running", "paused") } else { ("job.resumed", "paused", "running") };
        self.event(Line::new(kind, &name).went(before, after));
        Ok(Reply::Done(self.revision))
    }

    pub(in super::super) fn cancel_job(&mut self, cancel: &CancelJob) -> Result<Reply, Refusal> {
        let job = self.job(cancel.job)?;
        if job.state().is_over() || job.canceled.is_some() {
            return Ok(Reply::Unchanged(job.revision));
        }
        let Some(subtasks) = &cancel.subtasks else {
            let left = job.counts().left();
            self.cancel_whole(cancel.job, &cancel.reason);
            return Ok(Reply::Touched(self.revision, left));
        };
        let name = job.spec.name.clone();
        let count = self.cancel_some(cancel.job, subtasks);
        if count == 0 {
            return Ok(Reply::Touched(self.revision, 0));
        }
        let what = format!("{count} subtasks: {}", cancel.reason);
        self.event(Line::new("job.subtasks_canceled", &name).because(what));
        Ok(Reply::Touched(self.revision, count))
    }

    /// Nothing more of it begins; it is over when what runs has ended. Nothing if it is already.
    pub(super) fn cancel_whole(&mut self, id: JobId, reason: &str) {
        self.put_steps_of(id);
        let Some(job) =
            self.state.jobs.get(id).filter(|job| !job.state().is_over() && job.canceled.is_none())
        else {
            return;
        };
        let (name, revision) = (job.spec.name.clone(), self.revision);
        let whole = Run::first_of(job.count);
        self.put_job(id, |job| {
            job.canceled = Some(reason.to_owned());
            job.after = BTreeSet::new();
            job.revision = revision;
        });
        self.event(Line::new("job.canceling", &name).because(reason));
        for run in self.standing(id, whole, |place| matches!(place, Place::Waiting | Place::Ready)) {
            self.step(id, Step::of(run, What::Canceled));
        }
    }

    fn cancel_some(&mut self, id: JobId, subtasks: &Ranges) -> u64 {
        let mut count = 0;
        for run in subtasks.runs() {
            for run in self.standing(id, Some(run), |place| place == Place::Running) {
                self.step(id, Step::of(run, What::Stopping));
                count += run.len();
            }
            for run in self.standing(id, Some(run), |place| matches!(place, Place::Waiting | Place::Ready)) {
                self.step(id, Step::of(run, What::Canceled));
                count += run.len();
            }
        }
        if count > 0 && self.state.jobs.dependencies(id).is_some() {
            for run in subtasks.runs() {
                for canceled in self.standing(id, Some(run), |place| place == Place::Canceled) {
                    canceled.numbers().for_each(|subtask| self.skip_dependents(id, subtask));
                }
            }
        }
        count
    }

    /// What of `run` stands where `stands` says.
    fn standing(&self, id: JobId, run: Option<Run>, stands: impl Fn(Place) -> bool) -> Vec<Run> {
        let (Some(job), Some(run)) = (self.state.jobs.get(id), run) else { return Vec::new() };
        job.progress.places(run).filter(|(_, place)| stands(*place)).map(|(run, _)| run).collect()
    }

    pub(in super::super) fn retry_job(&mut self, retry: &RetryJob) -> Result<Reply, Refusal> {
        let job = self.job(retry.job)?;
        let (id, name) = (job.id, job.spec.name.clone());
        if job.canceled.is_some() && !job.state().is_over() {
            return Err(Refusal::Precondition(format!(
                "job {name} is being canceled; wait until that is over"
            )));
        }
        let ended =
            retry.subtasks.runs().flat_map(|run| self.standing(id, Some(run), Place::is_unfinished_end));
        let mut again: Ranges = ended.collect();
        if again.is_empty() {
            return Ok(Reply::Touched(self.revision, 0));
        }
        self.add_skipped(id, &mut again);
        let revision = self.revision;
        self.put_job(id, |job| (job.canceled, job.revision) = (None, revision));
        for run in again.runs() {
            self.step(id, Step::of(run, What::Again));
        }
        self.skip_hopeless(id, &again);
        let goes_on = |run| self.standing(id, Some(run), |place| !place.is_unfinished_end());
        let count: u64 = again.runs().flat_map(goes_on).map(Run::len).sum();
        self.event(Line::new("job.retried", &name).because(format!("{count} subtasks")));
        Ok(Reply::Touched(self.revision, count))
    }

    /// With what is tried again goes what was canceled because of it.
    fn add_skipped(&self, id: JobId, again: &mut Ranges) {
        let (Some(job), Some(dependencies)) = (self.state.jobs.get(id), self.state.jobs.dependencies(id))
        else {
            return;
        };
        let mut looked_at: Vec<u32> = again.numbers().collect();
        while let Some(subtask) = looked_at.pop() {
            for dependent in dependencies.feeds(subtask) {
                if job.progress.place(*dependent) == Some(Place::Skipped) && !again.contains(*dependent) {
                    again.insert(Run::one(*dependent));
                    looked_at.push(*dependent);
                }
            }
        }
    }

    /// What depends on something that is not tried again would wait for ever.
    fn skip_hopeless(&mut self, id: JobId, again: &Ranges) {
        if self.state.jobs.dependencies(id).is_none() {
            return;
        }
        for subtask in again.numbers() {
            let (Some(job), Some(all)) = (self.state.jobs.get(id), self.state.jobs.dependencies(id)) else {
                return;
            };
            let ended = |on: &&u32| job.progress.place(**on).is_some_and(Place::is_unfinished_end);
            let hopeless = all.needs(subtask).iter().find(ended).copied();
            if let Some(on) = hopeless.filter(|_| job.progress.place(subtask) == Some(Place::Waiting)) {
                self.step(id, Step::of(Run::one(subtask), What::Skipped(on)));
                self.skip_dependents(id, subtask);
            }
        }
    }

    pub(in super::super) fn reprioritize_job(&mut self, ask: &ReprioritizeJob) -> Result<Reply, Refusal> {
        let job = self.job(ask.job)?;
        if ask.priority > PRIORITY_MAX {
            let why = format!("priority {} is more than {PRIORITY_MAX}", ask.priority);
            return Err(Refusal::Precondition(why));
        }
        let (id, name, before) = (job.id, job.spec.name.clone(), job.priority);
        let left = job.counts().left();
        let (Some(whole), what) = (Run::first_of(job.count), What::Prioritized(ask.priority)) else {
            return Ok(Reply::Unchanged(job.revision));
        };
        let mut count = 0;
        match &ask.subtasks {
            None => {
                self.step(id, Step::of(whole, What::AllPrioritized(ask.priority)));
                count = left;
            }
            Some(subtasks) => {
                for run in subtasks.runs().filter_map(|run| run.overlap(whole)) {
                    let left = |place| matches!(place, Place::Waiting | Place::Ready | Place::Running);
                    for run in self.standing(id, Some(run), left) {
                        self.step(id, Step::of(run, what));
                        count += run.len();
                    }
                }
                if count == 0 {
                    return Ok(Reply::Touched(self.revision, 0));
                }
            }
        }
        let line = Line::new("job.reprioritized", &name).went(before, ask.priority);
        match &ask.subtasks {
            None => self.event(line),
            Some(_) => self.event(line.because(format!("{count} subtasks"))),
        }
        // Of a job that is over it has changed all the same, for what of it may be tried again.
        Ok(if count == 0 { Reply::Done(self.revision) } else { Reply::Touched(self.revision, count) })
    }

    pub(in super::super) fn delete_job(&mut self, id: JobId) -> Result<Reply, Refusal> {
        let job = self.job(id)?;
        let name = job.spec.name.clone();
        if !job.state().is_over() {
            let why = format!("job {name} is {}; cancel it first", job.state().as_str());
            return Err(Refusal::Precondition(why));
        }
        self.put(Change::JobGone(id));
        self.event(Line::new("job.deleted", &name));
        Ok(Reply::Done(self.revision))
    }
}
