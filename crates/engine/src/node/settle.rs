//! Looking at one bucket, and doing the first step of what differs. And what follows when it is done.

use std::sync::Arc;

use sheaf_model::session::ToLeader;
use sheaf_model::{BucketName, Call, Moment, Phase, Span};

use super::known::KnownBucket;
use super::{Action, Done, NodeState, Place, SAY_AGAIN, Seen, Start};
use crate::reconcile::{Desired, Ended, Life, Mode, Observed, Origin, Run, Step, Steps, diff};

/// The first wait after a start that failed; each further one doubles.
const RETRY_MIN: Span = Span::seconds(1);
/// The longest wait.
const RETRY_MAX: Span = Span::seconds(60);
/// Starts that failed in a row, until the node gives up.
const RETRIES: u32 = 5;

impl NodeState {
    /// Looks at everything that concerns a bucket, and does what is to be done first.
    pub(super) fn settle(&mut self, bucket: &BucketName, now: Moment, out: &mut Vec<Action>) {
        let mut place = self.places.get_mut(bucket).map(std::mem::take).unwrap_or_default();
        let known = self.known.buckets.get(bucket).cloned();
        self.judge(bucket, known.as_deref(), &mut place);
        let Some(desired) = self.desired(bucket, known.as_deref(), &mut place, now) else {
            self.report_instance(bucket, &place, None, now);
            return self.put_back(bucket, place);
        };
        let steps = diff(&desired, place.seen.as_deref().map(|seen| &seen.observed));
        self.report_instance(bucket, &place, Some((&desired, &steps)), now);
        if place.busy.is_none()
            && place.retry_at.is_none_or(|at| at <= now)
            && let Some(step) = steps.0.first()
            && self.may(bucket, *step)
            && let Some(action) = self.action(bucket, *step, place.is_left_for_good(), now)
        {
            place.busy = Some(*step);
            out.extend([Action::Note(bucket.clone(), steps.to_string()), action]);
        }
        let idle = steps.0.is_empty() && place.busy.is_none();
        self.purge(bucket, &mut place, idle, now, out);
        if place.is_of_use() || known.is_some() {
            self.put_back(bucket, place);
        } else {
            self.places.remove(bucket);
        }
    }

    /// There are many places and they are large: what is there already is not moved.
    fn put_back(&mut self, bucket: &BucketName, place: Place) {
        match self.places.get_mut(bucket) {
            Some(there) => *there = place,
            None => drop(self.places.insert(bucket.clone(), place)),
        }
    }

    fn judge(&mut self, bucket: &BucketName, known: Option<&KnownBucket>, place: &mut Place) {
        let verdict = known.map(|known| self.verdict(known, place));
        match verdict {
            Some(Some(verdict)) => {
                if place.verdict.as_deref() != Some(&verdict) {
                    let verdict = Arc::new(verdict);
                    self.reports.verdict(&verdict);
                    place.verdict = Some(verdict);
                }
            }
            Some(None) => place.verdict = None,
            None => {
                place.verdict = None;
                self.reports.verdict_gone(bucket);
            }
        }
    }

    /// A directory goes only after the leader has recorded that its instance is gone: afterwards nobody could say it. There
    /// is none to whom a node that was forgotten could.
    fn may(&self, bucket: &BucketName, step: Step) -> bool {
        step != Step::Remove || self.left || self.reports.is_recorded(bucket)
    }

    fn action(&mut self, bucket: &BucketName, step: Step, for_good: bool, now: Moment) -> Option<Action> {
        let name = bucket.clone();
        Some(match step {
            Step::Stop(why) => Action::Stop(name, why, self.farewell(bucket, for_good)),
            Step::Update(mode, origin) => Action::Update(Box::new(self.start(bucket, mode, origin, now)?)),
            Step::BecomeMulti(state, epoch) => Action::BecomeMulti(name, state, epoch),
            Step::GiveUp(epoch) => Action::GiveUp(name, epoch),
            Step::Confirm(revision) => Action::Confirm(name, revision),
            Step::Remove => {
                // A node that has left does not know whether the bucket is.
                let is_gone = !self.left && !self.known.buckets.contains_key(bucket);
                Action::Remove(name, if is_gone { Call::Delete } else { Call::Decommission })
            }
            Step::Start(mode, origin) => Action::Start(Box::new(self.start(bucket, mode, origin, now)?)),
        })
    }

    /// What the program is told before it stops; none: only that it does, for it may be started here again.
    fn farewell(&self, bucket: &BucketName, for_good: bool) -> Option<Call> {
        match self.known.buckets.get(bucket) {
            _ if self.left => Some(Call::Decommission),
            None => Some(Call::Delete),
            Some(known) if known.watched.suspended => Some(Call::Suspend),
            Some(_) => for_good.then_some(Call::Decommission),
        }
    }

    fn start(&mut self, bucket: &BucketName, mode: Mode, origin: Origin, now: Moment) -> Option<Start> {
        let known = self.known.buckets.get(bucket)?;
        let module = self.known.module(&known.watched.spec.module)?;
        self.questions.started(&module.key(&known.watched), &module.spec.can_run_on_this_node);
        Some(Start {
            bucket: known.watched.spec.clone(),
            module: module.spec.clone(),
            mode,
            origin,
            until: mode.epoch().and_then(|epoch| self.leases.valid(bucket, epoch, now)),
            here: self.here.clone(),
            trial: known.watched.trial,
            artifact: self
                .holdings
                .path(&self.known, &known.watched.spec.module, module.uses_artifact)
                .ok()?,
        })
    }

