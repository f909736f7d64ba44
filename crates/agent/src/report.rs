//! What keepers say, and what they left on disk, in the words of the node.

use sheaf_engine::keep::{End, Lease};
use sheaf_engine::node::{Fences, Found, Purged, Seen};
use sheaf_engine::reconcile::{Ended, Life, Mode, Observed, Origin};
use sheaf_model::{BootId, BucketName, Moment, Phase, Revision};

use crate::executor::StartedFrom;
use crate::keeper::{Plan, Status};

/// By what right and from what an instance was started: what of it a keeper does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) mode: Mode,
    pub(crate) origin: Origin,
    /// The deadline it was started with; its keeper may have got a later one.
    pub(crate) until: Option<Moment>,
}

impl Birth {
    /// Of an instance found on disk. An unknown `content` is told apart from every known one, so that a change while
    /// the agent was away is not missed.
    pub(crate) fn found(plan: &Plan, started: StartedFrom, boot: &BootId) -> Self {
        let (mode, until) = match &plan.lease {
            Lease::Multi { from } => (Mode::Multi(*from), None),
            Lease::Single { epoch, boot: of, until } => {
                (Mode::Single(*epoch), (of == boot).then_some(*until))
            }
        };
        let StartedFrom { content, live } = started;
        let origin = Origin { revision: plan.revision, basis: plan.basis, content, live };
        Self { mode, origin, until }
    }

    /// The same, with the deadline that its keeper got since.
    pub(crate) fn prolonged(self, status: &Status, boot: &BootId) -> Self {
        let told = status.until.filter(|_| status.boot == *boot && status.epoch == self.mode.epoch());
        Self { until: self.until.max(told), ..self }
    }

    /// Where there is a directory and no plan that could be read: nothing is known but that it must not stay.
    pub(crate) fn unknown() -> Self {
        let none = Revision::default();
        let origin = Origin { revision: none, basis: none, content: 0, live: None };
        Self { mode: Mode::Multi(none), origin, until: None }
    }
}

/// An instance as its keeper tells of it.
pub(crate) fn seen(status: &Status, birth: &Birth) -> Seen {
    let life = match &status.end {
        Some(End::Finished | End::GaveUp) => Life::Dead(Ended::Finished),
        Some(End::Stopped) => Life::Dead(Ended::Stopped),
        Some(End::LeaseEnded | End::Refused | End::KeeperLost) => Life::Dead(Ended::Lost),
        None if status.phase == Phase::Stopping => Life::Stopping,
        None => Life::Alive,
    };
    Seen {
        observed: Observed { mode: birth.mode, origin: birth.origin, life },
        phase: status.phase,
        pid: status.pid,
        started_at: status.started_at,
        restarts: status.restarts,
        exit: status.exit,
        message: status.message.clone(),
        deadline: birth.until,
        purged: purged(status),
    }
}

fn purged(status: &Status) -> Option<Purged> {
    let (revision, failure) = status.purged.clone()?;
    Some(Purged { revision, failure })
}

/// An instance whose keeper is not there.
pub(crate) fn dead(status: Option<&Status>, birth: &Birth) -> Seen {
    let told = status.map(|status| seen(status, birth));
    match told {
        Some(told) if !told.observed.is_alive() => told,
        told => {
            let lost = Observed { mode: birth.mode, origin: birth.origin, life: Life::Dead(Ended::Lost) };
            Seen {
                observed: lost,
                phase: Phase::Stopped,
                pid: None,
                started_at: told.as_ref().and_then(|told| told.started_at),
                restarts: told.as_ref().map_or(0, |told| told.restarts),
                exit: told.as_ref().and_then(|told| told.exit),
                message: "its keeper is gone".to_owned(),
                deadline: None,
                purged: status.and_then(purged),
            }
        }
    }
}

/// An instance whose keeper lives and does not answer: it counts as alive until that is known better.
pub(crate) fn silent(status: Option<&Status>, birth: &Birth) -> Seen {
    let last = dead(status, birth);
    Seen {
        observed: Observed { life: Life::Alive, ..last.observed },
        phase: status.map_or(Phase::Starting, |status| status.phase),
        message: "its keeper does not answer".to_owned(),
        deadline: birth.until,
        ..last
    }
}

/// What the node is told of a bucket when the agent starts.
pub(crate) fn found(bucket: BucketName, seen: Option<Seen>, fence: sheaf_engine::keep::Fence) -> Found {
    let fences = Fences { gave_up: fence.gave_up, gave_up_multi: fence.gave_up_multi };
    Found { bucket, seen, fences }
}
