//! The bounded queues of an agent's process, and how often each was full: who waits, is refused or cut off there must be seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A queue, or another bound on what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// Public calls under way; one more is refused.
    Calls,
    /// Changes that wait for the log; one more is refused.
    Proposals,
    /// Who waits for a quorum round; one more waits before the queue.
    Reads,
    /// Rows on their way into SQLite; applying waits.
    Rows,
    /// Changes kept in memory for watchers; a watcher too slow for them is cut off, and starts with everything.
    Watches,
    /// What the leader has to say to one agent; a session that does not read is cut off, and opens anew.
    Sessions,
    /// Reports of agents on their way into the log; sessions wait.
    Reports,
    /// What happened on the node and its agent has not looked at yet; its streams wait, or the session begins anew.
    Inputs,
    /// What the agent has to say to the leader; the session begins anew.
    Messages,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Calls,
        Self::Proposals,
        Self::Reads,
        Self::Rows,
        Self::Watches,
        Self::Sessions,
        Self::Reports,
        Self::Inputs,
        Self::Messages,
    ];

    /// Its name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Proposals => "proposals",
            Self::Reads => "reads",
            Self::Rows => "rows",
            Self::Watches => "watches",
            Self::Sessions => "sessions",
            Self::Reports => "reports",
            Self::Inputs => "inputs",
            Self::Messages => "messages",
        }
    }
}

/// How often each queue was full since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub struct FullQueues([u64; Queue::ALL.len()]);

impl FullQueues {
    /// Adds so many times to one.
    #[must_use]
    pub fn with(mut self, queue: Queue, times: u64) -> Self {
        let count = &mut self.0[queue as usize];
        *count = count.saturating_add(times);
        self
    }

    /// What was counted here and there.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        other.counts().fold(self, |all, (queue, times)| all.with(queue, times))
    }

    /// How often it was full.
    pub fn times(&self, queue: Queue) -> u64 {
        self.0[queue as usize]
    }

    /// Those that were full at all.
    pub fn counts(&self) -> impl Iterator<Item = (Queue, u64)> {
        Queue::ALL.into_iter().zip(self.0).filter(|(_, times)| *times > 0)
    }
}

impl From<FullQueues> for BTreeMap<String, u64> {
    fn from(full: FullQueues) -> Self {
        full.counts().map(|(queue, times)| (queue.as_str().to_owned(), times)).collect()
    }
}

/// Of a node of another version: queues that are not known here do not count.
impl From<BTreeMap<String, u64>> for FullQueues {
    fn from(counts: BTreeMap<String, u64>) -> Self {
        let times = |queue: &Queue| counts.get(queue.as_str()).copied().unwrap_or_default();
        Queue::ALL.iter().fold(Self::default(), |full, queue| full.with(*queue, times(queue)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_full_is_told_by_name() {
        let here = FullQueues::default().with(Queue::Watches, 2);
        let all = here.and(FullQueues::default().with(Queue::Watches, 1).with(Queue::Calls, u64::MAX));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text, format!(r#"{{"calls":{},"watches":3}}"#, u64::MAX));
        assert_eq!(serde_json::from_str::<FullQueues>(&text).unwrap(), all);
        assert_eq!(all.with(Queue::Calls, 1).times(Queue::Calls), u64::MAX);
        let later: FullQueues = serde_json::from_str(r#"{"watches":1,"of a later version":4}"#).unwrap();
        assert_eq!(later.counts().collect::<Vec<_>>(), [(Queue::Watches, 1)]);
        assert!(Queue::ALL.iter().enumerate().all(|(place, queue)| *queue as usize == place));
    }
}
