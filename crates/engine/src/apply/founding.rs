//! A cluster that goes on from an earlier state as another one, after a disaster.
//!
//! What the state says of its last moments may be wrong: it may be older than what was acknowledged, and what ran then may
//! have been moved since. So nothing of it counts as known that nodes could contradict. Every binding ends; whoever calls
//! this has waited until no lease of the former cluster holds. Every instance is started anew, from this state. Revisions
//! and node numbers go on far beyond any that the former cluster may have given out after this state was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::{BucketName, ClusterEpoch, Node, NodeId, NodeStatus, Revision};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Refound, Refusal, Reply};
use crate::state::{Bucket, Cluster};

/// Revisions that one founding may give out before the next one's begin: four thousand million.
const REVISIONS: u32 = 32;
/// Node numbers skipped: more than may have been given out since the state was taken.
const NODES: u64 = 10_000;

impl Transaction<'_> {
    pub(super) fn refound(&mut self, refound: &Refound) -> Result<Reply, Refusal> {
        let present = self.state.cluster.id.clone().unwrap_or_default();
        if !refound.cluster.succeeds(&present) {
            let wanted = &refound.cluster;
            return Err(Refusal::Conflict(format!("cluster {wanted} does not succeed {present}")));
        }
        let epoch = refound.cluster.founding();
        if epoch > ClusterEpoch::MAX {
            return Err(Refusal::Precondition(format!("no cluster epoch is above {}", ClusterEpoch::MAX)));
        }
        self.revision = self.revision.max(Revision(epoch.0.saturating_mul(1 << REVISIONS)));
        self.state.revision = self.revision;
        let cluster = &self.state.cluster;
        self.put(Change::Cluster(Cluster {
            id: Some(refound.cluster.clone()),
            epoch,
            former: None,
            nodes_ever: cluster.nodes_ever.saturating_add(NODES),
            ..cluster.clone()
        }));
        self.event(Line::new("cluster.refounded", &refound.cluster).went(present, &refound.cluster));
        self.end_single_work();
        self.lose_nodes();
        self.restart_all();
        self.leave_residues(refound.may_be_behind);
        Ok(Reply::Done(self.revision))
    }

    fn end_single_work(&mut self) {
        let bound: Vec<BucketName> = self.state.bindings.keys().cloned().collect();
        for bucket in bound {
            self.put(Change::BindingGone(bucket));
        }
        let single = self.state.instances.iter().flat_map(|(bucket, nodes)| {
            let single = nodes.values().filter(|instance| instance.epoch.is_some());
            single.map(move |instance| (bucket.clone(), instance.node))
        });
        let single: Vec<(BucketName, NodeId)> = single.collect();
        for (bucket, node) in single {
            self.put(Change::InstanceGone(bucket, node));
        }
    }

    /// Nobody is connected: each is as good as lost until it is heard of.
    fn lose_nodes(&mut self) {
        let alive: Vec<Node> =
            self.state.nodes.values().filter(|node| node.status.is_alive()).cloned().collect();
        for node in alive {
            self.lose_attempts(node.id);
            self.put(Change::Node(Node {
                status: NodeStatus::Lost,
                since: self.proposal.at,
                reason: "the cluster was founded anew".to_owned(),
                revision: self.revision,
                ..node
            }));
        }
    }

    /// What a node confirmed in the former cluster says nothing of what it ran afterwards.
    fn leave_residues(&mut self, may_be_behind: bool) {
        let single = self.state.buckets.values().filter(|bucket| !bucket.current.spec.multi_node);
        let single = single.filter(|_| may_be_behind).map(|bucket| bucket.name().clone());
        let names: BTreeSet<BucketName> = self.state.residues.keys().cloned().chain(single).collect();
        for name in names {
            self.end_multi_node(&name);
        }
    }

    fn restart_all(&mut self) {
        let buckets: Vec<Arc<Bucket>> = self.state.buckets.values().cloned().collect();
        for bucket in buckets {
            self.put(Change::Bucket(Arc::new(Bucket {
                restarted: self.revision,
                revision: self.revision,
                gave_up: BTreeMap::new(),
                ..(*bucket).clone()
            })));
        }
    }
}
