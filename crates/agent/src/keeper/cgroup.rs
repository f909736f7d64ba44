//! Control groups: what holds all processes of an instance together to its limits, where the machine lets us make some.
//!
//! Both hierarchies are spoken. Of version 1 each controller has its own (`/sys/fs/cgroup/memory/…`), of version 2 all share
//! one, in which a group that has groups below it must not have processes itself: the agent moves into one of its own first
//! ([`settle`]), which takes a service whose group is its own (`Delegate=yes` of systemd), or a container's.
//!
//! ```text
//!  sheaf.service             cgroup.subtree_control: memory cpu pids
//!  ├── sheaf.agent           the agent, keepers, stand-in, runner
//!  └── sheaf.0123456789ab…   an instance with limits
//! ```
//!
//! When the service stops its instances go on, and systemd wants to put the next agent into `sheaf.service` itself: so the
//! controllers are taken off it first ([`vacate`]), and the limits are set again when the next agent greets the keepers
//! ([`renew`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sheaf_model::Limits;

/// The agent's and its keepers' own group, of version 2.
const OWN: &str = "sheaf.agent";
/// Where systemd puts the commands of a service that it runs beside the main one, `ExecStopPost=` among them.
const CONTROL: &str = ".control";
/// Before the name of an instance's group.
const GROUP: &str = "sheaf.";
/// The scheduler's period, in microseconds.
const PERIOD: u64 = 100_000;

/// What a group can be limited in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// Where groups for a controller can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) controller: Controller,
    pub(crate) dir: PathBuf,
    /// The unified hierarchy.
    pub(crate) unified: bool,
}

/// Where this process may make groups, as far as can be seen without making one.
pub(crate) fn places() -> Vec<Place> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let all = parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    all.into_iter().filter(Place::is_open).collect()
}

/// From what the kernel says of this process's groups, and of what is mounted where.
fn parse(groups: &str, mounts: &str) -> Vec<Place> {
    let own = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            wanted(controllers).then(|| fields.next().unwrap_or("/").to_owned())
        })
    };
    let mut places = Vec::new();
    for controller in Controller::ALL {
        let named = |list: &str| list.split(',').any(|name| name == controller.as_str());
        let first = own(&named).and_then(|group| dir(mounts, "cgroup", &named, &group));
        let second = || own(&str::is_empty).and_then(|group| dir(mounts, "cgroup2", &|_| true, &group));
        let place = match first {
            Some(dir) => Some((dir, false)),
            None => second().map(|dir| (dir, true)),
        };
        places.extend(place.map(|(dir, unified)| Place { controller, dir, unified }));
    }
    places
}

/// The directory of a group in the hierarchy of this type that has these options.
fn dir(mounts: &str, kind: &str, wanted: &dyn Fn(&str) -> bool, group: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut rest = rest.split(' ');
        let (found, options) = (rest.next()?, rest.nth(1)?);
        if found != kind || !wanted(options) {
            return None;
        }
        let (root, point) = (mount.split(' ').nth(3)?, mount.split(' ').nth(4)?);
        // In a container the hierarchy begins at its own group.
        let below = if root == "/" { group } else { group.strip_prefix(root).unwrap_or("") };
        let below = below.trim_matches('/');
        let leaf = [OWN, CONTROL].into_iter().find_map(|leaf| below.strip_suffix(leaf));
        let below = leaf.filter(|_| kind == "cgroup2").unwrap_or(below);
        Some(if below.is_empty() {
            PathBuf::from(point)
        } else {
            Path::new(point).join(below.trim_end_matches('/'))
        })
    })
}

impl Place {
    /// Whether a group can be made here, and limited.
    fn is_open(&self) -> bool {
        let enabled = fs::read_to_string(self.dir.join("cgroup.subtree_control"));
        let has = |list: &str| list.split_whitespace().any(|name| name == self.controller.as_str());
        let limits = !self.unified || enabled.is_ok_and(|list| has(&list));
        limits && rustix::fs::access(&self.dir, rustix::fs::Access::WRITE_OK).is_ok()
    }

    fn group(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{GROUP}{name}"))
    }

