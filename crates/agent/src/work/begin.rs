//! Starting what waits: programs, and workers, which are given some at a time.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use sheaf_model::session::OrderedSubtask;
use sheaf_model::{Exit, Facts, Failure, FailureClass};
use tokio::time::Instant;

use super::confide::Confidant;
use super::line::{Line, Other};
use super::stock::Equipped;
use super::{Job, Loop, Running, Waiting, failed, id, never, now, start};
use crate::keeper::clock;
use crate::runner::ToRunner;
use crate::runner::host::Runner;

/// Bytes of items that are handed to a worker at once, beyond the last one's.
const BUNDLE_BYTES: usize = 1 << 20;
/// Before another runner is started in place of one that could not be.
const RUNNER_AGAIN: Duration = Duration::from_secs(1);

impl Loop {
    /// Starts what waits, as long as there is room.
    pub(super) async fn start_some(&mut self) {
        while let Some(place) = self.next_place() {
            let job = self.waiting[place].job.clone();
            let goes_on = match job.module.runtime.is_worker() {
                true => self.feed_worker(place, &job).await,
                false => self.start_program(place, &job).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Which of those that wait can be started now, and is next.
    fn next_place(&self) -> Option<usize> {
        if self.free() == 0 {
            return None;
        }
        let (now, slots) = (Instant::now(), self.desk.slots as usize);
        let may_start = self.workers.may_start(slots);
        let can_start = |job: &Job| {
            self.stock.of(job) != Equipped::Waits
                && (!job.module.runtime.is_worker() || self.workers.has_room(job.id, may_start, now))
        };
        foremost(self.waiting.iter().map(|Waiting { job, .. }| can_start(job).then_some(job.priority)))
    }

    /// Slots that nothing runs in.
    pub(super) fn free(&self) -> usize {
        (self.desk.slots as usize).saturating_sub(self.running.len() + self.workers.busy())
    }

    /// The first of those that wait in a place.
    fn pop(&mut self, place: usize) -> Option<OrderedSubtask> {
        let waiting = self.waiting.get_mut(place)?;
        let first = waiting.subtasks.pop_front();
        if waiting.subtasks.is_empty() {
            self.waiting.remove(place);
        }
        first
    }

    /// Starts a program for one of them. False: nothing can be started just now.
    async fn start_program(&mut self, place: usize, job: &Arc<Job>) -> bool {
        if !self.has_runner().await {
            return false;
        }
        let Some(subtask) = self.pop(place) else { return true };
        let attempt = id(job, &subtask);
        self.tickets += 1;
        let artifact = self.stock.of(job).path();
        let workplace = self.workplaces.take();
        let start = {
            let facts = self.facts.borrow();
            start::start(&self.place, &facts, job, artifact, &subtask, self.tickets, workplace)
        };
        let start = match start {
            Ok(start) => start,
            Err(why) => {
                self.workplaces.give_back(workplace);
                self.end(attempt, never(failed(FailureClass::Exit, why)));
                return true;
            }
        };
        let running = Running {
            attempt,
            started_at: clock::wall(),
            since: Instant::now(),
            canceled: false,
            grace: job.module.stop.grace.duration(),
            artifact: job.artifact.as_ref().map(|artifact| artifact.digest),
            workplace,
        };
        self.running.insert(start.ticket, running);
        self.tell_runner(ToRunner::Start(Box::new(start))).await;
        true
    }

    /// Gives some of them to their job's worker, or starts one. False: nothing can be started just now.
    async fn feed_worker(&mut self, place: usize, job: &Arc<Job>) -> bool {
        let Some(size) = self.workers.bundle_size(job.id) else { return self.start_worker(job).await };
        let waits = self.waiting.get(place).map_or(0, |waiting| waiting.subtasks.len());
        // What few others could do meanwhile is shared with them.
        let size = size.min(waits.div_ceil(self.free().max(1)));
        let mut bundle = Vec::with_capacity(size);
        let mut bytes = 0;
        while bundle.len() < size
            && bytes < BUNDLE_BYTES
            && self.waiting.get(place).is_some_and(|waiting| waiting.job.id == job.id)
            && let Some(subtask) = self.pop(place)
        {
            bytes += subtask.item.as_str().len() + job.config_of(subtask.backend.as_ref()).len();
            bundle.push(subtask);
        }
        let follows = self.workers.give(job, bundle, now());
        self.perform(follows).await;
        true
    }

    async fn start_worker(&mut self, job: &Arc<Job>) -> bool {
        if !self.has_runner().await {
            return false;
        }
        if self.workers.processes() >= self.desk.slots as usize
            && let Some(dismissed) = self.workers.dismiss_one()
        {
            self.perform(vec![dismissed]).await;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let socket = self.place.socket(ticket);
        let facts = self.facts.borrow().clone();
        let artifact = self.stock.of(job).path();
        let start = self.place.make_room_for(&socket).and_then(|()| {
            let confidant = Confidant::of(job, &self.place, &facts, &socket)?;
            let start = start::worker(&self.place, &facts, job, artifact, &socket, ticket)?;
            Ok((start, confidant))
        });
        match start {
            Ok((start, confidant)) => {
                let other = Other { ticket, socket, job: known(job, &facts, self.desk.slots) };
                let line = Line::open(other, self.place.clone(), confidant, self.tell.clone());
                self.workers.started(job.clone(), ticket, line);
                self.tell_runner(ToRunner::Start(Box::new(start))).await;
            }
            Err(message) => {
                let failure = Failure { class: FailureClass::Exit, exit: Some(Exit::NotStarted), message };
                self.fail_waiting(job.id, &failure);
            }
        }
        true
    }

    /// Whether there is a runner, which is started where there is none.
    async fn has_runner(&mut self) -> bool {
        if self.runner.is_some() {
            return true;
        }
        match Runner::start(&self.place.binary, &self.place.data_dir) {
            Ok(runner) => {
                self.runner = Some(runner);
                true
            }
            Err(error) => {
                tracing::error!(%error, "no runner could be started; subtasks wait");
                tokio::time::sleep(RUNNER_AGAIN).await;
                false
            }
        }
    }

    pub(super) async fn tell_runner(&self, message: ToRunner) {
        if let Some(runner) = &self.runner {
            runner.say(message).await;
        }
    }
}

/// Where the first of the highest is.
fn foremost(priorities: impl Iterator<Item = Option<u8>>) -> Option<usize> {
    let there = priorities.enumerate().filter_map(|(place, priority)| Some((Reverse(priority?), place)));
    there.min().map(|(_, place)| place)
}

/// A job as its worker knows it.
fn known(job: &Job, facts: &Facts, slots: u32) -> sheaf_module::Job {
    let node = sheaf_module::Node {
        name: facts.name.to_string(),
        hostname: facts.hostname.clone(),
        labels: facts.labels.clone(),
    };
    sheaf_module::Job::new(job.spec.name.as_str(), job.spec.module.to_string(), node, slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_urgent_begins_first_and_of_its_like_what_came_first() {
        let next = |all: &[Option<u8>]| foremost(all.iter().copied());
        assert_eq!(next(&[]), None);
        assert_eq!(next(&[None, None]), None);
        assert_eq!(next(&[Some(50), Some(90), None, Some(90), Some(7)]), Some(1));
        assert_eq!(next(&[None, Some(0), Some(0)]), Some(1));
    }
}
