//! Why the cluster did not do what an instance asked.

use tonic::{Code, Status};

/// Why something was not done. Its text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// What follows of it.
    pub why: Why,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// What follows of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not there: the object, or the bucket itself.
    NotFound,
    /// The object is not at the version expected. Read it, and decide again.
    Conflict,
    /// What was sent is wrong.
    Invalid,
    /// This process does not run the bucket any more. It is about to be ended.
    Fenced,
    /// More than is kept, or sooner than is taken.
    Exhausted,
    /// Nobody answers just now. A retry can help; it was tried.
    Unavailable,
    /// Anything else.
    Other,
}

impl Refused {
    /// A refusal with this text.
    pub fn new(why: Why, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = match refused.why {
            Why::NotFound => Code::NotFound,
            Why::Conflict => Code::Aborted,
            Why::Invalid => Code::InvalidArgument,
            Why::Fenced => Code::FailedPrecondition,
            Why::Exhausted => Code::ResourceExhausted,
            Why::Unavailable => Code::Unavailable,
            Why::Other => Code::Internal,
        };
        Self::new(code, refused.text)
    }
}

impl From<&Status> for Refused {
    fn from(status: &Status) -> Self {
        let why = match status.code() {
            Code::NotFound => Why::NotFound,
            Code::Aborted | Code::AlreadyExists => Why::Conflict,
            Code::InvalidArgument | Code::OutOfRange => Why::Invalid,
            Code::FailedPrecondition => Why::Fenced,
            Code::ResourceExhausted => Why::Exhausted,
            Code::Unavailable | Code::DeadlineExceeded => Why::Unavailable,
            _ => Why::Other,
        };
        let text = match status.message() {
            "" => format!("gRPC status {:?}", status.code()),
            text => text.to_owned(),
        };
        Self { why, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_way() {
        let all = [
            Why::NotFound,
            Why::Conflict,
            Why::Invalid,
            Why::Fenced,
            Why::Exhausted,
            Why::Unavailable,
            Why::Other,
        ];
        for why in all {
            let refused = Refused::new(why, "no, because");
            assert_eq!(Refused::from(&Status::from(refused.clone())), refused);
        }
    }
}