    /// Makes a group and gives it its limit; what holds its processes comes back.
    fn make(&self, name: &str, limits: &Limits) -> io::Result<PathBuf> {
        let group = self.group(name);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let set = |file: &str, value: &str| fs::write(group.join(file), value);
        // Swap is not counted everywhere: a machine that has none lacks the files.
        let perhaps = |file: &str, value: &str| drop(set(file, value));
        match (self.controller, self.unified) {
            (Controller::Memory, unified) => {
                let bytes = limits.memory.map_or(u64::MAX, |bytes| bytes.0).to_string();
                if unified {
                    set("memory.max", &bytes)?;
                    perhaps("memory.swap.max", "0");
                } else {
                    // Neither may ever be the wrong side of the other, and a group that a killed keeper left has both.
                    perhaps("memory.memsw.limit_in_bytes", &bytes);
                    set("memory.limit_in_bytes", &bytes)?;
                    perhaps("memory.memsw.limit_in_bytes", &bytes);
                }
            }
            (Controller::Cpu, unified) => {
                let quota =
                    (limits.cpu_millis.unwrap_or(u64::MAX / PERIOD).saturating_mul(PERIOD) / 1000).max(1000);
                if unified {
                    set("cpu.max", &format!("{quota} {PERIOD}"))?;
                } else {
                    set("cpu.cfs_period_us", &PERIOD.to_string())?;
                    set("cpu.cfs_quota_us", &quota.to_string())?;
                }
            }
            (Controller::Pids, _) => set("pids.max", &limits.processes.unwrap_or(u64::MAX).to_string())?,
        }
        Ok(group.join("cgroup.procs"))
    }

    /// How many of a group's processes the kernel has killed for its memory.
    fn killed(&self, name: &str) -> u64 {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.group(name).join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or_default()
    }
}

/// Whether these limits ask for this controller.
fn asks(limits: &Limits, controller: Controller) -> bool {
    match controller {
        Controller::Memory => limits.memory.is_some(),
        Controller::Cpu => limits.cpu_millis.is_some(),
        Controller::Pids => limits.processes.is_some(),
    }
}

/// The groups of an instance, or those that can be had: files that a process joins by writing `0`, and for what.
pub(crate) fn make(name: &str, limits: &Limits) -> io::Result<Vec<(Controller, PathBuf)>> {
    let wanted = places().into_iter().filter(|place| asks(limits, place.controller));
    wanted.map(|place| Ok((place.controller, place.make(name, limits)?))).collect()
}

/// Sets the limits of an instance's groups again, where it has some: a restart of the service has taken them away.
pub(crate) fn renew(name: &str, limits: &Limits) {
    let wanted = places().into_iter().filter(|place| asks(limits, place.controller));
    for place in wanted.filter(|place| place.group(name).is_dir()) {
        let _ = place.make(name, limits); // as good as it gets: the instance runs already
    }
}

/// Removes the groups of an instance of which nothing is alive.
pub(crate) fn remove(name: &str) {
    for place in places() {
        let _ = fs::remove_dir(place.group(name)); // most have none
    }
}

/// How many processes of an instance the kernel has killed for its memory, ever.
pub(crate) fn killed(name: &str) -> u64 {
    let memory = places().into_iter().find(|place| place.controller == Controller::Memory);
    memory.map_or(0, |place| place.killed(name))
}

/// Before the first instance: of version 2 this process goes into a group of its own, so that there can be others beside
/// it. Without effect where that is not possible; [`places`] tells then.
pub(crate) fn settle() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let all = parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let Some(base) = all.into_iter().find(|place| place.unified).map(|place| place.dir) else { return };
    let settled = (|| {
        let own = base.join(OWN);
        match fs::create_dir(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::write(own.join("cgroup.procs"), "0")
    })();
    if settled.is_ok() {
        for controller in Controller::ALL {
            let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{}", controller.as_str()));
        }
    }
}

/// After the service has stopped: of version 2 its group has no controllers for those below it any more, and no process, so
/// that the next agent can be put into it. What goes on runs without its limits until that one has settled.
///
/// # Errors
/// What the kernel says. Without groups of version 2 there is nothing to do.
pub(crate) fn vacate() -> io::Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let all = parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let base = all.into_iter().find(|place| place.unified).map(|place| place.dir);
    // Where nobody has settled there is nothing in the way.
    base.filter(|base| base.join(OWN).is_dir()).map_or(Ok(()), |base| vacate_group(&base))
}

