//! What stands in a request of who makes it, and what is written there before it is carried on.
//!
//! A call that is carried on arrives with the certificate of the node that carried it. So that node says whose call it is:
//! its token travels along as it is, and for a node's own call `sheaf-node` names that node. Only members are believed;
//! whatever others write there is replaced by what is known of them.
//!
//! Where a call came from first, `sheaf-remote`, every node may say, of what it carries on and of what its dashboard asks for a
//! browser: it opens nothing, and decides alone as whose attempts those count that fail.

use std::net::IpAddr;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Request};
use sheaf_model::NodeId;
use tonic::body::Body;

use super::{Admitted, Certificate, Guard, Need, Presented, need, nobody};
use crate::ApiError;
use crate::bearer::Bearer;
use crate::caller::{FORWARDED, remote};

/// The node whose call it is that is carried on.
const NODE: &str = "sheaf-node";
/// Where it came from.
pub(crate) const REMOTE: &str = "sheaf-remote";
const SCHEME: &str = "Bearer ";

/// What a call shows that is answered where it cannot be judged.
#[derive(Clone)]
pub(crate) struct Carried(pub(crate) Bearer);

/// Writes down where a call comes from, so that it can be carried on: in place of what the other end says of it, unless
/// that is a member that carries it.
pub(crate) fn sign(guard: &dyn Guard, parts: &mut Parts) {
    let certificate = parts.extensions.get::<Certificate>().copied();
    let carried = parts.headers.contains_key(FORWARDED);
    if let (true, Some(Certificate::Node(by))) = (carried, certificate)
        && guard.is_member(by)
    {
        return;
    }
    let is_nodes = matches!(certificate, Some(Certificate::Node(_)));
    if !(is_nodes && from(&parts.headers).is_some()) {
        let from = remote(&parts.extensions).map(|from| from.ip().to_string());
        set(&mut parts.headers, REMOTE, from.and_then(|from| HeaderValue::try_from(from).ok()));
    }
    let node = match certificate {
        Some(Certificate::Node(node)) => Some(HeaderValue::from(node.0)),
        _ => None,
    };
    set(&mut parts.headers, NODE, node);
}

fn set(headers: &mut HeaderMap, name: &'static str, value: Option<HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

/// Asks the guard who it is, and writes it down for whoever answers.
pub(crate) async fn admit(guard: &dyn Guard, request: &mut Request<Body>) -> Result<Admitted, ApiError> {
    let need = need(request.uri().path());
    let admitted = match need {
        Need::Nothing => Admitted::Nobody,
        Need::Carried => {
            let token = token(request.headers())?.ok_or_else(nobody)?;
            request.extensions_mut().insert(Carried(token));
            Admitted::Nobody
        }
        need => guard.admit(presented(request.headers(), request.extensions())?, need).await?,
    };
    request.extensions_mut().insert(admitted.clone());
    Ok(admitted)
}

/// The same before anything of the question is read, which takes memory; writes nothing down.
///
/// # Errors
/// As [`Guard::admit`].
pub(crate) async fn look(guard: &dyn Guard, parts: &Parts) -> Result<(), ApiError> {
    match need(parts.uri.path()) {
        Need::Nothing => Ok(()),
        Need::Carried => token(&parts.headers)?.map(drop).ok_or_else(nobody),
        need => guard.admit(presented(&parts.headers, &parts.extensions)?, need).await.map(drop),
    }
}

/// Whether a call shows anything of who makes it, which is judged elsewhere.
pub(crate) fn shows_something(parts: &Parts) -> bool {
    parts.extensions.get::<Certificate>().is_some()
        || token(&parts.headers).is_ok_and(|token| token.is_some())
}

fn presented(headers: &HeaderMap, extensions: &Extensions) -> Result<Presented, ApiError> {
    Ok(Presented {
        certificate: extensions.get::<Certificate>().copied(),
        on_behalf: text(headers, NODE).and_then(|node| node.parse().ok()).map(NodeId),
        token: token(headers)?,
        remote: from(headers),
    })
}

/// Where a call came from, as whoever carries it on says.
pub(crate) fn from(headers: &HeaderMap) -> Option<IpAddr> {
    text(headers, REMOTE)?.parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The token that a call shows, or what somebody has signed. Errors say nothing of what stands there instead.
fn token(headers: &HeaderMap) -> Result<Option<Bearer>, ApiError> {
    let Some(shown) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let text = shown.to_str().ok().and_then(|text| {
        let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
    });
    let text = text.ok_or_else(|| {
        ApiError::Unauthenticated("the metadata `authorization` is not `Bearer TOKEN`".to_owned())
    })?;
    Bearer::parse(text).map(Some).map_err(|error| ApiError::Unauthenticated(error.to_string()))
}
