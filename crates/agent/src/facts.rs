//! What a node says of itself: what its machine is, what its config file says, how busy it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sheaf_model::{Bytes, Facts, FullQueues, Incarnation, Load, NodeName, Queue, Trusting};
use sysinfo::{MemoryRefreshKind, System};

use crate::keeper::confine;

/// How long a look at the machine serves: heartbeats are frequent, and nothing is decided by the last percent.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A new life of an agent.
pub fn new_incarnation() -> Incarnation {
    Incarnation(uuid::Uuid::new_v4().to_string())
}

/// The machine's hostname, as the kernel has it.
pub fn machine_hostname() -> String {
    hostname::get().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// What the config file says of a node; read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name.
    pub name: NodeName,
    /// What `node_list_rules` match.
    pub hostname: String,
    /// Where others reach it.
    pub address: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Modules it allows.
    pub allow: Vec<String>,
    /// Modules it denies.
    pub deny: Vec<String>,
}

/// Everything a node says of itself when it registers and in its session.
pub fn facts(config: &NodeConfig, version: &str) -> Facts {
    let cpu = std::thread::available_parallelism().map_or(1, usize::from);
    Facts {
        name: config.name.clone(),
        hostname: config.hostname.clone(),
        address: config.address.clone(),
        labels: config.labels.clone(),
        allow: config.allow.clone(),
        deny: config.deny.clone(),
        version: version.to_owned(),
        cpu: u32::try_from(cpu).unwrap_or(u32::MAX),
        memory_total: memory().unwrap_or_default().total,
        notes: confine::unenforced(),
    }
}

/// Memory of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: Bytes,
    /// What programs could still get.
    pub available: Bytes,
}

/// Looks at the machine's memory; one small file is read.
pub fn memory() -> Result<Memory, sysinfo::Error> {
    let mut system = System::new()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Ok(Memory { total: Bytes(system.total_memory()), available: Bytes(system.available_memory()) })
}

/// Space that programs could still get where `path` is.
pub fn disk_available(path: &Path) -> std::io::Result<Bytes> {
    let space = rustix::fs::statvfs(path)?;
    Ok(Bytes(space.f_bavail.saturating_mul(space.f_frsize)))
}

/// What the rest of the process counts of what must be seen, and says of whom it believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// Timers that came late.
    pub late_timers: u64,
    /// Queues that were full.
    pub full_queues: FullQueues,
    /// Whom the node believes.
    pub trust: Trusting,
}

/// How to learn that of the rest of the process.
pub type Elsewhere = Arc<dyn Fn() -> Strain + Send + Sync>;

/// What the agent's own parts count of what must be seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    late_timers: AtomicU64,
    inputs_waited: AtomicU64,
    messages_lost: AtomicU64,
}

impl Counts {
    /// What has happened had to wait until a loop of the agent takes it, or found no room.
    pub(crate) fn input_waited(&self) {
        self.inputs_waited.fetch_add(1, Ordering::Relaxed);
    }

    /// So much waited for the session that another message found no room.
    pub(crate) fn messages_were_lost(&self) {
        self.messages_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Queues that were full.
    pub(crate) fn full_queues(&self) -> FullQueues {
        FullQueues::default()
            .with(Queue::Inputs, self.inputs_waited.load(Ordering::Relaxed))
            .with(Queue::Messages, self.messages_lost.load(Ordering::Relaxed))
    }
}

/// How busy the node is, looked at now and then.
pub struct LoadMeter {
    data_dir: PathBuf,
    elsewhere: Elsewhere,
    counts: Arc<Counts>,
    /// Two heartbeats at once may ask; whoever comes first looks.
    last: Mutex<Option<(Instant, Load)>>,
}

impl LoadMeter {
    /// Of this machine, with its disk where `data_dir` is.
    pub fn new(data_dir: PathBuf, elsewhere: Elsewhere) -> Self {
        Self { data_dir, elsewhere, counts: Arc::default(), last: Mutex::new(None) }
    }

    /// Where the agent's parts count.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// A timer of the agent fired more than 50 ms late.
    pub fn timer_was_late(&self) {
        self.counts.late_timers.fetch_add(1, Ordering::Relaxed);
    }

    /// The load, at most two seconds old but for what is counted.
    pub fn load(&self) -> Load {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut load = match *last {
            Some((at, load)) if at.elapsed() < LOOK_AGAIN => load,
            _ => {
                let load = self.look();
                *last = Some((Instant::now(), load));
                load
            }
        };
        let elsewhere = (self.elsewhere)();
        let late_timers = self.counts.late_timers.load(Ordering::Relaxed);
        load.late_timers = late_timers.saturating_add(elsewhere.late_timers);
        load.full_queues = self.counts.full_queues().and(elsewhere.full_queues);
        load.trust = elsewhere.trust;
        load
    }

    fn look(&self) -> Load {
        let memory = memory().unwrap_or_default();
        let disk = disk_available(&self.data_dir);
        Load {
            load: System::load_average().map_or(0.0, |load| load.one),
            memory_used: Bytes(memory.total.0.saturating_sub(memory.available.0)),
            disk_unknown: disk.is_err(),
            disk_available: disk.unwrap_or_default(),
            late_timers: 0,
            full_queues: FullQueues::default(),
            trust: Trusting::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_disk() {
        let memory = memory().expect("this machine has memory");
        assert!(memory.total > Bytes(0) && memory.available <= memory.total, "{memory:?}");
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_not_a_full_one() {
        let load = |dir: &str| LoadMeter::new(PathBuf::from(dir), Arc::new(Strain::default)).load();
        assert!(load("/none/there").disk_unknown && !load("/").disk_unknown);
    }

    #[test]
    fn what_is_counted_here_and_elsewhere_adds_up() {
        let full_queues = FullQueues::default().with(Queue::Watches, 5);
        let trust = Trusting { issuer: 7, ..Trusting::default() };
        let elsewhere = Strain { late_timers: 2, full_queues, trust };
        let meter = LoadMeter::new(PathBuf::from("/"), Arc::new(move || elsewhere));
        meter.timer_was_late();
        meter.counts().input_waited();
        meter.counts().messages_were_lost();
        let load = meter.load();
        assert_eq!((load.late_timers, load.trust.issuer), (3, 7));
        let expected = [(Queue::Watches, 5), (Queue::Inputs, 1), (Queue::Messages, 1)];
        assert_eq!(load.full_queues.counts().collect::<Vec<_>>(), expected);
    }
}
