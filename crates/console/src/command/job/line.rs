//! Where a job stands, in a line.

use sheaf_model::view::JobStatus;
use sheaf_model::{JobState, SubtaskCounts, Timestamp};

use crate::text::{one_line, thousands};
use crate::when;

/// Groups of failures in a line.
const GROUPS_MAX: usize = 3;
/// Longest message of a group of failures in a line.
const MESSAGE_MAX: usize = 40;

/// What a state means, in half a sentence.
pub(crate) const fn about(state: JobState) -> &'static str {
    match state {
        JobState::Running => "subtasks of it can still run",
        JobState::Paused => "nothing new of it is started",
        JobState::Finished => "all its subtasks finished",
        JobState::Failed => "all its subtasks ended, not all of them well",
        JobState::Canceled => "it, or a part of it, was canceled",
    }
}

/// `ndvi running 45%: 22,500 finished, 12 failed, 500 running; 812.0/s, 34s left; 8 failed: no such file; 4 failed otherwise`
pub(super) fn line(status: &JobStatus, now: Timestamp) -> String {
    let counts = counted(&status.counts);
    let mut line = format!("{} {} {}%: {counts}", status.name, status.state.as_str(), status.progress);
    if !status.state.is_over() {
        let pace = pace(status, now);
        if !pace.is_empty() {
            line.push_str("; ");
            line.push_str(&pace);
        }
    }
    let groups = &status.failures[..status.failures.len().min(GROUPS_MAX)];
    for group in groups {
        let message: String = one_line(&group.message).chars().take(MESSAGE_MAX).collect();
        line.push_str(&format!("; {} failed: {message}", thousands(group.subtasks)));
    }
    let others = status.counts.failed.saturating_sub(groups.iter().map(|group| group.subtasks).sum());
    if !groups.is_empty() && others > 0 {
        line.push_str(&format!("; {} failed otherwise", thousands(others)));
    }
    line
}

/// `812.0/s, 34s left`; empty if nothing is known.
pub(crate) fn pace(status: &JobStatus, now: Timestamp) -> String {
    let rate = (status.rate_per_s > 0.0).then(|| format!("{:.1}/s", status.rate_per_s));
    let left = status.eta.as_deref().and_then(|eta| humantime::parse_rfc3339(eta).ok());
    let left = left.map(|eta| format!("{} left", when::span(now.until(Timestamp::from_system(eta)))));
    rate.into_iter().chain(left).collect::<Vec<_>>().join(", ")
}

/// The counts that are not zero, what is over first.
pub(crate) fn counted(counts: &SubtaskCounts) -> String {
    let all = [
        (counts.finished, "finished"),
        (counts.failed, "failed"),
        (counts.canceled, "canceled"),
        (counts.running, "running"),
        (counts.ready, "ready"),
        (counts.waiting, "waiting"),
    ];
    let said = all.iter().filter(|(count, _)| *count > 0);
    let said: Vec<String> = said.map(|(count, word)| format!("{} {word}", thousands(*count))).collect();
    if said.is_empty() { "no subtasks".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::output::recorded::NOW;

    #[test]
    fn a_line_says_what_counts() {
        let status = example::status();
        assert_eq!(
            line(&status, NOW),
            "ndvi-2024 running 45%: 22,500 finished, 12 failed, 500 running, 26,988 ready; 812.5/s, 34s left; \
             8 failed: no such file: <path>; 4 failed: out of memory"
        );
        let mut many = status.clone();
        many.counts.failed = 1_500;
        many.failures.extend(many.failures.clone());
        let told = line(&many, NOW);
        assert!(told.ends_with("; 8 failed: no such file: <path>; 1,480 failed otherwise"), "{told}");
        let over = JobStatus { state: JobState::Finished, failures: Vec::new(), ..status };
        assert_eq!(
            line(&over, NOW),
            "ndvi-2024 finished 45%: 22,500 finished, 12 failed, 500 running, 26,988 ready"
        );
        assert_eq!(counted(&SubtaskCounts::default()), "no subtasks");
    }
}
