//! What keepers say, and what they left on disk, in the words of the node.

use sheaf_engine::keep::{End, Lease};
use sheaf_engine::node::Seen;
use sheaf_engine::reconcile::{Ended, Life, Mode, Observed, Origin};
use sheaf_model::{BootId, BucketName, Moment, Phase, Revision};

use crate::machine::{Machine, Plan, Status};

/// By what right and from what an instance was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) mode: Mode,
    pub(crate) origin: Origin,
    pub(crate) until: Option<Moment>,
}

impl Birth {
    fn of(plan: &Plan, boot: &BootId) -> Self {
        let until = match &plan.lease {
            Lease::Single { boot: of, until, .. } => (of == boot).then_some(*until),
            Lease::Multi { .. } => None,
        };
        Self { mode: plan.mode(), origin: plan.origin, until }
    }

    fn unknown() -> Self {
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
        purged: None,
    }
}

/// An instance whose keeper is not there.
pub(crate) fn dead(status: Option<&Status>, birth: &Birth) -> Seen {
    let told = status.map(|status| seen(status, birth));
    match told {
        Some(told) if !told.observed.is_alive() => told,
        told => Seen {
            observed: Observed { mode: birth.mode, origin: birth.origin, life: Life::Dead(Ended::Lost) },
            phase: Phase::Stopped,
            pid: None,
            started_at: told.as_ref().and_then(|told| told.started_at),
            restarts: told.as_ref().map_or(0, |told| told.restarts),
            exit: told.as_ref().and_then(|told| told.exit),
            message: "its keeper is gone".to_owned(),
            deadline: None,
            purged: None,
        },
    }
}

/// How the last instance of a bucket was started, as far as its machine's disk says.
pub(crate) fn birth_on_disk(machine: &Machine, m: usize, bucket: &BucketName) -> Birth {
    let plan = machine.disk.plans.get(bucket);
    plan.map_or_else(Birth::unknown, |plan| Birth::of(plan, &machine.boot_id(m)))
}
