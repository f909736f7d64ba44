//! Why a call of a module fails.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A text for people: what is wrong, and what would be right. Made from any error by `?`, with its causes.
///
/// It is no [`Error`] itself: where it arrives nothing is left to be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    text: String,
    kind: Kind,
}

/// Whose a failure of a subtask is, and what follows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its own: it is tried again as the job says.
    Own,
    /// Its backend's.
    Backend,
    /// For good.
    Refused,
    /// Its backend asks to be left alone for so long.
    NotNow(Duration),
}

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Own }
    }
}

impl Failure {
    /// The same of a subtask whose backend refused or failed it: counted apart, and against the backend.
    pub fn of_backend(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Backend }
    }

    /// The same of a subtask that would fail again however often it is tried: it is not, whatever its job says.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Refused }
    }

    /// No failure at all: the subtask's backend has not begun it, and asks to be left alone for so long, an hour at most. The
    /// subtask is run again after that, and has not been tried by this. Of a job without backends the same as
    /// [`Failure::new`].
    pub fn not_now(pause: Duration, text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::NotNow(pause) }
    }

    /// Whether it is a backend's.
    pub const fn is_backend(&self) -> bool {
        matches!(self.kind, Kind::Backend)
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        Self::new(causes(&*error))
    }
}

/// An error with its causes, on one line; a cause that its error has already said is not said again.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
