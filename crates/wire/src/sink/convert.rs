//! Questions and answers about sinks, to and from messages. A spec that comes in becomes the value of a document and is read
//! by the one reader of documents.

use serde_json::{Map, Value, json};
use sheaf_model::document::{Document, parse_values};
use sheaf_model::view::SinkRow;
use sheaf_model::{Mail, SinkExec, SinkFilter, SinkName, SinkSpec, SinkTarget, Span, Webhook};

use super::{ApplySink, DeleteSink, GotSink, ListSinks, TestedSink};
use crate::change::{page_of, timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::proto::v1::sink_spec::Target;
use crate::{ApiError, Caller, Filter, PAGE_MAX, Page};

const KEYS: &[&str] = &["name", "target", "state", "owner", "label."];

pub(super) fn sink_name(text: &str) -> Result<SinkName, ApiError> {
    SinkName::new(text).map_err(|error| ApiError::invalid("name", error.problem, error.remedy))
}

pub(super) fn apply(message: v1::ApplySinkRequest, caller: &Caller) -> Result<ApplySink, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let missing = || ApiError::invalid("sink", "missing", "a SinkSpec");
    let validate_only = message.validate_only;
    Ok(ApplySink { spec: spec(message.sink.ok_or_else(missing)?)?, request, validate_only })
}

/// With everything that is wrong with it.
fn spec(message: v1::SinkSpec) -> Result<SinkSpec, ApiError> {
    let parsed = parse_values("", &[value(message)]);
    if !parsed.defects.is_empty() {
        return Err(ApiError::Invalid(parsed.defects));
    }
    match parsed.documents.into_iter().next() {
        Some(Document::Sink(spec)) => Ok(*spec),
        _ => Err(ApiError::Internal("a sink was read as something else".to_owned())),
    }
}

/// As a document; what has its zero value is left out.
fn value(message: v1::SinkSpec) -> Value {
    let mut fields = Map::new();
    fields.insert("kind".to_owned(), json!("Sink"));
    fields.insert("name".to_owned(), json!(message.name));
    if let Some(target) = message.target {
        let (name, target) = target_value(target);
        fields.insert(name.to_owned(), target);
    }
    if let Some(v1::SinkFilter { kinds, subjects, nodes }) = message.filter {
        fields.insert("filter".to_owned(), json!({ "kinds": kinds, "subjects": subjects, "nodes": nodes }));
    }
    fields.insert("suspended".to_owned(), json!(message.suspended));
    let labels: Map<String, Value> =
        message.labels.into_iter().map(|(key, value)| (key, json!(value))).collect();
    fields.insert("labels".to_owned(), labels.into());
    fields.insert("owner".to_owned(), json!(message.owner));
    fields.into()
}

fn target_value(target: Target) -> (&'static str, Value) {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let span = |ms: u64| (ms > 0).then(|| Span::millis(ms).to_string());
    let batch = |batch: u32| (batch > 0).then_some(batch);
    match target {
        Target::Webhook(v1::SinkWebhook { url, secret, timeout_ms, batch: most, ca }) => {
            let secret = text(secret);
            let (timeout, batch, ca) = (span(timeout_ms), batch(most), text(ca));
            ("webhook", json!({ "url": url, "secret": secret, "timeout": timeout, "batch": batch, "ca": ca }))
        }
        Target::Mail(mail) => {
            let v1::SinkMail { server, security, user, password, from, to, digest_ms, timeout_ms, ca } = mail;
            let value = json!({
                "server": server,
                "security": text(security),
                "user": text(user),
                "password": text(password),
                "from": from,
                "to": to,
                "digest": span(digest_ms),
                "timeout": span(timeout_ms),
                "ca": text(ca),
            });
            ("mail", value)
        }
        Target::Exec(v1::SinkExec { command, args, timeout_ms, batch: most }) => {
            let (timeout, batch) = (span(timeout_ms), batch(most));
            ("exec", json!({ "command": command, "args": args, "timeout": timeout, "batch": batch }))
        }
    }
}

