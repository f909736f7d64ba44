//! HyperQueue beside us: a server and workers on loopback, by its own command line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sheaf_tests::need;

use crate::beside::{self, Program};

/// How long a server and its workers may take to find each other.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the tasks may take.
const LONGEST: Duration = Duration::from_secs(900);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The HyperQueue of this machine.
///
/// # Errors
/// Why there is none that can be used.
pub(crate) fn find() -> Result<Program, String> {
    let path = need::program("hq").ok_or("there is no program hq on PATH")?;
    Ok(Program { title: format!("HyperQueue, {}", beside::version(&path)?), path })
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
        let dir = beside::directory(place, "hq", round)?;
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
        beside::remove(&dir);
    }

    /// Runs a command to its end.
    fn call(&self, args: &[&str], within: Duration) -> Result<(), String> {
        let (mut child, begun) = (self.spawn(args)?, Instant::now());
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!("hq {}: {status}: {}", args.join(" "), beside::tail(&self.log())));
                }
                Ok(None) if begun.elapsed() < within => std::thread::park_timeout(PAUSE),
                other => {
                    beside::kill(&mut child);
                    return Err(format!("hq {} has not ended within {within:?}: {other:?}", args.join(" ")));
                }
            }
        }
    }

    fn spawn(&self, args: &[&str]) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.arg("--server-dir").arg(&self.dir).args(args).current_dir(&self.dir);
        beside::spawn(&mut command, "HQ_", &self.place, &self.log())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Drop for HyperQueue {
    fn drop(&mut self) {
        // Workers first: the server would look for them.
        self.children.iter_mut().rev().for_each(beside::kill);
    }
}
