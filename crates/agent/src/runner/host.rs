//! The agent's side of its runner.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{FromRunner, MARK, ToRunner, mark};
use crate::given;

/// What a runner has to say when all else fails, in the data directory.
const LOG: &str = "runner.log";
/// Messages under way, each way. As many attempts run at a time as the node has slots; the agent never starts more.
const QUEUE: usize = 1024;

/// A running runner. Dropping it ends everything that it runs.
#[derive(Debug)]
pub struct Runner {
    says: mpsc::Sender<ToRunner>,
    heard: mpsc::Receiver<FromRunner>,
}

impl Runner {
    /// Starts a runner of `data_dir`, of which no other may run: [`super::sweep`] first. To be called within a runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(binary: &Path, data_dir: &Path) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let log = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(data_dir.join(LOG))?;
        let child = Command::new(binary)
            .arg("runner")
            .arg(data_dir)
            .current_dir(data_dir)
            // A sweep ends the runner, too: one that was stopped would start what it had been told before it hears of its end.
            .env(MARK, mark(data_dir))
            .envs(given::handed_on())
            .env_remove(given::NOTIFY_SOCKET)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        let (reads, writes) = UnixStream::from_std(ours)?.into_split();
        let (says, to_say) = mpsc::channel(QUEUE);
        let (hears, heard) = mpsc::channel(QUEUE);
        tokio::spawn(say(writes, to_say));
        tokio::spawn(hear(reads, hears, child));
        Ok(Self { says, heard })
    }

    /// Says something. Nothing is said to one that is gone, which [`Runner::hear`] tells.
    pub async fn say(&self, message: ToRunner) {
        let _ = self.says.send(message).await;
    }

    /// The next thing that it says; none: it is gone, and what it ran is to be swept. Dropping the future loses nothing.
    pub async fn hear(&mut self) -> Option<FromRunner> {
        self.heard.recv().await
    }
}

/// Until nobody has anything to say any more: then the connection closes, and the runner ends.
async fn say(mut writes: OwnedWriteHalf, mut messages: mpsc::Receiver<ToRunner>) {
    let mut some = Vec::new();
    let mut lines = Vec::new();
    while messages.recv_many(&mut some, QUEUE).await > 0 {
        lines.clear();
        for message in some.drain(..) {
            // A message is plain data: it always has a JSON form.
            if serde_json::to_writer(&mut lines, &message).is_ok() {
                lines.push(b'\n');
            }
        }
        if writes.write_all(&lines).await.is_err() {
            return;
        }
    }
}

async fn hear(reads: OwnedReadHalf, hears: mpsc::Sender<FromRunner>, mut child: Child) {
    let mut lines = BufReader::with_capacity(64 << 10, reads).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str(&line) else {
            tracing::warn!("the runner says what it should not: {line}");
            break;
        };
        if hears.send(message).await.is_err() {
            break;
        }
    }
    // It ends everything before it ends itself; a sweep ends it if it does not.
    drop(lines);
    match child.wait().await {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!(%status, "the runner has ended; see {LOG} in the data directory"),
        Err(error) => tracing::warn!(%error, "the runner's end was not seen"),
    }
}
