//! The data directory: may it be written, how long does a sync take, what room is left, whose is it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::Finding;
use crate::config::Config;
use crate::data::{DataError, Record};
use crate::disk::{synced_writes, too_slow};

/// Synced writes that are measured, unless the disk is so slow that fewer must do.
const SYNCS: usize = 40;
/// A change takes two syncs in a row, at the leader and at a follower: slower than this it is felt.
const SLOW_SYNC: Duration = Duration::from_millis(10);
/// Changes are refused when less than 32 MiB are left; a log and a database want more to begin with.
const LEAST_SPACE: u64 = 128 << 20;
/// Less than this fills up soon.
const LITTLE_SPACE: u64 = 2 << 30;
/// Each instance and each attempt has a directory with some files.
const FEW_FILES: u64 = 20_000;

/// File systems that deserve a word, by the number that the kernel gives them.
const KINDS: [(u64, &str, &str); 6] = [
    (0x0102_1994, "tmpfs", "it is memory: when the machine starts again the node is a new one"),
    (0x8584_58f6, "ramfs", "it is memory: when the machine starts again the node is a new one"),
    (0x794c_7630, "overlayfs", "it goes with the container: when that is made anew the node is a new one"),
    (0x6969, "NFS", "its locks and syncs are the network's: when that is cut off the node stands still"),
    (
        0xff53_4d42,
        "CIFS",
        "its locks and syncs are the network's: when that is cut off the node stands still",
    ),
    (0x6573_5546, "FUSE", "whether a sync means anything there nobody can say"),
];

pub(super) fn look(
    config: &Config,
    record: &Result<Option<Record>, DataError>,
    runs: Option<u32>,
) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    let shown = config.dir.display();
    let mut findings = vec![match record {
        Err(error) => Finding::error(CHECK, error.to_string(), error.remedy()),
        Ok(Some(record)) if record.cluster.is_some() => {
            let cluster = record.cluster.clone().unwrap_or_default();
            let holds = if record.member { ", and holds a replica of the log" } else { "" };
            Finding::fine(CHECK, format!("{shown} is that of a node of cluster {cluster}{holds}"))
        }
        Ok(Some(_)) => {
            Finding::fine(CHECK, format!("{shown} is that of a node that belongs to no cluster yet"))
        }
        Ok(None) => Finding::fine(CHECK, format!("{shown} is unused: this will be a new node")),
    }];
    if let Some(agent) = runs {
        findings.push(Finding::warning(
            CHECK,
            format!("an agent runs with {shown} already (process {agent})"),
            "stop it before another is started: sheaf agent stop",
        ));
    }
    let existing = config.dir.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    findings.extend(closed(existing, &config.dir));
    findings.extend(kind(existing));
    match synced_writes(existing, SYNCS) {
        Ok(times) => findings.push(speed(config, &times)),
        Err(error) => findings.push(Finding::error(
            CHECK,
            format!("{shown}: cannot write in {}: {error}", existing.display()),
            "run as a user that may write there, or set another [storage] dir",
        )),
    }
    findings.extend(space(existing));
    findings
}

/// Others must not put files into it: keys are in there.
fn closed(existing: &Path, dir: &Path) -> Option<Finding> {
    let mode = fs::metadata(existing).ok()?.permissions().mode() & 0o7777;
    (existing == dir && mode & 0o022 != 0).then(|| {
        Finding::error(
            "data directory",
            format!("{} has mode {mode:04o}: others may write there, and keys are in it", dir.display()),
            format!("chmod 0700 {}", dir.display()),
        )
    })
}

fn kind(existing: &Path) -> Option<Finding> {
    let found = rustix::fs::statfs(existing).ok()?;
    // 32 bits everywhere, whatever the type.
    let number = u64::try_from(found.f_type).unwrap_or_default() & 0xffff_ffff;
    let (_, name, what) = KINDS.iter().find(|(kind, ..)| *kind == number)?;
    let remedy = "put [storage] dir on a disk of this machine";
    Some(Finding::warning("disk", format!("{} is {name}: {what}", existing.display()), remedy))
}

/// `times` are sorted, and at least one.
fn speed(config: &Config, times: &[Duration]) -> Finding {
    let median = times[times.len() / 2];
    let slowest = times[times.len() - 1];
    let message =
        format!("a synced write takes {median:.1?} (median of {}; the slowest {slowest:.1?})", times.len());
    if let Some(slow) = too_slow(config.raft, times) {
        return Finding::warning(
            "disk",
            slow.to_string(),
            "a faster disk for [storage] dir, or raise raft.election_min and raft.election_max on all nodes alike",
        );
    }
    if median > SLOW_SYNC {
        let remedy = "a faster disk, best one that does nothing else, for [storage] dir";
        return Finding::warning("disk", format!("{message}: every change waits for two of them"), remedy);
    }
    Finding::fine("disk", message)
}

fn space(existing: &Path) -> Vec<Finding> {
    let Ok(found) = rustix::fs::statvfs(existing) else { return Vec::new() };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let message = format!("{} MiB are free in {}", free >> 20, existing.display());
    let remedy = "free some, or set [storage] dir to a larger disk";
    let mut findings = vec![match free {
        ..LEAST_SPACE => Finding::error("disk space", message, remedy),
        LEAST_SPACE..LITTLE_SPACE => Finding::warning("disk space", message, remedy),
        _ => Finding::fine("disk space", message),
    }];
    // Some file systems have no number of files.
    if found.f_files > 0 && found.f_favail < FEW_FILES {
        let message = format!("room for {} more files in {}", found.f_favail, existing.display());
        findings.push(Finding::warning("disk space", message, "a file system with more inodes"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn a_slow_disk_is_told() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let config = Config::load(Some(file.path()), [], &["node.name=a".to_owned()]).expect("a good config");
        let of = |times: &[u64]| {
            let times: Vec<Duration> = times.iter().map(|ms| Duration::from_millis(*ms)).collect();
            speed(&config, &times)
        };
        assert_eq!(of(&[1, 1, 2]).level, Level::Fine);
        assert!(of(&[12, 14, 20]).message.contains("every change waits"));
        assert_eq!(of(&[1, 1, 160]).level, Level::Fine, "what else the machine did is not the disk's fault");
        let near = of(&[40, 41, 42]);
        assert!(near.level == Level::Warning && near.remedy.contains("raft.election_min"), "{near:?}");
        assert!(near.message.contains("elections are given 400ms"), "{near:?}");
    }

    #[test]
    fn a_directory_that_others_may_write_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        assert!(closed(dir.path(), dir.path()).is_some_and(|found| found.remedy.contains("chmod")));
        assert_eq!(closed(dir.path(), &dir.path().join("below")), None);
    }
}
