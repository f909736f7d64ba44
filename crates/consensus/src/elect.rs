//! When this member stands for election.
//!
//! openraft's own timer would look for it in steps, for ever, on every member, and stand only after a member's loyalty
//! *and* a whole election timeout are over, which doubles how long nobody leads. Here it sleeps until loyalty is over and a
//! little more; a leader that is heard meanwhile costs nothing.
//!
//! How much more is each voter's own turn, in the order of their numbers: by chance alone two stand at once in one election
//! of some ten, neither wins, and the next try is most of a second later. Chance only breaks what turns cannot, as
//! voters that disagree on who votes. Who has no room on its disk for entries comes after all the others: as a leader it would
//! take no change.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use sheaf_model::{NodeId, Term};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::options::Options;
use crate::raft::{Raft, Vote};
use crate::replica::Leadership;
use crate::space::Space;
use crate::timer::Timers;

/// How long a member waits.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// For a leader that was heard: so long no member votes for another.
    loyal: Duration,
    /// Without one to be loyal to: at the start, and after an election that somebody else may win.
    vacant: Duration,
    /// At most so much longer, for its turn and by chance.
    more: Duration,
}

/// The first to stand waits so much longer than it must: the others heard the leader a moment later, and are loyal still.
const GRACE: u32 = 8;
/// The part of a turn that is chance.
const CHANCE: u32 = 4;

impl Waits {
    fn new(options: &Options) -> Self {
        let (min, max) = (options.election_min, options.election_max);
        Self { loyal: max, vacant: min, more: max.saturating_sub(min) }
    }

    /// How much longer the `turn`th of `of` waits, the first being 0; `chance` is any number. There may be as many turns again
    /// of those that come after all others.
    fn more(&self, turn: usize, of: usize, chance: u64) -> Duration {
        let grace = self.more / GRACE;
        let each = (self.more - grace) / u32::try_from(of.max(1)).unwrap_or(u32::MAX);
        let by_chance = each / CHANCE * (chance % 1024) as u32 / 1024;
        grace + each * u32::try_from(turn.min(2 * of)).unwrap_or(u32::MAX) + by_chance
    }
}

/// Which turn is `node`'s among the voters but for the leader that is not heard, and how many turns there are. Who does
/// not vote comes last, and so, in the same order, do those without room.
fn turn(node: u64, voters: impl Iterator<Item = u64>, leader: Option<u64>, has_room: bool) -> (usize, usize) {
    let mut others: Vec<u64> = voters.filter(|voter| Some(*voter) != leader || *voter == node).collect();
    others.sort_unstable();
    let after = if has_room { 0 } else { others.len() };
    (after + others.iter().position(|voter| *voter == node).unwrap_or(others.len()), others.len())
}

/// Until when this member does not stand, but for its turn.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    until: Arc<Mutex<Instant>>,
    waits: Waits,
    leadership: watch::Receiver<Leadership>,
}

impl Patience {
    pub(crate) fn new(options: &Options, leadership: watch::Receiver<Leadership>) -> Self {
        let waits = Waits::new(options);
        Self { until: Arc::new(Mutex::new(Instant::now() + waits.vacant)), waits, leadership }
    }

    /// A message came that was sent under `vote`; one of a leader that is deposed does not count.
    pub(crate) fn heard(&self, vote: &Vote) {
        if Term(vote.leader_id.term) >= self.leadership.borrow().term {
            self.wait(self.waits.loyal);
        }
    }

    /// Somebody else may win the election that is under way.
    pub(crate) fn vacant(&self) {
        self.wait(self.waits.vacant);
    }

    fn wait(&self, span: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + span;
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for election whenever no leader was heard for long enough; a member without a vote is ignored by openraft. Runs
/// until openraft has stopped.
pub(crate) async fn run(
    raft: Raft,
    node: NodeId,
    patience: Patience,
    space: watch::Receiver<Space>,
    timers: Timers,
) {
    let mut leadership = patience.leadership.clone();
    loop {
        if leadership.borrow().leading {
            if leadership.wait_for(|known| !known.leading).await.is_err() {
                return;
            }
            patience.vacant();
        }
        let until = patience.until();
        let has_room = *space.borrow() == Space::Enough;
        let (turn, of) = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let leader = leadership.borrow().leader.map(|leader| leader.0);
            turn(node.0, metrics.membership_config.voter_ids(), leader, has_room)
        };
        // Keys of the standard library's hashers are random.
        let chance = RandomState::new().build_hasher().finish();
        timers.sleep_until(until + patience.waits.more(turn, of, chance)).await;
        if patience.until() > until || leadership.borrow().leading {
            continue;
        }
        let alone = raft.server_metrics().borrow_watched().membership_config.voter_ids().eq([node.0]);
        // Asking first whether others would vote keeps a member that nobody misses from deposing a leader.
        if raft.trigger().elect(!alone).await.is_err() {
            return;
        }
        patience.vacant();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_apart_and_never_longer_than_what_is_set() {
        let waits = Waits::new(&Options::new("unused"));
        for of in 1..=9 {
            for turn in 0..of {
                let (first, last) = (waits.more(turn, of, 0), waits.more(turn, of, 1023));
                assert!(first <= last && last <= waits.more, "{turn} of {of}: {first:?} to {last:?}");
                let next = waits.more(turn + 1, of, 0);
                assert!(next - last >= waits.more / 20, "{turn} of {of}: {last:?}, the next one {next:?}");
            }
        }
        assert!(waits.more(0, 2, 0) >= Duration::from_millis(20));
    }

    #[test]
    fn voters_without_the_lost_leader_have_turns_by_number() {
        let turns = |leader| [1, 4, 7].map(|node| turn(node, [7, 1, 4].into_iter(), leader, true));
        assert_eq!(turns(None), [(0, 3), (1, 3), (2, 3)]);
        // Who was the leader itself stands like the others.
        assert_eq!(turns(Some(1)), [(0, 3), (0, 2), (1, 2)]);
        assert_eq!(turn(9, [7, 1, 4].into_iter(), Some(4), true), (2, 2));
    }

    #[test]
    fn voters_without_room_stand_after_those_with_room_and_apart() {
        let waits = Waits::new(&Options::new("unused"));
        for voters in 1..=9_u64 {
            let more = |node, has_room, chance| {
                let (turn, of) = turn(node, 1..=voters, None, has_room);
                waits.more(turn, of, chance)
            };
            for node in 1..=voters {
                let short = more(node, false, 0);
                assert!((1..=voters).all(|other| more(other, true, 1023) < short), "{node} of {voters}");
                assert!(node == voters || more(node, false, 1023) < more(node + 1, false, 0));
                assert!(more(node, false, 1023) <= 2 * waits.more, "{node} of {voters}");
            }
        }
    }
}
