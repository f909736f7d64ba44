//! What a backend's document says in `config` for `builtin:http`.
//!
//! ```yaml
//! config:
//!   url: https://tiles.example.org/api/v1/   # where it is; the paths below go on from here
//!   headers: {Authorization: "Bearer ${secret.tiles.token}"}   # with every request; the module lists the secret
//!   timeout: 30s                             # for one request
//!   ca_file: /etc/tiles/ca.pem               # whom to believe; default: the machine's authorities
//!   submit:
//!     method: POST                           # or PUT
//!     path: jobs
//!     body: {tile: "${item.tile}", title: "${key}"}   # default: the item
//!     id: /id                                # where in the answer the service says what it calls it (a JSON pointer)
//!     tries: 5                               # how often it is sent, with the same key, until there is an answer
//!   poll:
//!     path: jobs/${id}
//!     every: 1s..10s                         # the first wait; each further one doubles
//!     state: /status                         # where in the answer it says how it is
//!     finished: [finished]
//!     failed: [failed, error, canceled]
//!     message: /message                      # why it failed
//!     patience: 10m                          # so long it may give no answer that makes sense
//!   cancel: {method: DELETE, path: "jobs/${id}"}
//! ```
//!
//! Only `url` must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sheaf_model::{Span, SpanRange};

use super::client::{Client, Endpoint};
use super::template::{Place, Scope, Template};

/// Sheaf's own, in every request that has one.
const OWN_HEADERS: [&str; 6] =
    ["host", "content-length", "content-type", "connection", "transfer-encoding", "idempotency-key"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "text")]
    timeout: Option<Span>,
    #[serde(default)]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    submit: WrittenSubmit,
    #[serde(default)]
    poll: WrittenPoll,
    #[serde(default)]
    cancel: WrittenCancel,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSubmit {
    method: Option<String>,
    path: Option<String>,
    body: Option<Value>,
    id: Option<String>,
    tries: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPoll {
    path: Option<String>,
    #[serde(default, deserialize_with = "text")]
    every: Option<SpanRange>,
    state: Option<String>,
    finished: Option<BTreeSet<String>>,
    failed: Option<BTreeSet<String>>,
    message: Option<String>,
    #[serde(default, deserialize_with = "text")]
    patience: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCancel {
    method: Option<String>,
    path: Option<String>,
}

/// Something that is written as a text, like `30s`.
fn text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = sheaf_model::MeasureError>,
{
    use serde::de::Error as _;
    let text = String::deserialize(deserializer)?;
    let wrong = |error: sheaf_model::MeasureError| D::Error::custom(error.to_string());
    text.parse().map(Some).map_err(wrong)
}

/// How one service is spoken with.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) client: Client,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) submit: Submit,
    pub(super) poll: Poll,
    pub(super) cancel: (Method, Template),
}

#[derive(Debug)]
pub(super) struct Submit {
    pub(super) method: Method,
    pub(super) path: Template,
    /// None: the item.
    pub(super) body: Option<Body>,
    pub(super) id: String,
    pub(super) tries: u32,
}

#[derive(Debug)]
pub(super) struct Poll {
    pub(super) path: Template,
    pub(super) every: (Duration, Duration),
    pub(super) state: String,
    pub(super) finished: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
    pub(super) message: String,
    pub(super) patience: Duration,
}

/// JSON whose texts are templates.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Text(Template),
    List(Vec<Body>),
    Fields(Vec<(String, Body)>),
    Plain(Value),
}

impl Config {
    /// Reads one. The error is for people, and says which field.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        let json = if json.trim().is_empty() { "{}" } else { json };
        let written: Written = serde_json::from_str(json).map_err(|error| {
            format!("{error}; url, headers, timeout, ca_file, submit, poll and cancel are known, and url must be there")
        })?;
        let base = Endpoint::read(&written.url).map_err(|error| format!("url: {error}"))?;
        let timeout = written.timeout.unwrap_or(Span::seconds(30)).duration();
        if timeout.is_zero() {
            return Err("timeout: no request ends in no time; like 30s".to_owned());
        }
        let client = Client::new(base, written.ca_file.as_deref(), timeout)?;
        let headers = written.headers.iter().map(|(name, value)| header(name, value));
        Ok(Self {
            client,
            headers: headers.collect::<Result<_, _>>()?,
            submit: Submit::of(written.submit)?,
            cancel: cancel(&written.cancel, written.poll.path.as_deref())?,
            poll: Poll::of(written.poll)?,
        })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, Template), String> {
    let at = |error: String| format!("headers.{name}: {error}");
    let known = name.parse::<HeaderName>().map_err(|_| at("no name of a header".to_owned()))?;
    if OWN_HEADERS.contains(&known.as_str()) {
        return Err(at("it is set by Sheaf itself; another one".to_owned()));
    }
    Ok((known, template(value, Place::Header).map_err(at)?))
}

