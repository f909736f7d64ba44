//! Watches: first everything, then what changes, each with its revision. One for nodes; `people` has the other.

mod people;

use std::collections::VecDeque;
use std::time::Duration;

use futures::{StreamExt, stream};
use sheaf_consensus::Changes;
use sheaf_engine::{Change, watched};
use sheaf_model::watch::WatchItem;
use sheaf_model::{BucketName, NodeStatus};
use sheaf_wire::peer::WatchNode;
use sheaf_wire::{Answers, ApiError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Control;
use crate::place::Member;

/// Rows taken from memory at once.
const ROWS: usize = 1000;
/// Items that are made into messages at once; how many bytes a message has is for `wire` to see to.
const ITEMS: usize = 500;
/// Messages to a node are so far apart: the first change goes at once, those of a storm share messages.
const GATHER: Duration = Duration::from_millis(10);

/// One node's watch.
struct NodeWatch {
    member: Member,
    watcher: watched::Watcher,
    changes: Changes,
    ready: VecDeque<Vec<WatchItem>>,
    /// When changes were last sent.
    sent: Option<Instant>,
    /// Once it is true, what this member has is what was once.
    left: watch::Receiver<bool>,
}

impl Control {
    pub(crate) async fn watch_node(&self, ask: &WatchNode) -> Result<Answers<Vec<WatchItem>>, ApiError> {
        let member = self.member()?;
        let own = self.place.registration.borrow().as_ref().map(|registration| registration.node);
        if own == Some(ask.node) {
            self.look_whether_left(&member).await;
        }
        self.refuse_if_left()?;
        let known = {
            let state = member.replica.state();
            if state.cluster.id.as_ref() != Some(&ask.cluster) {
                return Err(ApiError::Precondition(format!("this is another cluster than {}", ask.cluster)));
            }
            state.nodes.get(&ask.node).map(|node| node.status)
        };
        let Some(status) = known else {
            // A member that lags behind does not know a node that registered just now.
            return Err(ApiError::unavailable(format!("node {} is not registered here (yet)", ask.node)));
        };
        let watcher = watched::Watcher { node: ask.node, places: ask.places.clone() };
        if status == NodeStatus::Left {
            let items: Vec<WatchItem> =
                watched::everything(&member.replica.state(), &watcher).filter(is_its_own).collect();
            return Ok(stream::once(async move { Ok(items) }).chain(stream::pending()).boxed());
        }
        let (ready, changes) = NodeWatch::from_the_start(&member, &watcher);
        let left = self.place.left.subscribe();
        let watch = NodeWatch { member, watcher, changes, ready, sent: None, left };
        let items = stream::unfold(watch, |mut watch| async move {
            let items = watch.next().await?;
            Some((Ok(items), watch))
        });
        Ok(items.boxed())
    }
}

impl NodeWatch {
    fn from_the_start(member: &Member, watcher: &watched::Watcher) -> (VecDeque<Vec<WatchItem>>, Changes) {
        let state = member.replica.state();
        let items: Vec<WatchItem> = watched::everything(&state, watcher).collect();
        let changes = member.replica.changes(state.revision);
        (items.chunks(ITEMS).map(<[WatchItem]>::to_vec).collect(), changes)
    }

    /// None: it ends.
    async fn next(&mut self) -> Option<Vec<WatchItem>> {
        loop {
            if let Some(items) = self.ready.pop_front() {
                return Some(items);
            }
            if let Some(sent) = self.sent {
                tokio::time::sleep_until(sent + GATHER).await;
            }
            let next = tokio::select! {
                // Dropping these loses nothing: a position moves when rows are handed out, and the value stays.
                next = self.changes.next(ROWS) => next,
                _ = self.left.wait_for(|left| *left) => return None,
            };
            match next {
                Ok(sets) => {
                    self.sent = Some(Instant::now());
                    let mut items: Vec<WatchItem> = (sets.iter().flat_map(|set| set.changes.iter()))
                        .filter_map(|change| watched::item(change, &self.watcher))
                        .collect();
                    if !items.is_empty() {
                        items.push(WatchItem::Synced(self.changes.position()));
                        self.ready.push_back(items);
                    }
                }
                // Too slow for what is kept in memory: from the start again. What the node has of buckets may be more by now
                // than it said: it is to ask again.
                Err(_) if self.watcher.places.is_some() => return None,
                Err(_) => (self.ready, self.changes) = Self::from_the_start(&self.member, &self.watcher),
            }
        }
    }
}

/// What a node that was forgotten must still know: that it was.
fn is_its_own(item: &WatchItem) -> bool {
    matches!(item, WatchItem::Reset | WatchItem::Settings(_) | WatchItem::Own(_) | WatchItem::Synced(_))
}

/// The bucket that a change is about.
pub(crate) fn about(change: &Change) -> Option<&BucketName> {
    match change {
        Change::Bucket(bucket) => Some(bucket.name()),
        Change::Binding(binding) => Some(&binding.bucket),
        Change::Instance(instance) => Some(&instance.bucket),
        Change::Residue(residue) => Some(&residue.bucket),
        Change::BucketGone(name)
        | Change::BindingGone(name)
        | Change::ResidueGone(name)
        | Change::InstanceGone(name, _) => Some(name),
        _ => None,
    }
}
