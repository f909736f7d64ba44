//! How much of the disk what takes, below the data directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// Entries that are looked at.
const ENTRIES: u64 = 200_000;

/// What is left of what may be looked at.
struct Budget {
    until: Instant,
    entries: u64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.entries == 0 || Instant::now() >= self.until
    }
}

/// The disk, and each entry of the directory with its files and bytes; names further below are not told.
pub(super) fn measure(dir: &Path, within: Duration) -> io::Result<Value> {
    let space = rustix::fs::statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    let mut budget = Budget { until: Instant::now() + within, entries: ENTRIES };
    let mut entries = Map::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (files, size) = below(entry.path(), &mut budget);
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.insert(name, json!({"files": files, "bytes": size}));
    }
    Ok(json!({
        "size": bytes(space.f_blocks),
        "available": bytes(space.f_bavail),
        "inodes": space.f_files,
        "inodes_available": space.f_favail,
        "data_directory": entries,
        "complete": !budget.is_spent(),
    }))
}

/// Files and bytes at and below a path. What cannot be read is left out.
fn below(path: PathBuf, budget: &mut Budget) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut paths = vec![path];
    while let Some(path) = paths.pop() {
        if budget.is_spent() {
            break;
        }
        budget.entries -= 1;
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            files += 1;
            bytes += found.len();
        }
    }
    (files, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_counts_for_its_entry() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("instances/a/b")).expect("made");
        fs::write(dir.path().join("instances/a/b/c"), [0_u8; 10]).expect("written");
        fs::write(dir.path().join("instances/d"), [0_u8; 5]).expect("written");
        fs::write(dir.path().join("node.json"), "{}").expect("written");
        let seen = measure(dir.path(), Duration::from_secs(60)).expect("measured");
        assert_eq!(seen["data_directory"]["instances"], json!({"files": 2, "bytes": 15}));
        assert_eq!(seen["data_directory"]["node.json"], json!({"files": 1, "bytes": 2}));
        assert_eq!(seen["complete"], true);
        assert!(!seen.to_string().contains("\"a\""), "no names further below: {seen:#}");
        let cut = measure(dir.path(), Duration::ZERO).expect("measured");
        assert_eq!(cut["complete"], false);
    }
}
