//! Views of buckets, to and from messages.

use sheaf_model::BucketType;
use sheaf_model::view::{
    BucketRow, BucketState, BucketStatus, DecisionView, Explanation, GateView, InstanceView, NodeExplanation,
    PurgeFailure, PurgeView, RolloutView,
};

use crate::ApiError;
use crate::change::{timestamp_of_text, timestamp_text, unknown};
use crate::proto::v1;

fn state(state: BucketState) -> i32 {
    let state = match state {
        BucketState::Placing => v1::BucketState::Placing,
        BucketState::Starting => v1::BucketState::Starting,
        BucketState::Running => v1::BucketState::Running,
        BucketState::Partial => v1::BucketState::Partial,
        BucketState::Unplaced => v1::BucketState::Unplaced,
        BucketState::Failed => v1::BucketState::Failed,
        BucketState::Suspended => v1::BucketState::Suspended,
        BucketState::Quarantined => v1::BucketState::Quarantined,
        BucketState::Stopping => v1::BucketState::Stopping,
        BucketState::WaitingForNode => v1::BucketState::WaitingForNode,
    };
    state.into()
}

fn state_from(number: i32) -> Result<BucketState, ApiError> {
    Ok(match v1::BucketState::try_from(number) {
        Ok(v1::BucketState::Placing) => BucketState::Placing,
        Ok(v1::BucketState::Starting) => BucketState::Starting,
        Ok(v1::BucketState::Running) => BucketState::Running,
        Ok(v1::BucketState::Partial) => BucketState::Partial,
        Ok(v1::BucketState::Unplaced) => BucketState::Unplaced,
        Ok(v1::BucketState::Failed) => BucketState::Failed,
        Ok(v1::BucketState::Suspended) => BucketState::Suspended,
        Ok(v1::BucketState::Quarantined) => BucketState::Quarantined,
        Ok(v1::BucketState::Stopping) => BucketState::Stopping,
        Ok(v1::BucketState::WaitingForNode) => BucketState::WaitingForNode,
        Ok(v1::BucketState::Unspecified) | Err(_) => return Err(unknown("bucket state", number)),
    })
}

fn kind(word: &str) -> i32 {
    let kinds =
        [(BucketType::Harvest, v1::BucketType::Harvest), (BucketType::Analytic, v1::BucketType::Analytic)];
    let known = kinds.into_iter().find(|(kind, _)| kind.as_str() == word);
    known.map_or(v1::BucketType::Unspecified, |(_, number)| number).into()
}

fn kind_from(number: i32) -> Result<String, ApiError> {
    let kind = match v1::BucketType::try_from(number) {
        Ok(v1::BucketType::Harvest) => BucketType::Harvest,
        Ok(v1::BucketType::Analytic) => BucketType::Analytic,
        Ok(v1::BucketType::Unspecified) | Err(_) => return Err(unknown("bucket type", number)),
    };
    Ok(kind.as_str().to_owned())
}

impl From<InstanceView> for v1::Instance {
    fn from(instance: InstanceView) -> Self {
        Self {
            node: instance.node,
            phase: instance.phase,
            epoch: instance.epoch,
            pid: instance.pid,
            started_at: instance.started_at.as_deref().and_then(timestamp_of_text),
            restarts: instance.restarts,
            message: instance.message,
            revision: instance.revision,
            node_id: instance.node_id,
        }
    }
}

impl From<v1::Instance> for InstanceView {
    fn from(instance: v1::Instance) -> Self {
        Self {
            node: instance.node,
            phase: instance.phase,
            epoch: instance.epoch,
            pid: instance.pid,
            started_at: instance.started_at.as_ref().map(timestamp_text),
            restarts: instance.restarts,
            message: instance.message,
            revision: instance.revision,
            node_id: instance.node_id,
        }
    }
}

impl From<BucketStatus> for v1::BucketStatus {
    fn from(status: BucketStatus) -> Self {
        Self {
            r#type: kind(&status.kind),
            name: status.name,
            revision: status.revision,
            module: status.module,
            multi_node: status.multi_node,
            suspended: status.suspended,
            node_list_rules: status.node_list_rules,
            node_affinity: status.node_affinity,
            affinity_epoch: status.affinity_epoch,
            affinity_since: status.affinity_since.as_deref().and_then(timestamp_of_text),
            state: state(status.state),
            desired: status.desired,
            running: status.running,
            instances: status.instances.into_iter().map(Into::into).collect(),
            owner: status.owner,
            labels: status.labels,
            message: status.message,
            rollout: status.rollout.map(Into::into),
            quarantined_until: status.quarantined_until.as_deref().and_then(timestamp_of_text),
            emergency: status.emergency,
            objects: status.objects,
            object_bytes: status.object_bytes,
            purge: status.purge.map(Into::into),
        }
    }
}

impl TryFrom<v1::BucketStatus> for BucketStatus {
    type Error = ApiError;

