//! What is said of a job, or of a subtask, that is over: nothing keeps it from running, and no gate is asked about it any more.

use sheaf_engine::Job;
use sheaf_engine::job::progress::Place;
use sheaf_model::view::{FailureGroup, SubtaskRow};
use sheaf_model::{FailureClass, Span, SubtaskState};

/// Longest part of a failure's message in a sentence, in characters; the whole stands in `status`.
const MESSAGE_MAX: usize = 200;

/// Whether a subtask's state is its last, unless somebody wants it tried again.
pub(super) const fn is_over(state: SubtaskState) -> bool {
    matches!(state, SubtaskState::Finished | SubtaskState::Failed | SubtaskState::Canceled)
}

/// Of a job that is over, what memory knows of it.
pub(super) fn of_job(job: &Job) -> Vec<String> {
    let counts = job.counts();
    let mut told = Vec::new();
    if let Some(reason) = &job.canceled {
        let reason = if reason.is_empty() { "by an operator" } else { reason };
        told.push(format!("it is canceled: {reason}"));
    }
    let all = [(counts.finished, "finished"), (counts.failed, "failed"), (counts.canceled, "canceled")];
    let ended: Vec<String> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    told.push(format!("all of its {} subtasks have ended: {}", counts.total(), ended.join(", ")));
    match (job.started_at, job.ended_at) {
        (Some(started), Some(ended)) => {
            let took = Span(ended.0.saturating_sub(started.0));
            told.push(format!(
                "the first attempt was granted at {started}, the last ended at {ended}, {took} later"
            ));
        }
        (None, Some(ended)) => told.push(format!("it ended at {ended}, and none of it was ever begun")),
        (_, None) => {}
    }
    let skipped = job.progress.count(Place::Skipped);
    if skipped > 0 {
        told.push(format!(
            "{skipped} of the canceled were never begun: something that they depend on did not finish"
        ));
    }
    let failed = FailureClass::ALL.map(|class| (job.failures[class as usize], class.as_str()));
    let failed: Vec<String> = failed
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if !failed.is_empty() {
        told.push(format!(
            "attempts that failed, those that were tried again included: {}",
            failed.join(", ")
        ));
    }
    told
}

/// Of the failures of a job, each of these groups in a sentence, and that there are more of `all`.
pub(super) fn of_groups<'a>(
    job: &'a str,
    groups: &'a [FailureGroup],
    all: u64,
) -> impl Iterator<Item = String> + 'a {
    let more = all.saturating_sub(groups.len() as u64);
    let more = (more > 0).then(|| {
        format!("{more} more groups failed alike, none larger: sheaf query \"{}\"", FailureGroup::query(job))
    });
    let told = groups.iter().map(move |FailureGroup { fingerprint, subtasks, message }| {
        let said = message.lines().last().unwrap_or_default().trim();
        let said = match said.char_indices().nth(MESSAGE_MAX) {
            Some((end, _)) => format!("{}…", &said[..end]),
            None if said.is_empty() => "without a word".to_owned(),
            None => said.to_owned(),
        };
        format!(
            "{subtasks} failed alike: {said} (sheaf job subtasks {job} --where \"fingerprint = '{fingerprint}'\")"
        )
    });
    told.chain(more)
}

/// Of a subtask that is over, with how its last attempt went; `counted`: attempts that count against the limit.
pub(super) fn of_subtask(job: &Job, row: &SubtaskRow, counted: u32) -> Vec<String> {
    let node = row.node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
    let most = job.spec.retry.max_attempts;
    match row.state {
        SubtaskState::Finished => vec![format!("attempt {} finished{node}", row.attempt)],
        SubtaskState::Failed if counted >= most => vec![format!(
            "attempt {} failed{node}, and was the last of {most} that retry.max_attempts allows",
            row.attempt
        )],
        SubtaskState::Failed => vec![format!(
            "attempt {} failed{node}, in a way that retry.retry_on does not have tried again",
            row.attempt
        )],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_with_its_last_line_and_how_to_see_it() {
        let group = |message: &str| FailureGroup {
            fingerprint: "00ff".to_owned(),
            subtasks: 12,
            message: message.to_owned(),
        };
        let all = [group("starting\nno file /tmp/a7\n"), group(""), group(&"x".repeat(900))];
        assert_eq!(of_groups("ndvi", &all, 3).count(), 3);
        let told: Vec<String> = of_groups("ndvi", &all, 15).collect();
        assert!(
            told[3].starts_with("12 more groups failed alike") && told[3].contains("job = 'ndvi'"),
            "{told:?}"
        );
        let query = "(sheaf job subtasks ndvi --where \"fingerprint = '00ff'\")";
        assert_eq!(told[0], format!("12 failed alike: no file /tmp/a7 {query}"));
        assert_eq!(told[1], format!("12 failed alike: without a word {query}"));
        assert!(told[2].contains(&format!("{}… (sheaf", "x".repeat(MESSAGE_MAX))));
    }
}
