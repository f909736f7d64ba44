//! Processes: who is below us, what a killed keeper has left behind, who has died.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, wait,
    waitid, waitpid,
};
use sheaf_model::{BootId, Exit, Signal};

use super::{KeeperProcess, Status};

/// What the kernel says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    zombie: bool,
    parent: i32,
    session: i32,
    /// In ticks since boot.
    started: u64,
}

/// `/proc/PID/stat`; none: there is no such process.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything, brackets too.
    let rest = &text[text.iter().rposition(|&byte| byte == b')')? + 1..];
    let rest = String::from_utf8_lossy(rest);
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// All processes of this machine.
fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// This process, unmistakably.
pub(crate) fn this_process() -> KeeperProcess {
    let pid = getpid().as_raw_nonzero().get();
    KeeperProcess { pid: pid.unsigned_abs(), started: stat(pid).map_or(0, |stat| stat.started) }
}

/// Whether that very process is there and no zombie.
pub(crate) fn is_alive(process: KeeperProcess) -> bool {
    i32::try_from(process.pid)
        .ok()
        .and_then(stat)
        .is_some_and(|stat| stat.started == process.started && !stat.zombie)
}

/// The children of a process, those of all its threads; zombies too. None: the kernel does not list them.
fn listed_children(pid: i32) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(text) => {
                children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
            // The thread has ended, or the kernel was built without these files.
            Err(_) if task.path().join("stat").exists() => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

/// The children of the thread that opens it, by a file that stays open: of a process with one thread, all there are.
#[derive(Debug)]
pub(crate) struct Children {
    /// None: the kernel was built without these files.
    list: Option<File>,
}

impl Children {
    pub(crate) fn open() -> Self {
        Self { list: File::open("/proc/thread-self/children").ok() }
    }

    /// Those that it has now, zombies too; none: the kernel does not list them.
    pub(crate) fn now(&self) -> Option<Vec<i32>> {
        let list = self.list.as_ref()?;
        let (mut text, mut buffer) = (Vec::new(), [0; 512]);
        loop {
            match list.read_at(&mut buffer, text.len() as u64) {
                Ok(0) => break,
                Ok(read) => text.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let text = String::from_utf8(text).ok()?;
        text.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
    }
}

/// Every descendant of `root`, parents first.
fn descendants(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut scanned: Option<BTreeMap<i32, Vec<i32>>> = None;
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let children = match (&scanned, listed_children(pid)) {
            (None, Some(children)) => children,
            (None, None) if stat(pid).is_none() => Vec::new(),
            _ => scanned.get_or_insert_with(by_parent).get(&pid).cloned().unwrap_or_default(),
        };
        let new: Vec<i32> = children.into_iter().filter(|child| !found.contains(child)).collect();
        found.extend(new);
    }
    found.remove(0);
    found
}

fn by_parent() -> BTreeMap<i32, Vec<i32>> {
    let mut parents: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in all() {
        if let Some(stat) = stat(pid) {
            parents.entry(stat.parent).or_default().push(pid);
        }
    }
    parents
}

/// Every descendant of this process.
pub(crate) fn below_us() -> Vec<i32> {
    descendants(getpid().as_raw_nonzero().get())
}

/// Those that are no zombies, by name and number.
pub(crate) fn alive_below_us() -> Vec<String> {
    let alive = below_us().into_iter().filter(|pid| stat(*pid).is_some_and(|stat| !stat.zombie));
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    alive.map(|pid| format!("{} ({pid})", name(pid).trim())).collect()
}

/// Sends a signal to the group of `leader` and to every other descendant of this process.
pub(crate) fn signal_all(leader: Option<i32>, signal: rustix::process::Signal) {
    if let Some(group) = leader.and_then(Pid::from_raw) {
        // No such group: its members have ended.
        let _ = kill_process_group(group, signal);
    }
    for pid in below_us() {
        let in_group = leader.is_some()
            && Pid::from_raw(pid).and_then(|pid| rustix::process::getpgid(Some(pid)).ok()).map(pid_number)
                == leader;
        if !in_group {
            send(pid, signal);
        }
    }
}

/// SIGKILL to what is left below us of the group that `leader` led. Its number may be another's already: only our own
/// descendants are looked at.
pub(crate) fn kill_group_of(leader: i32) {
    for pid in below_us() {
        let group = Pid::from_raw(pid).and_then(|pid| rustix::process::getpgid(Some(pid)).ok());
        if group.map(pid_number) == Some(leader) {
            send(pid, rustix::process::Signal::KILL);
        }
    }
}

fn send(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended, or not be ours to signal; who counts what is left finds it again.
        let _ = kill_process(pid, signal);
    }
}

fn pid_number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

/// The kernel's name of a signal that documents may name.
pub(crate) fn kernel_signal(signal: Signal) -> rustix::process::Signal {
    use rustix::process::Signal as Kernel;
    match signal {
        Signal::Term => Kernel::TERM,
        Signal::Int => Kernel::INT,
        Signal::Hup => Kernel::HUP,
        Signal::Quit => Kernel::QUIT,
        Signal::Usr1 => Kernel::USR1,
        Signal::Usr2 => Kernel::USR2,
        Signal::Kill => Kernel::KILL,
    }
}

/// A child that has ended.
pub(crate) enum Reaped {
    /// This one, like this.
    Child(i32, Exit),
    /// Children live, none has ended.
    NoneYet,
    /// There is no child at all. As a subreaper's: nothing that it ever started is left.
    NoChild,
}

/// Takes note of one child that has ended.
pub(crate) fn reap() -> Reaped {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(exit) = exit_of(status) {
                    return Reaped::Child(pid_number(pid), exit);
                }
            }
            Ok(None) => return Reaped::NoneYet,
            Err(Errno::INTR) => {}
            Err(_) => return Reaped::NoChild,
        }
    }
}

