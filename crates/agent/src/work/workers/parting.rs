//! How a worker's process is on its way out, and what is said of that.

use tokio::time::Instant;

use crate::runner::Ended;

/// How a process is on its way out.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) cause: Cause,
    /// How it ended.
    pub(super) ended: Option<Ended>,
    /// Nothing more is heard from it.
    pub(super) silent: bool,
    /// When that is not waited for any longer.
    pub(super) at: Option<Instant>,
    pub(super) killed: bool,
}

/// Why a process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is not needed, or its node is left.
    Dismissed,
    /// It ended by itself.
    Itself,
    /// It was never ready, and why.
    NotReady(String),
    /// It said what it should not, or nothing more.
    Wrong(String),
    /// It did not stop what it was to stop.
    Disobeyed,
}

impl Parting {
    /// One that begins: its process lives, and may have something to say.
    pub(super) const fn of(cause: Cause) -> Self {
        Self { cause, ended: None, silent: false, at: None, killed: false }
    }

    /// What is said of the end.
    pub(super) fn why(&self, ended: &Ended) -> String {
        match &self.cause {
            Cause::Wrong(why) | Cause::NotReady(why)
                if self.killed || !(why.is_empty() || ends_badly(ended)) =>
            {
                why.clone()
            }
            Cause::Disobeyed => "its worker did not stop what it was to stop, and was killed".to_owned(),
            _ => how(ended),
        }
    }
}

/// Whether its end says more than that its line broke.
fn ends_badly(ended: &Ended) -> bool {
    ended.exit.is_none_or(|exit| !exit.is_success())
}

/// How a process ended, with its last lines of output.
fn how(ended: &Ended) -> String {
    let lines: Vec<&str> = ended.message.lines().filter(|line| !line.trim().is_empty()).collect();
    let Some(exit) = ended.exit else {
        return format!("its worker could not be started: {}", lines.join("; "));
    };
    let tail = &lines[lines.len().saturating_sub(3)..];
    match tail {
        [] => format!("its worker ended: {exit}"),
        tail => format!("its worker ended: {exit}; it said last: {}", tail.join("; ")),
    }
}
