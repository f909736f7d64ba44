//! What lies ready behind subtasks that take long goes back to the leader, who may have room for it elsewhere.
//!
//! Work is granted ahead by how long a job's subtasks took lately. Where most are done in no time and a few take hours,
//! that is wrong for a moment: all slots are taken by long ones, and what lies ready would wait for them. So it would for as
//! long as what is more urgent comes past it. Plain data; time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// How long nothing moves before it goes back. Longer than after what the leader grants nothing ahead to a node where nothing
/// ends, or it would come again.
const PATIENCE: Duration = Duration::from_millis(1500);

/// For how long what lies ready of one job and priority has not moved.
#[derive(Debug, Default)]
pub(super) struct Stall {
    ready: usize,
    since: Option<Instant>,
}

impl Stall {
    /// So many lie ready now, and so many slots are free. What waits beside a free slot waits for something of its own.
    pub(super) fn see(&mut self, ready: usize, free: usize, now: Instant) {
        let moved = ready < self.ready;
        self.ready = ready;
        self.since = match self.since {
            _ if ready == 0 || free > 0 => None,
            Some(since) if !moved => Some(since),
            _ => Some(now),
        };
    }

    /// When all of it is to go back.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_move_is_due_and_more_of_it_changes_nothing() {
        let (mut stall, begun) = (Stall::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        assert_eq!(stall.due(), None);
        stall.see(5, 0, at(0));
        stall.see(5, 0, at(700));
        stall.see(9, 0, at(900));
        assert_eq!(stall.due(), Some(at(1500)));
        stall.see(8, 0, at(1000));
        assert_eq!(stall.due(), Some(at(2500)), "one of them has begun");
        stall.see(0, 0, at(1100));
        assert_eq!(stall.due(), None);
    }

    #[test]
    fn what_is_passed_by_what_is_more_urgent_is_due() {
        let ((mut urgent, mut passed), begun) = (<(Stall, Stall)>::default(), Instant::now());
        for turn in 0_u32..100 {
            let now = begun + turn * PATIENCE / 10;
            urgent.see(if turn % 2 == 0 { 9 } else { 8 }, 0, now);
            passed.see(5, 0, now);
            assert!(urgent.due() > Some(now));
        }
        assert_eq!(passed.due(), Some(begun + PATIENCE));
    }

    #[test]
    fn what_waits_beside_a_free_slot_is_not_due() {
        let (mut stall, begun) = (Stall::default(), Instant::now());
        stall.see(5, 1, begun);
        assert_eq!(stall.due(), None);
        let later = begun + Duration::from_secs(10);
        stall.see(5, 0, later);
        assert_eq!(stall.due(), Some(later + PATIENCE));
    }
}
