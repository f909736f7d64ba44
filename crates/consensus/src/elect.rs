//! When this member stands for election.
//!
//! openraft's own timer would look for it in steps, for ever, on every member, and stand only after a member's loyalty
//! *and* a whole election timeout are over, which doubles how long nobody leads. Here it sleeps until loyalty is over and a
//! little chance more; a leader that is heard meanwhile costs nothing.

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
use crate::timer::Timers;

/// How long a member waits.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// For a leader that was heard: so long no member votes for another.
    loyal: Duration,
    /// Without one to be loyal to: at the start, and after an election that somebody else may win.
    vacant: Duration,
    /// At most so much longer, by chance, so that two seldom stand at once.
    chance: Duration,
}

impl Waits {
    fn new(options: &Options) -> Self {
        let (min, max) = (options.election_min, options.election_max);
        Self { loyal: max, vacant: min, chance: max.saturating_sub(min) }
    }

    /// A random part of `chance`.
    fn chance(&self) -> Duration {
        // Keys of the standard library's hashers are random: enough to break ties.
        let random = RandomState::new().build_hasher().finish() % 1024;
        self.chance * u32::try_from(random).unwrap_or(0) / 1024
    }
}

/// Until when this member does not stand, but for chance.
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
pub(crate) async fn run(raft: Raft, node: NodeId, patience: Patience, timers: Timers) {
    let mut leadership = patience.leadership.clone();
    loop {
        if leadership.borrow().leading {
            if leadership.wait_for(|known| !known.leading).await.is_err() {
                return;
            }
            patience.vacant();
        }
        let until = patience.until();
        timers.sleep_until(until + patience.waits.chance()).await;
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
