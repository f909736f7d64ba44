//! Questions and answers about nodes, to and from messages.

use sheaf_model::view::{AffinityRow, NodeDetail, NodeFacts, NodeRow};
use sheaf_model::{BucketName, Defect};

use super::{Affinity, LabelNode, Labelled, ListNodes};
use crate::change::{page_of, timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::{ApiError, Caller, Filter, PAGE_MAX, Page};

const KEYS: &[&str] = &["name", "hostname", "status", "voter", "label"];
/// Most labels that are given and taken away by one call.
const LABELS_MAX: usize = 1_000;

/// The name or number of a node.
pub(super) fn node(text: String) -> Result<String, ApiError> {
    if text.is_empty() {
        return Err(ApiError::invalid("name", "no node is named", "a node's name or number"));
    }
    Ok(text)
}

impl From<NodeRow> for v1::NodeRow {
    fn from(row: NodeRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            hostname: row.hostname,
            address: row.address,
            status: row.status,
            voter: row.voter,
            leader: row.leader,
            labels: row.labels,
            allowed_modules: row.allowed_modules,
            version: row.version,
            cpu: row.cpu,
            memory_used: row.memory_used,
            memory_total: row.memory_total,
            load: row.load,
            buckets: row.buckets,
            since: timestamp_of_text(&row.since),
        }
    }
}

impl From<v1::NodeRow> for NodeRow {
    fn from(row: v1::NodeRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            hostname: row.hostname,
            address: row.address,
            status: row.status,
            voter: row.voter,
            leader: row.leader,
            labels: row.labels,
            allowed_modules: row.allowed_modules,
            version: row.version,
            cpu: row.cpu,
            memory_used: row.memory_used,
            memory_total: row.memory_total,
            load: row.load,
            buckets: row.buckets,
            since: row.since.as_ref().map(timestamp_text).unwrap_or_default(),
        }
    }
}

impl From<NodeDetail> for v1::NodeDetail {
    fn from(detail: NodeDetail) -> Self {
        let facts = detail.facts;
        Self {
            row: Some(detail.row.into()),
            facts: Some(v1::NodeFacts {
                allow: facts.allow,
                deny: facts.deny,
                config_labels: facts.config_labels,
                given_labels: facts.given_labels,
                disk_available: facts.disk_available,
                late_timers: facts.late_timers,
                full_queues: facts.full_queues.into_iter().collect(),
                notes: facts.notes,
                reason: facts.reason,
                seen: facts.seen,
            }),
            affinity: detail.affinity.into_iter().map(Into::into).collect(),
            subtasks: detail.subtasks,
        }
    }
}

impl TryFrom<v1::NodeDetail> for NodeDetail {
    type Error = ApiError;

    fn try_from(detail: v1::NodeDetail) -> Result<Self, ApiError> {
        let row = detail.row.ok_or_else(|| ApiError::Internal("the answer has no row".to_owned()))?;
        let facts = detail.facts.unwrap_or_default();
        Ok(Self {
            row: row.into(),
            facts: NodeFacts {
                allow: facts.allow,
                deny: facts.deny,
                config_labels: facts.config_labels,
                given_labels: facts.given_labels,
                disk_available: facts.disk_available,
                late_timers: facts.late_timers,
                full_queues: facts.full_queues.into_iter().collect(),
                notes: facts.notes,
                reason: facts.reason,
                seen: facts.seen,
            },
            affinity: detail.affinity.into_iter().map(Into::into).collect(),
            subtasks: detail.subtasks,
        })
    }
}

impl From<AffinityRow> for v1::AffinityRow {
    fn from(row: AffinityRow) -> Self {
        Self {
            bucket: row.bucket,
            node: row.node,
            hostname: row.hostname,
            epoch: row.epoch,
            since: row.since.as_deref().and_then(timestamp_of_text),
            phase: row.phase,
            why: row.why,
            multi_node: row.multi_node,
            node_id: row.node_id,
        }
    }
}

