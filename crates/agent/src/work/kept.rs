//! What is kept of jobs on this node, which is what their attempts have printed: until their job is deleted, or it is old.
//!
//! ```text
//! jobs/JOB/N/SUBTASK.ATTEMPT/output     N: a thousand subtasks
//!      JOB/worker                       of the process that takes its subtasks
//! ```
//!
//! Which jobs something is kept of is said when a session opens, so a node that was away hears of those that went meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sheaf_model::{Attempt, JobId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Desk, Loop};

/// As long as the cluster remembers what subtasks went through.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often what is old is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Before it is looked for first: an agent that starts has other things to do.
const FIRST_LOOK: Duration = Duration::from_secs(300);

/// Jobs that nothing is to be kept of any more, and what is being done about it.
#[derive(Debug)]
pub(super) struct Leftovers {
    /// Told, and not begun with.
    gone: BTreeSet<JobId>,
    /// Being removed.
    going: BTreeSet<JobId>,
    removals: JoinSet<Option<JobId>>,
    /// Nothing further is removed by what is under way.
    over: Arc<AtomicBool>,
    next_look: Instant,
}

impl Default for Leftovers {
    fn default() -> Self {
        Self {
            gone: BTreeSet::new(),
            going: BTreeSet::new(),
            removals: JoinSet::new(),
            over: Arc::default(),
            next_look: Instant::now() + FIRST_LOOK,
        }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // What stays is removed in the agent's next life.
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Leftovers {
    /// These jobs are deleted.
    pub(super) fn add(&mut self, jobs: Vec<JobId>) {
        self.gone.extend(jobs.into_iter().filter(|job| !self.going.contains(job)));
    }

    /// When what is old is to be looked for.
    pub(super) const fn due(&self) -> Instant {
        self.next_look
    }

    /// The next removal that has ended. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<JobId> {
        match self.removals.join_next().await {
            Some(ended) => ended.ok().flatten(),
            None => std::future::pending().await,
        }
    }
}

impl Loop {
    /// Begins with jobs that are gone, once nothing of them runs here any more.
    pub(super) async fn clear_up(&mut self) {
        if self.leftovers.next_look <= Instant::now() {
            self.leftovers.next_look = Instant::now() + LOOK_EVERY;
            let (dir, desk, over) = (self.place.jobs(), self.desk.clone(), self.leftovers.over.clone());
            self.leftovers.removals.spawn_blocking(move || {
                let holds = |attempt| desk.holds(attempt);
                let removed = remove_old(&dir, SystemTime::now() - KEPT, &holds, &over);
                if removed > 0 {
                    tracing::info!(removed, "output of attempts that was kept for long enough is removed");
                }
                None
            });
        }
        let free: Vec<JobId> =
            self.leftovers.gone.iter().copied().filter(|job| !self.desk.has(*job)).collect();
        for job in free {
            let dismissed = self.workers.dismiss_of(job);
            if let Some(dismissed) = dismissed {
                self.perform(dismissed.into_iter().collect()).await;
                continue; // looked at again when it has ended
            }
            self.leftovers.gone.remove(&job);
            self.leftovers.going.insert(job);
            let (dir, over) = (self.place.of_job(job), self.leftovers.over.clone());
            self.leftovers.removals.spawn_blocking(move || {
                match remove(&dir, &over) {
                    Ok(()) => {}
                    // Said again in the next session, as it is still here.
                    Err(error) => {
                        tracing::warn!(%job, %error, "what is kept of a deleted job cannot be removed");
                    }
                }
                Some(job)
            });
        }
    }

