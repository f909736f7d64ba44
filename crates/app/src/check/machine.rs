//! The machine itself: clocks, timers, memory, limits of this process, and what of modules' limits can be kept.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::Finding;
use crate::config::Config;
use crate::data;
use crate::node;

/// 2025-01-01: no build of this is older.
const PLAUSIBLE: Duration = Duration::from_secs(1_735_689_600);
/// Looks at the clock that leases use.
const LOOKS: usize = 1000;
/// A timer that comes later than this is counted by the agent, too.
const LATE: Duration = Duration::from_millis(50);
/// What the agent needs, with a keeper or two.
const LITTLE_MEMORY: u64 = 256 << 20;
/// Each connection, stream and instance has some.
const LEAST_FILES: u64 = 1024;
const FEW_FILES: u64 = 8192;
/// Each instance has a keeper and its programs, each attempt some processes.
const FEW_PROCESSES: u64 = 4096;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![wall(), boot(), timers(), memory(), files()];
    findings.extend(processes());
    findings.extend(kept(config));
    findings
}

/// Leases use the boot clock; wall time dates history and certificates.
fn wall() -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if now < PLAUSIBLE {
        let shown = sheaf_model::Timestamp::from_system(SystemTime::now());
        return Finding::error(
            "clock",
            format!("the wall clock says {shown}: certificates would not be valid yet, and history wrong"),
            "set the clock, and have it kept: systemd-timesyncd or chrony",
        );
    }
    let keepers = ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"];
    match keepers.iter().find(|path| fs::exists(path).unwrap_or(false)) {
        Some(path) => Finding::fine("clock", format!("plausible, and kept ({path})")),
        None => Finding::fine("clock", "plausible; whether something keeps it cannot be seen from here"),
    }
}

/// The clock of leases must never go back.
fn boot() -> Finding {
    let now = || {
        let time = clock_gettime(ClockId::Boottime);
        (time.tv_sec, time.tv_nsec)
    };
    let mut last = now();
    for _ in 0..LOOKS {
        let next = now();
        if next < last {
            return Finding::error(
                "clock",
                format!("the boot clock went back from {last:?} to {next:?}: leases cannot be kept here"),
                "another clock source of the kernel (clocksource=hpet, say), or another machine",
            );
        }
        last = next;
    }
    let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.map(|name| format!(" ({})", name.trim())).unwrap_or_default();
    Finding::fine("clock", format!("the clock of leases goes forward{source}"))
}

fn timers() -> Finding {
    let span = Duration::from_millis(5);
    let late = (0..10).map(|_| {
        let begun = Instant::now();
        data::pause(span);
        begun.elapsed().saturating_sub(span)
    });
    let latest = late.max().unwrap_or_default();
    let message = format!("the latest of ten came {latest:.1?} late");
    if latest > LATE {
        return Finding::warning(
            "timers",
            format!("{message}: the machine is starved, and leases would be lost for it"),
            "less load, or more processors; in a container or a virtual machine, processors of its own",
        );
    }
    Finding::fine("timers", message)
}

fn memory() -> Finding {
    let Ok(memory) = sheaf_agent::facts::memory() else {
        return Finding::warning("memory", "how much there is cannot be read", "mount /proc");
    };
    let message = format!("{} MiB available, of {}", memory.available.0 >> 20, memory.total.0 >> 20);
    if memory.available.0 < LITTLE_MEMORY {
        return Finding::warning("memory", message, "at least 256MiB for the agent, and what modules need");
    }
    Finding::fine("memory", message)
}

/// A number behind a line of `/proc/self/limits`; none: unlimited, or not told.
fn limit(limits: &str, line: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|it| it.strip_prefix(line))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn limits() -> String {
    fs::read_to_string("/proc/self/limits").unwrap_or_default()
}

/// How many files this process may have open; none: as many as the kernel has.
pub(crate) fn open_files() -> Option<u64> {
    limit(&limits(), "Max open files")
}

fn files() -> Finding {
    let Some(most) = open_files() else {
        return Finding::fine("open files", "as many as the kernel has");
    };
    let message = format!("this process may have {most}");
    let remedy =
        "LimitNOFILE=65536 in the unit, as deploy/systemd/sheaf.service has it; in a shell: ulimit -n 65536";
    match most {
        ..LEAST_FILES => Finding::error("open files", message, remedy),
        LEAST_FILES..FEW_FILES => Finding::warning("open files", message, remedy),
        _ => Finding::fine("open files", message),
    }
}

fn processes() -> Vec<Finding> {
    // Who is root is not counted.
    let counted = fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0);
    let own = limit(&limits(), "Max processes").filter(|_| counted);
    let kernel = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
    let kernel = kernel.and_then(|text| text.trim().parse::<u64>().ok());
    let Some(most) = own.into_iter().chain(kernel).min() else { return Vec::new() };
    let message = format!("there may be {most}");
    vec![if most < FEW_PROCESSES {
        let remedy = "TasksMax=infinity and LimitNPROC=infinity in the unit; in a shell: ulimit -u 65536";
        Finding::warning("processes", message, remedy)
    } else {
        Finding::fine("processes", message)
    }]
}

/// What of modules' limits and users this node would not keep.
fn kept(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "module limits";
    let notes = node::facts(config, "").notes;
    if notes.is_empty() {
        return vec![Finding::fine(CHECK, "memory, cpu, processes and user are kept, by control groups")];
    }
    let remedy = "run it as the service of deploy/systemd (root, Delegate=yes), which may make groups; what the agent finds \
        then is in the notes of sheaf node status";
    notes.into_iter().map(|note| Finding::warning(CHECK, note, remedy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             unlimited            unlimited            processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(limit(text, "Max open files"), Some(1024));
        assert_eq!(limit(text, "Max processes"), None);
        assert_eq!(limit(text, "Max locked memory"), None);
    }

    #[test]
    fn the_clocks_of_this_machine_are_in_order() {
        assert_eq!((wall().level, boot().level), (Level::Fine, Level::Fine));
    }
}
