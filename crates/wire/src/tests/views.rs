//! Every field of every view survives the way.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sheaf_model::Defect;
use sheaf_model::view::{
    AffinityRow, BucketRow, BucketState, BucketStatus, ClusterStatus, Explanation, ModuleRow, NodeDetail,
    NodeRow,
};

use crate::proto::v1;

const AT: &str = "2026-01-02T03:04:05.678Z";

/// The view that this JSON says, no field of which may be forgotten.
fn view<T: DeserializeOwned + Serialize>(value: &serde_json::Value) -> T {
    let view: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&view).unwrap(), *value, "the test says every field");
    view
}

fn status(state: BucketState) -> BucketStatus {
    view(&json!({
        "name": "/a", "revision": 7, "type": "analytic", "module": "flume@1", "multi_node": true,
        "suspended": true, "node_list_rules": ["a", "-b"], "node_affinity": ["h1"], "affinity_epoch": 9,
        "affinity_since": AT, "state": state.as_str(), "desired": 3, "running": 2,
        "instances": [{
            "node": "n1", "phase": "running", "epoch": 9, "pid": 77, "started_at": AT, "restarts": 4,
            "message": "m", "revision": 6, "node_id": 11
        }],
        "owner": "o", "labels": {"team": "web"}, "message": "why", "quarantined_until": AT,
        "emergency": "no licence", "objects": 3, "object_bytes": 99,
        "purge": {"revision": 6, "waiting": ["n1"], "failed": [{"node": "n2", "message": "in use"}]}
    }))
}

#[test]
fn buckets() {
    for state in BucketState::ALL {
        let status = status(state);
        assert_eq!(BucketStatus::try_from(v1::BucketStatus::from(status.clone())).unwrap(), status);
    }
    let row: BucketRow = view(&json!({
        "name": "/a", "state": "running", "type": "harvest", "module": "flume@1", "multi_node": true,
        "suspended": true, "node_affinity": ["h1"], "affinity_epoch": 9, "affinity_since": AT, "desired": 3,
        "running": 2, "revision": 7, "owner": "o", "labels": {"team": "web"}
    }));
    assert_eq!(BucketRow::try_from(v1::BucketRow::from(row.clone())).unwrap(), row);
    let bare =
        BucketRow { affinity_epoch: None, affinity_since: None, owner: None, labels: BTreeMap::new(), ..row };
    assert_eq!(BucketRow::try_from(v1::BucketRow::from(bare.clone())).unwrap(), bare);
    let strange = v1::BucketRow { state: 99, ..v1::BucketRow::from(bare) };
    assert!(BucketRow::try_from(strange).is_err());
}

#[test]
fn explanations() {
    let explanation: Explanation = view(&json!({
        "name": "/a", "state": "unplaced",
        "nodes": [{
            "node": "n1", "status": "ready", "eligible": true, "running": true,
            "gates": [
                {"gate": "local_config", "pass": true, "reason": ""},
                {"gate": "node_list_rules", "pass": false, "reason": "no"},
                {"gate": "can_run_on_this_node", "pass": null, "reason": "not asked"}
            ],
            "obstacle": "it gave up there", "node_id": 11
        }],
        "decision": {"chosen": "n1", "epoch": 9, "at": AT, "why": "w", "runners_up": ["n2"], "chosen_id": 11},
        "message": "m"
    }));
    assert_eq!(Explanation::try_from(v1::Explanation::from(explanation.clone())).unwrap(), explanation);
}

#[test]
fn nodes() {
    let row = json!({
        "name": "n1", "id": 3, "hostname": "h1", "address": "a:1", "status": "ready", "voter": true,
        "leader": true, "labels": ["gpu"], "allowed_modules": ["flume"], "version": "0.1.0", "cpu": 4,
        "memory_used": 5, "memory_total": 6, "load": 0.5, "buckets": 7, "since": AT
    });
    let node: NodeRow = view(&row);
    assert_eq!(NodeRow::from(v1::NodeRow::from(node.clone())), node);
    let affinity = json!({
        "bucket": "/a", "node": "n1", "hostname": "h1", "epoch": 9, "since": AT, "phase": "running", "why": "w",
        "multi_node": true, "node_id": 12
    });
    let affinity_row: AffinityRow = view(&affinity);
    assert_eq!(AffinityRow::from(v1::AffinityRow::from(affinity_row.clone())), affinity_row);
    let mut detail = row;
    detail["facts"] = json!({
        "allow": ["a"], "deny": ["b"], "config_labels": ["c"], "given_labels": ["d"], "disk_available": 1,
        "late_timers": 2, "full_queues": {"calls": 3, "watches": 1}, "notes": ["n"], "reason": "r", "seen": 8
    });
    detail["affinity"] = json!([affinity]);
    detail["subtasks"] = json!(9);
    let detail: NodeDetail = view(&detail);
    assert_eq!(NodeDetail::try_from(v1::NodeDetail::from(detail.clone())).unwrap(), detail);
}

#[test]
fn clusters_and_modules() {
    let status: ClusterStatus = view(&json!({
        "leader": "n1", "term": 1, "commit": 2,
        "members": [{
            "name": "n1", "id": 3, "voter": true, "role": "leader", "match_lag": 4, "address": "a:1"
        }],
        "nodes": {"ready": 5, "lost": 6, "draining": 7},
        "buckets": {
            "running": 1, "partial": 2, "unplaced": 3, "suspended": 4, "failed": 5, "other": 6, "placing": 7,
            "starting": 8, "stopping": 9, "quarantined": 10, "waiting_for_node": 11
        },
        "jobs": {"running": 1, "paused": 2, "finished": 3, "failed": 4, "canceled": 5, "subtasks_ready": 6},
        "fault_tolerance": 1, "secured": true, "cluster": "c", "revision": 8, "message": "m",
        "asker": {"name": "olaf", "role": "operator", "prefix": "/team-a/"}
    }));
    assert_eq!(ClusterStatus::from(v1::ClusterStatus::from(status.clone())), status);
    let row: ModuleRow = view(&json!({
        "name": "flume", "version": "1", "runtime": "exec", "supports_multi_node": true, "buckets": 2,
        "newest": true, "revision": 3
    }));
    assert_eq!(ModuleRow::from(v1::ModuleRow::from(row.clone())), row);
}

#[test]
fn defects() {
    let defect = Defect {
        file: "f".to_owned(),
        document: "d".to_owned(),
        path: "p".to_owned(),
        problem: "x".to_owned(),
        remedy: "y".to_owned(),
    };
    assert_eq!(Defect::from(v1::Defect::from(&defect)), defect);
}
