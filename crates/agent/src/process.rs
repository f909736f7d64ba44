//! The agent as a process: who ends it, and how it is asked to.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::given;

/// Makes this process end, as by SIGTERM, when the one that started it ends, however it does.
///
/// # Errors
/// What the kernel says.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// Asks the agent that is process `agent` to stop: by SIGTERM, for a restart; by SIGUSR1 to let its node's work go to
/// others before.
///
/// # Errors
/// What the kernel says; among others that there is no such process.
pub fn ask_to_stop(agent: u32, release: bool) -> io::Result<()> {
    let pid = i32::try_from(agent).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "that is no process"))?;
    Ok(kill_process(pid, if release { Signal::USR1 } else { Signal::TERM })?)
}

/// Clears the way for the next agent of a service that has stopped while its instances go on: its control group must be
/// free. Without effect where there is nothing in the way.
///
/// # Errors
/// What the kernel says.
pub fn vacate() -> io::Result<()> {
    crate::keeper::cgroup::vacate()
}

/// Replaces this process by a new life of `program`, with the same arguments, under the same number. Returns only if that
/// fails, with what the kernel says.
pub fn run_again(program: &Path) -> io::Error {
    Command::new(program).args(std::env::args_os().skip(1)).envs(given::handed_on()).exec()
}

/// Whether this process may do everything on its machine.
pub fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}
