//! What keepers say, and what they left on disk, in the words of the node.

use sheaf_model::{BootId, Exit, Moment, Phase, Revision, Timestamp};

use super::{Purged, Seen};
use crate::keep::{End, Lease};
use crate::reconcile::{Ended, Life, Mode, Observed, Origin};

/// What a keeper tells of its instance, or has written down of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its phase.
    pub phase: Phase,
    /// Why, for people.
    pub message: String,
    /// The program's process id, while it runs.
    pub pid: Option<u32>,
    /// When the program last started.
    pub started_at: Option<Timestamp>,
    /// How often it was started again since this origin.
    pub restarts: u32,
    /// How the program last ended.
    pub exit: Option<Exit>,
    /// Why the keeper is done; nothing of the instance is alive then.
    pub end: Option<End>,
    /// The last purge that was done, or came to nothing.
    pub purged: Option<Purged>,
}

/// By what right and from what an instance was started: what of it a keeper does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// By which right.
    pub mode: Mode,
    /// From what.
    pub origin: Origin,
    /// Single-node: until when it may live, in this boot, as far as is known.
    pub until: Option<Moment>,
}

impl Birth {
    /// Of an instance that is found on disk, started with this lease.
    pub fn of(lease: &Lease, origin: Origin, boot: &BootId) -> Self {
        let (mode, until) = match lease {
            Lease::Multi { from } => (Mode::Multi(*from), None),
            Lease::Single { epoch, boot: of, until } => {
                (Mode::Single(*epoch), (of == boot).then_some(*until))
            }
        };
        Self { mode, origin, until }
    }

    /// Where nothing is known but that it must not stay.
    pub fn unknown() -> Self {
        let none = Revision::default();
        let origin = Origin { revision: none, basis: none, content: 0, live: None, artifact: None };
        Self { mode: Mode::Multi(none), origin, until: None }
    }

    /// The instance as its keeper tells of it.
    pub fn seen(&self, told: &Told) -> Seen {
        let life = match &told.end {
            Some(End::Finished | End::GaveUp) => Life::Dead(Ended::Finished),
            Some(End::Stopped) => Life::Dead(Ended::Stopped),
            Some(End::LeaseEnded | End::Refused | End::KeeperLost) => Life::Dead(Ended::Lost),
            None if told.phase == Phase::Stopping => Life::Stopping,
            None => Life::Alive,
        };
        Seen {
            observed: Observed { mode: self.mode, origin: self.origin, life },
            phase: told.phase,
            pid: told.pid,
            started_at: told.started_at,
            restarts: told.restarts,
            exit: told.exit,
            message: told.message.clone(),
            deadline: self.until,
            purged: told.purged.clone(),
        }
    }

    /// The instance when its keeper is not there; this is what it told last.
    pub fn dead(&self, told: Option<&Told>) -> Seen {
        let seen = told.map(|told| self.seen(told));
        match seen {
            Some(seen) if !seen.observed.is_alive() => seen,
            seen => Seen {
                observed: Observed { mode: self.mode, origin: self.origin, life: Life::Dead(Ended::Lost) },
                phase: Phase::Stopped,
                pid: None,
                started_at: seen.as_ref().and_then(|seen| seen.started_at),
                restarts: seen.as_ref().map_or(0, |seen| seen.restarts),
                exit: seen.as_ref().and_then(|seen| seen.exit),
                message: "its keeper is gone".to_owned(),
                deadline: None,
                purged: seen.and_then(|seen| seen.purged),
            },
        }
    }

    /// The instance when its keeper lives and does not answer: it counts as alive until that is known better.
    pub fn silent(&self, told: Option<&Told>) -> Seen {
        let last = self.dead(told);
        Seen {
            observed: Observed { life: Life::Alive, ..last.observed },
            phase: told.map_or(Phase::Starting, |told| told.phase),
            message: "its keeper does not answer".to_owned(),
            deadline: self.until,
            ..last
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sheaf_model::Epoch;

    use super::*;

    fn told(phase: Phase, end: Option<End>) -> Told {
        let started_at = Some(Timestamp(5));
        Told {
            phase,
            message: "so".to_owned(),
            pid: Some(7),
            started_at,
            restarts: 2,
            exit: None,
            end,
            purged: None,
        }
    }

    /// A multi-node instance in this phase.
    pub(in super::super) fn seen(phase: Phase, message: &str) -> Seen {
        let told = Told { message: message.to_owned(), ..told(phase, None) };
        Birth::unknown().seen(&told)
    }

    fn birth() -> Birth {
        Birth { mode: Mode::Single(Epoch(4)), until: Some(Moment(9)), ..Birth::unknown() }
    }

    #[test]
    fn the_life_of_an_instance_follows_from_what_its_keeper_says() {
        let life = |phase, end| birth().seen(&told(phase, end)).observed.life;
        assert_eq!(life(Phase::Running, None), Life::Alive);
        assert_eq!(life(Phase::Stopping, None), Life::Stopping);
        assert_eq!(life(Phase::Failed, Some(End::GaveUp)), Life::Dead(Ended::Finished));
        assert_eq!(life(Phase::Stopped, Some(End::Stopped)), Life::Dead(Ended::Stopped));
        assert_eq!(life(Phase::Stopped, Some(End::LeaseEnded)), Life::Dead(Ended::Lost));
    }

    #[test]
    fn what_was_alive_when_its_keeper_was_heard_last_is_lost_without_it() {
        let lost = birth().dead(Some(&told(Phase::Running, None)));
        assert_eq!((lost.observed.life, lost.pid), (Life::Dead(Ended::Lost), None));
        assert_eq!((lost.restarts, lost.deadline), (2, None));
        let stopped = birth().dead(Some(&told(Phase::Stopped, Some(End::Stopped))));
        assert_eq!((stopped.observed.life, &*stopped.message), (Life::Dead(Ended::Stopped), "so"));
    }

    #[test]
    fn an_instance_whose_keeper_is_silent_counts_as_alive_until_its_deadline() {
        let silent = birth().silent(None);
        assert_eq!((silent.observed.life, silent.phase), (Life::Alive, Phase::Starting));
        assert_eq!(silent.deadline, Some(Moment(9)));
    }

    #[test]
    fn a_deadline_of_another_boot_means_nothing() {
        let lease = Lease::Single { epoch: Epoch(4), boot: "b1".into(), until: Moment(9) };
        let origin = Birth::unknown().origin;
        assert_eq!(Birth::of(&lease, origin, &"b1".into()).until, Some(Moment(9)));
        assert_eq!(Birth::of(&lease, origin, &"b2".into()).until, None);
    }
}
