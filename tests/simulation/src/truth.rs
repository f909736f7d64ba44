//! What is true of the replicated state: the committed entries in their order, and what must follow from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_engine::{Change, Command, Proposal, Reply, State, invariants};
use sheaf_model::{BucketName, Epoch, NodeId, RequestId, Term};

use crate::history::History;
use crate::raft::Entry;

/// So many rows of a state are looked at for each entry, or it would be nothing but looking. Those of the small clusters of
/// the seeds have fewer: there each entry is looked at.
const ROWS_PER_ENTRY: u64 = 256;

#[derive(Debug, Default)]
pub(crate) struct Truth {
    entries: Vec<Entry>,
    pub(crate) state: State,
    /// Every binding there ever was.
    bound: BTreeMap<(BucketName, Epoch), NodeId>,
    last: BTreeMap<BucketName, (Epoch, NodeId)>,
    /// Requests that clients got an answer to that changed something.
    acknowledged: Vec<RequestId>,
    /// The last entry after which the state was looked at as a whole, and the next: each one, unless the state is large.
    looked_at: u64,
    look_at: u64,
    pub(crate) history: History,
}

/// What an entry did that nobody had applied before.
#[derive(Debug, Default)]
pub(crate) struct New {
    pub(crate) bound: Vec<(BucketName, Epoch, NodeId, bool)>,
    /// Rules of the state that are broken.
    pub(crate) broken: Vec<String>,
    /// An epoch that did not grow.
    pub(crate) shrunk: Option<String>,
    /// What changed something.
    pub(crate) done: Option<Arc<Proposal>>,
    /// An attempt of a subtask that cannot be.
    pub(crate) impossible: Option<String>,
}

impl Truth {
    /// A voter has applied the entry at `index` and is at `state` now. The error says how it differs from the others.
    pub(crate) fn applied(
        &mut self,
        index: u64,
        entry: &Entry,
        state: &State,
    ) -> Result<Option<New>, String> {
        let known = self.entries.len() as u64;
        if index > known + 1 {
            return Err(format!("applied entry {index} after {known}"));
        }
        if index <= known {
            let at = usize::try_from(index - 1).unwrap_or(usize::MAX);
            let same = self.entries.get(at).is_some_and(|it| it.is_same(entry));
            if !same {
                return Err(format!("applied another entry at {index} than the others"));
            }
            if index == known && index == self.looked_at && *state != self.state {
                return Err(format!("differs from the others at {index}"));
            }
            return Ok(None);
        }
        self.entries.push(entry.clone());
        let looks = index >= self.look_at;
        if looks {
            self.looked_at = index;
            self.look_at = index + 1 + rows(&self.state) / ROWS_PER_ENTRY;
        }
        let Some(proposal) = &entry.proposal else { return Ok(Some(New::default())) };
        let mut changes = Vec::new();
        let reply = sheaf_engine::apply(&mut self.state, entry.term, proposal, &mut changes);
        let done = matches!(reply, Reply::Done(_)).then(|| proposal.clone());
        let mut new = New { done, ..New::default() };
        if looks {
            new.broken = invariants::check(&self.state);
        }
        for change in &changes {
            if let Some(what) = self.history.read(change) {
                new.impossible.get_or_insert(what);
            }
            if let Change::Binding(binding) = change
                && binding.revision == self.state.revision
            {
                self.binds(binding.bucket.clone(), binding.epoch, binding.node, &mut new);
            }
        }
        if let Command::Grant(all) = &proposal.command {
            self.history.read_grants(all);
        }
        Ok(Some(new))
    }

    fn binds(&mut self, bucket: BucketName, epoch: Epoch, node: NodeId, new: &mut New) {
        self.bound.insert((bucket.clone(), epoch), node);
        let former = self.last.insert(bucket.clone(), (epoch, node));
        if former.is_some_and(|(former, _)| former >= epoch) {
            new.shrunk = Some(format!("{bucket} is bound under epoch {epoch} after {former:?}"));
        }
        new.bound.push((bucket, epoch, node, former.is_some_and(|(_, former)| former == node)));
    }

    /// To which node a bucket was bound under an epoch.
    pub(crate) fn bound_to(&self, bucket: &BucketName, epoch: Epoch) -> Option<NodeId> {
        self.bound.get(&(bucket.clone(), epoch)).copied()
    }

    pub(crate) fn acknowledge(&mut self, request: RequestId) {
        self.acknowledged.push(request);
    }

    /// An acknowledged request that a state does not know.
    pub(crate) fn lost_by(&self, state: &State) -> Option<&RequestId> {
        self.acknowledged.iter().find(|request| !state.request_ids.contains_key(*request))
    }

    /// The term of the last entry.
    pub(crate) fn term(&self) -> Term {
        self.entries.last().map(|entry| entry.term).unwrap_or_default()
    }

    pub(crate) fn length(&self) -> u64 {
        self.entries.len() as u64
    }
}

fn rows(state: &State) -> u64 {
    let instances: usize = state.instances.values().map(BTreeMap::len).sum();
    (state.nodes.len() + state.buckets.len() + 30 * state.jobs.len() + instances) as u64
}

impl Entry {
    fn is_same(&self, other: &Self) -> bool {
        self.term == other.term
            && match (&self.proposal, &other.proposal) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                (None, None) => true,
                _ => false,
            }
    }
}
