//! What a screen needs to know, and the answers: what is wanted is a value, so that what is asked can follow what is seen.

use std::collections::VecDeque;

use sheaf_model::view::{
    BucketRow, BucketStatus, ClusterStatus, Concern, EventRow, Explanation, JobExplanation, JobRow,
    JobStatus, NodeDetail, NodeRow, SubtaskRow,
};
use sheaf_model::{BucketName, JobName, Selector, SubtaskState};
use sheaf_wire::Filter;
use sheaf_wire::bucket::ReleaseRow;
use sheaf_wire::event::EventFilter;
use sheaf_wire::logs::LogLine;

/// Lines of a log that are kept.
pub(super) const LINES: usize = 2000;
/// Lines that were printed before, at most, that a log begins with; of each node.
pub(super) const TAIL: u32 = 200;
/// Events that are kept.
pub(super) const EVENTS: usize = 1000;

/// Something that the cluster is asked, again and again or as a stream, for as long as it is on the screen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    /// How the cluster stands.
    Cluster,
    /// What needs attention first.
    Concerns,
    /// A part of the buckets.
    Buckets(Part),
    /// A part of the nodes.
    Nodes(Part),
    /// A part of the jobs.
    Jobs(Part),
    /// The newest events, then what happens.
    Events(EventFilter),
    /// One bucket, whenever it changes.
    Bucket(BucketName),
    /// All gates of all nodes.
    Explain(BucketName),
    /// Its revisions.
    History(BucketName),
    /// What it prints, everywhere.
    BucketLogs(BucketName),
    /// One node, and what runs there.
    Node(String),
    /// One job, whenever it changes.
    Job(JobName),
    /// A part of its subtasks.
    Subtasks(SubtasksOf),
    /// What keeps it, or a subtask of it, from running.
    Why(JobName, Option<u32>),
    /// Every attempt at a subtask.
    Attempts(JobName, u32),
    /// What an attempt prints; 0: the last one.
    Output(JobName, u32, u32),
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// At most so many rows.
    pub(super) size: u32,
    /// Where to go on; empty: the start.
    pub(super) token: String,
    /// Only these.
    pub(super) filter: Filter,
}

/// A part of a job's subtasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubtasksOf {
    pub(super) job: JobName,
    pub(super) size: u32,
    pub(super) token: String,
    pub(super) states: Vec<SubtaskState>,
    pub(super) selector: Option<Selector>,
    /// SQL over the view `subtasks`.
    pub(super) condition: Option<String>,
}

/// A try at a subtask, as a query tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct AttemptRow {
    pub(super) attempt: u32,
    pub(super) state: String,
    pub(super) class: String,
    pub(super) node: String,
    pub(super) backend: String,
    pub(super) started_at: Option<String>,
    pub(super) ended_at: Option<String>,
    pub(super) exit_code: String,
    pub(super) message: String,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Cluster(Box<ClusterStatus>),
    Concerns(Vec<Concern>),
    Buckets(Rows<BucketRow>),
    Nodes(Rows<NodeRow>),
    Jobs(Rows<JobRow>),
    Events(VecDeque<EventRow>),
    Bucket(Box<BucketStatus>),
    Explain(Box<Explanation>),
    History(Vec<ReleaseRow>),
    Lines(Lines),
    Node(Box<NodeDetail>),
    Job(Box<JobStatus>),
    Subtasks(Rows<SubtaskRow>),
    Why(Box<JobExplanation>),
    Attempts(Vec<AttemptRow>),
}

/// A part of a list as it was answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows<T> {
    pub(super) rows: Vec<T>,
    /// To go on with; empty: that was all.
    pub(super) next: String,
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lines {
    pub(super) lines: VecDeque<LogLine>,
    /// How many were dropped before the first of them.
    pub(super) dropped: u64,
    /// Nothing more will come.
    pub(super) ended: bool,
}

impl Lines {
    fn extend(&mut self, more: Self) {
        self.lines.extend(more.lines);
        let surplus = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..surplus);
        self.dropped += surplus as u64;
        self.ended = more.ended;
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// All of it, in place of what was known.
    Whole(Answer),
    /// What comes behind what was known.
    More(Answer),
}

impl Piece {
    /// What is known with it.
    pub(super) fn after(self, known: Option<Answer>) -> Answer {
        match (self, known) {
            (Self::More(Answer::Lines(more)), Some(Answer::Lines(mut lines))) => {
                lines.extend(more);
                Answer::Lines(lines)
            }
            (Self::More(Answer::Events(more)), Some(Answer::Events(mut events))) => {
                // Newest first, as they are shown.
                more.into_iter().for_each(|event| events.push_front(event));
                events.truncate(EVENTS);
                Answer::Events(events)
            }
            (Self::Whole(answer) | Self::More(answer), _) => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Timestamp;
    use sheaf_wire::logs::LogStream;

    use super::*;

    fn lines(from: usize, to: usize) -> Answer {
        let line = |n: usize| LogLine {
            node: "n1".to_owned(),
            at: Timestamp(0),
            stream: LogStream::Stdout,
            text: n.to_string(),
        };
        Answer::Lines(Lines { lines: (from..to).map(line).collect(), ..Lines::default() })
    }

    #[test]
    fn a_log_keeps_its_end_and_counts_what_is_gone() {
        let known = Piece::Whole(lines(0, LINES)).after(None);
        let Answer::Lines(log) = Piece::More(lines(LINES, LINES + 5)).after(Some(known)) else {
            panic!("a log")
        };
        assert_eq!((log.lines.len(), log.dropped, log.lines[0].text.as_str()), (LINES, 5, "5"));
        let Answer::Lines(log) = Piece::Whole(lines(0, 1)).after(Some(lines(0, 9))) else { panic!("a log") };
        assert_eq!((log.lines.len(), log.dropped), (1, 0), "a new beginning");
    }
}
