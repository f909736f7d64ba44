//! Bindings: verified decisions of the leader.

use std::sync::Arc;

use sheaf_model::{Binding, BucketName, Epoch, NodeStatus, Residue};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Bind, ConfirmResidue, Free, Leave, Refusal, Reply};

impl Transaction<'_> {
    /// Records a choice if everything it rests on still holds.
    pub(super) fn bind(&mut self, bind: &Bind) -> Result<Reply, Refusal> {
        self.in_term(bind.term)?;
        let name = &bind.bucket;
        let stale = |why: String| Err(Refusal::Stale(format!("bucket {name} {why}")));
        let Some(bucket) = self.state.buckets.get(name) else { return stale("is gone".to_owned()) };
        if bucket.is_off() {
            return stale(format!("is {}", bucket.switch_word()));
        }
        if bucket.current.spec.multi_node {
            return stale("is multi-node".to_owned());
        }
        if bucket.current.revision != bind.basis {
            let now = bucket.current.revision;
            return stale(format!("is at revision {now}; the choice was made for {}", bind.basis));
        }
        if let Some(binding) = self.state.bindings.get(name) {
            return stale(format!("is bound already, to node {}", binding.node));
        }
        if self.state.residues.contains_key(name) {
            return stale("was multi-node and not every node has given it up".to_owned());
        }
        if bucket.gave_up.contains_key(&bind.node) {
            return stale(format!("gave up on node {}", bind.node));
        }
        let node = self.node(bind.node)?;
        if node.status != NodeStatus::Ready {
            return stale(format!("was to go to node {}, which is {}", node.id, node.status.as_str()));
        }
        let epoch = Epoch::new(self.state.cluster.epoch, self.revision);
        self.put(Change::Binding(Arc::new(Binding {
            bucket: name.clone(),
            node: bind.node,
            epoch,
            since: self.proposal.at,
            revision: self.revision,
            basis: bind.basis,
            leaving: None,
            decision: bind.decision.clone(),
        })));
        let line = Line::new("bucket.bound", name).node(bind.node).went("", epoch);
        self.event(line.because(&bind.decision.why));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn leave(&mut self, leave: &Leave) -> Result<Reply, Refusal> {
        if let Some(term) = leave.term {
            self.in_term(term)?;
        }
        let binding = self.binding(&leave.bucket, leave.epoch)?;
        if binding.leaving.is_some() {
            return Ok(Reply::Unchanged(binding.revision));
        }
        self.mark_leaving(&leave.bucket, leave.reason.clone());
        Ok(Reply::Done(self.revision))
    }

    /// The only end of a binding.
    pub(super) fn free(&mut self, free: &Free) -> Result<Reply, Refusal> {
        self.in_term(free.term)?;
        let binding = self.binding(&free.bucket, free.epoch)?;
        let name = &free.bucket;
        self.put(Change::BindingGone(name.clone()));
        let own = |instance: &sheaf_model::Instance| instance.epoch == Some(free.epoch);
        let instances = self.state.instances.get(name);
        if instances.and_then(|nodes| nodes.get(&binding.node)).is_some_and(|instance| own(instance)) {
            self.put(Change::InstanceGone(name.clone(), binding.node));
        }
        let line = Line::new("bucket.freed", name).node(binding.node).went(free.epoch, "");
        self.event(line.because(&free.why));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn confirm_residue(&mut self, confirm: &ConfirmResidue) -> Result<Reply, Refusal> {
        let name = &confirm.bucket;
        let Some(residue) = self.state.residues.get(name) else { return Ok(Reply::Unchanged(self.revision)) };
        match residue.nodes.get(&confirm.node) {
            None => return Ok(Reply::Unchanged(self.revision)),
            Some(ending) if confirm.revision < *ending => {
                return Err(Refusal::Stale(format!(
                    "node {} confirms up to {}, but {name} last ended at {ending}",
                    confirm.node, confirm.revision
                )));
            }
            Some(_) => {}
        }
        let mut nodes = residue.nodes.clone();
        nodes.remove(&confirm.node);
        if nodes.is_empty() {
            self.put(Change::ResidueGone(name.clone()));
        } else {
            self.put(Change::Residue(Residue { bucket: name.clone(), nodes }));
        }
        Ok(Reply::Done(self.revision))
    }

    /// The binding a decision is about; another epoch: stale.
    fn binding(&self, name: &BucketName, epoch: Epoch) -> Result<Arc<Binding>, Refusal> {
        match self.state.bindings.get(name) {
            Some(binding) if binding.epoch == epoch => Ok(binding.clone()),
            Some(binding) => {
                Err(Refusal::Stale(format!("bucket {name} is bound under epoch {}", binding.epoch)))
            }
            None => Err(Refusal::Stale(format!("bucket {name} is not bound"))),
        }
    }
}
