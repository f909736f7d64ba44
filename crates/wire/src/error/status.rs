//! [`ApiError`] as a gRPC status, and back.

use std::error::Error;

use prost::Message;
use sheaf_model::Defect;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::pb;

use super::{ApiError, Applies};
use crate::caller::{DETAILS_LONG, DETAILS_SHORT, NOT_APPLIED, OUTCOME};
use crate::client::{broke, caused_by, explain, never_sent};
use crate::probe::Probe;
use crate::proto::v1;

const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const DEFECTS: &str = "type.googleapis.com/sheaf.v1.Defects";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// When whoever was told that it is too much just now may ask again.
const AGAIN_IN: prost_types::Duration = prost_types::Duration { seconds: 1, nanos: 0 };
/// Longest message in bytes; details come beside it.
const MESSAGE_MAX: usize = 1 << 10;

/// `long`: the other side reads long headers.
pub(crate) fn to_status(error: ApiError, long: bool) -> Status {
    let message = shorten(&match &error {
        ApiError::Invalid(defects) => summary(defects),
        other => other.to_string(),
    });
    match error {
        ApiError::NotFound(_) => Status::not_found(message),
        ApiError::Conflict(_) => Status::aborted(message),
        ApiError::Invalid(defects) => invalid(&defects, message, long),
        ApiError::Precondition(_) => Status::failed_precondition(message),
        ApiError::Unavailable { applied: Applies::No, .. } => {
            let mut metadata = MetadataMap::new();
            metadata.insert(OUTCOME, MetadataValue::from_static(NOT_APPLIED));
            Status::with_metadata(Code::Unavailable, message, metadata)
        }
        ApiError::Unavailable { applied: Applies::Perhaps, .. } => Status::unavailable(message),
        ApiError::DeadlineExceeded(_) => Status::deadline_exceeded(message),
        ApiError::Busy(_) => busy(message),
        ApiError::Exhausted(_) => Status::resource_exhausted(message),
        ApiError::Unauthenticated(_) => Status::unauthenticated(message),
        ApiError::Forbidden(_) => Status::permission_denied(message),
        ApiError::Unimplemented(_) => Status::unimplemented(message),
        ApiError::Internal(_) => Status::internal(message),
        ApiError::Unreachable { .. } => Status::unavailable(message),
    }
}

fn summary(defects: &[Defect]) -> String {
    match defects {
        [] => "the request is not valid".to_owned(),
        [defect] => defect.to_string(),
        [first, ..] => format!("{} defects, the first: {first}", defects.len()),
    }
}

fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_MAX {
        return message.to_owned();
    }
    let mut end = MESSAGE_MAX;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} …", &message[..end])
}

fn invalid(defects: &[Defect], message: String, long: bool) -> Status {
    let limit = if long { DETAILS_LONG } else { DETAILS_SHORT };
    let (mut listed, mut violations) = (Vec::new(), Vec::new());
    let mut size = 0;
    for defect in defects {
        let (own, violation) = (v1::Defect::from(defect), violation(defect));
        // Each with its key and length.
        size += own.encoded_len() + violation.encoded_len() + 12;
        if size > limit {
            break;
        }
        listed.push(own);
        violations.push(violation);
    }
    let omitted = defects.len() - listed.len();
    if omitted > 0 {
        let description = format!("{omitted} more defects do not fit into this answer");
        violations.push(pb::bad_request::FieldViolation { description, ..Default::default() });
    }
    let own = v1::Defects { defects: listed, omitted: u32::try_from(omitted).unwrap_or(u32::MAX) };
    let details =
        vec![any(BAD_REQUEST, &pb::BadRequest { field_violations: violations }), any(DEFECTS, &own)];
    detailed(Code::InvalidArgument, message, details)
}

/// What tells a limit that passes by itself from one that does not, to any gRPC client.
fn busy(message: String) -> Status {
    let again = pb::RetryInfo { retry_delay: Some(AGAIN_IN) };
    detailed(Code::ResourceExhausted, message, vec![any(RETRY_INFO, &again)])
}

