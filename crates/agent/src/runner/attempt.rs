//! One program under way: its process group, its streams, when it is to be stopped.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use sheaf_model::{Exit, Moment, Span, Stop};

use super::{Ended, MARK, Start, Stopped, mark};
use crate::given;
use crate::keeper::layout::write;
use crate::keeper::output::{Output, STDERR, STDOUT};
use crate::keeper::program::read_some;
use crate::keeper::{cgroup, clock, exec, proc};

/// How much is read of a stream at a time.
const READ: usize = 64 << 10;
/// How much is read of a stream whose writers are all dead; somebody outside may have been given it.
const REST: usize = 4 << 20;

/// The mode of a program's directory.
const OWN: u32 = 0o700;

/// See the module.
pub(super) struct Attempt {
    pub(super) ticket: u64,
    /// Its process and its group; 0 once that is reaped: its number may be another's then.
    pub(super) pid: i32,
    dir: PathBuf,
    /// The directory stays.
    lent: bool,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Output,
    stop: Stop,
    stopped: Option<Stopped>,
    /// Where the second stage says why it could not become the program.
    word: Option<UnixStream>,
    /// Its control groups', if it is confined.
    group: Option<String>,
    /// When something is to be done about it: the stop signal, or SIGKILL if it has had that.
    due: Option<Moment>,
}

impl Attempt {
    /// Starts it. The error is for people.
    pub(super) fn start(start: &Start, data_dir: &Path, now: Moment) -> Result<Self, String> {
        let program = found(start)?;
        make(start, data_dir).inspect_err(|_| remove(&start.dir))?;
        let mut mark = mark(data_dir);
        mark.push(start.ticket.to_string());
        let (mut command, word) = match start.confine.is_none() {
            true => (directly(start, &program), None),
            false => {
                let confined = confined(start, &program, data_dir).inspect_err(|_| remove(&start.dir))?;
                (confined.0, Some(confined.1))
            }
        };
        command
            .env(MARK, mark)
            .current_dir(&start.dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let spawned = given::with_cores(|| command.spawn()).inspect_err(|_| remove(&start.dir));
        let mut child = spawned.map_err(|error| format!("{}: cannot be started: {error}", start.program))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let streams = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        for stream in streams.into_iter().flatten() {
            // It is a pipe of ours: there is nothing to refuse.
            let _ = rustix::io::ioctl_fionbio(stream, true);
        }
        drop(command); // with the second stage's end of the word
        Ok(Self {
            ticket: start.ticket,
            pid: child.id().cast_signed(),
            dir: start.dir.clone(),
            lent: start.lent,
            stdout,
            stderr,
            output: Output::made_late(start.output.clone(), start.limits),
            stop: start.stop,
            stopped: None,
            word,
            group: (!start.confine.is_none()).then(|| cgroup::name(&start.dir)),
            due: start.timeout.map(|timeout| now.after(timeout)),
        })
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let streams = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        streams.into_iter().flatten()
    }

    /// When [`Attempt::tick`] has something to do.
    pub(super) const fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Keeps what has been written.
    pub(super) fn listen(&mut self) {
        self.listen_to(READ);
    }

    fn listen_to(&mut self, most: usize) {
        let at = clock::wall();
        let Self { stdout, stderr, output, .. } = self;
        read_some(stdout, most, |bytes| output.take(STDOUT, bytes, at));
        read_some(stderr, most, |bytes| output.take(STDERR, bytes, at));
    }

    /// Asks it to end, once. How it ended by itself before is not changed by that.
    pub(super) fn ask_to_stop(&mut self, why: Stopped, now: Moment) {
        if self.stopped.is_none() && self.pid != 0 {
            self.stopped = Some(why);
            self.signal(proc::kernel_signal(self.stop.signal));
            self.due = Some(now.after(self.stop.grace));
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Moment) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        if self.stopped.is_none() {
            return self.ask_to_stop(Stopped::TimedOut, now);
        }
        self.kill(now);
    }

    /// Ends it.
    pub(super) fn kill(&mut self, now: Moment) {
        if self.pid == 0 {
            return;
        }
        self.stopped.get_or_insert(Stopped::Asked);
        self.signal(Signal::KILL);
        // A process that sleeps in the kernel dies later; a new one of the group would have to be killed as well.
        self.due = Some(now.after(Span::seconds(1)));
    }

    /// Its process has ended, and the rest of its group was killed before: what else it left is the runner's to end.
    pub(super) fn reaped(&mut self) {
        self.pid = 0;
        self.due = None;
    }

    /// To its whole group, as long as that is known to be its own.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.pid) {
            // No such group: its members have ended.
            let _ = kill_process_group(group, signal);
        }
    }

    /// What is said of it when nothing of it is left.
    pub(super) fn ended(mut self, exit: Exit) -> Ended {
        self.listen_to(REST);
        self.output.finish(clock::wall());
        if !(self.lent && is_emptied(&self.dir)) {
            remove(&self.dir);
        }
        if let Some(group) = &self.group {
            cgroup::remove(group);
        }
        let mut reason = String::new();
        if let Some(word) = &mut self.word {
            // The other end is closed, as nothing of it is left; nothing is there if the program was executed.
            let _ = word.read_to_string(&mut reason);
        }
        let (ticket, stopped) = (self.ticket, self.stopped);
        match reason.is_empty() {
            true => Ended { ticket, exit: Some(exit), stopped, message: self.output.last_lines() },
            false => Ended { ticket, exit: None, stopped, message: reason },
        }
    }
}

