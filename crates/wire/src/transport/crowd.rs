//! How many may be there at a time, and how many of them from one address, or by one node's certificate.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_model::NodeId;

/// One address may have this part of all places, so that it takes several to keep others out.
const SHARE: usize = 4;

/// Places, counted by who has them: by addresses for connections of which nobody knows yet, or ever will, whose they are; by nodes
/// for what is proven to be a node's.
#[derive(Debug)]
pub struct Crowd<K: Ord + Copy = Network> {
    most: usize,
    /// Held for a look-up only.
    inside: Mutex<Inside<K>>,
}

#[derive(Debug)]
struct Inside<K> {
    all: usize,
    by: BTreeMap<K, usize>,
}

/// Where somebody comes from, where what each may do has a bound: whoever has an address of version 6 has all of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(from: IpAddr) -> Self {
        Self(match from.to_canonical() {
            IpAddr::V6(from) => IpAddr::V6(Ipv6Addr::from_bits(from.to_bits() & (u128::MAX << 64))),
            from => from,
        })
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place<K: Ord + Copy = Network> {
    crowd: Arc<Crowd<K>>,
    from: K,
}

impl<K: Ord + Copy> Crowd<K> {
    fn with(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::new(Inside { all: 0, by: BTreeMap::new() }) })
    }

    /// A place for one that has fewer than `each`.
    fn admit(self: &Arc<Self>, from: K, each: usize) -> Option<Place<K>> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let there = inside.by.get(&from).copied().unwrap_or_default();
        if inside.all >= self.most || there >= each {
            return None;
        }
        inside.all += 1;
        inside.by.insert(from, there + 1);
        Some(Place { crowd: self.clone(), from })
    }
}

/// How many places each node may have, whoever else has how many: members know how many nodes there are.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    each: usize,
    crowd: Arc<Crowd<NodeId>>,
}

impl Nodes {
    /// So many for each.
    pub(crate) fn with(each: usize) -> Self {
        Self { each, crowd: Crowd::with(usize::MAX) }
    }

    /// How many each may have.
    pub(crate) const fn each(&self) -> usize {
        self.each
    }

    /// A place; none: the node has all that it may have.
    pub(crate) fn enter(&self, node: NodeId) -> Option<Place<NodeId>> {
        self.crowd.admit(node, self.each)
    }
}

impl Crowd {
    /// So many places. Of this machine's own addresses each may have all of them.
    pub fn of(most: usize) -> Arc<Self> {
        Self::with(most)
    }

    /// A place; none: there is none left, or none for that address.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let local = from.to_canonical().is_loopback();
        let each = if local { self.most } else { self.most.div_ceil(SHARE) };
        self.admit(Network::from(from), each)
    }
}

impl<K: Ord + Copy> Drop for Place<K> {
    fn drop(&mut self) {
        let mut inside = self.crowd.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        let left = inside.by.get(&self.from).map_or(0, |there| there.saturating_sub(1));
        if left == 0 {
            inside.by.remove(&self.from);
        } else {
            inside.by.insert(self.from, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_gets_a_quarter_of_all_places_and_the_machine_itself_all() {
        let crowd = Crowd::of(8);
        let fill = |from: &str| std::iter::from_fn(|| crowd.enter(at(from))).take(100).collect::<Vec<_>>();
        let one = fill("10.0.0.1");
        assert_eq!(one.len(), 2);
        assert!(crowd.enter(at("::ffff:10.0.0.1")).is_none(), "the same address");
        let two = fill("2001:db8::1");
        assert_eq!((two.len(), fill("2001:db8::2").len()), (2, 0), "the same network");
        let own = fill("127.0.0.1");
        assert_eq!(own.len(), 4, "what is left");
        assert!(crowd.enter(at("10.0.0.2")).is_none(), "all are taken");
        drop(one);
        assert_eq!(fill("10.0.0.1").len(), 2);
        drop((two, own));
        assert_eq!(fill("::1").len(), 8);
        assert!(crowd.inside.lock().unwrap().by.is_empty(), "nobody is remembered who is gone");
    }
}
