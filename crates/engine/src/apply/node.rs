//! Nodes: registration, where they stand, labels.

use sheaf_model::{Defect, Node, NodeId, NodeStatus};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{LabelNode, Refusal, Register, Reply, SetNodeStatus};

/// Longest label in bytes.
const LABEL_MAX: usize = 100;

impl Transaction<'_> {
    pub(super) fn register(&mut self, register: &Register) -> Result<Reply, Refusal> {
        let name = &register.facts.name;
        let same_name = |node: &&Node| node.facts.name == *name && node.status.is_alive();
        if let Some(other) = self.state.nodes.values().filter(|n| n.key != register.key).find(same_name) {
            return Err(Refusal::Conflict(format!(
                "the name {name} is taken by node {} at {}, which is {}; give this node another name ([node] name)",
                other.id,
                other.facts.address,
                other.status.as_str()
            )));
        }
        match self.state.nodes.values().find(|node| node.key == register.key).cloned() {
            Some(node) => Ok(self.register_again(node, register)),
            None => Ok(self.register_new(register)),
        }
    }

    fn register_again(&mut self, mut node: Node, register: &Register) -> Reply {
        let id = node.id;
        if node.facts != register.facts {
            let before = std::mem::replace(&mut node.facts, register.facts.clone()).name;
            node.revision = self.revision;
            self.put(Change::Node(node));
            let name = &register.facts.name;
            let line = Line::new("node.updated", name).node(id);
            let renamed = before != *name;
            self.event(if renamed {
                line.went(&before, name).because(format!("its data directory was node {before}'s"))
            } else {
                line
            });
        }
        Reply::Registered(id)
    }

    fn register_new(&mut self, register: &Register) -> Reply {
        let mut cluster = self.state.cluster.clone();
        cluster.nodes_ever += 1;
        let id = NodeId(cluster.nodes_ever);
        self.put(Change::Cluster(cluster));
        self.put(Change::Node(Node {
            id,
            key: register.key.clone(),
            facts: register.facts.clone(),
            given_labels: Vec::new(),
            status: NodeStatus::Joining,
            since: self.proposal.at,
            reason: String::new(),
            registered: self.revision,
            revision: self.revision,
            drain: None,
            may_vote: true,
        }));
        let name = &register.facts.name;
        self.event(Line::new("node.registered", name).node(id).because(&register.facts.address));
        Reply::Registered(id)
    }

    pub(super) fn set_node_status(&mut self, set: &SetNodeStatus) -> Result<Reply, Refusal> {
        if let Some(term) = set.term {
            self.in_term(term)?;
        }
        let mut node = self.node(set.node)?.clone();
        if node.status == set.status {
            return Ok(Reply::Unchanged(node.revision));
        }
        let name = node.facts.name.clone();
        if let Some(why) = outdated(&node, set.status) {
            return Err(Refusal::Stale(format!("node {name} {why}")));
        }
        if set.status.is_alive() && !node.status.is_alive() {
            let holder = self
                .state
                .nodes
                .values()
                .find(|other| other.id != node.id && other.facts.name == name && other.status.is_alive());
            if let Some(other) = holder {
                return Err(Refusal::Conflict(format!("the name {name} is now node {}'s", other.id)));
            }
        }
        let before = node.status;
        node.status = set.status;
        node.since = self.proposal.at;
        node.reason.clone_from(&set.reason);
        node.revision = self.revision;
        self.put(Change::Node(node));
        if !set.status.is_alive() {
            self.lose_attempts(set.node);
        }
        let line = Line::new(kind_of(set.status), name).node(set.node);
        self.event(line.went(before.as_str(), set.status.as_str()).because(&set.reason));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn label_node(&mut self, label: &LabelNode) -> Result<Reply, Refusal> {
        let mut node = self.node(label.node)?.clone();
        let defects: Vec<Defect> = label.add.iter().filter_map(|text| label_defect(text)).collect();
        if !defects.is_empty() {
            return Err(Refusal::Invalid(defects));
        }
        if let Some(fixed) = label.remove.iter().find(|text| !node.given_labels.contains(text)) {
            let problem = if node.facts.labels.contains(fixed) {
                format!("label {fixed:?} comes from the node's config file and can only be removed there")
            } else {
                format!("node {} has no label {fixed:?}", node.facts.name)
            };
            return Err(Refusal::Precondition(problem));
        }
        let before = node.labels();
        node.given_labels.retain(|text| !label.remove.contains(text));
        for text in &label.add {
            if !node.given_labels.contains(text) && !node.facts.labels.contains(text) {
                node.given_labels.push(text.clone());
            }
        }
        let after = node.labels();
        if before == after {
            return Ok(Reply::Unchanged(node.revision));
        }
        node.revision = self.revision;
        let name = node.facts.name.clone();
        self.put(Change::Node(node));
        let line = Line::new("node.labeled", name).node(label.node);
        self.event(line.went(before.join(","), after.join(",")));
        Ok(Reply::Done(self.revision))
    }

    /// The node's record, or a refusal.
    pub(super) fn node(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.state.nodes.get(&id).ok_or_else(|| Refusal::NotFound("node".to_owned(), id.to_string()))
    }
}

const fn kind_of(status: NodeStatus) -> &'static str {
    match status {
        NodeStatus::Joining => "node.joining",
        NodeStatus::Ready => "node.ready",
        NodeStatus::Restarting => "node.restarting",
        NodeStatus::Draining => "node.draining",
        NodeStatus::Lost => "node.lost",
        NodeStatus::Left => "node.left",
    }
}

fn label_defect(text: &str) -> Option<Defect> {
    let bad = text.is_empty()
        || text.len() > LABEL_MAX
        || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',');
    bad.then(|| {
        Defect::new(
            "labels",
            format!("label {text:?} is no label"),
            format!("1 to {LABEL_MAX} bytes without spaces and commas, like zone=a"),
        )
    })
}

/// What an operator did to a node since a leader decided on its status; none: nothing that matters to it.
fn outdated(node: &Node, status: NodeStatus) -> Option<&'static str> {
    match (status, node.drain) {
        _ if node.status == NodeStatus::Left => Some("has left"),
        (NodeStatus::Ready, Some(_)) => Some("is being drained"),
        (NodeStatus::Draining, None) => Some("is drained no more"),
        _ => None,
    }
}
