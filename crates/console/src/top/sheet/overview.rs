//! How the cluster stands, what needs attention first, and what happened.

use std::collections::VecDeque;

use sheaf_model::view::{ClusterStatus, Concern, EventRow, Level};
use sheaf_model::{BucketName, JobName, Timestamp};

use super::super::ask::{Answer, Ask};
use super::super::screen::Place;
use super::super::state::State;
use super::{Body, Grid, Sheet, Target, facts};
use crate::table::{Column, Listed};
use crate::text::count;

impl Listed for Concern {
    const COLUMNS: &'static [Column] = &[
        Column::new("LEVEL"),
        Column::new("WHAT"),
        Column::new("NAME"),
        Column::new("STATE"),
        Column::new("WHY"),
    ];

    fn name(&self) -> String {
        match self.number {
            // Several may be of one name.
            Some(number) => format!("{} {number}", self.kind),
            None => format!("{} {}", self.kind, self.subject),
        }
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            level(self.level).to_owned(),
            self.kind.to_owned(),
            self.subject.clone(),
            self.state.clone(),
            self.why.clone(),
        ]
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Act => "ACT",
        Level::Watch => "watch",
    }
}

/// The cluster in a few lines, then what needs attention, worst first.
pub(super) fn concerns(state: &State, found: &[Concern]) -> Sheet {
    let grid = Grid::of(found, false, state.now, |concern| {
        let subject = concern.subject.as_str();
        let target = match concern.kind {
            "bucket" => BucketName::new(subject).ok().map(Place::Bucket).map(Target::Place),
            "job" => JobName::new(subject).ok().map(Place::Job).map(Target::Place),
            "jobs" => Some(Target::Jobs("state=failed".to_owned())),
            // The very node: another may have the name of one that is lost.
            "node" => Some(Target::Place(Place::node(subject, concern.number.unwrap_or_default()))),
            _ => None,
        };
        (target, vec![concern.why.clone()])
    });
    let head = match state.answer(&Ask::Cluster) {
        Some(Answer::Cluster(status)) => cluster(status),
        _ => Vec::new(),
    };
    let empty = "nothing needs attention".to_owned();
    Sheet { head, body: Body::Table(grid), empty, ..Sheet::default() }
}

fn cluster(status: &ClusterStatus) -> Vec<String> {
    let ClusterStatus { nodes, buckets, jobs, .. } = status;
    let voters = status.members.iter().filter(|member| member.voter).count();
    let counted = |counts: &[(u32, &str)]| {
        let said = counts.iter().filter(|(count, _)| *count > 0);
        let said: Vec<String> = said.map(|(count, word)| format!("{count} {word}")).collect();
        if said.is_empty() { "none".to_owned() } else { said.join(", ") }
    };
    let secured =
        if status.secured { "secured" } else { "NOT secured: whoever reaches it may do everything" };
    let leader = match &status.leader {
        Some(leader) => format!("{leader}, in term {}, log at {}", status.term, status.commit),
        None => "NONE: nothing can be decided".to_owned(),
    };
    let tolerance = match status.fault_tolerance {
        0 if voters > 1 => "NONE of them may fail now".to_owned(),
        0 => "it may not fail".to_owned(),
        some => format!("{some} of them may fail"),
    };
    let mut lines = facts(&[
        ("cluster", format!("{}, {secured}", status.cluster)),
        ("leader", leader),
        ("voters", format!("{}, {tolerance}", count(voters, "voter"))),
        ("nodes", counted(&[(nodes.ready, "ready"), (nodes.lost, "LOST"), (nodes.draining, "draining")])),
        (
            "buckets",
            counted(&[
                (buckets.failed, "FAILED"),
                (buckets.unplaced, "UNPLACED"),
                (buckets.partial, "partial"),
                (buckets.waiting_for_node, "waiting_for_node"),
                (buckets.quarantined, "quarantined"),
                (buckets.running, "running"),
                (buckets.suspended, "suspended"),
                (buckets.placing, "placing"),
                (buckets.starting, "starting"),
                (buckets.stopping, "stopping"),
                (buckets.untold(), "in another state"),
            ]),
        ),
        (
            "jobs",
            counted(&[
                (jobs.running, "running"),
                (jobs.paused, "paused"),
                (jobs.failed, "failed"),
                (jobs.finished, "finished"),
                (jobs.canceled, "canceled"),
            ]),
        ),
    ]);
    lines.push(String::new());
    lines
}

/// What happened, newest first.
pub(super) fn events(found: &VecDeque<EventRow>, now: Timestamp) -> Sheet {
    let rows: Vec<EventRow> = found.iter().cloned().collect();
    let mut grid = Grid::of(&rows, false, now, |event| (subject(event), said(event)));
    // Several have one subject, and one revision.
    let mut keys = std::collections::BTreeMap::new();
    for (row, event) in grid.rows.iter_mut().zip(&rows).rev() {
        let n: &mut u32 = keys.entry(event.revision).or_default();
        row.key = format!("{}.{n}", event.revision);
        *n += 1;
    }
    Sheet { body: Body::Table(grid), empty: "nothing happened yet".to_owned(), ..Sheet::default() }
}

/// Where an event leads to: what it is about.
fn subject(event: &EventRow) -> Option<Target> {
    let place = match event.kind.split('.').next() {
        Some("bucket" | "instance") => BucketName::new(&event.subject).ok().map(Place::Bucket),
        Some("job" | "subtask") => JobName::new(&event.subject).ok().map(Place::Job),
        Some("node") => Some(Place::node(&event.subject, 0)),
        _ => None,
    };
    place.map(Target::Place)
}

fn said(event: &EventRow) -> Vec<String> {
    let change = match (event.before.as_str(), event.after.as_str()) {
        ("", "") => String::new(),
        (before, after) => format!("  {before} -> {after}"),
    };
    vec![
        format!("{}  {}  {}{change}", event.at, event.kind, event.subject),
        format!(
            "by {}{}",
            event.actor,
            if event.node.is_empty() { String::new() } else { format!(", on {}", event.node) }
        ),
        event.message.clone(),
    ]
}