/// Whether this child has ended and is not reaped yet, so that its number is still its own.
pub(crate) fn has_ended(child: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(child).is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
}

/// Takes note of the end of this very child.
pub(crate) fn reap_child(pid: i32) -> Reaped {
    match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            exit_of(status).map_or(Reaped::NoneYet, |exit| Reaped::Child(pid_number(pid), exit))
        }
        _ => Reaped::NoneYet,
    }
}

/// Processes that carry an entry in their environment that begins with `mark`.
pub(crate) fn marked(mark: &[u8]) -> Vec<i32> {
    let us = getpid().as_raw_nonzero().get();
    let is_alive = |pid: i32| stat(pid).is_some_and(|stat| !stat.zombie);
    all().into_iter().filter(|&pid| pid != us && entry(pid, mark).is_some() && is_alive(pid)).collect()
}

/// Those of them that lead a session, unmistakably.
pub(crate) fn leaders(pids: &[i32]) -> impl Iterator<Item = KeeperProcess> {
    pids.iter().filter_map(|&pid| {
        let started = stat(pid).filter(|it| it.session == pid)?.started;
        Some(KeeperProcess { pid: pid.unsigned_abs(), started })
    })
}

/// What is alive of their sessions.
pub(crate) fn in_sessions_of(leaders: &[KeeperProcess]) -> Vec<i32> {
    if leaders.is_empty() {
        return Vec::new();
    }
    let us = getpid().as_raw_nonzero().get();
    let is_meant = |it: Stat| !it.zombie && leaders.iter().any(|leader| is_in_session_of(it, *leader));
    all().into_iter().filter(|&pid| pid != us && stat(pid).is_some_and(is_meant)).collect()
}

/// The number that stands behind `mark` in a process' environment.
pub(crate) fn ticket(pid: i32, mark: &[u8]) -> Option<u64> {
    entry(pid, mark)?.parse().ok()
}

/// What follows `mark` in the first entry of a process' environment that begins with it.
fn entry(pid: i32, mark: &[u8]) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let rest = environment.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(mark))?;
    Some(String::from_utf8_lossy(rest).into_owned())
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// What a killed keeper may have left: processes that carry the instance's directory in their environment, or belong
/// to that keeper's session. Neither the keeper itself nor this process is among them.
pub(crate) fn leftovers(program_dir: &Path, status: Option<&Status>, boot: &BootId) -> Vec<i32> {
    let mut marker = b"SHEAF_DIR=".to_vec();
    marker.extend_from_slice(program_dir.as_os_str().as_bytes());
    let keeper = status.filter(|status| status.boot == *boot).map(|status| status.keeper);
    let us = getpid().as_raw_nonzero().get();
    let is_left = |pid: i32, stat: Stat| {
        let marked = || {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|&byte| byte == 0).any(|entry| entry == marker))
        };
        keeper.is_some_and(|keeper| is_in_session_of(stat, keeper)) || marked()
    };
    all()
        .into_iter()
        .filter(|&pid| pid != us && keeper.is_none_or(|keeper| pid.unsigned_abs() != keeper.pid))
        .filter(|&pid| stat(pid).is_some_and(|stat| !stat.zombie && is_left(pid, stat)))
        .collect()
}

