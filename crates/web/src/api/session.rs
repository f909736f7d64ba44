//! Sessions: who looks, and how a browser shows a token.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use sheaf_wire::Bearer;

use crate::access::Login;
use crate::answer::{self, Answer, Failed};
use crate::door::Peer;
use crate::serve::Shared;

/// A token in JSON is shorter, and so is what somebody has signed with a certificate's key.
const LOGIN_MAX: usize = 8 << 10;

/// Who asks, and the token for changes; begins a session where there is none.
pub(super) async fn session(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Answer {
    // A page that could not ask anything is told so first.
    shared.client()?;
    let entered = shared.access.enter(&headers, peer)?;
    let mut response = answer::value(&json!({
        "actor": entered.session.actor,
        "csrf": entered.session.csrf,
        "node": shared.options.node,
        "version": sheaf_model::version(),
        "secured": shared.access.is_secured(),
        "logged_in": entered.session.is_logged_in(),
        "asker": entered.session.asker(),
    }));
    if let Some(cookie) = entered.cookie {
        set_cookie(&mut response, &cookie);
    }
    Ok(response)
}

fn set_cookie(response: &mut Response, cookie: &str) {
    // Names and hexadecimal digits can stand in any header.
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// What a login is asked with.
#[derive(Deserialize)]
pub(super) struct Shown {
    token: String,
}

/// Shows the token to the cluster, and keeps it for the browser's session if that knows it.
pub(super) async fn login(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let session = shared.access.may_change(&headers, peer.by_tls)?;
    let remedy = "{\"token\": …} as `sheaf cluster token create` prints it";
    let wrong = |problem: String| Failed::invalid("token", problem, remedy);
    let reading = axum::body::to_bytes(body, LOGIN_MAX);
    let body = tokio::time::timeout(shared.options.limits.body_within, reading).await;
    let body = body.map_err(|_| wrong("it did not arrive in time".to_owned()))?;
    let body = body.map_err(|_| wrong("too long, or it broke off".to_owned()))?;
    // What is wrong with it is not repeated: it may be most of a secret.
    let Shown { token } = serde_json::from_slice(&body).map_err(|_| wrong("no such object".to_owned()))?;
    let token = Bearer::parse(&token).map_err(|error| wrong(error.to_string()))?;
    // What is tried here counts as tried by the browser, not by this node for all of them.
    let client = shared.client()?.acting_as(&session.actor)?.asking_for(peer.address.ip());
    let client = client.presenting(Some(token.clone()));
    let asker = client.cluster_status().await?.asker;
    let cookie = shared.access.log_in(&headers, session, Login { token, asker })?;
    let mut response = answer::value(&json!({ "logged_in": true }));
    set_cookie(&mut response, &cookie);
    Ok(response)
}

/// Ends the browser's session, and forgets its token with it.
pub(super) async fn logout(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Answer {
    shared.access.may_change(&headers, peer.by_tls)?;
    shared.access.log_out(&headers, peer.by_tls);
    Ok(answer::value(&json!({ "logged_in": false })))
}
