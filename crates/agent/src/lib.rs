//! The node side of Sheaf: it asks the machine what it may run, runs it, and tells the leader.
//!
//! ```text
//!  any member ── watch ──►┐                              ┌─► executor ──► keepers ──► programs
//!  the leader ◄─ session ─┤ agent: node::step (engine) ──┼─► checks ────► the machine
//!                         └──────────────────────────────┘
//! ```
//!
//! Read in this order: [`agent`] (the loop), `link` (its two streams), [`checks`] (gate 3), `executor` (what is done about
//! instances and heard of them), `artifacts` (what is fetched before), `context` (what plugins ask of the cluster),
//! `secrets` (what is opened here), `stand_in` (who holds the leases meanwhile), `trail` (what is told of it), `restarts` (what
//! does not get far), [`facts`], [`handle`] (what others may ask of a running agent), `work` (subtasks). Then the keeper, a process of its own: [`keeper`], the agent's side of it [`keepers`],
//! and [`logs`]. The [`runner`], also a process of its own, runs what belongs to jobs. Apart from all of it:
//! [`workbench`], where developers try a module.
//! What to do is never decided here but in [`sheaf_engine::node`].

pub mod agent;
pub mod checks;
pub mod error;
pub mod facts;
pub mod handle;
pub mod keeper;
pub mod keepers;
pub mod logs;
pub mod runner;
pub mod workbench;

mod alarm;
mod artifacts;
mod context;
mod credentials;
mod executor;
mod given;
mod link;
mod process;
mod restarts;
mod secrets;
mod stand_in;
mod trail;
mod work;

pub use agent::{Agent, Options};
pub use error::AgentError;
pub use facts::{NodeConfig, Strain};
pub use given::{NOTIFY_SOCKET, dump_nothing, handed_on, keep_to_itself, start};
pub use handle::{Handle, Running, State, Stopped};
pub use link::Members;
pub use process::{ask_to_stop, end_with_parent, run_again, runs_as_root, vacate};
pub use sheaf_engine::node::Leaving;
pub use stand_in::stand_in_main;
