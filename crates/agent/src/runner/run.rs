//! The runner's loop: it waits for something to happen, and does what follows.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use sheaf_model::{Exit, Moment};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::attempt::Attempt;
use super::{Ended, FromRunner, Start, Stopped, ToRunner, entry};
use crate::keeper::proc::{self, Children, Reaped};
use crate::keeper::wires::Line;
use crate::keeper::{clock, first_wire};

/// Milliseconds between looks while something refuses to die.
const LOOK_AGAIN: u64 = 5;
/// Looks at what is left, one after the other, while each meets processes that have ended: a program that runs may start
/// such without end.
const LOOKS: u32 = 8;

/// Longest line from the agent: a start, with all that it hands to its program.
const LINE_MAX: usize = 8 << 20;
/// What may wait for the agent to read it.
const OUTBOX_MAX: usize = 16 << 20;

/// Runs until the agent is gone.
pub(super) fn run(data_dir: &Path) -> io::Result<()> {
    // Already the leader of a group: then started by hand, and not worth a failure.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let wire = first_wire().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard input is not the agent's socket; agents start it",
        )
    })?;
    wire.set_nonblocking(true)?;
    let runner = Runner {
        wire: Line::new(wire, LINE_MAX, OUTBOX_MAX),
        signals: signals()?,
        running: BTreeMap::new(),
        by_pid: BTreeMap::new(),
        ending: BTreeMap::new(),
        children: Children::open(),
        mark: entry(data_dir),
    };
    runner.run(data_dir);
    Ok(())
}

struct Runner {
    wire: Line,
    signals: UnixStream,
    /// By ticket.
    running: BTreeMap<u64, Attempt>,
    /// The same by process.
    by_pid: BTreeMap<i32, u64>,
    /// Those whose process has ended, and how, while something that it started may be left.
    ending: BTreeMap<u64, Exit>,
    children: Children,
    mark: Vec<u8>,
}

/// What has happened. Only that is looked at: where many programs run, one of them ends all the time.
#[derive(Default)]
struct Woken {
    /// The agent says something, or is gone.
    told: bool,
    /// Some child has ended.
    ended: bool,
    /// Programs that write, or have closed a stream.
    heard: Vec<u64>,
}

impl Runner {
    fn run(mut self, data_dir: &Path) {
        let mut asked = Vec::new();
        loop {
            let woken = self.wait();
            let goes_on = !woken.told || self.wire.read(&mut asked);
            for message in asked.drain(..) {
                match message {
                    ToRunner::Start(start) => self.start(&start, data_dir),
                    ToRunner::Stop(ticket) => {
                        if let Some(attempt) = self.running.get_mut(&ticket) {
                            attempt.ask_to_stop(Stopped::Asked, clock::now());
                        }
                    }
                    ToRunner::Kill(ticket) => {
                        if let Some(attempt) = self.running.get_mut(&ticket) {
                            attempt.kill(clock::now());
                        }
                    }
                }
            }
            for ticket in &woken.heard {
                if let Some(attempt) = self.running.get_mut(ticket) {
                    attempt.listen();
                }
            }
            if woken.ended {
                self.reap();
            }
            self.finish();
            let now = clock::now();
            self.running.values_mut().for_each(|attempt| attempt.tick(now));
            if !goes_on || !self.wire.flush() {
                return self.kill_everything();
            }
        }
    }

