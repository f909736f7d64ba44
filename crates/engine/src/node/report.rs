//! What the leader hears of this node: verdicts almost at once, phases gathered for a moment, since they go into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::session::ToLeader;
use sheaf_model::{BucketName, Instance, Moment, NodeId, Phase, Revision, Span, Verdict, clipped};

use super::{Action, SAY_AGAIN, Seen};
use crate::apply::MESSAGE_MAX;

/// How long phases are gathered: short-lived ones never reach the log, and many share one entry.
const GATHER: Span = Span::millis(20);
/// Messages with verdicts are so far apart: the first verdict goes at once, those of a storm share messages.
const SPREAD: Span = Span::millis(10);
/// Verdicts or instances in one message …
const CHUNK: usize = 500;
/// … and bytes of instances, beyond the last one's: with all that lies around them they fit into an entry of the log.
const CHUNK_BYTES: usize = 512 << 10;

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
    recorded: bool,
}

/// A message that the leader has not confirmed.
#[derive(Clone, Debug)]
struct Sent {
    at: Moment,
    instances: Vec<Instance>,
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
            message: clipped(&seen.message, MESSAGE_MAX).into_owned(),
        };
        if self.instances.get(bucket).is_some_and(|it| it.instance == instance) {
            return;
        }
        self.instances.insert(bucket.clone(), Reported { instance, recorded: false });
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

    /// The log holds this message, which says nothing of those before it; whose state it holds as it is now.
    pub(super) fn recorded(&mut self, seq: u64) -> Vec<BucketName> {
        let mut recorded = Vec::new();
        for instance in self.sent.remove(&seq).into_iter().flat_map(|sent| sent.instances) {
            if let Some(it) = self.instances.get_mut(&instance.bucket).filter(|it| it.instance == instance) {
                it.recorded = true;
                recorded.push(instance.bucket);
            }
        }
        recorded
    }

    /// What was sent a while ago and not confirmed is sent again.
    pub(super) fn unconfirmed(&mut self, now: Moment) {
        let late = |sent: &Sent| now.since(sent.at) >= SAY_AGAIN;
        let seqs: Vec<u64> = self.sent.iter().filter(|(_, sent)| late(sent)).map(|(seq, _)| *seq).collect();
        for sent in seqs.into_iter().filter_map(|seq| self.sent.remove(&seq)) {
            let still = |it: &Instance| self.instances.get(&it.bucket).is_some_and(|now| now.instance == *it);
            let again = sent.instances.iter().filter(|it| still(it)).map(|it| it.bucket.clone());
            self.changed.extend(again);
            self.flush_at = Some(now);
        }
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
            let new: Vec<BucketName> = std::mem::take(&mut self.new_verdicts).into_iter().collect();
            for chunk in new.chunks(CHUNK) {
                let verdicts = chunk.iter().filter_map(|bucket| self.verdicts.get(bucket).cloned()).collect();
                out.push(Action::Say(ToLeader::Verdicts(verdicts)));
            }
        }
        if self.flush_at.is_none_or(|at| at > now) {
            return;
        }
        self.flush_at = None;
        let changed = std::mem::take(&mut self.changed).into_iter();
        let known = changed.filter_map(|bucket| self.instances.get(&bucket));
        let mut known = known.map(|it| it.instance.clone()).peekable();
        while known.peek().is_some() {
            let (mut instances, mut bytes) = (Vec::new(), 0);
            while let Some(instance) = known.next_if(|_| instances.len() < CHUNK && bytes < CHUNK_BYTES) {
                bytes += instance.weight();
                instances.push(instance);
            }
            self.seq += 1;
            self.sent.insert(self.seq, Sent { at: now, instances: instances.clone() });
            out.push(Action::Say(ToLeader::Phases { seq: self.seq, instances }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::told::tests::seen;

    fn name(n: usize) -> BucketName {
        BucketName::new(&format!("/team/b{n}")).expect("a name")
    }

    fn open() -> Reports {
        let mut reports = Reports::default();
        reports.opened(Moment(0));
        reports
    }

    /// What is said when everything that was gathered is due: the number of each message, with its instances.
    fn said(reports: &mut Reports, at: u64) -> Vec<(u64, Vec<Instance>)> {
        let mut out = Vec::new();
        reports.flush(Moment(at), &mut out);
        let of = |action| match action {
            Action::Say(ToLeader::Phases { seq, instances }) => (seq, instances),
            other => panic!("{other:?}"),
        };
        out.into_iter().map(of).collect()
    }

    fn tell(reports: &mut Reports, bucket: usize, message: &str, at: u64) {
        let seen = seen(Phase::Failed, message);
        reports.instance(&name(bucket), NodeId(1), seen.phase, Revision(1), &seen, Moment(at));
    }

    #[test]
    fn what_is_recorded_later_says_nothing_of_what_was_said_before() {
        let mut reports = open();
        tell(&mut reports, 1, "the disk is full when this comes", 0);
        assert_eq!(said(&mut reports, 100)[0].0, 1);
        tell(&mut reports, 2, "there is room again", 100);
        assert_eq!(said(&mut reports, 200)[0].0, 2);
        assert_eq!(reports.recorded(2), [name(2)]);
        assert!(reports.waits(), "the first is not recorded");
        reports.unconfirmed(Moment(5000));
        let again = said(&mut reports, 5000);
        assert_eq!(
            again.iter().flat_map(|(_, all)| all).map(|it| &it.bucket).collect::<Vec<_>>(),
            [&name(1)]
        );
        assert_eq!(reports.recorded(again[0].0), [name(1)]);
        assert!(!reports.waits());
    }

    #[test]
    fn however_much_there_is_to_say_each_message_fits_into_an_entry_of_the_log() {
        let mut reports = open();
        let long = "ä".repeat(100_000);
        (0..700).for_each(|n| tell(&mut reports, n, &long, 0));
        let all = said(&mut reports, 100);
        let weights = all.iter().map(|(_, some)| some.iter().map(Instance::weight).sum::<usize>());
        assert!(weights.max() < Some(CHUNK_BYTES + 2 * MESSAGE_MAX), "{} messages", all.len());
        let told: BTreeSet<_> = all.iter().flat_map(|(_, some)| some).map(|it| &it.bucket).collect();
        assert_eq!(told.len(), 700);
    }
}