impl From<SinkSpec> for v1::SinkSpec {
    fn from(spec: SinkSpec) -> Self {
        let SinkFilter { kinds, subjects, nodes } = spec.filter;
        let any = !kinds.is_empty() || !subjects.is_empty() || !nodes.is_empty();
        Self {
            name: spec.name.to_string(),
            target: Some(target(spec.target)),
            filter: any.then_some(v1::SinkFilter { kinds, subjects, nodes }),
            suspended: spec.suspended,
            labels: spec.labels.into_iter().collect(),
            owner: spec.owner,
        }
    }
}

fn target(target: SinkTarget) -> Target {
    let secret = |name: sheaf_model::SecretName| format!("${{secret.{name}}}");
    match target {
        SinkTarget::Webhook(Webhook { url, secret: key, timeout, batch, ca }) => {
            Target::Webhook(v1::SinkWebhook {
                url: url.to_string(),
                secret: key.map(secret).unwrap_or_default(),
                timeout_ms: timeout.0,
                batch,
                ca: ca.unwrap_or_default(),
            })
        }
        SinkTarget::Mail(Mail { server, security, user, password, from, to, digest, timeout, ca }) => {
            Target::Mail(v1::SinkMail {
                server,
                security: security.as_str().to_owned(),
                user: user.unwrap_or_default(),
                password: password.map(secret).unwrap_or_default(),
                from,
                to,
                digest_ms: digest.0,
                timeout_ms: timeout.0,
                ca: ca.unwrap_or_default(),
            })
        }
        SinkTarget::Exec(SinkExec { command, args, timeout, batch }) => {
            Target::Exec(v1::SinkExec { command, args, timeout_ms: timeout.0, batch })
        }
    }
}

impl From<ApplySink> for v1::ApplySinkRequest {
    fn from(ask: ApplySink) -> Self {
        let request_id = ask.request.map(|id| id.0).unwrap_or_default();
        Self { sink: Some(ask.spec.into()), request_id, validate_only: ask.validate_only }
    }
}

pub(super) fn list(message: v1::ListSinksRequest) -> Result<ListSinks, ApiError> {
    let page = page_of(message.page_size, message.page_token, PAGE_MAX)?;
    Ok(ListSinks { page, filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)? })
}

impl From<ListSinks> for v1::ListSinksRequest {
    fn from(ask: ListSinks) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<SinkRow> for v1::SinkRow {
    fn from(row: SinkRow) -> Self {
        let time = |text: &Option<String>| text.as_deref().and_then(timestamp_of_text);
        Self {
            last_success: time(&row.last_success),
            failing_since: time(&row.failing_since),
            next_try: time(&row.next_try),
            name: row.name,
            target: row.target,
            place: row.place,
            state: row.state,
            cursor: row.cursor,
            lag_events: row.lag_events,
            lag_seconds: row.lag_seconds,
            delivered: row.delivered,
            failures: row.failures,
            last_error: row.last_error,
            missed: row.missed,
            missed_last: row.missed_last.unwrap_or_default(),
            revision: row.revision,
            labels: row.labels.into_iter().collect(),
            owner: row.owner.unwrap_or_default(),
        }
    }
}

impl From<v1::SinkRow> for SinkRow {
    fn from(row: v1::SinkRow) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            name: row.name,
            target: row.target,
            place: row.place,
            state: row.state,
            cursor: row.cursor,
            lag_events: row.lag_events,
            lag_seconds: row.lag_seconds,
            delivered: row.delivered,
            last_success: row.last_success.as_ref().map(timestamp_text),
            failing_since: row.failing_since.as_ref().map(timestamp_text),
            failures: row.failures,
            last_error: row.last_error,
            next_try: row.next_try.as_ref().map(timestamp_text),
            missed: row.missed,
            missed_last: some(row.missed_last),
            revision: row.revision,
            labels: row.labels.into_iter().collect(),
            owner: some(row.owner),
        }
    }
}

