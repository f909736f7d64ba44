//! What the leader hears of this node: verdicts almost at once, phases gathered for a moment, since they go into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::session::ToLeader;
use sheaf_model::{BucketName, Instance, Moment, NodeId, Phase, Revision, Span, Verdict, clipped};

use super::{Action, SAY_AGAIN, Seen};

/// How long phases are gathered: short-lived ones never reach the log, and many share one entry.
const GATHER: Span = Span::millis(20);
/// Messages with verdicts are so far apart: the first verdict goes at once, those of a storm share messages.
const SPREAD: Span = Span::millis(10);
/// Verdicts or instances in one message …
const PIECE: usize = 500;
/// … and bytes of them, beyond the last one's: with all that lies around them instances fit into an entry of the log.
const PIECE_BYTES: usize = 512 << 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    open: bool,
    verdicts: BTreeMap<BucketName, Arc<Verdict>>,
    new_verdicts: BTreeSet<BucketName>,
    /// From when on the next verdicts may be sent.
    verdicts_at: Option<Moment>,
    instances: BTreeMap<BucketName, Reported>,
    changed: BTreeSet<BucketName>,
    flush_at: Option<Moment>,
    seq: u64,
    sent: BTreeMap<u64, Sent>,
}

#[derive(Clone, Debug)]
struct Reported {
    instance: Instance,
    /// The message that said last what it is now; 0: none has.
    said: u64,
    recorded: bool,
}

/// A message that the leader has not confirmed. Said again it keeps its number: an answer that is late counts for both.
#[derive(Clone, Debug)]
struct Sent {
    /// When it was last said …
    at: Moment,
    /// … and the newest message then.
    newest: u64,
    buckets: Vec<BucketName>,
    /// It will not be answered any more.
    lost: bool,
}

/// In as many pieces as are needed for each to fit into a message, and into an entry of the log.
pub fn pieces<T>(items: impl Iterator<Item = T>, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut all: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let more = weight(&item);
        match all.last_mut() {
            Some(last) if last.len() < PIECE && bytes < PIECE_BYTES => {
                bytes += more;
                last.push(item);
            }
            _ => {
                bytes = more;
                all.push(vec![item]);
            }
        }
    }
    all
}

impl Reports {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// A session stands: everything is said again, for this leader may know nothing.
    pub(super) fn opened(&mut self, now: Moment) {
        self.open = true;
        self.verdicts_at = None;
        self.sent.clear();
        self.new_verdicts = self.verdicts.keys().cloned().collect();
        let worth = |it: &Reported| !(it.recorded && it.instance.phase == Phase::Stopped);
        let all = self.instances.iter().filter(|(_, it)| worth(it)).map(|(bucket, _)| bucket.clone());
        self.changed = all.collect();
        self.flush_at = Some(now);
    }

    pub(super) fn lost(&mut self) {
        self.open = false;
        self.sent.clear();
    }

    pub(super) fn verdict(&mut self, verdict: &Arc<Verdict>) {
        self.new_verdicts.insert(verdict.bucket.clone());
        self.verdicts.insert(verdict.bucket.clone(), verdict.clone());
    }

    pub(super) fn verdict_gone(&mut self, bucket: &BucketName) {
        self.verdicts.remove(bucket);
        self.new_verdicts.remove(bucket);
    }

    /// An instance as it shall be known; said if that is new.
    pub(super) fn instance(
        &mut self,
        bucket: &BucketName,
        node: NodeId,
        phase: Phase,
        revision: Revision,
        seen: &Seen,
        now: Moment,
    ) {
        let instance = Instance {
            bucket: bucket.clone(),
            node,
            phase,
            epoch: seen.observed.mode.epoch(),
            revision,
            pid: seen.pid.filter(|_| seen.observed.is_alive()),
            started_at: seen.started_at,
            restarts: seen.restarts,
            exit: seen.exit,
            message: clipped(&seen.message, Instance::MESSAGE_MAX).into_owned(),
        };
        if self.instances.get(bucket).is_some_and(|it| it.instance == instance) {
            return;
        }
        self.instances.insert(bucket.clone(), Reported { instance, said: 0, recorded: false });
        self.changed.insert(bucket.clone());
        self.flush_at.get_or_insert(now.after(GATHER));
    }

    /// Nothing is there any more that could be told of.
    pub(super) fn forget(&mut self, bucket: &BucketName) {
        self.instances.remove(bucket);
        self.changed.remove(bucket);
    }

