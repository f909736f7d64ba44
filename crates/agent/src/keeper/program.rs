//! One start of the program: its second stage, its streams, and how the exec went.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};

use sheaf_model::{FileName, Timestamp};

use super::layout::{FileError, Layout, Sockets, write};
use super::output::{Output, STDERR, STDOUT};
use super::{Confided, Opened, Plan, Plugin, exec};

/// How much is read of a stream at a time.
const READ: usize = 32 << 10;
/// How much is read of a stream whose writers are all dead; somebody outside may have been given it.
const REST: usize = 1 << 20;

/// A started process.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its process and its group.
    pub(crate) pid: i32,
    /// Its end was taken note of; its number may soon be another's.
    pub(crate) ended: bool,
    /// Where the second stage waits for the word, and says why it could not execute the program.
    word: Option<UnixStream>,
    reason: Vec<u8>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// It is a command beside the instance's program.
    aside: bool,
}

/// How an exec went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    Yes,
    No(String),
}

impl Program {
    /// Renders the plan's files and starts the second stage in a group of its own. The error is for people.
    pub(crate) fn place(
        plan: &Plan,
        opened: &Opened,
        layout: &Layout,
        sockets: Option<&Sockets>,
    ) -> Result<Self, String> {
        render(plan, opened, layout)?;
        let mut command = second_stage(plan, opened, layout, &plan.program, &plan.args)?;
        if let (Some(plugin), Some(sockets)) = (&plan.plugin, sockets) {
            let context = matches!(plugin, Plugin::Instance(_)).then_some(&*sockets.context);
            plan.confine.hand_over(layout.data_dir(), sockets.dir())?;
            context.map_or(Ok(()), |socket| plan.confine.hand_over_socket(socket))?;
            speak(&mut command, plugin, sockets);
        }
        Self::start(command, false).map_err(|error| format!("{}: cannot be started: {error}", plan.program))
    }

    /// The same for a command that tells the program something, `more` in its environment. It runs beside the program.
    pub(crate) fn place_aside(
        plan: &Plan,
        opened: &Opened,
        layout: &Layout,
        line: &[String],
        more: &[(&str, OsString)],
    ) -> Result<Self, String> {
        let (program, args) = line.split_first().ok_or("there is nothing to run")?;
        let mut command = second_stage(plan, opened, layout, program, args)?;
        command.envs(more.iter().map(|(name, value)| (name, value)));
        Self::start(command, true).map_err(|error| format!("{program}: cannot be started: {error}"))
    }

    fn start(mut command: Command, aside: bool) -> io::Result<Self> {
        let (word, its_end) = UnixStream::pair()?;
        word.set_nonblocking(true)?;
        let mut child = command.stdin(Stdio::from(OwnedFd::from(its_end))).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        for stream in
            [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)].into_iter().flatten()
        {
            rustix::io::ioctl_fionbio(stream, true)?;
        }
        let pid = child.id().cast_signed();
        Ok(Self { pid, ended: false, word: Some(word), reason: Vec::new(), stdout, stderr, aside })
    }

    /// Lets the second stage become the program.
    pub(crate) fn go(&mut self) {
        if let Some(word) = &mut self.word {
            // One byte into an empty socket. If nobody is there to read it, its end is noticed.
            let _ = word.write_all(&[exec::GO]);
        }
    }

    /// What to poll.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let word = self.word.as_ref().map(AsFd::as_fd);
        let streams = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        word.into_iter().chain(streams.into_iter().flatten())
    }

    /// How the exec went, said once, as soon as it is known.
    pub(crate) fn executed(&mut self) -> Option<Executed> {
        let word = self.word.as_mut()?;
        let mut buffer = [0; 512];
        loop {
            match word.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => self.reason.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The second stage was killed before it read the word.
                Err(_) => break,
            }
        }
        self.word = None;
        let reason = String::from_utf8_lossy(&self.reason).into_owned();
        Some(if reason.is_empty() { Executed::Yes } else { Executed::No(reason) })
    }

    /// Keeps what has been written, a little of each stream, so that a loud program does not keep us from our timers.
    pub(crate) fn listen(&mut self, output: &mut Output, at: Timestamp) {
        self.listen_to(READ, output, at);
    }

    /// Keeps the rest, when nothing of the program is left.
    pub(crate) fn finish(mut self, output: &mut Output, at: Timestamp) {
        self.listen_to(REST, output, at);
        output.finish(at);
    }

    /// The same of a command: its last line comes back.
    pub(crate) fn finish_aside(mut self, output: &mut Output, at: Timestamp) -> String {
        self.listen_to(REST, output, at);
        output.finish_aside(at)
    }

    /// Errors are read first and kept last: so they never stand before what was written before them.
    fn listen_to(&mut self, most: usize, output: &mut Output, at: Timestamp) {
        let mut errors = Vec::new();
        read_some(&mut self.stderr, most, |bytes| errors.extend_from_slice(bytes));
        let take = if self.aside { Output::take_aside } else { Output::take };
        read_some(&mut self.stdout, most, |bytes| take(output, STDOUT, bytes, at));
        take(output, STDERR, &errors, at);
    }
}