    /// A job's removal has ended.
    pub(super) fn cleared(&mut self, job: Option<JobId>) {
        let Some(job) = job else { return };
        self.leftovers.going.remove(&job);
        if !self.place.of_job(job).exists() {
            self.desk.forget(job);
        }
    }
}

/// Jobs that there is something of, below `jobs`.
pub(super) fn found(jobs: &Path) -> BTreeSet<JobId> {
    let names = entries(jobs).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.map(JobId).collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// Removes a job's directory, piece by piece: there may be very many, and the agent may be about to stop.
fn remove(dir: &Path, over: &AtomicBool) -> io::Result<()> {
    for part in entries(dir) {
        for piece in entries(&part.path()) {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            // What is in the way is told below.
            let _ = fs::remove_dir_all(piece.path());
        }
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what attempts printed before `oldest`, and says of how many.
fn remove_old(jobs: &Path, oldest: SystemTime, holds: &impl Fn(Attempt) -> bool, over: &AtomicBool) -> usize {
    let mut removed = 0;
    for job in found(jobs) {
        let dir = jobs.join(job.to_string());
        for part in entries(&dir) {
            for piece in entries(&part.path()) {
                if over.load(Ordering::Relaxed) {
                    return removed;
                }
                let Some(attempt) = attempt_of(job, &piece) else { continue };
                if is_older(&piece.path().join("output"), oldest) && !holds(attempt) {
                    removed += usize::from(fs::remove_dir_all(piece.path()).is_ok());
                }
            }
            let _ = fs::remove_dir(part.path()); // unless something is left
        }
        let _ = fs::remove_dir(dir); // likewise
    }
    removed
}

/// `SUBTASK.ATTEMPT`; none: that is something else.
fn attempt_of(job: JobId, entry: &DirEntry) -> Option<Attempt> {
    let name = entry.file_name();
    let (subtask, number) = name.to_str()?.split_once('.')?;
    Some(Attempt { job, subtask: subtask.parse().ok()?, number: number.parse().ok()? })
}

/// Whether nothing was written there since; of what is not there nothing is known.
fn is_older(output: &Path, oldest: SystemTime) -> bool {
    let written = |path: PathBuf| fs::metadata(path).and_then(|found| found.modified()).ok();
    let files = entries(output).filter_map(|file| written(file.path()));
    let newest = files.chain(written(output.to_owned())).max();
    newest.is_some_and(|newest| newest < oldest)
}

impl Desk {
    /// Whether an attempt of a job is under way here, or its end is not in the log yet.
    fn has(&self, job: JobId) -> bool {
        let first = Attempt { job, subtask: 0, number: 0 };
        self.held().range(first..).next().is_some_and(|attempt| attempt.job == job)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn attempt(jobs: &Path, job: u64, subtask: u32, age: Duration) -> PathBuf {
        let part = jobs.join(job.to_string()).join((subtask / 1000).to_string());
        let dir = part.join(format!("{subtask}.1"));
        fs::create_dir_all(dir.join("output")).unwrap();
        fs::write(dir.join("output/0"), "a line").unwrap();
        for path in [dir.join("output/0"), dir.join("output")] {
            File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        dir
    }

    #[test]
    fn what_is_old_goes_and_what_is_held_or_of_a_worker_stays() {
        let place = tempfile::tempdir().unwrap();
        let jobs = place.path();
        let (new, old) = (Duration::from_secs(60), KEPT + Duration::from_secs(60));
        let gone = [attempt(jobs, 7, 1, old), attempt(jobs, 7, 2001, old), attempt(jobs, 8, 1, old)];
        let stay = [attempt(jobs, 7, 2, new), attempt(jobs, 7, 3, old)];
        fs::create_dir_all(jobs.join("7/worker/output")).unwrap();
        assert_eq!(found(jobs), [JobId(7), JobId(8)].into());
        let holds = |attempt: Attempt| attempt.subtask == 3;
        let oldest = SystemTime::now() - KEPT;
        assert_eq!(remove_old(jobs, oldest, &holds, &AtomicBool::new(true)), 0, "the agent stops");
        assert_eq!(remove_old(jobs, oldest, &holds, &AtomicBool::new(false)), 3);
        assert!(gone.iter().all(|dir| !dir.exists()) && stay.iter().all(|dir| dir.exists()));
        assert!(!jobs.join("8").exists() && !jobs.join("7/2").exists() && jobs.join("7/worker").exists());
    }

    #[test]
    fn of_a_job_that_is_gone_nothing_stays() {
        let place = tempfile::tempdir().unwrap();
        let jobs = place.path();
        attempt(jobs, 7, 1, Duration::ZERO);
        attempt(jobs, 8, 1, Duration::ZERO);
        fs::create_dir_all(jobs.join("7/worker/dir")).unwrap();
        remove(&jobs.join("7"), &AtomicBool::new(true)).unwrap();
        assert!(jobs.join("7/0/1.1").exists(), "it goes on in the next life");
        remove(&jobs.join("7"), &AtomicBool::new(false)).unwrap();
        assert_eq!(found(jobs), [JobId(8)].into());
        remove(&jobs.join("7"), &AtomicBool::new(false)).unwrap();
    }
}
