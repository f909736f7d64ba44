//! Answers about jobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NodeExplanation;
use crate::{JobState, SubtaskCounts, SubtaskState};

/// `job list` rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct JobRow {
    pub name: String,
    pub id: u64,
    #[serde(with = "job_state")]
    pub state: JobState,
    pub priority: u8,
    pub module: String,
    pub counts: SubtaskCounts,
    pub progress: u64,
    pub created_at: String,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// `job status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct JobStatus {
    pub name: String,
    pub id: u64,
    #[serde(with = "job_state")]
    pub state: JobState,
    pub priority: u8,
    pub module: String,
    /// How many subtasks it has.
    pub count: u64,
    pub max_running: Option<u32>,
    pub counts: SubtaskCounts,
    /// Percent that is over, rounded down.
    pub progress: u64,
    /// Subtasks that finished or failed in a second: lately, not before it was last resumed or tried again; of a job that is
    /// over, on the whole.
    pub rate_per_s: f64,
    /// RFC 3339; when it is over if it goes on like this.
    pub eta: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// When anything but its subtasks last changed.
    pub revision: u64,
    /// Attempts that failed, also of subtasks that have finished since.
    pub failed_attempts: FailedAttempts,
    /// Subtasks that failed, by the fingerprint of what failed them; the largest groups, the largest first.
    pub failures: Vec<FailureGroup>,
    /// How many groups there are.
    pub failure_groups: u64,
    /// Why it is in this state, for people.
    pub message: String,
}

impl JobStatus {
    /// How many groups of failures are not among those that are named, and how many subtasks are in them.
    pub fn other_failures(&self) -> (u64, u64) {
        let named: u64 = self.failures.iter().map(|group| group.subtasks).sum();
        let more = self.failure_groups.saturating_sub(self.failures.len() as u64);
        (more, self.counts.failed.saturating_sub(named))
    }
}

/// Attempts that failed, by class, in `job status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its class")]
pub struct FailedAttempts {
    pub exit: u64,
    pub lost: u64,
    pub timeout: u64,
    pub backend: u64,
    #[serde(default)]
    pub refused: u64,
}

/// Subtasks that failed alike, in `job status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// 16 hexadecimal digits.
    pub fingerprint: String,
    /// How many.
    pub subtasks: u64,
    /// What one of them said.
    pub message: String,
}

impl FailureGroup {
    /// What is asked for all groups of a job.
    pub fn query(job: &str) -> String {
        format!(
            "SELECT fingerprint, count(*) AS subtasks, min(message) AS message FROM failures WHERE job = '{job}' \
             GROUP BY 1 ORDER BY 2 DESC"
        )
    }
}

/// `job subtasks` rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct SubtaskRow {
    /// From 0.
    pub subtask: u32,
    #[serde(with = "subtask_state")]
    pub state: SubtaskState,
    /// The last one; 0: there was none yet.
    pub attempt: u32,
    pub node: Option<String>,
    pub backend: Option<String>,
    pub priority: u8,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub exit_code: Option<i32>,
    pub message: String,
    pub fingerprint: Option<String>,
}

/// `job explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the promised fields")]
pub struct JobExplanation {
    pub name: String,
    #[serde(with = "job_state")]
    pub state: JobState,
    /// The one that was asked about, if one was.
    pub subtask: Option<SubtaskRow>,
    /// What keeps it from running, or from running faster, each in a sentence: what it depends on, what goes before it,
    /// nodes, limits, the wait for its next attempt, backends. Once it is over: what became of it.
    pub why: Vec<String>,
    /// `running`: a subtask of the job runs there. None once it is over.
    pub nodes: Vec<NodeExplanation>,
}

/// States are stored as numbers and said as words.
macro_rules! words {
    ($name:ident, $state:ty, $all:expr) => {
        mod $name {
            use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

            use super::*;

            #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
            pub(super) fn serialize<S: Serializer>(state: &$state, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(state.as_str())
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$state, D::Error> {
                let word = String::deserialize(deserializer)?;
                let known = $all.into_iter().find(|state| state.as_str() == word);
                known.ok_or_else(|| D::Error::custom(format!("{word:?} is no state")))
            }
        }
    };
}

/// Every state of a job.
const JOB_STATES: [JobState; 5] =
    [JobState::Running, JobState::Paused, JobState::Finished, JobState::Failed, JobState::Canceled];

words!(job_state, JobState, JOB_STATES);
words!(subtask_state, SubtaskState, SubtaskState::ALL);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_words() {
        let row = serde_json::json!({
            "subtask": 7, "state": "failed", "attempt": 3, "node": "n1", "backend": null, "priority": 50,
            "started_at": null, "ended_at": null, "exit_code": 2, "message": "m", "fingerprint": "00ff"
        });
        let read: SubtaskRow = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(read.state, SubtaskState::Failed);
        assert_eq!(serde_json::to_value(&read).unwrap(), row);
        let strange = serde_json::json!({"state": "flying"});
        assert!(serde_json::from_value::<SubtaskRow>(strange).is_err());
    }
}
