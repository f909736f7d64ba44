//! The guard: a child that ends what is left over if `sheaf dev` itself is killed.
//!
//! It waits at the other end of a pipe. A byte says that all is done; an end without one says that we are gone.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};

use super::layout::{Home, lock};
use super::leftovers;

/// How often the lock is asked for: the kernel may close the pipe of a process that was killed before its lock.
const TRIES: u32 = 20;
/// How long between.
const PAUSE: Duration = Duration::from_millis(50);

/// The guard's process and our end of the pipe.
pub(super) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts it, in a process group of its own: what ends us by the terminal must not end it.
    pub(super) fn start(binary: &Path, home: &Home) -> anyhow::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["dev", "--guard", "--dir"]).arg(home.path());
        if home.is_temporary() {
            command.arg("--temporary");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self { child: command.spawn().context("start the guard")? })
    }

    /// Tells it that there is nothing left to do, and waits for its end.
    pub(super) async fn done(mut self) {
        if let Some(pipe) = self.child.stdin.take().and_then(|pipe| pipe.into_owned_fd().ok()) {
            // A guard that is gone needs no word.
            let _ = std::fs::File::from(pipe).write_all(b"!");
        }
        let _ = self.child.wait().await;
    }
}

/// The guard's own work.
pub(super) async fn serve(directory: &Path, temporary: bool, binary: &Path) -> anyhow::Result<ExitCode> {
    let directory = directory.canonicalize().context("find the directory")?;
    // Nothing else runs in this process, so nothing is kept waiting.
    let said = std::io::stdin().lock().read(&mut [0]).unwrap_or(0);
    if said > 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let mut locked = lock(&directory)?;
    for _ in 0..TRIES {
        if locked.is_none() {
            tokio::time::sleep(PAUSE).await;
            locked = lock(&directory)?;
        }
    }
    // Whoever holds the lock still goes on with what is there.
    let Some(_lock) = locked else { return Ok(ExitCode::SUCCESS) };
    let left = leftovers::end(&directory, binary).await;
    if temporary {
        std::fs::remove_dir_all(&directory).context("remove the directory")?;
    }
    Ok(if left?.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
