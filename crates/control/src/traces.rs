//! What the leader remembers of traces, so that what nodes do about a change is seen as a part of it.
//!
//! ```text
//!  a call's traceparent ──► propose ──► remembered by bucket ──► place: a part of it
//!                                             └──► with the next acknowledgement to each node: gates, start
//! ```
//!
//! It is in the leader's memory and not in the log: a trace is no part of what was agreed on, an entry would be longer for
//! every replica and for ever, and its encoding is for others to read who keep no traces. A new leader knows of none, and
//! the trace ends there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sheaf_engine::Command;
use sheaf_model::{BucketName, NodeId, TraceContext, Traced, remember};

/// What happens later to a bucket has other causes.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Buckets that are remembered at a time; beyond, the oldest are forgotten.
const MOST: usize = 256;
/// Buckets of one change that are followed: the first ones.
const FOLLOWED: usize = 32;

/// Empty as long as nobody keeps traces.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// Whether anything is remembered; looked at without the lock.
    any: AtomicBool,
    /// Held for a look-up only.
    known: Mutex<BTreeMap<BucketName, Known>>,
}

#[derive(Debug)]
struct Known {
    /// The change.
    change: TraceContext,
    /// What came of it since: where it was placed.
    placed: Option<TraceContext>,
    since: Instant,
    /// Nodes that were told.
    told: BTreeSet<NodeId>,
}

impl Traces {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BucketName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what happens to these buckets is a part of the change.
    pub(crate) fn remember(&self, buckets: &[BucketName], change: TraceContext, now: Instant) {
        if buckets.is_empty() {
            return;
        }
        let mut known = self.lock();
        known.retain(|_, known| now.duration_since(known.since) < KEPT_FOR);
        for bucket in buckets {
            let fresh = Known { change, placed: None, since: now, told: BTreeSet::new() };
            remember(&mut known, MOST, bucket.clone(), fresh, |known| known.since);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// The change was not made.
    pub(crate) fn forget(&self, buckets: &[BucketName], change: TraceContext) {
        let mut known = self.lock();
        for bucket in buckets {
            if known.get(bucket).is_some_and(|known| known.change == change) {
                known.remove(bucket);
            }
        }
        self.any.store(!known.is_empty(), Ordering::Relaxed);
    }

    /// What changed a bucket lately.
    pub(crate) fn of(&self, bucket: &BucketName, now: Instant) -> Option<TraceContext> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let known = self.lock();
        known.get(bucket).filter(|known| now.duration_since(known.since) < KEPT_FOR).map(|known| known.change)
    }

    /// It is placed; nodes hear of that.
    pub(crate) fn placed(&self, bucket: &BucketName, placed: TraceContext) {
        if let Some(known) = self.lock().get_mut(bucket) {
            known.placed = Some(placed);
            known.told.clear();
        }
    }

    /// What this node was not told yet; it counts as told.
    pub(crate) fn untold(&self, node: NodeId, now: Instant) -> Vec<Traced> {
        if !self.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut known = self.lock();
        known.retain(|_, known| now.duration_since(known.since) < KEPT_FOR);
        self.any.store(!known.is_empty(), Ordering::Relaxed);
        let fresh = known.iter_mut().filter_map(|(bucket, known)| {
            let context = known.placed.unwrap_or(known.change);
            known.told.insert(node).then(|| Traced { bucket: bucket.clone(), context })
        });
        fresh.collect()
    }

    /// Leadership begins or ends.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.any.store(false, Ordering::Relaxed);
    }
}

/// What a command is called, and whose nodes act on it; of many buckets, the first ones.
pub(crate) fn about(command: &Command) -> (&'static str, Vec<BucketName>) {
    match command {
        Command::Apply(apply) => {
            let names = apply.buckets.iter().map(|put| put.spec.name.clone());
            ("apply", names.take(FOLLOWED).collect())
        }
        Command::Suspend(on) => ("suspend", vec![on.bucket.clone()]),
        Command::Resume(on) => ("resume", vec![on.bucket.clone()]),
        Command::Restart(on) => ("restart", vec![on.bucket.clone()]),
        Command::DeleteBucket(on) => ("delete", vec![on.bucket.clone()]),
        Command::Purge(on) => ("purge", vec![on.bucket.clone()]),
        Command::Move(ask) => ("move", vec![ask.bucket.clone()]),
        Command::Rollback(ask) => ("rollback", vec![ask.put.spec.name.clone()]),
        _ => ("other", Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: TraceContext = TraceContext { trace: 1, span: 2, sampled: true };
    const PLACED: TraceContext = TraceContext { trace: 1, span: 3, sampled: true };

    fn name(text: &str) -> BucketName {
        BucketName::new(text).expect("a name")
    }

    fn contexts(traced: &[Traced]) -> Vec<(&str, u64)> {
        traced.iter().map(|it| (it.bucket.as_str(), it.context.span)).collect()
    }

    #[test]
    fn each_node_is_told_once_and_again_when_it_is_placed() {
        let (traces, now) = (Traces::default(), Instant::now());
        assert_eq!(traces.untold(NodeId(1), now), []);
        traces.remember(&[name("/a"), name("/b")], CHANGE, now);
        assert_eq!(contexts(&traces.untold(NodeId(1), now)), [("/a", 2), ("/b", 2)]);
        assert_eq!(traces.untold(NodeId(1), now), []);
        traces.placed(&name("/a"), PLACED);
        assert_eq!(traces.of(&name("/a"), now), Some(CHANGE));
        assert_eq!(contexts(&traces.untold(NodeId(1), now)), [("/a", 3)]);
        assert_eq!(contexts(&traces.untold(NodeId(2), now)), [("/a", 3), ("/b", 2)]);
    }

    #[test]
    fn it_is_forgotten_after_a_while_and_when_nothing_was_changed() {
        let (traces, now) = (Traces::default(), Instant::now());
        let later = now + KEPT_FOR;
        traces.remember(&[name("/a")], CHANGE, now);
        assert_eq!(traces.of(&name("/a"), later), None);
        assert_eq!(traces.untold(NodeId(1), later), []);
        assert!(!traces.any.load(Ordering::Relaxed), "nothing is looked for any more");
        traces.remember(&[name("/a")], CHANGE, later);
        traces.forget(&[name("/a")], PLACED);
        assert_eq!(traces.of(&name("/a"), later), Some(CHANGE), "another change is meant");
        traces.forget(&[name("/a")], CHANGE);
        assert_eq!(traces.of(&name("/a"), later), None);
    }

    #[test]
    fn it_is_bounded() {
        let (traces, now) = (Traces::default(), Instant::now());
        for number in 0..MOST + 10 {
            let at = now + Duration::from_millis(number as u64);
            traces.remember(&[name(&format!("/{number}"))], CHANGE, at);
        }
        assert_eq!(traces.lock().len(), MOST);
        assert_eq!(traces.of(&name("/9"), now + KEPT_FOR / 2), None, "the oldest");
    }
}
