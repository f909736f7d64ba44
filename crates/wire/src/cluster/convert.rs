//! Questions and answers about the cluster, to and from messages.

use sheaf_model::view::{Asker, BucketCounts, ClusterStatus, JobCounts, MemberRow, NodeCounts, SnapshotHead};

use super::{AllSettings, Apply, ChangeSettings, SnapshotPart};
use crate::change::{timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::spec::{BucketMessage, bucket_request, module_request, read};
use crate::{ApiError, Caller};

pub(super) fn apply(message: v1::ApplyRequest, caller: &Caller) -> Result<Apply, ApiError> {
    let request = caller.request_id(message.request_id)?;
    if message.modules.is_empty() && message.buckets.is_empty() {
        return Err(ApiError::invalid("", "no document", "at least one of modules and buckets"));
    }
    let bucket = |document: v1::BucketDocument| BucketMessage {
        bucket: document.bucket,
        base_revision: document.base_revision,
        latest: document.latest,
        suspended: document.suspended,
    };
    let modules = message.modules.into_iter().map(Some).collect();
    let documents = read(modules, message.buckets.into_iter().map(bucket).collect())?;
    Ok(Apply {
        modules: documents.modules,
        buckets: documents.buckets,
        request,
        validate_only: message.validate_only,
        in_parts: message.in_parts,
    })
}

impl From<Apply> for v1::ApplyRequest {
    fn from(ask: Apply) -> Self {
        let bucket = |put: sheaf_model::PutBucket| v1::BucketDocument {
            bucket: Some(bucket_request(put.spec)),
            base_revision: put.base.map(|revision| revision.0),
            latest: put.latest,
            suspended: put.suspended,
        };
        Self {
            modules: ask.modules.into_iter().map(module_request).collect(),
            buckets: ask.buckets.into_iter().map(bucket).collect(),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
            validate_only: ask.validate_only,
            in_parts: ask.in_parts,
        }
    }
}

impl From<MemberRow> for v1::MemberRow {
    fn from(row: MemberRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            voter: row.voter,
            role: row.role,
            match_lag: row.match_lag,
            address: row.address,
        }
    }
}

impl From<v1::MemberRow> for MemberRow {
    fn from(row: v1::MemberRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            voter: row.voter,
            role: row.role,
            match_lag: row.match_lag,
            address: row.address,
        }
    }
}

impl From<ClusterStatus> for v1::ClusterStatus {
    fn from(status: ClusterStatus) -> Self {
        let (nodes, buckets, jobs) = (status.nodes, status.buckets, status.jobs);
        Self {
            cluster: status.cluster,
            leader: status.leader,
            term: status.term,
            commit: status.commit,
            revision: status.revision,
            members: status.members.into_iter().map(Into::into).collect(),
            nodes: Some(v1::NodeCounts { ready: nodes.ready, lost: nodes.lost, draining: nodes.draining }),
            buckets: Some(buckets.into()),
            jobs: Some(v1::JobCounts {
                running: jobs.running,
                paused: jobs.paused,
                finished: jobs.finished,
                failed: jobs.failed,
                canceled: jobs.canceled,
                subtasks_ready: jobs.subtasks_ready,
            }),
            fault_tolerance: status.fault_tolerance,
            message: status.message,
            secured: status.secured,
            asker: status.asker.map(Into::into),
        }
    }
}

impl From<BucketCounts> for v1::BucketCounts {
    fn from(counts: BucketCounts) -> Self {
        Self {
            running: counts.running,
            partial: counts.partial,
            unplaced: counts.unplaced,
            suspended: counts.suspended,
            failed: counts.failed,
            other: counts.other,
            placing: counts.placing,
            starting: counts.starting,
            stopping: counts.stopping,
            quarantined: counts.quarantined,
            waiting_for_node: counts.waiting_for_node,
        }
    }
}

impl From<v1::BucketCounts> for BucketCounts {
    fn from(counts: v1::BucketCounts) -> Self {
        Self {
            running: counts.running,
            partial: counts.partial,
            unplaced: counts.unplaced,
            suspended: counts.suspended,
            failed: counts.failed,
            other: counts.other,
            placing: counts.placing,
            starting: counts.starting,
            stopping: counts.stopping,
            quarantined: counts.quarantined,
            waiting_for_node: counts.waiting_for_node,
        }
    }
}