impl From<v1::AffinityRow> for AffinityRow {
    fn from(row: v1::AffinityRow) -> Self {
        Self {
            bucket: row.bucket,
            node: row.node,
            hostname: row.hostname,
            epoch: row.epoch,
            since: row.since.as_ref().map(timestamp_text),
            phase: row.phase,
            why: row.why,
            multi_node: row.multi_node,
            node_id: row.node_id,
        }
    }
}

pub(super) fn list(message: v1::ListNodesRequest) -> Result<ListNodes, ApiError> {
    Ok(ListNodes {
        page: page_of(message.page_size, message.page_token, PAGE_MAX)?,
        filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)?,
    })
}

impl From<ListNodes> for v1::ListNodesRequest {
    fn from(ask: ListNodes) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<Page<NodeRow>> for v1::ListNodesResponse {
    fn from(page: Page<NodeRow>) -> Self {
        Self { nodes: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<v1::ListNodesResponse> for Page<NodeRow> {
    fn from(page: v1::ListNodesResponse) -> Self {
        Self { rows: page.nodes.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

pub(super) fn affinity(message: v1::AffinityRequest) -> Result<Affinity, ApiError> {
    Ok(Affinity {
        node: (!message.node.is_empty()).then_some(message.node),
        bucket: match message.bucket.as_str() {
            "" => None,
            text => {
                Some(BucketName::new(text).map_err(|e| ApiError::invalid("bucket", e.problem, e.remedy))?)
            }
        },
        page: page_of(message.page_size, message.page_token, PAGE_MAX)?,
    })
}

impl From<Affinity> for v1::AffinityRequest {
    fn from(ask: Affinity) -> Self {
        let node = ask.node.unwrap_or_default();
        let bucket = ask.bucket.map(|name| name.as_str().to_owned()).unwrap_or_default();
        Self { node, page_size: ask.page.size, page_token: ask.page.token, bucket }
    }
}

impl From<Page<AffinityRow>> for v1::AffinityResponse {
    fn from(page: Page<AffinityRow>) -> Self {
        Self { rows: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<v1::AffinityResponse> for Page<AffinityRow> {
    fn from(page: v1::AffinityResponse) -> Self {
        Self { rows: page.rows.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

pub(super) fn label(message: v1::LabelNodeRequest, caller: &Caller) -> Result<LabelNode, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let mut defects = Vec::new();
    if message.add.len() + message.remove.len() > LABELS_MAX {
        let problem = format!("{} labels", message.add.len() + message.remove.len());
        return Err(ApiError::invalid("add", problem, format!("at most {LABELS_MAX} at a time")));
    }
    for (field, labels) in [("add", &message.add), ("remove", &message.remove)] {
        for (index, label) in labels.iter().enumerate() {
            let problem = if label.trim().is_empty() {
                "an empty label".to_owned()
            } else if label.chars().any(|c| c.is_control() || c == ',') {
                format!("label {label:?} has a comma or a control character")
            } else if label.len() > 100 {
                format!("a label of {} bytes", label.len())
            } else {
                continue;
            };
            defects.push(Defect::new(
                format!("{field}[{index}]"),
                problem,
                "at most 100 bytes, like gpu or zone=a",
            ));
        }
    }
    if message.add.is_empty() && message.remove.is_empty() {
        defects.push(Defect::new("add", "no label to give or take away", "at least one"));
    }
    let node = node(message.name)?;
    if !defects.is_empty() {
        return Err(ApiError::Invalid(defects));
    }
    Ok(LabelNode { node, add: message.add, remove: message.remove, request })
}

impl From<LabelNode> for v1::LabelNodeRequest {
    fn from(ask: LabelNode) -> Self {
        let request_id = ask.request.map(|id| id.0).unwrap_or_default();
        Self { name: ask.node, add: ask.add, remove: ask.remove, request_id }
    }
}

impl From<Labelled> for v1::LabelNodeResponse {
    fn from(labelled: Labelled) -> Self {
        Self { change: Some(labelled.done.into()), labels: labelled.labels }
    }
}

impl From<v1::LabelNodeResponse> for Labelled {
    fn from(labelled: v1::LabelNodeResponse) -> Self {
        Self { done: labelled.change.unwrap_or_default().into(), labels: labelled.labels }
    }
}
