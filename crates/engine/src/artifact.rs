//! Artifacts on a node: from whom to fetch, and what to remove when the cache is full. Which ones a node needs is
//! decided in [`crate::node`].

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{Contact, Digest, NodeId};

pub use crate::apply::check_artifact as check;
use crate::reconcile::fingerprint;

/// What lies in a node's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How much of the disk it takes, in bytes: blob and unpacked files.
    pub bytes: u64,
    /// When it was last needed; only compared.
    pub used: u64,
}

/// Why an artifact in the cache must stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Registered ones; what is in neither set belongs to nobody any more.
    pub registered: BTreeSet<Digest>,
    /// What a bucket of this node uses, or what runs here was started from; on a voter also every registered one.
    pub needed: BTreeSet<Digest>,
}

/// What to remove: everything that belongs to nobody, and of the rest what is not needed, least recently used first,
/// until all of it takes at most `bound` bytes. What is needed stays, however much it is.
pub fn evict(held: &BTreeMap<Digest, Held>, keep: &Keep, bound: u64) -> Vec<Digest> {
    let stays = |digest: &Digest| keep.needed.contains(digest);
    let (mut gone, mut rest): (Vec<_>, Vec<_>) = held
        .iter()
        .filter(|(digest, _)| !stays(digest))
        .partition(|(digest, _)| !keep.registered.contains(*digest));
    rest.sort_by_key(|(digest, held)| (held.used, **digest));
    let removed: u64 = gone.iter().map(|(_, held)| held.bytes).sum();
    let mut total = held.values().map(|held| held.bytes).sum::<u64>().saturating_sub(removed);
    for (digest, held) in rest {
        if total <= bound {
            break;
        }
        total = total.saturating_sub(held.bytes);
        gone.push((digest, held));
    }
    gone.into_iter().map(|(digest, _)| *digest).collect()
}

/// Whom to ask for a blob, first to last: each fetching node begins with another one, so that one that has it does not
/// serve all.
pub fn sources(node: NodeId, digest: &Digest, mut known: Vec<Contact>) -> Vec<Contact> {
    let start = fingerprint(&[&node.0.to_be_bytes(), &digest.0]);
    if let Some(first) = usize::try_from(start % known.len().max(1) as u64).ok().filter(|_| !known.is_empty())
    {
        known.rotate_left(first);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn held(of: &[(u8, u64, u64)]) -> BTreeMap<Digest, Held> {
        of.iter().map(|&(n, bytes, used)| (digest(n), Held { bytes, used })).collect()
    }

    fn keep(registered: &[u8], needed: &[u8]) -> Keep {
        let set = |of: &[u8]| of.iter().map(|&n| digest(n)).collect();
        Keep { registered: set(registered), needed: set(needed) }
    }

    #[test]
    fn what_belongs_to_nobody_goes_and_the_rest_only_for_want_of_room() {
        let all = held(&[(1, 10, 5), (2, 10, 1), (3, 10, 9)]);
        assert_eq!(evict(&all, &keep(&[1, 2], &[]), 100), [digest(3)]);
        assert_eq!(evict(&all, &keep(&[1, 2, 3], &[]), 30), []);
        assert_eq!(evict(&all, &keep(&[1, 2, 3], &[]), 29), [digest(2)]);
        assert_eq!(evict(&all, &keep(&[1, 2, 3], &[]), 10), [digest(2), digest(1)]);
    }

    #[test]
    fn what_is_needed_stays_however_little_room_there_is() {
        let all = held(&[(1, 10, 5), (2, 10, 1), (3, 10, 9)]);
        assert_eq!(evict(&all, &keep(&[1, 2, 3], &[2]), 0), [digest(1), digest(3)]);
        assert_eq!(evict(&all, &keep(&[], &[1, 2, 3]), 0), [], "what runs here was deleted: it runs on");
    }

    #[test]
    fn every_source_is_asked_and_not_all_nodes_begin_with_the_same() {
        let known: Vec<Contact> = ["a", "b", "c"].map(Contact::anyone).into();
        let order = |node| sources(NodeId(node), &digest(1), known.clone());
        let firsts: BTreeSet<Contact> = (1..20).map(|node| order(node)[0].clone()).collect();
        assert_eq!(firsts.len(), 3);
        let mut all = order(7);
        all.sort();
        assert_eq!(all, known);
        assert!(sources(NodeId(1), &digest(1), Vec::new()).is_empty());
    }
}
