//! What the leader knows of its deliveries and nobody else: how far behind each sink is, and when it is tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_model::{Revision, SinkName, Timestamp};

/// How one sink stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Everything up to here is delivered, or was not wanted.
    pub(crate) place: Revision,
    /// Events that it wants and has not got, as far as they were counted.
    pub(crate) lag: u64,
    /// When the oldest of these happened.
    pub(crate) oldest: Option<Timestamp>,
    /// In a row.
    pub(crate) failures: u32,
    /// The last one.
    pub(crate) error: Option<String>,
    /// When it is tried again.
    pub(crate) next_try: Option<Timestamp>,
}

/// All sinks that are delivered to from here. Empty on a node that does not lead.
#[derive(Debug, Default)]
pub(crate) struct Board(
    // All holds are short, and none crosses an await.
    Mutex<BTreeMap<SinkName, Standing>>,
);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SinkName, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn keep(&self, keep: impl Fn(&SinkName) -> bool) {
        self.lock().retain(|name, _| keep(name));
    }

    pub(super) fn get(&self, name: &SinkName) -> Option<Standing> {
        self.lock().get(name).cloned()
    }

    pub(super) fn change(&self, name: &SinkName, change: impl FnOnce(&mut Standing)) {
        change(self.lock().entry(name.clone()).or_default());
    }

    pub(super) fn lags(&self) -> Vec<(String, u64)> {
        self.lock().iter().map(|(name, standing)| (name.to_string(), standing.lag)).collect()
    }
}
