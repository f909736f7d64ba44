//! One input at a time: what it changes of what the node knows, and then everything that follows.

use std::sync::Arc;

use sheaf_model::session::ToLeader;
use sheaf_model::{BucketName, ModuleRef, Moment, Span};

use super::leaving::{Company, Release};
use super::question::Key;
use super::{Action, Found, Input, NodeState, SAY_AGAIN};
use crate::gates::{self, CheckAnswer, Part};
use crate::lease::{self, Lease, LeaseEvent, LeaseInput};
use crate::reconcile::{Ended, Life, Mode};

/// How long after an instance was lost it is left alone: nothing is started in a tight loop.
const AFTER_LOSS: Span = Span::seconds(1);

/// Takes in what happened, and says what to do. The same inputs at the same moments give the same actions.
pub fn step(state: &mut NodeState, input: Input, now: Moment) -> Vec<Action> {
    let mut out = Vec::new();
    state.take(input, now, &mut out);
    state.leases_end(now, &mut out);
    if state.forgotten_at().is_some_and(|at| at <= now) {
        state.company = Company::Forgotten;
    }
    while state.retries.first().is_some_and(|(at, _)| *at <= now) {
        if let Some((_, bucket)) = state.retries.pop_first() {
            state.dirty.insert(bucket);
        }
    }
    state.judge_open(&mut out);
    if state.synced {
        for bucket in std::mem::take(&mut state.dirty) {
            state.settle(&bucket, now, &mut out);
        }
        let NodeState { questions, known, holdings, here, .. } = state;
        questions.ask(known, holdings, here, now, &mut out);
        if std::mem::take(&mut state.retire) {
            state.want_artifacts(now, &mut out);
            state.retire_plugins(&mut out);
        }
    }
    if state.say_again.is_some_and(|at| at <= now) {
        state.reports.unconfirmed(now, &mut out);
        state.say_owed(now, &mut out);
    }
    state.reports.flush(now, &mut out);
    if state.reports.waits() {
        state.say_again.get_or_insert(now.after(SAY_AGAIN));
    }
    out
}

impl NodeState {
    fn take(&mut self, input: Input, now: Moment, out: &mut Vec<Action>) {
        match input {
            Input::Found(found) => {
                self.company = Company::AloneSince(now);
                found.into_iter().for_each(|it| self.found(it, now, out));
            }
            Input::Config(here) => {
                self.config = here;
                self.retire = true;
                self.refresh_here(now);
            }
            Input::Watch(items) => items.into_iter().for_each(|item| self.watch(item, now, out)),
            Input::Answered(key, part, answers) => self.answered(&key, part, &answers, now),
            Input::Seen(bucket, seen) => {
                let place = self.places.entry(bucket.clone()).or_default();
                let was_alive = place.is_alive();
                let of_former = place.artifacts().next().is_some();
                place.seen = seen;
                if was_alive && !place.is_alive() {
                    self.retire |= of_former;
                    self.ended(&bucket, now);
                }
                self.dirty.insert(bucket);
            }
            Input::Done(bucket, done) => self.done(bucket, done, now, out),
            Input::Acknowledged(ack) => {
                self.release_heard(&ack);
                let events = lease::step(&mut self.leases, LeaseInput::Acknowledged(&ack), now);
                self.leased(events, out);
            }
            Input::Recorded(seq) => self.dirty.extend(self.reports.recorded(seq)),
            Input::SessionOpened { start_in } => {
                self.company = Company::Leader;
                self.start_from = self.start_from.max(now.after(start_in));
                self.reports.opened(now);
                self.say_owed(now, out);
                if self.leaving.is_some() {
                    self.say_release(now, out);
                }
            }
            Input::Leave(leaving) => {
                self.leaving = self.leaving.max(Some(leaving));
                self.dirty.extend(self.places.keys().cloned());
                self.say_release(now, out);
            }
            Input::Left => {
                self.left = true;
                // What a watch would have said is not waited for: whoever could say it does not speak to this node.
                self.synced = true;
                self.dirty.extend(self.places.keys().cloned());
            }
            Input::SessionLost => {
                self.company = Company::AloneSince(now);
                self.release = Release::Unsaid;
                self.retire = true;
                self.reports.lost();
                self.judging.clear();
            }
            Input::Judge { question, spec, module, fetch } => {
                if fetch {
                    self.want_for_job(&spec, now);
                }
                self.judging.put(question, spec, module);
            }
            Input::Holds(digest, holding) => self.holds(digest, holding, now),
            Input::Tick => {}
        }
    }

    /// A plugin's process for gate 3 is kept as long as a bucket may need it that this node's config lets it run.
    fn retire_plugins(&mut self, out: &mut Vec<Action>) {
        let Self { questions, known, judging, here, .. } = self;
        let is_used = |module: &ModuleRef| {
            let used = known.buckets.values().any(|bucket| bucket.watched.spec.module == *module);
            let allowed = gates::local_config(&module.name, here).pass == Some(true);
            judging.asks(module) || (used && allowed)
        };
        out.extend(questions.retire(is_used).into_iter().map(Action::Retire));
    }

