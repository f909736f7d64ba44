//! A terminal with somebody in front of it: a command on a pseudo terminal of its own, and what is on its screen.

use std::fs::File;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::{Machine, cli, processes, wait_for};

/// How long something may take to come onto the screen.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long the command may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A command that was started on a terminal; killed when this ends.
pub struct Screen {
    command: String,
    child: Child,
    /// The side of the person.
    person: OwnedFd,
    /// The side of the command, kept open so that its modes can be seen when the command has ended.
    peer: OwnedFd,
    before: Termios,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// What came from the command.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// How a command left its terminal.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// Its exit status; 128 and the signal's number if one ended it.
    pub code: i32,
    /// The modes are those from before, the cursor is to be seen, the screen is the shell's again.
    pub restored: bool,
}

impl Screen {
    /// Starts `sheaf` with these arguments on a terminal of so many columns and lines, in a session of its own.
    ///
    /// # Panics
    /// If there is no pseudo terminal, or the command cannot be started.
    pub fn start(machine: &Machine, args: &[&str], size: (u16, u16), colour: bool) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("there are pseudo terminals");
        grantpt(&person).and_then(|()| unlockpt(&person)).expect("a pseudo terminal can be opened");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let peer = ioctl_tiocgptpeer(&person, flags).expect("its other side can be opened");
        tcsetwinsize(&person, winsize(size)).expect("a terminal has a size");
        let before = tcgetattr(&peer).expect("a terminal has modes");
        // `setsid` makes it the terminal of the session; the command keeps its pid.
        let mut command = cli::plain("setsid", machine.place());
        command.arg("--ctty").arg(machine.binary()).args(args).env("TERM", "xterm-256color");
        if colour {
            command.env_remove("NO_COLOR");
        }
        let token = machine.path(crate::TOKEN);
        if token.exists() {
            command.env("SHEAF_TOKEN_FILE", token);
        }
        let side = || Stdio::from(peer.try_clone().expect("an open file can be shared"));
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let seen = Arc::new(Mutex::new(Seen { parser: parser(size), bytes: Vec::new() }));
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let person = person.try_clone().expect("an open file can be shared");
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || read(&person, &seen, &stop))
        };
        let command = format!("sheaf {}", args.join(" "));
        Self { command, child, person, peer, before, seen, stop, reader: Some(reader) }
    }

    /// Types these characters; `\x1b` is the escape key, `\r` enter.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn press(&self, keys: &str) {
        let mut bytes = keys.as_bytes();
        while !bytes.is_empty() {
            let count = rustix::io::write(&self.person, bytes).expect("a terminal takes keys");
            bytes = &bytes[count..];
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on the screen, line by line.
    pub fn text(&self) -> String {
        self.seen().parser.screen().contents()
    }

    /// Everything that came from the command so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// Whether the command has the screen for itself now, away from what the shell had on it.
    pub fn is_taken(&self) -> bool {
        let raw = tcgetattr(&self.peer).is_ok_and(|modes| !modes.local_modes.contains(LocalModes::ICANON));
        raw && self.seen().parser.screen().alternate_screen()
    }

    /// Waits until the screen is so, and gives its text.
    ///
    /// # Panics
    /// If it does not become so, or the command ends.
    pub fn wait_for(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let what = format!("{} shows {what}", self.command);
        wait_for(&what, SHOWN_WITHIN, || {
            let text = self.text();
            if is_so(&text) {
                return Ok(text);
            }
            match self.child.try_wait() {
                Ok(None) => Err(format!("\n{text}\n")),
                ended => panic!("{} has ended: {ended:?}\n{text}", self.command),
            }
        })
    }

    /// Waits until all of these are on the screen.
    ///
    /// # Panics
    /// As [`Self::wait_for`].
    pub fn shows(&mut self, parts: &[&str]) -> String {
        self.wait_for(&format!("{parts:?}"), |text| parts.iter().all(|part| text.contains(part)))
    }

    /// Gives the terminal another size, as a window's border does.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn resize(&self, size: (u16, u16)) {
        let (columns, lines) = cells(size);
        self.seen().parser.set_size(lines, columns);
        tcsetwinsize(&self.person, winsize(size)).expect("a terminal has a size");
    }

    /// The command's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Takes the terminal away, as a line that breaks does, and gives the command's exit status.
    ///
    /// # Panics
    /// If it does not end.
    pub fn hang_up(mut self) -> i32 {
        self.stop_reading();
        let nowhere = File::open("/dev/null").expect("there is a null device");
        drop(std::mem::replace(&mut self.person, nowhere.into()));
        self.code()
    }

    fn code(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let what = format!("{} ends", self.command);
        let status = wait_for(&what, ENDS_WITHIN, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}:\n{}", self.text())),
        });
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    fn stop_reading(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// Waits until the command has ended, and says how it left the terminal.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(mut self) -> Left {
        let code = self.code();
        // What it wrote last may still be on its way.
        let restored = wait_for(&format!("{} gave the terminal back", self.command), ENDS_WITHIN, || {
            let now = tcgetattr(&self.peer).map_err(|error| error.to_string())?;
            let same = now.local_modes == self.before.local_modes
                && now.input_modes == self.before.input_modes
                && now.output_modes == self.before.output_modes;
            let seen = self.seen();
            let screen = seen.parser.screen();
            let state = (same, screen.alternate_screen(), screen.hide_cursor());
            if state == (true, false, false) { Ok(true) } else { Err(format!("{state:?}")) }
        });
        Left { code, restored }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stop_reading();
    }
}

fn cells((columns, lines): (u16, u16)) -> (NonZeroU16, NonZeroU16) {
    let some = |count| NonZeroU16::new(count).expect("a screen has columns and lines");
    (some(columns), some(lines))
}

fn parser(size: (u16, u16)) -> vt100::Parser {
    let (columns, lines) = cells(size);
    vt100::Parser::new(lines, columns, 0)
}

const fn winsize((columns, lines): (u16, u16)) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Takes what the command writes, as a terminal does, until told to stop.
fn read(person: &OwnedFd, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut bytes = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let limit = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let mut waited = [PollFd::new(person, PollFlags::IN)];
        if !matches!(poll(&mut waited, Some(&limit)), Ok(1..)) {
            continue;
        }
        let Ok(count) = rustix::io::read(person, &mut bytes) else { return };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bytes.extend_from_slice(&bytes[..count]);
        seen.parser.process(&bytes[..count]);
    }
}
