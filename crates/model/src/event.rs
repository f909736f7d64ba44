//! Events: lines of history, and the places between them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{JobId, Revision, Timestamp};

/// One thing that happened. Ordered by revision, then by its place among those of that revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the log.
    pub revision: Revision,
    /// Place among the events of that revision, from 0; of a step, among those of the steps that are kept now.
    pub n: u32,
    /// Of what became of subtasks: which step it is.
    pub step: Option<StepPlace>,
    /// When the leader proposed what caused it.
    pub at: Timestamp,
    /// What happened: `SUBJECT.VERB`, e.g. `bucket.updated`, `bucket.bound`, `instance.running`, `node.lost`.
    pub kind: String,
    /// Of what: a bucket's path, a module, a node's name.
    pub subject: String,
    /// Who caused it.
    pub actor: String,
    /// The node concerned; may be empty.
    pub node: String,
    /// State before; may be empty.
    pub before: String,
    /// State after; may be empty.
    pub after: String,
    /// For people.
    pub message: String,
}

/// Where a step stands in what is kept of jobs, in the order of a revision's steps. It stays the same when another job
/// is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepPlace {
    /// The job.
    pub job: JobId,
    /// The place of what one command did to the job's subtasks in the job's history.
    pub piece: u64,
    /// The place of the step in that.
    pub step: u32,
}

/// A place in history: just behind something. Written `REVISION.N`, `REVISION.JOB.PIECE.STEP`, or `REVISION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The revision of what it stands behind.
    pub revision: Revision,
    /// What that is.
    pub behind: Behind,
}

/// What of a revision a cursor stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The event of this number. Former versions named steps so, too, by numbers that the deletion of a job shifts.
    Number(u32),
    /// A step, whether it is still kept or not.
    Step(StepPlace),
    /// All of it.
    All,
}

impl Cursor {
    /// Just behind an event.
    pub fn of(event: &Event) -> Self {
        let behind = event.step.map_or(Behind::Number(event.n), Behind::Step);
        Self { revision: event.revision, behind }
    }

    /// Behind all of a revision.
    pub const fn end(revision: Revision) -> Self {
        Self { revision, behind: Behind::All }
    }

    /// Whether the event comes after this place.
    pub fn is_before(&self, event: &Event) -> bool {
        self.compare(event).is_lt()
    }

    /// Whether the event comes before this place, and is not the one that it stands behind.
    pub fn is_after(&self, event: &Event) -> bool {
        self.compare(event).is_gt()
    }

    /// What it stands behind, with an event.
    fn compare(&self, event: &Event) -> Ordering {
        self.revision.cmp(&event.revision).then_with(|| match (self.behind, event.step) {
            (Behind::Number(n), _) => n.cmp(&event.n),
            (Behind::Step(step), Some(other)) => step.cmp(&other),
            // Steps come after all else that a command tells of.
            (Behind::Step(_), None) | (Behind::All, _) => Ordering::Greater,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.revision;
        match self.behind {
            Behind::Number(n) => write!(f, "{revision}.{n}"),
            Behind::Step(StepPlace { job, piece, step }) => write!(f, "{revision}.{job}.{piece}.{step}"),
            Behind::All => revision.fmt(f),
        }
    }
}

/// Why a text is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cursor")]
pub struct CursorError(String);

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        read(text).ok_or_else(|| CursorError(text.chars().take(100).collect()))
    }
}

fn read(text: &str) -> Option<Cursor> {
    // One more than there may be.
    let parts: Vec<&str> = text.split('.').take(5).collect();
    let (revision, behind) = match parts.as_slice() {
        [revision] => (revision, Behind::All),
        [revision, n] => (revision, Behind::Number(n.parse().ok()?)),
        [revision, job, piece, step] => {
            let (job, piece, step) = (JobId(job.parse().ok()?), piece.parse().ok()?, step.parse().ok()?);
            (revision, Behind::Step(StepPlace { job, piece, step }))
        }
        _ => return None,
    };
    Some(Cursor { revision: Revision(revision.parse().ok()?), behind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, n: u32, step: Option<StepPlace>) -> Event {
        Event {
            revision: Revision(revision),
            n,
            step,
            at: Timestamp(5),
            kind: "job.updated".to_owned(),
            subject: "a".to_owned(),
            actor: "cli".to_owned(),
            node: String::new(),
            before: String::new(),
            after: String::new(),
            message: String::new(),
        }
    }

    #[test]
    fn cursors_are_read_and_refused() {
        for text in ["7", "7.0", "7.3", "7.33554433", "7.3.12.0", "9.18446744073709551615.0.4294967295"] {
            let read: Cursor = text.parse().expect("a cursor");
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "x", "7.", ".1", "7.x", "-1", "7.1.1", "7.1.1.x", "7.1.1.1.1", "7.1.1.4294967296"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
        let error = "7.".repeat(1000).parse::<Cursor>().expect_err("far too long");
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn a_cursor_stands_between_two_events() {
        let step = |job: u64, piece: u64, step: u32| Some(StepPlace { job: JobId(job), piece, step });
        let events = [
            event(6, 4, None),
            event(7, 0, None),
            event(7, 3, None),
            event(7, 100, step(2, 9, 0)),
            event(7, 101, step(2, 9, 1)),
            event(7, 102, step(2, 10, 0)),
            event(7, 103, step(3, 0, 0)),
            event(8, 0, None),
        ];
        let sides = |cursor: Cursor| {
            let before = events.iter().take_while(|event| cursor.is_after(event)).count();
            let after = events.iter().rev().take_while(|event| cursor.is_before(event)).count();
            (before, after)
        };
        for (place, event) in events.iter().enumerate() {
            assert_eq!(sides(Cursor::of(event)), (place, events.len() - place - 1), "{event:?}");
        }
        let at = |text: &str| sides(text.parse().expect("a cursor"));
        assert_eq!(at("7"), (7, 1));
        assert_eq!(at("7.1"), (2, 6), "of an event that is not kept");
        assert_eq!(at("7.2.9.2"), (5, 3), "of a step that is not kept");
        assert_eq!(at("7.101"), (4, 3), "of a step by its number");
    }
}
