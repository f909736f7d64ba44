//! A program that is given events. The only process that the control plane runs, and only what this node's own configuration
//! names: whoever may change the cluster is not by that allowed to run what they like on its leader.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sheaf_model::{NodeName, SinkExec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::body::Envelope;
use super::undelivered::Undelivered;

/// Bytes kept of what it says on stderr.
const SAID_MAX: usize = 4 << 10;
/// Characters of that in an error.
const SHOWN: usize = 300;
/// Where it finds other programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What it said last comes at most so late.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Starts a program. What this process has changed of itself the program is not to have, and that is the agent's business.
pub type StartProgram = fn(&mut Command) -> io::Result<Child>;

/// The programs that this node lets sinks run.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// By their absolute paths.
    pub(crate) allowed: Arc<[String]>,
    /// How each is started.
    pub(crate) start: StartProgram,
}

/// None at all.
impl Default for Programs {
    fn default() -> Self {
        Self { allowed: Arc::default(), start: Command::spawn }
    }
}

/// Runs it once, with the events on stdin, and ends it and all that it began when its time is over.
pub(super) async fn run(
    exec: &SinkExec,
    programs: &Programs,
    node: &NodeName,
    envelope: &Envelope<'_>,
) -> Result<String, Undelivered> {
    let command = exec.command.clone();
    if !programs.allowed.contains(&command) {
        return Err(Undelivered::NotAllowed { node: node.clone(), command });
    }
    let failed = |source| Undelivered::Program { node: node.clone(), command: command.clone(), source };
    let mut program = Command::new(&command);
    program
        .args(&exec.args)
        .current_dir("/")
        // Of this agent's environment nothing, which may hold what is secret.
        .env_clear()
        .env("PATH", PATH)
        .env("SHEAF_SINK", &envelope.sink)
        .env("SHEAF_CLUSTER", &envelope.cluster)
        .env("SHEAF_DELIVERY", &envelope.delivery)
        .env("SHEAF_TEST", if envelope.test { "1" } else { "0" })
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = (programs.start)(&mut program).map_err(failed)?;
    let group = Group::of(&child);
    let within = exec.timeout.duration();
    let Ok((ended, said)) = tokio::time::timeout(within, talk(&mut child, envelope.lines())).await else {
        drop(group);
        let _ = child.wait().await; // killed with its group: this only collects it
        return Err(Undelivered::Killed { node: node.clone(), command, within });
    };
    drop(group); // everything it began
    let status = ended.map_err(failed)?;
    if status.success() {
        return Ok("exit code 0".to_owned());
    }
    let how = status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
    Err(Undelivered::Ended { node: node.clone(), command, how, said })
}

/// Gives it the events and waits for its end. Whether it reads all of them is its own affair: its exit code counts.
async fn talk(child: &mut Child, lines: String) -> (io::Result<std::process::ExitStatus>, String) {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let writing = async move {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(lines.as_bytes()).await; // it may have ended, or closed it
        }
    };
    let mut kept = Vec::new();
    let reading = async {
        let Some(mut stderr) = stderr else { return };
        let mut buffer = [0; 1024];
        // Read on beyond what is kept: it must not stand still because nobody listens.
        while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
            let room = SAID_MAX.saturating_sub(kept.len()).min(n);
            kept.extend_from_slice(&buffer[..room]);
        }
    };
    let mut reading = Box::pin(reading);
    let mut writing = Box::pin(writing);
    let (mut written, mut all_read) = (false, false);
    let ended = loop {
        tokio::select! {
            // Dropping the wait loses nothing: the child is waited for again.
            ended = child.wait() => break ended,
            () = &mut writing, if !written => written = true,
            () = &mut reading, if !all_read => all_read = true,
        }
    };
    if !all_read {
        let _ = tokio::time::timeout(LAST_WORDS, &mut reading).await; // what comes later is not the reason
    }
    drop(reading);
    (ended, said(&kept))
}

/// The last line of stderr, in one line.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let shown: String = last.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if shown.is_empty() { shown } else { format!(": {shown}") }
}

/// The program's process group; ended when this is dropped, also when nobody waits for it any more.
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sheaf_model::Span;

    use super::super::body::tests::event_of;
    use super::*;

    async fn sh(script: &str, timeout: Span) -> Result<String, Undelivered> {
        started(script, timeout, Command::spawn).await
    }

    async fn started(script: &str, timeout: Span, start: StartProgram) -> Result<String, Undelivered> {
        let exec = SinkExec {
            command: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            timeout,
            batch: 10,
        };
        let events = [event_of("job.failed", "a", "x"), event_of("job.failed", "b", "y")];
        let envelope = Envelope {
            sink: "s".to_owned(),
            cluster: "c".to_owned(),
            delivery: "d".to_owned(),
            test: false,
            events: &events,
        };
        let node = NodeName::new("n1").unwrap();
        let programs = Programs { allowed: ["/bin/sh".to_owned()].into(), start };
        run(&exec, &programs, &node, &envelope).await
    }

    #[tokio::test]
    async fn a_program_is_started_as_the_node_starts_them() {
        let start: StartProgram = |command| command.env("STARTED", "so").spawn();
        let script = "[ \"$STARTED\" = so ]";
        assert_eq!(started(script, Span::seconds(20), start).await.unwrap(), "exit code 0");
        sh(script, Span::seconds(20)).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_program_reads_a_line_for_each_event_and_its_exit_code_counts() {
        let script =
            "[ $(wc -l) = 2 ] && [ $SHEAF_SINK$SHEAF_DELIVERY$SHEAF_TEST = sd0 ] && [ -z \"$HOME\" ]";
        assert_eq!(sh(script, Span::seconds(20)).await.unwrap(), "exit code 0");
        assert_eq!(sh("exit 0", Span::seconds(20)).await.unwrap(), "exit code 0", "without reading");
        let error =
            sh("echo before >&2; echo no such pager >&2; exit 3", Span::seconds(20)).await.unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh on node n1 ended with exit code 3: no such pager");
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_all_it_began() {
        let began = Instant::now();
        let error = sh("sleep 300 & sleep 300", Span::millis(300)).await.unwrap_err();
        assert!(matches!(error, Undelivered::Killed { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[tokio::test]
    async fn only_what_the_node_allows_is_run() {
        let exec =
            SinkExec { command: "/bin/true".to_owned(), args: vec![], timeout: Span::seconds(9), batch: 1 };
        let envelope = Envelope {
            sink: "s".to_owned(),
            cluster: "c".to_owned(),
            delivery: "d".to_owned(),
            test: true,
            events: &[],
        };
        let node = NodeName::new("n1").unwrap();
        for allowed in [vec![], vec!["/bin/tru".to_owned(), "/bin".to_owned()]] {
            let programs = Programs { allowed: allowed.into(), ..Programs::default() };
            let error = run(&exec, &programs, &node, &envelope).await.unwrap_err();
            assert!(error.to_string().contains("[sinks] exec_allow"), "{error}");
        }
    }
}
