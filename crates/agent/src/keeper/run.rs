//! The keeper's loop: it waits for something to happen, asks the engine what follows, and does that.

use std::collections::{BTreeSet, VecDeque};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
use sheaf_engine::keep::{Action, Input, Keep, Report, Sight};
use sheaf_model::{BootId, BucketName, Call, FileName, Moment, Phase, Revision, Span, Timestamp};
use sheaf_module::Bucket;

use super::caller::{Caller, Heard};
use super::layout::{Layout, Lock, remove, write_json};
use super::output::Output;
use super::proc::{self, Reaped};
use super::program::{Executed, Program};
use super::wires::Wires;
use super::{FromKeeper, Opened, Plan, Plugin, Status, ToKeeper, cgroup, clock};

mod begin;
mod commands;
mod renew;

use begin::{BeginError, decisions, first_status, signals, system, take_lock, timer};

/// How long the agent may take to give what the plan leaves open; it says it first of all.
const GIVEN_WITHIN: Duration = Duration::from_secs(5);
/// How often it looks again, in milliseconds, while something refuses to die.
const LOOK_AGAIN: [i64; 5] = [1, 2, 5, 20, 100];

/// Keeps the instance of one bucket until its end. `args` are `DATA_DIR BUCKET`.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> bool {
    let data_dir = args.next().map(PathBuf::from);
    let bucket = args.next().and_then(|name| BucketName::new(name.to_str()?).ok());
    let (Some(data_dir), Some(bucket), None) = (data_dir, bucket, args.next()) else {
        eprintln!("sheaf keep: expected DATA_DIR BUCKET");
        return false;
    };
    let mut wires = Wires::new(first_wire());
    match Keeper::begin(&Layout::new(&data_dir, &bucket), &bucket, &mut wires) {
        Ok(keeper) => {
            keeper.keep(wires);
            true
        }
        Err(error) => {
            eprintln!("sheaf keep {bucket}: {error}");
            wires.say(&match error {
                BeginError::Busy => FromKeeper::Busy,
                other => FromKeeper::Failed(other.to_string()),
            });
            false
        }
    }
}

/// The connection that comes as standard input, if it is one.
pub(crate) fn first_wire() -> Option<UnixStream> {
    let kind = rustix::fs::fstat(rustix::stdio::stdin()).ok()?.st_mode;
    if rustix::fs::FileType::from_raw_mode(kind) != rustix::fs::FileType::Socket {
        return None;
    }
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null").ok()?).ok()?;
    Some(UnixStream::from(socket))
}

struct Keeper {
    layout: Layout,
    plan: Plan,
    /// What the plan leaves open. Nowhere else.
    opened: Opened,
    /// Files of earlier plans that have secrets in them.
    confided: BTreeSet<FileName>,
    boot: BootId,
    keep: Keep,
    status: Status,
    output: Output,
    program: Option<Program>,
    /// The line to it, if it is a plugin that runs a bucket.
    caller: Option<Caller>,
    /// The command that tells it something just now, if it is no plugin.
    command: Option<commands::Running>,
    /// The bucket as a program that is no plugin was told, or started with.
    told: Option<Bucket>,
    /// The purge that is asked for.
    purging: Option<Revision>,
    /// When it was polled last, as it stands in the status.
    polled: Option<(Moment, Span)>,
    /// How many of its processes the kernel had killed for its memory before this start.
    killed: u64,
    /// Everything is being killed: how often it was tried.
    clearing: Option<usize>,
    /// An earlier keeper of the bucket was killed, in this boot; what it has left is not below us.
    orphaned: Option<Status>,
    deadline: OwnedFd,
    wake: OwnedFd,
    signals: UnixStream,
    stop: Arc<AtomicBool>,
    done: bool,
    _lock: Lock,
}

