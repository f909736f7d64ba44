//! Processes that belong to a test, found in `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Set for every agent, and so in all that it starts: the directory of the machine it belongs to.
pub const PLACE: &str = "SHEAF_TEST_PLACE";

/// A process that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, words separated by spaces.
    pub command: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.command)
    }
}

impl Process {
    /// Whether it is a keeper.
    pub fn is_keeper(&self) -> bool {
        self.is("keep")
    }

    /// Whether it is this subcommand of the binary.
    pub fn is(&self, subcommand: &str) -> bool {
        self.command.split(' ').nth(1) == Some(subcommand)
    }
}

/// Every process, this one left out, that was started for `place` or stands in it, by its environment, its program or its
/// working directory.
pub fn of(place: &Path) -> Vec<Process> {
    let mut found: Vec<Process> =
        all().into_iter().filter(|process| belongs(process.pid, place.as_os_str().as_bytes())).collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// Those of [`of`] whose environment has `SHEAF_BUCKET=bucket` and `SHEAF_NODE=node`: the programs of its instance.
pub fn of_instance(place: &Path, bucket: &str, node: &str) -> Vec<Process> {
    of_instances(place, &[bucket], &[node])
}

/// The programs of all instances of these buckets on these nodes, by one look at the system.
pub fn of_instances(place: &Path, buckets: &[&str], nodes: &[&str]) -> Vec<Process> {
    let is_wanted = |process: &Process| {
        let settings: Vec<Vec<u8>> = environment(process.pid).collect();
        let is_one_of = |name: &str, wanted: &[&str]| {
            let value = settings.iter().find_map(|setting| setting.strip_prefix(name.as_bytes()));
            value.is_some_and(|value| wanted.iter().any(|one| one.as_bytes() == value))
        };
        is_one_of("SHEAF_BUCKET=", buckets) && is_one_of("SHEAF_NODE=", nodes)
    };
    of(place).into_iter().filter(is_wanted).collect()
}

/// Whether the process is alive; one that ended and was not waited for is not.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    !matches!(state, Some("Z" | "X") | None)
}

/// The processes that have the sockets of these inodes open; one that was closed, or is another user's, is left out.
pub fn owners_of_sockets(inodes: &BTreeSet<u64>) -> BTreeMap<u64, u32> {
    let socket = |target: PathBuf| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let own = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(move |file| Some((socket(fs::read_link(file.path()).ok()?)?, pid)))
    };
    let mut found = BTreeMap::new();
    for pid in pids() {
        found.extend(own(pid).filter(|(inode, _)| inodes.contains(inode)));
        if found.len() == inodes.len() {
            break;
        }
    }
    found
}

/// A variable of a process's environment, as it was when it started.
pub fn variable(pid: u32, name: &str) -> Option<String> {
    let begin = [name.as_bytes(), b"="].concat();
    let value = environment(pid).find_map(|setting| Some(setting.strip_prefix(&*begin)?.to_vec()))?;
    String::from_utf8(value).ok()
}

/// How often the process has waited for something, and so come to the end of what it had to do; none: it is gone.
pub fn turns(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// Sends a signal; a process that is gone does not mind.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Ends everything of `place`: agents and stand-ins first, then keepers, whose death must end what they keep. What is left after that
/// is killed, too, and given back: nothing should be.
pub(crate) fn end_all(place: &Path) -> Vec<Process> {
    for agent in of(place).iter().filter(|process| process.is("agent") || process.is("stand-in")) {
        signal(agent.pid, Signal::KILL);
    }
    let mut left = of(place);
    // A keeper may be starting while the first look is taken.
    for _ in 0..50 {
        for keeper in left.iter().filter(|process| process.is_keeper()) {
            signal(keeper.pid, Signal::KILL);
        }
        wait::pause();
        left = of(place);
        if left.is_empty() {
            break;
        }
    }
    for process in &left {
        signal(process.pid, Signal::KILL);
    }
    if !left.is_empty() {
        wait::wait_for("killed processes are gone", Duration::from_secs(10), || match of(place).as_slice() {
            [] => Ok(()),
            rest => Err(format!("{rest:?}")),
        });
    }
    left
}

fn all() -> Vec<Process> {
    let own = std::process::id();
    let live = pids().filter(|pid| *pid != own && is_alive(*pid));
    live.map(|pid| Process { pid, command: command(pid) }).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}

fn environment(pid: u32) -> impl Iterator<Item = Vec<u8>> {
    let all = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    all.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()
}

fn belongs(pid: u32, place: &[u8]) -> bool {
    let setting = [PLACE.as_bytes(), b"=", place].concat();
    let within = |link: &str| {
        let target = fs::read_link(format!("/proc/{pid}/{link}")).unwrap_or_default();
        let rest = target.as_os_str().as_bytes().strip_prefix(place).map(<[u8]>::to_vec);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    environment(pid).any(|found| found == setting) || within("exe") || within("cwd")
}
