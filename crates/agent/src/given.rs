//! What the agent changes of itself, and what it runs has as it was given to the agent: new files are for its own user alone, and
//! it leaves no core, since keys and tokens are in its memory.
//!
//! ```text
//!  agent ── SHEAF_UMASK, SHEAF_CORE ──► keeper ──► second stage: takes both, becomes the program
//!     └──── the same ─────────────────► runner: takes the mask, lends the limit for each start
//! ```

use std::ffi::OsString;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// In the environment of keepers and runners: the mask for what they run, in octal digits.
const UMASK: &str = "SHEAF_UMASK";
/// The same: how many bytes a core of it may have.
const CORE: &str = "SHEAF_CORE";
/// In the environment of an agent that systemd wants to hear from, where to. That is the agent's alone: what it runs has no say in
/// how its unit is.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// What stands for no limit there.
const UNLIMITED: &str = "unlimited";
/// Nothing for the group, nothing for others.
const OWN: u32 = 0o077;

/// The mask that this process was started with, once it has one of its own.
static MASK: OnceLock<Mode> = OnceLock::new();
/// How many bytes a core of it might have had, once it has none; none: any number.
static CORE_LIMIT: OnceLock<Option<u64>> = OnceLock::new();

/// From here on whatever this process makes is for its own user alone, and what it starts through keepers and runners gets
/// the mask that was there before. Once is enough.
pub fn keep_to_itself() {
    MASK.get_or_init(|| {
        let before = umask(Mode::from_raw_mode(OWN));
        // One that has replaced itself by a new life was told what the first had.
        handed_mask().unwrap_or(before)
    });
}

/// Bytes of no core. With 0 the kernel still gives one to a program that `core_pattern` names; this is what it gives that program
/// itself, and what keeps it from both (`fs/coredump.c`).
const NO_CORE: u64 = 1;

/// From here on this process leaves no core, and what it starts through keepers and runners does as it would have before. Once is
/// enough.
pub fn dump_nothing() {
    CORE_LIMIT.get_or_init(|| {
        let before = getrlimit(Resource::Core).current;
        limit_core(Some(NO_CORE));
        handed_core().unwrap_or(before)
    });
}

/// What those are told who start programs for us.
pub fn handed_on() -> impl Iterator<Item = (&'static str, OsString)> {
    let mask = MASK.get().map(|mask| (UMASK, OsString::from(format!("{:03o}", mask.as_raw_mode()))));
    let core = CORE_LIMIT.get().map(|most| {
        let most = most.map_or_else(|| UNLIMITED.to_owned(), |most| most.to_string());
        (CORE, OsString::from(most))
    });
    mask.into_iter().chain(core)
}

/// A program does not find in its environment what was handed on, and what is the agent's alone.
pub(crate) fn hide(command: &mut Command) -> &mut Command {
    command.env_remove(UMASK).env_remove(CORE).env_remove(NOTIFY_SOCKET)
}

/// Takes what was handed on, or what this process was started with, for the program that it becomes.
pub(crate) fn take() {
    take_mask();
    if let Some(most) = CORE_LIMIT.get().copied().or_else(handed_core) {
        limit_core(most);
    }
}

/// Takes the mask that was handed on, for what this process starts.
pub(crate) fn take_mask() {
    if let Some(mask) = handed_mask() {
        umask(mask);
    }
}

/// Starts something that has the limit of cores which this process was given.
pub(crate) fn with_cores<T>(start: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let Some(most) = CORE_LIMIT.get() else { return start() };
    // The limit is of the whole process: another thread must not take it back meanwhile.
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    limit_core(*most);
    let started = start();
    limit_core(Some(NO_CORE));
    started
}

/// Starts a program of this node that is neither a keeper's nor a runner's: it has the limit of cores which this process was given,
/// and this process's mask.
///
/// # Errors
/// It cannot be started.
pub fn start(command: &mut tokio::process::Command) -> std::io::Result<tokio::process::Child> {
    with_cores(|| command.spawn())
}

/// The soft limit alone, as far as the hard one lets it.
fn limit_core(most: Option<u64>) {
    let maximum = getrlimit(Resource::Core).maximum;
    let current = match (most, maximum) {
        (Some(most), Some(hard)) => Some(most.min(hard)),
        (most, hard) => most.or(hard),
    };
    // It is never higher than the hard one, so nothing is to be refused.
    let _ = setrlimit(Resource::Core, Rlimit { current, maximum });
}

fn handed_mask() -> Option<Mode> {
    let text = std::env::var(UMASK).ok()?;
    u32::from_str_radix(&text, 8).ok().filter(|mask| *mask <= 0o777).map(Mode::from_raw_mode)
}

fn handed_core() -> Option<Option<u64>> {
    let text = std::env::var(CORE).ok()?;
    if text == UNLIMITED { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes a core of what is started may have.
    fn of_a_child() -> String {
        let limits = with_cores(|| Command::new("cat").arg("/proc/self/limits").output()).unwrap();
        let limits = String::from_utf8(limits.stdout).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }

    #[test]
    fn a_process_that_leaves_no_core_starts_others_that_may() {
        let maximum = getrlimit(Resource::Core).maximum;
        let most = maximum.map_or(8192, |hard| hard.min(8192));
        setrlimit(Resource::Core, Rlimit { current: Some(most), maximum }).unwrap();
        for _ in 0..2 {
            dump_nothing();
            assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(NO_CORE), maximum });
            assert_eq!(of_a_child(), most.to_string());
        }
        assert!(handed_on().any(|(name, value)| name == CORE && value == most.to_string().as_str()));
    }
}
