//! Operators take work away: from a node that is drained or forgotten, or one bucket from its node.

use sheaf_model::{BucketName, LeaveReason, Node, NodeId, NodeStatus, Residue};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{DrainNode, MoveBucket, OnBucket, Refusal, Reply};

impl Transaction<'_> {
    /// The steward moves what runs there, one by one; here it is only recorded that it shall.
    pub(super) fn drain(&mut self, ask: &DrainNode) -> Result<Reply, Refusal> {
        let node = self.node(ask.node)?.clone();
        let name = node.facts.name.clone();
        if !node.status.is_alive() {
            let status = node.status.as_str();
            return Err(Refusal::Precondition(format!(
                "node {name} is {status}; sheaf node forget {name} takes what was its"
            )));
        }
        if node.drain == Some(ask.drain) {
            return Ok(Reply::Unchanged(node.revision));
        }
        let takes_work = |other: &&Node| other.id != node.id && other.status == NodeStatus::Ready;
        if !self.state.nodes.values().any(|other| takes_work(&other)) {
            return Err(Refusal::Precondition(format!(
                "node {name} is the last that takes work: what it runs could go nowhere"
            )));
        }
        self.set_drain(Node { drain: Some(ask.drain), ..node }, NodeStatus::Draining);
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn undrain(&mut self, node: NodeId) -> Result<Reply, Refusal> {
        let node = self.node(node)?.clone();
        if node.drain.is_none() {
            return Ok(Reply::Unchanged(node.revision));
        }
        self.set_drain(Node { drain: None, ..node }, NodeStatus::Ready);
        Ok(Reply::Done(self.revision))
    }

    /// A node that is heard of takes the new status; one that is away, or on its way, when it comes.
    fn set_drain(&mut self, mut node: Node, status: NodeStatus) {
        let (id, before) = (node.id, node.status);
        node.revision = self.revision;
        if matches!(before, NodeStatus::Ready | NodeStatus::Draining) {
            node.status = status;
            node.since = self.proposal.at;
            node.reason.clear();
        }
        let (name, after) = (node.facts.name.clone(), node.status);
        let kind = if node.drain.is_some() { "node.draining" } else { "node.undrained" };
        self.put(Change::Node(node));
        self.event(Line::new(kind, name).node(id).went(before.as_str(), after.as_str()));
    }

    /// Its bindings end as those of a silent node do: fenced, and W waited. What is vouched for is what nobody else can
    /// know: that nothing multi-node of it is alive.
    pub(super) fn forget(&mut self, id: NodeId) -> Result<Reply, Refusal> {
        let node = self.node(id)?.clone();
        let name = node.facts.name.clone();
        if node.status.is_alive() {
            let status = node.status.as_str();
            return Err(Refusal::Precondition(format!(
                "node {name} is {status}; only a node that is lost is forgotten: stop its agent first"
            )));
        }
        if node.status == NodeStatus::Left {
            return Ok(Reply::Unchanged(node.revision));
        }
        let before = node.status;
        self.put(Change::Node(Node {
            status: NodeStatus::Left,
            since: self.proposal.at,
            reason: format!("forgotten by {}", self.proposal.actor),
            revision: self.revision,
            drain: None,
            ..node
        }));
        let line = Line::new("node.left", &name).node(id).went(before.as_str(), NodeStatus::Left.as_str());
        self.event(line.because("forgotten"));
        let bound = self.state.bindings.values().filter(|binding| binding.node == id);
        let bound: Vec<BucketName> = bound.map(|binding| binding.bucket.clone()).collect();
        for bucket in bound {
            self.mark_leaving(&bucket, LeaveReason::Forgotten);
        }
        self.vouch(id);
        Ok(Reply::Done(self.revision))
    }

    fn vouch(&mut self, id: NodeId) {
        self.purge_without(id);
        let residues: Vec<Residue> =
            self.state.residues.values().filter(|residue| residue.nodes.contains_key(&id)).cloned().collect();
        for mut residue in residues {
            residue.nodes.remove(&id);
            let empty = residue.nodes.is_empty();
            self.put(if empty { Change::ResidueGone(residue.bucket) } else { Change::Residue(residue) });
        }
        let multi = self
            .state
            .instances
            .iter()
            .filter(|(_, nodes)| nodes.get(&id).is_some_and(|instance| instance.epoch.is_none()));
        let multi: Vec<BucketName> = multi.map(|(bucket, _)| bucket.clone()).collect();
        for bucket in multi {
            self.put(Change::InstanceGone(bucket, id));
        }
    }

    pub(super) fn move_bucket(&mut self, ask: &MoveBucket) -> Result<Reply, Refusal> {
        let name = &ask.bucket;
        let bucket = self.bucket(&OnBucket { bucket: name.clone(), base: ask.base })?;
        let refused = |why: String| Err(Refusal::Precondition(format!("bucket {name} {why}")));
        if bucket.current.spec.multi_node {
            return refused("is multi-node: it runs on every available node".to_owned());
        }
        let Some(binding) = self.state.bindings.get(name) else {
            return refused("is bound to no node; it is placed as soon as one is available".to_owned());
        };
        if let Some(reason) = &binding.leaving {
            return refused(format!("is leaving its node already: {reason}"));
        }
        if let Some(to) = ask.to {
            let node = self.node(to)?;
            let to_name = &node.facts.name;
            if binding.node == to {
                return Ok(Reply::Unchanged(bucket.revision));
            }
            if node.status != NodeStatus::Ready {
                return refused(format!("cannot go to node {to_name}, which is {}", node.status.as_str()));
            }
            if let Some(why) = bucket.gave_up.get(&to) {
                return refused(format!("gave up on node {to_name}: {why}"));
            }
        } else {
            let takes_work = |node: &&Node| node.id != binding.node && node.status == NodeStatus::Ready;
            if !self.state.nodes.values().any(|node| takes_work(&node)) {
                let here = self.state.node_name(binding.node);
                return refused(format!("can go nowhere: no node but {here} takes work"));
            }
        }
        self.mark_leaving(name, LeaveReason::Move(ask.to));
        Ok(Reply::Done(self.revision))
    }
}
