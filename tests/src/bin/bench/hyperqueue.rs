//! HyperQueue beside us: a server and workers on loopback, by its own command line.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sheaf_tests::{need, processes};

/// How long a server and its workers may take to find each other.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the tasks may take.
const LONGEST: Duration = Duration::from_secs(900);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The HyperQueue of this machine.
pub(crate) struct Program {
    path: PathBuf,
    version: String,
}

impl Program {
    /// Looks for it.
    ///
    /// # Errors
    /// Why there is none that can be used.
    pub(crate) fn find() -> Result<Self, String> {
        let path = need::program("hq").ok_or("there is no program hq on PATH")?;
        let said = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Ok(Self { path, version })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HyperQueue, {} ({})", self.version, self.path.display())
    }
}

/// A server and its workers, killed when this ends.
pub(crate) struct HyperQueue {
    program: PathBuf,
    place: PathBuf,
    dir: PathBuf,
    children: Vec<Child>,
}

impl HyperQueue {
    /// Starts a server with HyperQueue's own defaults, in an empty directory below `place`, and workers that run as many tasks
    /// at a time as there are cores, as agents do.
    ///
    /// # Errors
    /// Why that failed.
    pub(crate) fn start(
        program: &Program,
        place: &Path,
        round: usize,
        workers: usize,
    ) -> Result<Self, String> {
        let dir = place.join(format!("hq-{round}"));
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let (program, place) = (program.path.clone(), place.to_owned());
        let mut all = Self { program, place, dir, children: Vec::new() };
        let server = all.spawn(&["server", "start", "--host=127.0.0.1"])?;
        all.children.push(server);
        let begun = Instant::now();
        while let Err(why) = all.call(&["server", "info"], READY_WITHIN) {
            if begun.elapsed() > READY_WITHIN {
                return Err(format!("the server is not ready within {READY_WITHIN:?}: {why}"));
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            let worker = all.spawn(&["worker", "start", &format!("--cpus={cores}")])?;
            all.children.push(worker);
        }
        all.call(&["worker", "wait", &workers.to_string()], READY_WITHIN)?;
        Ok(all)
    }

    /// Runs so many tasks of `/bin/true` whose output nobody keeps. How long it took until all had ended.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) fn run(&self, tasks: u32) -> Result<Duration, String> {
        let array = format!("--array=0-{}", tasks.saturating_sub(1));
        let submit =
            ["submit", "--wait", "--cpus=1", "--stdout=none", "--stderr=none", &array, "--", "/bin/true"];
        let begun = Instant::now();
        self.call(&submit, LONGEST)?;
        Ok(begun.elapsed())
    }

    /// Kills it and removes its data.
    pub(crate) fn end(self) {
        let dir = self.dir.clone();
        drop(self);
        // Left where it is, it disturbs nothing but the disk's free space.
        let _ = fs::remove_dir_all(dir);
    }

    /// Runs a command to its end.
    fn call(&self, args: &[&str], within: Duration) -> Result<(), String> {
        let (mut child, begun) = (self.spawn(args)?, Instant::now());
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("hq {}: {status}: {}", args.join(" "), self.tail())),
                Ok(None) if begun.elapsed() < within => std::thread::park_timeout(PAUSE),
                other => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("hq {} has not ended within {within:?}: {other:?}", args.join(" ")));
                }
            }
        }
    }

    /// Starts one without anything of the caller's environment that it would look at.
    fn spawn(&self, args: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.arg("--server-dir").arg(&self.dir).args(args).current_dir(&self.dir);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HQ_") {
                command.env_remove(name);
            }
        }
        // If this process is killed, the next one finds it and ends it.
        command.env(processes::PLACE, &self.place);
        let failed = |error: std::io::Error| format!("starting hq {}: {error}", args.join(" "));
        let file = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let copy = file.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(copy).stderr(file);
        command.spawn().map_err(failed)
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for HyperQueue {
    fn drop(&mut self) {
        // Workers first: the server would look for them.
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
