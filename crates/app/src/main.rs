//! `sheaf`: the one binary. Reads the command line, builds what it asks for, runs it, and says how it ended.
//!
//! ```text
//!  sheaf agent ──► agent (config, data, place, control, server, http, forming, node)
//!  sheaf dev ────► dev   (agents as child processes, examples)
//!  sheaf keep ───► the keeper of one instance, before anything else is started
//!  sheaf builtin   a module that is part of the binary, for one job; the same holds of it
//!  sheaf stand-in  what holds the leases while the agent restarts
//!  sheaf module try   the agent's workbench: one program, no cluster
//!  anything else ► console (a client of any node)
//! ```

mod address;
mod agent;
mod attempt;
mod check;
mod cli;
mod clock;
mod config;
mod data;
mod dev;
mod disk;
mod example;
mod form;
mod http;
mod https;
mod init;
mod insight;
mod node;
mod notify;
mod ready;
mod recover;
mod replica;
mod restore;
mod secure;
mod signals;
mod stop;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Keys and tokens are in its memory, whatever it is.
    sheaf_agent::dump_nothing();
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    // A keeper is small and outlives everything: no runtime, no command line parser.
    if first == "keep" {
        return sheaf_agent::keeper::keep_main(arguments);
    }
    // The same holds of what spawns a program for each subtask.
    if first == "runner" {
        return sheaf_agent::runner::runner_main(arguments);
    }
    // A worker of a module that is part of the binary.
    if first == "builtin" {
        return sheaf_builtins::builtin_main(arguments);
    }
    if first == "stand-in" {
        telemetry::init(telemetry::LogFormat::Pretty);
        return sheaf_agent::stand_in_main(arguments);
    }
    cli::main()
}