    fn report_instance(
        &mut self,
        bucket: &BucketName,
        place: &Place,
        plan: Option<(&Desired, &Steps)>,
        now: Moment,
    ) {
        let Some(seen) = place.seen.as_deref() else {
            self.reports.forget(bucket);
            return;
        };
        let first = plan.and_then(|(_, steps)| steps.0.first().copied());
        let wanted = plan.is_some_and(|(desired, _)| matches!(desired.run, Run::Want(..)));
        let phase = match seen.observed.life {
            _ if first == Some(Step::Remove) => Phase::Stopped,
            Life::Dead(Ended::Finished) if seen.phase == Phase::Failed => Phase::Failed,
            Life::Dead(Ended::Stopped | Ended::Lost) if wanted && seen.phase == Phase::Backoff => {
                Phase::Backoff
            }
            Life::Dead(Ended::Stopped | Ended::Lost) if wanted => Phase::Pending,
            Life::Dead(_) => Phase::Stopped,
            Life::Stopping => Phase::Stopping,
            Life::Alive => seen.phase,
        };
        // An instance that a newer release leaves alone runs that release.
        let revision = match plan.map(|(desired, _)| desired.run) {
            Some(Run::Want(_, wanted)) if !seen.observed.origin.outdated(wanted) => wanted.basis,
            _ => seen.observed.origin.basis,
        };
        self.reports.instance(bucket, self.identity.node, phase, revision, seen, now);
    }

    /// An action has ended.
    pub(super) fn done(&mut self, bucket: BucketName, done: Done, now: Moment, out: &mut Vec<Action>) {
        let place = self.places.entry(bucket.clone()).or_default();
        let step = place.busy.take();
        if let Some(Step::Start(_, origin) | Step::Update(_, origin)) = step {
            self.retire |= origin.artifact.is_some();
        }
        if !matches!(done, Done::Failed { .. }) {
            place.failures = 0;
            place.retry_at = None;
        }
        let started = matches!(done, Done::Started(_));
        let mut say = None;
        match done {
            Done::Started(seen) | Done::Updated(seen) | Done::BecameMulti(seen) => {
                place.seen = Some(seen);
            }
            Done::Told => {
                if let Some(seen) = place.seen.as_mut().filter(|seen| seen.observed.life == Life::Alive) {
                    seen.observed.life = Life::Stopping;
                }
            }
            Done::GaveUp(epoch) => {
                place.fence.gave_up = place.fence.gave_up.max(epoch);
                say = Some(ToLeader::GaveUp { bucket: bucket.clone(), epoch });
            }
            Done::Confirmed(revision) => {
                place.fence.gave_up_multi = place.fence.gave_up_multi.max(revision);
                say = Some(ToLeader::NothingLeft { bucket: bucket.clone(), revision });
            }
            Done::Removed => {
                let former = place.seen.take();
                self.retire |= former.is_some_and(|seen| seen.observed.origin.artifact.is_some());
            }
            Done::Failed { reason, again } => self.failed(&bucket, step, reason, again, now),
        }
        self.say_again.get_or_insert(now.after(SAY_AGAIN));
        if self.reports.is_open() {
            out.extend(say.map(Action::Say));
        }
        if started {
            self.catch_up(&bucket, now, out);
        }
        self.dirty.insert(bucket);
    }

    /// The lease may have moved on while the keeper was being started, or have ended.
    fn catch_up(&self, bucket: &BucketName, now: Moment, out: &mut Vec<Action>) {
        let seen = self.places.get(bucket).and_then(|place| place.seen.as_ref());
        let Some(seen) = seen.filter(|seen| seen.observed.is_alive()) else { return };
        let (Mode::Single(epoch), Some(deadline)) = (seen.observed.mode, seen.deadline) else { return };
        match self.leases.valid(bucket, epoch, now) {
            Some(until) if deadline < until => {
                out.push(Action::MoveDeadline(bucket.clone(), epoch, until));
            }
            None if deadline <= now => out.push(Action::Kill(bucket.clone(), epoch)),
            Some(_) | None => {}
        }
    }

    /// A step failed. It is tried again after a while; a start that cannot succeed, or fails again and again, counts as
    /// an instance that gave up.
    fn failed(&mut self, bucket: &BucketName, step: Option<Step>, reason: String, again: bool, now: Moment) {
        let Some(place) = self.places.get_mut(bucket) else { return };
        place.failures = place.failures.saturating_add(1);
        let wait = RETRY_MIN.0.saturating_mul(1 << (place.failures - 1).min(16)).min(RETRY_MAX.0);
        let at = now.after(Span(wait));
        place.retry_at = Some(at);
        self.retries.insert((at, bucket.clone()));
        let Some(Step::Start(mode, origin)) = step else { return };
        let gives_up = !again || place.failures >= RETRIES;
        let ended = if gives_up { Ended::Finished } else { Ended::Stopped };
        let phase = if gives_up { Phase::Failed } else { Phase::Backoff };
        let restarts = place.failures - 1;
        if gives_up {
            place.failures = 0;
        }
        place.seen = Some(Box::new(Seen {
            observed: Observed { mode, origin, life: Life::Dead(ended) },
            phase,
            pid: None,
            started_at: None,
            restarts,
            exit: None,
            message: reason,
            deadline: None,
            purged: None,
        }));
    }
}

impl Place {
    /// Whether anything would be lost with it.
    fn is_of_use(&self) -> bool {
        self.seen.is_some() || self.busy.is_some() || self.fence != crate::keep::Fence::default()
    }
}
