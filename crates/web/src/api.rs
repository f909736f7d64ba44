//! The calls: `GET /api/v1/NOUN/VERB` shows, `POST` changes. One file for each noun.

mod bucket;
mod cluster;
mod event;
mod job;
mod module;
mod node;
mod query;
mod session;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use serde_json::json;
use sheaf_wire::Done;

use crate::answer::{self, Answer};
use crate::serve::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().nest("/api/v1", shows().merge(changes()))
}

fn shows() -> Router<Arc<Shared>> {
    Router::new()
        .route("/session", get(session::session))
        .route("/overview", get(cluster::overview))
        .route("/cluster/status", get(cluster::status))
        .route("/cluster/members", get(cluster::members))
        .route("/cluster/settings", get(cluster::settings))
        .route("/node/list", get(node::list))
        .route("/node/status", get(node::status))
        .route("/node/affinity", get(node::affinity))
        .route("/node/matrix", get(node::matrix))
        .route("/bucket/list", get(bucket::list))
        .route("/bucket/status", get(bucket::status))
        .route("/bucket/explain", get(bucket::explain))
        .route("/bucket/history", get(bucket::history))
        .route("/bucket/logs", get(bucket::logs))
        .route("/module/list", get(module::list))
        .route("/module/status", get(module::status))
        .route("/backend/list", get(module::backends))
        .route("/backend/status", get(module::backend))
        .route("/sink/list", get(module::sinks))
        .route("/sink/status", get(module::sink))
        .route("/job/list", get(job::list))
        .route("/job/status", get(job::status))
        .route("/job/explain", get(job::explain))
        .route("/job/subtasks", get(job::subtasks))
        .route("/job/attempts", get(query::attempts))
        .route("/job/progress", get(query::progress))
        .route("/job/watch", get(job::watch))
        .route("/job/logs", get(job::logs))
        .route("/event/list", get(event::list))
        .route("/events", get(event::watch))
        .route("/changes", get(event::changes))
        .route("/query", get(query::query))
        .route("/query/tables", get(query::tables))
}

fn changes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/login", post(session::login))
        .route("/logout", post(session::logout))
        .route("/cluster/transfer", post(cluster::transfer))
        .route("/node/drain", post(node::drain))
        .route("/node/undrain", post(node::undrain))
        .route("/node/forget", post(node::forget))
        .route("/node/label", post(node::label))
        .route("/bucket/suspend", post(bucket::suspend))
        .route("/bucket/resume", post(bucket::resume))
        .route("/bucket/restart", post(bucket::restart))
        .route("/bucket/purge", post(bucket::purge))
        .route("/bucket/move", post(bucket::relocate))
        .route("/bucket/rollback", post(bucket::rollback))
        .route("/bucket/delete", post(bucket::delete))
        .route("/sink/test", post(module::test_sink))
        .route("/job/pause", post(job::pause))
        .route("/job/resume", post(job::resume))
        .route("/job/delete", post(job::delete))
        .route("/job/cancel", post(job::cancel))
        .route("/job/retry", post(job::retry))
        .route("/job/reprioritize", post(job::reprioritize))
}

/// What a change answers: `outcome` is `verb`, or that it was so already.
fn done(kind: &str, name: &str, verb: &str, done: &Done) -> Answer {
    let outcome = if done.unchanged { "unchanged" } else { verb };
    Ok(answer::value(&json!({
        "kind": kind,
        "name": name,
        "outcome": outcome,
        "revision": done.revision.0,
        "warnings": done.warnings,
    })))
}
