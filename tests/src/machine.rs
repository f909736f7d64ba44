//! This machine, for one test at a time.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use crate::need::say;
use crate::{binary, processes};

/// What directories of tests begin with.
const PREFIX: &str = "sheaf-t.";

/// The machine-wide right to start agents, with a directory for them. Its end ends all that was started in it.
///
/// Agents of two tests at a time would starve each other: heartbeats would be late, and a test would fail for it.
#[derive(Debug)]
pub struct Machine {
    place: PathBuf,
    binary: PathBuf,
    taken: Instant,
    /// Locked as long as this lives, for other threads and other processes alike.
    _lock: File,
}

impl Machine {
    /// Waits for the lock, ends what an earlier test that was killed has left over, and has the binary built.
    pub fn take() -> Self {
        let lock = lock();
        let taken = Instant::now();
        sweep();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = env::temp_dir().join(format!("{PREFIX}{}.{count}", std::process::id()));
        fs::create_dir_all(&place).expect("a directory can be made for temporary files");
        let place = place.canonicalize().expect("the directory was just made");
        let binary = program(binary::path(), place.join("sheaf"));
        Self { place, binary, taken, _lock: lock }
    }

    /// A program of the tests, by this name in the directory.
    pub fn program(&self, built: &Path, name: &str) -> PathBuf {
        program(built, self.place.join(name))
    }

    /// The directory of everything in this test: short, absolute, without links.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The next version, as far as tests need one: the same build that says another number, and that number. The version
    /// stands in the binary as a text.
    pub fn next_version(&self) -> (PathBuf, String) {
        use std::os::unix::fs::PermissionsExt as _;
        let old = env!("CARGO_PKG_VERSION");
        let (rest, last) = old.split_at(old.len() - 1);
        let new = format!("{rest}{}", if last == "9" { "8" } else { "9" });
        let mut bytes = fs::read(&self.binary).expect("the binary can be read");
        let [from, to] = [old, &new].map(|version| format!("sheaf version {version}").into_bytes());
        let mut places = 0;
        for at in 0..bytes.len().saturating_sub(from.len()) {
            if bytes[at..].starts_with(&from) {
                bytes[at..at + to.len()].copy_from_slice(&to);
                places += 1;
            }
        }
        assert!(places > 0, "the version does not stand in the binary");
        let path = self.write("next/sheaf", bytes);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is the test's own");
        (path, new)
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Writes a file into the directory and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.place.join(name);
        let folder = path.parent().expect("the path is below the directory");
        fs::create_dir_all(folder).expect("a directory can be made in the test's own");
        fs::write(&path, content).expect("a file can be written in the test's own directory");
        path
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let ended = Instant::now();
        let left = processes::end_all(&self.place);
        let failed = thread::panicking();
        if failed || env::var_os("SHEAF_TEST_KEEP").is_some_and(|value| !value.is_empty()) {
            say(&format!("kept: {}", self.place.display()));
        } else if let Err(error) = fs::remove_dir_all(&self.place) {
            say(&format!("{}: not removed: {error}", self.place.display()));
        }
        let [whole, end] = [self.taken, ended].map(|since| since.elapsed().as_secs_f64());
        say(&format!("{}: over after {whole:.1} s, of that its end {end:.1} s", test()));
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        assert!(failed || left.is_empty(), "processes that outlived their keeper:\n  {}", left.join("\n  "));
    }
}

/// The test that runs on this thread.
pub(crate) fn test() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// A link of its own, unless there is one: a build of somebody else must not replace a program while it runs.
fn program(built: &Path, link: PathBuf) -> PathBuf {
    if !link.exists() && fs::hard_link(built, &link).is_err() {
        fs::copy(built, &link).unwrap_or_else(|error| panic!("copying {}: {error}", built.display()));
    }
    link
}

fn lock() -> File {
    let path = env::temp_dir().join("sheaf-tests.lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        flock(&file, FlockOperation::LockExclusive).expect("a lock can be waited for");
    }
    // For people who wonder who has it.
    let _ = file.set_len(0);
    let _ = writeln!(file, "{}", std::process::id());
    file
}

/// Ends what earlier tests have left over whose end could not do it: they were killed. The lock says that none of them
/// is alive.
fn sweep() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let owner = rest.split('.').next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
        if owner != std::process::id() && !processes::is_alive(owner) {
            for process in processes::end_all(&entry.path()) {
                say(&format!("left over by an earlier test and ended: {process}"));
            }
            // What failed stays to be looked at for a while.
            let age =
                entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age.as_secs() > 3600) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}
