//! History as views read it: events in pages, revisions of buckets.

use sheaf_engine::Release;
use sheaf_model::{BucketName, Event, Revision, Timestamp};

use crate::error::StoreError;
use crate::reader::Reader;

/// Which events are meant; what is none does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Exactly this subject.
    pub subject: Option<String>,
    /// Kinds that begin so, e.g. `bucket.`.
    pub kind: Option<String>,
    /// Exactly this node.
    pub node: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
}

impl Reader {
    /// Up to `limit` events after the one at `after`, oldest first. `(Revision(0), 0)` is before the first; a page's
    /// last event is where the next begins.
    pub fn events(
        &self,
        after: (Revision, u32),
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        unimplemented!("{after:?} {filter:?} {limit}")
    }

    /// Up to `limit` events before the one at `before`, or up to the newest, newest first.
    pub fn tail(
        &self,
        before: Option<(Revision, u32)>,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        unimplemented!("{before:?} {filter:?} {limit}")
    }

    /// Up to `limit` revisions of a bucket, newest first, also of one that was deleted.
    pub fn releases(&self, bucket: &BucketName, limit: usize) -> Result<Vec<Release>, StoreError> {
        unimplemented!("{bucket} {limit}")
    }

    /// What a bucket was at `revision`; none if it was not changed by that command.
    pub fn release(&self, bucket: &BucketName, revision: Revision) -> Result<Option<Release>, StoreError> {
        unimplemented!("{bucket} {revision}")
    }
}