impl From<Page<SinkRow>> for v1::ListSinksResponse {
    fn from(page: Page<SinkRow>) -> Self {
        Self { sinks: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<v1::ListSinksResponse> for Page<SinkRow> {
    fn from(page: v1::ListSinksResponse) -> Self {
        Self { rows: page.sinks.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

impl From<GotSink> for v1::GetSinkResponse {
    fn from(got: GotSink) -> Self {
        Self { spec: Some(got.spec.into()), row: Some(got.row.into()) }
    }
}

impl TryFrom<v1::GetSinkResponse> for GotSink {
    type Error = ApiError;

    fn try_from(got: v1::GetSinkResponse) -> Result<Self, ApiError> {
        let missing = |what: &str| ApiError::Internal(format!("the answer has no {what}"));
        let spec = spec(got.spec.ok_or_else(|| missing("spec"))?);
        let spec = spec.map_err(|error| ApiError::Internal(format!("the answer's sink: {error}")))?;
        Ok(Self { spec, row: got.row.ok_or_else(|| missing("row"))?.into() })
    }
}

impl From<TestedSink> for v1::TestSinkResponse {
    fn from(tested: TestedSink) -> Self {
        let TestedSink { delivered, message, took, node } = tested;
        Self { delivered, message, took_ms: took.0, node }
    }
}

impl From<v1::TestSinkResponse> for TestedSink {
    fn from(tested: v1::TestSinkResponse) -> Self {
        let v1::TestSinkResponse { delivered, message, took_ms, node } = tested;
        Self { delivered, message, took: Span(took_ms), node }
    }
}

pub(super) fn delete(message: v1::DeleteSinkRequest, caller: &Caller) -> Result<DeleteSink, ApiError> {
    Ok(DeleteSink { name: sink_name(&message.name)?, request: caller.request_id(message.request_id)? })
}

impl From<DeleteSink> for v1::DeleteSinkRequest {
    fn from(ask: DeleteSink) -> Self {
        let request_id = ask.request.map(|id| id.0).unwrap_or_default();
        Self { name: ask.name.to_string(), request_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_goes_through_messages_and_comes_out_as_it_was() {
        let documents = [
            json!({"kind": "Sink", "name": "h", "webhook": {"url": "${secret.url}", "secret": "${secret.k}", "batch": 3},
                   "filter": {"kinds": ["job.*"]}, "suspended": true, "labels": {"a": "b"}, "owner": "o"}),
            json!({"kind": "Sink", "name": "m", "mail": {"server": "m:587", "from": "a@b", "to": ["c@d"], "digest": "5m",
                   "user": "u", "password": "${secret.p}"}}),
            json!({"kind": "Sink", "name": "e", "exec": {"command": "/bin/x", "args": ["a"], "timeout": "90s"}}),
        ];
        for document in documents {
            let parsed = parse_values("", &[document]);
            let Some(Document::Sink(sink)) = parsed.documents.first() else { panic!("{parsed:?}") };
            assert_eq!(spec(v1::SinkSpec::from((**sink).clone())).expect("it is good"), **sink);
        }
    }

    #[test]
    fn defects_of_messages_are_those_of_documents_and_repeat_no_secret() {
        let hook = v1::SinkWebhook {
            url: "http://h".to_owned(),
            secret: "hunter2".to_owned(),
            ..Default::default()
        };
        let message =
            v1::SinkSpec { name: "h".to_owned(), target: Some(Target::Webhook(hook)), ..Default::default() };
        let error = spec(message).expect_err("a plain secret").to_string();
        assert!(error.contains("webhook.secret") && !error.contains("hunter2"), "{error}");
        let error = spec(v1::SinkSpec { name: "h".to_owned(), ..Default::default() }).expect_err("no target");
        assert!(error.to_string().contains("exactly one of webhook, mail and exec"), "{error}");
    }
}