/// The second stage that is to become `program`, in the instance's directory and environment and in a group of its own. The
/// error is for people.
fn second_stage(
    plan: &Plan,
    opened: &Opened,
    layout: &Layout,
    program: &str,
    args: &[String],
) -> Result<Command, String> {
    let dir = layout.dir();
    plan.confine.hand_over(layout.data_dir(), &dir)?;
    let orders = plan.confine.prepare(&layout.instance)?;
    let mut command = exec::stage(orders, program);
    command
        .args(args)
        .current_dir(&dir)
        .env("SHEAF_NODE", plan.node.as_str())
        .env("SHEAF_BUCKET", plan.bucket.as_str())
        .env("SHEAF_REVISION", plan.revision.to_string())
        .env("SHEAF_DIR", &dir)
        .env_remove("SHEAF_EPOCH")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(epoch) = plan.lease.epoch() {
        command.env("SHEAF_EPOCH", epoch.to_string());
    }
    for (name, value) in &plan.env {
        command.env(format!("{}{name}", exec::VARIABLE), value);
    }
    for it in &plan.confidential {
        if let Confided::Env(name) = &it.place {
            command.env(format!("{}{name}", exec::VARIABLE), it.reveal(opened)?);
        }
    }
    Ok(command)
}

/// What a plugin's program finds in its environment.
fn speak(command: &mut Command, plugin: &Plugin, sockets: &Sockets) {
    command
        .env(sheaf_module::SOCKET, &sockets.module)
        .env(sheaf_module::PROTOCOL_VARIABLE, sheaf_module::PROTOCOL.to_string());
    match plugin {
        Plugin::Instance(_) => command.env(sheaf_module::CONTEXT, &sockets.context),
        Plugin::Gate => command.env_remove("SHEAF_BUCKET").env_remove("SHEAF_REVISION"),
    };
}

/// Reads at most about `most` bytes; at the stream's end it is closed.
pub(crate) fn read_some<R: Read>(stream: &mut Option<R>, most: usize, mut take: impl FnMut(&[u8])) {
    let mut buffer = [0; 8192];
    let mut left = most;
    while let Some(reader) = stream {
        match reader.read(&mut buffer) {
            Ok(0) => *stream = None,
            Ok(read) => {
                take(&buffer[..read]);
                left = left.saturating_sub(read);
                if left == 0 {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => *stream = None,
        }
    }
}

/// Writes the plan's files anew, for its user. The error is for people.
pub(super) fn render(plan: &Plan, opened: &Opened, layout: &Layout) -> Result<(), String> {
    layout.make().map_err(|error| error.to_string())?;
    let owner = plan.confine.hand_over(layout.data_dir(), &layout.dir())?;
    let put = |name: &FileName, content: &str| {
        let path = layout.dir().join(name.as_str());
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            return Err(FileError::io("write", &path, io::Error::from(io::ErrorKind::IsADirectory)));
        }
        write(&path, content.as_bytes(), false, owner)
    };
    for (name, content) in &plan.files {
        put(name, content).map_err(|error| error.to_string())?;
    }
    for it in &plan.confidential {
        if let Confided::File(name) = &it.place {
            put(name, &it.reveal(opened)?).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