fn vacate_group(base: &Path) -> io::Result<()> {
    let left = fs::read_to_string(base.join("cgroup.procs"))?;
    for process in left.lines() {
        // One that has ended meanwhile needs no place.
        let _ = fs::write(base.join(OWN).join("cgroup.procs"), process);
    }
    let enabled = fs::read_to_string(base.join("cgroup.subtree_control"))?;
    enabled
        .split_whitespace()
        .try_for_each(|name| fs::write(base.join("cgroup.subtree_control"), format!("-{name}")))
}

/// The name of an instance's groups: the same for the same directory, and another on the same machine for another agent's.
pub(crate) fn name(instance: &Path) -> String {
    // FNV-1a, so that builds agree.
    let bytes = instance.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use sheaf_model::Bytes;

    use super::*;

    const FIRST: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/api/x\n2:cpuacct,cpu:/\n0::/\n";
    const FIRST_MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 /docker/1 /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn groups_of_both_versions_are_found() {
        let dirs = |groups, mounts| {
            let places = parse(groups, mounts).into_iter();
            places
                .map(|it| format!("{} {} {}", it.controller.as_str(), it.dir.display(), it.unified))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            dirs(FIRST, FIRST_MOUNTS),
            [
                "memory /sys/fs/cgroup/memory/api/x false",
                "cpu /sys/fs/cgroup/cpu false",
                "pids /sys/fs/cgroup/pids false",
            ]
        );
        let mounts = "33 25 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        for group in ["0::/system.slice/sheaf.service\n", "0::/system.slice/sheaf.service/sheaf.agent\n"] {
            let all = dirs(group, mounts);
            assert_eq!(all.len(), 3);
            assert_eq!(all[0], "memory /sys/fs/cgroup/system.slice/sheaf.service true");
        }
        assert_eq!(dirs("0::/\n", mounts)[1], "cpu /sys/fs/cgroup true");
        assert!(dirs("", "").is_empty());
    }

    #[test]
    fn limits_are_written_as_each_version_wants_them() {
        let base = tempfile::tempdir().unwrap();
        let limits = Limits {
            memory: Some(Bytes(64 << 20)),
            cpu_millis: Some(1500),
            open_files: None,
            processes: Some(20),
        };
        for (unified, file, text) in [
            (true, "memory.max", "67108864"),
            (true, "cpu.max", "150000 100000"),
            (true, "pids.max", "20"),
            (false, "memory.limit_in_bytes", "67108864"),
            (false, "cpu.cfs_quota_us", "150000"),
            (false, "pids.max", "20"),
        ] {
            let controller = match &file[..3] {
                "mem" => Controller::Memory,
                "cpu" => Controller::Cpu,
                _ => Controller::Pids,
            };
            let place = Place { controller, dir: base.path().to_owned(), unified };
            let procs = place.make("1", &limits).unwrap();
            assert_eq!(procs, base.path().join("sheaf.1/cgroup.procs"));
            assert_eq!(fs::read_to_string(base.path().join("sheaf.1").join(file)).unwrap(), text, "{file}");
        }
    }

    #[test]
    fn a_service_that_has_stopped_leaves_its_group_free() {
        let mounts = "33 25 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let dirs = parse("0::/system.slice/sheaf.service/.control\n", mounts);
        assert_eq!(dirs[0].dir, Path::new("/sys/fs/cgroup/system.slice/sheaf.service"));
        let base = tempfile::tempdir().unwrap();
        let file = |name: &str| base.path().join(name);
        fs::create_dir(file(OWN)).unwrap();
        fs::write(file("cgroup.procs"), "71\n").unwrap();
        fs::write(file("cgroup.subtree_control"), "pids\n").unwrap();
        vacate_group(base.path()).unwrap();
        assert_eq!(fs::read_to_string(file("sheaf.agent/cgroup.procs")).unwrap(), "71");
        assert_eq!(fs::read_to_string(file("cgroup.subtree_control")).unwrap(), "-pids");
    }

    #[test]
    fn instances_have_groups_of_their_own() {
        assert_eq!(name(Path::new("/a")), name(Path::new("/a")));
        assert_ne!(name(Path::new("/a/instances/x")), name(Path::new("/b/instances/x")));
    }
}