/// Whether a process is in the session that a keeper once led. The session's number may have been given anew since:
/// then its leader is another process, or the process is older than the keeper.
fn is_in_session_of(process: Stat, keeper: KeeperProcess) -> bool {
    let Ok(session) = i32::try_from(keeper.pid) else { return false };
    process.session == session
        && process.started >= keeper.started
        && stat(session).is_none_or(|leader| leader.started == keeper.started)
}

/// SIGKILL to each.
pub(crate) fn kill_each(pids: &[i32]) {
    for &pid in pids {
        send(pid, rustix::process::Signal::KILL);
    }
}

/// SIGKILL to a keeper, unless it is another process by now.
pub(crate) fn kill_keeper(keeper: KeeperProcess) {
    let Ok(pid) = i32::try_from(keeper.pid) else { return };
    let Some(process) = Pid::from_raw(pid) else { return };
    // The descriptor stands for the process that has the number now; then we look whether it is the one we mean.
    let Ok(descriptor) = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    if is_alive(keeper) {
        let _ = rustix::process::pidfd_send_signal(descriptor, rustix::process::Signal::KILL);
    }
}

/// Takes note of the end of a keeper that a former life of this very process started: the kernel keeps its entry until then.
/// Returns whether nothing of it is left.
pub(crate) fn reap_keeper(keeper: KeeperProcess) -> bool {
    let is_it = |pid: i32| stat(pid).filter(|stat| stat.started == keeper.started);
    let Some((pid, stat)) = i32::try_from(keeper.pid).ok().and_then(|pid| Some((pid, is_it(pid)?))) else {
        return true;
    };
    // As long as it is not reaped its number is not given anew. Another process' child is for that one to reap.
    if stat.zombie
        && let Some(process) = Pid::from_raw(pid)
    {
        let _ = waitpid(Some(process), WaitOptions::NOHANG);
    }
    is_it(pid).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_listed_again_and_again_as_they_come_and_go() {
        let children = Children::open();
        // A kernel may be built without the list.
        let Some(before) = children.now() else { return };
        assert!(before.is_empty(), "this thread has started nothing");
        let start = |_| std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut started: Vec<_> = (0..150).map(start).collect();
        let pids: Vec<i32> = started.iter().map(|child| child.id().cast_signed()).collect();
        assert_eq!(children.now().unwrap(), pids, "more than are read at once");
        for child in started.iter_mut().skip(1) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(children.now().unwrap(), pids[..1]);
        started[0].kill().unwrap();
        while stat(pids[0]).is_some_and(|stat| !stat.zombie) {
            std::thread::yield_now();
        }
        assert_eq!(children.now().unwrap(), pids[..1], "a zombie is one");
        started[0].wait().unwrap();
        assert!(children.now().unwrap().is_empty());
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "that is what is taken note of")]
    fn a_process_knows_itself_and_its_children() {
        let us = this_process();
        assert!(is_alive(us));
        assert!(!is_alive(KeeperProcess { started: us.started + 1, ..us }));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(below_us().contains(&pid));
        assert!(by_parent()[&us.pid.cast_signed()].contains(&pid), "the fallback sees it too");
        let keeper = KeeperProcess { pid: child.id(), started: stat(pid).unwrap().started };
        assert!(!reap_keeper(keeper), "it lives, so nothing is noted");
        child.kill().unwrap();
        while stat(pid).is_some_and(|stat| !stat.zombie) {
            std::thread::yield_now();
        }
        assert!(reap_keeper(KeeperProcess { started: keeper.started + 1, ..keeper }), "another process");
        assert!(stat(pid).is_some());
        assert!(reap_keeper(keeper));
        assert_eq!(stat(pid), None);
    }
}
