//! Three replicas with their real log and database, under power cuts, partitions and changes of leader: nothing that was
//! acknowledged is lost, nothing is there twice, and all end in the same state.
//!
//! A power cut takes away what was not synced. The log tells where each completed sync ended ([`Mark`]); everything behind
//! is cut off, somewhere torn, or zeros. SQLite's file goes back to an older commit, as far as the log may have been
//! purged on the strength of it. The node is off the network before its disk is copied, and an answer that it gave counts
//! only if it was out before that.
//!
//! Each seed is a schedule; threads and the disk add their own order, so that a seed repeats the faults and not each step.
//! `SHEAF_SEEDS=100` runs more of them.
//!
//! `every_write` does the same in virtual time, with one power cut at each write in turn, on the disks of `disk`.

mod disk;
mod every_write;
#[path = "../tests/harness/mod.rs"]
pub(crate) mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use harness::{Cluster, proposal};
use sheaf_model::{NodeId, NodeKey, Revision};
use sheaf_store::Store;
use tempfile::TempDir;
use tokio::sync::RwLock;

use crate::codec::{Position, decode_position};
use crate::{DATABASE, LOG, Options, Replica};

pub(crate) use disk::Disk;

/// Seeds that every run of the tests takes.
const SEEDS: u64 = 6;
/// Faults of one seed.
const STEPS: usize = 14;
const WRITERS: usize = 6;

/// Up to which offset each log, by its directory, is known to be synced.
static SYNCED: LazyLock<Mutex<BTreeMap<PathBuf, u64>>> = LazyLock::new(Mutex::default);

/// What each sync takes longer, in microseconds.
static SLOW: AtomicU64 = AtomicU64::new(0);

/// Where a log ended when a sync was asked for.
pub(crate) struct Mark {
    dir: PathBuf,
    end: u64,
}

impl Mark {
    pub(crate) fn of(dir: &str, end: u64) -> Self {
        Self { dir: PathBuf::from(dir), end }
    }

    /// The sync is done, after the time that a slow disk takes.
    #[expect(
        clippy::disallowed_methods,
        reason = "on the log's own thread, which does nothing else meanwhile"
    )]
    pub(crate) fn reached(&self) {
        std::thread::sleep(Duration::from_micros(SLOW.load(Ordering::Relaxed)));
        let mut synced = SYNCED.lock().unwrap();
        let known = synced.entry(self.dir.clone()).or_default();
        *known = self.end.max(*known);
    }
}

/// Numbers that a seed determines.
struct Dice(u64);

impl Dice {
    /// Below `n`.
    fn below(&mut self, n: u64) -> u64 {
        // splitmix64, by Sebastiano Vigna.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most))
    }
}

/// Snapshots and purges come often, elections soon.
fn hasty(dir: PathBuf) -> Options {
    Options {
        heartbeat: Duration::from_millis(40),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
        snapshot_every: 40,
        keep_entries: 5,
        ..Options::new(dir)
    }
}

/// What clients were told, and what may still be told.
#[derive(Default)]
struct Told {
    /// How often each node lost its power. Held while that happens, so that an answer is before it or after it.
    lives: RwLock<BTreeMap<NodeId, u64>>,
    acknowledged: Mutex<BTreeMap<usize, Revision>>,
    next: AtomicUsize,
    enough: AtomicBool,
}

impl Told {
    async fn life(&self, node: NodeId) -> u64 {
        self.lives.read().await.get(&node).copied().unwrap_or_default()
    }

    /// Registers one node after the other with whoever leads.
    async fn write(self: Arc<Self>, replicas: Arc<Mutex<BTreeMap<NodeId, Replica>>>) {
        while !self.enough.load(Ordering::Relaxed) {
            let Some(leader) = leading(&replicas) else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let life = self.life(leader.node()).await;
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let asked = tokio::time::timeout(Duration::from_millis(500), leader.propose(&proposal(n))).await;
            let lives = self.lives.read().await;
            // From a node that has lost its power meanwhile nobody gets an answer.
            if let Ok(Ok(applied)) = asked
                && lives.get(&leader.node()).copied().unwrap_or_default() == life
            {
                self.acknowledged.lock().unwrap().insert(n, applied.revision);
            }
        }
    }
}

