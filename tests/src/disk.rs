//! A file system so small that a test can fill it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::{Machine, need};

/// What is written at a time while filling.
const PIECE: usize = 256 << 10;
/// What fills it.
const FILLER: &str = "filler";

/// A file system in memory, below the machine's directory; gone when this ends, after what runs on it.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    // Its directory must not go first.
    _machine: Arc<Machine>,
}

impl SmallDisk {
    /// Mounts one of so many MiB. None: this user may not.
    ///
    /// # Panics
    /// When it is not allowed and `CI` is set.
    pub fn mount(machine: &Arc<Machine>, name: &str, mebibytes: u32) -> Option<Self> {
        let path = machine.path(name);
        fs::create_dir_all(&path).expect("a directory can be made in the test's own");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|done| done.status.success()) {
            return Some(Self { path, _machine: Arc::clone(machine) });
        }
        need::skipped("the right to mount a small file system");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it until less than so many bytes are free.
    pub fn fill(&self, free: u64) {
        let mut filler = File::create(self.path.join(FILLER)).expect("there is room for a file");
        while self.free() >= free {
            filler.write_all(&[1; PIECE]).expect("there is room for it");
        }
    }

    /// Fills it to the last byte.
    pub fn fill_up(&self) {
        let mut filler = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path.join(FILLER))
            .expect("a file needs next to no room");
        for size in [PIECE, 4 << 10, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Takes away what filled it.
    pub fn clear(&self) {
        fs::remove_file(self.path.join(FILLER)).expect("it was filled");
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.path).expect("it is mounted");
        found.f_bavail * found.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What still has a file open there, after a failure, keeps it until it ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
