//! The keeper: the small process that supervises one instance and outlives the agent.
//!
//! ```text
//!  agent                     keeper (`sheaf keep`)                    second stage (`sheaf keep --exec`)
//!    │ plan.json                │                                        │
//!    ├─ spawns ────────────────►│ own session, subreaper, bucket's lock  │
//!    │◄──────── Status ─────────┤ timer armed                            │
//!    │                          ├─ spawns, in a group of its own ───────►│ dies with its parent
//!    │                          │ check at exec                          │
//!    │                          ├─ go ──────────────────────────────────►│ becomes the program
//!    ├─ Deadline, Stop ────────►│                                        │
//!    │◄──────── Status ─────────┤◄────────────── output, exit ───────────┤
//! ```
//!
//! [`keep_main`] is one thread around `poll`, and what it does is what [`sheaf_engine::keep`] says. Only the keeper of a
//! plugin has a second one, with the runtime that gRPC needs: `caller`. The agent's side is [`crate::keepers`], reading the output is [`crate::logs`].
//!
//! # On disk, below the agent's data directory
//!
//! ```text
//! instances/logs+web/          of bucket /logs/web; mode 0700, like all directories here, but for those above the directory
//!                              of an instance that runs as another user, who must pass
//!   plan.json                  what to run; written by the agent before it spawns a keeper, under the bucket's lock
//!   update.json                what a program goes on with after a change; written by the agent before it says so
//!   change.json                what changed, for the command that tells the program; written by the keeper
//!   status.json                where it is; written by the keeper at every change, synced when it is the last one
//!   keeper.sock                one JSON value a line, both ways; relative paths only, as a socket's is short
//!   keeper.log                 what a keeper has to say when all else fails
//!   output/current.log, 1.log… `MILLISECONDS STREAM TEXT` a line, newest file first; STREAM is o, e, or s for a start
//!   dir/                       the program's own directory: `${dir}`, `SHEAF_DIR`; its rendered files are in it
//! sockets/4711/m, 4711/c       where a plugin serves its module, and is served its context; by its keeper's process id, as
//!                              a socket's path must be short
//! sockets/agent                where the agent answers what plugins ask of the cluster, while it is up
//! gates/instances/…            the same for the processes of plugins that are asked gate 3; their keepers end with the agent
//! fences/logs+web.json         what was given up for good; outlives the instance
//! fences/logs+web.lock         the bucket's lock: held by its keeper for life, and by whoever writes the three above
//! ```
//!
//! A bucket's path becomes a directory's name by leaving out its first slash and writing `+` for the others, which no
//! bucket's path contains.

use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) mod caller;
pub(crate) mod cgroup;
pub(crate) mod change;
pub mod clock;
pub(crate) mod confine;
pub(crate) mod exec;
pub(crate) mod layout;
mod opened;
pub(crate) mod output;
mod plan;
pub(crate) mod proc;
pub(crate) mod program;
mod run;
pub(crate) mod wires;

pub use confine::Confine;
pub(crate) use run::first_wire;

pub use opened::{Confided, Confidential, Opened};
pub use plan::{Commands, FromKeeper, KeeperProcess, OutputLimits, Plan, Plugin, Status, ToKeeper};

/// Runs a keeper, or its second stage; `args` are those after `sheaf keep`. Call it before any runtime or thread
/// exists: the program dies with the thread that spawned it.
pub fn keep_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    keep(args.collect())
}

fn keep(args: Vec<OsString>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    if args.next_if(|arg| arg == "--exec").is_some() {
        return exec::second_stage(args);
    }
    if run::run(args) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