fn leading(replicas: &Mutex<BTreeMap<NodeId, Replica>>) -> Option<Replica> {
    replicas.lock().unwrap().values().find(|replica| replica.leadership().borrow().leading).cloned()
}

/// A cluster, and what is kept of its disks.
struct Scene {
    cluster: Cluster,
    told: Arc<Told>,
    replicas: Arc<Mutex<BTreeMap<NodeId, Replica>>>,
    /// An earlier state of each database.
    older: BTreeMap<NodeId, (TempDir, Position)>,
    dice: Dice,
}

impl Scene {
    async fn begin(seed: u64) -> Self {
        let cluster = Cluster::of_three(true, hasty).await;
        let mut scene = Self {
            cluster,
            told: Arc::default(),
            replicas: Arc::default(),
            older: BTreeMap::new(),
            dice: Dice(seed),
        };
        scene.publish();
        scene
    }

    /// Tells the writers who is there.
    fn publish(&mut self) {
        let members = self.cluster.members.iter().filter(|member| member.is_running());
        let replicas = members.map(|member| (member.node, member.replica().clone())).collect();
        *self.replicas.lock().unwrap() = replicas;
    }

    fn some_member(&mut self) -> usize {
        self.dice.below(3) as usize
    }

    async fn step(&mut self) {
        match self.dice.below(10) {
            0..=2 => {
                let who = self.some_member();
                self.cut_power(&[who]).await;
            }
            3 | 4 => self.cut_power(&[0, 1, 2]).await,
            5 | 6 => {
                let who = self.some_member();
                self.cluster.mesh.cut(self.cluster.members[who].node);
            }
            7 => self.cluster.mesh.heal(),
            8 => self.keep_databases(),
            _ => {
                let heir = self.some_member();
                if let Some(leader) = leading(&self.replicas) {
                    // It may have lost its term meanwhile.
                    drop(leader.transfer_leader(self.cluster.members[heir].node).await);
                }
            }
        }
        let pause = self.dice.millis(350);
        tokio::time::sleep(pause).await;
        let all = self.dice.below(3) == 0;
        self.restart(all).await;
    }

    async fn restart(&mut self, all: bool) {
        for who in 0..3 {
            if !self.cluster.members[who].is_running() && (all || self.dice.below(2) == 0) {
                let Cluster { mesh, setting, members } = &mut self.cluster;
                members[who].start(setting, mesh).await;
                mesh.mend(members[who].node);
            }
        }
        self.publish();
    }

    fn keep_databases(&mut self) {
        for member in self.cluster.members.iter().filter(|member| member.is_running()) {
            let folder = TempDir::new().unwrap();
            let position = backup(member.replica(), folder.path());
            self.older.insert(member.node, (folder, position));
        }
    }

    /// All of them at one moment.
    async fn cut_power(&mut self, members: &[usize]) {
        let members = members.iter().copied();
        let running: Vec<usize> = members.filter(|who| self.cluster.members[*who].is_running()).collect();
        let told = self.told.clone();
        let mut disks = Vec::new();
        {
            let mut lives = told.lives.write().await;
            for who in &running {
                let node = self.cluster.members[*who].node;
                *lives.entry(node).or_default() += 1;
                self.cluster.mesh.cut(node);
                self.replicas.lock().unwrap().remove(&node);
            }
            for who in &running {
                disks.push(self.disk_after(*who));
            }
        }
        for (who, disk) in running.into_iter().zip(disks) {
            let Cluster { mesh, members, .. } = &mut self.cluster;
            members[who].stop(mesh).await;
            members[who].dir = disk;
        }
    }

    /// What is left of a member's disk without power.
    fn disk_after(&mut self, who: usize) -> TempDir {
        let member = &self.cluster.members[who];
        let (disk, log) = (TempDir::new().unwrap(), member.dir.path().join(LOG));
        copy_synced(&log, &disk.path().join(LOG), &mut self.dice);
        let durable = member.replica().inner.shared.durable.borrow().applied;
        match self.older.remove(&member.node) {
            // The log may have been purged up to what is durable, no further.
            Some((older, position)) if position.applied >= durable && self.dice.below(2) == 0 => {
                fs::copy(older.path().join(DATABASE), disk.path().join(DATABASE)).unwrap();
            }
            _ => drop(backup(member.replica(), disk.path())),
        }
        disk
    }

