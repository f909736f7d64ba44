//! One agent: a process of the binary under test, with its config file, its data directory and its log.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::cli::{self, Follower, Output};
use crate::processes::{self, Process};
use crate::wait::wait_for;
use crate::{Machine, NodePlan, calls, dashboard};

/// How long an agent may take to leave in an orderly way.
pub(crate) const LEAVES_WITHIN: Duration = Duration::from_secs(30);
/// Lines of a log that are shown when a test fails.
const TAIL: usize = 60;
/// So many bytes of a record: fewer than any has.
const TORN: usize = 12;

/// A node's agent, running or not.
#[derive(Debug)]
pub struct Agent {
    machine: Arc<Machine>,
    plan: RefCell<NodePlan>,
    config: PathBuf,
    log: PathBuf,
    child: RefCell<Option<Child>>,
}

impl Agent {
    /// Writes its config file; starts nothing. Files are named by `id`, which is the node's name unless two share one.
    pub fn new(machine: &Arc<Machine>, id: &str, plan: NodePlan) -> Self {
        let config = machine.write(&format!("{id}.toml"), plan.toml());
        let log = machine.path(&format!("{id}.log"));
        let child = RefCell::new(None);
        Self { machine: Arc::clone(machine), plan: RefCell::new(plan), config, log, child }
    }

