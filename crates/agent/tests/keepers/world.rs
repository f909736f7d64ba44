//! A data directory with real keepers, and what can be seen of their processes from outside.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sheaf_agent::keeper::{OutputLimits, Plan, Status, clock};
use sheaf_agent::keepers::{Handle, KeeperOptions, Keepers};
use sheaf_agent::logs::{LogQuery, LogReader};
use sheaf_engine::keep::Lease;
use sheaf_model::{BucketName, Epoch, Moment, NodeName, Phase, Restart, RestartWhen, Revision, Span, Stop};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Longer than anything takes on a busy machine; only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) keepers: Keepers,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { keepers: open(dir.path()), dir }
    }

    /// A multi-node plan for a shell script.
    pub(crate) fn plan(&self, script: &str) -> Plan {
        Plan {
            bucket: BucketName::new("/logs/web").unwrap(),
            node: NodeName::new("import-01").unwrap(),
            revision: Revision(12),
            basis: Revision(12),
            lease: Lease::Multi { from: Revision(12) },
            program: "/bin/sh".to_owned(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: Vec::new(),
            files: Vec::new(),
            stop: Stop { grace: Span::seconds(60), ..Stop::default() },
            restart: Restart { policy: RestartWhen::Never, ..Restart::default() },
            output: OutputLimits::default(),
            restarts: 0,
            recent: Vec::new(),
            plugin: None,
            commands: None,
            limits: Default::default(),
            farewell: None,
            confine: sheaf_agent::keeper::Confine::default(),
            trial: None,
            confidential: Vec::new(),
        }
    }

    /// The path of a file in the program's own directory.
    pub(crate) fn file(&self, plan: &Plan, name: &str) -> PathBuf {
        self.keepers.program_dir(&plan.bucket).join(name)
    }

    /// All lines of output.
    pub(crate) fn output(&self, plan: &Plan) -> Vec<String> {
        let mut reader =
            LogReader::open(&self.keepers.output_dir(&plan.bucket), &LogQuery::default()).unwrap();
        let mut lines = Vec::new();
        loop {
            let batch = reader.batch().unwrap();
            if batch.is_empty() {
                return lines;
            }
            lines.extend(batch.into_iter().map(|line| line.text));
        }
    }

    /// Processes that belong to this world: programs by their environment, keepers by their command line.
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes_below(self.keepers.data_dir())
    }

    pub(crate) async fn until_nothing_runs(&self) {
        until("nothing runs", || self.processes().is_empty()).await;
    }
}

/// No test leaves a process behind, not even one that fails.
impl Drop for World {
    fn drop(&mut self) {
        for pid in self.processes() {
            kill(pid, Signal::KILL);
        }
    }
}

pub(crate) fn open(data_dir: &Path) -> Keepers {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_keeper-probe"));
    Keepers::open(KeeperOptions { data_dir: data_dir.to_owned(), binary }).unwrap()
}

pub(crate) fn single(epoch: u64, until: Moment) -> Lease {
    Lease::Single { epoch: Epoch(epoch), boot: clock::boot_id(), until }
}

pub(crate) fn in_ms(ms: u64) -> Moment {
    clock::now().after(Span::millis(ms))
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

pub(crate) fn processes_below(dir: &Path) -> Vec<i32> {
    let marker = dir.as_os_str().as_bytes();
    let contains = |text: &[u8]| text.windows(marker.len()).any(|window| window == marker);
    let is_ours = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let marked = environment
            .split(|&byte| byte == 0)
            .any(|entry| entry.strip_prefix(b"SHEAF_DIR=").is_some_and(|dir| dir.starts_with(marker)));
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        marked || (contains(&command) && command.windows(5).any(|window| window == b"keep\0"))
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_ours).collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "waited in vain until {what}");
}

pub(crate) async fn until_phase(handle: &Handle, phase: Phase) -> Status {
    let mut status = handle.status();
    let found = timeout(PATIENCE, status.wait_for(|status| status.phase == phase)).await;
    let last = handle.status().borrow().clone();
    found
        .unwrap_or_else(|_| panic!("not {phase:?}: {last:?}"))
        .unwrap_or_else(|_| panic!("ended: {last:?}"))
        .clone()
}

pub(crate) async fn ended(handle: &Handle) -> Status {
    let last = timeout(PATIENCE, handle.ended()).await;
    last.unwrap_or_else(|_| panic!("still there: {:?}", handle.status().borrow().clone()))
}
