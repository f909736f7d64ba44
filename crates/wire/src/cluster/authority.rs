//! Questions and answers about authorities, to and from messages.

use sheaf_model::RequestId;
use sheaf_model::view::{AuthorityRow, AuthorityStatus, AuthorityWait};

use crate::change::{timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::{ApiError, Caller};

/// A step of `ClusterService.RotateAuthority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotationStep {
    /// Another authority is to take the place of the one that issues.
    #[default]
    Begin,
    /// The former one is dropped now.
    Finish,
    /// The next one, which has not issued yet, is dropped.
    Abandon,
}

impl RotationStep {
    const ALL: [Self; 3] = [Self::Begin, Self::Finish, Self::Abandon];

    /// The word in messages.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Finish => "finish",
            Self::Abandon => "abandon",
        }
    }
}

/// See `ClusterService.RotateAuthority`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotateAuthority {
    /// What is to be done.
    pub step: RotationStep,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

pub(super) fn rotate(
    message: v1::RotateAuthorityRequest,
    caller: &Caller,
) -> Result<RotateAuthority, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let step = match message.step.as_str() {
        "" => Some(RotationStep::Begin),
        word => RotationStep::ALL.into_iter().find(|step| step.as_str() == word),
    };
    let wrong =
        || ApiError::invalid("step", format!("{:?} is no step", message.step), "begin, finish or abandon");
    Ok(RotateAuthority { step: step.ok_or_else(wrong)?, request })
}

impl From<RotateAuthority> for v1::RotateAuthorityRequest {
    fn from(ask: RotateAuthority) -> Self {
        let request_id = ask.request.map(|id| id.0).unwrap_or_default();
        Self { step: ask.step.as_str().to_owned(), request_id }
    }
}

impl From<AuthorityStatus> for v1::AuthorityStatusResponse {
    fn from(status: AuthorityStatus) -> Self {
        let row = |row: AuthorityRow| v1::AuthorityRow {
            fingerprint: row.fingerprint,
            stage: row.stage,
            added_at: timestamp_of_text(&row.added_at),
            until: row.until.as_deref().and_then(timestamp_of_text),
            certificate: row.certificate,
        };
        let wait = |wait: AuthorityWait| v1::AuthorityWait { node: wait.node, why: wait.why };
        Self {
            stage: status.stage,
            message: status.message,
            authorities: status.authorities.into_iter().map(row).collect(),
            waits_for: status.waits_for.into_iter().map(wait).collect(),
            certificates: status.certificates,
        }
    }
}

impl From<v1::AuthorityStatusResponse> for AuthorityStatus {
    fn from(answer: v1::AuthorityStatusResponse) -> Self {
        let row = |row: v1::AuthorityRow| AuthorityRow {
            fingerprint: row.fingerprint,
            stage: row.stage,
            added_at: row.added_at.as_ref().map(timestamp_text).unwrap_or_default(),
            until: row.until.as_ref().map(timestamp_text),
            certificate: row.certificate,
        };
        let wait = |wait: v1::AuthorityWait| AuthorityWait { node: wait.node, why: wait.why };
        Self {
            stage: answer.stage,
            message: answer.message,
            authorities: answer.authorities.into_iter().map(row).collect(),
            waits_for: answer.waits_for.into_iter().map(wait).collect(),
            certificates: answer.certificates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_survives_the_way() {
        let caller = Caller::local("test");
        for step in RotationStep::ALL {
            let ask = RotateAuthority { step, request: Some(RequestId::from("r1")) };
            assert_eq!(rotate(ask.clone().into(), &caller), Ok(ask));
        }
        assert_eq!(rotate(v1::RotateAuthorityRequest::default(), &caller), Ok(RotateAuthority::default()));
        let unknown = v1::RotateAuthorityRequest { step: "undo".to_owned(), request_id: String::new() };
        let error = rotate(unknown, &caller);
        assert!(matches!(&error, Err(ApiError::Invalid(defects)) if defects[0].path == "step"), "{error:?}");
        let status = AuthorityStatus {
            stage: "renewing".to_owned(),
            message: "m".to_owned(),
            authorities: vec![AuthorityRow {
                fingerprint: "ef".to_owned(),
                stage: "former".to_owned(),
                added_at: "2026-01-10T12:00:00.000Z".to_owned(),
                until: Some("2026-02-10T12:00:00.000Z".to_owned()),
                certificate: "PEM".to_owned(),
            }],
            waits_for: vec![AuthorityWait { node: "n1".to_owned(), why: "w".to_owned() }],
            certificates: vec!["vera".to_owned()],
        };
        assert_eq!(AuthorityStatus::from(v1::AuthorityStatusResponse::from(status.clone())), status);
    }
}
