//! Logs' disks in virtual time. What is written is synced a little later, and only then is whoever waits for it told. The
//! power goes off at one certain write, counted over all disks of a cluster:
//!
//! ```text
//!  LogStore ──write──► file ──(some milliseconds)──► synced ──► told
//!                 │
//!                 └─ at the one write: nobody is told any more, nothing gets out, and what the disks hold is copied
//! ```
//!
//! Each flush of the log is one write and one sync: it is waited for here, on the runtime's own thread. A crash right after
//! a sync, before anybody has been told, leaves the same behind as one right after the write with all of it on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use sheaf_model::NodeId;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::harness::Mesh;
use super::{Dice, backup};
use crate::codec::Position;
use crate::log::Tell;
use crate::{DATABASE, LOG, Replica};

/// The disks in use, by the folders of their logs.
static DISKS: LazyLock<Mutex<BTreeMap<PathBuf, Arc<Disk>>>> = LazyLock::new(Mutex::default);

/// When the power goes off, and what that does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// At this write, the first being 1; 0: never.
    pub(super) at: u64,
    pub(super) fate: Fate,
    /// Everywhere at once; else only where that is written.
    pub(super) all: bool,
}

/// What a disk without power holds of that write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing, nor of what was written before and not synced.
    Lost,
    /// Half of all that was not synced.
    Torn,
    /// All of it, though it was not synced.
    Whole,
}

/// What all disks of a cluster hang on.
pub(super) struct Power {
    cut: Cut,
    /// Disks say at once that they have synced, and never do.
    lies: bool,
    mesh: Arc<Mesh>,
    counts: AtomicBool,
    writes: AtomicU64,
    disks: Mutex<Vec<Arc<Disk>>>,
    /// Told when it goes off.
    pub(super) off: Notify,
    left: Mutex<Vec<(NodeId, TempDir)>>,
}

/// The disk under one log.
pub(crate) struct Disk {
    node: NodeId,
    log: PathBuf,
    power: Arc<Power>,
    platter: Mutex<Platter>,
    written: Notify,
    /// Whose it is, once that is open, and how much of SQLite was durable then.
    replica: Mutex<Option<(Replica, Position)>>,
}

#[derive(Default)]
struct Platter {
    /// Up to which offset of the log everything is synced.
    synced: u64,
    /// What is written beyond, as the offsets where it ends, and who waits.
    waiting: Vec<(u64, Tell)>,
    is_off: bool,
}

/// A new folder where syncing costs nothing, if there is such a place.
pub(super) fn scratch() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// A log's files: where each begins, its name, and what it holds.
fn files(log: &Path) -> Vec<(u64, String, Vec<u8>)> {
    let names = fs::read_dir(log).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = names
        .filter(|name| name.ends_with(".wal"))
        .map(|name| {
            let digits: String = name.chars().filter(char::is_ascii_digit).collect();
            let bytes = fs::read(log.join(&name)).unwrap();
            (digits.parse().unwrap(), name, bytes)
        })
        .collect();
    files.sort();
    files
}

/// Copies a log as a disk without power holds it.
pub(super) fn copy_log(from: &Path, to: &Path, synced: u64, fate: Fate) {
    fs::create_dir(to).unwrap();
    for (start, name, bytes) in files(from) {
        let keep = synced.saturating_sub(start).min(bytes.len() as u64) as usize;
        let more = match fate {
            Fate::Lost => 0,
            Fate::Torn => (bytes.len() - keep) / 2,
            Fate::Whole => bytes.len() - keep,
        };
        if keep + more > 0 {
            fs::write(to.join(name), &bytes[..keep + more]).unwrap();
        }
    }
}

impl Power {
    pub(super) fn new(cut: Cut, lies: bool, mesh: Arc<Mesh>) -> Arc<Self> {
        Arc::new(Self {
            cut,
            lies,
            mesh,
            counts: AtomicBool::new(true),
            writes: AtomicU64::new(0),
            disks: Mutex::default(),
            off: Notify::new(),
            left: Mutex::default(),
        })
    }

    /// A disk under the log in this folder, which is closed. All that is there is on the disk.
    pub(super) fn plug(self: &Arc<Self>, node: NodeId, log: &Path) -> Arc<Disk> {
        let ends = files(log).into_iter().map(|(start, _, bytes)| start + bytes.len() as u64);
        let platter = Platter { synced: ends.max().unwrap_or_default(), ..Platter::default() };
        let disk = Arc::new(Disk {
            node,
            log: log.to_owned(),
            power: self.clone(),
            platter: Mutex::new(platter),
            written: Notify::new(),
            replica: Mutex::default(),
        });
        self.disks.lock().unwrap().push(disk.clone());
        DISKS.lock().unwrap().insert(log.to_owned(), disk.clone());
        disk
    }

