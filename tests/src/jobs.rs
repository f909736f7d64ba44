//! Jobs that tests submit, and what becomes of them.

use std::time::Duration;

use serde_json::Value;

use crate::{Cluster, wait_for};

/// Long enough for a job of thousands of subtasks on a slow machine.
const OVER_WITHIN: Duration = Duration::from_secs(120);

/// A job; `more` are further fields.
pub fn job(name: &str, module: &str, more: &str) -> String {
    format!("kind: Job\nname: {name}\nmodule: {module}\n{more}\n")
}

/// Submits a job.
///
/// # Panics
/// If it is refused.
pub fn submit(cluster: &Cluster, document: &str) {
    cluster.cli_with(&["job", "submit", "-f", "-"], document.as_bytes()).ok();
}

/// The status of a job.
///
/// # Panics
/// If it does not exist.
pub fn status(cluster: &Cluster, name: &str) -> Value {
    cluster.json(&["job", "status", name, "-o", "json"])
}

/// Waits until a job is over, and gives its status.
///
/// # Panics
/// If that takes too long.
pub fn over(cluster: &Cluster, name: &str) -> Value {
    over_within(cluster, name, OVER_WITHIN)
}

/// The same with a time.
///
/// # Panics
/// If it takes longer.
pub fn over_within(cluster: &Cluster, name: &str, within: Duration) -> Value {
    wait_for(&format!("job {name} is over"), within, || {
        let status = cluster.try_json(&["job", "status", name, "-o", "json"])?;
        match status["state"].as_str() {
            Some("finished" | "failed" | "canceled") => Ok(status),
            _ => Err(format!("{status:#}")),
        }
    })
}

/// What comes soon.
///
/// # Panics
/// If it does not.
pub fn soon<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    wait_for(what, Duration::from_secs(30), || look().ok_or_else(|| "not yet".to_owned()))
}
