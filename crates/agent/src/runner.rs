//! The runner: the process beside the agent that runs subtasks' programs.
//!
//! ```text
//!  agent                     runner (`sheaf runner`)                  a subtask's program
//!    ├─ spawns ────────────────►│ subreaper                              │
//!    ├─ Start ─────────────────►├─ spawns, in a group of its own ───────►│
//!    │                          │◄────────────── output, exit ───────────┤
//!    │◄──────── Ended ──────────┤ nothing of it is left                  │
//!    ├─ (its end closes) ──────►│ kills everything, and ends             │
//! ```
//!
//! Unlike a keeper it does not outlive the agent: an attempt is the agent's, and ends with it. It is small, so that spawning
//! is cheap, and spawns each program directly, without a second exec, unless its module says limits or a user: then by the
//! keepers' second stage. What a killed runner leaves is found by
//! [`MARK`] in its environment and killed by [`sweep`], before any attempt is started again.
//!
//! [`runner_main`] is one thread around `poll`; [`host`] is the agent's side.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use sheaf_model::{Exit, Span, Stop};

use crate::given;
use crate::keeper::proc;
use crate::keeper::{Confine, OutputLimits};

mod attempt;
pub mod host;
mod run;

/// The variable in the environment of everything that a runner starts: the agent's data directory, `:`, and the ticket.
pub const MARK: &str = "SHEAF_RUNNER";

/// What an agent says to its runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRunner {
    /// A program is to be run. A ticket that is in use is refused.
    Start(Box<Start>),
    /// It is to end: by its stop signal, after the grace by SIGKILL. One that has ended is no matter.
    Stop(u64),
    /// It is to end at once, by SIGKILL. One that has ended is no matter.
    Kill(u64),
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The agent's name for this run, never used twice in one life of a runner.
    pub ticket: u64,
    /// A path, or a name that is looked for in the `PATH` of its environment.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the runner's own environment.
    pub env: Vec<(String, String)>,
    /// Written into its directory before it starts, by name.
    pub files: Vec<(String, String)>,
    /// Where it starts: empty but for its files, and so again when it has ended.
    pub dir: PathBuf,
    /// The directory is there for another program then, which costs less than to make a new one; else it is removed.
    #[serde(default)]
    pub lent: bool,
    /// Where what it writes is kept, as a keeper keeps it; made with the first line.
    pub output: PathBuf,
    /// How much of it.
    pub limits: OutputLimits,
    /// It is stopped after so long.
    pub timeout: Option<Span>,
    /// How it is stopped.
    pub stop: Stop,
    /// What all its processes may use together, and whom it runs as.
    #[serde(default, skip_serializing_if = "Confine::is_none")]
    pub confine: Confine,
    /// Directories that its user gets as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<PathBuf>,
}

/// What a runner says to its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRunner {
    /// A program has ended, or could not be started, and nothing that it started is left.
    Ended(Ended),
    /// A program runs. Runners of earlier versions say so: the binary may be replaced by such a one while the agent runs.
    Started {},
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub ticket: u64,
    /// How its process ended; none: it could not be started, and the message says why.
    pub exit: Option<Exit>,
    /// Why it was stopped, if it was.
    pub stopped: Option<Stopped>,
    /// Its last lines, or why it could not be started. For people.
    pub message: String,
}

/// Why a program was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    /// It ran for longer than it may.
    TimedOut,
    /// The agent asked for it.
    Asked,
}

/// Runs a runner; `args` are those after `sheaf runner`: the agent's data directory. The agent is at the other end of
/// standard input. Call it before any runtime or thread exists.
pub fn runner_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(data_dir), None) = (args.next(), args.next()) else {
        eprintln!("sheaf runner: expected DATA_DIR");
        return ExitCode::FAILURE;
    };
    work(Path::new(&data_dir))
}

fn work(data_dir: &Path) -> ExitCode {
    // Its own files say their modes.
    given::take_mask();
    given::dump_nothing();
    match run::run(data_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sheaf runner: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Kills what runners of this data directory have left, and returns how many of its processes were known by their mark; those in a
/// runner's session go with it, as a process that is just becoming a program has no environment to be seen. None of them may be
/// running: what it runs would be killed with it.
pub fn sweep(data_dir: &Path) -> usize {
    let (mut swept, mut leaders) = (0, Vec::new());
    loop {
        let mut left = proc::marked(&entry(data_dir));
        swept += left.len();
        leaders.extend(proc::leaders(&left));
        left.extend(proc::in_sessions_of(&leaders));
        if left.is_empty() {
            return swept;
        }
        proc::kill_each(&left);
        crate::keeper::clock::pause(std::time::Duration::from_millis(1));
    }
}

/// What [`MARK`] begins with for everything of one data directory. That of a runner itself is no longer than this.
fn mark(data_dir: &Path) -> OsString {
    let mut mark = data_dir.as_os_str().to_owned();
    mark.push(":");
    mark
}

/// The same as it stands in an environment, name included.
fn entry(data_dir: &Path) -> Vec<u8> {
    [MARK.as_bytes(), b"=", mark(data_dir).as_bytes()].concat()
}
