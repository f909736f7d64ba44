//! Answers of changes, pages and times, to and from messages.

use sheaf_model::{Revision, Timestamp};

use super::{Applied, Done, Outcome, OutcomeVerb, PAGE_MAX, PageOf};
use crate::ApiError;
use crate::probe::Probe;
use crate::proto::v1;

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> Self {
        let verb = match outcome.verb {
            OutcomeVerb::Created => v1::OutcomeVerb::Created,
            OutcomeVerb::Updated => v1::OutcomeVerb::Updated,
            OutcomeVerb::Unchanged => v1::OutcomeVerb::Unchanged,
        };
        Self { document: outcome.document, verb: verb.into(), revision: outcome.revision.0 }
    }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = ApiError;

    fn try_from(outcome: v1::Outcome) -> Result<Self, ApiError> {
        let verb = match outcome.verb() {
            v1::OutcomeVerb::Created => OutcomeVerb::Created,
            v1::OutcomeVerb::Updated => OutcomeVerb::Updated,
            v1::OutcomeVerb::Unchanged => OutcomeVerb::Unchanged,
            v1::OutcomeVerb::Unspecified => return Err(unknown("outcome", outcome.verb)),
        };
        Ok(Self { document: outcome.document, verb, revision: Revision(outcome.revision) })
    }
}

impl From<Applied> for v1::ApplyResponse {
    fn from(applied: Applied) -> Self {
        Self {
            outcomes: applied.outcomes.into_iter().map(Into::into).collect(),
            warnings: applied.warnings,
            revision: applied.revision.0,
        }
    }
}

impl TryFrom<v1::ApplyResponse> for Applied {
    type Error = ApiError;

    fn try_from(applied: v1::ApplyResponse) -> Result<Self, ApiError> {
        Ok(Self {
            outcomes: applied.outcomes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            warnings: applied.warnings,
            revision: Revision(applied.revision),
        })
    }
}

impl From<Done> for v1::ChangeResponse {
    fn from(done: Done) -> Self {
        Self { revision: done.revision.0, unchanged: done.unchanged, warnings: done.warnings }
    }
}

impl From<v1::ChangeResponse> for Done {
    fn from(done: v1::ChangeResponse) -> Self {
        Self { revision: Revision(done.revision), unchanged: done.unchanged, warnings: done.warnings }
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![Probe::answer::<v1::ApplyResponse, Applied>(), Probe::plain::<v1::ChangeResponse, Done>()]
}

/// An answer that this version does not know.
pub(crate) fn unknown(what: &str, number: i32) -> ApiError {
    ApiError::Internal(format!("the answer has {what} {number}, which this version does not know"))
}

/// Which part of a list; `default` rows if the client leaves the size open.
pub(crate) fn page_of(size: u32, token: String, default: u32) -> Result<PageOf, ApiError> {
    const TOKEN_MAX: usize = 1024;
    if size > PAGE_MAX {
        return Err(ApiError::invalid("page_size", format!("{size}"), format!("at most {PAGE_MAX}")));
    }
    if token.len() > TOKEN_MAX {
        let problem = format!("a token of {} bytes", token.len());
        return Err(ApiError::invalid("page_token", problem, "next_page_token of the answer before"));
    }
    Ok(PageOf { size: if size == 0 { default } else { size }, token })
}

/// A time as messages have it.
pub(crate) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let nanos = (time.0 % 1000) as i32 * 1_000_000;
    prost_types::Timestamp { seconds: i64::try_from(time.0 / 1000).unwrap_or(i64::MAX), nanos }
}

/// A time from a message; before 1970 becomes 1970, finer than milliseconds is cut off.
pub(crate) fn timestamp_from(time: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let millis = u64::try_from(time.nanos / 1_000_000).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(millis))
}

/// A time as views have it, RFC 3339, to a message; none if it is no time.
pub(crate) fn timestamp_of_text(text: &str) -> Option<prost_types::Timestamp> {
    text.parse().ok()
}

/// A time as views have it from a message.
pub(crate) fn timestamp_text(time: &prost_types::Timestamp) -> String {
    timestamp_from(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_milliseconds() {
        for millis in [0, 1, 999, 1_700_000_000_123] {
            let time = Timestamp(millis);
            assert_eq!(timestamp_from(&timestamp(time)), time);
            let read = timestamp_of_text(&time.to_string()).expect("RFC 3339");
            assert_eq!(timestamp_text(&read), time.to_string());
        }
        let before = prost_types::Timestamp { seconds: -1, nanos: -5 };
        assert_eq!(timestamp_from(&before), Timestamp(0));
    }

    #[test]
    fn changes_survive_the_way() {
        let outcome = |verb| Outcome { document: "Bucket /a".to_owned(), verb, revision: Revision(7) };
        let verbs = [OutcomeVerb::Created, OutcomeVerb::Updated, OutcomeVerb::Unchanged];
        let applied = Applied {
            outcomes: verbs.into_iter().map(outcome).collect(),
            warnings: vec!["odd".to_owned()],
            revision: Revision(9),
        };
        assert_eq!(Applied::try_from(v1::ApplyResponse::from(applied.clone())), Ok(applied));
        let strange = v1::Outcome { verb: 99, ..v1::Outcome::default() };
        assert!(matches!(Outcome::try_from(strange), Err(ApiError::Internal(_))));
        let done = Done { revision: Revision(3), unchanged: true, warnings: Vec::new() };
        assert_eq!(Done::from(v1::ChangeResponse::from(done.clone())), done);
    }
}