    /// Leaves the beginning of a record at the end of its replicated log, as a crash does. Returns the file.
    ///
    /// # Panics
    /// If it never had one.
    pub fn tear_log(&self) -> PathBuf {
        let files = fs::read_dir(self.dir().join("raft")).expect("the log is there").flatten();
        let files =
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|it| it == "wal"));
        let newest = files.max().expect("it has a file");
        let written = fs::read(&newest).expect("the log can be read");
        // A file begins with a record.
        fs::write(&newest, [&written[..], &written[..TORN]].concat()).expect("the log can be written");
        newest
    }

    /// Starts the process; what it needs to be ready is for others to wait for.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&self) {
        assert!(self.child.borrow().is_none(), "{} runs already", self.name());
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.expect("a log can be made in the test's own directory");
        let copy = log.try_clone().expect("an open file can be shared");
        let NodePlan { group, binary, args, environment, .. } = self.plan();
        let binary = binary.as_deref().unwrap_or(self.machine.binary());
        let mut command = cli::plain_within(group.as_deref(), binary, self.machine.place());
        command.args(["agent", "--config"]).arg(&self.config).args(args);
        command.envs(environment);
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        *self.child.borrow_mut() = Some(child);
    }

    /// The node's name.
    pub fn name(&self) -> String {
        self.plan.borrow().name.clone()
    }

    /// Where its API is reached.
    pub fn address(&self) -> String {
        self.plan.borrow().address.clone()
    }

    /// Its data directory.
    pub fn dir(&self) -> PathBuf {
        self.plan.borrow().dir.clone()
    }

    /// What its config file says.
    pub fn plan(&self) -> NodePlan {
        self.plan.borrow().clone()
    }

    /// Its config file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The agent's process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child.borrow().as_ref().map_or_else(|| panic!("{} does not run", self.name()), Child::id)
    }

    /// Whether it was started, and has not ended.
    pub fn is_running(&self) -> bool {
        self.child.borrow_mut().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether it was started, and has ended without being asked to.
    pub fn has_ended(&self) -> bool {
        self.child.borrow_mut().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Changes the config file; the agent is not told.
    pub fn change(&self, change: impl FnOnce(&mut NodePlan)) {
        change(&mut self.plan.borrow_mut());
        self.write_config(&self.plan.borrow().toml());
    }

    /// Writes any text as the config file.
    pub fn write_config(&self, text: &str) {
        fs::write(&self.config, text).expect("the test's own file can be written");
    }

    /// Sends the agent's process a signal.
    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Kills the agent with SIGKILL, and nothing of what it started.
    pub fn kill(&self) {
        let child = self.child.borrow_mut().take();
        if let Some(mut child) = child {
            child.kill().expect("a child can be killed");
            child.wait().expect("a killed child can be waited for");
        }
    }

    /// Kills all of the node at once, as a machine's death does: agent, keepers, programs.
    pub fn kill_machine(&self) {
        // The keepers first: the agent would see a program's end and tell others.
        for process in self.processes() {
            processes::signal(process.pid, Signal::KILL);
        }
        self.kill();
        wait_for(&format!("nothing of {} is alive", self.name()), LEAVES_WITHIN, || {
            let rest = self.processes();
            rest.iter().for_each(|process| processes::signal(process.pid, Signal::KILL));
            if rest.is_empty() { Ok(()) } else { Err(format!("{rest:?}")) }
        });
    }

    /// Asks the agent to leave with SIGTERM and waits until it has; its exit status.
    ///
    /// # Panics
    /// If it does not leave.
    pub fn stop(&self) -> i32 {
        self.signal(Signal::TERM);
        self.exit(LEAVES_WITHIN)
    }

    /// Waits until the agent has ended by itself; its exit status.
    ///
    /// # Panics
    /// If it does not end.
    pub fn exit(&self, within: Duration) -> i32 {
        let what = format!("the agent of {} ends", self.name());
        let status =
            wait_for(&what, within, || match self.child.borrow_mut().as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) => Ok(status),
                other => Err(format!("{other:?}; its log:\n{}", self.log_tail())),
            });
        *self.child.borrow_mut() = None;
        status.code().unwrap_or(-1)
    }

    /// Keepers and programs of this node; not the agent.
    pub fn processes(&self) -> Vec<Process> {
        let dir = self.dir();
        let mine = |process: &Process| process.command.contains(&dir.display().to_string());
        let keepers = processes::of(self.machine.place())
            .into_iter()
            .filter(|process| process.is_keeper() && mine(process));
        keepers.chain(processes::of(&dir).into_iter().filter(|process| !process.is_keeper())).collect()
    }

    /// What holds this node's leases while its agent is away.
    pub fn stand_in(&self) -> Option<u32> {
        self.processes().into_iter().find(|process| process.is("stand-in")).map(|process| process.pid)
    }

    /// Programs of a bucket on this node.
    pub fn programs(&self, bucket: &str) -> Vec<Process> {
        processes::of_instance(self.machine.place(), bucket, &self.name())
    }

    /// Runs a command that asks this node.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_with(args, b"")
    }

    /// The same with an input.
    pub fn cli_with(&self, args: &[&str], input: &[u8]) -> Output {
        let address = self.address();
        let args = [args, &["--address", &address]].concat();
        cli::run(&self.machine, &args, input)
    }

    /// The JSON that a command prints which asks this node. One that only looks is a call.
    ///
    /// # Panics
    /// If it fails.
    pub fn json(&self, args: &[&str]) -> Value {
        self.try_json(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, for a wait.
    ///
    /// # Errors
    /// What the command printed.
    pub fn try_json(&self, args: &[&str]) -> Result<Value, String> {
        if let Some(seen) = calls::look(&self.machine, &self.address(), args) {
            return seen;
        }
        let output = self.cli(args);
        if output.code == 0 { output.try_json() } else { Err(output.to_string()) }
    }

    /// Starts a command that stays and asks this node.
    pub fn follow(&self, args: &[&str]) -> Follower {
        self.begin(args, b"")
    }

    /// Starts a command that may take its time, with an input.
    pub fn begin(&self, args: &[&str], input: &[u8]) -> Follower {
        let address = self.address();
        Follower::start(&self.machine, &[args, &["--address", &address]].concat(), input)
    }

    /// What the agent has logged in all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it answers to `/metrics`.
    ///
    /// # Errors
    /// As [`dashboard::try_ask`].
    pub fn metrics(&self) -> io::Result<String> {
        dashboard::try_ask(self, "GET", "/metrics", "", "").map(|(_, metrics)| metrics)
    }

    /// The end of it.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let mut lines: Vec<&str> = log.lines().rev().take(TAIL).collect();
        lines.reverse();
        lines.join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
