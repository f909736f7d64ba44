//! Questions and answers about backends, to and from messages.

use sheaf_model::document::backend_defects;
use sheaf_model::view::BackendRow;
use sheaf_model::{BackendName, BackendSpec, Breaker, Defect, Frequency, Json, Span};

use super::{ApplyBackend, DeleteBackend, GotBackend, ListBackends};
use crate::change::{page_of, timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::{ApiError, Caller, Filter, PAGE_MAX, Page};

const KEYS: &[&str] = &["name", "state", "owner", "label."];

pub(super) fn backend_name(text: &str) -> Result<BackendName, ApiError> {
    BackendName::new(text).map_err(|error| ApiError::invalid("name", error.problem, error.remedy))
}

pub(super) fn apply(message: v1::ApplyBackendRequest, caller: &Caller) -> Result<ApplyBackend, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let missing = || ApiError::invalid("backend", "missing", "a BackendSpec");
    let validate_only = message.validate_only;
    Ok(ApplyBackend { spec: spec(message.backend.ok_or_else(missing)?)?, request, validate_only })
}

/// With everything that is wrong with it.
fn spec(message: v1::BackendSpec) -> Result<BackendSpec, ApiError> {
    let mut spec = BackendSpec::new(backend_name(&message.name)?);
    let mut defects = Vec::new();
    spec.max_running = message.max_running;
    spec.rate = message.rate_count.map(|count| Frequency { count, window: Span(message.rate_window_ms) });
    if spec.rate.is_some_and(|rate| rate.window.0 == 0) {
        defects.push(Defect::new("rate_window_ms", "the time is zero", "milliseconds"));
    }
    if let Some(v1::Breaker { failures, pause_min_ms, pause_max_ms }) = message.breaker {
        spec.breaker = Breaker { failures, pause_min: Span(pause_min_ms), pause_max: Span(pause_max_ms) };
    }
    if !message.config_json.is_empty() {
        match serde_json::from_str::<serde_json::Value>(&message.config_json) {
            Ok(value) if value.is_object() => spec.config = Json::new(&value),
            Ok(_) => defects.push(Defect::new("config_json", "it is no object", "a JSON object")),
            Err(error) => defects.push(Defect::new("config_json", error.to_string(), "a JSON object")),
        }
    }
    spec.labels = message.labels.into_iter().collect();
    spec.owner = message.owner;
    defects.extend(backend_defects(&spec));
    if defects.is_empty() {
        return Ok(spec);
    }
    let label = format!("Backend {}", spec.name);
    Err(ApiError::Invalid(defects.into_iter().map(|defect| defect.of(label.as_str())).collect()))
}

impl From<BackendSpec> for v1::BackendSpec {
    fn from(spec: BackendSpec) -> Self {
        let Breaker { failures, pause_min, pause_max } = spec.breaker;
        Self {
            name: spec.name.to_string(),
            max_running: spec.max_running,
            rate_count: spec.rate.map(|rate| rate.count),
            rate_window_ms: spec.rate.map_or(0, |rate| rate.window.0),
            breaker: Some(v1::Breaker { failures, pause_min_ms: pause_min.0, pause_max_ms: pause_max.0 }),
            config_json: spec.config.as_str().to_owned(),
            labels: spec.labels.into_iter().collect(),
            owner: spec.owner,
        }
    }
}

impl From<ApplyBackend> for v1::ApplyBackendRequest {
    fn from(ask: ApplyBackend) -> Self {
        let request_id = ask.request.map(|id| id.0).unwrap_or_default();
        Self { backend: Some(ask.spec.into()), request_id, validate_only: ask.validate_only }
    }
}

pub(super) fn list(message: v1::ListBackendsRequest) -> Result<ListBackends, ApiError> {
    let page = page_of(message.page_size, message.page_token, PAGE_MAX)?;
    Ok(ListBackends { page, filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)? })
}

impl From<ListBackends> for v1::ListBackendsRequest {
    fn from(ask: ListBackends) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<BackendRow> for v1::BackendRow {
    fn from(row: BackendRow) -> Self {
        Self {
            name: row.name,
            state: row.state,
            running: row.running,
            max_running: row.max_running,
            rate: row.rate.unwrap_or_default(),
            failures: row.failures,
            open_until: row.open_until.as_deref().and_then(timestamp_of_text),
            message: row.message,
            revision: row.revision,
            labels: row.labels.into_iter().collect(),
            owner: row.owner.unwrap_or_default(),
        }
    }
}

impl From<v1::BackendRow> for BackendRow {
    fn from(row: v1::BackendRow) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            name: row.name,
            state: row.state,
            running: row.running,
            max_running: row.max_running,
            rate: some(row.rate),
            failures: row.failures,
            open_until: row.open_until.as_ref().map(timestamp_text),
            message: row.message,
            revision: row.revision,
            labels: row.labels.into_iter().collect(),
            owner: some(row.owner),
        }
    }
}

impl From<Page<BackendRow>> for v1::ListBackendsResponse {
    fn from(page: Page<BackendRow>) -> Self {
        Self { backends: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<v1::ListBackendsResponse> for Page<BackendRow> {
    fn from(page: v1::ListBackendsResponse) -> Self {
        Self { rows: page.backends.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

impl From<GotBackend> for v1::GetBackendResponse {
    fn from(got: GotBackend) -> Self {
        Self { spec: Some(got.spec.into()), row: Some(got.row.into()), jobs: got.jobs }
    }
}

impl TryFrom<v1::GetBackendResponse> for GotBackend {
    type Error = ApiError;

    fn try_from(got: v1::GetBackendResponse) -> Result<Self, ApiError> {
        let missing = |what: &str| ApiError::Internal(format!("the answer has no {what}"));
        let spec = spec(got.spec.ok_or_else(|| missing("spec"))?);
        let spec = spec.map_err(|error| ApiError::Internal(format!("the answer's backend: {error}")))?;
        Ok(Self { spec, row: got.row.ok_or_else(|| missing("row"))?.into(), jobs: got.jobs })
    }
}

pub(super) fn delete(message: v1::DeleteBackendRequest, caller: &Caller) -> Result<DeleteBackend, ApiError> {
    let request = caller.request_id(message.request_id)?;
    Ok(DeleteBackend { name: backend_name(&message.name)?, request })
}

impl From<DeleteBackend> for v1::DeleteBackendRequest {
    fn from(ask: DeleteBackend) -> Self {
        Self { name: ask.name.to_string(), request_id: ask.request.map(|id| id.0).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_comes_back_as_it_was_sent_and_says_what_is_wrong() {
        let mut sent = BackendSpec::new(BackendName::new("vito").unwrap());
        sent.rate = Some(Frequency { count: 3, window: Span(1000) });
        sent.max_running = Some(7);
        sent.config = Json::new(&serde_json::json!({"url": "https://x"}));
        assert_eq!(spec(sent.clone().into()).unwrap(), sent);
        let mut message = v1::BackendSpec::from(sent);
        message.rate_window_ms = 0;
        message.config_json = "[]".to_owned();
        message.max_running = Some(0);
        let error = spec(message).unwrap_err().to_string();
        for part in ["Backend vito", "rate_window_ms", "config_json", "max_running"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
