//! What an instance may use, and as whom it runs: said by its keeper, done by the second stage to itself before it becomes
//! the program.
//!
//! ```text
//!  keeper ── makes groups, says `cgroup=…/cgroup.procs open_files=4096 user=flume` ──► second stage
//!                                    joins them, takes its limits, becomes the user ◄──┘
//! ```

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, open};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{
    CapabilitySet, capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};
use sheaf_model::Limits;
use uzers::os::unix::UserExt as _;

use super::cgroup::{self, Controller};

/// What confines an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// What it may use.
    pub limits: Limits,
    /// Whom it runs as; none: as the agent does.
    pub user: Option<String>,
}

/// One thing that the second stage does to itself.
const CGROUP: &str = "cgroup=";
const OPEN_FILES: &str = "open_files=";
const PROCESSES: &str = "processes=";
const MEMORY: &str = "memory=";
const USER: &str = "user=";

/// What a second stage is told that is to become this user and nothing else.
pub(crate) fn run_as(user: &str) -> OsString {
    format!("{USER}{user}").into()
}

impl Confine {
    /// Whether there is nothing to do.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the groups of an instance, and says what its second stage is to do. The error is for people.
    pub(crate) fn prepare(&self, instance: &Path) -> Result<Vec<OsString>, String> {
        let groups = cgroup::make(&cgroup::name(instance), &self.limits)
            .map_err(|error| format!("its limits cannot be set: {error}"))?;
        Ok(self.orders(&groups))
    }

    /// What the second stage is to do if these groups could be had.
    fn orders(&self, groups: &[(Controller, PathBuf)]) -> Vec<OsString> {
        let Limits { memory, processes, open_files, .. } = &self.limits;
        let has = |wanted| groups.iter().any(|(controller, _)| *controller == wanted);
        let mut orders: Vec<OsString> = Vec::new();
        let mut say = |order: &str, value: &std::ffi::OsStr| {
            let mut text = OsString::from(order);
            text.push(value);
            orders.push(text);
        };
        // Without a group it is the user who is counted, and the agent's own user has more than this instance.
        if let Some(most) = processes.filter(|_| !has(Controller::Pids) && self.user.is_some()) {
            say(PROCESSES, most.to_string().as_ref());
        }
        if let Some(most) = open_files {
            say(OPEN_FILES, most.to_string().as_ref());
        }
        groups.iter().for_each(|(_, procs)| say(CGROUP, procs.as_os_str()));
        if let Some(user) = &self.user {
            say(USER, user.as_ref());
        }
        // Last: to look a user up takes memory, and the second stage has more of it than some programs may.
        if let Some(bytes) = memory.filter(|_| !has(Controller::Memory)) {
            say(MEMORY, bytes.0.to_string().as_ref());
        }
        orders
    }

