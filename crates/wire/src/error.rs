//! What a call can answer instead of what was asked for.

mod status;

use sheaf_model::Defect;

pub(crate) use status::{answers, from_status, to_status};

use crate::transport::ANOTHER;

/// Why a call was not answered as asked. The same on both sides of the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// What was named does not exist. `NOT_FOUND`
    #[error("{0}")]
    NotFound(String),
    /// It changed meanwhile, or exists with other content. `ABORTED`
    #[error("{0}")]
    Conflict(String),
    /// What was sent is wrong: everything that is, at once. `INVALID_ARGUMENT`
    #[error("{}", lines(.0))]
    Invalid(Vec<Defect>),
    /// Not possible as things stand. `FAILED_PRECONDITION`
    #[error("{0}")]
    Precondition(String),
    /// No leader, a node that stops, a connection that broke. `UNAVAILABLE`
    #[error("{reason}")]
    Unavailable {
        /// For people.
        reason: String,
        /// Whether a change asked for may have been made.
        applied: Applies,
    },
    /// The deadline passed; a change may have been made. `DEADLINE_EXCEEDED`
    #[error("{0}")]
    DeadlineExceeded(String),
    /// More than is taken at a time, or sooner: it passes by itself, and nothing was changed. `RESOURCE_EXHAUSTED`
    #[error("{0}")]
    Busy(String),
    /// More than is kept, or than there is room for: somebody must ask for less, or make room. `RESOURCE_EXHAUSTED`
    #[error("{0}")]
    Exhausted(String),
    /// Nobody knows who asks: no token, or none that is valid. `UNAUTHENTICATED`
    #[error("{0}")]
    Unauthenticated(String),
    /// It is known who asks, and this is not for it. `PERMISSION_DENIED`
    #[error("{0}")]
    Forbidden(String),
    /// The other side does not know this call: another version. `UNIMPLEMENTED`
    #[error("{0}")]
    Unimplemented(String),
    /// A bug, or an answer that makes no sense. `INTERNAL`
    #[error("{0}")]
    Internal(String),
    /// Nobody answers at the address. Clients only.
    #[error("connect to {address}: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// The transport's errors, outermost first.
        why: String,
    },
}

/// Whether a change that was not answered may have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// Surely not: asking again is safe.
    No,
    /// Not known.
    Perhaps,
}

impl ApiError {
    /// Not possible now, and surely nothing was changed.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), applied: Applies::No }
    }

    /// Whether another node has answered than the one that was dialled.
    pub fn is_of_another_node(&self) -> bool {
        matches!(self, Self::Unreachable { why, .. } if why.contains(ANOTHER))
    }

    /// One defect of the field at `path`.
    pub fn invalid(path: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Invalid(vec![Defect::new(path, problem, remedy)])
    }

    /// The same, and what else is to be known. Of defects nothing is: each speaks for itself.
    #[must_use]
    pub fn but(self, more: &str) -> Self {
        let with = |text: String| format!("{text}; {more}");
        match self {
            Self::NotFound(text) => Self::NotFound(with(text)),
            Self::Conflict(text) => Self::Conflict(with(text)),
            Self::Invalid(defects) => Self::Invalid(defects),
            Self::Precondition(text) => Self::Precondition(with(text)),
            Self::Unavailable { reason, applied } => Self::Unavailable { reason: with(reason), applied },
            Self::DeadlineExceeded(text) => Self::DeadlineExceeded(with(text)),
            Self::Busy(text) => Self::Busy(with(text)),
            Self::Exhausted(text) => Self::Exhausted(with(text)),
            Self::Unauthenticated(text) => Self::Unauthenticated(with(text)),
            Self::Forbidden(text) => Self::Forbidden(with(text)),
            Self::Unimplemented(text) => Self::Unimplemented(with(text)),
            Self::Internal(text) => Self::Internal(with(text)),
            Self::Unreachable { address, why } => Self::Unreachable { address, why: with(why) },
        }
    }

    /// Whether the same call may succeed later without anything being corrected.
    pub fn can_retry(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::DeadlineExceeded(_) | Self::Busy(_) | Self::Unreachable { .. }
        )
    }
}

fn lines(defects: &[Defect]) -> String {
    defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