impl From<Asker> for v1::Asker {
    fn from(asker: Asker) -> Self {
        Self { name: asker.name, role: asker.role, prefix: asker.prefix }
    }
}

impl From<v1::Asker> for Asker {
    fn from(asker: v1::Asker) -> Self {
        Self { name: asker.name, role: asker.role, prefix: asker.prefix }
    }
}

impl From<v1::ClusterStatus> for ClusterStatus {
    fn from(status: v1::ClusterStatus) -> Self {
        let nodes = status.nodes.unwrap_or_default();
        let buckets = status.buckets.unwrap_or_default();
        let jobs = status.jobs.unwrap_or_default();
        Self {
            cluster: status.cluster,
            leader: status.leader,
            term: status.term,
            commit: status.commit,
            revision: status.revision,
            members: status.members.into_iter().map(Into::into).collect(),
            nodes: NodeCounts { ready: nodes.ready, lost: nodes.lost, draining: nodes.draining },
            buckets: buckets.into(),
            jobs: JobCounts {
                running: jobs.running,
                paused: jobs.paused,
                finished: jobs.finished,
                failed: jobs.failed,
                canceled: jobs.canceled,
                subtasks_ready: jobs.subtasks_ready,
            },
            fault_tolerance: status.fault_tolerance,
            message: status.message,
            secured: status.secured,
            asker: status.asker.map(Into::into),
        }
    }
}

pub(super) fn settings(message: v1::SettingsRequest, caller: &Caller) -> Result<ChangeSettings, ApiError> {
    let changes = message.changes.into_iter().map(|setting| (setting.key, setting.value)).collect();
    Ok(ChangeSettings { changes, request: caller.request_id(message.request_id)? })
}

fn setting((key, value): (String, String)) -> v1::Setting {
    v1::Setting { key, value }
}

impl From<ChangeSettings> for v1::SettingsRequest {
    fn from(ask: ChangeSettings) -> Self {
        let changes = ask.changes.into_iter().map(setting).collect();
        Self { changes, request_id: ask.request.map(|id| id.0).unwrap_or_default() }
    }
}

impl From<AllSettings> for v1::SettingsResponse {
    fn from(all: AllSettings) -> Self {
        let settings = all.settings.into_iter().map(setting).collect();
        Self { change: all.done.map(Into::into), settings }
    }
}

impl From<v1::SettingsResponse> for AllSettings {
    fn from(answer: v1::SettingsResponse) -> Self {
        let settings = answer.settings.into_iter().map(|setting| (setting.key, setting.value)).collect();
        Self { done: answer.change.map(Into::into), settings }
    }
}

impl From<SnapshotPart> for v1::SnapshotPart {
    fn from(part: SnapshotPart) -> Self {
        let part = match part {
            SnapshotPart::Head(head) => v1::snapshot_part::Part::Head(head.into()),
            SnapshotPart::Data(bytes) => v1::snapshot_part::Part::Data(bytes),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<v1::SnapshotPart> for SnapshotPart {
    type Error = ApiError;

    fn try_from(message: v1::SnapshotPart) -> Result<Self, ApiError> {
        match message.part {
            Some(v1::snapshot_part::Part::Head(head)) => Ok(Self::Head(head.into())),
            Some(v1::snapshot_part::Part::Data(bytes)) => Ok(Self::Data(bytes)),
            None => Err(ApiError::Internal("a part of a snapshot that is empty".to_owned())),
        }
    }
}

impl From<SnapshotHead> for v1::SnapshotHead {
    fn from(head: SnapshotHead) -> Self {
        Self {
            cluster: head.cluster,
            cluster_epoch: head.cluster_epoch,
            revision: head.revision,
            nodes: head.nodes,
            modules: head.modules,
            buckets: head.buckets,
            node: head.node,
            version: head.version,
            taken_at: timestamp_of_text(&head.taken_at),
            bytes: head.bytes,
        }
    }
}

impl From<v1::SnapshotHead> for SnapshotHead {
    fn from(head: v1::SnapshotHead) -> Self {
        Self {
            cluster: head.cluster,
            cluster_epoch: head.cluster_epoch,
            revision: head.revision,
            nodes: head.nodes,
            modules: head.modules,
            buckets: head.buckets,
            node: head.node,
            version: head.version,
            taken_at: head.taken_at.as_ref().map(timestamp_text).unwrap_or_default(),
            bytes: head.bytes,
        }
    }
}