    /// Lets the instance's user have its directory, and reach it; an earlier user has it no more. Says whose the files in it
    /// are to be; none: the agent's own. The error is for people.
    pub(crate) fn hand_over(&self, data_dir: &Path, dir: &Path) -> Result<Option<Owner>, String> {
        let owner = self.owner()?;
        let done = || {
            // What is above it belongs to the agent: nobody else can put another directory in its place.
            let opened = open(dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let has = rustix::fs::fstat(&opened)?.st_uid;
            let me = uzers::get_effective_uid();
            match owner {
                Some(owner) => owner.take(&opened)?,
                None if has != me && me == 0 => Owner::agent().take(&opened)?,
                None => {}
            }
            // Everybody may pass, nobody else may look.
            let above = || dir.ancestors().skip(1).take_while(|above| above.starts_with(data_dir));
            for above in above().filter(|_| owner.is_some()) {
                let mode = fs::metadata(above)?.permissions().mode();
                if mode & 0o011 != 0o011 {
                    fs::set_permissions(above, fs::Permissions::from_mode(mode | 0o011))?;
                }
            }
            io::Result::Ok(())
        };
        done().map_err(|error| self.not_given(dir, &error))?;
        Ok(owner)
    }

    /// Lets the instance's user have a socket of ours that is in a directory which it has already. The error is for people.
    pub(crate) fn hand_over_socket(&self, socket: &Path) -> Result<(), String> {
        let Some(owner) = self.owner()? else { return Ok(()) };
        let done = || {
            // The user may have put anything in its place: what is given away is looked at, and is what was looked at.
            let opened = open(socket, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let found = rustix::fs::fstat(&opened)?;
            let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
            if !is_socket || found.st_nlink != 1 {
                return Err(io::Error::other("something else was put in its place"));
            }
            let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
            Ok(rustix::fs::chownat(&opened, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?)
        };
        done().map_err(|error| self.not_given(socket, &error))
    }

    /// Whose the instance's files are; none: the agent's own user. The error is for people.
    fn owner(&self) -> Result<Option<Owner>, String> {
        let Some(name) = &self.user else { return Ok(None) };
        let user = find(name)?;
        Ok((!is_me(&user)).then(|| Owner { user: user.uid(), group: user.primary_group_id() }))
    }

    fn not_given(&self, what: &Path, error: &io::Error) -> String {
        let user = self.user.as_deref().unwrap_or("of the agent");
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let remedy = if denied { "; only an agent that runs as root can do that" } else { "" };
        format!("user {user} cannot be given {}: {error}{remedy}", what.display())
    }
}

/// Whose an instance's directory and files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn agent() -> Self {
        Self { user: uzers::get_effective_uid(), group: uzers::get_effective_gid() }
    }

    /// Has it from here on. By its descriptor only: in a directory of the user's a name leads wherever the user likes.
    pub(crate) fn take(self, file: impl AsFd) -> io::Result<()> {
        fchown(file, Some(self.user), Some(self.group))
    }
}

fn find(name: &str) -> Result<uzers::User, String> {
    uzers::get_user_by_name(name).ok_or_else(|| format!("there is no user {name} on this node"))
}

fn is_me(user: &uzers::User) -> bool {
    uzers::get_effective_uid() == user.uid()
}

/// Does what the keeper has said, in this process. Call it before any thread exists. The variables of the user come back.
/// The error is for people.
pub(crate) fn obey(orders: &[OsString]) -> Result<Vec<(&'static str, OsString)>, String> {
    let mut variables = Vec::new();
    for order in orders {
        let text = order.to_string_lossy();
        let number = |value: &str| value.parse::<u64>().map_err(|_| format!("{text}: no number"));
        let limited = |what: &str, resource, most: u64| {
            // A lower hard limit of the agent's own stays where it cannot be raised; see `unenforced`.
            let hard = rustix::process::getrlimit(resource).maximum.filter(|_| !may_raise());
            let most = hard.map_or(most, |hard| hard.min(most));
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
                .map_err(|error| format!("limits.{what} cannot be set to {most}: {error}"))
        };
        if let Some(procs) = text.strip_prefix(CGROUP) {
            fs::write(procs, "0").map_err(|error| format!("{procs} cannot be joined: {error}"))?;
        } else if let Some(most) = text.strip_prefix(OPEN_FILES) {
            limited("open_files", Resource::Nofile, number(most)?)?;
        } else if let Some(most) = text.strip_prefix(PROCESSES) {
            limited("processes", Resource::Nproc, number(most)?)?;
        } else if let Some(most) = text.strip_prefix(MEMORY) {
            limited("memory", Resource::As, number(most)?)?;
        } else if let Some(name) = text.strip_prefix(USER) {
            variables = become_user(name)?;
        } else {
            return Err(format!("{text}: not understood"));
        }
    }
    Ok(variables)
}

/// Comes after all that takes root's rights: afterwards there is no way back.
fn become_user(name: &str) -> Result<Vec<(&'static str, OsString)>, String> {
    let user = find(name)?;
    let variables = vec![
        ("USER", user.name().to_owned()),
        ("LOGNAME", user.name().to_owned()),
        ("HOME", user.home_dir().as_os_str().to_owned()),
    ];
    if is_me(&user) {
        return Ok(variables);
    }
    let group = Gid::from_raw(user.primary_group_id());
    let groups = user.groups().unwrap_or_default();
    let groups: Vec<_> = groups.iter().map(|it| Gid::from_raw(it.gid())).collect();
    let me = Uid::from_raw(user.uid());
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(group, group, group))
        .and_then(|()| set_thread_res_uid(me, me, me))
        .map_err(|error| {
            format!("it cannot run as user {name}: {error}; only an agent that runs as root can do that")
        })?;
    Ok(variables)
}

/// Whether this process may set limits that are higher than its own.
fn may_raise() -> bool {
    capabilities(None).is_ok_and(|found| found.effective.contains(CapabilitySet::SYS_RESOURCE))
}

/// What of limits and users this node cannot enforce, for people; each begins with the field of a document. A number that
/// follows is the most that can be had.
pub(crate) fn unenforced() -> Vec<String> {
    let has = |wanted| cgroup::places().iter().any(|place| place.controller == wanted);
    let mut notes = Vec::new();
    let why = "the agent cannot make control groups with that controller here";
    if !has(Controller::Memory) {
        notes.push(format!(
            "limits.memory is enforced of each process's address space, not of the memory that an instance uses: {why}"
        ));
    }
    if !has(Controller::Cpu) {
        notes.push(format!("limits.cpu is not enforced: {why}"));
    }
    if !has(Controller::Pids) {
        notes.push(format!("limits.processes is enforced only of modules with a user: {why}"));
    }
    if let Some(hard) = rustix::process::getrlimit(Resource::Nofile).maximum.filter(|_| !may_raise()) {
        notes.push(format!(
            "limits.open_files {hard} is the most here, what is more is lowered to it: the agent may have no more itself; raise its hard limit (LimitNOFILE of its service)"
        ));
    }
    if !crate::process::runs_as_root() {
        notes.push("user is possible only for the agent's own: the agent does not run as root".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use sheaf_model::Bytes;

    use super::*;

    fn orders(user: Option<&str>, groups: &[Controller]) -> Vec<String> {
        let limits = Limits {
            memory: Some(Bytes(64 << 20)),
            cpu_millis: Some(500),
            open_files: Some(77),
            processes: Some(8),
        };
        let confine = Confine { limits, user: user.map(str::to_owned) };
        let groups: Vec<_> = groups.iter().map(|it| (*it, PathBuf::from("/its/cgroup.procs"))).collect();
        confine.orders(&groups).iter().map(|order| order.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_no_group_keeps_is_a_limit_of_each_process() {
        assert_eq!(orders(None, &[]), ["open_files=77", "memory=67108864"]);
        let with_user = ["processes=8", "open_files=77", "user=flume", "memory=67108864"];
        assert_eq!(orders(Some("flume"), &[]), with_user);
        let group = "cgroup=/its/cgroup.procs";
        assert_eq!(orders(None, &[Controller::Pids]), ["open_files=77", group, "memory=67108864"]);
        assert_eq!(orders(None, &Controller::ALL), ["open_files=77", group, group, group]);
    }
}
