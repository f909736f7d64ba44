//! The control plane on one node: the API's services, agents' sessions, and the leader's loops.
//!
//! ```text
//!  callers ──sheaf.v1──► bucket, module, node, cluster, event ──propose──► replica ──► the log
//!                                     ▲ views                                │ changes
//!                                     │                                      ▼
//!  agents ──session──► session ──► Sessions (live) ◄── conductor ◄──── watch ──► agents, callers
//!                          │            ▲                  │ steward::due
//!                          ▼            │                  ▼
//!                       recorder   acknowledger         propose
//!  nodes ──hello, join, raft──► peer ──► replica
//! ```
//!
//! Reading order: `bucket` (a change and its way into the log: `propose`), `watch` (the way back), `session`,
//! `acknowledger`, `conductor` (what agents say and what the leader does about it), `recorder`, `members` (who votes),
//! `shortage` (voters whose disks are full), `transfer` (who leads next), `election` (whether leases outlast one), `traces`
//! (what follows from what); `artifact` (what is pushed), `secret` (what is sealed), `backend` (where subtasks are sent), `access` (who is let in), `query` (what is
//! searched), `sink` (who is told), `debug` (what is shown to who is to help), `trust` (what secures it all);
//! then `place` (where this node stands), `directory` (whom it knows), `others` (what those are to the cluster), `route`
//! (where a call goes), `peer` and `peers` (between members).

mod access;
mod acknowledger;
mod artifact;
mod backend;
mod bucket;
mod clock;
mod cluster;
mod conductor;
mod debug;
mod directory;
mod dispatcher;
mod election;
mod event;
mod filter;
mod floor;
mod instance;
mod job;
mod live;
mod logs;
mod members;
mod module;
mod node;
mod others;
mod peer;
mod peers;
mod place;
mod plan;
mod propose;
mod query;
mod recorder;
mod rollback;
mod route;
mod schema;
mod secret;
mod service;
mod session;
mod shortage;
mod sink;
mod test;
mod traces;
mod transfer;
mod trust;
mod warnings;
mod watch;

pub use clock::Clock;
pub use directory::{hello, meet};
pub use peers::RemotePeers;
pub use place::{Identity, Member, Members, Opener, Place, Registration};
pub use schema::config_defects;
pub use secret::Sealing;
pub use service::{Control, Service};
pub use sink::StartProgram;
pub use trust::{Trust, TrustFailure};
