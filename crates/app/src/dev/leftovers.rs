//! What agents leave behind: keepers and instances, which outlive them on purpose, and agents that others started here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::join_all;
use rustix::process::Signal;
use sheaf_agent::keepers::{Found, KeeperOptions, Keepers};
use sheaf_model::BucketName;
use tokio::time::{sleep, timeout};

use super::agents::signal;

/// How long each step may take before the next one, which is rougher: a little more than the longest stop of the examples. A module
/// with a longer grace is killed after it.
const GRACE: Duration = Duration::from_secs(12);
/// How often it is looked whether killed processes are gone, and how long between.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Ends everything that belongs to a directory of `sheaf dev`, in an orderly way as far as that goes. Returns the
/// processes that are left; there should be none.
pub(super) async fn end(directory: &Path, binary: &Path) -> anyhow::Result<Vec<u32>> {
    let agents =
        || strays(directory, binary).into_iter().filter(|stray| stray.is_agent).map(|stray| stray.pid);
    for agent in agents() {
        // One that has ended just now cannot be asked any more.
        let _ = signal(agent, Signal::TERM);
    }
    let gone = async {
        while agents().next().is_some() {
            sleep(PAUSE).await;
        }
    };
    if timeout(GRACE, gone).await.is_err() {
        for agent in agents() {
            let _ = signal(agent, Signal::KILL);
        }
    }
    let directories = data_directories(directory);
    join_all(directories.iter().map(|data| stop_instances(data, binary))).await;
    Ok(kill(directory, binary).await)
}

/// Kills everything that belongs to the directory, at once. Returns what is left.
pub(super) async fn kill(directory: &Path, binary: &Path) -> Vec<u32> {
    for _ in 0..LOOKS {
        for data in data_directories(directory) {
            let Ok(keepers) = Keepers::open(options(data, binary)) else { continue };
            for found in keepers.scan().unwrap_or_default() {
                // Tried again as long as something is left.
                let _ = keepers.kill(found.bucket());
            }
        }
        let strays = strays(directory, binary);
        if strays.is_empty() {
            return Vec::new();
        }
        for stray in &strays {
            let _ = signal(stray.pid, Signal::KILL);
        }
        sleep(PAUSE).await;
    }
    strays(directory, binary).into_iter().map(|stray| stray.pid).collect()
}

fn options(data_dir: PathBuf, binary: &Path) -> KeeperOptions {
    KeeperOptions { data_dir, binary: binary.to_owned() }
}

/// Asks every keeper of a data directory to end its instance, and waits until they have.
async fn stop_instances(data: &Path, binary: &Path) {
    let Ok(keepers) = Keepers::open(options(data.to_owned(), binary)) else { return };
    let alive = keepers.scan().unwrap_or_default().into_iter().filter_map(|found| match found {
        Found::Alive { bucket } => Some(bucket),
        Found::Dead { .. } => None,
    });
    let stops = alive.map(|bucket| stop_instance(&keepers, bucket));
    // What does not end in time is killed by the caller.
    let _ = timeout(GRACE, join_all(stops)).await;
}

async fn stop_instance(keepers: &Keepers, bucket: BucketName) {
    // A keeper that cannot be spoken with is killed by the caller.
    if let Ok(handle) = keepers.adopt(&bucket).await {
        handle.stop();
        handle.ended().await;
    }
}

/// Whether this process is an instance that runs below the directory.
pub(super) fn runs_below(directory: &Path, pid: u32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let below = |bytes: &[u8]| Path::new(std::ffi::OsStr::from_bytes(bytes)).starts_with(directory);
    variable(&environment, b"SHEAF_DIR").is_some_and(below)
}

/// The data directories of all nodes that ever were here.
fn data_directories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().join("data")).filter(|data| data.is_dir()).collect()
}

/// A process that belongs to the directory.
#[derive(Debug, PartialEq, Eq)]
struct Stray {
    pid: u32,
    is_agent: bool,
}

/// Finds them: agents and keepers are this binary, called with or standing in the directory; what they run has
/// `SHEAF_DIR` below it. Nothing else is touched, be it somebody's editor on a file in there.
fn strays(directory: &Path, binary: &Path) -> Vec<Stray> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id()).filter_map(|pid| stray(pid, directory, binary)).collect()
}

fn stray(pid: u32, directory: &Path, binary: &Path) -> Option<Stray> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    // A process that is gone, or another user's, cannot be read and is none of ours.
    let runs = runs_below(directory, pid);
    let below = |bytes: &[u8]| Path::new(std::ffi::OsStr::from_bytes(bytes)).starts_with(directory);
    let line = fs::read(process.join("cmdline")).ok()?;
    let mut arguments = line.split(|byte| *byte == 0);
    let verb = arguments.nth(1).unwrap_or_default();
    let is_guard = verb == b"dev";
    let ours = is_binary(&process, binary) && !is_guard;
    let called = ours && arguments.any(below);
    let stands = ours && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    (runs || called || stands).then_some(Stray { pid, is_agent: ours && verb == b"agent" && !runs })
}

/// Whether the process is this binary, which may have been built anew since.
fn is_binary(process: &Path, binary: &Path) -> bool {
    let Ok(path) = fs::read_link(process.join("exe")) else { return false };
    let path = path.to_string_lossy().into_owned();
    Path::new(path.trim_end_matches(" (deleted)")) == binary
}

/// The value of a variable in the kernel's list of them.
fn variable<'a>(environment: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"XSHEAF_DIR=/a\0SHEAF_DIR_2=/b\0SHEAF_DIR=/c\0";
        assert_eq!(variable(environment, b"SHEAF_DIR"), Some(&b"/c"[..]));
        assert_eq!(variable(b"A=1\0", b"SHEAF_DIR"), None);
    }

    #[tokio::test]
    async fn what_runs_in_the_directory_is_ended_and_nothing_else() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().canonicalize().expect("it exists");
        let sleeper = |value: &str| {
            let mut command = tokio::process::Command::new("sleep");
            command.arg("600").env("SHEAF_DIR", value).kill_on_drop(true).spawn().expect("started")
        };
        let mut ours = sleeper(directory.join("n/data/instances/x/dir").to_str().expect("text"));
        let mut others = sleeper(&format!("{}-other/x", directory.display()));
        let reaped = tokio::spawn(async move { ours.wait().await });
        let left = end(&directory, Path::new("/no/such/binary")).await.expect("ended");
        assert_eq!(left, Vec::<u32>::new());
        assert!(reaped.await.expect("joined").is_ok());
        assert!(others.try_wait().expect("asked").is_none(), "it runs on");
    }
}