    fn found(&mut self, found: Found, now: Moment, out: &mut Vec<Action>) {
        let Found { bucket, seen, fence } = found;
        if let Some(seen) = &seen
            && let Some(epoch) = seen.observed.mode.epoch()
            && seen.observed.is_alive()
        {
            match seen.deadline.filter(|until| now < *until) {
                Some(until) => {
                    let lease = Lease { epoch, until };
                    lease::step(&mut self.leases, LeaseInput::Found(&bucket, lease), now);
                }
                // Its keeper is hung, or it would have ended it.
                None => out.push(Action::Kill(bucket.clone(), epoch)),
            }
        }
        let place = self.places.entry(bucket.clone()).or_default();
        place.seen = seen.map(Box::new);
        place.fence = fence;
        self.dirty.insert(bucket);
    }

    fn ended(&mut self, bucket: &BucketName, now: Moment) {
        if let Some(place) = self.places.get_mut(bucket)
            && place.seen.as_ref().is_some_and(|seen| seen.observed.life == Life::Dead(Ended::Lost))
        {
            let at = now.after(AFTER_LOSS);
            place.retry_at = Some(at);
            self.retries.insert((at, bucket.clone()));
        }
        let known = self.known.buckets.get(bucket);
        if let Some(key) = known.and_then(|known| self.known.key(&known.watched)) {
            self.questions.ended(&key, now);
        }
    }

    /// What the node is may have changed: every gate is asked again.
    pub(super) fn refresh_here(&mut self, now: Moment) {
        let mut here = self.config.clone();
        if let Some(own) = &self.known.own {
            for label in &own.given_labels {
                if !here.labels.contains(label) {
                    here.labels.push(label.clone());
                }
            }
        }
        if here != *self.here {
            self.here = Arc::new(here);
            self.known.here_changed();
            self.questions.ask_all_again(now);
            self.dirty.append(&mut self.known.buckets.keys().cloned().collect());
        }
    }

    fn answered(&mut self, key: &Key, part: Part, answers: &[CheckAnswer], now: Moment) {
        if let Some(number) = key.question {
            self.questions.is_answered(key, part);
            return self.judging.answered(number, part, answers);
        }
        let interval = self.known.settings.gate_interval;
        if self.questions.answered(key, part, answers, self.identity.node, interval, now) {
            self.dirty.append(&mut self.known.users(key).cloned().collect());
        }
    }

    fn leases_end(&mut self, now: Moment, out: &mut Vec<Action>) {
        let events = lease::step(&mut self.leases, LeaseInput::Tick, now);
        self.leased(events, out);
    }

    fn leased(&mut self, events: Vec<LeaseEvent>, out: &mut Vec<Action>) {
        for event in events {
            let (LeaseEvent::Prolonged(bucket, lease) | LeaseEvent::Over(bucket, lease)) = &event;
            let seen = self.places.get(bucket).and_then(|place| place.seen.as_ref());
            let runs = seen.is_some_and(|seen| {
                seen.observed.is_alive() && seen.observed.mode == Mode::Single(lease.epoch)
            });
            match event {
                LeaseEvent::Prolonged(bucket, lease) if runs => {
                    out.push(Action::MoveDeadline(bucket, lease.epoch, lease.until));
                }
                LeaseEvent::Over(bucket, lease) if runs => out.push(Action::Kill(bucket, lease.epoch)),
                LeaseEvent::Prolonged(bucket, _) | LeaseEvent::Over(bucket, _) => {
                    self.dirty.insert(bucket);
                }
            }
        }
    }

    /// What was sworn and the leader has not drawn its conclusion from: said until the binding or residue is gone.
    fn say_owed(&mut self, now: Moment, out: &mut Vec<Action>) {
        let mut owed = Vec::new();
        for (bucket, binding) in &self.known.bindings {
            let sworn = self.places.get(bucket).map(|place| place.fence.gave_up).unwrap_or_default();
            if sworn >= binding.epoch {
                owed.push(ToLeader::GaveUp { bucket: bucket.clone(), epoch: sworn });
            }
        }
        for (bucket, ending) in &self.known.residues {
            let sworn = self.places.get(bucket).map(|place| place.fence.gave_up_multi).unwrap_or_default();
            if sworn >= *ending {
                owed.push(ToLeader::NothingLeft { bucket: bucket.clone(), revision: sworn });
            }
        }
        owed.extend(self.purges_owed());
        let waits = !owed.is_empty() || self.reports.waits();
        self.say_again = waits.then(|| now.after(SAY_AGAIN));
        if self.reports.is_open() {
            out.extend(owed.into_iter().map(Action::Say));
        }
    }
}
