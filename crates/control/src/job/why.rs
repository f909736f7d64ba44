//! What keeps a job, or a subtask of it, from running, or from running faster.

use std::cmp::Reverse;

use sheaf_engine::job::progress::Place;
use sheaf_engine::{Job, State, dispatch};
use sheaf_model::{NodeId, NodeStatus, Run};

use crate::Control;

/// So many of the jobs that go before another one are named.
const NAMED: usize = 3;

impl Control {
    /// What keeps a job, or one of its subtasks that is ready, from running.
    pub(super) fn why(&self, state: &State, job: &Job, subtask: Option<u32>) -> Vec<String> {
        let counts = job.counts();
        let mut why = Vec::new();
        if let Some(reason) = &job.canceled {
            let reason = if reason.is_empty() { "by an operator" } else { reason };
            why.push(format!("it is canceled: {reason}"));
        }
        if counts.left() == 0 {
            return why;
        }
        if job.paused {
            why.push("it is paused; sheaf job resume lets it go on".to_owned());
        }
        for other in job.after.iter().filter_map(|id| state.jobs.get(*id)) {
            why.push(format!("it waits for job {}, which is {}", other.spec.name, other.state().as_str()));
        }
        if job.room() == Some(0) {
            why.push(format!("max_running: {} of its subtasks run", counts.running));
        }
        if counts.ready > 0 && !job.paused && job.after.is_empty() && job.room() != Some(0) {
            why.extend(self.why_ready(state, job, subtask));
        }
        if let Some(at) = job.progress.next_due() {
            why.push(format!("subtasks that failed are tried again from {at} on"));
        }
        why
    }

    fn why_ready(&self, state: &State, job: &Job, subtask: Option<u32>) -> Vec<String> {
        let (mut floor, now) = (self.floor.lock(), self.clock.wall());
        let full = floor.paces.why_not(job, state, now);
        if !full.is_empty() {
            return full;
        }
        let ready = state.nodes.values().filter(|node| node.status == NodeStatus::Ready);
        let ready = ready.map(|node| node.id);
        let nodes: Vec<NodeId> = ready.filter(|node| floor.may_run(job.id, *node)).collect();
        if nodes.is_empty() {
            let why = "no ready node may run it, as far as they have answered; see the gates of each";
            return vec![why.to_owned()];
        }
        let Some(priority) = turn(job, subtask) else { return Vec::new() };
        let ahead = dispatch::before(state, (Reverse(priority), job.created, job.id));
        // What cannot run there is in nobody's way.
        let mut ahead = ahead.filter(|(_, other)| {
            nodes.iter().any(|node| floor.may_run(other.id, *node))
                && floor.paces.why_not(other, state, now).is_empty()
        });
        let first: Vec<String> = (ahead.by_ref().take(NAMED))
            .map(|(priority, other)| format!("{} (priority {priority})", other.spec.name))
            .collect();
        let mut why: Vec<String> = waits_for(&first, ahead.next().is_some(), priority).into_iter().collect();
        let own = subtask.map_or(0, |subtask| own_before(job, subtask, priority));
        if own > 0 {
            why.push(format!("{own} subtasks of its own job go before it"));
        }
        if why.is_empty() {
            why.push(format!("{} nodes run it as fast as they have slots ([jobs] slots)", nodes.len()));
        }
        why
    }

    pub(super) fn why_subtask(&self, state: &State, job: &Job, subtask: u32, place: Place) -> Vec<String> {
        let mut why = Vec::new();
        match place {
            Place::Waiting => {
                if let Some(at) = job.progress.delayed(subtask) {
                    why.push(format!("its last attempt failed; it is tried again at {at}"));
                }
                let needs = state.jobs.dependencies(job.id).map_or(&[][..], |all| all.needs(subtask));
                let open = needs.iter().filter(|on| job.progress.place(**on) != Some(Place::Finished));
                let open: Vec<String> = open.take(10).map(u32::to_string).collect();
                if !open.is_empty() {
                    why.push(format!("it depends on subtask {}", open.join(", ")));
                }
            }
            Place::Ready => why.extend(self.why(state, job, Some(subtask))),
            Place::Running => why.extend(job.progress.running().get(&subtask).map(|running| {
                format!("attempt {} runs on node {}", running.attempt, state.node_name(running.node))
            })),
            Place::Skipped => why.push("something that it depends on did not finish".to_owned()),
            Place::Finished | Place::Failed | Place::Canceled => {}
        }
        why
    }
}

/// The priority under which a subtask stands in the queue, or the first of a job; none: nothing of it is ready.
fn turn(job: &Job, subtask: Option<u32>) -> Option<u8> {
    match subtask {
        Some(subtask) => Some(job.priority_of(subtask)),
        None => job.progress.ready().keys().next_back().copied(),
    }
}

/// How many of its own job's subtasks go before one of this priority.
fn own_before(job: &Job, subtask: u32, priority: u8) -> u64 {
    let ready = job.progress.ready();
    let more_urgent: u64 = ready.iter().filter(|(it, _)| **it > priority).map(|(_, all)| all.len()).sum();
    let before = subtask.checked_sub(1).map(|last| Run::new(0, last)).zip(ready.get(&priority));
    more_urgent + before.map_or(0, |(run, all)| all.within(run).map(Run::len).sum())
}

/// That others go first, of which these are the first.
fn waits_for(first: &[String], more: bool, priority: u8) -> Option<String> {
    let order = format!(
        "its own priority is {priority}, and of equal ones the job that was submitted first goes first"
    );
    match first {
        [] => None,
        [one] if !more => Some(format!("job {one} goes before it; {order}")),
        several => {
            let others = if more { " and others" } else { "" };
            Some(format!("jobs {}{others} go before it; {order}", several.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_first_is_named_and_why() {
        let jobs = ["a (priority 90)", "b (priority 50)"].map(str::to_owned);
        let order = "its own priority is 50, and of equal ones the job that was submitted first goes first";
        assert_eq!(waits_for(&[], false, 50), None);
        assert_eq!(
            waits_for(&jobs[1..], false, 50).as_deref(),
            Some(format!("job b (priority 50) goes before it; {order}").as_str())
        );
        assert_eq!(
            waits_for(&jobs, true, 50).as_deref(),
            Some(format!("jobs a (priority 90), b (priority 50) and others go before it; {order}").as_str())
        );
    }
}
