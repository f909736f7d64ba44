//! What the leader knows of nodes that take subtasks: how much they take, what they were given, what their gates say.
//!
//! Ephemeral, as sessions are: a new leader begins with an empty floor, and every agent says again what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sheaf_model::session::Work;
use sheaf_model::{Attempt, AttemptEnd, Incarnation, JobId, NodeId, Verdict};
use tokio::sync::Notify;

use crate::backend::Paces;

/// So much work is to lie ready on a node beside what runs: far more than it takes to grant more.
const AHEAD: Duration = Duration::from_millis(50);
/// How many times what runs may lie ready, however short it is.
const AHEAD_MAX: u32 = 64;
/// A refusal, or no answer, is asked for again after so long: what a gate looks at may have changed.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The same of a module that has an artifact, which the node may be fetching.
const ASK_SOON: Duration = Duration::from_secs(2);
/// How much one end moves the mean.
const WEIGHT: f64 = 0.05;

/// Shared by sessions and the dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    // All holds are short, and none crosses an await.
    inner: Mutex<Inner>,
    /// Something may be granted now, or is to be sent.
    pub(crate) dispatch: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Sessions that were opened.
    opened: u64,
    nodes: BTreeMap<NodeId, Worker>,
    verdicts: BTreeMap<JobId, BTreeMap<NodeId, Answer>>,
    /// How fast backends may be sent to.
    pub(crate) paces: Paces,
}

/// A node whose agent takes subtasks, in one session.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Which session.
    session: u64,
    pub(crate) incarnation: Incarnation,
    slots: u32,
    /// What it holds, as it said when the session opened, until that is compared with what it should hold.
    pub(crate) said: Option<BTreeSet<Attempt>>,
    /// What it was told to stop.
    pub(crate) stopped: BTreeSet<Attempt>,
    /// Jobs of which it keeps something, as it said, and those that it was sent something of; none: it is not to be told when
    /// they are gone.
    kept: Option<BTreeSet<JobId>>,
    /// How long attempts took lately, in seconds.
    mean: Option<f64>,
}

#[derive(Debug)]
struct Answer {
    verdict: Option<Arc<Verdict>>,
    at: Instant,
    /// After so long a refusal is asked for again.
    again: Duration,
}

impl Floor {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node keeps something of a job from now on.
    pub(crate) fn keeps(&self, node: NodeId, job: JobId) {
        self.lock().nodes().filter(|(it, _)| *it == node).for_each(|(_, worker)| worker.keeps(job));
    }

    /// Leadership begins or is over: nothing is known.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        *inner = Inner { opened: inner.opened, ..Inner::default() };
    }
}

impl Inner {
    /// A session of a node has opened; the number it has here.
    pub(crate) fn opened(&mut self, node: NodeId, incarnation: &Incarnation, work: Option<&Work>) -> u64 {
        self.forget_verdicts(node);
        self.opened += 1;
        self.nodes.remove(&node);
        if let Some(work) = work {
            let worker = Worker {
                session: self.opened,
                incarnation: incarnation.clone(),
                slots: work.slots,
                said: Some(work.held.iter().copied().collect()),
                stopped: BTreeSet::new(),
                kept: work.kept.as_ref().map(|kept| kept.iter().copied().collect()),
                mean: None,
            };
            self.nodes.insert(node, worker);
        }
        self.opened
    }

    /// This session is over; another one may have opened since.
    pub(crate) fn closed(&mut self, node: NodeId, session: u64) {
        if self.nodes.get(&node).is_some_and(|worker| worker.session == session) {
            self.nodes.remove(&node);
        }
    }

    /// It takes no more.
    pub(crate) fn no_more(&mut self, node: NodeId, incarnation: &Incarnation) {
        if let Some(worker) = self.nodes.get_mut(&node).filter(|worker| worker.incarnation == *incarnation) {
            worker.slots = 0;
        }
    }

    /// Its config is another one: what its gates said may not hold.
    pub(crate) fn forget_verdicts(&mut self, node: NodeId) {
        self.verdicts.values_mut().for_each(|nodes| drop(nodes.remove(&node)));
    }