/// The program itself.
fn directly(start: &Start, program: &Path) -> Command {
    let mut command = Command::new(program);
    given::hide(&mut command)
        .args(&start.args)
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    command
}

/// The second stage that is to become the program, and its word; it may do so at once. The error is for people.
fn confined(start: &Start, program: &Path, data_dir: &Path) -> Result<(Command, UnixStream), String> {
    for dir in &start.shared {
        start.confine.hand_over(data_dir, dir)?;
    }
    let orders = start.confine.prepare(&start.dir)?;
    let mut command = exec::stage(orders, program);
    command
        .args(&start.args)
        .envs(start.env.iter().map(|(name, value)| (format!("{}{name}", exec::VARIABLE), value)));
    let word = exec::let_go(&mut command).map_err(|error| format!("its word: {error}"))?;
    Ok((command, word))
}

/// Makes the program's directory, for its user alone, with its files. The error is for people.
fn make(start: &Start, data_dir: &Path) -> Result<(), String> {
    // A runner that was killed may have left something.
    if !(start.lent && is_emptied(&start.dir)) {
        if start.lent {
            remove(&start.dir);
            // A program that takes rights from directories makes them hard to remove; that is no other program's to see.
            let _ = fs::rename(&start.dir, start.dir.with_file_name(format!("left-{}", start.ticket)));
        }
        let made = DirBuilder::new().recursive(true).mode(OWN).create(&start.dir);
        made.map_err(|error| format!("prepare {}: {error}", start.dir.display()))?;
    }
    let owner = start.confine.hand_over(data_dir, &start.dir)?;
    for (name, content) in &start.files {
        let path = start.dir.join(name);
        // The directory is new. If it is not, something else may be there, which is replaced and never written through.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => owner
                .map_or(Ok(()), |owner| owner.take(&file))
                .and_then(|()| file.write_all(content.as_bytes()))
                .map_err(|error| format!("write {}: {error}", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                write(&path, content.as_bytes(), false, owner).map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(format!("write {}: {error}", path.display())),
        }
    }
    Ok(())
}

/// Removes what is in a directory; whether it is then as if it had just been made.
fn is_emptied(dir: &Path) -> bool {
    let is_ours = |found: fs::Metadata| found.is_dir() && found.permissions().mode() & 0o7777 == OWN;
    if !fs::symlink_metadata(dir).is_ok_and(is_ours) {
        return false;
    }
    let removed = |entry: fs::DirEntry| match entry.file_type()?.is_dir() {
        true => fs::remove_dir_all(entry.path()),
        false => fs::remove_file(entry.path()),
    };
    fs::read_dir(dir).is_ok_and(|left| left.into_iter().all(|entry| entry.and_then(removed).is_ok()))
}

/// What a program leaves in its directory was for itself. What cannot be removed stays, and is removed with the job.
fn remove(dir: &Path) {
    if fs::remove_dir(dir).is_err() {
        let _ = fs::remove_dir_all(dir);
    }
    // The directories above it, if the attempt kept no output.
    let _ = dir.parent().map(fs::remove_dir);
}

/// The program's file. Looked for here, since looking in another `PATH` than one's own takes the slow way to spawn.
fn found(start: &Start) -> Result<PathBuf, String> {
    if start.program.contains('/') {
        return Ok(PathBuf::from(&start.program));
    }
    let given = start.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let path = given.or_else(|| std::env::var("PATH").ok()).unwrap_or_else(|| "/usr/bin:/bin".to_owned());
    let is_program = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let mut places = path.split(':').map(|dir| Path::new(dir).join(&start.program));
    places.find(is_program).ok_or_else(|| format!("{}: there is no such program in {path}", start.program))
}
