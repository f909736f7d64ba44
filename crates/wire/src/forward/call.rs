//! One call on its way, and what is said when it does not arrive.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::Class;
use super::body::Question;
use crate::caller::{ACTOR, FORWARDED, TIMEOUT, peer_actor, remote};
use crate::error::to_status;
use crate::{ApiError, Applies};

/// How long the pieces of a question may take, unless their caller says otherwise: what came of them before is forgotten
/// by then.
const PIECES_MAX: Duration = Duration::from_secs(3600);
/// Longest deadline that is kept; beyond, a call has no hurry.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What must be known of a call to carry it on.
pub(super) struct Call {
    pub(super) class: Class,
    pub(super) stream: bool,
    /// It is asked by a stream, and answered after the last of it.
    pub(super) pieces: bool,
    pub(super) parts: Parts,
    pub(super) question: Question,
    /// How often it was forwarded before.
    pub(super) hops: u32,
    pub(super) begun: Instant,
    pub(super) deadline: Instant,
    /// Asking it twice does no harm.
    pub(super) repeatable: bool,
    /// Somebody has it and has not answered.
    pub(super) asked: bool,
    /// The caller reads long headers.
    pub(super) long: bool,
}

impl Call {
    /// The request to another node: the same, one hop on.
    pub(super) fn onward(&self, body: Body) -> Request<Body> {
        let mut headers = self.parts.headers.clone();
        headers.insert(FORWARDED, HeaderValue::from(self.hops + 1));
        if !headers.contains_key(ACTOR)
            && let Ok(actor) = HeaderValue::try_from(peer_actor(remote(&self.parts.extensions)).0)
        {
            headers.insert(ACTOR, actor);
        }
        if !(self.stream || self.pieces) || headers.contains_key(TIMEOUT) {
            let left = self.deadline.saturating_duration_since(Instant::now());
            // At most eight digits.
            let left = left.as_millis().clamp(1, DEADLINE_MAX.as_millis());
            if let Ok(left) = HeaderValue::try_from(format!("{left}m")) {
                headers.insert(TIMEOUT, left);
            }
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.parts.uri.clone();
        *request.headers_mut() = headers;
        request
    }

    /// When an attempt must be over. The deadline of a question in pieces, unless its caller named it, is only for finding
    /// who answers it.
    pub(super) fn answered_by(&self) -> Instant {
        let named = !self.pieces || self.parts.headers.contains_key(TIMEOUT);
        if named { self.deadline } else { self.begun + PIECES_MAX }
    }

    /// Its deadline has come during an attempt.
    pub(super) fn late(&self) -> ApiError {
        let waited = self.begun.elapsed().as_secs_f32();
        let why = format!("no answer within {waited:.1} s");
        match (self.class, self.asked) {
            (Class::Change, true) => ApiError::DeadlineExceeded(format!(
                "{why}; the change may have been applied, or may still be"
            )),
            (_, true) => ApiError::DeadlineExceeded(why),
            (_, false) => self.unanswered(why, Applies::No),
        }
    }

    /// Nobody has answered it, and nobody is asked again.
    pub(super) fn unanswered(&self, why: String, applied: Applies) -> ApiError {
        let reason = match (self.class, applied) {
            (Class::Change, Applies::Perhaps) => format!("{why}; the change may have been applied"),
            (Class::Change, Applies::No) => format!("{why}; nothing was applied"),
            _ => why,
        };
        ApiError::Unavailable { reason, applied }
    }
}

/// What an answer ends with whose connection broke.
pub(super) fn broken_change(status: &Status) -> Status {
    let reason =
        format!("the connection to the leader broke: {}; the change may have been applied", status.message());
    to_status(ApiError::Unavailable { reason, applied: Applies::Perhaps }, false)
}

/// The same for a call that changes nothing.
pub(super) fn broken_read(status: &Status) -> Status {
    to_status(
        ApiError::unavailable(format!("the connection to the node that answers broke: {}", status.message())),
        false,
    )
}

/// A `grpc-timeout`: up to eight digits and a unit.
pub(super) fn timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout.min(DEADLINE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &str| timeout(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("13m"), Some(Duration::from_millis(13)));
        assert_eq!(read("99999999H"), Some(DEADLINE_MAX));
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "m", "123456789S", "-1S", "+1S", "1", "1x", "é"] {
            assert_eq!(HeaderValue::from_str(bad).ok().and_then(|value| timeout(&value)), None, "{bad}");
        }
    }
}
