//! How attempts end: as their nodes say, or with their nodes.

use sheaf_model::{
    Attempt, AttemptEnd, Ending, Failure, FailureClass, Fingerprint, JobId, NodeId, Run, Span, Timestamp,
};

use super::super::Transaction;
use crate::change::Change;
use crate::command::{RecordResults, Refusal, Reply};
use crate::job::Job;
use crate::job::progress::{Place, Running};
use crate::job::step::{Detail, MESSAGE_MAX, Ran, Step, What};

impl Transaction<'_> {
    /// Each is compared with the attempt that runs; one that is not that is answered as stale, and noted.
    pub(in super::super) fn record_results(&mut self, record: &RecordResults) -> Result<Reply, Refusal> {
        self.node(record.node)?;
        let mut stale = Vec::new();
        for (job, ends) in &record.results {
            for end in ends {
                if !self.end_attempt(*job, record.node, end) {
                    stale.push(Attempt { job: *job, subtask: end.subtask, number: end.attempt });
                }
            }
        }
        Ok(Reply::Recorded(stale))
    }

    fn end_attempt(&mut self, id: JobId, node: NodeId, end: &AttemptEnd) -> bool {
        let Some(job) = self.state.jobs.get(id) else { return false };
        let runs = job.progress.running().get(&end.subtask);
        let Some(running) = runs.filter(|it| it.node == node && it.attempt == end.attempt).copied() else {
            self.note_stale(id, end);
            return false;
        };
        let unwanted = job.canceled.is_some() || running.stopping;
        let backend = running.backend.and_then(|place| job.spec.backends.get(usize::from(place))).cloned();
        let what = match &end.ending {
            Ending::Finished => What::Finished,
            Ending::Canceled | Ending::HandedBack | Ending::NotNow(..) if unwanted => What::Canceled,
            Ending::Canceled | Ending::HandedBack | Ending::NotNow(..) => What::HandedBack,
            Ending::Failed(failure) => self.after_failure(job, end.subtask, &running, failure.class),
        };
        self.end(id, end.subtask, end.attempt, what);
        match (&end.ending, backend) {
            (Ending::Finished, Some(name)) => self.backend_did(&name),
            (Ending::Failed(failure), Some(name)) => match failure.class {
                FailureClass::Backend => self.backend_failed(&name, &failure.message),
                // It answers.
                FailureClass::Refused => self.backend_did(&name),
                _ => {}
            },
            (Ending::NotNow(pause, why), Some(name)) => self.backend_pauses(&name, *pause, why),
            _ => {}
        }
        self.note_ran(id, Ran { started_at: end.started_at, took: end.took });
        if let Ending::Failed(failure) = &end.ending {
            self.note_detail(id, detail(end.subtask, failure));
        }
        true
    }

    fn note_stale(&mut self, id: JobId, end: &AttemptEnd) {
        self.step(id, Step { what: What::Stale, run: Run::one(end.subtask), attempt: end.attempt });
        let (exit, message) = match &end.ending {
            Ending::Finished => (None, "finished".to_owned()),
            Ending::Canceled => (None, "canceled".to_owned()),
            Ending::HandedBack | Ending::NotNow(..) => (None, "handed back".to_owned()),
            Ending::Failed(failure) => (failure.exit, clipped(&failure.message)),
        };
        let fingerprint = Fingerprint::default();
        self.note_detail(id, Detail { subtask: end.subtask, exit, fingerprint, message });
    }

    /// What becomes of a subtask whose attempt failed.
    fn after_failure(&self, job: &Job, subtask: u32, running: &Running, class: FailureClass) -> What {
        let retry = &job.spec.retry;
        let counted = running.counted.saturating_add(1);
        if job.canceled.is_some() || running.stopping {
            What::Canceled
        } else if counted < retry.max_attempts
            && class != FailureClass::Refused
            && retry.retry_on.contains(&class)
        {
            let seed = mixed(mixed(self.revision.0, job.id.0), subtask.into());
            let wait = backoff((retry.backoff_min, retry.backoff_max), counted, seed);
            What::Retried(class, Timestamp(self.proposal.at.0.saturating_add(wait.0)))
        } else {
            What::Failed(class)
        }
    }

    fn end(&mut self, id: JobId, subtask: u32, attempt: u32, what: What) {
        self.step(id, Step { what, run: Run::one(subtask), attempt });
        if matches!(what, What::Failed(_) | What::Canceled) {
            self.skip_dependents(id, subtask);
        }
    }

    /// What depends on a subtask that will not finish is canceled, and what depends on that.
    pub(super) fn skip_dependents(&mut self, id: JobId, subtask: u32) {
        if self.state.jobs.dependencies(id).is_none() {
            return;
        }
        let mut unfinished = vec![subtask];
        while let Some(on) = unfinished.pop() {
            let feeds =
                self.state.jobs.dependencies(id).map(|all| all.feeds(on).to_vec()).unwrap_or_default();
            for dependent in feeds {
                let place = self.state.jobs.get(id).and_then(|job| job.progress.place(dependent));
                if place == Some(Place::Waiting) {
                    self.step(id, Step::of(Run::one(dependent), What::Skipped(on)));
                    unfinished.push(dependent);
                }
            }
        }
    }

    /// Every attempt on a node is lost with it. How many there were.
    pub(in super::super) fn lose_attempts(&mut self, node: NodeId) -> u64 {
        let lost: Vec<(JobId, u32)> = self.state.jobs.running_on(node).collect();
        for (id, subtask) in &lost {
            let Some(job) = self.state.jobs.get(*id) else { continue };
            let Some(running) = job.progress.running().get(subtask).copied() else { continue };
            let what = self.after_failure(job, *subtask, &running, FailureClass::Lost);
            self.end(*id, *subtask, running.attempt, what);
        }
        if self.state.jobs.runner(node).is_some() {
            self.put(Change::RunnerGone(node));
        }
        lost.len() as u64
    }
}

