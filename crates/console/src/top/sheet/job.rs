//! Jobs: the list, and one with its failures, subtasks, attempts, and what keeps it from running.

use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{JobName, Timestamp};

use super::super::ask::{AttemptRow, Rows};
use super::super::screen::Place;
use super::{Body, Grid, Sheet, Target, ago, bucket};
use crate::command::job::{counted, pace};
use crate::table::{Column, Listed};
use crate::{text, when};

/// Columns of a bar that shows how far a job is.
const BAR: u64 = 40;

/// Those there are, newest first.
pub(super) fn list(part: &Rows<JobRow>, now: Timestamp) -> Sheet {
    let grid = Grid::part(part, now, |row| {
        (JobName::new(&row.name).ok().map(|name| Target::Place(Place::Job(name))), Vec::new())
    });
    let empty = "no jobs yet; submit one: sheaf job submit -f FILE".to_owned();
    Sheet { body: Body::Table(grid), empty, ..Sheet::default() }
}

/// How far it is, how fast, and what failed, by what failed alike.
pub(super) fn failures(status: &JobStatus, now: Timestamp) -> Sheet {
    let over = status.state.is_over();
    let failed = &status.failed_attempts;
    let classes = [
        (failed.exit, "exit"),
        (failed.lost, "lost"),
        (failed.timeout, "timeout"),
        (failed.backend, "backend"),
        (failed.refused, "refused for good"),
    ];
    let classes = classes.iter().filter(|(count, _)| *count > 0);
    let classes: Vec<String> =
        classes.map(|(count, class)| format!("{} {class}", text::thousands(*count))).collect();
    let pace = pace(status, now);
    let (groups, _) = status.other_failures();
    let mut head = super::facts(&[
        (
            "progress",
            format!("{} {}% of {}", bar(status.progress), status.progress, text::thousands(status.count)),
        ),
        ("subtasks", counted(&status.counts)),
        (
            "pace",
            if over {
                String::new()
            } else if pace.is_empty() {
                "nothing ended lately".to_owned()
            } else {
                pace
            },
        ),
        ("attempts failed", classes.join(", ")),
        (
            "failed alike",
            if groups > 0 {
                format!("{} groups; the largest are below", text::thousands(status.failure_groups))
            } else {
                String::new()
            },
        ),
        ("module", format!("{}, priority {}", status.module, status.priority)),
        ("at most", status.max_running.map(|most| format!("{most} at a time")).unwrap_or_default()),
        ("submitted", ago(now, Some(&status.created_at))),
        ("started", ago(now, status.started_at.as_deref())),
        ("ended", ago(now, status.ended_at.as_deref())),
        ("owner", status.owner.clone().unwrap_or_default()),
    ]);
    head.push(String::new());
    let grid = Grid::of(&status.failures, false, now, |group| {
        // Sixteen hexadecimal digits, or nothing is selected.
        let digits: String = group.fingerprint.chars().filter(char::is_ascii_hexdigit).collect();
        (Some(Target::Subtasks(format!("fingerprint = '{digits}'"))), vec![group.message.clone()])
    });
    Sheet { head, body: Body::Table(grid), empty: "no subtask has failed".to_owned(), ..Sheet::default() }
}

/// `[########............]`
fn bar(percent: u64) -> String {
    let done = usize::try_from(percent.min(100) * BAR / 100).unwrap_or_default();
    let left = usize::try_from(BAR).unwrap_or_default() - done;
    format!("[{}{}]", "#".repeat(done), ".".repeat(left))
}

/// A part of its subtasks.
pub(super) fn subtasks(place: &Place, part: &Rows<SubtaskRow>, now: Timestamp) -> Sheet {
    let grid = Grid::part(part, now, |row| {
        let target = match place {
            Place::Job(name) => Some(Target::Place(Place::Subtask(name.clone(), row.subtask))),
            _ => None,
        };
        (target, vec![row.message.clone()])
    });
    Sheet { body: Body::Table(grid), empty: "it has no subtasks".to_owned(), ..Sheet::default() }
}

/// What keeps it from running, or from running faster; then nodes by gates.
pub(super) fn why(explanation: &JobExplanation, now: Timestamp) -> Sheet {
    let mut head: Vec<String> = explanation.why.iter().map(|why| format!("- {why}")).collect();
    if head.is_empty() {
        head.push("nothing holds it up".to_owned());
    }
    head.push(String::new());
    let body = Body::Table(bucket::nodes(&explanation.nodes, now));
    Sheet { head, body, empty: "no node is asked: it is over".to_owned(), ..Sheet::default() }
}

/// Every attempt at a subtask.
pub(super) fn attempts(rows: &[AttemptRow], now: Timestamp) -> Sheet {
    let grid =
        Grid::of(rows, false, now, |row| (Some(Target::Output(row.attempt)), vec![row.message.clone()]));
    Sheet { body: Body::Table(grid), empty: "it was not tried yet".to_owned(), ..Sheet::default() }
}

impl Listed for AttemptRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("ATTEMPT").number(),
        Column::new("STATE"),
        Column::new("CLASS"),
        Column::new("NODE"),
        Column::new("BACKEND"),
        Column::new("STARTED").number(),
        Column::new("ENDED").number(),
        Column::new("EXIT").number(),
        Column::new("MESSAGE"),
    ];

    fn name(&self) -> String {
        self.attempt.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        vec![
            self.attempt.to_string(),
            self.state.clone(),
            dash(&self.class),
            dash(&self.node),
            dash(&self.backend),
            when::age_of(now, self.started_at.as_deref()),
            when::age_of(now, self.ended_at.as_deref()),
            dash(&self.exit_code),
            self.message.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_the_job_is_done() {
        assert_eq!(bar(0), format!("[{}]", ".".repeat(40)));
        assert_eq!(bar(45), format!("[{}{}]", "#".repeat(18), ".".repeat(22)));
        assert_eq!(bar(100), bar(250));
    }
}
