//! What calls bring along: parameters, bodies, and who asks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Query};
use http::request::Parts;
use http::{Request, header};
use serde::de::DeserializeOwned;
use sheaf_model::{NameError, RequestId, TokenId, nearest};
use sheaf_wire::{Client, Filter, PAGE_MAX, PageOf, Term};

use crate::access::random;
use crate::answer::Failed;
use crate::door::Peer;
use crate::fresh::Question;
use crate::serve::Shared;

/// A call that shows something: the client that asks in its name, and its parameters.
pub(crate) struct Ask {
    pub(crate) client: Client,
    token: Option<TokenId>,
    values: BTreeMap<String, String>,
}

impl FromRequestParts<Arc<Shared>> for Ask {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Failed> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = query.map_err(|error| {
            Failed::invalid("query", error.to_string(), "?NAME=VALUE&NAME=VALUE, encoded as URLs are")
        })?;
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            if values.insert(name.clone(), value).is_some() {
                return Err(Failed::invalid(name, "given twice", "each parameter once"));
            }
        }
        let peer = parts.extensions.get::<Peer>();
        let from = peer.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |peer| peer.address.ip());
        let by_tls = peer.is_some_and(|peer| peer.by_tls);
        // Where nothing is secured everybody who looks is the same.
        let session =
            if shared.access.is_secured() { shared.access.known(&parts.headers, by_tls) } else { None };
        let client = shared.access.client(shared.client()?, session.as_ref(), from)?;
        Ok(Self { client, token: session.and_then(|session| session.token()), values })
    }
}

impl Ask {
    /// Refuses parameters other than these.
    pub(crate) fn only(self, known: &[&str]) -> Result<Self, Failed> {
        match self.values.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some(name) => {
                let remedy = match (nearest(name, known), known) {
                    (Some(meant), _) => format!("did you mean {meant}?"),
                    (None, []) => "this call takes none".to_owned(),
                    (None, known) => format!("one of {}", known.join(", ")),
                };
                Err(Failed::invalid(name, "unknown parameter", remedy))
            }
        }
    }

    /// What is asked of `call`, to be answered once for all who ask the same.
    pub(crate) fn question(&self, call: &str) -> Question {
        Question { token: self.token, what: format!("{call} {:?}", self.values) }
    }

    /// A parameter as it was sent; empty counts as left out.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A parameter that must be there.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Failed> {
        self.text(name).ok_or_else(|| Failed::invalid(name, "is missing", format!("?{name}=VALUE")))
    }

    /// A name that must be there.
    pub(crate) fn name<T>(
        &self,
        name: &str,
        check: impl Fn(&str) -> Result<T, NameError>,
    ) -> Result<T, Failed> {
        named(name, self.needed(name)?, check)
    }

    /// A parameter that is something else than text.
    pub(crate) fn read<T>(&self, name: &str) -> Result<Option<T>, Failed>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text(name).map(|text| read(name, text)).transpose()
    }

    /// The same that must be there.
    pub(crate) fn read_needed<T>(&self, name: &str) -> Result<T, Failed>
    where
        T: FromStr,
        T::Err: Display,
    {
        read(name, self.needed(name)?)
    }

    /// Whether a switch is on.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failed> {
        Ok(self.read(name)?.unwrap_or(false))
    }

    /// `limit` and `after`: which part of a list.
    pub(crate) fn page(&self) -> Result<PageOf, Failed> {
        let size = self.read("limit")?.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&size) {
            return Err(Failed::invalid("limit", format!("{size} rows"), format!("from 1 to {PAGE_MAX}")));
        }
        Ok(PageOf { size, token: self.text("after").unwrap_or_default().to_owned() })
    }

    /// `filter`: `KEY=VALUE` and `KEY!=VALUE`, with commas between. Which keys there are, the other side knows.
    pub(crate) fn filter(&self) -> Result<Filter, Failed> {
        let text = self.text("filter").unwrap_or_default();
        let written = text.split(',').map(str::trim).filter(|written| !written.is_empty());
        let terms = written.map(|written| {
            let Some((key, value)) = written.split_once('=') else {
                let remedy = "KEY=VALUE or KEY!=VALUE, like state=running";
                return Err(Failed::invalid("filter", format!("{written:?} has no ="), remedy));
            };
            let (key, not) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
            Ok(Term { key: key.trim().to_owned(), not, value: value.trim().to_owned() })
        });
        Ok(Filter { terms: terms.collect::<Result<_, _>>()? })
    }
}

/// Reads a value of a field.
pub(crate) fn read<T>(name: &str, text: &str) -> Result<T, Failed>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| Failed::invalid(name, error.to_string(), "a valid value"))
}

/// Reads a name.
pub(crate) fn named<T>(
    field: &str,
    text: &str,
    check: impl Fn(&str) -> Result<T, NameError>,
) -> Result<T, Failed> {
    check(text).map_err(|error| Failed::invalid(field, error.problem, error.remedy))
}

/// A call that changes something: who asks has a session and its token, the body is an object of these fields.
pub(crate) struct Change<T> {
    pub(crate) client: Client,
    pub(crate) ask: T,
    /// Under which id the node hears of it: a change that is carried on twice is made once.
    pub(crate) request: Option<RequestId>,
}

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Change<T> {
    type Rejection = Failed;

    async fn from_request(request: Request<Body>, shared: &Arc<Shared>) -> Result<Self, Failed> {
        let by_tls = request.extensions().get::<Peer>().is_some_and(|peer| peer.by_tls);
        let session = shared.access.may_change(request.headers(), by_tls)?;
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.and_then(|kind| kind.split(';').next()).map(str::trim) != Some("application/json") {
            return Err(Failed::invalid(
                "content-type",
                format!("{:?}", kind.unwrap_or_default()),
                "application/json",
            ));
        }
        let limits = shared.options.limits;
        let most = format!("all of it, at most {} bytes", limits.body);
        if request.body().size_hint().lower() > limits.body as u64 {
            return Err(Failed::invalid("body", "too long", most));
        }
        let reading = axum::body::to_bytes(request.into_body(), limits.body);
        let body = match tokio::time::timeout(limits.body_within, reading).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(Failed::invalid("body", "too long, or it broke off", most)),
            Err(_) => {
                let remedy = format!("within {} s", limits.body_within.as_secs());
                return Err(Failed::invalid("body", "it did not arrive in time", remedy));
            }
        };
        let ask = serde_json::from_slice(&body).map_err(|error| {
            Failed::invalid("body", error.to_string(), "a JSON object with the fields of this call")
        })?;
        let nowhere = std::net::Ipv4Addr::UNSPECIFIED.into();
        let client = shared.access.client(shared.client()?, Some(&session), nowhere)?;
        Ok(Self { client, ask, request: Some(RequestId(random()?)) })
    }
}
