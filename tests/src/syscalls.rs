//! A running process whose system calls fail.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{need, processes, wait_for};

/// How long the tracer may take to have hold of every thread.
const WITHIN: Duration = Duration::from_secs(20);

/// What lets every fsync of a process fail as on a broken disk, until the process ends or this is dropped.
#[derive(Debug)]
pub struct FailingSyncs {
    tracer: Child,
}

impl FailingSyncs {
    /// Of this process, once all its threads are concerned, or it has ended for it already. None: the tracer, strace, is missing.
    ///
    /// # Panics
    /// When it is missing and `CI` is set, or may not trace the process.
    pub fn of(pid: u32) -> Option<Self> {
        if !need::programs(&["strace"]) {
            return None;
        }
        let mut strace = Command::new("strace");
        strace.args(["--follow-forks", "--quiet=all", "--output=/dev/null", "--trace=fsync,fdatasync"]);
        strace.arg("--inject=fsync,fdatasync:error=EIO").args(["-p", &pid.to_string()]);
        let tracer = strace.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut failing = Self { tracer: tracer.expect("strace is there") };
        wait_for(&format!("strace has hold of process {pid}"), WITHIN, || {
            if let Ok(Some(ended)) = failing.tracer.try_wait() {
                assert!(!processes::is_alive(pid), "strace cannot trace process {pid}: {ended}");
                return Ok(()); // one of its syncs came at once, and that was its end
            }
            let free = untraced(pid);
            if free.is_empty() { Ok(()) } else { Err(format!("threads without a tracer: {free:?}")) }
        });
        Some(failing)
    }
}

/// Its threads that nobody traces.
fn untraced(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let status = |thread: &fs::DirEntry| fs::read_to_string(thread.path().join("status"));
    let free = threads.filter(|thread| {
        status(thread).is_ok_and(|status| status.lines().any(|line| line == "TracerPid:\t0"))
    });
    free.map(|thread| thread.file_name().to_string_lossy().into_owned()).collect()
}

impl Drop for FailingSyncs {
    fn drop(&mut self) {
        // It has ended already if the process has.
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}
