//! The command line, as a script uses it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{Machine, processes, wait};

/// No command may take longer that is not followed.
const LONGEST: Duration = Duration::from_secs(120);

/// How a command ended, and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command line.
    pub command: String,
    /// Its exit status; 128 and the signal's number if one ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Output {
    /// Itself, if the exit status is 0.
    ///
    /// # Panics
    /// If not.
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Itself, if the exit status is `code`.
    ///
    /// # Panics
    /// If not.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit status of {self}");
        self
    }

    /// Itself, if stderr is exactly this, but for the line end.
    ///
    /// # Panics
    /// If not.
    pub fn says(self, text: &str) -> Self {
        assert_eq!(self.stderr.trim_end(), text.trim_end(), "{self}");
        self
    }

    /// Itself, if stderr contains each of these.
    ///
    /// # Panics
    /// If not.
    pub fn mentions(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not said by {self}");
        }
        self.calm()
    }

    /// Itself, if nothing in it looks like a crash.
    ///
    /// # Panics
    /// If something does.
    pub fn calm(self) -> Self {
        for word in ["panicked", "RUST_BACKTRACE", "stack backtrace", "thread '"] {
            assert!(!self.stderr.contains(word) && !self.stdout.contains(word), "{word:?} in {self}");
        }
        self
    }

    /// Stdout as one JSON value.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        self.try_json().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same, if the exit status is 0.
    ///
    /// # Errors
    /// What the command printed.
    pub fn try_json(&self) -> Result<Value, String> {
        serde_json::from_str(&self.stdout).map_err(|error| format!("no JSON ({error}): {self}"))
    }

    /// Each line of stdout as a JSON value.
    ///
    /// # Panics
    /// If one is none.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}) {line:?}: {self}"))
        };
        self.stdout.lines().map(parse).collect()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "`{command}` (exit {code})\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// Runs `sheaf` with these arguments and an input, and waits until it ends.
///
/// # Panics
/// If it cannot be started, or takes too long.
pub fn run(machine: &Machine, args: &[&str], input: &[u8]) -> Output {
    let mut started = Started::new(machine, args, input, &[]);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = started.child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if begun.elapsed() > LONGEST {
            let _ = started.child.kill();
            let _ = started.child.wait();
            panic!("not ended within {LONGEST:?}: {}", started.output(-1));
        }
        brief();
    };
    let output = started.output(code(status));
    started.remove();
    output
}

/// Between looks at a command, which mostly ends within milliseconds.
#[expect(clippy::disallowed_methods, reason = "a pause between looks; nothing else runs on the thread")]
fn brief() {
    std::thread::sleep(Duration::from_millis(4));
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A command that stays, like `logs -f`; stopped when this ends.
#[derive(Debug)]
pub struct Follower(Started);

impl Follower {
    /// Starts it.
    pub fn start(machine: &Machine, args: &[&str], input: &[u8]) -> Self {
        Self(Started::new(machine, args, input, &[]))
    }

    /// Starts it where what it makes for a while goes to this directory.
    pub fn start_with_temporary(machine: &Machine, args: &[&str], directory: &Path) -> Self {
        Self(Started::new(machine, args, b"", &[("TMPDIR", directory)]))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.child.id()
    }

    /// The whole lines it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        let text = read(&self.0.stdout);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// What it said on stderr so far.
    pub fn talk(&self) -> String {
        read(&self.0.stderr)
    }

    /// Waits for a line, and gives it.
    ///
    /// # Panics
    /// If none comes.
    pub fn wait_for_line(&self, what: &str, within: Duration, is_it: impl Fn(&str) -> bool) -> String {
        wait::wait_for(&format!("{} prints {what}", self.0.command), within, || {
            let lines = self.lines();
            lines.iter().find(|line| is_it(line)).cloned().ok_or_else(|| {
                format!("{} lines:\n{}\nstderr: {}", lines.len(), lines.join("\n"), self.talk())
            })
        })
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not.
    pub fn finish(mut self, within: Duration) -> Output {
        let code = self.wait(within);
        self.0.output(code)
    }

    /// Sends it a signal, and gives its exit status.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(mut self, signal: Signal) -> i32 {
        processes::signal(self.0.child.id(), signal);
        self.wait(Duration::from_secs(20))
    }

    fn wait(&mut self, within: Duration) -> i32 {
        let what = format!("{} ends", self.0.command);
        let child = &mut self.0.child;
        wait::wait_for(&what, within, || match child.try_wait() {
            Ok(Some(status)) => Ok(code(status)),
            other => Err(format!("{other:?}")),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.child.kill();
        let _ = self.0.child.wait();
    }
}

#[derive(Debug)]
struct Started {
    command: String,
    child: Child,
    stdin: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Started {
    fn new(machine: &Machine, args: &[&str], input: &[u8], variables: &[(&str, &Path)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |what: &str| machine.path(&format!("cli.{number}.{what}"));
        let (stdin, stdout, stderr) = (file("in"), file("out"), file("err"));
        fs::write(&stdin, input).expect("a file can be written in the test's own directory");
        let create =
            |path: &Path| File::create(path).expect("a file can be made in the test's own directory");
        let open = |path: &Path| File::open(path).expect("the file was just written");
        let mut command = plain(machine.binary(), machine.place());
        command.args(args);
        if args.starts_with(&["module", "try"]) {
            command.env("TMPDIR", machine.place()); // what it leaves there can be told from that of others
        }
        let token = machine.path(crate::TOKEN);
        if token.exists() {
            command.env("SHEAF_TOKEN_FILE", token);
        }
        if let Ok(endpoint) = fs::read_to_string(machine.path(crate::TRACES)) {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::from(open(&stdin))).stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        Self { command: format!("sheaf {}", args.join(" ")), child, stdin, stdout, stderr }
    }

    fn output(&self, code: i32) -> Output {
        let command = self.command.clone();
        Output { command, code, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }

    fn remove(&self) {
        for file in [&self.stdin, &self.stdout, &self.stderr] {
            let _ = fs::remove_file(file);
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// [`plain`], started in a control group, as a service's manager does it.
pub(crate) fn plain_within(group: Option<&Path>, program: &Path, place: &Path) -> Command {
    let Some(group) = group else { return plain(program, place) };
    let mut command = plain("/bin/sh", place);
    command.args(["-c", "echo 0 >\"$0\" && exec \"$@\""]).arg(group.join("cgroup.procs")).arg(program);
    command
}

/// A command without anything of the caller's environment that the product would look at, marked as `place`'s.
pub(crate) fn plain(program: impl AsRef<OsStr>, place: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("SHEAF_") || text.starts_with("OTEL_") || text == "TRACEPARENT" {
            command.env_remove(&name);
        }
    }
    if let Some(filter) = std::env::var_os("SHEAF_LOG") {
        command.env("SHEAF_LOG", filter);
    }
    command.env(processes::PLACE, place).env("HOME", place).env_remove("XDG_CONFIG_HOME");
    command.env("NO_COLOR", "1").env("LC_ALL", "C");
    command.stdin(Stdio::null());
    command
}
