//! Where nodes stand, and what runs on them.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::view::{AffinityRow, NodeCounts, NodeDetail, NodeFacts, NodeRow};
use sheaf_model::{BucketName, Node, NodeId, NodeStatus, Phase};

use super::Sight;
use crate::state::Bucket;

impl<'a> Sight<'a> {
    /// The node's status for people: as recorded, or `suspect` when the leader misses heartbeats of it.
    pub fn node_status(&self, node: &Node) -> &'static str {
        let suspect =
            |sessions: &crate::sessions::Sessions| sessions.is_suspect(self.state, node.id, self.now);
        match node.status {
            NodeStatus::Ready if self.sessions.is_some_and(suspect) => "suspect",
            status => status.as_str(),
        }
    }

    /// A row of `node list`; who votes and leads is told apart, since the state does not know it, and how many `buckets` it has
    /// affinity of, which is counted for all nodes together.
    pub fn node_row(&self, node: &Node, voter: bool, leader: bool, buckets: u32) -> NodeRow {
        let load = self.sessions.map(|sessions| sessions.load(node.id)).unwrap_or_default();
        let allowed =
            if node.facts.allow.is_empty() { vec!["*".to_owned()] } else { node.facts.allow.clone() };
        let denied = node.facts.deny.iter().map(|name| format!("-{name}"));
        NodeRow {
            name: node.facts.name.to_string(),
            id: node.id.0,
            hostname: node.facts.hostname.clone(),
            address: node.facts.address.clone(),
            status: self.node_status(node).to_owned(),
            voter,
            leader,
            labels: node.labels(),
            allowed_modules: allowed.into_iter().chain(denied).collect(),
            version: node.facts.version.clone(),
            cpu: node.facts.cpu,
            memory_used: load.memory_used.0,
            memory_total: node.facts.memory_total.0,
            load: load.load,
            buckets,
            since: node.since.to_string(),
        }
    }

    /// `node status` of one node.
    pub fn node_detail(&self, node: &Node, voter: bool, leader: bool) -> NodeDetail {
        let load = self.sessions.map(|sessions| sessions.load(node.id)).unwrap_or_default();
        let affinity: Vec<AffinityRow> = self.affinity_on(node.id).collect();
        let buckets = u32::try_from(affinity.len()).unwrap_or(u32::MAX);
        NodeDetail {
            row: self.node_row(node, voter, leader, buckets),
            facts: NodeFacts {
                allow: node.facts.allow.clone(),
                deny: node.facts.deny.clone(),
                config_labels: node.facts.labels.clone(),
                given_labels: node.given_labels.clone(),
                disk_available: load.disk_available.0,
                late_timers: load.late_timers,
                full_queues: load.full_queues.into(),
                notes: node.facts.notes.clone(),
                reason: node.reason.clone(),
                seen: self.sessions.map_or(0, |sessions| sessions.seen(node.id).0),
            },
            affinity,
            subtasks: self.state.jobs.on_node(node.id),
        }
    }

    /// How many rows `node affinity` has of each node; one that has none is left out.
    pub fn affinity_counts(&self) -> BTreeMap<NodeId, u32> {
        let bound = self.state.bindings.values().map(|binding| binding.node);
        let instances = self.state.instances.iter().flat_map(|(name, nodes)| {
            let bound = self.state.bindings.get(name).map(|binding| binding.node);
            let there = nodes.iter().filter(|(_, instance)| instance.phase != Phase::Stopped);
            there.map(|(node, _)| *node).filter(move |node| bound != Some(*node))
        });
        let mut counts = BTreeMap::new();
        for node in bound.chain(instances) {
            *counts.entry(node).or_default() += 1;
        }
        counts
    }

    /// All nodes, counted by status.
    pub fn node_counts(&self) -> NodeCounts {
        let mut counts = NodeCounts::default();
        for node in self.state.nodes.values() {
            match node.status {
                NodeStatus::Ready | NodeStatus::Restarting => counts.ready += 1,
                NodeStatus::Lost => counts.lost += 1,
                NodeStatus::Draining => counts.draining += 1,
                NodeStatus::Joining | NodeStatus::Left => {}
            }
        }
        counts
    }

    /// `node affinity` of every node, by bucket and node.
    pub fn affinity(self) -> impl Iterator<Item = (NodeId, AffinityRow)> + 'a {
        let single = self.state.bindings.keys();
        let multi = self.state.instances.keys().filter(|name| !self.state.bindings.contains_key(*name));
        let names: BTreeSet<_> = single.chain(multi).collect();
        let sight = self;
        names.into_iter().flat_map(move |name| {
            let nodes = sight.nodes_of(name).into_iter();
            nodes.filter_map(move |node| Some((node, sight.affinity_row(name, node)?)))
        })
    }

    /// `node affinity NODE`.
    pub fn affinity_on(&self, node: NodeId) -> impl Iterator<Item = AffinityRow> + '_ {
        let bound = self.state.bindings.values().filter(move |b| b.node == node).map(|b| &b.bucket);
        let running = self.state.instances.iter().filter(move |(name, nodes)| {
            nodes.contains_key(&node) && self.state.bindings.get(*name).is_none_or(|b| b.node != node)
        });
        let names: BTreeSet<_> = bound.chain(running.map(|(name, _)| name)).collect();
        names.into_iter().filter_map(move |name| self.affinity_row(name, node))
    }

    /// `node affinity` of one bucket, which may be deleted: of nodes as well that have not confirmed that nothing of it is
    /// left there.
    pub fn affinity_of_bucket(&self, name: &BucketName) -> Vec<(NodeId, AffinityRow)> {
        let residue = self.state.residues.get(name).map(|residue| &residue.nodes);
        let mut nodes: BTreeSet<NodeId> = self.nodes_of(name).into_iter().collect();
        nodes.extend(residue.into_iter().flat_map(|nodes| nodes.keys()));
        let left = |node| residue.is_some_and(|nodes| nodes.contains_key(&node));
        let row = |node| {
            let mut row = self.affinity_row(name, node);
            if left(node) {
                let unconfirmed = self.unconfirmed(name, node);
                match &mut row {
                    Some(row) if row.why.is_empty() => row.why = unconfirmed.why,
                    Some(_) => {}
                    None => row = Some(unconfirmed),
                }
            }
            Some((node, row?))
        };
        nodes.into_iter().filter_map(row).collect()
    }

    /// Nobody knows whether something multi-node of it still runs there.
    fn unconfirmed(&self, name: &BucketName, node: NodeId) -> AffinityRow {
        let why = match self.state.is_alive(node) {
            true => "has not confirmed yet that nothing of it is left there".to_owned(),
            // By its number: another may have its name by now.
            false => format!("is lost; if it is gone for good, say so: sheaf node forget {node}"),
        };
        AffinityRow {
            bucket: name.to_string(),
            hostname: self.hostname(node),
            node: self.state.node_name(node),
            epoch: None,
            since: None,
            phase: Phase::Stopping.as_str().to_owned(),
            why,
            multi_node: true,
            node_id: node.0,
        }
    }

    /// Whether an instance of the bucket runs there, whatever revision.
    pub(super) fn runs_on(&self, bucket: &Bucket, node: NodeId) -> bool {
        let instance = self.state.instances.get(bucket.name()).and_then(|nodes| nodes.get(&node));
        instance.is_some_and(|instance| instance.phase == Phase::Running) && self.state.is_alive(node)
    }

    fn nodes_of(&self, name: &BucketName) -> Vec<NodeId> {
        let running = self.state.instances.get(name).into_iter().flatten().map(|(node, _)| *node);
        let bound = self.state.bindings.get(name).map(|binding| binding.node);
        let nodes: BTreeSet<NodeId> = running.chain(bound).collect();
        nodes.into_iter().collect()
    }

    fn affinity_row(&self, name: &BucketName, node: NodeId) -> Option<AffinityRow> {
        let instance = self.state.instances.get(name).and_then(|nodes| nodes.get(&node));
        let binding = self.state.bindings.get(name).filter(|binding| binding.node == node);
        let bucket = self.state.buckets.get(name);
        let multi = bucket.is_some_and(|bucket| bucket.current.spec.multi_node);
        if instance.is_none_or(|i| matches!(i.phase, Phase::Stopped)) && binding.is_none() {
            return None;
        }
        let why = match binding {
            Some(binding) => match &binding.leaving {
                Some(reason) => format!("leaving: {reason}"),
                None => binding.decision.why.clone(),
            },
            None if multi => "multi-node: available".to_owned(),
            None => String::new(),
        };
        let since = binding.map(|b| b.since).or_else(|| instance.and_then(|i| i.started_at));
        Some(AffinityRow {
            bucket: name.to_string(),
            node: self.state.node_name(node),
            hostname: self.hostname(node),
            epoch: binding.map(|binding| binding.epoch.0),
            since: since.map(|at| at.to_string()),
            phase: instance.map_or("pending", |instance| instance.phase.as_str()).to_owned(),
            why,
            multi_node: multi,
            node_id: node.0,
        })
    }
}
