//! gRPC: sole owner of the generated code of `sheaf.v1` and `sheaf.peer.v1`. Everything that leaves this crate speaks
//! `model`; nobody else sees a message.
//!
//! ```text
//!  console, web, others                     any node                                        the node that answers
//!      │ Client::apply_bucket(ApplyBucket)      │                                                    │
//!      ├─ message ─────────────────────────────►│ Front: class, Route::target                        │
//!      │                                        ├─ the same bytes, one hop on ──────────────────────►│ Front: Local
//!      │                                        │                                                    ├─ spec::read
//!      │                                        │                                                    ├─ BucketApi::apply
//!      │◄─ Applied or ApiError ─────────────────┤◄───────────────────────────────────────────────────┤
//!
//!  agents among themselves: PeerClient ──► PeerApi, AgentApi, LogsApi (never forwarded)
//! ```
//!
//! Read in this order: [`error`](ApiError) and [`Caller`] (what all calls share), [`bucket`] (the pattern: what is
//! asked, the trait, both ends), its siblings [`cluster`], [`module`], [`node`], [`instance`], [`secret`], [`event`], [`logs`],
//! [`backend`], [`sink`], [`job`] (asked by a stream), [`query`], [`debug`], then [`peer`],
//! `spec` (documents as messages), [`forward`], [`guard`] (who may make which call), [`Transport`], [`outward`] (TLS to others),
//! [`inward`] (TLS for browsers), [`trace`] (what is told of it all), [`Server`], [`Client`]; [`probe`] is for
//! tests.

mod bearer;
mod call;
mod caller;
mod change;
mod client;
mod codec;
mod error;
mod proto;
mod server;
mod spec;
mod transport;

#[cfg(test)]
mod tests;

pub mod artifact;
pub mod backend;
pub mod bucket;
pub mod cluster;
pub mod debug;
pub mod event;
pub mod forward;
pub mod guard;
pub mod instance;
pub mod inward;
pub mod job;
pub mod logs;
pub mod module;
pub mod node;
pub mod outward;
pub mod peer;
pub mod probe;
pub mod query;
pub mod secret;
pub mod sink;
pub mod trace;

pub use bearer::{Bearer, Signed, Signer, public_key};
pub use caller::{CALLER_TEXT_MAX, Caller, DEFAULT_DEADLINE};
pub use change::{Answers, Applied, Done, Filter, Outcome, OutcomeVerb, PAGE_MAX, Page, PageOf, Term};
pub use client::{Asking, Client, Options};
pub use error::{ApiError, Applies};
pub use forward::{Alone, Class, Route, Target};
pub use guard::{Admitted, Certificate, Guard, Need, Presented};
pub use server::{Health, MESSAGE_MAX, Refused, ServeError, ServeOptions, Server};
/// For what answers an API: its futures are boxed, so that a server is compiled once, and not for each that answers.
pub use tonic::async_trait;
pub use transport::{
    Credentials, CredentialsError, Crowd, JOINS_ANEW, Join, Network, Pair, Pin, Place, Transport, holder_of,
    vouched,
};
