//! Whom new files are for: what the agent makes is for its own user alone; what it runs makes its files with the mask that
//! the agent was started with.

use std::ffi::OsString;
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

/// In the environment of keepers and runners: the mask for what they run, in octal digits.
pub(crate) const VARIABLE: &str = "SHEAF_UMASK";
/// Nothing for the group, nothing for others.
const OWN: u32 = 0o077;

/// The mask that this process was started with, once it has one of its own.
static GIVEN: OnceLock<Mode> = OnceLock::new();

/// From here on whatever this process makes is for its own user alone, and what it starts through keepers and runners gets
/// the mask that was there before. Once is enough.
pub fn keep_to_itself() {
    GIVEN.get_or_init(|| {
        let before = umask(Mode::from_raw_mode(OWN));
        // One that has replaced itself by a new life was told what the first had.
        handed().unwrap_or(before)
    });
}

/// What those are told who start programs for us.
pub(crate) fn handed_on() -> Option<(&'static str, OsString)> {
    GIVEN.get().map(|mask| (VARIABLE, format!("{:03o}", mask.as_raw_mode()).into()))
}

/// Takes what was handed on, for the programs that this process starts or becomes.
pub(crate) fn take() {
    if let Some(mask) = handed() {
        umask(mask);
    }
}

fn handed() -> Option<Mode> {
    let text = std::env::var(VARIABLE).ok()?;
    u32::from_str_radix(&text, 8).ok().filter(|mask| *mask <= 0o777).map(Mode::from_raw_mode)
}
