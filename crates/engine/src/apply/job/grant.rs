//! Granting attempts to nodes. What does not hold any more when it is applied is left out.

use sheaf_model::{JobId, NodeStatus, Run};

use super::super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Grant, GrantAll, Refusal, Reply, TakeUp, WakeSubtasks};
use crate::job::step::{Step, What};

/// Subtasks that one command wakes at most, so that no command is slow.
const WOKEN_AT_ONCE: usize = 10_000;

impl Transaction<'_> {
    pub(in super::super) fn grant(&mut self, all: &GrantAll) -> Result<Reply, Refusal> {
        self.in_term(all.term)?;
        let mut granted = 0;
        for grant in &all.grants {
            let waits = self.state.jobs.get(grant.job).is_some_and(|job| job.started_at.is_none());
            let here = self.grant_one(grant).unwrap_or_default();
            granted += here;
            if waits && here > 0 {
                self.job_started(grant);
            }
        }
        if granted == 0 && !all.grants.is_empty() {
            return Err(Refusal::Stale("none of it is ready, or none of the nodes is".to_owned()));
        }
        Ok(Reply::Touched(self.revision, granted))
    }

    fn job_started(&mut self, grant: &Grant) {
        let Some(name) = self.state.jobs.get(grant.job).map(|job| job.spec.name.clone()) else { return };
        let first = "its first attempt is granted";
        self.event(Line::new("job.started", &name).node(grant.node).went("", "running").because(first));
    }

    /// How many subtasks it was; none: the node or the job takes or gives nothing.
    fn grant_one(&mut self, grant: &Grant) -> Option<u64> {
        let node = self.state.nodes.get(&grant.node)?;
        let same_life = self.state.jobs.runner(grant.node) == Some(&grant.incarnation);
        let job = self.state.jobs.get(grant.job)?;
        if node.status != NodeStatus::Ready || !same_life || !job.is_open() {
            return None;
        }
        let backend = match &grant.backend {
            None if job.spec.backends.is_empty() => None,
            None => return None,
            Some(name) => {
                let place = job.spec.backends.iter().position(|known| known == name)?;
                Some(u8::try_from(place).ok()?)
            }
        };
        let mut granted = 0;
        for (run, attempt) in &grant.subtasks {
            let ready: Vec<Run> = self
                .state
                .jobs
                .get(grant.job)?
                .progress
                .grantable(*run)
                .filter_map(|(run, next)| (next == *attempt).then_some(run))
                .collect();
            for run in ready {
                let room = self.state.jobs.get(grant.job)?.room().unwrap_or(u32::MAX);
                let Some(fits) = Run::first_of(room) else { return Some(granted) };
                let last = run.last.min(run.first.saturating_add(fits.last));
                let run = Run { first: run.first, last };
                let what = What::Granted(grant.node, backend);
                self.step(grant.job, Step { what, run, attempt: *attempt });
                granted += run.len();
            }
        }
        Some(granted)
    }

    /// What was granted to a former life is lost: it ended with that.
    pub(in super::super) fn take_up(&mut self, take: &TakeUp) -> Result<Reply, Refusal> {
        let node = self.node(take.node)?;
        if !node.status.is_alive() {
            return Err(Refusal::Stale(format!("node {} is {}", node.facts.name, node.status.as_str())));
        }
        if self.state.jobs.runner(take.node) == Some(&take.incarnation) {
            return Ok(Reply::Unchanged(self.revision));
        }
        let name = node.facts.name.clone();
        let lost = self.lose_attempts(take.node);
        self.put(Change::Runner(take.node, take.incarnation.clone()));
        if lost > 0 {
            let why = format!("its agent began anew; {lost} attempts ended with the former one");
            self.event(Line::new("node.attempts_lost", name).node(take.node).because(why));
        }
        Ok(Reply::Done(self.revision))
    }

    pub(in super::super) fn wake_subtasks(&mut self, wake: &WakeSubtasks) -> Result<Reply, Refusal> {
        self.in_term(wake.term)?;
        let mut due: Vec<(JobId, u32)> = Vec::new();
        for (at, id) in self.state.jobs.due() {
            let (Some(job), Some(room)) = (self.state.jobs.get(id), WOKEN_AT_ONCE.checked_sub(due.len()))
            else {
                break;
            };
            if at > wake.until {
                break;
            }
            due.extend(job.progress.due(wake.until).take(room).map(|subtask| (id, subtask)));
        }
        if due.is_empty() {
            return Err(Refusal::Stale("nothing is due".to_owned()));
        }
        let count = due.len() as u64;
        due.sort_unstable();
        for (id, subtask) in due {
            self.step(id, Step::of(Run::one(subtask), What::Woken));
        }
        Ok(Reply::Touched(self.revision, count))
    }
}
