//! Jobs that the tests of this module show.

use serde_json::json;
use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};

/// A job that runs.
pub(crate) fn status() -> JobStatus {
    serde_json::from_value(json!({
        "name": "ndvi-2024", "id": 42, "state": "running", "priority": 50, "module": "ndvi@2", "count": 50000,
        "max_running": 500,
        "counts": {
            "waiting": 0, "ready": 26988, "running": 500, "finished": 22500, "failed": 12, "canceled": 0
        },
        "progress": 45, "rate_per_s": 812.5, "eta": "2026-01-10T12:00:34.000Z",
        "created_at": "2026-01-10T11:50:00.000Z", "started_at": "2026-01-10T11:59:00.000Z", "ended_at": null,
        "owner": "data-eng", "labels": {"team": "eo"}, "revision": 43,
        "failed_attempts": {"exit": 40, "lost": 3, "timeout": 0, "backend": 0},
        "failures": [
            {"fingerprint": "00c0ffee00c0ffee", "subtasks": 8, "message": "no such file: <path>"},
            {"fingerprint": "1234567890abcdef", "subtasks": 4, "message": "out of memory"}
        ],
        "failure_groups": 2, "message": "500 run, as many as max_running allows"
    }))
    .expect("a status")
}

/// The row that a list would show.
pub(crate) fn row(status: JobStatus) -> JobRow {
    JobRow {
        name: status.name,
        id: status.id,
        state: status.state,
        priority: status.priority,
        module: status.module,
        counts: status.counts,
        progress: status.progress,
        created_at: status.created_at,
        owner: status.owner,
        labels: status.labels,
    }
}

pub(crate) fn subtasks() -> Vec<SubtaskRow> {
    serde_json::from_value(json!([
        {
            "subtask": 0, "state": "finished", "attempt": 1, "node": "import-01", "backend": null, "priority": 50,
            "started_at": "2026-01-10T11:50:00.000Z", "ended_at": "2026-01-10T11:50:01.250Z", "exit_code": 0,
            "message": "", "fingerprint": null
        },
        {
            "subtask": 7, "state": "failed", "attempt": 3, "node": "import-02", "backend": "vito", "priority": 90,
            "started_at": "2026-01-10T11:50:00.000Z", "ended_at": "2026-01-10T11:53:00.000Z", "exit_code": 2,
            "message": "no such file: /data/T32.tif\n", "fingerprint": "00c0ffee00c0ffee"
        },
        {
            "subtask": 8, "state": "ready", "attempt": 0, "node": null, "backend": null, "priority": 50,
            "started_at": null, "ended_at": null, "exit_code": null, "message": "", "fingerprint": null
        }
    ]))
    .expect("subtasks")
}

pub(crate) fn explanation() -> JobExplanation {
    let gate =
        |gate: &str, pass: Option<bool>, reason: &str| json!({"gate": gate, "pass": pass, "reason": reason});
    let node = |name: &str, eligible: bool, rules: &str| {
        json!({
            "node": name, "status": "ready", "eligible": eligible, "running": eligible,
            "gates": [
                gate("local_config", Some(true), ""),
                gate("node_list_rules", Some(eligible), rules),
                gate("can_run_on_this_node", eligible.then_some(true), if eligible { "" } else { "not asked" })
            ],
            "obstacle": ""
        })
    };
    serde_json::from_value(json!({
        "name": "ndvi-2024", "state": "running", "subtask": subtasks()[2],
        "why": [
            "500 of its subtasks run, as many as max_running allows",
            "6,100 subtasks of 2 other jobs have a higher priority, the highest of them 90, and are ready"
        ],
        "nodes": [node("gpu-01", true, ""), node("web-01", false, "no label matches \"$gpu\"")]
    }))
    .expect("an explanation")
}
