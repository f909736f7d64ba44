//! The second stage: a process that waits for the keeper's word and then becomes the program.
//!
//! Its standard input is one end of a socket pair. `go` comes in there; when the program has been executed the socket
//! closes, since it is close-on-exec; when it could not be, the reason is written there first.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::confine;
use crate::given;

/// Before the name of a variable that is the program's only: the second stage itself must not feel, say, a
/// `LD_LIBRARY_PATH`.
pub(crate) const VARIABLE: &str = "sheaf:";
/// What the keeper says when the check at exec has passed.
pub(crate) const GO: u8 = b'g';

/// The command line of one that is a child of this process, obeys `orders` and becomes `program`, whose arguments come behind. On
/// its standard input it waits for the word.
pub(crate) fn stage(orders: impl IntoIterator<Item = OsString>, program: impl AsRef<OsStr>) -> Command {
    // Our own file, also when an upgrade has put another one in its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sheaf").args(["keep", "--exec", &std::process::id().to_string()]);
    command.args(orders).arg("--").arg(program);
    command
}

/// Has one go on at once. Ours is the end where it says why it could not become the program; the command keeps the other one until it
/// is dropped.
pub(crate) fn let_go(command: &mut Command) -> io::Result<UnixStream> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(&[GO])?;
    ours.set_nonblocking(true)?;
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    Ok(ours)
}

/// Runs it; `args` are `KEEPER_PID ORDER… -- PROGRAM ARGS…`, with orders of [`confine`]. Returns only if the program could
/// not be executed.
pub(crate) fn second_stage(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let keeper = args.next().and_then(|pid| pid.to_str()?.parse::<i32>().ok());
    let orders: Vec<OsString> = args.by_ref().take_while(|arg| arg != "--").collect();
    let (Some(keeper), Some(program)) = (keeper, args.next()) else {
        eprintln!("sheaf keep --exec: expected KEEPER_PID ORDERS -- PROGRAM ARGS");
        return ExitCode::from(2);
    };
    let Ok(mut keepers_word) = prepare(keeper) else { return ExitCode::FAILURE };
    let reason = match confine::obey(&orders) {
        Ok(variables) => {
            // The keeper's death kills also whoever has become another user, which undoes what was said before.
            if die_with(keeper).is_err() {
                return ExitCode::FAILURE;
            }
            let mut word = [0];
            match keepers_word.read(&mut word) {
                Ok(1) if word == [GO] => {}
                // The keeper has died or thought better of it.
                _ => return ExitCode::FAILURE,
            }
            given::take();
            let error = command(&program, args, variables).exec();
            reason(&program, &error)
        }
        Err(reason) => reason,
    };
    // If the keeper is gone, so are we in a moment.
    let _ = keepers_word.write_all(reason.as_bytes());
    ExitCode::from(127)
}

/// The keeper may have died just before: then somebody else is the parent.
fn die_with(keeper: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(keeper) {
        return Err(io::Error::other("the keeper is gone"));
    }
    Ok(())
}

/// Dies with the keeper from here on, and has nothing for input.
fn prepare(keeper: i32) -> io::Result<UnixStream> {
    die_with(keeper)?;
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

/// The program with its own environment; `exec` gives it the default answers to signals and an empty mask.
fn command(
    program: &OsStr,
    args: impl Iterator<Item = OsString>,
    variables: Vec<(&'static str, OsString)>,
) -> Command {
    let mut command = Command::new(program);
    given::hide(&mut command).args(args).envs(variables);
    for (name, value) in env::vars_os() {
        if let Some(own) = name.as_bytes().strip_prefix(VARIABLE.as_bytes()) {
            command.env_remove(&name).env(OsString::from_vec(own.to_vec()), value);
        }
    }
    command
}

/// `PROGRAM: why it cannot be executed`.
fn reason(program: &OsStr, error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let shown = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound if !program.as_bytes().contains(&b'/') => {
            format!("{shown}: not found in PATH")
        }
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            format!("{shown}: the interpreter it names, or its loader, does not exist")
        }
        io::ErrorKind::PermissionDenied if Path::new(program).is_dir() => format!("{shown}: is a directory"),
        _ => format!("{shown}: {text}"),
    }
}
