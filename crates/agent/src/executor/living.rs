//! What is done to an instance whose keeper lives: it is told something, ended, or given longer.

use sheaf_engine::node::{Birth, Done, Input, Seen, Start};
use sheaf_engine::reconcile::{Mode, Origin};
use sheaf_model::{BucketName, Call, Epoch, Moment, Revision, Span};

use super::task::{blocking, end};
use super::{Executor, HUNG_AFTER, Held, Outcome, origin, plan};
use crate::error::text;
use crate::keeper::{Status, clock};
use crate::keepers::KeeperError;

/// Ten years.
const NEVER: Span = Span::seconds(10 * 365 * 24 * 3600);

impl Held {
    /// The instance when its keeper is gone, which said this last: a change that it did not take before has not run.
    pub(super) fn dead(&self, last: &Status) -> Seen {
        let took = last.basis >= self.birth.origin.basis;
        let origin = if took { self.birth.origin } else { self.former };
        Birth { origin, ..self.birth }.dead(Some(&last.told()))
    }
}

impl Executor {
    /// Tells a keeper what its instance is to go on with.
    pub(super) fn update(&mut self, start: Box<Start>) -> Option<Input> {
        let bucket = start.bucket.name.clone();
        let shared = self.shared.clone();
        let dir = shared.keepers.program_dir(&bucket);
        let binary = shared.binary.to_string_lossy();
        let place = plan::Place { node: &shared.node, boot: &shared.boot, dir: &dir, binary: &binary };
        let plan = plan::plan(&start, &place).map_err(|error| error.to_string());
        let held = self.held.get(&bucket).ok_or_else(|| "its keeper does not answer".to_owned());
        let (plan, held) = match plan.and_then(|plan| held.map(|held| (plan, held))) {
            Ok(both) => both,
            Err(reason) => return Some(Input::Done(bucket, Done::Failed { reason, again: true })),
        };
        let birth = Birth { origin: start.origin, ..held.birth };
        let seen = birth.seen(&held.handle.status().borrow().told());
        let (handle, from, basis) = (held.handle.clone(), start.origin.into(), plan.basis);
        let (with, name) = (shared.clone(), bucket.clone());
        self.tasks.spawn(async move {
            let opened = match shared.open(&plan, start.mode.epoch()).await {
                Ok(opened) => opened,
                Err(reason) => return Outcome::Done(bucket, Done::Failed { reason, again: true }),
            };
            let lay_out = move || {
                with.keepers.lay_out_update(&plan)?;
                if let Err(error) = origin::write(&with.keepers, &name, from) {
                    tracing::warn!(%error, bucket = %name, "its origin.json could not be written");
                }
                Ok::<(), KeeperError>(())
            };
            let reason = match blocking(lay_out).await {
                Some(Ok(())) => {
                    handle.update(basis, opened);
                    return Outcome::Done(bucket, Done::Updated(Box::new(seen)));
                }
                Some(Err(error)) => text(&error),
                None => "it broke off".to_owned(),
            };
            Outcome::Done(bucket, Done::Failed { reason, again: true })
        });
        None
    }

    /// What was laid out for a keeper was told to it. Meanwhile it may have said more, or be gone, which the node has heard, or have
    /// said its last word, which the node hears then.
    pub(super) fn updated(&mut self, bucket: &BucketName, origin: Origin) -> Done {
        let gone = || Done::Failed { reason: "its keeper is gone".to_owned(), again: true };
        let Some(held) = self.held.get_mut(bucket) else { return gone() };
        let said = held.handle.status().borrow().clone();
        if said.end.is_some() {
            return gone();
        }
        if said.basis >= held.birth.origin.basis {
            held.former = held.birth.origin;
        }
        held.birth.origin = origin;
        Done::Updated(Box::new(held.birth.seen(&said.told())))
    }

    pub(super) fn stop(
        &mut self,
        bucket: BucketName,
        why: &'static str,
        farewell: Option<Call>,
    ) -> Option<Input> {
        tracing::info!(%bucket, why, "stopping");
        let Some(held) = self.held.get(&bucket) else {
            // Nothing can be told to a keeper that does not answer.
            self.tasks.spawn(end(self.shared.clone(), bucket.clone()));
            return Some(Input::Done(bucket, Done::Told));
        };
        match farewell.filter(|_| held.speaks) {
            Some(call) => held.handle.part(call),
            None => held.handle.stop(),
        }
        let (shared, handle, name) = (self.shared.clone(), held.handle.clone(), bucket.clone());
        let patience = Span(held.grace.0.saturating_add(HUNG_AFTER.0)).duration();
        self.tasks.spawn(async move {
            if tokio::time::timeout(patience, handle.ended()).await.is_err() {
                tracing::warn!(bucket = %name, "its keeper does not end it; killing all of it");
                return end(shared, name).await;
            }
            Outcome::Nothing
        });
        Some(Input::Done(bucket, Done::Told))
    }

    /// All nodes may run the bucket now, so the instance needs no lease: its keeper gets a deadline that never comes.
    /// That is the keeper's word for it; it still holds the bucket's lock, without which nothing can be sworn.
    pub(super) fn become_multi(&mut self, bucket: BucketName, state: Revision, epoch: Epoch) -> Input {
        let Some(held) = self.held.get_mut(&bucket) else {
            let reason = "its keeper does not answer".to_owned();
            return Input::Done(bucket, Done::Failed { reason, again: true });
        };
        held.birth.mode = Mode::Multi(state);
        held.birth.until = None;
        held.handle.deadline(epoch, self.shared.boot.clone(), clock::now().after(NEVER));
        let seen = held.birth.seen(&held.handle.status().borrow().told());
        Input::Done(bucket, Done::BecameMulti(Box::new(seen)))
    }

    /// The second enforcer of a deadline; the keeper is the first.
    pub(super) fn kill(&mut self, bucket: BucketName, epoch: Epoch) {
        let is_that = |held: &Held| held.birth.mode.epoch() == Some(epoch);
        if self.held.get(&bucket).is_none_or(is_that) {
            tracing::warn!(%bucket, %epoch, "its lease is over; killing all of it");
            metrics::counter!("sheaf_lease_expirations_total").increment(1);
            self.tasks.spawn(end(self.shared.clone(), bucket));
        }
    }

    pub(super) fn move_deadline(&mut self, bucket: &BucketName, epoch: Epoch, until: Moment) {
        if let Some(held) = self.held.get_mut(bucket) {
            held.birth.until = held.birth.until.max(Some(until));
            held.handle.deadline(epoch, self.shared.boot.clone(), until);
        }
    }
}
