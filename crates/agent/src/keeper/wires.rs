//! The keeper's connections to agents: lines of JSON, never waited for.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::SOCKET;
use super::{FromKeeper, Opened, ToKeeper};

/// Connections at a time; an agent has one, people who look have some.
const CONNECTIONS: usize = 8;
/// Longest line that is read: the secrets of a plan, as JSON.
const LINE_MAX: usize = 4 << 20;
/// What may wait to be read by the other side before it is cut off.
const OUTBOX_MAX: usize = 1 << 20;

/// All connections, and where new ones come in.
#[derive(Debug)]
pub(crate) struct Wires {
    listener: Option<UnixListener>,
    wires: Vec<Line>,
    /// What was heard before anybody asked for it.
    early: Vec<ToKeeper>,
}

/// One connection: a JSON value a line, both ways, never waited for.
#[derive(Debug)]
pub(crate) struct Line {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// Longest line that is read.
    longest: usize,
    /// What may wait to be read by the other side before it is cut off.
    waiting_max: usize,
}

impl Wires {
    /// With the connection that the keeper was born with, if any.
    pub(crate) fn new(first: Option<UnixStream>) -> Self {
        let mut wires = Self { listener: None, wires: Vec::new(), early: Vec::new() };
        if let Some(stream) = first {
            wires.add(stream);
        }
        wires
    }

    /// Whether whoever is connected has ended, or waits no more. Nobody was ever connected: false.
    pub(crate) fn are_abandoned(&self) -> bool {
        let mut fds: Vec<PollFd<'_>> =
            self.wires.iter().map(|wire| PollFd::new(&wire.stream, PollFlags::IN)).collect();
        // An error is a signal that came; then nothing is known, and the connection's end is seen later.
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        !fds.is_empty() && fds.iter().all(|fd| fd.revents().contains(PollFlags::HUP))
    }

    /// Waits for the secrets that a keeper is given as it is born. What else is said meanwhile is kept.
    pub(crate) fn given(&mut self, within: Duration) -> Option<Opened> {
        let give_up = Instant::now() + within;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            let wire = self.wires.first_mut()?;
            let wait = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            // An error is a signal that came; whatever it was, it is looked again.
            let _ = poll(&mut [PollFd::new(&wire.stream, PollFlags::IN)], Some(&wait));
            let mut heard = Vec::new();
            let open = wire.read(&mut heard);
            let mut given = None;
            for message in heard {
                match message {
                    ToKeeper::Secrets(opened) if given.is_none() => given = Some(opened),
                    ToKeeper::Status => wire.say(&FromKeeper::Busy),
                    other => self.early.push(other),
                }
            }
            if given.is_some() || !open || left.is_zero() {
                return given;
            }
        }
    }

    /// Whether nobody is connected.
    pub(crate) fn are_none(&self) -> bool {
        self.wires.is_empty()
    }

    /// Listens in the current directory. Only with the bucket's lock held: a socket that is there is a dead one's.
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(SOCKET)?;
        listener.set_nonblocking(true)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn add(&mut self, stream: UnixStream) {
        if self.wires.len() < CONNECTIONS && stream.set_nonblocking(true).is_ok() {
            self.wires.push(Line::new(stream, LINE_MAX, OUTBOX_MAX));
        }
    }

    /// What to poll, each with whether it waits to be written to.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let listener = self.listener.iter().map(|listener| (listener.as_fd(), false));
        listener.chain(self.wires.iter().map(|wire| (wire.stream.as_fd(), !wire.outbox.is_empty())))
    }

    /// Accepts, reads and writes what can be without waiting. `greeting` is said to every new connection.
    /// A connection that says what it should not is closed, and no other.
    pub(crate) fn turn(&mut self, greeting: &dyn Fn() -> FromKeeper) -> Vec<ToKeeper> {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let before = self.wires.len();
            self.add(stream);
            if let Some(wire) = self.wires.get_mut(before) {
                wire.say(&greeting());
            }
        }
        let mut asked = std::mem::take(&mut self.early);
        self.wires.retain_mut(|wire| {
            let before = asked.len();
            let goes_on = wire.read(&mut asked);
            if asked[before..].contains(&ToKeeper::Status) {
                wire.say(&greeting());
            }
            goes_on && wire.flush()
        });
        asked.retain(|message| *message != ToKeeper::Status);
        asked
    }

    /// Says something to all of them.
    pub(crate) fn say(&mut self, message: &FromKeeper) {
        self.wires.retain_mut(|wire| {
            wire.say(message);
            wire.flush()
        });
    }

    /// Takes the socket away.
    pub(crate) fn close(self) {
        if self.listener.is_some() {
            // It is in a directory of ours; the next keeper would remove it.
            let _ = fs::remove_file(SOCKET);
        }
    }
}

impl Line {
    /// A connection that does not block, from whose other end lines of at most `longest` bytes come.
    pub(crate) fn new(stream: UnixStream, longest: usize, waiting_max: usize) -> Self {
        Self { stream, inbox: Vec::new(), outbox: Vec::new(), longest, waiting_max }
    }

    /// What to poll.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Says something, with the next [`Line::flush`].
    pub(crate) fn say(&mut self, message: &impl Serialize) {
        // A message is plain data: it always has a JSON form.
        if let Ok(line) = serde_json::to_vec(message) {
            self.outbox.extend_from_slice(&line);
            self.outbox.push(b'\n');
        }
    }

    /// Writes what can be without waiting. False: this connection is over.
    pub(crate) fn flush(&mut self) -> bool {
        let mut written = 0;
        let goes_on = loop {
            if written == self.outbox.len() {
                break true;
            }
            match self.stream.write(&self.outbox[written..]) {
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break self.outbox.len() - written <= self.waiting_max;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.outbox.drain(..written);
        goes_on
    }

    /// Reads what can be without waiting. False: this connection is over, after what was read.
    pub(crate) fn read<M: DeserializeOwned>(&mut self, heard: &mut Vec<M>) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => self.inbox.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            let mut taken = 0;
            while let Some(end) = self.inbox[taken..].iter().position(|&byte| byte == b'\n') {
                match serde_json::from_slice(&self.inbox[taken..taken + end]) {
                    Ok(message) => heard.push(message),
                    Err(_) => return false,
                }
                taken += end + 1;
            }
            self.inbox.drain(..taken);
            if self.inbox.len() > self.longest {
                return false;
            }
        }
    }
}
