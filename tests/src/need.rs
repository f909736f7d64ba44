//! What a machine may lack.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a program lies, also in the directories of system programs.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|place| place.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whether these programs are there. If not, says so; where `CI` is set that is a failure.
///
/// # Panics
/// When one is missing and `CI` is set.
pub fn programs(names: &[&str]) -> bool {
    let missing: Vec<&str> = names.iter().copied().filter(|name| program(name).is_none()).collect();
    missing.is_empty() || skipped(&missing.join(", "))
}

/// Says that a test was skipped for want of something; always false.
///
/// # Panics
/// When `CI` is set.
pub fn skipped(what: &str) -> bool {
    assert!(env::var_os("CI").is_none_or(|value| value.is_empty()), "needs {what}, and CI is set");
    say(&format!("skipped: needs {what}"));
    false
}

/// Says something that is seen also when the test passes.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