impl Keeper {
    fn begin(layout: &Layout, bucket: &BucketName, wires: &mut Wires) -> Result<Self, BeginError> {
        // Already the leader of a group: then started by hand, and not worth a failure.
        let _ = rustix::process::setsid();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(system("become a subreaper"))?;
        let lock = take_lock(layout)?;
        let layout = layout.clone();
        layout.make()?;
        env::set_current_dir(&layout.instance).map_err(system("enter the instance's directory"))?;
        let plan = layout.read_plan()?.ok_or_else(|| BeginError::NoPlan(layout.plan()))?;
        if plan.bucket != *bucket {
            return Err(BeginError::OtherPlan(plan.bucket));
        }
        // A new agent may have looked before the lock was taken. A lease would end what it does not know of; without
        // one nothing ever would.
        if plan.lease.epoch().is_none() && wires.are_abandoned() {
            return Err(BeginError::Abandoned);
        }
        let opened =
            if plan.confidential.is_empty() { Some(Opened::default()) } else { wires.given(GIVEN_WITHIN) };
        let opened = opened.ok_or(BeginError::NoSecrets)?;
        let boot = clock::boot_id();
        // A status that cannot be read is no reason to run nothing: what it would tell is then looked for.
        let former = layout.read_status().ok().flatten();
        let keep = decisions(&plan, former.as_ref());
        let purged = former.as_ref().and_then(|former| former.purged.clone());
        let polled = former.as_ref().and_then(|former| former.polled);
        let orphaned = former.filter(|former| former.end.is_none() && former.boot == boot);
        let (signals, stop) = signals().map_err(system("listen to signals"))?;
        wires.listen().map_err(system("listen on keeper.sock"))?;
        let output = Output::new(layout.output(), plan.output);
        let keeper = Self {
            status: Status { purged, polled, ..first_status(&plan, &boot) },
            layout,
            opened,
            confided: BTreeSet::new(),
            boot,
            polled: keep.polled(),
            keep,
            output,
            program: None,
            caller: None,
            command: None,
            told: None,
            purging: None,
            killed: 0,
            clearing: None,
            orphaned,
            deadline: timer()?,
            wake: timer()?,
            signals,
            stop,
            done: false,
            _lock: lock,
            plan,
        };
        // Before anything is started: a keeper killed from here on is known to have been one.
        keeper.layout.write_status(&keeper.status, false)?;
        wires.say(&FromKeeper::Status(Box::new(keeper.status.clone())));
        Ok(keeper)
    }

    fn keep(mut self, mut wires: Wires) {
        self.feed(Input::Begin, &mut wires);
        self.look_for_emptiness(&mut wires);
        while !self.done {
            self.wait(&wires);
            self.hear_program(&mut wires);
            self.hear_signals(&mut wires);
            self.hear_caller(&mut wires);
            // Last: what came in time is no less so because we stood still. (Past the deadline any input ends it.)
            self.feed(Input::Tick, &mut wires);
            for asked in wires.turn(&|| self.greet()) {
                match asked {
                    ToKeeper::Deadline { epoch, boot, until } => {
                        self.feed(Input::DeadlineMoved { epoch, boot, until }, &mut wires);
                        self.status.until = self.keep.lease().until();
                    }
                    ToKeeper::Update => self.update(&mut wires),
                    ToKeeper::Secrets(more) => self.opened.take(more),
                    ToKeeper::Renewed { asked, opened } => self.renewed(asked, opened, &mut wires),
                    ToKeeper::Purge(revision) => self.purge(revision, &mut wires),
                    ToKeeper::Part(call) => {
                        self.status.suspended |= call == Call::Suspend;
                        self.feed(Input::PartAsked(call), &mut wires);
                    }
                    ToKeeper::Stop => self.feed(Input::StopAsked, &mut wires),
                    ToKeeper::Status => {}
                }
            }
            self.renew_by_nobody(&mut wires);
            if self.plan.plugin == Some(Plugin::Gate) && wires.are_none() {
                self.feed(Input::StopAsked, &mut wires); // nobody is left who would ask it anything
            }
            self.look_for_emptiness(&mut wires);
        }
        wires.close();
        if let (Some(Plugin::Gate), Ok(sockets)) = (&self.plan.plugin, self.layout.own_sockets()) {
            sockets.leave();
        }
        cgroup::remove(&cgroup::name(&self.layout.instance));
    }

