//! How calls are answered: JSON, pages of it, and failures.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use sheaf_model::Defect;
use sheaf_wire::{ApiError, Page};

/// How to go on with a list; not there: that was all.
pub(crate) const NEXT: HeaderName = HeaderName::from_static("sheaf-next");

/// Why a call was not answered as asked.
#[derive(Debug)]
pub(crate) struct Failed {
    status: StatusCode,
    code: &'static str,
    message: String,
    defects: Vec<Defect>,
}

impl Failed {
    /// Not for who asks, or not in this way.
    pub(crate) fn forbidden(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let message = format!("{}: {}", problem.into(), remedy.into());
        Self { status: StatusCode::FORBIDDEN, code: "forbidden", message, defects: Vec::new() }
    }

    /// Who asks has to say who it is.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthenticated", message, defects: Vec::new() }
    }

    /// Nothing is there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        ApiError::NotFound(message.into()).into()
    }

    /// What was sent is wrong.
    pub(crate) fn invalid(
        path: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        ApiError::invalid(path, problem, remedy).into()
    }

    /// As server-sent events say it.
    pub(crate) fn json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if !self.defects.is_empty() {
            let defects = self.defects.iter().map(
                |defect| json!({ "field": defect.path, "problem": defect.problem, "remedy": defect.remedy }),
            );
            error["defects"] = defects.collect();
        }
        json!({ "error": error })
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        let message = error.to_string();
        let (status, code) = match &error {
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            ApiError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            ApiError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            ApiError::Precondition(_) => (StatusCode::CONFLICT, "precondition"),
            ApiError::Unavailable { .. } | ApiError::Unreachable { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            ApiError::DeadlineExceeded(_) => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
            ApiError::Busy(_) | ApiError::Exhausted(_) => (StatusCode::TOO_MANY_REQUESTS, "exhausted"),
            ApiError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            ApiError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            ApiError::Unimplemented(_) => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
            ApiError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let defects = if let ApiError::Invalid(defects) = error { defects } else { Vec::new() };
        Self { status, code, message, defects }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.status, value(&self.json())).into_response()
    }
}

/// Any answer.
pub(crate) type Answer = Result<Response, Failed>;

/// A view as JSON.
pub(crate) fn view<T: Serialize + ?Sized>(view: &T) -> Response {
    made(serde_json::to_vec(view).expect("a view is plain data whose maps have text keys"))
}

/// JSON that is text already.
pub(crate) fn made(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text.into()).into_response()
}

/// JSON that is there already.
pub(crate) fn value(value: &Value) -> Response {
    view(value)
}

/// A page of a list: an array, and how to go on.
pub(crate) fn page<T: Serialize>(page: &Page<T>) -> Response {
    rows(&page.rows, &page.next)
}

/// The same of rows that are not a page yet.
pub(crate) fn rows<T: Serialize>(rows: &[T], next: &str) -> Response {
    let mut response = view(rows);
    // A token that no header can carry would be a bug of whoever made it; then the list ends here.
    if let Some(next) = HeaderValue::from_str(next).ok().filter(|next| !next.is_empty()) {
        response.headers_mut().insert(NEXT, next);
    }
    response
}
