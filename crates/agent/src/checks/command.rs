//! The `command` check: a program that exits with 0, or says why not. It runs as its module's user, as what it is asked for
//! will: what that user may not read is not there.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use sheaf_engine::gates::CheckAnswer;
use sheaf_model::{Span, clipped};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{QUOTED, remaining};
use crate::given;
use crate::keeper::{confine, exec};

/// Lines of output that make a reason.
const REASON_LINES: usize = 3;
/// Bytes of a reason; more output is read and thrown away.
const REASON_BYTES: usize = 600;
/// How long output may still come after the program ended: something it started may hold on to it for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Runs it as a process group of its own and ends all of that group, at the latest when the time is over.
pub(super) async fn run(words: &[String], limit: Span, user: Option<&str>) -> CheckAnswer {
    let Some((program, args)) = words.split_first() else {
        return CheckAnswer::Fails("command: nothing to run".to_owned());
    };
    let started = Instant::now();
    let spawned = match user {
        None => spawn(Command::new(program).args(args).stdin(Stdio::null())).map(|child| (child, None)),
        Some(user) => spawn_as(user, program, args).map(|(child, word)| (child, Some(word))),
    };
    let (mut child, word) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => return CheckAnswer::Unclear(format!("{program} could not be started: {error}")),
    };
    let group = Group::of(&child);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let ended = {
        let reading = async { tokio::join!(read(out, &mut stdout), read(err, &mut stderr)) };
        tokio::pin!(reading);
        let mut all_read = false;
        let ended = tokio::select! {
            // Dropping the wait loses nothing: the child is waited for again below, or killed.
            ended = tokio::time::timeout(remaining(limit, started), child.wait()) => ended,
            // All output was closed; the program may still run.
            _ = &mut reading => {
                all_read = true;
                tokio::time::timeout(remaining(limit, started), child.wait()).await
            }
        };
        if ended.is_ok() && !all_read {
            let _ = tokio::time::timeout(LAST_WORDS, reading).await; // what comes later is not the reason
        }
        ended
    };
    drop(group); // everything it started
    let reason = first_lines(&stdout, &stderr);
    let command = words.join(" ");
    let command = clipped(&command, QUOTED);
    match ended {
        Err(_) => {
            let _ = child.wait().await; // killed with its group: this only collects it
            CheckAnswer::Unclear(format!("{command}: no answer within {limit}"))
        }
        Ok(Err(error)) => CheckAnswer::Unclear(format!("{program}: {error}")),
        Ok(Ok(status)) if status.success() => CheckAnswer::Holds,
        Ok(Ok(status)) => match (word.and_then(why_not_begun), status.code(), reason) {
            (Some(why), ..) => CheckAnswer::Unclear(format!("{program} could not be started: {why}")),
            (None, Some(_), Some(reason)) => CheckAnswer::Fails(reason),
            (None, Some(code), None) => CheckAnswer::Fails(format!("{command}: exit code {code}")),
            (None, None, _) => CheckAnswer::Unclear(format!("{command} crashed: {status}")),
        },
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command
        .current_dir("/")
        .env_remove(given::NOTIFY_SOCKET)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    given::start(command)
}

/// By way of a second stage, which becomes that user and then the program; and where it says why it could not.
fn spawn_as(user: &str, program: &str, args: &[String]) -> io::Result<(Child, UnixStream)> {
    let mut command = exec::stage([confine::run_as(user)], program);
    let word = exec::let_go(command.args(args))?;
    Ok((spawn(&mut Command::from(command))?, word))
}

/// What a second stage that has ended said; none: it has become the program.
fn why_not_begun(mut word: UnixStream) -> Option<String> {
    let mut said = Vec::new();
    // Where the program has left something behind that holds on to the other end, there is nothing to read either.
    let _ = word.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said).into_owned();
    (!said.is_empty()).then_some(said)
}

/// The program's process group; ended when this is dropped, also when nobody waits for the answer any more.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL); // it fails only if nothing is left of it
        }
    }
}

/// Keeps the beginning and reads on to the end, or the program would be stopped by a full pipe.
async fn read(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 1024];
    while let Ok(length) = pipe.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        let room = REASON_BYTES.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&buffer[..room]);
    }
}

/// The first lines that say anything, of what it printed, else of what it complained about.
fn first_lines(stdout: &[u8], stderr: &[u8]) -> Option<String> {
    let lines = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let said = text.lines().map(str::trim).filter(|line| !line.is_empty());
        said.take(REASON_LINES).collect::<Vec<_>>().join("; ")
    };
    [stdout, stderr].into_iter().map(lines).find(|text| !text.is_empty())
}
