//! `/healthz`: this process answers. `/readyz`: and it reaches a leader, so that what it is asked can be answered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::json;

use crate::answer;
use crate::serve::Shared;

/// Probes give up early.
const WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let asked = match shared.client() {
        Ok(client) => client.with_deadline(WITHIN).cluster_status().await,
        Err(error) => Err(error),
    };
    let (ready, leader, why) = match asked {
        Ok(status) if status.leader.is_some() => (true, status.leader, String::new()),
        Ok(status) if status.message.is_empty() => (false, None, "no leader is known here".to_owned()),
        Ok(status) => (false, None, status.message),
        Err(error) => (false, None, error.to_string()),
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({ "ready": ready, "node": shared.options.node, "leader": leader, "message": why });
    (code, answer::value(&answer)).into_response()
}
