//! What proves that this member still led when a read began: answers of a majority to what it has sent since.
//!
//! ```text
//!  a read begins ──begin──► its number ─────────────────────────────► given: once a majority has accepted
//!  a message goes ─stamp──► how many had begun ── its answer ──accepted──┘   what was sent after that
//! ```
//!
//! openraft confirms a leader by when it had sent what was answered. On a stream of entries it takes an answer to entries also
//! for one to a later message that only says what is committed, since both end at the same entry. A leader that was stopped
//! until others had elected another one would be confirmed by what it finds in its sockets from before. So each answer is
//! counted here as well, where it is known with its message.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// See the module's doc.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many reads have begun.
    begun: AtomicU64,
    /// The newest message that each peer has accepted.
    accepted: Mutex<BTreeMap<u64, Stamp>>,
    more: Notify,
}

/// When a message was sent: in which term, and how many reads had begun by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    term: u64,
    begun: u64,
}

impl Proof {
    /// A read begins. Returns its number.
    pub(crate) fn begin(&self) -> u64 {
        self.0.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Of a message that is about to be sent by the leader of this term.
    pub(crate) fn stamp(&self, term: u64) -> Stamp {
        Stamp { term, begun: self.0.begun.load(Ordering::SeqCst) }
    }

    /// A peer has answered a message, and had not turned to another leader by then.
    pub(crate) fn accepted(&self, peer: u64, stamp: Stamp) {
        let mut accepted = self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = accepted.entry(peer).or_insert(stamp);
        *newest = stamp.max(*newest);
        drop(accepted);
        self.0.more.notify_waiters();
    }

    /// Waits until of each of these sets of voters, to which `own` may belong, a majority has accepted something that the
    /// leader of this term has sent since this read began.
    pub(crate) async fn given(&self, read: u64, term: u64, own: u64, voters: &[BTreeSet<u64>]) {
        loop {
            let mut more = pin!(self.0.more.notified());
            more.as_mut().enable();
            if self.is_given(Stamp { term, begun: read }, own, voters) {
                return;
            }
            more.await;
        }
    }

    fn is_given(&self, since: Stamp, own: u64, voters: &[BTreeSet<u64>]) -> bool {
        let accepted = self.0.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        // What it accepted in a later term it accepted from that term's leader, whoever that is.
        let counts = |stamp: &Stamp| stamp.term == since.term && *stamp >= since;
        let has = |voter: &&u64| **voter == own || accepted.get(voter).is_some_and(counts);
        voters.iter().all(|set| 2 * set.iter().filter(has).count() > set.len())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const TERM: u64 = 4;

    fn is_given(proof: &Proof, read: u64, voters: &[&[u64]]) -> bool {
        let voters: Vec<BTreeSet<u64>> = voters.iter().map(|set| set.iter().copied().collect()).collect();
        proof.given(read, TERM, 1, &voters).now_or_never().is_some()
    }

    #[test]
    fn only_what_was_sent_in_this_term_after_a_read_began_proves_anything_to_it() {
        let proof = Proof::default();
        let before = proof.stamp(TERM);
        let read = proof.begin();
        let three: &[&[u64]] = &[&[1, 2, 3]];
        proof.accepted(2, before);
        assert!(!is_given(&proof, read, three), "it was sent before");
        proof.accepted(3, proof.stamp(TERM - 1));
        assert!(!is_given(&proof, read, three), "by a former leadership");
        proof.accepted(3, proof.stamp(TERM));
        assert!(is_given(&proof, read, three));
        proof.accepted(3, before);
        assert!(is_given(&proof, read, three), "an answer may be overtaken");
        let next = proof.begin();
        assert!(!is_given(&proof, next, three), "each read needs its own");
        proof.accepted(2, proof.stamp(TERM));
        assert!(is_given(&proof, next, three) && is_given(&proof, read, three));
        proof.accepted(2, proof.stamp(TERM + 1));
        assert!(!is_given(&proof, next, three), "it has turned to another");
    }

    #[test]
    fn each_set_of_voters_needs_its_majority() {
        let proof = Proof::default();
        let read = proof.begin();
        assert!(is_given(&proof, read, &[&[1]]), "nobody else votes");
        assert!(!is_given(&proof, read, &[&[1, 2]]));
        for peer in [2, 3] {
            proof.accepted(peer, proof.stamp(TERM));
        }
        assert!(is_given(&proof, read, &[&[1, 2, 3], &[1, 2, 3, 4, 5]]));
        assert!(!is_given(&proof, read, &[&[1, 2, 3], &[1, 4, 5]]));
        assert!(!is_given(&proof, read, &[&[2, 4, 5]]), "it has no vote itself");
    }

    #[tokio::test]
    async fn who_waits_hears_of_it() {
        let proof = Proof::default();
        let read = proof.begin();
        let voters = [BTreeSet::from([1, 2, 3])];
        let mut given = pin!(proof.given(read, TERM, 1, &voters));
        assert!(futures::poll!(given.as_mut()).is_pending());
        proof.accepted(3, proof.stamp(TERM));
        given.await;
    }
}