fn template(text: &str, place: Place) -> Result<Template, String> {
    if text.contains(['\0', '\r', '\n']) {
        return Err("there is a line feed or a zero byte in it".to_owned());
    }
    Template::parse(text, place)
}

fn path(field: &str, text: &str, place: Place) -> Result<Template, String> {
    let at = |error: String| format!("{field}: {error}");
    if text.contains("://") || text.starts_with("//") || text.contains([' ', '#']) {
        return Err(at(format!("{text:?} is no path below url; like jobs/${{id}}")));
    }
    template(text.trim_start_matches('/'), place).map_err(at)
}

fn pointer(field: &str, text: Option<String>, default: &str) -> Result<String, String> {
    let text = text.unwrap_or_else(|| default.to_owned());
    if text.is_empty() || text.starts_with('/') {
        return Ok(text);
    }
    Err(format!("{field}: {text:?} is no JSON pointer; like {default}"))
}

fn method(field: &str, text: Option<&str>, known: &[&str]) -> Result<Method, String> {
    let text = text.unwrap_or(known[0]);
    let wrong = || format!("{field}: {text:?} is not sent here; one of {}", known.join(", "));
    let found = known.iter().find(|known| **known == text).ok_or_else(wrong)?;
    found.parse().map_err(|_| wrong())
}

fn cancel(written: &WrittenCancel, poll: Option<&str>) -> Result<(Method, Template), String> {
    let method = method("cancel.method", written.method.as_deref(), &["DELETE", "POST", "PUT"])?;
    let path_text = written.path.as_deref().or(poll).unwrap_or("jobs/${id}");
    Ok((method, path("cancel.path", path_text, Place::Afterwards)?))
}

impl Submit {
    fn of(written: WrittenSubmit) -> Result<Self, String> {
        let tries = written.tries.unwrap_or(5);
        if tries == 0 {
            return Err("submit.tries: 0 would never send it; at least 1".to_owned());
        }
        Ok(Self {
            method: method("submit.method", written.method.as_deref(), &["POST", "PUT"])?,
            path: path("submit.path", written.path.as_deref().unwrap_or("jobs"), Place::Submit)?,
            body: written.body.map(|body| Body::of("submit.body", body)).transpose()?,
            id: pointer("submit.id", written.id, "/id")?,
            tries,
        })
    }
}

impl Poll {
    fn of(written: WrittenPoll) -> Result<Self, String> {
        let set = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
        let every = written.every.unwrap_or(SpanRange { min: Span::seconds(1), max: Span::seconds(10) });
        if every.min < Span::millis(10) {
            return Err(format!("poll.every: {every} asks in a tight loop; at least 10ms, like 1s..10s"));
        }
        let finished = written.finished.unwrap_or_else(|| set(&["finished"]));
        let failed = written.failed.unwrap_or_else(|| set(&["failed", "error", "canceled"]));
        if finished.is_empty() {
            return Err("poll.finished: without a word for it nothing would ever finish".to_owned());
        }
        if let Some(both) = finished.intersection(&failed).next() {
            return Err(format!("poll.failed: {both:?} stands in poll.finished as well; in one of them"));
        }
        Ok(Self {
            path: path("poll.path", written.path.as_deref().unwrap_or("jobs/${id}"), Place::Afterwards)?,
            every: (every.min.duration(), every.max.duration()),
            state: pointer("poll.state", written.state, "/status")?,
            finished,
            failed,
            message: pointer("poll.message", written.message, "/message")?,
            patience: written.patience.unwrap_or(Span::seconds(600)).duration(),
        })
    }
}