    /// Whether the log holds that the instance is gone.
    pub(super) fn is_recorded(&self, bucket: &BucketName) -> bool {
        self.instances.get(bucket).is_none_or(|it| it.recorded && it.instance.phase == Phase::Stopped)
    }

    /// The log holds this message, which says nothing of those before it; whose state it holds as it is now. What has changed
    /// since and back again has not been said by this one: what was said in between may be recorded later.
    pub(super) fn recorded(&mut self, seq: u64) -> Vec<BucketName> {
        let Some(sent) = self.sent.remove(&seq) else { return Vec::new() };
        // Answers come in the order of messages: what was last said before this one was said at all would have been answered. The
        // leader could not write it, or is one of the former release, which answers only the last of those that it writes at once.
        for before in self.sent.values_mut().filter(|before| before.newest < seq) {
            before.lost = true;
        }
        let mut recorded = Vec::new();
        for bucket in sent.buckets {
            if let Some(it) = self.instances.get_mut(&bucket).filter(|it| it.said == seq) {
                it.recorded = true;
                recorded.push(bucket);
            }
        }
        recorded
    }

    /// What was sent a while ago and not confirmed is said again, without what has changed since: that the log must not take
    /// for newer than it is. What is lost is gathered anew.
    pub(super) fn unconfirmed(&mut self, now: Moment, out: &mut Vec<Action>) {
        let Self { sent, instances, changed, flush_at, seq: newest, .. } = self;
        sent.retain(|seq, message| {
            if now.since(message.at) < SAY_AGAIN {
                return true;
            }
            message.buckets.retain(|bucket| instances.get(bucket).is_some_and(|it| it.said == *seq));
            if message.buckets.is_empty() {
                return false;
            }
            if message.lost {
                changed.extend(message.buckets.drain(..));
                *flush_at = Some(now);
                return false;
            }
            (message.at, message.newest) = (now, *newest);
            let known = message.buckets.iter().filter_map(|bucket| instances.get(bucket));
            let again = known.map(|it| it.instance.clone()).collect();
            out.push(Action::Say(ToLeader::Phases { seq: *seq, instances: again }));
            true
        });
    }

    /// Whether something sent waits for the leader.
    pub(super) fn waits(&self) -> bool {
        !self.sent.is_empty()
    }

    /// When there is something to send.
    pub(super) fn next(&self) -> Option<Moment> {
        let phases = self.flush_at.filter(|_| self.open && !self.changed.is_empty());
        let verdicts = self.verdicts_at.filter(|_| self.open && !self.new_verdicts.is_empty());
        phases.into_iter().chain(verdicts).min()
    }

    /// Sends what is to be sent now.
    pub(super) fn flush(&mut self, now: Moment, out: &mut Vec<Action>) {
        if !self.open {
            return;
        }
        if !self.new_verdicts.is_empty() && self.verdicts_at.is_none_or(|at| at <= now) {
            self.verdicts_at = Some(now.after(SPREAD));
            let new = std::mem::take(&mut self.new_verdicts);
            // None is new that is not there.
            let pieces = if new.len() == self.verdicts.len() {
                pieces(self.verdicts.values().cloned(), |verdict| verdict.weight())
            } else {
                let verdicts = new.iter().filter_map(|bucket| self.verdicts.get(bucket).cloned());
                pieces(verdicts, |verdict| verdict.weight())
            };
            out.extend(pieces.into_iter().map(|verdicts| Action::Say(ToLeader::Verdicts(verdicts))));
        }
        if self.flush_at.is_none_or(|at| at > now) {
            return;
        }
        self.flush_at = None;
        let changed = std::mem::take(&mut self.changed);
        let known = changed.iter().filter_map(|bucket| self.instances.get(bucket));
        for instances in pieces(known.map(|it| it.instance.clone()), Instance::weight) {
            self.seq += 1;
            let buckets: Vec<BucketName> = instances.iter().map(|it| it.bucket.clone()).collect();
            for bucket in &buckets {
                if let Some(it) = self.instances.get_mut(bucket) {
                    it.said = self.seq;
                }
            }
            self.sent.insert(self.seq, Sent { at: now, newest: self.seq, buckets, lost: false });
            out.push(Action::Say(ToLeader::Phases { seq: self.seq, instances }));
        }
    }
}

#[cfg(test)]
mod tests;
