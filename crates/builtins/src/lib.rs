//! Modules that are part of the binary: `runtime: builtin:NAME`. Each takes subtasks as any worker does, in a process of its
//! own (`sheaf builtin NAME`, which an agent starts), so that limits, stops and losses are those of every other worker.
//!
//! ```text
//!  a job with `backends: [tiles]` ──subtasks──► http ── POST, with a key of its own ──► the service that tiles is
//!                                      │        ├──── GET, until it has ended ───────►
//!                                      │        └──── DELETE, if it is not wanted ───►
//!                                      └ what is under way upstream, in files, for the next process
//! ```
//!
//! Read [`http`]: its parts say how a backend's `config` reads, how one request is made, and what becomes of one subtask.

pub mod http;

use std::ffi::OsString;
use std::process::ExitCode;

/// Names the variable that says which cluster this is.
pub const CLUSTER: &str = "SHEAF_CLUSTER";
/// Names the variable that says which job this is, as a number that no other job of the cluster has, ever.
pub const JOB_ID: &str = "SHEAF_JOB_ID";
/// Names the variable that says where files lie that the job's next process on this node finds.
pub const KEPT: &str = "SHEAF_KEPT";

/// Runs a module of this crate until its caller has no more for it; `args` are those after `sheaf builtin`: its name. Call it
/// before any runtime or thread exists.
pub fn builtin_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let name = args.next().unwrap_or_default();
    match (name.to_str(), args.next()) {
        (Some("http"), None) => http::main(),
        _ => {
            eprintln!("sheaf builtin: expected the name of one, which is http");
            ExitCode::FAILURE
        }
    }
}
