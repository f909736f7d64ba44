//! What a keeper needs before it is one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use sheaf_engine::keep::{End, Keep};
use sheaf_model::{BootId, BucketName, Phase, Span};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::super::layout::{FileError, Layout, Lock};
use super::super::{Plan, Status, clock, proc};

/// How long it waits for a predecessor that is about to end.
const PREDECESSOR: u64 = 2000;

/// Why a keeper cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error("another keeper holds the bucket")]
    Busy,
    #[error("{0}")]
    File(#[from] FileError),
    #[error("there is no plan at {0}")]
    NoPlan(PathBuf),
    #[error("the plan is of bucket {0}")]
    OtherPlan(BucketName),
    #[error("its plan names secrets, and the agent gave it none")]
    NoSecrets,
    #[error("the agent that started it is gone, and no other knows of it")]
    Abandoned,
    #[error("cannot {operation}: {source}")]
    System { operation: &'static str, source: io::Error },
}

pub(super) fn system<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> BeginError {
    move |error| BeginError::System { operation, source: error.into() }
}

pub(super) fn take_lock(layout: &Layout) -> Result<Lock, BeginError> {
    let give_up = clock::now().after(Span::millis(PREDECESSOR));
    loop {
        // Looked at first: a machine that stood still in between has not waited.
        let last = clock::now() >= give_up;
        if let Some(lock) = layout.try_lock()? {
            return Ok(lock);
        }
        if last {
            return Err(BeginError::Busy);
        }
        clock::pause(Duration::from_millis(10));
    }
}

/// Who decides for this plan, as far as an earlier keeper has brought it.
pub(super) fn decisions(plan: &Plan, former: Option<&Status>) -> Keep {
    let resumed = former.is_some_and(|former| former.suspended);
    let mut keep = Keep::new(plan.lease.clone(), plan.stop, plan.restart, plan.restarts, plan.recent.clone())
        .telling(plan.telling(resumed))
        .only(plan.farewell);
    keep.poll_every(plan.poll_every());
    keep.renew_secrets(!plan.confidential.is_empty());
    if let Some(polled) = former.and_then(|former| former.polled) {
        // A clock that was set back has waited for nothing.
        keep.was_polled(clock::now(), Span(clock::wall().0.saturating_sub(polled.0)));
    }
    keep
}

/// A timer that counts also while the machine sleeps.
pub(super) fn timer() -> Result<OwnedFd, BeginError> {
    timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .map_err(system("make a timer"))
}

pub(super) fn first_status(plan: &Plan, boot: &BootId) -> Status {
    Status {
        bucket: plan.bucket.clone(),
        basis: plan.basis,
        epoch: plan.lease.epoch(),
        until: plan.lease.until(),
        phase: Phase::Starting,
        message: String::new(),
        pid: None,
        started_at: None,
        restarts: plan.restarts,
        recent: plan.recent.clone(),
        exit: None,
        end: None::<End>,
        suspended: false,
        told: None,
        purged: None,
        polled: None,
        purges: true,
        asked: Some(0),
        left: Vec::new(),
        keeper: proc::this_process(),
        boot: boot.clone(),
        at: clock::wall(),
    }
}

/// SIGCHLD wakes us; SIGTERM asks for an orderly end; SIGINT and SIGHUP are none of our business.
/// (They are caught, not ignored, so that the program gets them with their usual meaning.)
pub(super) fn signals() -> io::Result<(UnixStream, Arc<AtomicBool>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
    for signal in [SIGHUP, SIGINT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    signal_hook::low_level::pipe::register(SIGTERM, theirs.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGCHLD, theirs)?;
    Ok((ours, stop))
}
