//! How long history is kept.

use sheaf_model::{Span, Timestamp};

use crate::error::StoreError;
use crate::store::Store;

/// How much history is kept; what exceeds either bound goes, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How old an event may become.
    pub age: Span,
    /// How many events are kept.
    pub events: u64,
}

impl Default for Retention {
    /// 30 days or 10 million events.
    fn default() -> Self {
        Self { age: Span::seconds(30 * 24 * 3600), events: 10_000_000 }
    }
}

impl Store {
    /// Drops a portion of the events that exceed `retention` at `now`, and says how many: 0 when none is left to drop.
    /// Called from time to time between writes; a portion is small, so that writing never waits long for it.
    pub fn prune(&mut self, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
        unimplemented!("{retention:?} {now}")
    }
}
