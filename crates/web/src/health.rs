//! `/healthz`: this process answers. `/readyz`: and it reaches a leader, so that what it is asked can be answered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde_json::json;
use sheaf_model::view::ClusterStatus;
use sheaf_wire::ApiError;

use crate::answer;
use crate::serve::Shared;

/// Probes give up early.
const WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// Whether this node reaches a leader; who that is; why not.
pub(crate) type Ready = (bool, Option<String>, String);

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let (ready, leader, why) = match shared.client() {
        Ok(client) => {
            let client = client.with_deadline(WITHIN);
            let asked = shared.ready.look(async move { stands(client.cluster_status().await) });
            asked.await.unwrap_or_else(|| (false, None, "this node could not ask itself".to_owned()))
        }
        Err(error) => (false, None, error.to_string()),
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({ "ready": ready, "node": shared.options.node, "leader": leader, "message": why });
    (code, answer::value(&answer)).into_response()
}

fn stands(asked: Result<ClusterStatus, ApiError>) -> Ready {
    match asked {
        Ok(status) if status.leader.is_some() => (true, status.leader, String::new()),
        Ok(status) if status.message.is_empty() => (false, None, "no leader is known here".to_owned()),
        Ok(status) => (false, None, status.message),
        Err(error) => (false, None, error.to_string()),
    }
}