impl Body {
    fn of(at: &str, value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                Self::Text(Template::parse(&text, Place::Submit).map_err(|error| format!("{at}: {error}"))?)
            }
            Value::Array(all) => {
                let all = all.into_iter().enumerate();
                let all = all.map(|(n, value)| Self::of(&format!("{at}[{n}]"), value));
                Self::List(all.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    let value = Self::of(&format!("{at}.{name}"), value)?;
                    Ok::<_, String>((name, value))
                });
                Self::Fields(fields.collect::<Result<_, _>>()?)
            }
            other => Self::Plain(other),
        })
    }

    /// Filled in. The error is for people.
    pub(super) fn value(&self, scope: &Scope) -> Result<Value, String> {
        Ok(match self {
            Self::Text(template) => template.value(scope)?,
            Self::List(all) => {
                Value::Array(all.iter().map(|body| body.value(scope)).collect::<Result<_, _>>()?)
            }
            Self::Fields(fields) => {
                let fields = fields.iter().map(|(name, body)| Ok((name.clone(), body.value(scope)?)));
                Value::Object(fields.collect::<Result<Map<_, _>, String>>()?)
            }
            Self::Plain(value) => value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::template::tests::scope;
    use super::*;

    #[test]
    fn only_the_url_must_be_there() {
        let config = Config::read(r#"{"url": "http://127.0.0.1:8080/api"}"#).unwrap();
        assert_eq!((config.submit.method, config.submit.tries), (Method::POST, 5));
        assert_eq!((config.submit.id.as_str(), config.poll.state.as_str()), ("/id", "/status"));
        assert_eq!(config.poll.every, (Duration::from_secs(1), Duration::from_secs(10)));
        assert_eq!(config.cancel.0, Method::DELETE);
        assert!(config.submit.body.is_none() && config.poll.failed.contains("canceled"));
    }

    #[test]
    fn a_body_is_filled_in() {
        let body =
            json!({"tile": "${item.tile}", "n": [1, "${subtask}", true], "in": {"x": "a${item.year}"}});
        let body = Body::of("submit.body", body).unwrap();
        let wanted = json!({"tile": "T 32/a", "n": [1, 7, true], "in": {"x": "a2024"}});
        assert_eq!(body.value(&scope()).unwrap(), wanted);
    }

    #[test]
    fn everything_that_is_wrong_says_where_and_what_would_be_right() {
        let more = |more: &str| format!(r#"{{"url": "http://h/", {more}}}"#);
        for (json, wanted) in [
            (String::new(), "missing field `url`"),
            (r#"{"url": "ftp://h"}"#.to_owned(), "url: \"ftp://h\" is no http or https address"),
            (more(r#""pol": {}"#), "unknown field `pol`"),
            (more(r#""timeout": "soon""#), "\"soon\""),
            (more(r#""timeout": "0s""#), "timeout: no request ends in no time"),
            (more(r#""headers": {"a b": "x"}"#), "headers.a b: no name of a header"),
            (more(r#""headers": {"Host": "x"}"#), "headers.Host: it is set by Sheaf itself"),
            (more(r#""headers": {"A": "x\ny"}"#), "headers.A: there is a line feed"),
            (more(r#""headers": {"A": "${id}"}"#), "headers.A: ${id} is no name here"),
            (
                more(r#""submit": {"path": "http://other/"}"#),
                "submit.path: \"http://other/\" is no path below url",
            ),
            (
                more(r#""submit": {"method": "GET"}"#),
                "submit.method: \"GET\" is not sent here; one of POST, PUT",
            ),
            (more(r#""submit": {"tries": 0}"#), "submit.tries: 0 would never send it"),
            (more(r#""submit": {"id": "id"}"#), "submit.id: \"id\" is no JSON pointer; like /id"),
            (more(r#""submit": {"body": {"a": ["${id}"]}}"#), "submit.body.a[0]: ${id} is no name here"),
            (more(r#""poll": {"every": "1ms..1s"}"#), "asks in a tight loop"),
            (more(r#""poll": {"finished": []}"#), "poll.finished: without a word for it"),
            (
                more(r#""poll": {"finished": ["x"], "failed": ["x"]}"#),
                "\"x\" stands in poll.finished as well",
            ),
            (more(r#""ca_file": "/no/such""#), "ca_file"),
        ] {
            let error = Config::read(&json).map(drop).unwrap_err();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }
}
