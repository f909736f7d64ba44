//! What sessions and the loop share, and where things are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_model::session::{Order, Work};
use sheaf_model::{Attempt, ClusterId, JobId};
use sheaf_seal::Key;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::artifacts::Fetcher;
use crate::facts::Counts;
use crate::keeper::layout;
use crate::link::Signals;

/// Messages that wait for the loop, which itself may wait for a runner that is stopped.
const INPUTS: usize = 1024;

/// What the session brings.
#[derive(Debug)]
pub(crate) enum WorkInput {
    /// A session stands: whatever was said before may be lost.
    Opened,
    /// Attempts to run.
    Run(Vec<Order>),
    /// Attempts to stop.
    Stop(Vec<Attempt>),
    /// Ends that are in the log.
    Recorded(u64),
    /// The node was forgotten: nothing may run any more.
    Left,
    /// Jobs that are deleted.
    Gone(Vec<JobId>),
    /// Jobs of which nothing is to begin here.
    GiveBack {
        jobs: Vec<JobId>,
        /// What has begun is to go back as well.
        begun: bool,
    },
}

/// What the session and the loop share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(super) slots: u32,
    held: Mutex<BTreeSet<Attempt>>,
    /// Jobs of which there is something on the disk. Held for moments.
    kept: Mutex<BTreeSet<JobId>>,
    inputs: mpsc::Sender<WorkInput>,
    signals: Arc<Signals>,
    counts: Arc<Counts>,
}

impl Desk {
    /// With the other end of what sessions bring. There is something of the jobs `kept` on the disk.
    pub(super) fn new(
        slots: u32,
        kept: BTreeSet<JobId>,
        signals: Arc<Signals>,
        counts: Arc<Counts>,
    ) -> (Arc<Self>, mpsc::Receiver<WorkInput>) {
        let (inputs, brought) = mpsc::channel(INPUTS);
        let (held, kept) = (Mutex::default(), Mutex::new(kept));
        (Arc::new(Self { slots, held, kept, inputs, signals, counts }), brought)
    }

    /// What is said of it in a session's first message.
    pub(crate) fn work(&self) -> Work {
        let kept = Some(self.kept().iter().copied().collect());
        let held = self.held().iter().copied().collect();
        // Where nobody takes what comes, nothing would begin.
        let slots = if self.inputs.is_closed() { 0 } else { self.slots };
        Work { slots, held, kept, gives_back: true }
    }

    /// There will be something of a job on the disk.
    pub(super) fn keep(&self, job: JobId) {
        self.kept().insert(job);
    }

    /// There is nothing any more.
    pub(super) fn forget(&self, job: JobId) {
        self.kept().remove(&job);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what a session brought, which never waits: heartbeats go through it as well. Where there is no room a new
    /// session begins, in which all that matters is said again.
    pub(crate) fn bring(&self, input: WorkInput) {
        if let Err(error) = self.inputs.try_send(input) {
            if matches!(error, TrySendError::Full(_)) {
                self.counts.input_waited();
            }
            self.signals.reset.notify_one();
        }
    }

    /// Whether an attempt is under way here, or its end is not in the log yet.
    pub(crate) fn holds(&self, attempt: Attempt) -> bool {
        self.held().contains(&attempt)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, BTreeSet<Attempt>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) data_dir: PathBuf,
    /// The program that is a runner when called with `runner …`; also `${sheaf}`.
    pub(crate) binary: PathBuf,
    /// What secrets are opened with here; none: they are not.
    pub(crate) key: Option<Arc<Key>>,
    /// The cluster that it belongs to.
    pub(crate) cluster: ClusterId,
    /// How artifacts come here; none: they do not.
    pub(crate) fetcher: Option<Fetcher>,
}

/// Below the data directory.
const SOCKETS: &str = "sockets";
/// The same.
const WORKPLACES: &str = "workplaces";
/// What the directory of a worker's socket begins with; those of keepers begin with a digit.
const WORKER: char = 'w';
/// The same.
const JOBS: &str = "jobs";

impl Place {
    /// Where what an attempt writes is kept.
    pub(crate) fn output(&self, attempt: Attempt) -> PathBuf {
        self.attempt(attempt).join("output")
    }

    /// Where what is of jobs is kept.
    pub(super) fn jobs(&self) -> PathBuf {
        self.data_dir.join(JOBS)
    }

    /// Where what is of one job is kept.
    pub(super) fn of_job(&self, job: JobId) -> PathBuf {
        self.jobs().join(job.to_string())
    }

    /// Where what a job's worker has is kept.
    pub(super) fn of_worker(&self, job: JobId) -> PathBuf {
        self.of_job(job).join("worker")
    }

    pub(super) fn attempt(&self, Attempt { job, subtask, number }: Attempt) -> PathBuf {
        // No directory grows without bounds.
        let some = format!("{}", subtask / 1000);
        self.of_job(job).join(some).join(format!("{subtask}.{number}"))
    }

    /// Where programs of subtasks start, one after the other.
    pub(super) fn workplace(&self, number: u32) -> PathBuf {
        self.data_dir.join(WORKPLACES).join(number.to_string())
    }

    /// Where the sockets of plugins are.
    pub(super) fn sockets(&self) -> PathBuf {
        self.data_dir.join(SOCKETS)
    }

    /// Where the worker of this ticket serves its module. Short, as a socket's path must be.
    pub(super) fn socket(&self, ticket: u64) -> PathBuf {
        self.sockets().join(format!("{WORKER}{ticket}")).join("m")
    }

    /// Makes its directory. The error is for people.
    pub(super) fn make_room_for(&self, socket: &Path) -> Result<(), String> {
        let length = socket.as_os_str().len();
        if length > layout::SOCKET_PATH_MAX {
            return Err(layout::too_long(socket));
        }
        let dir = socket.parent().unwrap_or(&self.data_dir);
        layout::make_dir(dir).map_err(|error| error.to_string())
    }

    /// Its process has ended.
    pub(super) fn clear_socket(&self, ticket: u64) {
        if let Some(dir) = self.socket(ticket).parent() {
            let _ = fs::remove_dir_all(dir); // the next life of the agent removes what stays
        }
    }
}

/// Whether that is the directory of a worker's socket.
pub(super) fn is_workers(name: &str) -> bool {
    name.strip_prefix(WORKER).is_some_and(|ticket| ticket.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use sheaf_model::Queue;

    use super::*;

    #[test]
    fn what_finds_no_room_is_counted() {
        let counts = Arc::<Counts>::default();
        let (desk, inputs) = Desk::new(4, BTreeSet::new(), Arc::default(), counts.clone());
        let bring = |times: usize| (0..times).for_each(|_| desk.bring(WorkInput::Opened));
        bring(INPUTS);
        assert_eq!(counts.full_queues().times(Queue::Inputs), 0);
        bring(2);
        assert_eq!(counts.full_queues().times(Queue::Inputs), 2);
        drop(inputs);
        bring(1);
        assert_eq!(counts.full_queues().times(Queue::Inputs), 2, "a loop that has ended is not too slow");
    }

    #[test]
    fn a_loop_that_has_ended_takes_nothing_more() {
        let (desk, inputs) = Desk::new(4, BTreeSet::new(), Arc::default(), Arc::default());
        assert_eq!(desk.work().slots, 4);
        drop(inputs);
        assert_eq!(desk.work().slots, 0);
    }
}
