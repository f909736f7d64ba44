//! A watch for people: the status of buckets, as they are and then as they come to be.
//!
//! ```text
//!  rows of a bucket ──changes──────────► said at once
//!  rows of nodes ─────changes──┐
//!  verdicts, sessions ──heard──┴─ soon ─► gather ──names──► look, some at a time ──what differs──► said
//! ```
//!
//! A status is made of rows and of what the leader hears of nodes. What nodes answer, and how nodes do, may change many
//! statuses and mostly changes none: these are looked at after a while, together, and only what differs is said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::{StreamExt, stream};
use sheaf_consensus::{ChangeSet, Changes, Leadership};
use sheaf_engine::status::Sight;
use sheaf_engine::{Bucket, Change, Heard};
use sheaf_model::view::BucketStatus;
use sheaf_model::{BucketName, Revision, Term};
use sheaf_wire::bucket::{BucketChange, BucketStep, WatchBuckets};
use sheaf_wire::{Answers, ApiError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{ROWS, about};
use crate::Control;
use crate::place::Member;
use crate::service::AT_ONCE;

/// So long after something was heard that may matter is looked at: what comes together is looked at together.
const SOON: Duration = Duration::from_millis(50);
/// So many times the time that a look took passes before the next one.
const REST: u32 = 9;

/// One watch of somebody.
struct BucketWatch {
    control: Control,
    member: Member,
    only: Option<BucketName>,
    changes: Changes,
    ready: VecDeque<BucketStep>,
    /// What is still to be said of how everything is; none: that was said.
    beginning: Option<Beginning>,
    /// A digest of what was said last of each bucket, or is known to whoever resumes.
    said: BTreeMap<BucketName, u64>,
    heard: watch::Receiver<()>,
    leadership: watch::Receiver<Leadership>,
    /// The term in which this node led when the watch began; none: it did not lead.
    led: Option<Term>,
    /// How far what nodes say was looked at, and in which term.
    told: Option<(Term, Heard)>,
    /// Every bucket is to be looked at, since what was heard may bear on each.
    every: bool,
    /// When to gather what is to be looked at; none: nothing was heard since.
    due: Option<Instant>,
    /// Not before this.
    rest: Instant,
    /// What is still to be looked at.
    pending: VecDeque<BucketName>,
    /// Since when that is done.
    began: Instant,
    /// What was said before this watch resumed is not known here: what rows do not tell is said again.
    resumes: bool,
}

/// How far a watch has come that says first how everything is.
struct Beginning {
    /// As of here. What it says may be newer, and is said again then.
    revision: Revision,
    /// Buckets up to this one were said, by name.
    after: Option<BucketName>,
}

impl Control {
    pub(crate) fn watch_buckets(&self, ask: WatchBuckets) -> Result<Answers<BucketStep>, ApiError> {
        let member = self.member()?;
        let mut leadership = member.replica.leadership();
        let standing = *leadership.borrow_and_update();
        let heard = self.live.hearing();
        let now = member.replica.state().revision;
        let changes = member.replica.changes(ask.after.unwrap_or(now));
        let at = Instant::now();
        let mut watch = BucketWatch {
            control: self.clone(),
            member,
            only: ask.bucket,
            changes,
            ready: VecDeque::new(),
            beginning: None,
            said: BTreeMap::new(),
            heard,
            leadership,
            led: standing.leading.then_some(standing.term),
            told: None,
            every: true,
            due: None,
            rest: at,
            pending: VecDeque::new(),
            began: at,
            resumes: false,
        };
        match ask.after {
            None => watch.start_again()?,
            Some(after) => {
                // Whoever resumes learns at once up to where nothing has changed.
                if after >= now {
                    watch.synced(now);
                }
                (watch.resumes, watch.due) = (true, Some(at));
            }
        }
        let steps = stream::try_unfold(watch, |mut watch| async move {
            let step = watch.next().await?;
            Ok(Some((step, watch)))
        });
        Ok(steps.boxed())
    }
}

impl BucketWatch {
    fn start_again(&mut self) -> Result<(), ApiError> {
        let (revision, told) = self.control.see(|sight| (sight.state.revision, told(&sight)))?;
        self.changes = self.member.replica.changes(revision);
        (self.told, self.every, self.resumes) = (told, false, false);
        self.pending.clear();
        self.said.clear();
        self.ready.push_back(BucketStep { revision, change: BucketChange::Reset });
        self.beginning = Some(Beginning { revision, after: None });
        Ok(())
    }

    /// Says of some buckets how they are, and of the others later: all of them at once would be too long a hold of the lock.
    fn begin(&mut self, Beginning { revision, after }: Beginning) -> Result<(), ApiError> {
        let only = self.only.clone();
        let some: Vec<(BucketName, BucketStatus)> = self.control.see(|sight| {
            let status = |bucket: &Bucket| (bucket.name().clone(), sight.bucket_status(bucket));
            match &only {
                Some(only) => {
                    sight.state.buckets.get(only).map(|bucket| status(bucket)).into_iter().collect()
                }
                None => sight.buckets_after(after.as_ref()).take(AT_ONCE).map(status).collect(),
            }
        })?;
        let last = some.last().map(|(name, _)| name.clone());
        let goes_on = self.only.is_none() && some.len() == AT_ONCE;
        for (name, status) in some {
            self.said.insert(name, digest(&status));
            self.ready.push_back(BucketStep { revision, change: BucketChange::Bucket(Box::new(status)) });
        }
        if goes_on {
            self.beginning = Some(Beginning { revision, after: last });
        } else {
            self.synced(revision);
        }
        Ok(())
    }

    fn synced(&mut self, revision: Revision) {
        self.ready.push_back(BucketStep { revision, change: BucketChange::Synced });
    }

    async fn next(&mut self) -> Result<BucketStep, ApiError> {
        let mut left = self.control.place.left.subscribe();
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(step);
            }
            if let Some(beginning) = self.beginning.take() {
                self.begin(beginning)?;
                tokio::task::yield_now().await;
                continue;
            }
            if !self.pending.is_empty() {
                self.look()?;
                // Whoever waits for the lock or for this thread comes first.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                // Dropping `next` loses nothing: the cursor moves when it is ready.
                sets = self.changes.next(ROWS) => match sets {
                    Ok(sets) => self.changed(&sets)?,
                    Err(_) => self.start_again()?,
                },
                // Dropping `changed` loses nothing: that there is something new stays so.
                Ok(()) = self.heard.changed() => self.soon(),
                // The same.
                Ok(()) = self.leadership.changed() => self.still_here()?,
                () = tokio::time::sleep_until(due), if self.due.is_some() => self.gather()?,
                // The same.
                _ = left.wait_for(|left| *left) => {
                    return Err(ApiError::Precondition(self.control.place.left_text()));
                }
            }
        }
    }

    /// Only the leader knows what nodes answer: a watch that began elsewhere, or in another term, would tell less from
    /// now on, and as if nodes had taken back what they said.
    fn still_here(&mut self) -> Result<(), ApiError> {
        let now = *self.leadership.borrow_and_update();
        let moved = match self.led {
            Some(term) => !now.leading || now.term != term,
            None => now.leader.is_some(),
        };
        if moved {
            return Err(ApiError::unavailable(
                "another node leads now, and only it hears how nodes do: watch again",
            ));
        }
        Ok(())
    }

    fn soon(&mut self) {
        let soon = Instant::now() + SOON;
        self.due.get_or_insert(soon.max(self.rest));
    }

    /// Says what rows of buckets have changed.
    fn changed(&mut self, sets: &[ChangeSet]) -> Result<(), ApiError> {
        let changes = || sets.iter().flat_map(|set| set.changes.iter());
        if changes().any(|change| matches!(change, Change::Node(_))) {
            self.every = true;
            self.soon();
        }
        let names: BTreeSet<&BucketName> = changes().filter_map(about).collect();
        let names = names.into_iter().filter(|name| self.only.as_ref().is_none_or(|only| only == *name));
        let changes: Vec<(BucketName, BucketChange)> = self.control.see(|sight| {
            let change = |name: &BucketName| match sight.state.buckets.get(name) {
                Some(bucket) => BucketChange::Bucket(Box::new(sight.bucket_status(bucket))),
                None => BucketChange::Gone(name.clone()),
            };
            names.map(|name| (name.clone(), change(name))).collect()
        })?;
        let revision = self.changes.position();
        if changes.is_empty() {
            return Ok(());
        }
        for (name, change) in changes {
            match &change {
                BucketChange::Bucket(status) => self.said.insert(name, digest(status)),
                _ => self.said.remove(&name),
            };
            self.ready.push_back(BucketStep { revision, change });
        }
        self.synced(revision);
        Ok(())
    }

    /// Finds out which buckets may differ by what was heard.
    fn gather(&mut self) -> Result<(), ApiError> {
        let (only, former, every) = (self.only.clone(), self.told, self.every);
        let (now, names) = self.control.see(|sight| {
            let wanted = |name: &&BucketName| only.as_ref().is_none_or(|only| only == *name);
            let now = told(&sight);
            let verdicts = match (former, now) {
                (Some((term, before)), Some((same, told)))
                    if term == same && before.sessions == told.sessions && !every =>
                {
                    Some(before.verdicts)
                }
                (None, None) if !every => return (now, VecDeque::new()),
                _ => None,
            };
            let names: VecDeque<BucketName> = match (verdicts, sight.sessions) {
                (Some(since), Some(sessions)) => {
                    sessions.answered_since(since).filter(wanted).cloned().collect()
                }
                _ => sight.state.buckets.keys().filter(wanted).cloned().collect(),
            };
            (now, names)
        })?;
        (self.told, self.every, self.due) = (now, false, None);
        (self.pending, self.began) = (names, Instant::now());
        if self.pending.is_empty() {
            self.resumes = false;
        }
        Ok(())
    }

    /// Looks at some of them, and says what differs.
    fn look(&mut self) -> Result<(), ApiError> {
        let some = self.pending.len().min(AT_ONCE);
        let names: Vec<BucketName> = self.pending.drain(..some).collect();
        let looked: Vec<(BucketName, BucketStatus, bool)> = self.control.see(|sight| {
            let look = |name: BucketName| {
                let bucket = sight.state.buckets.get(&name)?;
                Some((name, sight.bucket_status(bucket), is_heard(&sight, bucket)))
            };
            names.into_iter().filter_map(look).collect()
        })?;
        let revision = self.changes.position();
        for (name, status, is_heard) in looked {
            let now = digest(&status);
            let differs = match self.said.insert(name, now) {
                Some(before) => before != now,
                // One that is new is told of by its row.
                None => self.resumes && is_heard,
            };
            if differs {
                let change = BucketChange::Bucket(Box::new(status));
                self.ready.push_back(BucketStep { revision, change });
            }
        }
        if self.pending.is_empty() {
            self.resumes = false;
            self.rest = Instant::now() + self.began.elapsed().saturating_mul(REST);
        }
        if !self.ready.is_empty() {
            self.synced(revision);
        }
        Ok(())
    }
}

/// How far what nodes say has come, and in which term; none: this node does not hear them.
fn told(sight: &Sight<'_>) -> Option<(Term, Heard)> {
    sight.sessions.map(|sessions| (sessions.term, sessions.told()))
}

/// Whether the bucket's status depends on more than rows: on what nodes answer.
fn is_heard(sight: &Sight<'_>, bucket: &Bucket) -> bool {
    let bound = sight.state.bindings.get(bucket.name());
    let settled = bound.is_some_and(|bound| bound.leaving.is_none());
    !bucket.is_off() && (bucket.newest().spec.multi_node || !settled)
}

fn digest(status: &BucketStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
