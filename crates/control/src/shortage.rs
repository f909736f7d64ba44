//! Voters whose disks have no room for changes: who they are, and what is to be done about it.
//!
//! A replica knows its own disk alone; the others say with their heartbeats how much is free there. A change that no majority
//! can write down would only wait until there is room, so whoever asks for one is told at once.

use std::collections::BTreeSet;
use std::fmt;

use sheaf_consensus::Replica;
use sheaf_engine::Sessions;
use sheaf_model::{Bytes, NodeId};

use crate::Control;

/// At least one voter has no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    nodes: BTreeSet<NodeId>,
    /// For people, sorted.
    names: Vec<String>,
    /// What only votes may use.
    reserve: Bytes,
    stops_changes: bool,
}

impl Shortage {
    /// Of these sets of voters, of each of which a majority is needed, these are short.
    fn of(
        nodes: BTreeSet<NodeId>,
        voters: &[BTreeSet<NodeId>],
        reserve: Bytes,
        name: impl Fn(NodeId) -> String,
    ) -> Option<Self> {
        let mut names: Vec<String> = nodes.iter().map(|node| name(*node)).collect();
        names.sort_unstable();
        let has_majority = |set: &BTreeSet<NodeId>| 2 * set.difference(&nodes).count() > set.len();
        let stops_changes = !voters.iter().all(has_majority);
        (!nodes.is_empty()).then_some(Self { nodes, names, reserve, stops_changes })
    }

    /// Whether this voter is one of them.
    pub(crate) fn is_of(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether those that have room are no majority.
    pub(crate) fn stops_changes(&self) -> bool {
        self.stops_changes
    }
}

/// For people, with the remedy.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, reserve) = (self.names.join(", "), self.reserve);
        let stops = if self.stops_changes() { "no change can be made: " } else { "" };
        let disks = if self.names.len() == 1 { "disk" } else { "disks" };
        write!(
            f,
            "{stops}too little is free on the {disks} of {names} (less than {reserve}, which are kept for votes): free space on \
             {names}; what can be written goes on by itself"
        )
    }
}

fn room(sessions: &Sessions, node: NodeId, reserve: Bytes) -> Option<bool> {
    sessions.disk_available(node).map(|free| free >= reserve)
}

impl Control {
    /// Voters without room, as far as the leader has heard; none elsewhere.
    pub(crate) fn shortage(&self, replica: &Replica) -> Option<Shortage> {
        let (own, has_room) = (replica.node(), replica.has_room());
        let (voters, reserve) = (replica.voter_sets(), Bytes(replica.reserve_bytes()));
        let short: BTreeSet<NodeId> = {
            let live = self.live.lock();
            let sessions = live.sessions.as_ref()?;
            let is_short = |node: &NodeId| match *node == own {
                // What it says of itself as a node is older.
                true => !has_room,
                false => room(sessions, *node, reserve) == Some(false),
            };
            voters.iter().flatten().copied().filter(is_short).collect()
        };
        Shortage::of(short, &voters, reserve, |node| self.node_name(node))
    }

    /// Whether the disk of another voter has room for changes; none: it has not said so to this leader yet.
    pub(crate) fn has_room(&self, replica: &Replica, node: NodeId) -> Option<bool> {
        let live = self.live.lock();
        room(live.sessions.as_ref()?, node, Bytes(replica.reserve_bytes()))
    }

    /// Of these, the nodes that have not said to this leader that their disks have room for changes.
    pub(crate) fn without_known_room(
        &self,
        replica: &Replica,
        mut nodes: BTreeSet<NodeId>,
    ) -> BTreeSet<NodeId> {
        let reserve = Bytes(replica.reserve_bytes());
        let live = self.live.lock();
        if let Some(sessions) = &live.sessions {
            nodes.retain(|node| room(sessions, *node, reserve) != Some(true));
        }
        nodes
    }

    /// Why the log takes so long.
    pub(crate) fn why_unconfirmed(&self, replica: &Replica) -> String {
        self.shortage(replica).map_or_else(|| "no quorum?".to_owned(), |shortage| shortage.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_model::Term;

    use super::*;
    use crate::propose::tests::{One, Still};

    fn set(nodes: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        nodes.into_iter().map(NodeId).collect()
    }

    fn of_sets(voters: &[BTreeSet<NodeId>], short: &[u64]) -> Option<Shortage> {
        let short = set(short.iter().copied());
        Shortage::of(short, voters, Bytes(32 << 20), |node| format!("n{}", 10 - node.0))
    }

    fn of(voters: u64, short: &[u64]) -> Option<Shortage> {
        of_sets(&[set(1..=voters)], short)
    }

    #[test]
    fn changes_are_stopped_once_those_with_room_are_no_majority() {
        assert_eq!(of(3, &[]), None);
        let stops = |voters, short: &[u64]| of(voters, short).expect("some are short").stops_changes();
        assert!(!stops(3, &[2]) && stops(3, &[2, 3]) && stops(1, &[1]));
        assert!(!stops(5, &[1, 2]) && stops(5, &[1, 2, 3]) && stops(4, &[1, 2]));
        let some = of(5, &[4]).expect("one is short");
        assert!(some.is_of(NodeId(4)) && !some.is_of(NodeId(1)));
    }

    #[test]
    fn while_voters_change_a_majority_of_the_former_and_one_of_the_next_must_have_room() {
        let stops = |next: [u64; 3], short: &[u64]| {
            let voters = [set([1, 2, 3]), set(next)];
            of_sets(&voters, short).expect("some are short").stops_changes()
        };
        assert!(!stops([1, 2, 4], &[3, 4]), "two of four, but one of each three");
        assert!(stops([3, 4, 5], &[1, 2]), "two of five, but of the former ones two of three");
        assert!(stops([3, 4, 5], &[4, 5]));
    }

    #[test]
    fn who_has_no_room_is_named_with_the_remedy() {
        let text = |short: &[u64]| of(3, short).expect("some are short").to_string();
        assert_eq!(
            text(&[2]),
            "too little is free on the disk of n8 (less than 32MiB, which are kept for votes): free space on n8; what can be \
             written goes on by itself"
        );
        assert_eq!(
            text(&[2, 3]),
            "no change can be made: too little is free on the disks of n7, n8 (less than 32MiB, which are kept for votes): free \
             space on n7, n8; what can be written goes on by itself"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_own_disk_is_known_without_a_heartbeat_and_only_a_leader_knows_those_of_others() {
        let one = One::formed().await;
        let control = one.control(Arc::new(Still));
        let replica = &one.member.replica;
        assert!(replica.has_room() && replica.voters().contains(&replica.node()));
        assert_eq!(replica.voter_sets(), [replica.voters()]);
        assert_eq!(control.shortage(replica), None, "it does not lead, as far as sessions go");
        control.live.begin(Term(1), control.clock.moment());
        assert_eq!(control.shortage(replica), None, "its disk has room, though no heartbeat has said so");
        assert_eq!(control.why_unconfirmed(replica), "no quorum?");
    }
}