    fn try_from(status: v1::BucketStatus) -> Result<Self, ApiError> {
        Ok(Self {
            name: status.name,
            revision: status.revision,
            kind: kind_from(status.r#type)?,
            module: status.module,
            multi_node: status.multi_node,
            suspended: status.suspended,
            node_list_rules: status.node_list_rules,
            node_affinity: status.node_affinity,
            affinity_epoch: status.affinity_epoch,
            affinity_since: status.affinity_since.as_ref().map(timestamp_text),
            state: state_from(status.state)?,
            desired: status.desired,
            running: status.running,
            instances: status.instances.into_iter().map(Into::into).collect(),
            owner: status.owner,
            labels: status.labels,
            message: status.message,
            rollout: status.rollout.map(Into::into),
            quarantined_until: status.quarantined_until.as_ref().map(timestamp_text),
            emergency: status.emergency,
            objects: status.objects,
            object_bytes: status.object_bytes,
            purge: status.purge.map(Into::into),
        })
    }
}

impl From<RolloutView> for v1::BucketRollout {
    fn from(rollout: RolloutView) -> Self {
        let RolloutView { revision, released, nodes, waits_for, stopped } = rollout;
        Self { revision, released, nodes, waits_for, stopped }
    }
}

impl From<v1::BucketRollout> for RolloutView {
    fn from(rollout: v1::BucketRollout) -> Self {
        let v1::BucketRollout { revision, released, nodes, waits_for, stopped } = rollout;
        Self { revision, released, nodes, waits_for, stopped }
    }
}

impl From<PurgeView> for v1::PurgeStatus {
    fn from(purge: PurgeView) -> Self {
        let failed =
            purge.failed.into_iter().map(|it| v1::PurgeFailure { node: it.node, message: it.message });
        Self { revision: purge.revision, waiting: purge.waiting, failed: failed.collect() }
    }
}

impl From<v1::PurgeStatus> for PurgeView {
    fn from(purge: v1::PurgeStatus) -> Self {
        let failed =
            purge.failed.into_iter().map(|it| PurgeFailure { node: it.node, message: it.message }).collect();
        Self { revision: purge.revision, waiting: purge.waiting, failed }
    }
}

impl From<BucketRow> for v1::BucketRow {
    fn from(row: BucketRow) -> Self {
        Self {
            r#type: kind(&row.kind),
            name: row.name,
            state: state(row.state),
            module: row.module,
            multi_node: row.multi_node,
            suspended: row.suspended,
            node_affinity: row.node_affinity,
            affinity_epoch: row.affinity_epoch,
            affinity_since: row.affinity_since.as_deref().and_then(timestamp_of_text),
            desired: row.desired,
            running: row.running,
            revision: row.revision,
            owner: row.owner,
            labels: row.labels,
        }
    }
}

impl TryFrom<v1::BucketRow> for BucketRow {
    type Error = ApiError;

    fn try_from(row: v1::BucketRow) -> Result<Self, ApiError> {
        Ok(Self {
            name: row.name,
            state: state_from(row.state)?,
            kind: kind_from(row.r#type)?,
            module: row.module,
            multi_node: row.multi_node,
            suspended: row.suspended,
            node_affinity: row.node_affinity,
            affinity_epoch: row.affinity_epoch,
            affinity_since: row.affinity_since.as_ref().map(timestamp_text),
            desired: row.desired,
            running: row.running,
            revision: row.revision,
            owner: row.owner,
            labels: row.labels,
        })
    }
}

impl From<NodeExplanation> for v1::NodeExplanation {
    fn from(node: NodeExplanation) -> Self {
        let gate = |gate: GateView| v1::GateOutcome { gate: gate.gate, pass: gate.pass, reason: gate.reason };
        Self {
            node: node.node,
            status: node.status,
            eligible: node.eligible,
            running: node.running,
            gates: node.gates.into_iter().map(gate).collect(),
            obstacle: node.obstacle,
            node_id: node.node_id,
        }
    }
}

impl From<v1::NodeExplanation> for NodeExplanation {
    fn from(node: v1::NodeExplanation) -> Self {
        let gate = |gate: v1::GateOutcome| GateView { gate: gate.gate, pass: gate.pass, reason: gate.reason };
        Self {
            node: node.node,
            status: node.status,
            eligible: node.eligible,
            running: node.running,
            gates: node.gates.into_iter().map(gate).collect(),
            obstacle: node.obstacle,
            node_id: node.node_id,
        }
    }
}

impl From<Explanation> for v1::Explanation {
    fn from(explanation: Explanation) -> Self {
        let decision = |decision: DecisionView| v1::Decision {
            chosen: decision.chosen,
            epoch: decision.epoch,
            at: timestamp_of_text(&decision.at),
            why: decision.why,
            runners_up: decision.runners_up,
            chosen_id: decision.chosen_id,
        };
        Self {
            name: explanation.name,
            state: state(explanation.state),
            nodes: explanation.nodes.into_iter().map(Into::into).collect(),
            decision: explanation.decision.map(decision),
            message: explanation.message,
        }
    }
}

impl TryFrom<v1::Explanation> for Explanation {
    type Error = ApiError;

    fn try_from(explanation: v1::Explanation) -> Result<Self, ApiError> {
        let decision = |decision: v1::Decision| DecisionView {
            chosen: decision.chosen,
            epoch: decision.epoch,
            at: decision.at.as_ref().map(timestamp_text).unwrap_or_default(),
            why: decision.why,
            runners_up: decision.runners_up,
            chosen_id: decision.chosen_id,
        };
        Ok(Self {
            name: explanation.name,
            state: state_from(explanation.state)?,
            nodes: explanation.nodes.into_iter().map(Into::into).collect(),
            decision: explanation.decision.map(decision),
            message: explanation.message,
        })
    }
}
