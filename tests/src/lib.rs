//! What cross-crate proof needs: real agents on this machine, a way to ask them, and a clean end.
//!
//! ```text
//!  Machine ── takes the machine-wide lock, has the binary built, owns a directory; its end leaves no process
//!     └── Cluster ── agents with ports, config files and data directories of their own
//!            ├── Agent ── start, signal, kill, log        └── cli ── Output, Follower; screen ── Screen; browser ── Browser
//!            └── Cases ── many cases on one cluster, each with its name and its time
//! ```
//!
//! Read [`machine`], [`cluster`], [`agent`], [`cli`], then [`wait`] and [`cases`]. Tests wait for conditions, never for
//! a time.
//!
//! Environment: `SHEAF_BIN` (the binary to test; else it is built), `SHEAF_TEST_KEEP` (the directories stay),
//! `SHEAF_TEST_CASE` (only cases whose name contains it), `CI` (what is missing is a failure, not a reason to skip).

pub mod agent;
pub mod beats;
mod binary;
pub mod browser;
pub mod calls;
pub mod cases;
pub mod cli;
pub mod cluster;
pub mod collector;
pub mod config;
pub mod containers;
pub mod crowd;
pub mod dashboard;
pub mod disk;
pub mod documents;
pub mod emulator;
pub mod fuzz;
pub mod image;
pub mod jobs;
pub mod linear;
pub mod machine;
pub mod mailserver;
pub mod manual;
pub mod need;
pub mod nemesis;
pub mod net;
pub mod outside;
pub mod ports;
pub mod postbox;
pub mod processes;
pub mod receiver;
pub mod screen;
pub mod secured;
pub mod service;
pub mod syscalls;
pub mod tls;
pub mod tunnel;
pub mod wait;
pub mod web;

/// The file in a machine's directory whose token commands show; none: they show none.
pub const TOKEN: &str = "token";

/// The file in a machine's directory that says where commands send their traces; none: nowhere.
pub const TRACES: &str = "traces";

pub use agent::Agent;
pub use cases::Cases;
pub use cli::{Follower, Output};
pub use cluster::Cluster;
pub use config::NodePlan;
pub use machine::Machine;
pub use service::Service;
pub use wait::{wait_for, wait_until};