    /// What an agent is told that has just connected. It may be the next one of a service that was restarted.
    fn greet(&self) -> FromKeeper {
        if !self.plan.confine.is_none() {
            cgroup::renew(&cgroup::name(&self.layout.instance), &self.plan.confine.limits);
        }
        FromKeeper::Status(Box::new(self.status.clone()))
    }

    /// Until something happens, or it is time to look again whether all is dead.
    fn wait(&self, wires: &Wires) {
        let mut fds: Vec<PollFd<'_>> = [self.deadline.as_fd(), self.wake.as_fd(), self.signals.as_fd()]
            .into_iter()
            .chain(self.program.iter().flat_map(Program::descriptors))
            .chain(self.command.iter().flat_map(|running| running.program.descriptors()))
            .chain(self.caller.iter().map(Caller::descriptor))
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        fds.extend(wires.descriptors().map(|(fd, writes)| {
            PollFd::from_borrowed_fd(fd, if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN })
        }));
        let pause = self.clearing.map(|tries| Timespec {
            tv_sec: 0,
            tv_nsec: LOOK_AGAIN[tries.min(LOOK_AGAIN.len() - 1)] * 1_000_000,
        });
        // An error is a signal that came; whatever it was, everything is looked at.
        let _ = poll(&mut fds, pause.as_ref());
        let mut buffer = [0; 8];
        for timer in [&self.deadline, &self.wake] {
            let _ = rustix::io::read(timer, &mut buffer);
        }
    }

    /// Tells the engine what happened, and does what it says, and so on.
    fn feed(&mut self, input: Input, wires: &mut Wires) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.keep.step(input, clock::now()) {
                inputs.extend(self.act(action, wires));
            }
        }
        self.note_poll();
    }

    /// Writes down when it was polled, for the next keeper.
    fn note_poll(&mut self) {
        let polled = self.keep.polled();
        if polled == self.polled {
            return;
        }
        self.polled = polled;
        self.status.polled = polled.map(|(at, since)| {
            Timestamp(clock::wall().0.saturating_sub(clock::now().since(at).0).saturating_sub(since.0))
        });
        if let Err(error) = self.layout.write_status(&self.status, false) {
            eprintln!("sheaf keep {}: {error}", self.plan.bucket);
        }
    }

    fn act(&mut self, action: Action, wires: &mut Wires) -> Option<Input> {
        match action {
            Action::KillAll => {
                self.clearing = Some(0);
                self.kill_all();
                None
            }
            Action::Arm(until) => {
                arm(&self.deadline, until);
                None
            }
            Action::Wake(at) => {
                arm(&self.wake, at);
                None
            }
            Action::Spawn => Some(match self.place() {
                Ok(program) => {
                    self.output.started(program.pid.unsigned_abs(), clock::wall());
                    self.program = Some(program);
                    Input::Spawned
                }
                Err(why) => Input::NotExecuted(why),
            }),
            Action::Call(call, limit) => self.tell(call, limit),
            Action::HangUp => {
                self.hang_up();
                if let Some(caller) = &self.caller {
                    caller.hang_up();
                }
                None
            }
            Action::Purged(result) => {
                self.purged(result.err().unwrap_or_default(), wires);
                None
            }
            Action::Look => Some(self.look()),
            Action::Go => {
                if let Some(program) = &mut self.program {
                    program.go();
                }
                None
            }
            Action::Signal(signal) => {
                proc::signal_all(self.leader(), proc::kernel_signal(signal));
                None
            }
            Action::Renew => self.renew(wires),
            Action::Report(report) => {
                self.report(report, wires);
                None
            }
            Action::Exit => {
                self.done = true;
                None
            }
        }
    }

    /// Makes a call: of a plugin, or by a command.
    fn tell(&mut self, call: Call, limit: Span) -> Option<Input> {
        if matches!(call, Call::Suspend | Call::Delete | Call::Decommission) {
            self.status.told = Some(call);
        }
        match (&mut self.caller, &self.plan.plugin) {
            (Some(caller), Some(Plugin::Instance(instance))) => {
                caller.call(call, limit, instance.bucket.clone());
                None
            }
            (_, None) => self.run_command(call),
            _ => None,
        }
    }

    /// The bucket changed: later starts are of the new plan, and the program that is there is told.
    fn update(&mut self, wires: &mut Wires) {
        let plan = match self.layout.read_update() {
            Ok(Some(plan)) => plan,
            Ok(None) => return,
            Err(error) => return eprintln!("sheaf keep {}: {error}", self.plan.bucket),
        };
        if plan.bucket != self.plan.bucket || plan.basis <= self.plan.basis || !plan.tells() {
            return;
        }
        if let Err(error) = write_json(&self.layout.plan(), &plan, false) {
            eprintln!("sheaf keep {}: {error}", self.plan.bucket); // it is in our memory, which is what counts
        }
        self.status.basis = plan.basis;
        self.keep.poll_every(plan.poll_every());
        self.keep.renew_secrets(!plan.confidential.is_empty());
        let former = std::mem::replace(&mut self.plan, plan);
        self.confided.extend(former.confided_files().cloned());
        self.feed(Input::UpdateAsked, wires);
        if let Err(error) = self.layout.write_status(&self.status, false) {
            eprintln!("sheaf keep {}: {error}", self.plan.bucket);
        }
        wires.say(&FromKeeper::Status(Box::new(self.status.clone())));
        self.renew_anew(wires);
    }

    /// Starts the second stage, and before it the line to a plugin. The error is for people.
    fn place(&mut self) -> Result<Program, String> {
        self.caller = None;
        let sockets = self.plan.plugin.as_ref().map(|_| self.layout.own_sockets()).transpose()?;
        if let (Some(Plugin::Instance(instance)), Some(sockets)) = (&self.plan.plugin, &sockets) {
            let caller = Caller::start(sockets.clone(), (**instance).clone(), self.plan.trial);
            self.caller = Some(caller.map_err(|error| format!("its context cannot be served: {error}"))?);
        }
        self.told = self.plan.commands.as_ref().map(|commands| commands.bucket.clone());
        self.killed = cgroup::killed(&cgroup::name(&self.layout.instance));
        Program::place(&self.plan, &self.opened, &self.layout, sockets.as_ref())
    }

    /// What the check at exec needs. A fence that cannot be read lets nothing start.
    fn look(&self) -> Input {
        let waiting = self.leader();
        match self.layout.read_fence() {
            Ok(fence) => Input::Looked(Sight {
                empty: proc::below_us().into_iter().all(|pid| Some(pid) == waiting),
                fence,
                boot: clock::boot_id(),
            }),
            Err(error) => Input::NotExecuted(error.to_string()),
        }
    }

    /// Whether the kernel has killed something of it since its start for what it is limited to.
    fn out_of_memory(&self) -> Option<String> {
        let limit = self.plan.confine.limits.memory?;
        let killed = cgroup::killed(&cgroup::name(&self.layout.instance));
        (killed > self.killed).then(|| format!("it wanted more memory than limits.memory, which is {limit}"))
    }

    fn report(&mut self, report: Report, wires: &mut Wires) {
        let status = &mut self.status;
        if report.phase == Phase::Running && status.phase != Phase::Running {
            status.started_at = Some(clock::wall());
        }
        status.pid = match report.phase {
            Phase::Running | Phase::Stopping => {
                self.program.as_ref().map(|program| program.pid.unsigned_abs())
            }
            _ => None,
        };
        status.phase = report.phase;
        status.message = report.message;
        if report.phase == Phase::Failed {
            let last = self.output.last_lines();
            if !last.is_empty() {
                status.message = format!("{}\n{last}", status.message);
            }
        }
        status.restarts = report.restarts;
        status.recent = self.keep.recent().to_vec();
        status.exit = report.exit;
        status.end = report.end;
        status.at = clock::wall();
        // What agents decide by is the last word; a keeper that cannot write it says it all the same.
        if let Err(error) = self.layout.write_status(status, status.end.is_some()) {
            eprintln!("sheaf keep {}: {error}", self.plan.bucket);
        }
        wires.say(&FromKeeper::Status(Box::new(self.status.clone())));
    }

    fn hear_program(&mut self, wires: &mut Wires) {
        if let Some(running) = &mut self.command {
            running.program.listen(&mut self.output, clock::wall());
        }
        let Some(program) = &mut self.program else { return };
        program.listen(&mut self.output, clock::wall());
        match program.executed() {
            Some(Executed::Yes) => self.feed(Input::Executed, wires),
            Some(Executed::No(why)) => self.feed(Input::NotExecuted(why), wires),
            None => {}
        }
    }

    fn hear_caller(&mut self, wires: &mut Wires) {
        for heard in self.caller.as_mut().map(Caller::hear).unwrap_or_default() {
            self.feed(
                match heard {
                    Heard::Called(result) => Input::Called(result),
                    Heard::NotAnswered => Input::NotAnswered,
                    Heard::NotTaken => Input::NotTaken,
                    Heard::Said(line) => Input::Said(line),
                },
                wires,
            );
        }
    }

    fn hear_signals(&mut self, wires: &mut Wires) {
        let mut buffer = [0; 64];
        while matches!((&self.signals).read(&mut buffer), Ok(read) if read > 0) {}
        if self.stop.swap(false, Ordering::Relaxed) {
            self.feed(Input::StopAsked, wires);
        }
        if self.reap(wires) && self.clearing.is_none() && self.keep.is_stopping() {
            self.clearing = Some(0);
        }
    }

    /// Takes note of who has ended; true: no child is left.
    fn reap(&mut self, wires: &mut Wires) -> bool {
        loop {
            match proc::reap() {
                Reaped::Child(pid, exit) if self.leader() == Some(pid) => {
                    // A program that ends at once may have been executed and ended before we looked.
                    self.hear_program(wires);
                    if let Some(program) = &mut self.program {
                        program.ended = true;
                    }
                    if let Some(why) = self.out_of_memory() {
                        self.feed(Input::Noted(why), wires);
                    }
                    self.status.left = proc::alive_below_us();
                    self.feed(Input::Ended(exit), wires);
                }
                Reaped::Child(pid, exit) if self.is_command(pid) => self.command_ended(exit, wires),
                Reaped::Child(..) => {}
                Reaped::NoneYet => return false,
                Reaped::NoChild => return true,
            }
        }
    }

    /// The program's process while its number is surely its own: until its end was taken note of.
    fn leader(&self) -> Option<i32> {
        self.program.as_ref().filter(|program| !program.ended).map(|program| program.pid)
    }

    fn kill_all(&self) {
        proc::signal_all(self.leader(), rustix::process::Signal::KILL);
    }

    /// While everything is to end: kills again, and says when nothing is left.
    fn look_for_emptiness(&mut self, wires: &mut Wires) {
        let Some(tries) = self.clearing else { return };
        let mut empty = self.reap(wires);
        if empty && let Some(former) = &self.orphaned {
            let left = proc::leftovers(&self.layout.dir(), Some(former), &self.boot);
            proc::kill_each(&left);
            empty = left.is_empty();
            if empty {
                self.orphaned = None;
            }
        }
        if !empty {
            self.kill_all();
            self.clearing = Some(tries + 1);
            return;
        }
        self.clearing = None;
        self.caller = None;
        self.hang_up();
        if let Some(program) = self.program.take() {
            program.finish(&mut self.output, clock::wall());
        }
        self.conceal();
        self.feed(Input::Emptied, wires);
    }

    /// Takes away the files that have secrets in them: nothing is there that reads them, and a start writes them anew.
    fn conceal(&mut self) {
        self.confided.extend(self.plan.confided_files().cloned());
        self.confided.retain(|name| {
            let path = self.layout.dir().join(name.as_str());
            let removed = remove(&path);
            if let Err(error) = &removed {
                eprintln!("sheaf keep {}: {error}", self.plan.bucket);
            }
            removed.is_err() // tried again with what is started next
        });
    }
}

fn arm(timer: &OwnedFd, at: Moment) {
    let value = Timespec {
        tv_sec: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX),
        // A timer at 0 would be none.
        tv_nsec: i64::try_from(at.0 % 1000).unwrap_or(0) * 1_000_000 + i64::from(at.0 == 0),
    };
    let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // The descriptor is a timer and the time is in range: the kernel has nothing to refuse.
    let _ = timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &spec);
}