    /// Nothing uses the disks any more.
    pub(super) fn unplug_all(&self) {
        for disk in std::mem::take(&mut *self.disks.lock().unwrap()) {
            DISKS.lock().unwrap().remove(&disk.log);
            *disk.replica.lock().unwrap() = None;
        }
    }

    /// From now on writes do not count.
    pub(super) fn stays_on(&self) {
        self.counts.store(false, Ordering::Relaxed);
    }

    /// How many writes there were.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// What the disks hold that went off; each is told once.
    pub(super) fn left(&self) -> Vec<(NodeId, TempDir)> {
        std::mem::take(&mut *self.left.lock().unwrap())
    }

    /// Whether it goes off at the write that was just made.
    fn goes_off(&self) -> bool {
        self.counts.load(Ordering::Relaxed) && self.writes.fetch_add(1, Ordering::Relaxed) + 1 == self.cut.at
    }

    fn cut(&self, writing: &Disk) {
        let disks = self.disks.lock().unwrap().clone();
        let is_hit = |disk: &&Arc<Disk>| self.cut.all || disk.node == writing.node;
        for disk in disks.iter().filter(is_hit).filter(|disk| !disk.is_off()) {
            let fate = if disk.node == writing.node { self.cut.fate } else { Fate::Lost };
            self.mesh.cut(disk.node);
            let left = disk.go_off(fate);
            self.left.lock().unwrap().push((disk.node, left));
        }
        self.off.notify_one();
    }
}

impl Disk {
    /// The one under the log in this folder; none: a real one.
    pub(crate) fn of(log: &str) -> Option<Arc<Self>> {
        DISKS.lock().unwrap().get(Path::new(log)).cloned()
    }

    /// The log is written up to the offset `end`, by `write`.
    pub(crate) fn write(
        &self,
        tell: Tell,
        end: u64,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let off = || Err(io::Error::other("the power is off"));
        if self.is_off() {
            return off();
        }
        write()?;
        if self.power.lies {
            tell.on_disk();
        } else {
            self.platter().waiting.push((end, tell));
        }
        if self.power.goes_off() {
            self.power.cut(self);
            return off();
        }
        self.written.notify_one();
        Ok(())
    }

    /// Syncs what is written, all that waits at a time, until the power is off.
    pub(super) async fn sync_on(self: Arc<Self>, mut dice: Dice) {
        while !self.is_off() {
            self.written.notified().await;
            loop {
                let end = self.platter().waiting.last().map(|(end, _)| *end);
                let Some(end) = end else { break };
                tokio::time::sleep(Duration::from_micros(500 + dice.below(3000))).await;
                for tell in self.synced_to(end) {
                    tell.on_disk();
                }
            }
        }
    }

    fn synced_to(&self, end: u64) -> Vec<Tell> {
        let mut platter = self.platter();
        if platter.is_off {
            return Vec::new();
        }
        platter.synced = end;
        let (done, rest) = std::mem::take(&mut platter.waiting).into_iter().partition(|(at, _)| *at <= end);
        platter.waiting = rest;
        let done: Vec<(u64, Tell)> = done;
        done.into_iter().map(|(_, tell)| tell).collect()
    }

    /// It is this replica's, which has just opened.
    pub(super) fn belongs_to(&self, replica: &Replica) {
        let durable = replica.inner.shared.durable.borrow().clone();
        *self.replica.lock().unwrap() = Some((replica.clone(), durable));
    }

    pub(super) fn is_off(&self) -> bool {
        self.platter().is_off
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap()
    }

    /// What it holds without power. Nobody is told any more of what was not synced.
    fn go_off(&self, fate: Fate) -> TempDir {
        let (synced, untold) = {
            let mut platter = self.platter();
            platter.is_off = true;
            (platter.synced, std::mem::take(&mut platter.waiting))
        };
        drop(untold);
        let left = scratch();
        copy_log(&self.log, &left.path().join(LOG), synced, fate);
        let database = self.log.parent().unwrap().join(DATABASE);
        match self.replica.lock().unwrap().take() {
            Some((replica, at_first))
                if fate != Fate::Lost || *replica.inner.shared.durable.borrow() != at_first =>
            {
                drop(backup(&replica, left.path()));
            }
            // Without its write-ahead log, of which nothing was synced, it is as it was opened.
            _ => {
                fs::copy(database, left.path().join(DATABASE)).unwrap();
            }
        }
        left
    }
}
