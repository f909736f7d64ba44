//! Why a call of a module fails.

use std::error::Error;
use std::fmt;

/// A text for people: what is wrong, and what would be right. Made from any error by `?`, with its causes.
///
/// It is no [`Error`] itself: where it arrives nothing is left to be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    text: String,
    backend: bool,
}

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), backend: false }
    }
}

impl Failure {
    /// The same of a subtask whose backend refused or failed it: counted apart, and against the backend.
    pub fn of_backend(text: impl Into<String>) -> Self {
        Self { text: text.into(), backend: true }
    }

    /// Whether it is a backend's.
    pub const fn is_backend(&self) -> bool {
        self.backend
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