    /// Until something happens, or something is due.
    fn wait(&self) -> Woken {
        let wants = if self.wire.is_flushed() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.wire.descriptor(), wants),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let mut tickets = Vec::new();
        for (ticket, attempt) in &self.running {
            for stream in attempt.descriptors() {
                fds.push(PollFd::from_borrowed_fd(stream, PollFlags::IN));
                tickets.push(*ticket);
            }
        }
        let now = clock::now();
        let look = (!self.ending.is_empty()).then(|| Moment(now.0 + LOOK_AGAIN));
        let due = self.running.values().filter_map(Attempt::due).chain(look).min();
        let pause = due.map(|due| {
            let millis = due.0.saturating_sub(now.0) + 1;
            Timespec {
                tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
            }
        });
        let polled = poll(&mut fds, pause.as_ref());
        if polled == Err(Errno::INTR) {
            return Woken::default(); // what the signal says can be read, and is seen the next time
        }
        // After any other error everything is looked at.
        let all = polled.is_err();
        let mut happened = fds.iter().map(|fd| all || !fd.revents().is_empty());
        let told = happened.next().unwrap_or(true);
        let ended = happened.next().unwrap_or(true);
        let mut heard: Vec<u64> =
            tickets.into_iter().zip(happened).filter(|(_, it)| *it).map(|(ticket, _)| ticket).collect();
        heard.dedup();
        if ended {
            let mut buffer = [0; 512];
            while matches!(rustix::io::read(&self.signals, &mut buffer), Ok(read) if read == buffer.len()) {}
        }
        Woken { told, ended, heard }
    }

    fn start(&mut self, start: &Start, data_dir: &Path) {
        let ticket = start.ticket;
        let failed =
            |message: String| FromRunner::Ended(Ended { ticket, exit: None, stopped: None, message });
        if self.running.contains_key(&ticket) {
            return self.wire.say(&failed(format!("ticket {ticket} is in use")));
        }
        match Attempt::start(start, data_dir, clock::now()) {
            Ok(attempt) => {
                self.by_pid.insert(attempt.pid, ticket);
                self.running.insert(ticket, attempt);
            }
            Err(why) => self.wire.say(&failed(why)),
        }
    }

    /// Takes note of programs that have ended. A program's group is killed while its number is still its own.
    fn reap(&mut self) {
        let ended: Vec<(i32, u64)> = self
            .by_pid
            .iter()
            .map(|(pid, ticket)| (*pid, *ticket))
            .filter(|(pid, _)| proc::has_ended(*pid))
            .collect();
        for (pid, ticket) in ended {
            if let Some(attempt) = self.running.get(&ticket) {
                attempt.signal(Signal::KILL);
            }
            if let Reaped::Child(_, exit) = proc::reap_child(pid) {
                self.by_pid.remove(&pid);
                if let Some(attempt) = self.running.get_mut(&ticket) {
                    attempt.reaped();
                }
                self.ending.insert(ticket, exit);
            }
        }
    }

    /// Says of those of which nothing is left that they have ended.
    fn finish(&mut self) {
        if self.ending.is_empty() {
            return;
        }
        let left = if self.has_strangers() { self.left() } else { BTreeMap::new() };
        let (held, over): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.ending).into_iter().partition(|(ticket, _)| left.contains_key(ticket));
        for (ticket, pids) in &left {
            // Also what was overlooked of one that is over.
            if held.contains_key(ticket) || !self.running.contains_key(ticket) {
                proc::kill_each(pids);
            }
        }
        self.ending = held;
        for (ticket, exit) in over {
            if let Some(attempt) = self.running.remove(&ticket) {
                self.wire.say(&FromRunner::Ended(attempt.ended(exit)));
            }
        }
    }

    /// Whether there are children that are no programs of ours. What left its group came to us when its parent ended, so
    /// what is left of a program that has ended is one of them, or below one; mostly there is none.
    fn has_strangers(&self) -> bool {
        let ours = |pid: &i32| self.by_pid.contains_key(pid);
        self.children.now().is_none_or(|children| !children.iter().all(ours))
    }

    /// What is there beside programs, by the program that it comes from. Looks at every process below us, and again if one
    /// of our children had ended by then: its own became ours as it did, perhaps after ours had been listed, and before its
    /// own were.
    fn left(&self) -> BTreeMap<u64, Vec<i32>> {
        let mut left: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
        for _ in 0..LOOKS {
            left.clear();
            let mut reaped = false;
            for pid in proc::below_us().into_iter().filter(|pid| !self.by_pid.contains_key(pid)) {
                match proc::ticket(pid, &self.mark) {
                    Some(ticket) => left.entry(ticket).or_default().push(pid),
                    // It has ended, or is another's child and not ours to take note of.
                    None => reaped |= matches!(proc::reap_child(pid), Reaped::Child(..)),
                }
            }
            if !reaped {
                break;
            }
        }
        left
    }

    /// The agent is gone, and with it the right to run anything.
    fn kill_everything(self) {
        self.running.values().for_each(|attempt| attempt.signal(Signal::KILL));
        loop {
            proc::kill_each(&proc::below_us());
            match proc::reap() {
                Reaped::NoChild => return,
                Reaped::Child(..) => {}
                Reaped::NoneYet => clock::pause(std::time::Duration::from_millis(LOOK_AGAIN)),
            }
        }
    }
}

/// Where it is told of signals. Those that ask to end are the agent's to act on, whose end is noticed: a terminal sends
/// them to everybody.
fn signals() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, std::sync::Arc::default())?;
    }
    signal_hook::low_level::pipe::register(SIGCHLD, theirs)?;
    Ok(ours)
}