    /// Everything is mended; then what was acknowledged must be there, once, on all. Returns how much that was.
    async fn end(mut self, seed: u64) -> usize {
        self.told.enough.store(true, Ordering::Relaxed);
        self.cluster.mesh.heal();
        self.restart(true).await;
        let leader = self.cluster.leader().await;
        let last = leader.propose(&proposal(usize::MAX)).await.unwrap();
        self.cluster.agree(last.revision).await;
        let acknowledged = self.told.acknowledged.lock().unwrap().clone();
        let state = leader.state().clone();
        for (n, revision) in &acknowledged {
            let key = NodeKey(format!("key-{n}"));
            let found: Vec<Revision> =
                state.nodes.values().filter(|node| node.key == key).map(|node| node.registered).collect();
            assert_eq!(found, [*revision], "seed {seed}: change {n}, acknowledged at {revision}");
        }
        // What SQLite holds is what memory holds.
        for member in &self.cluster.members {
            member.replica().stored(last.revision).await;
            let folder = TempDir::new().unwrap();
            backup(member.replica(), folder.path());
            let (stored, _) = Store::open(&folder.path().join(DATABASE)).unwrap().load().unwrap();
            assert!(stored == state, "seed {seed}: the database of node {} differs", member.node);
        }
        self.cluster.stop().await;
        acknowledged.len()
    }
}

/// A consistent copy of a member's database as committed now.
fn backup(replica: &Replica, to: &Path) -> Position {
    let to = to.join(DATABASE);
    replica.inner.copies.backup(&to).unwrap();
    let position = Store::read_applied(&to).unwrap();
    position.map(|position| decode_position(&position).unwrap()).unwrap_or_default()
}

/// Up to where a log that is in use was synced, and what its files held then: a file is removed after the record that says
/// so was synced.
fn at_a_moment(log: &Path) -> (u64, BTreeMap<String, Vec<u8>>) {
    let names = || {
        let names = fs::read_dir(log).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".wal")).collect::<BTreeSet<String>>()
    };
    let moment = || (SYNCED.lock().unwrap().get(log).copied().unwrap_or_default(), names());
    loop {
        let (synced, names) = moment();
        let read = |name: &String| Some((name.clone(), fs::read(log.join(name)).ok()?));
        let files: Option<BTreeMap<_, _>> = names.iter().map(read).collect();
        if let Some(files) = files
            && moment() == (synced, names)
        {
            return (synced, files);
        }
    }
}

/// Copies a log as a disk holds it that was not told to sync the rest: cut off, or torn somewhere behind.
fn copy_synced(from: &Path, to: &Path, dice: &mut Dice) {
    let (synced, files) = at_a_moment(from);
    SYNCED.lock().unwrap().insert(to.to_owned(), synced);
    fs::create_dir(to).unwrap();
    for (name, bytes) in files {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let start: u64 = digits.parse().unwrap();
        let keep = synced.saturating_sub(start).min(bytes.len() as u64) as usize;
        if keep == 0 && start > 0 {
            continue; // Its creation was not synced either.
        }
        let unsynced = bytes.len() - keep;
        // What a journalling file system leaves behind what was synced: the beginning of it, or its length with nothing
        // but zeros. Anything else is refused when the log is opened, and not cut off.
        let torn = if unsynced > 0 { dice.below(unsynced as u64 + 1) as usize } else { 0 };
        let mut file = fs::File::create(to.join(&name)).unwrap();
        file.write_all(&bytes[..keep]).unwrap();
        match dice.below(2) {
            0 => file.write_all(&bytes[keep..keep + torn]).unwrap(),
            _ => file.set_len((keep + torn) as u64).unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_to_power_cuts_partitions_and_changes_of_leader() {
    let seeds = std::env::var("SHEAF_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut acknowledged = 0;
    for seed in 0..seeds {
        let mut scene = Scene::begin(seed).await;
        SLOW.store(scene.dice.below(4000), Ordering::Relaxed);
        let writers: Vec<_> =
            (0..WRITERS).map(|_| tokio::spawn(scene.told.clone().write(scene.replicas.clone()))).collect();
        for _ in 0..STEPS {
            scene.step().await;
        }
        scene.told.enough.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        acknowledged += scene.end(seed).await;
    }
    assert!(acknowledged as u64 > 50 * seeds, "only {acknowledged} changes were acknowledged at all");
}
