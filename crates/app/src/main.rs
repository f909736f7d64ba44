//! `sheaf`: the one binary. Reads the command line, builds what it asks for, runs it, and says how it ended.
//!
//! ```text
//!  sheaf agent ──► agent (config, data, place, control, server, forming, node)
//!  sheaf dev ────► dev   (agents as child processes, examples)
//!  sheaf keep ───► the keeper of one instance, before anything else is started
//!  anything else ► console (a client of any node)
//! ```

mod address;
mod agent;
mod check;
mod cli;
mod clock;
mod config;
mod data;
mod dev;
mod example;
mod form;
mod node;
mod replica;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // A keeper is small and outlives everything: no runtime, no command line parser.
    if arguments.next().is_some_and(|first| first == "keep") {
        return sheaf_agent::keeper::keep_main(arguments);
    }
    cli::main()
}
