//! Programs of others that we are measured beside, started and ended here.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sheaf_tests::processes;

/// A program of this machine.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// What it is called, with its version.
    pub(crate) title: String,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.path.display())
    }
}

/// What a program says of its version.
///
/// # Errors
/// Why it says nothing.
pub(crate) fn version(path: &Path) -> Result<String, String> {
    let said = Command::new(path).arg("--version").output();
    let said = said.map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

/// Makes the directory for the data of a round.
///
/// # Errors
/// Why it could not be made.
pub(crate) fn directory(place: &Path, name: &str, round: usize) -> Result<PathBuf, String> {
    let dir = place.join(format!("{name}-{round}"));
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(dir)
}

/// Starts one without anything of the caller's environment that it would look at, which begins with `prefix`. What it says
/// goes to the end of its log.
///
/// # Errors
/// Why that failed.
pub(crate) fn spawn(command: &mut Command, prefix: &str, place: &Path, log: &Path) -> Result<Child, String> {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(prefix) {
            command.env_remove(name);
        }
    }
    // If this process is killed, the next one finds it and ends it.
    command.env(processes::PLACE, place);
    let failed = |error: std::io::Error| format!("{}: {error}", log.display());
    let file = File::options().create(true).append(true).open(log).map_err(failed)?;
    let copy = file.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(copy).stderr(file);
    command.spawn().map_err(|error| format!("starting {command:?}: {error}"))
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// Ends one at once.
pub(crate) fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Removes what one has left behind.
pub(crate) fn remove(dir: &Path) {
    // Left where it is, it disturbs nothing but the disk's free space.
    let _ = fs::remove_dir_all(dir);
}