    /// Attempts on it have ended.
    pub(crate) fn ended<'a>(&mut self, node: NodeId, ends: impl Iterator<Item = &'a AttemptEnd>) {
        let Some(worker) = self.nodes.get_mut(&node) else { return };
        for end in ends {
            let took = end.took.duration().as_secs_f64();
            worker.mean = Some(worker.mean.map_or(took, |mean| mean + (took - mean) * WEIGHT));
        }
    }

    pub(crate) fn nodes(&mut self) -> impl Iterator<Item = (NodeId, &mut Worker)> {
        self.nodes.iter_mut().map(|(node, worker)| (*node, worker))
    }

    /// What a node said of a job; none: it is to be asked. A refusal is asked for again now and then.
    pub(crate) fn verdict(&self, job: JobId, node: NodeId) -> Option<Option<Arc<Verdict>>> {
        let answer = self.verdicts.get(&job)?.get(&node)?;
        let eligible = answer.verdict.as_ref().is_some_and(|verdict| verdict.eligible());
        (eligible || answer.at.elapsed() < answer.again).then(|| answer.verdict.clone())
    }

    /// Whether a node's gates let it run a job.
    pub(crate) fn may_run(&self, job: JobId, node: NodeId) -> bool {
        self.verdict(job, node).flatten().is_some_and(|verdict| verdict.eligible())
    }

    /// A node is being asked, which is done again when no answer comes.
    pub(crate) fn asked(&mut self, job: JobId, node: NodeId) {
        let answer = Answer { verdict: None, at: Instant::now(), again: ASK_AGAIN };
        self.verdicts.entry(job).or_default().insert(node, answer);
    }

    /// What a node answered; `fetches`: what it lacks may be on its way to it.
    pub(crate) fn answered(&mut self, job: JobId, node: NodeId, verdict: Arc<Verdict>, fetches: bool) {
        let again = if fetches { ASK_SOON } else { ASK_AGAIN };
        let answer = Answer { verdict: Some(verdict), at: Instant::now(), again };
        self.verdicts.entry(job).or_default().insert(node, answer);
    }

    /// Forgets jobs that are not there any more.
    pub(crate) fn keep_jobs(&mut self, is_there: impl Fn(JobId) -> bool) {
        self.verdicts.retain(|job, _| is_there(*job));
    }
}

impl Worker {
    /// It is sent something of a job.
    pub(crate) fn keeps(&mut self, job: JobId) {
        if let Some(kept) = &mut self.kept {
            kept.insert(job);
        }
    }

    /// Jobs of which it keeps something and that are not there.
    pub(crate) fn keeps_of(&self, is_there: impl Fn(JobId) -> bool) -> Vec<JobId> {
        self.kept.iter().flatten().copied().filter(|job| !is_there(*job)).collect()
    }

    /// It was told that these are gone.
    pub(crate) fn was_told_of(&mut self, gone: &[JobId]) {
        if let Some(kept) = &mut self.kept {
            kept.retain(|job| !gone.contains(job));
        }
    }

    /// How many subtasks it may be granted in all: what it runs at a time, and what is to lie ready.
    pub(crate) fn takes(&self) -> u32 {
        let ahead = self.mean.map_or(0.0, |mean| AHEAD.as_secs_f64() / mean.max(0.000_1));
        let ahead = ahead.clamp(0.0, f64::from(AHEAD_MAX)) * f64::from(self.slots);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is small and positive"
        )]
        self.slots.saturating_add(ahead as u32)
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Ending, Span, Timestamp};

    use super::*;

    fn end(took: u64) -> AttemptEnd {
        AttemptEnd {
            subtask: 0,
            attempt: 1,
            started_at: Timestamp(0),
            took: Span::millis(took),
            ending: Ending::Finished,
        }
    }

    #[test]
    fn what_lies_ready_depends_on_how_long_attempts_take() {
        let mut floor = Inner::default();
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        let takes = |floor: &mut Inner| floor.nodes().next().map(|(_, worker)| worker.takes());
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        assert_eq!(takes(&mut floor), Some(4), "nothing is known of what it runs");
        floor.ended(node, [end(60_000)].iter());
        assert_eq!(takes(&mut floor), Some(4), "who waits for an hour waits better elsewhere");
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        floor.ended(node, [end(0), end(0)].iter());
        assert_eq!(takes(&mut floor), Some(4 + 4 * AHEAD_MAX));
        floor.no_more(node, &"another".into());
        assert_eq!(takes(&mut floor), Some(4 + 4 * AHEAD_MAX));
        floor.no_more(node, &life);
        assert_eq!(takes(&mut floor), Some(0));
        floor.closed(node, 1);
        assert_eq!(takes(&mut floor), Some(0), "the end of a former session");
        floor.closed(node, 2);
        assert_eq!(takes(&mut floor), None);
    }
    #[test]
    fn who_does_not_say_what_it_keeps_is_not_told_of_jobs_that_are_gone() {
        let mut floor = Inner::default();
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        let none = |_: JobId| false;
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        let (_, worker) = floor.nodes().next().unwrap();
        worker.keeps(JobId(7));
        assert!(worker.keeps_of(none).is_empty());
        let kept = Some(vec![JobId(5), JobId(6)]);
        floor.opened(node, &life, Some(&Work { slots: 4, kept, ..Work::default() }));
        let (_, worker) = floor.nodes().next().unwrap();
        worker.keeps(JobId(7));
        let gone = worker.keeps_of(|job| job == JobId(6));
        assert_eq!(gone, [JobId(5), JobId(7)]);
        worker.was_told_of(&gone);
        assert_eq!(worker.keeps_of(none), [JobId(6)]);
    }
}
