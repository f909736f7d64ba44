//! What changes answer, and what lists have in common.

mod convert;
mod filter;

use std::pin::Pin;

use futures::Stream;
use sheaf_model::Revision;

use crate::ApiError;

pub(crate) use convert::{
    answers, page_of, timestamp, timestamp_from, timestamp_of_text, timestamp_text, unknown,
};
pub use filter::{Filter, Term};

/// What an Apply answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each document, modules first, in the order given.
    pub outcomes: Vec<Outcome>,
    /// What is allowed and yet unlikely to be meant, for people.
    pub warnings: Vec<String>,
    /// The revision of the change; the newest of its outcomes if nothing changed.
    pub revision: Revision,
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `Module flume@1.11.0` or `Bucket /logs/web`.
    pub document: String,
    /// What was done, or would be.
    pub verb: OutcomeVerb,
    /// The revision it is at now; when only validated, before.
    pub revision: Revision,
}

/// What was done with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its word")]
pub enum OutcomeVerb {
    Created,
    Updated,
    Unchanged,
}

impl OutcomeVerb {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What a change of one thing answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The revision of the change; of the last one before it if nothing changed.
    pub revision: Revision,
    /// It was so already.
    pub unchanged: bool,
    /// For people.
    pub warnings: Vec<String>,
}

/// Which part of a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOf {
    /// At most so many rows, 1 to [`PAGE_MAX`]; 0 from a client: the call's default.
    pub size: u32,
    /// Where to go on, as the page before said; empty: the start. Whoever answers the call makes and reads it.
    pub token: String,
}

/// Most rows of a page.
pub const PAGE_MAX: u32 = 1000;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the list's order.
    pub rows: Vec<T>,
    /// To go on with; empty: that was all.
    pub next: String,
}

/// Answers of a call that keeps on answering. Dropping it ends the call. Whoever makes it must bound what it holds.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, ApiError>> + Send>>;
