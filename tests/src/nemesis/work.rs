//! A job under all of it: its subtasks write down by themselves which attempt began and which came to its end, and both
//! counts must agree with what the cluster says afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::World;
use crate::wait;

const NAME: &str = "counted";
/// From when all is mended until the job is over: what is left of it, and the longest wait between two tries.
const OVER_WITHIN: Duration = Duration::from_secs(300);

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Subtasks, each with one recorded success.
    pub subtasks: u32,
    /// Attempts that began, by their own lines.
    pub attempts: usize,
    /// Attempts that ended well by their own lines, but not by what the cluster heard: they were tried again.
    pub unheard: usize,
}

/// Every attempt says that it begins, and that it has done its work.
fn documents(world: &World, subtasks: u32) -> (String, String) {
    let trace = trace(world);
    let line = format!("$SHEAF_SUBTASK $SHEAF_ATTEMPT\" >> {}", trace.display());
    let module = format!(
        "kind: Module\nname: counting\nversion: '1'\nruntime: exec\nexec:\n  command: /bin/sh\n  \
         args: [-c, 'echo \"b {line} && echo \"e {line}']\n---\n"
    );
    // Nothing that goes wrong here is the subtask's own fault: it is tried until it succeeds.
    let job = format!(
        "kind: Job\nname: {NAME}\nmodule: counting\nsubtasks: {{array: 0-{}}}\n\
         retry: {{max_attempts: 1000, backoff: 100ms..2s}}\n",
        subtasks.saturating_sub(1)
    );
    (module, job)
}

fn trace(world: &World) -> PathBuf {
    world.cluster.machine().path("trace.counted")
}

/// Submits it.
pub(super) fn begin(world: &World, subtasks: u32) {
    let (module, job) = documents(world, subtasks);
    world.cluster.apply(&module);
    world.cluster.cli_with(&["job", "submit", "-f", "-"], job.as_bytes()).ok();
}

/// Waits until it is over, and reconciles.
///
/// # Errors
/// With all that is wrong.
pub(super) fn end(world: &World, subtasks: u32) -> Result<Work, String> {
    let status = wait::wait_for("the job is over", OVER_WITHIN, || {
        let status = world.cluster.try_json(&["job", "status", NAME, "-o", "json"])?;
        if status["state"] == "running" { Err(status["counts"].to_string()) } else { Ok(status) }
    });
    let mut wrong = Vec::new();
    if status["state"] != "finished" || status["counts"]["finished"] != subtasks {
        wrong.push(format!("the job: {status}"));
    }
    let recorded = recorded(world);
    if recorded.len() != subtasks as usize {
        wrong.push(format!("{} of {subtasks} subtasks are listed", recorded.len()));
    }
    let (begun, ended) = written(world, &mut wrong);
    let (mut unheard, none) = (0, BTreeSet::new());
    for (subtask, success) in &recorded {
        let began = begun.get(subtask).unwrap_or(&none);
        let ends = ended.get(subtask).unwrap_or(&none);
        if !ends.contains(success) {
            wrong.push(format!(
                "subtask {subtask}: attempt {success} is its success, and has not come to its end"
            ));
        }
        if let Some(later) = began.iter().find(|attempt| *attempt > success) {
            wrong.push(format!("subtask {subtask}: attempt {later} began, though {success} is its success"));
        }
        unheard += ends.len().saturating_sub(1);
    }
    wrong.truncate(20);
    world.cluster.cli(&["job", "delete", NAME, "--yes"]).ok();
    // What another round must not find.
    fs::remove_file(trace(world)).map_err(|error| format!("the attempts' own lines: {error}"))?;
    let attempts = begun.values().map(BTreeSet::len).sum();
    if wrong.is_empty() { Ok(Work { subtasks, attempts, unheard }) } else { Err(wrong.join("\n")) }
}

/// By subtask, the attempt that the cluster says has succeeded.
fn recorded(world: &World) -> BTreeMap<u64, u64> {
    let args = ["job", "subtasks", NAME, "--state", "finished", "--all", "-o", "json"];
    world.cluster.json(&args).as_array().into_iter().flatten().filter_map(row).collect()
}

fn row(row: &Value) -> Option<(u64, u64)> {
    Some((row["subtask"].as_u64()?, row["attempt"].as_u64()?))
}

type Attempts = BTreeMap<u64, BTreeSet<u64>>;

/// What attempts have written: those that began, and those that came to their end. None may do either twice.
fn written(world: &World, wrong: &mut Vec<String>) -> (Attempts, Attempts) {
    let text = fs::read_to_string(trace(world)).unwrap_or_default();
    let (mut begun, mut ended) = (Attempts::new(), Attempts::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["b" | "e", subtask, attempt] = words[..] else {
            wrong.push(format!("no line of an attempt: {line:?}"));
            continue;
        };
        let (Ok(subtask), Ok(attempt)) = (subtask.parse(), attempt.parse()) else { continue };
        let all = if words[0] == "b" { &mut begun } else { &mut ended };
        if !all.entry(subtask).or_default().insert(attempt) {
            wrong.push(format!("twice: {line}"));
        }
    }
    (begun, ended)
}
