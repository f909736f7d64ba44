//! The newest changes, in memory, for watchers: a bounded ring and cursors over it.
//!
//! ```text
//!  machine ──publish──► [ r41 | r42 | r44 | r45 ] ◄──next── cursor at r42 (gets r44, r45)
//!                         ▲ the oldest is dropped       ◄──next── cursor at r17: Lagged, starts again from State
//! ```
//!
//! A slow watcher costs nothing: nobody waits for it, it finds out that it lagged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sheaf_engine::Change;
use sheaf_model::Revision;
use tokio::sync::watch;

/// What one command changed. Commands that changed nothing have no such item, so revisions have gaps.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    /// The command's revision.
    pub revision: Revision,
    /// Rows as they are after it, in the order they were put.
    pub changes: Arc<[Change]>,
}

impl ChangeSet {
    /// The same without values of objects and items: what is kept in memory must not grow with them.
    pub(crate) fn without_values(&self) -> Self {
        let is_value = |change: &Change| matches!(change, Change::ObjectValue(..) | Change::Items(_));
        if !self.changes.iter().any(is_value) {
            return self.clone();
        }
        let kept = self.changes.iter().filter(|change| !is_value(change)).cloned();
        Self { revision: self.revision, changes: kept.collect() }
    }

    /// About how many rows it is to SQLite: a large value is as much work, and memory until then, as many small rows.
    pub(crate) fn weight(&self) -> usize {
        let weight = |change: &Change| match change {
            Change::ObjectValue(_, _, value) => 1 + value.len() / ROW_BYTES,
            Change::Secret(secret) => 1 + secret.sealed.ciphertext.len() / ROW_BYTES,
            Change::Items(chunk) => {
                1 + chunk.items.iter().map(|item| item.value.as_str().len()).sum::<usize>() / ROW_BYTES
            }
            _ => 1,
        };
        self.changes.iter().map(weight).sum()
    }
}

/// Bytes of a row of usual size.
const ROW_BYTES: usize = 1024;

/// The cursor's place is no longer (or never was) in memory: read `State` and go on from its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "read changes after revision {after}: only those after {oldest} are still in memory; start again from the state"
)]
pub struct Lagged {
    /// Where the cursor stood.
    pub after: Revision,
    /// The oldest place a cursor can stand at now.
    pub oldest: Revision,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    // Short holds only: a push or the cloning of a few `Arc`s.
    kept: RwLock<Kept>,
    /// The newest revision published. Sent after the ring holds it.
    newest: watch::Sender<Revision>,
    /// Cursors that were too slow.
    cut_off: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    sets: VecDeque<ChangeSet>,
    /// Rows in `sets`.
    rows: usize,
    /// Rows kept at most; bounds memory (a row is some hundred bytes, mostly shared with the state).
    limit: usize,
    /// Everything after this revision is in `sets`.
    after: Revision,
    /// Who stood before this was thrown off by a snapshot, however fast it was.
    replaced: Revision,
}

impl Ring {
    pub(crate) fn new(revision: Revision, limit: usize) -> Self {
        let kept = Kept { sets: VecDeque::new(), rows: 0, limit, after: revision, replaced: Revision(0) };
        Self { kept: RwLock::new(kept), newest: watch::Sender::new(revision), cut_off: AtomicU64::new(0) }
    }

    /// Appends what the commands up to `revision` changed, in their order, and wakes the cursors.
    pub(crate) fn publish(&self, sets: impl IntoIterator<Item = ChangeSet>, revision: Revision) {
        {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            for set in sets {
                kept.rows += set.changes.len();
                kept.sets.push_back(set);
            }
            while kept.rows > kept.limit {
                let Some(dropped) = kept.sets.pop_front() else { break };
                kept.rows -= dropped.changes.len();
                kept.after = dropped.revision;
            }
        }
        self.newest.send_replace(revision);
    }

    /// Forgets everything: the state was replaced by a snapshot at `revision`. Every older cursor lags.
    pub(crate) fn reset(&self, revision: Revision) {
        {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.sets.clear();
            kept.rows = 0;
            (kept.after, kept.replaced) = (revision, revision);
        }
        self.newest.send_replace(revision);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.newest.subscribe()
    }

    /// How many cursors were too slow for what is kept.
    pub(crate) fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// A cursor that began at what was kept then stands where nothing is kept any more.
    fn fell_off(&self, after: Revision) {
        if after >= self.kept.read().unwrap_or_else(PoisonError::into_inner).replaced {
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn holds(&self, after: Revision) -> bool {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).after <= after
    }

    fn after(&self, after: Revision, at_most: usize) -> Result<Vec<ChangeSet>, Lagged> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if after < kept.after {
            return Err(Lagged { after, oldest: kept.after });
        }
        let from = kept.sets.partition_point(|set| set.revision <= after);
        let mut rows = 0;
        let fits = |set: &&ChangeSet| {
            let first = rows == 0;
            rows += set.changes.len();
            first || rows <= at_most
        };
        Ok(kept.sets.range(from..).take_while(fits).cloned().collect())
    }
}