fn detailed(code: Code, message: String, details: Vec<prost_types::Any>) -> Status {
    let status = pb::Status { code: code.into(), message: message.clone(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}

fn any(type_url: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

fn violation(defect: &Defect) -> pb::bad_request::FieldViolation {
    let mut description = String::new();
    if !defect.document.is_empty() {
        description = format!("{}: ", defect.document);
    }
    description.push_str(&defect.problem);
    if !defect.remedy.is_empty() {
        description.push_str("; ");
        description.push_str(&defect.remedy);
    }
    pb::bad_request::FieldViolation { field: defect.path.clone(), description, ..Default::default() }
}

impl From<&Defect> for v1::Defect {
    fn from(defect: &Defect) -> Self {
        Self {
            file: defect.file.clone(),
            document: defect.document.clone(),
            path: defect.path.clone(),
            problem: defect.problem.clone(),
            remedy: defect.remedy.clone(),
        }
    }
}

impl From<v1::Defect> for Defect {
    fn from(defect: v1::Defect) -> Self {
        Self {
            file: defect.file,
            document: defect.document,
            path: defect.path,
            problem: defect.problem,
            remedy: defect.remedy,
        }
    }
}

/// What a status from `address` means.
pub(crate) fn from_status(address: &str, status: &Status) -> ApiError {
    if let Some(error) = from_transport(address, status) {
        return error;
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => ApiError::NotFound(message),
        Code::Aborted | Code::AlreadyExists => ApiError::Conflict(message),
        Code::InvalidArgument | Code::OutOfRange => ApiError::Invalid(defects(status)),
        Code::FailedPrecondition => ApiError::Precondition(message),
        Code::Unavailable => {
            let surely_not = status.metadata().get(OUTCOME).is_some_and(|value| value == NOT_APPLIED);
            let applied = if surely_not { Applies::No } else { Applies::Perhaps };
            ApiError::Unavailable { reason: message, applied }
        }
        Code::DeadlineExceeded => ApiError::DeadlineExceeded(message),
        Code::ResourceExhausted if detail(status, RETRY_INFO).is_some() => ApiError::Busy(message),
        Code::ResourceExhausted => ApiError::Exhausted(message),
        Code::Unauthenticated => ApiError::Unauthenticated(message),
        Code::PermissionDenied => ApiError::Forbidden(message),
        Code::Unimplemented => ApiError::Unimplemented(if message.is_empty() {
            format!("{address} does not know this call: another version of Sheaf, or not Sheaf")
        } else {
            message
        }),
        Code::Internal => ApiError::Internal(message),
        code => ApiError::Internal(format!("{code:?}: {message}")),
    }
}

/// What is made of the bytes of a refusal, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![Probe::answered(|refused: pb::Status| {
        let details = refused.encode_to_vec();
        let status = Status::with_details(Code::from(refused.code), refused.message, details.into());
        Ok(from_status("probe:7420", &status))
    })]
}

/// What went wrong on the way, as opposed to what the other side answered.
fn from_transport(address: &str, status: &Status) -> Option<ApiError> {
    let late = || ApiError::DeadlineExceeded(format!("no answer from {address} in time"));
    // The server's own timer, where no layer of ours answered before.
    if status.code() == Code::Cancelled && status.message() == TimeoutExpired(()).to_string() {
        return Some(late());
    }
    let source = status.source()?;
    if caused_by::<TimeoutExpired>(source) {
        return Some(late());
    }
    if caused_by::<tonic::ConnectError>(source) {
        return Some(ApiError::Unreachable { address: address.to_owned(), why: explain(source) });
    }
    if never_sent(source) {
        let reason = format!("the connection to {address} was closed before the call was sent");
        return Some(ApiError::unavailable(reason));
    }
    broke(source).then(|| {
        let why = explain(source);
        // What a TLS server's alert looks like to who does not speak it.
        let alerted = ["frame with invalid size", "broken pipe"].iter().any(|sign| why.contains(sign));
        let remedy = if alerted { "; if that node is secured, show it a token: sheaf login" } else { "" };
        ApiError::Unavailable {
            reason: format!("the connection to {address} broke: {why}{remedy}"),
            applied: Applies::Perhaps,
        }
    })
}

/// The detail of that type, whatever stands before the type's name.
fn detail(status: &Status, type_url: &str) -> Option<Vec<u8>> {
    let rich = pb::Status::decode(status.details()).ok()?;
    let name = type_url.rsplit('/').next();
    rich.details.into_iter().find(|any| any.type_url.rsplit('/').next() == name).map(|any| any.value)
}

