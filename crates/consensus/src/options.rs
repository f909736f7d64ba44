//! What can be set, and openraft's configuration made of it.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::error::OpenError;

/// How a replica runs. `Options::new` gives what the configuration file's defaults give.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the log and temporary files live: `<data>/raft`. Created when missing. On the same file system as the
    /// database, or a received snapshot could not take its place by a rename.
    pub dir: PathBuf,
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// A member that knows of no leader, at the start or after an election that nobody won, stands for election after
    /// this time, or up to `election_max`. More than twice `heartbeat`, and well above one fsync.
    pub election_min: Duration,
    /// So long members stay loyal to a leader they heard; then they stand by turns, the last after at most what this is
    /// longer than `election_min`; those without room on their disks come after that.
    pub election_max: Duration,
    /// Entries after which SQLite is made durable and the log is cut.
    pub snapshot_every: u64,
    /// Entries kept in the log behind that point, so that a member away for a moment needs no snapshot.
    pub keep_entries: u64,
    /// Size of the log's files past which it is cut earlier than that, for entries that are large.
    pub log_bytes: u64,
    /// Changed rows kept in memory for watchers.
    pub ring_rows: usize,
    /// Bytes on the disk that only votes may use.
    pub reserve_bytes: u64,
    /// A file on the same file system that only takes up room, for when others use even those; see [`crate::make_room`].
    /// None: there is none.
    pub ballast: Option<PathBuf>,
}

/// Messages in each of openraft's queues. The proposer and the reader have a few under way; peers' streams have one each.
const QUEUES: u64 = 2048;

impl Options {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(500),
            snapshot_every: 5000,
            keep_entries: 1000,
            log_bytes: 64 << 20,
            ring_rows: 16_384,
            reserve_bytes: 32 << 20,
            ballast: None,
        }
    }

    pub(crate) fn raft_config(&self) -> Result<Config, OpenError> {
        let millis = |duration: Duration| duration.as_millis() as u64;
        let config = Config {
            cluster_name: "sheaf".to_owned(),
            // How long a heartbeat's answer is waited for. Its own timer, which would wake every member all the time, is
            // off: `beat` sends the heartbeats, `elect` starts the elections.
            heartbeat_interval: 2 * millis(self.heartbeat),
            enable_heartbeat: false,
            enable_tick: false,
            // A member that has just answered an append needs none.
            heartbeat_min_interval: Some(millis(self.heartbeat) / 2),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            // Entries per message; the log's reader bounds the bytes.
            max_payload_entries: 256,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep_entries,
            // Each purge is an fsync; a hundred entries at a time are enough.
            purge_batch_size: 100,
            // A learner counts as caught up when it lacks fewer entries than this.
            replication_lag_threshold: 64,
            // A member that was cut off does not disturb the others with a higher term when it returns.
            enable_pre_vote: Some(true),
            // A leader that restarts is not leader of the same term again: what it had decided in that term, and what
            // it had stopped acknowledging, was in its memory.
            enable_leader_restore: Some(false),
            // A leader without a majority falls silent, so that members that hear it but whom it does not hear can
            // elect another.
            quorum_loss_probe_interval: Some(2 * millis(self.election_max)),
            // Far below openraft's own: what a core that is stuck lets wait must stay small.
            api_channel_size: Some(QUEUES),
            notification_channel_size: Some(QUEUES),
            ..Config::default()
        };
        config.validate().map_err(|error| OpenError::Options(error.to_string()))
    }
}