fn detail(subtask: u32, failure: &Failure) -> Detail {
    let fingerprint = Fingerprint::of(&failure.message);
    Detail { subtask, exit: failure.exit, fingerprint, message: clipped(&failure.message) }
}

fn clipped(message: &str) -> String {
    let mut begin = message.len().saturating_sub(MESSAGE_MAX);
    while !message.is_char_boundary(begin) {
        begin += 1;
    }
    message[begin..].to_owned()
}

/// The wait after so many attempts: doubled with each, at most `max`, and up to a tenth longer, so that what failed together
/// does not come back together.
fn backoff((min, max): (Span, Span), attempts: u32, seed: u64) -> Span {
    let doubled = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
    let wait = min.0.saturating_mul(doubled).min(max.0);
    Span(wait.saturating_add(seed % (wait / 10 + 1)))
}

/// Mixes two numbers into one that looks like chance (splitmix64's finalizer; Steele and others, 2014).
fn mixed(seed: u64, with: u64) -> u64 {
    let mut z =
        seed.wrapping_add(with.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// J11
    #[test]
    fn j11_the_wait_doubles_up_to_its_limit_with_a_little_chance() {
        let waits: Vec<u64> = (1..6).map(|n| backoff((Span::seconds(1), Span::seconds(5)), n, 0).0).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
        let far = backoff((Span::seconds(1), Span::seconds(60)), u32::MAX, u64::MAX);
        assert!((60_000..=66_000).contains(&far.0));
        let spread: std::collections::BTreeSet<u64> =
            (0..100).map(|n| backoff((Span::seconds(1), Span::seconds(5)), 1, mixed(7, n)).0).collect();
        assert!(spread.len() > 30 && spread.iter().all(|wait| (1_000..=1_100).contains(wait)));
        assert_eq!(backoff((Span(0), Span(0)), 3, 9), Span(0));
    }

    #[test]
    fn the_end_of_a_long_message_is_kept() {
        let long = format!("{}end", "ä".repeat(MESSAGE_MAX));
        let kept = clipped(&long);
        assert!(kept.len() <= MESSAGE_MAX && kept.ends_with("äend"));
    }
}
