//! What figures depend on beside the program: the machine, how busy it is, and how long its disk takes to be sure.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::figure::{Times, brief};

/// Writes that are timed.
const WRITES: usize = 200;
/// Bytes of each: a small batch of a log.
const WRITE: usize = 4096;
/// Load per core from which on others are at work, too.
const BUSY: f64 = 0.3;

/// The machine at the start of a benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    cores: usize,
    /// Of the last minute.
    load: f64,
    memory: String,
    kernel: String,
    filesystem: String,
    fsync: Times,
}

/// Looks at the machine; `place` is where the benchmark keeps its files.
pub(crate) fn look(place: &Path) -> Surroundings {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let load = text("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let memory = text("/proc/meminfo").lines().next().and_then(kibibytes).unwrap_or(0);
    Surroundings {
        cores: thread::available_parallelism().map_or(1, usize::from),
        load,
        memory: format!("{:.1} GiB", gibibytes(memory)),
        kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        filesystem: filesystem(place, &text("/proc/mounts")),
        fsync: fsync(place),
    }
}

impl Surroundings {
    /// For every line.
    pub(crate) fn short(&self) -> String {
        let Self { cores, load, fsync, .. } = self;
        format!("{cores} cores, load {load:.2}, fsync {}", brief(fsync.median()))
    }

    /// For the first line.
    pub(crate) fn long(&self) -> String {
        let Self { cores, load, memory, kernel, filesystem, fsync } = self;
        format!(
            "{cores} cores, {memory} of memory, Linux {kernel}, load {load:.2}; on {filesystem} an fsync after {WRITE} bytes \
             takes {fsync}"
        )
    }

    /// Why figures may say little.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        // The cores of a machine are far fewer than an f64 can count.
        if self.load > BUSY * self.cores as f64 {
            warnings.push(format!("the machine is not quiet: load {:.2}", self.load));
        }
        if ["tmpfs", "ramfs"].contains(&self.filesystem.as_str()) {
            let filesystem = &self.filesystem;
            warnings.push(format!("{filesystem} keeps nothing on a disk: set TMPDIR to a place that does"));
        }
        if cfg!(debug_assertions) {
            warnings.push("this is no release build".to_owned());
        }
        warnings
    }
}

/// The number in a line like `MemTotal:  2048 kB`.
pub(crate) fn kibibytes(line: &str) -> Option<u64> {
    line.split_whitespace().nth(1)?.parse().ok()
}

fn gibibytes(kibibytes: u64) -> f64 {
    // Good for far more memory than there is.
    kibibytes as f64 / f64::from(1 << 20)
}

/// The type of the filesystem that holds `place`.
fn filesystem(place: &Path, mounts: &str) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((Path::new(words.next()?), words.next()?))
    });
    let holding = mounts.filter(|(mount, _)| place.starts_with(mount));
    // Of two on the same place the later one hides the other.
    let nearest = holding.max_by_key(|(mount, _)| mount.components().count());
    nearest.map_or_else(|| "an unknown filesystem".to_owned(), |(_, kind)| kind.to_owned())
}

/// How long it takes until appended bytes are on the disk.
fn fsync(place: &Path) -> Times {
    let path = place.join("fsync");
    let mut file = File::create(&path).expect("a file can be made in the benchmark's own directory");
    let times = (0..WRITES).map(|_| timed_write(&mut file)).collect();
    let _ = fs::remove_file(&path);
    times
}

fn timed_write(file: &mut File) -> Duration {
    let begun = Instant::now();
    file.write_all(&[7; WRITE]).expect("there is room for a small file");
    file.sync_data().expect("a file can be flushed");
    begun.elapsed()
}