/// A place in the stream of changes. Made by [`crate::Replica::changes`]; dropping it costs nothing.
#[derive(Clone, Debug)]
pub struct Changes {
    ring: Arc<Ring>,
    newest: watch::Receiver<Revision>,
    after: Revision,
    /// It began with what was kept then: if it lags, it was too slow.
    followed: bool,
}

impl Changes {
    pub(crate) fn new(ring: Arc<Ring>, after: Revision) -> Self {
        let newest = ring.subscribe();
        let followed = ring.holds(after);
        Self { ring, newest, after, followed }
    }

    /// Where the cursor stands: everything up to here was handed out, or changed nothing.
    pub fn position(&self) -> Revision {
        self.after
    }

    /// The next changes, at least one set, about `at_most` rows; waits until there are some. Dropping the future loses
    /// nothing. Never ends by itself: select it with whatever ends the watcher.
    pub async fn next(&mut self, at_most: usize) -> Result<Vec<ChangeSet>, Lagged> {
        loop {
            let newest = *self.newest.borrow_and_update();
            let sets = self.ring.after(self.after, at_most).inspect_err(|_| {
                if std::mem::take(&mut self.followed) {
                    self.ring.fell_off(self.after);
                }
            })?;
            if let Some(last) = sets.last() {
                self.after = last.revision;
                return Ok(sets);
            }
            self.after = self.after.max(newest);
            if self.newest.changed().await.is_err() {
                // The replica is closed: nothing will ever change again.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, ObjectKey, ObjectValue};

    use super::*;

    fn set(revision: u64, rows: usize) -> ChangeSet {
        let changes = vec![Change::RequestGone(Revision(revision)); rows];
        ChangeSet { revision: Revision(revision), changes: changes.into() }
    }

    fn revisions(sets: &[ChangeSet]) -> Vec<u64> {
        sets.iter().map(|set| set.revision.0).collect()
    }

    #[tokio::test]
    async fn a_cursor_gets_each_set_once_and_in_order() {
        let ring = Arc::new(Ring::new(Revision(10), 100));
        let mut cursor = Changes::new(ring.clone(), Revision(10));
        ring.publish([set(11, 1), set(13, 2)], Revision(14));
        assert_eq!(revisions(&cursor.next(2).await.unwrap()), [11]);
        assert_eq!(revisions(&cursor.next(2).await.unwrap()), [13]);
        ring.publish([set(15, 1)], Revision(15));
        assert_eq!(revisions(&cursor.next(2).await.unwrap()), [15]);
    }

    #[test]
    fn values_are_heavy_and_never_kept() {
        let (bucket, key) = (BucketName::new("/a").unwrap(), ObjectKey::new("k").unwrap());
        let value = ObjectValue::from(vec![7; 10 << 10].as_slice());
        let gone = Change::ObjectGone(bucket.clone(), key.clone());
        let changes = vec![Change::ObjectValue(bucket, key, value), gone.clone()];
        let set = ChangeSet { revision: Revision(7), changes: changes.into() };
        assert_eq!(set.weight(), 12);
        assert_eq!(set.without_values().changes[..], [gone]);
    }

    #[tokio::test]
    async fn a_cursor_that_fell_off_the_ring_lags_and_one_that_is_just_in_does_not() {
        let ring = Arc::new(Ring::new(Revision(0), 3));
        ring.publish((1..=5).map(|revision| set(revision, 1)), Revision(5));
        let lagged = Changes::new(ring.clone(), Revision(1)).next(10).await.unwrap_err();
        assert_eq!(lagged, Lagged { after: Revision(1), oldest: Revision(2) });
        assert_eq!(ring.cut_off(), 0, "it came too late, it was not too slow");
        assert_eq!(revisions(&Changes::new(ring, Revision(2)).next(10).await.unwrap()), [3, 4, 5]);
    }

    #[tokio::test]
    async fn a_cursor_that_was_too_slow_is_counted_once() {
        let ring = Arc::new(Ring::new(Revision(0), 3));
        let mut cursor = Changes::new(ring.clone(), Revision(0));
        ring.publish((1..=5).map(|revision| set(revision, 1)), Revision(5));
        assert_eq!(ring.cut_off(), 0, "nobody knows yet");
        assert!(cursor.next(10).await.is_err() && cursor.next(10).await.is_err());
        assert_eq!(ring.cut_off(), 1);
    }

    #[tokio::test]
    async fn a_snapshot_makes_every_older_cursor_lag() {
        let ring = Arc::new(Ring::new(Revision(0), 100));
        let mut cursor = Changes::new(ring.clone(), Revision(0));
        ring.reset(Revision(7));
        assert!(cursor.next(10).await.is_err());
        assert_eq!(ring.cut_off(), 0, "that is no fault of its reader");
    }

    #[tokio::test]
    async fn a_revision_that_changed_nothing_moves_a_waiting_cursor() {
        let ring = Arc::new(Ring::new(Revision(0), 1));
        let mut cursor = Changes::new(ring.clone(), Revision(0));
        ring.publish([], Revision(4));
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), cursor.next(10)).await;
        assert!(waiting.is_err());
        assert_eq!(cursor.position(), Revision(4));
    }
}