fn defects(status: &Status) -> Vec<Defect> {
    let whole = || vec![Defect::new("", status.message(), "")];
    let own = detail(status, DEFECTS).and_then(|bytes| v1::Defects::decode(bytes.as_slice()).ok());
    if let Some(own) = own {
        let mut defects: Vec<Defect> = own.defects.into_iter().map(Into::into).collect();
        if own.omitted > 0 {
            defects.push(Defect::new("", format!("{} more defects", own.omitted), "correct these first"));
        }
        return if defects.is_empty() { whole() } else { defects };
    }
    let bad = detail(status, BAD_REQUEST).and_then(|bytes| pb::BadRequest::decode(bytes.as_slice()).ok());
    match bad {
        Some(bad) if !bad.field_violations.is_empty() => {
            bad.field_violations.into_iter().map(|v| Defect::new(v.field, v.description, "")).collect()
        }
        _ => whole(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(error: &ApiError, long: bool) -> ApiError {
        from_status("a:1", &to_status(error.clone(), long))
    }

    #[test]
    fn every_error_survives_the_way() {
        let text = || "what – it is".to_owned();
        let defects = vec![
            Defect::new("node_list_rules[1]", "rule \"/a\" is not closed", "like /a/").of("Bucket /logs/web"),
            Defect::new("", "there is no module x", ""),
        ];
        let errors = [
            ApiError::NotFound(text()),
            ApiError::Conflict(text()),
            ApiError::Invalid(defects),
            ApiError::Precondition(text()),
            ApiError::unavailable(text()),
            ApiError::Unavailable { reason: text(), applied: Applies::Perhaps },
            ApiError::DeadlineExceeded(text()),
            ApiError::Busy(text()),
            ApiError::Exhausted(text()),
            ApiError::Unauthenticated(text()),
            ApiError::Forbidden(text()),
            ApiError::Unimplemented(text()),
            ApiError::Internal(text()),
        ];
        for error in errors {
            assert_eq!(back(&error, false), error);
        }
    }

    #[test]
    fn standard_clients_see_the_violations() {
        use tonic_types::StatusExt as _;
        let defect = Defect::new("module", "there is no module x", "one of: flume").of("Bucket /a");
        let status = to_status(ApiError::Invalid(vec![defect]), false);
        let details = status.get_error_details();
        let violation = &details.bad_request().expect("a BadRequest").field_violations[0];
        assert_eq!(violation.field, "module");
        assert_eq!(violation.description, "Bucket /a: there is no module x; one of: flume");
    }

    #[test]
    fn standard_clients_see_which_limit_passes_by_itself() {
        use tonic_types::StatusExt as _;
        let status = |error| to_status(error, false);
        let busy = status(ApiError::Busy("two calls".to_owned()));
        let again = busy.get_error_details().retry_info().and_then(|info| info.retry_delay);
        assert_eq!((busy.code(), again), (Code::ResourceExhausted, Some(std::time::Duration::from_secs(1))));
        let full = status(ApiError::Exhausted("two buckets".to_owned()));
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert!(full.get_error_details().retry_info().is_none() && full.details().is_empty());
        let bare = Status::resource_exhausted("of another version");
        assert!(!from_status("a:1", &bare).can_retry(), "who does not say when is not asked again");
    }

    #[test]
    fn many_defects_are_cut_off_unless_all_are_wanted() {
        let defects: Vec<_> = (0..1000).map(|n| Defect::new(format!("a[{n}]"), "wrong", "right")).collect();
        let error = ApiError::Invalid(defects);
        assert_eq!(back(&error, true), error);
        assert!(to_status(error.clone(), false).details().len() < DETAILS_SHORT + 2 * MESSAGE_MAX);
        let ApiError::Invalid(cut) = back(&error, false) else { panic!("still invalid") };
        assert!(cut.len() < 1000 && cut.last().expect("some").problem.ends_with("more defects"));
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let error = ApiError::Internal("é".repeat(10_000));
        assert!(to_status(error, false).message().len() < MESSAGE_MAX + 10);
    }
}
