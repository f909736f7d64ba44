//! The operator's browser: the dashboard, JSON, server-sent events, health and metrics, on a port of its own.
//!
//! ```text
//!  browser, curl, Prometheus
//!      │ HTTP/1.1, by TLS or, on the node's own machine, without
//!      ▼
//!  serve ── limits ──► door ── TLS? ──► guard ── host, origin ──► router
//!                                                  ├─ assets    /            pages, embedded, no other source
//!                                                  ├─ health    /healthz, /readyz
//!                                                  ├─ metrics   /metrics ◄── Source (what only the agent knows)
//!                                                  └─ api       /api/v1/NOUN/VERB ── access ──► Client ──► this node's gRPC
//! ```
//!
//! It knows nothing of the cluster but what any client is told: every answer comes over this node's own gRPC port, and
//! what a caller may do is decided there. `GET /api/v1/NOUN/VERB` answers what `sheaf NOUN VERB -o json` prints;
//! lists are pages, whose header `sheaf-next` says how to go on. A change is a `POST` with a JSON body, a session and
//! its token.
//!
//! Read in this order: `serve` (connections and their limits), `door` (one of them), `guard` (who may ask at all), `access`
//! (sessions), `ask` and `answer` (what all calls share), `api` (the calls), `live` (server-sent events), `hint` (that pages should look
//! anew), `fresh` (what many ask for is made once), `matrix` (the one answer that is made here), [`metrics`], `assets`.

mod access;
mod answer;
mod api;
mod ask;
mod assets;
mod door;
mod fresh;
mod guard;
mod health;
mod hint;
mod live;
mod matrix;
pub mod metrics;
mod serve;
mod stall;
#[cfg(test)]
mod tests;

pub use serve::{Limits, Options, Web};
